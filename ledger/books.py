"""Books: opening them, and taking their locks in the one order that cannot deadlock."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.errors import LedgerError
from ledger.money import minor_units
from ledger.tables import Books

NAMESPACE = UUID("6d1d7c0e-8f5b-5e0e-9a56-2c1b7d2f4a10")
"""Root of every derived id. Changing it would make every old event look new."""


class BooksNotFound(LedgerError):
    """There are no books for this customer. Create the customer first."""

    code = "unknown_customer"


class BooksConflict(LedgerError):
    """These books exist with another currency. A customer keeps one currency for life."""

    code = "books_conflict"


@dataclass(frozen=True, slots=True)
class LockedBooks:
    """Books whose row this transaction holds locked: until it ends, nobody else posts, closes or opens periods."""

    customer_id: UUID
    holder: str
    currency: str
    time_zone: str
    anchor_day: int
    last_seq: int


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
    """
    minor_units(currency)
    session.execute(
        insert(Books)
        .values(
            customer_id=customer_id,
            holder=holder,
            currency=currency,
            time_zone=time_zone,
            anchor_day=anchor_day,
            last_seq=0,
            opened_at=now,
        )
        .on_conflict_do_nothing(index_elements=[Books.customer_id])
    )
    books = session.get_one(Books, customer_id, populate_existing=True)
    if books.currency != currency or books.holder != holder:
        raise BooksConflict(
            f"The books of {customer_id} are kept in {books.currency}, not {currency}: a customer has one currency "
            "for life. Create a new customer for another currency."
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


def lock_books(session: Session, customer_ids: Iterable[UUID]) -> dict[UUID, LockedBooks]:
    """Lock these books until the transaction ends, in customer order. Unknown ids are missing from the answer.

    A statement of its own on purpose: in one statement that locks and reads, the reading would still see the snapshot
    from before the wait. Read what you decide by only after this returned.
    """
    rows = session.execute(
        select(Books.customer_id, Books.holder, Books.currency, Books.time_zone, Books.anchor_day, Books.last_seq)
        .where(Books.customer_id.in_(sorted(set(customer_ids))))
        .order_by(Books.customer_id)
        .with_for_update()
    )
    return {row.customer_id: LockedBooks(*row) for row in rows}
