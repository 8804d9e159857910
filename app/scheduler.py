"""The clock: runs the cycle's commands at their times, and finds work for which nobody heard the bell.

One of several runs at a time, by an advisory lock; if two ever did, leases and unique keys in the database still make
every piece of work happen once.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from app.composition import Billing, build
from app.config import Config
from app.doorbell import ring
from app.timetable import Times, read_timetable
from invoicing.credit.endings import expire_due
from invoicing.credit.refills import refill_due
from invoicing.cycles import close_due
from invoicing.early_bills import bill_above_thresholds
from invoicing.finalizing import finalize_due
from invoicing.manual.sending import send_due
from invoicing.subscriptions import renew_due
from ledger.seals import seal_due

_LOG = structlog.get_logger(__name__)

Job = Callable[[Billing, datetime], dict[str, Any]]
"""Does what is due at that time, and says what it did."""

TICK_S = 0.5
STAND_BY_S = 5.0  # how often one that waits for its turn tries again
STOP_LIMIT_S = 5.0  # for work under way; what is cut off goes on where it stood
OVERDUE_S = 60.0  # work that waited so long has no worker: the clock does it itself
SWEPT_AT_ONCE = 1000

LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('billing cron', 0))")


def main(config: Config) -> None:
    """Run the timetable until SIGTERM or SIGINT."""
    stop = threading.Event()

    def request_stop(_signum: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    timetable = read_timetable(os.environ)
    billing = build(config, pool_size=10)
    Scheduler(billing, timetable, stop).run()
    billing.dispose()


class Scheduler:
    """Starts each job in a thread of its own when it is due; a job never overlaps itself."""

    def __init__(
        self,
        billing: Billing,
        timetable: dict[str, Times],
        stop: threading.Event,
        *,
        jobs: Mapping[str, Job] | None = None,
        stand_by_s: float = STAND_BY_S,
    ) -> None:
        self._billing = billing
        self._jobs = JOBS if jobs is None else jobs
        self._stand_by_s = stand_by_s
        self._timetable = timetable
        self._stop = stop
        self._running: dict[str, threading.Thread] = {}
        self._next: dict[str, datetime] = {}

    def run(self) -> None:
        """Wait for the turn, then keep the timetable, until asked to stop."""
        waited = False
        while not self._stop.is_set():
            try:
                with _turn(self._billing.engine) as connection:
                    if connection is not None:
                        waited = False
                        self._keep(connection)
                    elif not waited:
                        waited = True
                        _LOG.info("another cron has the turn; standing by")
            except DBAPIError as error:
                _LOG.error("cron lost the database", error=str(error.orig).strip())
            self._stop.wait(0 if self._stop.is_set() else self._stand_by_s)
        for thread in self._running.values():
            thread.join(STOP_LIMIT_S / max(1, len(self._running)))

    def _keep(self, connection: Connection) -> None:
        """Keep the timetable while the connection, and with it the turn, is ours."""
        now = datetime.now(UTC)
        self._next = {job: times.first(now) for job, times in self._timetable.items()}
        while not self._stop.wait(TICK_S):
            connection.execute(text("SELECT 1"))
            connection.commit()
            now = datetime.now(UTC)
            for job, due_at in self._next.items():
                thread = self._running.get(job)
                if due_at <= now and (thread is None or not thread.is_alive()):
                    self._next[job] = self._timetable[job].after(now)
                    self._running[job] = threading.Thread(target=self._do, args=(job,), name=job, daemon=True)
                    self._running[job].start()

    def _do(self, job: str) -> None:
        """Run one job and log its summary, if it did anything or anything is wrong."""
        try:
            summary = self._jobs[job](self._billing, datetime.now(UTC))
        except DBAPIError as error:
            _LOG.error("cron job failed, it will run again", job=job, error=str(error.orig).strip())
        except Exception as error:  # noqa: BLE001 - the other jobs go on, and this one runs again
            code = getattr(error, "code", None)
            _LOG.error("cron job failed", job=job, code=code, error=str(error), exc_info=code is None)
        else:
            if any(summary.values()):
                log = _LOG.warning if summary.get("problems") or summary.get("unexplained") else _LOG.info
                log("cron job done", job=job, **summary)


@contextmanager
def _turn(engine: Engine) -> Iterator[Connection | None]:
    """The connection that holds the turn; None if another process has it. It ends with the connection."""
    with engine.connect() as connection:
        mine = bool(connection.scalar(LOCK))
        connection.commit()
        try:
            yield connection if mine else None
        finally:
            # A pooled connection would keep the lock; a closed one cannot.
            connection.invalidate()


def _close(billing: Billing, now: datetime) -> dict[str, Any]:
    summary = asdict(close_due(billing.engine, as_of=now, settings=billing.settings))
    summary.pop("without_charges", None)
    return summary


def _renew(billing: Billing, now: datetime) -> dict[str, Any]:
    return asdict(renew_due(billing.engine, now=now))


def _thresholds(billing: Billing, now: datetime) -> dict[str, Any]:
    return asdict(bill_above_thresholds(billing.engine, settings=billing.settings, now=now))


def _finalize(billing: Billing, now: datetime) -> dict[str, Any]:
    summary = asdict(finalize_due(billing.engine, provider=billing.providers, as_of=now))
    summary.pop("skipped", None)  # what is held or awaits approval is no news
    return summary


def _credits(billing: Billing, now: datetime) -> dict[str, Any]:
    summary = asdict(expire_due(billing.engine, now=now))
    summary.pop("kept", None)  # for drafts that may still use them: no news
    return summary


def _refill(billing: Billing, now: datetime) -> dict[str, Any]:
    summary = asdict(refill_due(billing.engine, provider=billing.providers, now=now))
    summary.pop("paused", None)  # said on the customer's page, until somebody sets the rule again
    return summary


def _sync(billing: Billing, now: datetime) -> dict[str, Any]:
    summary = billing.provider.sync_due(now=now)
    # What was parked earlier, or waits, was said when it happened.
    return {
        "synced": summary.synced,
        "operations": summary.operations,
        "refused": summary.refused,
        "problems": summary.problems,
    }


def _letters(billing: Billing, now: datetime) -> dict[str, Any]:
    summary = send_due(billing.engine, billing.mailer, now=now)
    return {"sent": summary.sent, "problems": summary.problems}


def _reconcile(billing: Billing, now: datetime) -> dict[str, Any]:
    report = billing.provider.reconcile(now=now)
    return {
        **report.counts,
        "repaired": [f"{one.kind}: {one.text}" for one in report.repaired],
        "unexplained": [f"{one.kind}: {one.text}" for one in report.unexplained],
    }


def _catch_up(billing: Billing, now: datetime) -> dict[str, Any]:
    report = billing.provider.catch_up(now=now)
    # What was stored is due; the sweep rings for it within seconds. What was known is no news.
    return {
        "missed": report.missed,
        "gone_since": report.gone_since,
        "repaired": report.repaired,
        "unexplained": report.unexplained,
        "problems": report.problems,
    }


def _seal(billing: Billing, now: datetime) -> dict[str, Any]:
    summary = seal_due(billing.engine, now=now)
    # What was posted while it ran is no news; the next run seals it.
    return {"sealed": summary.entries, "root": summary.root, "problems": summary.problems}


def sweep(billing: Billing, now: datetime) -> dict[str, Any]:
    """Ring again for due work; do it here if the bell is silent, or if nobody has answered for a minute."""
    due = billing.provider.due_work(now=now, limit=SWEPT_AT_ONCE)
    if not due:
        return {}
    overdue = (now - min(work.due_at for work in due)).total_seconds() > OVERDUE_S
    heard = all(ring(billing.config, work.kind, *work.ids) for work in due)
    if heard and not overdue:
        return {}  # the ordinary case: a bell was missed, or rings twice
    events = billing.provider.handle_due(now=now)
    syncs = billing.provider.sync_due(now=now)
    return {
        "events": events.done,
        "synced": syncs.synced,
        "operations": syncs.operations,
        "problems": events.problems + syncs.problems,
    }


JOBS: Mapping[str, Job] = {
    "sweep": sweep,
    "sync": _sync,
    "renew": _renew,
    "close": _close,
    "thresholds": _thresholds,
    "finalize": _finalize,
    "credits": _credits,
    "refill": _refill,
    "letters": _letters,
    "reconcile": _reconcile,
    "catch_up": _catch_up,
    "seal": _seal,
}
