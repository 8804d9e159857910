"""How far the collection is: what is left, how fast it goes, how long it will take, and since when Stripe is away.

Read-only. What the pacing knows comes from Redis, everything else from the database.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from stripe_gateway import breaker
from stripe_gateway.breaker import Outage
from stripe_gateway.pacing import OperationPace, Pace

MEASURED = timedelta(seconds=60)
"""Over so long the speed is measured."""

FEWEST = 5
"""Invoices that must have been finished in that time before anybody says how long the rest takes."""

PAST_OUTAGES = 10


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of the collection at `at`. Counts are invoices.

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
    past_outages: list[Outage] = field(default_factory=list)
    pace: Pace | None = None
    """None while Redis is away: then nobody knows what all processes do together."""

    @property
    def left(self) -> int:
        """How many will still be collected without a person's help."""
        return self.due + self.running + self.waiting + self.unknown

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
    def operations(self) -> list[OperationPace]:
        """The operations that were called of late, the busiest first."""
        if self.pace is None:
            return []
        return sorted(self.pace.operations, key=lambda one: (-one.calls, one.operation))


_COUNTS = text("""
    SELECT count(*) FILTER (WHERE lease_until > clock_timestamp() AND state <> 'parked') AS running,
           count(*) FILTER (WHERE state = 'due' AND free) AS due,
           count(*) FILTER (WHERE state = 'waiting' AND free) AS waiting,
           count(*) FILTER (WHERE state = 'unknown' AND free) AS unknown,
           count(*) FILTER (WHERE state = 'parked') AS parked,
           min(next_attempt_at) FILTER (WHERE state <> 'parked' AND free AND next_attempt_at <= :now) AS oldest_due_at
      FROM (SELECT *, coalesce(lease_until <= clock_timestamp(), true) AS free
              FROM stripe_syncs WHERE state IN ('due', 'waiting', 'unknown', 'parked')) unfinished
""")
_DONE = text("""
    SELECT (SELECT count(*) FROM stripe_syncs WHERE state = 'done' AND done_at >= :midnight) AS today,
           count(*) AS lately, min(done_at) AS first_at
      FROM stripe_syncs WHERE state = 'done' AND done_at > :since AND done_at <= :now
""")


def progress(session: Session, *, now: datetime, pace: Pace | None) -> Progress:
    """How far the collection is at `now`; `pace` is what the pacing knows. `done_today` counts from midnight UTC."""
    counts = session.execute(_COUNTS, {"now": now}).one()
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    done = session.execute(_DONE, {"midnight": midnight, "since": now - MEASURED, "now": now}).one()
    known = breaker.outages(session.connection(), limit=PAST_OUTAGES + 1)
    outage = known[0] if known and known[0].until is None else None
    # A run that began half a minute ago is measured over half a minute.
    span_s = max((now - done.first_at).total_seconds(), 1.0) if done.first_at else MEASURED.total_seconds()
    speed = done.lately / span_s
    left = counts.running + counts.due + counts.waiting + counts.unknown
    seconds_left: int | None = None
    if left == 0:
        seconds_left = 0
    elif outage is None and done.lately >= FEWEST:
        seconds_left = round(left / speed)
    return Progress(
        at=now,
        due=counts.due,
        running=counts.running,
        waiting=counts.waiting,
        unknown=counts.unknown,
        parked=counts.parked,
        done_today=done.today,
        oldest_due_at=counts.oldest_due_at,
        invoices_per_s=speed,
        seconds_left=seconds_left,
        outage=outage,
        past_outages=[one for one in known if one.until is not None][:PAST_OUTAGES],
        pace=pace,
    )
