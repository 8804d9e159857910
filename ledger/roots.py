"""Roots: one hash per UTC day over the newest seal of every book. Printed or sent away, it holds the whole past."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ledger.errors import LedgerError
from ledger.seal_tables import Root, RootHead

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


_NO_ROOT = "There is no root yet. `billing ledger seal` makes one for each finished day, once something is sealed."


class RootNotFound(LedgerError):
    """There is no such root."""

    code = "unknown_root"


@dataclass(frozen=True, slots=True)
class DayRoot:
    """One day's root. It covers everything that was sealed when it was made, and that is after the day's end."""

    day: date
    root: bytes
    previous_root: bytes
    books: int
    entries: int
    made_at: datetime

    @property
    def printed(self) -> str:
        """How it is printed, kept and compared: `2026-11-21:5fab...`."""
        return f"{self.day.isoformat()}:{self.root.hex()}"

    @property
    def made_at_us(self) -> int:
        """Microseconds since 1970, as they are hashed."""
        return microseconds(self.made_at)


def microseconds(instant: datetime) -> int:
    """Microseconds since 1970, exact."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


_COLUMNS = (Root.day, Root.root, Root.previous_root, Root.books, Root.entries, Root.made_at)

_TODAY = text("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")
_MAKE = text("INSERT INTO ledger_roots (day) VALUES (:day) RETURNING day")


def make_root(engine: Engine, *, now: datetime) -> DayRoot | None:
    """Make the root of the last UTC day that is over at `now`, and commit. None if it exists, or nothing is sealed.

    A day on which nobody sealed gets none; the next root covers its entries. Postgres computes it (migration 0005), and
    by its clock the day has to be over, too: where `now` is ahead of that, it is the day before.
    """
    with Session(engine) as session:
        day = min(now.astimezone(UTC).date(), session.scalars(_TODAY).one()) - timedelta(days=1)
        newest = session.scalar(select(Root.day).order_by(Root.day.desc()).limit(1))
        if newest is not None and newest >= day:
            return None
        if session.scalar(text("SELECT NOT EXISTS (SELECT FROM ledger_seals)")):
            return None
        try:
            session.execute(_MAKE, {"day": day})
            session.commit()
        except IntegrityError:
            session.rollback()
            if session.get(Root, day) is None:
                raise
            return None  # another process made it just now
        return find_root(session, day=day)


def find_root(session: Session, *, day: date | None = None) -> DayRoot:
    """The root of that day, or the newest one.

    Raises:
        RootNotFound: there is none.
    """
    query = select(*_COLUMNS).order_by(Root.day.desc()).limit(1)
    row = session.execute(query if day is None else query.where(Root.day == day)).one_or_none()
    if row is None:
        raise RootNotFound(f"There is no root of {day}: nobody sealed on the day after it." if day else _NO_ROOT)
    return DayRoot(*row)


def all_roots(session: Session) -> list[DayRoot]:
    """Every root, oldest first."""
    return [DayRoot(*row) for row in session.execute(select(*_COLUMNS).order_by(Root.day))]


def heads_by_day(session: Session) -> Iterator[tuple[date, UUID, int, bytes]]:
    """What changed at each root: (day, customer, last seq, head), in order of days and customers; streamed."""
    query = select(RootHead.day, RootHead.customer_id, RootHead.last_seq, RootHead.head)
    rows = session.execute(query.order_by(RootHead.day, RootHead.customer_id), execution_options={"yield_per": 10_000})
    for row in rows:
        yield row.day, row.customer_id, row.last_seq, row.head
