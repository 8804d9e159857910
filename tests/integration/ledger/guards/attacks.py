"""What the attacks on the guards aim at: rows that would be accepted, to be changed in one thing only."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from ledger.periods import close_due
from tests.factories.entries import EntryFactory
from tests.integration.ledger.books import Ledger

MAY = datetime(2025, 5, 1, tzinfo=UTC)
JUNE = datetime(2025, 6, 1, tzinfo=UTC)
JULY = datetime(2025, 7, 1, tzinfo=UTC)
AUGUST = datetime(2025, 8, 1, tzinfo=UTC)

WRITTEN = (
    "public.ledger_entries", "public.ledger_totals", "public.ledger_books", "public.ledger_periods",
    "public.ledger_documents",
)  # fmt: skip
REFUSALS = (
    errors.IntegrityError, errors.InsufficientPrivilege, errors.InvalidParameterValue, errors.FeatureNotSupported,
)  # fmt: skip
"""By a guard of ours, for lack of a right, or since other rows name these; not because the attack is misspelled."""


@dataclass
class Target:
    """Books with May closed, June and July open, two entries, a document, and another customer beside it."""

    connection: psycopg.Connection
    customer_id: UUID
    other_id: UUID
    house_id: UUID
    first_id: UUID
    document_id: UUID
    foreign_document_id: UUID

    def row(self, **changes: Any) -> dict[str, Any]:
        """The next entry, in order, as a row; with changes, an attack."""
        connection = self.connection
        taken = connection.execute(
            "SELECT last_seq FROM ledger_books WHERE customer_id = %s", [changes.get("customer_id", self.customer_id)]
        ).fetchone()
        row: dict[str, Any] = {
            "customer_id": self.customer_id,
            "id": uuid4(),
            "transaction_id": uuid4(),
            "seq": (taken[0] if taken else 0) + 1,
            "debit_account": "assets:unbilled",
            "credit_account": "income:usage",
            "amount": Decimal("1.25"),
            "effective_at": JUNE + timedelta(days=3),
            "recorded_at": sql.SQL("clock_timestamp()"),
            "period_start": JUNE,
            "usage_period_start": JUNE,
            "document_id": None,
            "item": "vm",
            "price_id": None,
            "quantity": Decimal(1),
            "labels": {"app": "web"},
            "kind": "usage",
            "reverses_id": None,
            "actor": "attacker",
            "reason": None,
            "digest": b"\x01" * 32,
        }
        return row | changes

    def written(self) -> str:
        """One number over all that is written: every row of journal, totals, books, periods and documents."""
        sums = " || ' ' || ".join(
            f"(SELECT count(*) || ':' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {name} t)"  # noqa: S608 - names of our own
            for name in WRITTEN
        )
        return str(self.connection.execute(f"SELECT {sums}".encode()).fetchone())

    def refuses(self, statement: str, *reasons: type[psycopg.Error], match: str | None = None) -> None:
        """The statement is refused for one of these reasons, and whatever it did before that is undone."""
        before = self.written()
        with pytest.raises(reasons or REFUSALS, match=match), self.connection.transaction():
            self.connection.execute(statement.encode())
        assert self.written() == before

    def insert(self, *rows: dict[str, Any]) -> None:
        """All rows in one statement."""

        def spelled(value: Any) -> sql.Composable:
            if isinstance(value, sql.Composable):
                return value
            return sql.Literal(Jsonb(value) if isinstance(value, (dict, list)) else value)

        columns = sql.SQL(", ").join(map(sql.Identifier, rows[0]))
        values = sql.SQL(", ").join(
            sql.SQL("({})").format(sql.SQL(", ").join(map(spelled, row.values()))) for row in rows
        )
        with self.connection.transaction():  # within another one a savepoint: a refusal ends only this attempt
            self.connection.execute(sql.SQL("INSERT INTO ledger_entries ({}) VALUES {}").format(columns, values))


def prepare(ledger: Ledger, connection: psycopg.Connection) -> Target:
    """Make the books that the attacks aim at."""
    acme, other, house = ledger.open(), ledger.open(), ledger.open(holder="house")
    first = EntryFactory.build(customer_id=acme, effective_at=MAY, amount=Decimal(2))
    ledger.post(
        first,
        EntryFactory.build(customer_id=acme, effective_at=JUNE),
        EntryFactory.build(customer_id=acme, effective_at=JULY),
        EntryFactory.build(customer_id=other, effective_at=JUNE),
    )
    with ledger.transaction() as session:
        close_due(session, customer_ids=[acme], ended_by=JUNE, now=JUNE)
    return Target(
        connection=connection,
        customer_id=acme,
        other_id=other,
        house_id=house,
        first_id=first.id,
        document_id=ledger.document(acme),
        foreign_document_id=ledger.document(other),
    )


@contextmanager
def undone(connection: psycopg.Connection) -> Iterator[None]:
    """Run the block in a transaction that is rolled back, so that many attacks can share one database."""
    with connection.transaction(force_rollback=True):
        yield


def reversing(target: Target, **changes: Any) -> dict[str, Any]:
    """A reversal of the first entry: 2.00 of May, billed as late usage in June."""
    details: dict[str, Any] = {
        "debit_account": "income:usage",
        "credit_account": "assets:unbilled",
        "amount": Decimal(2),
        "quantity": Decimal(3600),
        "item": "machine:shared-cpu-1x",
        "effective_at": MAY,
        "usage_period_start": MAY,
        "reverses_id": target.first_id,
    }
    return target.row(**(details | changes))


def about_document(target: Target, **changes: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"period_start": None, "usage_period_start": None, "document_id": target.document_id}
    return target.row(**(details | changes))


def carried(target: Target, **changes: Any) -> dict[str, Any]:
    details: dict[str, Any] = {
        "kind": "carry", "credit_account": "assets:carried", "effective_at": JUNE, "usage_period_start": MAY,
    }  # fmt: skip
    return target.row(**(details | changes))


def late(target: Target, **changes: Any) -> dict[str, Any]:
    """Usage of May, which is closed, billed by June."""
    return target.row(**({"effective_at": MAY, "usage_period_start": MAY} | changes))
