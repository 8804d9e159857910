"""Books: opening them, and taking their locks in the one order that cannot deadlock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import ARRAY, Uuid, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ledger.errors import LedgerError
from ledger.money import minor_units
from ledger.tables import Books
from ledger.zones import zone

NAMESPACE = UUID("6d1d7c0e-8f5b-5e0e-9a56-2c1b7d2f4a10")
"""Root of every derived id. Changing it would make every old event look new."""


class BooksNotFound(LedgerError):
    """There are no books for this customer. Create the customer first."""

    code = "unknown_customer"


class BooksConflict(LedgerError):
    """These books exist with another currency or holder. Both are for life: create a new customer."""

    code = "books_conflict"


class BadAnchorDay(LedgerError):
    """The anchor day is the day of the month on which periods begin: a number from 1 to 31."""

    code = "bad_anchor_day"


CONTENTION = ("55P03", "40P01", "40001")
"""lock_not_available, deadlock_detected, serialization_failure. Source: PostgreSQL, Appendix A."""


@dataclass(frozen=True, slots=True)
class LockedBooks:
    """Books whose row this transaction holds locked: until it ends, nobody else posts, closes or opens periods."""

    customer_id: UUID
    holder: str
    currency: str
    time_zone: str
    anchor_day: int
    last_seq: int
    last_recorded_at: datetime | None


def house_id(*, provider: str, account: str, currency: str) -> UUID:
    """The reserved id of the house's books for one provider account and settlement currency."""
    return uuid5(NAMESPACE, f"house\x1f{provider}\x1f{account}\x1f{currency}")


def open_books(
    session: Session,
    *,
    customer_id: UUID,
    currency: str,
    time_zone: str,
    anchor_day: int,
    now: datetime,
    holder: str = "customer",
) -> Books:
    """Open the books, or return them if they are open already. The caller commits.

    Raises:
        BooksConflict: they exist with another currency or holder.
        UnknownCurrency: we do not bill in it.
        UnknownTimeZone, BadAnchorDay: no period could be cut.
    """
    minor_units(currency)
    zone(time_zone)
    if not 1 <= anchor_day <= 31:
        raise BadAnchorDay(f"{anchor_day} is no day of the month. Give the anchor day as a number from 1 to 31.")
    session.execute(
        insert(Books)
        .values(
            customer_id=customer_id,
            holder=holder,
            currency=currency,
            time_zone=time_zone,
            anchor_day=anchor_day,
            opened_at=now,
        )
        .on_conflict_do_nothing(index_elements=[Books.customer_id])
    )
    books = session.get_one(Books, customer_id, populate_existing=True)
    if books.currency != currency or books.holder != holder:
        raise BooksConflict(
            f"The books of {customer_id} are a {books.holder}'s in {books.currency}, not a {holder}'s in {currency}: "
            "both are for life. Create a new customer for another currency."
        )
    return books


def open_house(session: Session, *, provider: str, account: str, currency: str, now: datetime) -> Books:
    """The house's books for one provider account and settlement currency, opened at first use. The caller commits."""
    return open_books(
        session,
        customer_id=house_id(provider=provider, account=account, currency=currency),
        holder="house",
        currency=currency,
        time_zone="UTC",
        anchor_day=1,
        now=now,
    )


# NO KEY, so that a row that only refers to these books (a document, an invoice) does not wait for a posting: whoever
# inserts such a row and then posts would otherwise deadlock with another who does the same.
_LOCK = (
    select(
        Books.customer_id,
        Books.holder,
        Books.currency,
        Books.time_zone,
        Books.anchor_day,
        Books.last_seq,
        Books.last_recorded_at,
    )
    .where(Books.customer_id == func.any(bindparam("customer_ids", type_=ARRAY(Uuid))))
    .order_by(Books.customer_id)
    .with_for_update(key_share=True)
)


def lock_books(session: Session, customer_ids: Iterable[UUID]) -> dict[UUID, LockedBooks]:
    """Lock these books until the transaction ends, in customer order. Unknown ids are missing from the answer.

    A statement of its own on purpose: in one statement that locks and reads, the reading would still see the snapshot
    from before the wait. Read what you decide by only after this returned.
    """
    rows = session.execute(_LOCK, {"customer_ids": sorted(set(customer_ids))})
    return {row[0]: LockedBooks(*row) for row in rows}


def was_busy(error: OperationalError) -> bool:
    """Whether others only were faster or held the books too long: nothing is wrong, and the next run tries again."""
    return getattr(error.orig, "sqlstate", None) in CONTENTION
