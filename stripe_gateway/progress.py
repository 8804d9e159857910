"""How far the collection is: what is left, how fast it goes, how long it will take, and since when Stripe is away.

Read-only. What the pacing knows comes from Redis, everything else from the database.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from stripe_gateway import breaker
from stripe_gateway.breaker import Outage
from stripe_gateway.pacing import OperationPace, Pace

MEASURED = timedelta(seconds=60)
"""Over so long the speed is measured."""

FEWEST = 5
"""Invoices and operations that must have been finished in that time before anybody says how long the rest takes."""

CALLS_OF_INVOICE = 3
CALLS_OF_OPERATION = 2
"""About how many calls each takes, so that a hundred voids do not promise that a hundred invoices are as quick."""

PAST_OUTAGES = 10


@dataclass(frozen=True, slots=True)
class Counts:
    """How many stand where; the words are those of `Progress`."""

    due: int = 0
    running: int = 0
    waiting: int = 0
    unknown: int = 0
    parked: int = 0
    done_today: int = 0

    @property
    def left(self) -> int:
        """How many will still be done without a person's help."""
        return self.due + self.running + self.waiting + self.unknown


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of the collection at `at`. Counts are invoices on their way and operations together, of which
    `operations` (refunds, credit notes, voids and the like) are a part.

    `running`: in a process's hands now. `due`: not tried yet. `waiting`: tried, and will be tried again. `unknown`: an
    answer was lost, Stripe is read first. `parked`: a person must look. `seconds_left` is None where nobody can know:
    Stripe is away, or too little was done of late.
    """

    at: datetime
    due: int
    running: int
    waiting: int
    unknown: int
    parked: int
    done_today: int
    oldest_due_at: datetime | None
    invoices_per_s: float
    seconds_left: int | None
    outage: Outage | None
    operations: Counts = field(default_factory=Counts)
    operations_per_s: float = 0.0
    past_outages: list[Outage] = field(default_factory=list)
    pace: Pace | None = None
    """None while Redis is away: then nobody knows what all processes do together."""

    @property
    def left(self) -> int:
        """How many will still be done without a person's help."""
        return self.due + self.running + self.waiting + self.unknown

    @property
    def invoices_left(self) -> int:
        """How many of them are invoices."""
        return self.left - self.operations.left

    @property
    def share(self) -> float | None:
        """How much of what Stripe allows is used: of the account's limit, or of the busiest operation's."""
        if self.pace is None:
            return None
        busiest = max((one.calls_per_s for one in self.pace.operations), default=0.0)
        return max(self.pace.calls_per_s / self.pace.limit_per_s, busiest / self.pace.limit_per_operation)

    @property
    def left_in_words(self) -> str:
        """The time left, for people; never more exact than it is."""
        if self.left == 0:
            return "nothing is left"
        if self.outage is not None:
            return "unknown while Stripe is away"
        if self.seconds_left is None:
            return "unknown: too little was done in the last minute"
        if self.seconds_left < 60:
            return "less than a minute"
        if self.seconds_left < 2 * 3600:
            minutes = round(self.seconds_left / 60)
            return f"about {minutes} minute{'' if minutes == 1 else 's'}"
        return f"about {round(self.seconds_left / 3600)} hours"

    @property
    def calls(self) -> list[OperationPace]:
        """Stripe's operations that were called of late, the busiest first."""
        if self.pace is None:
            return []
        return sorted(self.pace.operations, key=lambda one: (-one.calls, one.operation))


_COUNTS = text("""
    SELECT is_operation,
           count(*) FILTER (WHERE NOT free AND state <> 'parked') AS running,
           count(*) FILTER (WHERE state = 'due' AND free) AS due,
           count(*) FILTER (WHERE state = 'waiting' AND free) AS waiting,
           count(*) FILTER (WHERE state = 'unknown' AND free) AS unknown,
           count(*) FILTER (WHERE state = 'parked') AS parked,
           min(next_attempt_at) FILTER (WHERE state <> 'parked' AND free AND next_attempt_at <= :now) AS oldest_due_at
      FROM (SELECT false AS is_operation, state, next_attempt_at, lease_until FROM stripe_syncs
             WHERE state IN ('due', 'waiting', 'unknown', 'parked')
             UNION ALL
            SELECT true, state, next_attempt_at, lease_until FROM stripe_operations
             WHERE state IN ('due', 'waiting', 'unknown', 'parked')) unfinished
     CROSS JOIN LATERAL (SELECT coalesce(lease_until <= clock_timestamp(), true) AS free) held
     GROUP BY is_operation
""")
_DONE = text("""
    SELECT is_operation,
           count(*) FILTER (WHERE done_at >= :midnight) AS today,
           count(*) FILTER (WHERE done_at > :since AND done_at <= :now) AS lately,
           min(done_at) FILTER (WHERE done_at > :since AND done_at <= :now) AS first_at
      FROM (SELECT false AS is_operation, done_at FROM stripe_syncs
             WHERE state = 'done' AND done_at >= least(:midnight, :since)
             UNION ALL
            SELECT true, done_at FROM stripe_operations
             WHERE state IN ('done', 'refused') AND done_at >= least(:midnight, :since)) finished
     GROUP BY is_operation
""")


def progress(session: Session, *, now: datetime, pace: Pace | None) -> Progress:
    """How far the collection is at `now`; `pace` is what the pacing knows. `done_today` counts from midnight UTC."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    unfinished = {row.is_operation: row for row in session.execute(_COUNTS, {"now": now})}
    moments = {"midnight": midnight, "since": now - MEASURED, "now": now}
    done = {row.is_operation: row for row in session.execute(_DONE, moments)}
    invoices, operations = (_counts(unfinished.get(kind), done.get(kind)) for kind in (False, True))
    known = breaker.outages(session.connection(), limit=PAST_OUTAGES + 1)
    outage = known[0] if known and known[0].until is None else None
    # A run that began half a minute ago is measured over half a minute.
    began_at = min((row.first_at for row in done.values() if row.first_at), default=None)
    span_s = max((now - began_at).total_seconds(), 1.0) if began_at else MEASURED.total_seconds()
    lately = {kind: row.lately for kind, row in done.items()}
    speeds = (lately.get(False, 0) / span_s, lately.get(True, 0) / span_s)
    seconds_left: int | None = None
    if invoices.left + operations.left == 0:
        seconds_left = 0
    elif outage is None and sum(lately.values()) >= FEWEST:
        seconds_left = round(_calls(invoices.left, operations.left) / _calls(*speeds))
    return Progress(
        at=now,
        due=invoices.due + operations.due,
        running=invoices.running + operations.running,
        waiting=invoices.waiting + operations.waiting,
        unknown=invoices.unknown + operations.unknown,
        parked=invoices.parked + operations.parked,
        done_today=invoices.done_today + operations.done_today,
        oldest_due_at=min((row.oldest_due_at for row in unfinished.values() if row.oldest_due_at), default=None),
        invoices_per_s=speeds[0],
        seconds_left=seconds_left,
        outage=outage,
        operations=operations,
        operations_per_s=speeds[1],
        past_outages=[one for one in known if one.until is not None][:PAST_OUTAGES],
        pace=pace,
    )


def _counts(unfinished: Row[Any] | None, done: Row[Any] | None) -> Counts:
    today = done.today if done else 0
    if unfinished is None:
        return Counts(done_today=today)
    return Counts(
        due=unfinished.due,
        running=unfinished.running,
        waiting=unfinished.waiting,
        unknown=unfinished.unknown,
        parked=unfinished.parked,
        done_today=today,
    )


def _calls(invoices: float, operations: float) -> float:
    return invoices * CALLS_OF_INVOICE + operations * CALLS_OF_OPERATION
