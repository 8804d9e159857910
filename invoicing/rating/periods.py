"""Rating periods: from when on tiers, allowances and included usage are counted for something that was used."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from ledger.arrays import spell_array
from ledger.books import LockedBooks
from ledger.periods import Period, load_period_books
from ledger.posting import open_periods

_KNOWN = """
    SELECT p.customer_id, p.start_at, p.end_at, rating_start(p.customer_id, p.start_at)
      FROM ledger_periods p
     WHERE p.customer_id = ANY (CAST(%s AS uuid[])) AND p.end_at > %s AND p.start_at <= %s
     ORDER BY p.customer_id, p.start_at
"""

_STARTS = """
    SELECT k.customer_id, k.start_at, rating_start(k.customer_id, k.start_at)
      FROM unnest(CAST(%s AS uuid[]), CAST(%s AS timestamptz[])) AS k (customer_id, start_at)
"""


def rating_starts_of(
    session: Session, periods: Iterable[tuple[UUID, datetime]]
) -> dict[tuple[UUID, datetime], datetime]:
    """From when on each of these periods `(customer_id, start)` counts: its start, unless an earlier part was billed.

    The one place that knows is the database's function `rating_start`, which the checks ask as well.
    """
    wanted = sorted(set(periods))
    if not wanted:
        return {}
    keys = spell_array(customer_id for customer_id, _ in wanted), spell_array(start for _, start in wanted)
    rows = session.connection().exec_driver_sql(_STARTS, keys)
    return {(customer_id, start): rating_start for customer_id, start, rating_start in rows}


def rating_start_of(session: Session, *, customer_id: UUID, period_start: datetime) -> datetime:
    """From when on the customer's period that starts then counts tiers, allowances and included usage."""
    ((_, rating_start),) = rating_starts_of(session, [(customer_id, period_start)]).items()
    return rating_start


class RatingPeriods:
    """The periods in which some usage of some customers lies, known or about to be opened, with their rating starts."""

    def __init__(self, rows: Iterable[Sequence[Any]] = ()) -> None:
        self._starts: dict[UUID, list[datetime]] = {}
        self._periods: dict[UUID, list[tuple[datetime, datetime]]] = {}
        self._opened: list[tuple[UUID, Period, str]] = []
        for customer_id, start, end, rating_start in rows:
            self.add(customer_id, Period(start, end), rating_start)

    def add(self, customer_id: UUID, period: Period, rating_start: datetime) -> None:
        """Put in a period, wherever its place is."""
        starts = self._starts.setdefault(customer_id, [])
        place = bisect_right(starts, period.start)
        starts.insert(place, period.start)
        self._periods.setdefault(customer_id, []).insert(place, (period.end, rating_start))

    def find(self, customer_id: UUID, instant: datetime) -> datetime | None:
        """The rating start of what was used at `instant`; None if the period that holds it is not known yet."""
        starts = self._starts.get(customer_id)
        if starts is None:
            return None
        place = bisect_right(starts, instant)
        if not place:
            return None
        end, rating_start = self._periods[customer_id][place - 1]
        return rating_start if instant < end else None

    def start_of(self, customer_id: UUID, instant: datetime) -> datetime:
        """The rating start of what was used at `instant`, in a period that was known or is about to be opened."""
        found = self.find(customer_id, instant)
        if found is None:
            raise KeyError(f"no period of {customer_id} holds {instant.isoformat()}")
        return found

    def cut_missing(
        self, session: Session, used: Sequence[tuple[UUID, datetime]], *, books: Mapping[UUID, LockedBooks]
    ) -> None:
        """Cut the periods of these uses `(customer_id, instant)` that nobody needed before, as posting would."""
        missing = [use for use in used if self.find(*use) is None]
        if not missing:
            return
        customers = sorted({customer_id for customer_id, _ in missing})
        cut = load_period_books(
            session,
            [(customer_id, books[customer_id].time_zone, books[customer_id].anchor_day) for customer_id in customers],
            since=min(instant for _, instant in missing),
        )
        for customer_id, instant in missing:
            cut[customer_id].holding(instant)
        opened = [(customer_id, period) for customer_id in customers for period in cut[customer_id].opened]
        starts = rating_starts_of(session, ((customer_id, period.start) for customer_id, period in opened))
        for customer_id, period in opened:
            self.add(customer_id, period, starts[customer_id, period.start])
            self._opened.append((customer_id, period, books[customer_id].time_zone))

    def open_missing(self, session: Session, *, now: datetime) -> None:
        """Write down the periods that were cut. The caller holds the locks of the books."""
        open_periods(
            session, [(customer, period.start, period.end, zone) for customer, period, zone in self._opened], now=now
        )


def load_rating_periods(
    session: Session, used: Sequence[tuple[UUID, datetime]], *, books: Mapping[UUID, LockedBooks]
) -> RatingPeriods:
    """The periods of these uses `(customer_id, instant)`; the caller holds the locks of the books."""
    instants = [instant for _, instant in used]
    customers = spell_array({customer_id for customer_id, _ in used})
    rows = session.connection().exec_driver_sql(_KNOWN, (customers, min(instants), max(instants)))
    periods = RatingPeriods(rows.all())
    periods.cut_missing(session, used, books=books)
    return periods
