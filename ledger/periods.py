"""Billing periods: half-open, cut at local midnight of the anchor day, stored in UTC, without gaps or overlaps."""

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from ledger.arrays import spell_array
from ledger.books import lock_books
from ledger.errors import LedgerError
from ledger.tables import PeriodRow
from ledger.zones import zone


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """`[start, end)`, both aware and in UTC; named by its start."""

    start: datetime
    end: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    customer_id: UUID
    start: datetime
    end: datetime


def calendar_period(instant: datetime, *, time_zone: str, anchor_day: int) -> Period:
    """The calendar's period that holds `instant`: from local midnight of one anchor day to the next.

    An anchor on the 31st bills on the last day of shorter months and returns to the 31st. A midnight that daylight
    saving skips is the moment of the jump; of two equal midnights the first counts.
    """
    local = instant.astimezone(zone(time_zone))
    year, month = local.year, local.month
    if _boundary(year, month, time_zone, anchor_day) > instant:
        year, month = _shift(year, month, -1)
    following = _shift(year, month, 1)
    return Period(_boundary(year, month, time_zone, anchor_day), _boundary(*following, time_zone, anchor_day))


def _shift(year: int, month: int, by: int) -> tuple[int, int]:
    index = year * 12 + month - 1 + by
    return index // 12, index % 12 + 1


@lru_cache(maxsize=8192)
def _boundary(year: int, month: int, time_zone: str, anchor_day: int) -> datetime:
    day = min(anchor_day, monthrange(year, month)[1])
    return datetime(year, month, day, tzinfo=zone(time_zone)).astimezone(UTC)


class PeriodBook:
    """The known periods of one customer, in memory, and the rule by which a charge finds its own.

    Load it under the lock of the books: what it decides holds only as long as nobody else opens or closes periods.
    """

    def __init__(self, rows: Iterable[PeriodRow], *, time_zone: str, anchor_day: int) -> None:
        states = {Period(row.start_at, row.end_at): row.state for row in rows}
        self._known = sorted(states)
        self._starts = [period.start for period in self._known]
        self._open = {period for period, state in states.items() if state == "open"}
        self._time_zone = time_zone
        self._anchor_day = anchor_day
        self.opened: list[Period] = []

    def holding(self, instant: datetime) -> Period:
        """The period that holds `instant`; opened if nobody needed it before, and cut to fit between its neighbours."""
        place = bisect_right(self._starts, instant)
        before = self._known[place - 1] if place else None
        if before is not None and instant in before:
            return before
        period = calendar_period(instant, time_zone=self._time_zone, anchor_day=self._anchor_day)
        # Neighbours were cut by another calendar if the anchor day or the time zone changed since.
        start = max(period.start, before.end) if before is not None else period.start
        end = min(period.end, self._starts[place]) if place < len(self._starts) else period.end
        period = Period(start, end)
        self._known.insert(place, period)
        self._starts.insert(place, start)
        self._open.add(period)
        self.opened.append(period)
        return period

    def is_open(self, period: Period) -> bool:
        return period in self._open

    def billing(self, used: Period, *, now: datetime) -> Period:
        """The period that bills what was used in `used`: itself while it is open, else the earliest open one after it.

        If none is open, the one that holds `now` is opened, or, if that was closed early, the one that follows.
        """
        if self.is_open(used):
            return used
        for period in self._known[bisect_right(self._starts, used.start) :]:
            if self.is_open(period):
                return period
        candidate = self.holding(max(now, used.end))
        while not self.is_open(candidate):
            candidate = self.holding(candidate.end)
        return candidate


def load_period_books(
    session: Session, books: Sequence[tuple[UUID, str, int]], *, since: datetime
) -> dict[UUID, PeriodBook]:
    """The period books of `(customer_id, time_zone, anchor_day)`, with every period that ends after `since`.

    The caller holds the locks of the books.
    """
    # The neighbour that ends before `since` decides where a new period may start, so look back over one more month.
    rows = session.scalars(
        select(PeriodRow)
        .where(
            PeriodRow.customer_id.in_([customer_id for customer_id, _, _ in books]),
            PeriodRow.end_at > since - timedelta(days=64),
        )
        .execution_options(populate_existing=True)
    )
    by_customer: dict[UUID, list[PeriodRow]] = {customer_id: [] for customer_id, _, _ in books}
    for row in rows:
        by_customer[row.customer_id].append(row)
    return {
        customer_id: PeriodBook(by_customer[customer_id], time_zone=time_zone, anchor_day=anchor_day)
        for customer_id, time_zone, anchor_day in books
    }


# The last entry is read after the locks were taken, in a statement of its own; the guards refuse any other.
_CLOSE = text("""
    UPDATE ledger_periods p
       SET state = 'closed', closed_at = :now,
           closed_seq = (SELECT b.last_seq FROM ledger_books b WHERE b.customer_id = p.customer_id)
     WHERE p.customer_id = ANY(CAST(:customers AS uuid[])) AND p.state = 'open' AND p.end_at <= :ended_by
    RETURNING p.customer_id, p.start_at, p.end_at
""")


def close_due(
    session: Session, *, customer_ids: Sequence[UUID], ended_by: datetime, now: datetime
) -> list[ClosedPeriod]:
    """Close every open period of these customers that ended at or before `ended_by`. The caller commits.

    Takes the locks of the books first, in customer order, so that a posting in flight is either billed by the draft
    that is compiled next, or finds the period closed. A second call closes nothing.
    """
    lock_books(session, customer_ids)
    rows = session.execute(_CLOSE, {"customers": spell_array(customer_ids), "ended_by": ended_by, "now": now})
    closed = [ClosedPeriod(*row) for row in rows]
    return sorted(closed, key=lambda period: (period.customer_id.int, period.start))


class PeriodNotCut(LedgerError):
    """The period cannot end now: none is open that holds this moment, or it is about to end anyway."""

    code = "period_not_cut"


# The latest charge may lie a little ahead of our clock, by as much as the sender's runs before it.
_LATEST = text("""
    SELECT max(e.effective_at) FROM ledger_entries e
     WHERE e.customer_id = :customer AND e.period_start = :start AND e.effective_at >= :now
""")

_CUT = text("""
    UPDATE ledger_periods p
       SET state = 'closed', closed_at = :now, end_at = :cut,
           closed_seq = (SELECT b.last_seq FROM ledger_books b WHERE b.customer_id = p.customer_id)
     WHERE p.customer_id = :customer AND p.start_at = :start AND p.state = 'open'
    RETURNING p.customer_id, p.start_at, p.end_at
""")


def close_early(session: Session, *, customer_id: UUID, now: datetime) -> ClosedPeriod:
    """Close the open period that holds `now`, which then ends at `now`; the next one begins there. Caller commits.

    It ends just after its latest charge if that is ahead of `now`. Costs a look at the period's charges. Takes the lock
    of the books first.

    Raises:
        PeriodNotCut: no open period holds `now`, it has only just begun, or its charges reach to its very end.
    """
    lock_books(session, [customer_id])
    row = session.scalar(
        select(PeriodRow)
        .where(PeriodRow.customer_id == customer_id, PeriodRow.start_at < now, PeriodRow.end_at > now)
        .where(PeriodRow.state == "open")
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise PeriodNotCut(f"No open period holds {now.isoformat()}, so none can end now. What is over is closed soon.")
    latest = session.scalar(_LATEST, {"customer": customer_id, "start": row.start_at, "now": now})
    cut = now if latest is None else latest + timedelta(microseconds=1)
    if cut >= row.end_at:
        raise PeriodNotCut(f"The period ends at {row.end_at.isoformat()} and has charges up to then: it closes soon.")
    closed = session.execute(_CUT, {"customer": customer_id, "start": row.start_at, "cut": cut, "now": now}).one()
    session.expire(row)
    return ClosedPeriod(*closed)


def due_customers(session: Session, *, ended_by: datetime, after: UUID | None, limit: int) -> list[UUID]:
    """Up to `limit` customers, in id order after `after`, with an open period that ended at or before `ended_by`."""
    query = select(PeriodRow.customer_id).distinct().where(PeriodRow.state == "open", PeriodRow.end_at <= ended_by)
    if after is not None:
        query = query.where(PeriodRow.customer_id > after)
    return list(session.scalars(query.order_by(PeriodRow.customer_id).limit(limit)))
