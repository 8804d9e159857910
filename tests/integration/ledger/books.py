"""The books of a few customers, and short ways to post into them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.database import APP_ROLE
from ledger.books import open_books
from ledger.documents import open_documents
from ledger.entries import EntriesRefused, NewEntry
from ledger.periods import close_due
from ledger.posting import Posted, post
from ledger.tables import Entry
from tests.factories.entries import EntryFactory
from tests.integration.ledger.events import Event

NOW = datetime(2025, 6, 20, 9, tzinfo=UTC)
SET_APP_ROLE = f"SET ROLE {APP_ROLE}"


def plain_url(url: str) -> str:
    """The address as psycopg itself takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class Ledger:
    """Opens books, documents and transactions; each call is a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def open(
        self, *, currency: str = "USD", time_zone: str = "UTC", anchor_day: int = 1, holder: str = "customer"
    ) -> UUID:
        customer_id = uuid4()
        with self.transaction() as session:
            open_books(
                session,
                customer_id=customer_id,
                currency=currency,
                time_zone=time_zone,
                anchor_day=anchor_day,
                now=NOW,
                holder=holder,
            )
        return customer_id

    def document(self, customer_id: UUID, kind: str = "invoice") -> UUID:
        document_id = uuid4()
        with self.transaction() as session:
            open_documents(session, [(customer_id, document_id, None)], kind=kind, now=NOW)
        return document_id

    def post(self, *entries: NewEntry, now: datetime = NOW) -> Posted:
        with self.transaction() as session:
            return post(session, entries, now=now)


def at(instant: str) -> datetime:
    return datetime.fromisoformat(instant).replace(tzinfo=UTC)


def close_ended(ledger: Ledger, customer_id: UUID, day: str) -> list[datetime]:
    """Close what ended by this day; answers the starts of what was closed."""
    with ledger.transaction() as session:
        closed = close_due(session, customer_ids=[customer_id], ended_by=at(day), now=at(day))
    return [period.start for period in closed]


def refused(ledger: Ledger, *entries: NewEntry) -> list[tuple[int, str, str]]:
    """Why the batch is refused: (index, field, code) of each problem. Nothing of it is in the journal."""
    with ledger.transaction() as session:
        before = session.scalar(select(func.count()).select_from(Entry))
    with pytest.raises(EntriesRefused) as caught:
        ledger.post(*entries)
    with ledger.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Entry)) == before
    return [(problem.index, problem.field, problem.code) for problem in caught.value.problems]


def entry_of(event: Event, **changes: object) -> NewEntry:
    """The entry that the source's event becomes."""
    sides = ("assets:unbilled", "income:usage") if event.signed >= 0 else ("income:usage", "assets:unbilled")
    details: dict[str, object] = {
        "event": event.name,
        "customer_id": event.customer_id,
        "debit_account": sides[0],
        "credit_account": sides[1],
        "amount": abs(event.signed),
        "quantity": Decimal(event.number),
        "effective_at": event.effective_at,
        "item": f"item-{event.number % 3}",
        "labels": {"app": f"app-{event.number % 2}"},
        **changes,
    }
    entry: NewEntry = EntryFactory.build(**details)
    return entry
