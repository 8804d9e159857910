"""Placing: which period takes what an older one can take no more."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from ledger.books import BooksNotFound, lock_books
from ledger.periods import Period, load_period_books
from ledger.posting import open_periods


def next_billing_period(session: Session, *, customer_id: UUID, start: datetime, now: datetime) -> Period:
    """The period that bills what the closed period from `start` can no longer bill; opened if need be.

    The earliest open one after it, else the one that holds `now`. The caller commits.

    Raises:
        BooksNotFound: the customer has no books.
    """
    books = lock_books(session, [customer_id]).get(customer_id)
    if books is None:
        raise BooksNotFound(f"There are no books for customer {customer_id}. Create the customer first.")
    book = load_period_books(session, [(customer_id, books.time_zone, books.anchor_day)], since=start)[customer_id]
    target = book.billing(book.holding(start), now=now)
    open_periods(session, [(customer_id, period.start, period.end, books.time_zone) for period in book.opened], now=now)
    return target
