"""The circuit breaker: while Stripe is away, nothing is sent but one probe at a time.

Shared by all processes through Postgres, and by its clock, since nobody else has all of them. What fails without a
success in between is collected by subject (an invoice, a customer, an address); enough subjects over enough time are
an outage. One customer whose requests fail, however often, is one subject and never an outage.

Everything here is a short transaction of its own; no call is made inside one.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine, text

from stripe_gateway.errors import CallFailed, NoAnswer, ServerFailed, StripeAway

_LOG = structlog.get_logger(__name__)

ERROR_KEPT = 500  # characters of an error


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When an outage begins, and how it is probed."""

    subjects: int = 5
    """So many distinct subjects must fail without a success in between,"""
    lasting_s: float = 1.0
    """over at least so long, which gives another process's success time to be heard,"""
    window_s: float = 60.0
    """and within so long."""
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    """Between two probes; the pause doubles."""
    relapse_s: float = 60.0
    """An outage so soon after another is its relapse, and goes on with its pauses: probes pass, but calls do not."""
    probe_limit_s: float = 30.0
    """A probe that was not heard of for so long died with its process."""
    known_for_s: float = 0.5
    """How old our knowledge may be; so often each process looks."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without Stripe, by the database's clock; `until` None while it lasts."""

    since: datetime
    until: datetime | None
    last_error: str
    failures: int
    probes: int
    next_probe_at: datetime


@dataclass(frozen=True, slots=True)
class _Known:
    """What a process saw last: when the outage began, whether something failed lately."""

    at: float
    since: datetime | None
    doubtful: bool
    until_probe_s: float


_LOOK = text("""
    SELECT since, extract(epoch FROM next_probe_at - clock_timestamp())::float8 AS until_probe_s,
           EXISTS (SELECT FROM stripe_failures) AS doubtful
      FROM (SELECT 1) one LEFT JOIN stripe_outages ON until IS NULL
""")
_NOTE = text("""
    INSERT INTO stripe_failures AS f (subject, first_at, last_at, code, error)
    VALUES (:subject, clock_timestamp(), clock_timestamp(), :code, :error)
        ON CONFLICT (subject) DO UPDATE SET last_at = excluded.last_at, code = excluded.code, error = excluded.error
""")
_FORGET_OLD = text("DELETE FROM stripe_failures WHERE last_at < clock_timestamp() - make_interval(secs => :window_s)")
_GOING_ON = text("""
    UPDATE stripe_outages SET failures = failures + 1, last_code = :code, last_error = :error WHERE until IS NULL
""")
_OPEN = text("""
    INSERT INTO stripe_outages (since, last_code, last_error, failures, pause_s, next_probe_at)
    SELECT f.since, :code, :error, f.failures, p.pause_s, clock_timestamp() + make_interval(secs => p.pause_s)
      FROM (SELECT min(first_at) AS since, count(*) AS failures, max(last_at) - min(first_at) AS lasted
              FROM stripe_failures) f,
           (SELECT coalesce((SELECT least(:longest_pause_s, pause_s * 2) FROM stripe_outages
                              WHERE until > clock_timestamp() - make_interval(secs => :relapse_s)
                           ORDER BY until DESC LIMIT 1), :first_pause_s) AS pause_s) p
     WHERE f.failures >= :subjects AND f.lasted >= make_interval(secs => :lasting_s)
        ON CONFLICT ((true)) WHERE until IS NULL DO NOTHING
 RETURNING since
""")
# Whoever gets the row probes, alone: the next probe is far enough away for this one to end.
_CLAIM_PROBE = text("""
    UPDATE stripe_outages
       SET probes = probes + 1, next_probe_at = clock_timestamp() + make_interval(secs => :probe_limit_s)
     WHERE until IS NULL AND next_probe_at <= clock_timestamp()
 RETURNING id
""")
_STILL_AWAY = text("""
    UPDATE stripe_outages
       SET failures = failures + 1, last_code = :code, last_error = :error,
           pause_s = least(:longest_pause_s, pause_s * 2),
           next_probe_at = clock_timestamp() + make_interval(secs => least(:longest_pause_s, pause_s * 2))
     WHERE until IS NULL
""")
_CLOSE = text("""
    UPDATE stripe_outages SET until = clock_timestamp() WHERE until IS NULL
 RETURNING since, until, failures, probes
""")
_LIST = text("""
    SELECT since, until, last_error, failures, probes, next_probe_at
      FROM stripe_outages ORDER BY until IS NULL DESC, since DESC LIMIT :limit
""")


class Breaker:
    """One process's view of whether Stripe is there. Its threads share it."""

    def __init__(self, engine: Engine, rules: BreakerRules | None = None) -> None:
        self._engine = engine
        self._rules = rules or BreakerRules()
        self._lock = threading.Lock()
        self._known: _Known | None = None

    def check(self, probe: Callable[[], None]) -> None:
        """Return if Stripe is there, as far as anybody knows. If it is away and the time has come, ask it by `probe`.

        Raises:
            StripeAway: it is away; nothing was sent.
        """
        known = self._look()
        if known.since is None:
            return
        if known.until_probe_s - (time.monotonic() - known.at) > 0 or not self._claim_probe():
            raise StripeAway(known.since)
        try:
            probe()
        except (NoAnswer, ServerFailed) as failure:
            with self._engine.begin() as connection:
                connection.execute(_STILL_AWAY, {**_told(failure), "longest_pause_s": self._rules.longest_pause_s})
            self._forget()
            raise StripeAway(known.since) from failure
        except CallFailed:
            pass  # refused, limited or not let in: that is an answer
        self._close()

    def until_probe_s(self) -> float | None:
        """Seconds until Stripe may be asked whether it is back; None while it is there."""
        known = self._look()
        return None if known.since is None else max(0.0, known.until_probe_s - (time.monotonic() - known.at))

    def failed(self, subject: str, failure: CallFailed) -> None:
        """A call about this subject had no answer, or a 5xx."""
        rules = self._rules
        limits = {
            "subjects": rules.subjects,
            "lasting_s": rules.lasting_s,
            "first_pause_s": rules.first_pause_s,
            "longest_pause_s": rules.longest_pause_s,
            "relapse_s": rules.relapse_s,
        }
        with self._engine.begin() as connection:
            if connection.execute(_GOING_ON, _told(failure)).rowcount:
                began = None
            else:
                connection.execute(_FORGET_OLD, {"window_s": rules.window_s})
                connection.execute(_NOTE, {"subject": subject, **_told(failure)})
                began = connection.execute(_OPEN, {**limits, **_told(failure)}).scalar()
                if began is not None:
                    connection.execute(text("DELETE FROM stripe_failures"))
        self._forget()
        if began is not None:
            _LOG.error("Stripe is away: nothing is sent until it answers again", since=str(began), error=str(failure))

    def succeeded(self) -> None:
        """A call was answered. Costs nothing unless something failed lately."""
        known = self._known
        if known is None or not known.doubtful:
            return
        with self._engine.begin() as connection:
            connection.execute(text("DELETE FROM stripe_failures"))
        self._forget()

    def _claim_probe(self) -> bool:
        with self._engine.begin() as connection:
            claimed = connection.execute(_CLAIM_PROBE, {"probe_limit_s": self._rules.probe_limit_s}).scalar()
        self._forget()
        return claimed is not None

    def _close(self) -> None:
        with self._engine.begin() as connection:
            ended = connection.execute(_CLOSE).one_or_none()
            connection.execute(text("DELETE FROM stripe_failures"))
        self._forget()
        if ended is not None:
            lasted_s = round((ended.until - ended.since).total_seconds(), 1)
            _LOG.warning("Stripe is back", since=str(ended.since), lasted_s=lasted_s, probes=ended.probes)

    def _look(self) -> _Known:
        known = self._known
        if known is not None and time.monotonic() - known.at < self._rules.known_for_s:
            return known
        with self._lock:
            latest = self._known
            if latest is None or latest is known:  # otherwise another thread looked while we waited
                with self._engine.connect() as connection:
                    row = connection.execute(_LOOK).one()
                latest = _Known(time.monotonic(), row.since, row.doubtful, row.until_probe_s or 0.0)
                self._known = latest
            # What was just read, even if somebody forgot it meanwhile: the next call looks again.
            return latest

    def _forget(self) -> None:
        self._known = None


def _told(failure: CallFailed) -> dict[str, str]:
    return {"code": failure.stripe_code or failure.code, "error": (str(failure) or failure.code)[:ERROR_KEPT]}


def outages(connection: Connection, *, limit: int) -> list[Outage]:
    """The outages, the one that is going on first, then the latest."""
    return [Outage(**row._mapping) for row in connection.execute(_LIST, {"limit": limit})]


def going_on(connection: Connection) -> Outage | None:
    """The outage that is going on."""
    latest = outages(connection, limit=1)
    return latest[0] if latest and latest[0].until is None else None
