"""One run over every sync that is due, by as many threads as keep Stripe's limit busy, to its end."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Engine

from stripe_gateway import outbox
from stripe_gateway.client import Client
from stripe_gateway.clock import RunClock
from stripe_gateway.errors import LeaseLost
from stripe_gateway.sync import Syncer
from stripe_gateway.tables import StripeSync

FEWEST_THREADS = 4
MOST_THREADS = 48
ALLOWANCE = 1.25  # more in flight than the average call needs: what we do between two calls takes time as well
GROW_EVERY_S = 0.25
PATIENCE_S = 40.0  # a run waits so long for what is to be tried again soon, or was held by a process that died
POLL_S = 0.5


@dataclass(slots=True)
class SyncSummary:
    """What one run did, in invoices. `already`: another process finished or took over what this run had begun."""

    synced: int = 0
    already: int = 0
    waiting: int = 0
    parked: int = 0
    unknown: int = 0
    problems: list[str] = field(default_factory=list)


def sync_due(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    limit: int | None = None,
    progress: Callable[[SyncSummary], None] | None = None,
    threads: int | None = None,
    patience_s: float = PATIENCE_S,
) -> SyncSummary:
    """Sync everything that is due, to its end, needing no worker. Safe to run twice, at once, and to be killed.

    What must be tried again is waited for while the next attempt is less than `patience_s` away; the rest is counted
    as waiting or unknown and found by the next run. `limit` is the most invoices to begin. `threads` None: as many as
    it takes to reach Stripe's limit, which depends on how long calls take.

    While Stripe is away nothing is claimed; the run asks whether it is back, and goes on if that is soon enough.

    Raises:
        StripeClosed: Stripe does not take our key: the run stops, what was begun stays due.
    """
    run = _Run(engine, client, now=now, limit=limit, progress=progress, patience_s=patience_s)
    workers: list[threading.Thread] = []
    while True:
        alive = [worker for worker in workers if worker.is_alive()]
        if workers and not alive:
            break
        for _ in range((threads or threads_wanted(client, now_running=len(alive))) - len(workers)):
            workers.append(threading.Thread(target=run.work, name=f"sync-{len(workers)}", daemon=True))
            workers[-1].start()
        if alive:
            alive[0].join(GROW_EVERY_S)
    if run.error is not None:
        raise run.error
    left = outbox.counts(engine)
    run.summary.waiting = left.get("waiting", 0) + left.get("due", 0)
    run.summary.unknown = left.get("unknown", 0)
    run.summary.parked = left.get("parked", 0)
    return run.summary


def threads_wanted(client: Client, *, now_running: int) -> int:
    """How many threads keep the limit busy: calls a second times seconds a call (Little's law), with some allowance.

    Grows by half at a time, and not while calls wait for their turn: then the limit is reached, by us or by others.
    """
    traffic = client.traffic
    if now_running < FEWEST_THREADS or traffic.calls < now_running or traffic.waited_s > traffic.took_s:
        return max(FEWEST_THREADS, now_running)
    wanted = math.ceil(client.paced_at.total * traffic.took_s * ALLOWANCE) + FEWEST_THREADS
    return max(now_running, min(wanted, MOST_THREADS, now_running + now_running // 2))


class _Run:
    """One run over what is due, shared by its threads."""

    def __init__(
        self,
        engine: Engine,
        client: Client,
        *,
        now: datetime,
        limit: int | None,
        progress: Callable[[SyncSummary], None] | None,
        patience_s: float,
    ) -> None:
        self.summary = SyncSummary()
        self.error: BaseException | None = None
        self._engine = engine
        self._clock = RunClock(now)
        self._client = client
        self._syncer = Syncer(engine, client, self._clock)
        self._left = limit
        self._progress = progress
        self._patience = timedelta(seconds=patience_s)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def work(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._client.stripe_is_there():
                    if not self._wait_for_stripe():
                        return
                    continue
                if not self._may_begin():
                    return
                claimed = outbox.claim_next(self._engine, now=self._clock.now())
                if claimed is not None:
                    self._finish(claimed)
                elif not self._wait():
                    return
        except Exception as error:  # noqa: BLE001 - raised again in the thread that started the run
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error
        self._stop.set()

    def _may_begin(self) -> bool:
        with self._lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0

    def _finish(self, claimed: StripeSync) -> None:
        try:
            ended = self._syncer.run(claimed)
        except LeaseLost:
            ended = None
        with self._lock:
            if ended is None:
                self.summary.already += 1
            elif ended.state == "done":
                self.summary.synced += 1
            elif ended.state == "parked":
                self.summary.parked += 1
                self.summary.problems.append(f"invoice {ended.number}: {ended.last_error}")
            if self._progress:
                self._progress(self.summary)

    def _wait_for_stripe(self) -> bool:
        """Wait until it may be asked whether it is back; False if that is too long."""
        seconds = self._client.until_probe_s()
        if seconds is not None and seconds > self._patience.total_seconds():
            return False
        return not self._stop.wait(min(POLL_S, max(0.02, seconds or 0.0)))

    def _wait(self) -> bool:
        """Wait for the next attempt, if it is near; False if there is nothing to wait for."""
        with self._lock:
            if self._left is not None:
                self._left += 1
        due_at = outbox.next_due_at(self._engine)
        if due_at is None or due_at > self._clock.now() + self._patience:
            return False
        return not self._stop.wait(min(POLL_S, max(0.02, (due_at - self._clock.now()).total_seconds())))
