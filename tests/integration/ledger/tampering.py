"""What a superuser may do to the journal with every guard switched off, and what of it a verification has to name."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from ledger.entries import NewEntry
from ledger.posting import post
from tests.factories.entries import EntryFactory
from tests.integration.ledger.books import NOW, Ledger
from tests.processes.services import TestServers

CUSTOMERS = 10
FAR = 10**12
"""Added to every seq that moves, and taken away again, since two entries may not share one for a moment even."""


def superuser_engine(servers: TestServers, database_url: str) -> Engine:
    """An engine whose every session is the superuser's, with triggers switched off."""
    url = make_url(servers.admin_url).set(drivername="postgresql+psycopg", database=make_url(database_url).database)
    return create_engine(url, connect_args={"options": "-c session_replication_role=replica"})


@contextmanager
def undone(engine: Engine) -> Iterator[Session]:
    """A session whose changes only itself sees, and that are taken back at the end."""
    with Session(engine) as session:
        yield session
        session.rollback()


def various(customer_id: UUID, count: int, dice: random.Random) -> list[NewEntry]:
    """Charges that differ in whatever charges differ in."""
    return [
        EntryFactory.build(
            customer_id=customer_id,
            amount=Decimal(dice.randrange(10**9)) / 10**7,
            quantity=Decimal(dice.randrange(1, 10**6)),
            item=f"machine:{dice.randrange(5)}",
            labels={"app": f"app-{dice.randrange(9)}", "region": dice.choice(["ams", "fra", "syd"])},
            reason=dice.choice([None, "", "late"]),
        )
        for _ in range(count)
    ]


def fill(ledger: Ledger, entries: int, *, seed: int) -> list[UUID]:
    """Books of CUSTOMERS customers with so many entries in all, in batches that end everywhere but on a thousand."""
    dice = random.Random(seed)
    customers = [ledger.open() for _ in range(CUSTOMERS)]
    for customer_id in customers:
        left = entries // CUSTOMERS
        while left:
            batch = various(customer_id, min(left, 1_700), dice)
            with ledger.transaction() as session:
                post(session, batch, now=NOW)
            left -= len(batch)
    return customers


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to be named."""

    kind: str
    customer_id: UUID
    seq: int
    entry_id: UUID


# Another value for each column that an entry has, of a kind that Postgres would take.
OTHER_VALUES = {
    "transaction_id": "gen_random_uuid()",
    "debit_account": "'assets:receivable'",
    "credit_account": "'income:plans'",
    "amount": "amount + 0.000000000000000000000000000001",
    "effective_at": "effective_at + interval '1 microsecond'",
    "recorded_at": "recorded_at - interval '1 microsecond'",
    "period_start": "period_start + interval '1 day'",
    "usage_period_start": "usage_period_start + interval '1 day'",
    "document_id": "gen_random_uuid()",
    "item": "item || ' '",
    "price_id": "gen_random_uuid()",
    "quantity": "quantity + 1",
    "labels": """labels || '{"app": "elsewhere"}'""",
    "kind": "'plan'",
    "reverses_id": "gen_random_uuid()",
    "actor": "actor || '!'",
    "reason": "CASE WHEN reason IS NULL THEN '' END",
    "digest": "sha256(digest)",
    "id": "gen_random_uuid()",
}


class Tamperer:
    """Rewrites one entry of one customer, as a superuser who knows the schema would."""

    def __init__(self, session: Session, customers: list[UUID], dice: random.Random) -> None:
        self._session, self._customers, self._dice = session, customers, dice
        self._customer = dice.choice(customers)
        self._last: int = session.scalar(
            text("SELECT last_seq FROM ledger_books WHERE customer_id = :c"), {"c": self._customer}
        )
        self._seq = dice.randint(1, self._last - 1)
        self._id = self._id_at(self._seq)

    def change(self, column: str | None = None) -> Expected:
        column = column or self._dice.choice(sorted(OTHER_VALUES))
        # Checks hold for a superuser as well, so whoever rewrites the past drops those that are in the way.
        for constraint in ("charge_has_period", "two_accounts"):
            self._run(f"ALTER TABLE ledger_entries DROP CONSTRAINT ledger_entries_{constraint}")
        self._run("ALTER DOMAIN ledger_kind DROP CONSTRAINT ledger_entries_kind")
        value = OTHER_VALUES[column]
        self._run(f"UPDATE ledger_entries SET {column} = {value} WHERE customer_id = :c AND seq = :k")  # noqa: S608
        return self._expect("changed")

    def delete(self) -> Expected:
        self._run("DELETE FROM ledger_entries WHERE customer_id = :c AND seq = :k")
        return self._expect("removed")

    def delete_and_close_the_gap(self) -> Expected:
        self.delete()
        self._shift(self._seq, -1)
        return self._expect("removed")

    def insert_in_between(self) -> Expected:
        self._shift(self._seq - 1, 1)
        return self._expect("inserted", entry_id=self._copy(self._seq + 1, self._seq))

    def append_uncounted(self) -> Expected:
        return self._expect("inserted", seq=self._last + 1, entry_id=self._copy(self._seq, self._last + 1))

    def append_and_count(self) -> Expected:
        added = self._copy(self._seq, self._last + 1)
        self._run("UPDATE ledger_books SET last_seq = last_seq + 1 WHERE customer_id = :c")
        self._run("UPDATE ledger_entries SET recorded_at = now() WHERE customer_id = :c AND id = :id", id=added)
        return self._expect("inserted", seq=self._last + 1, entry_id=added)

    def swap(self) -> Expected:
        other = self._dice.choice((self._seq + 1, self._last, self._dice.randint(1, self._last)))
        if other == self._seq:
            other = self._last
        first, second = sorted((self._seq, other))
        entry_id = self._id_at(first)
        for source, target in ((first, FAR), (second, first), (FAR, second)):
            self._run("UPDATE ledger_entries SET seq = :b WHERE customer_id = :c AND seq = :a", a=source, b=target)
        return self._expect("swapped", seq=first, entry_id=entry_id)

    def give_away(self) -> Expected:
        """Into another customer's books, behind their last entry."""
        other = self._dice.choice([customer for customer in self._customers if customer != self._customer])
        self._run(
            "UPDATE ledger_entries SET customer_id = :o, seq = (SELECT last_seq + 1 FROM ledger_books WHERE "
            "customer_id = :o) WHERE customer_id = :c AND seq = :k",
            o=other,
        )
        return self._expect("removed")

    def _expect(self, kind: str, *, seq: int | None = None, entry_id: UUID | None = None) -> Expected:
        return Expected(kind, self._customer, seq or self._seq, entry_id or self._id)

    def _copy(self, source: int, target: int) -> UUID:
        added: UUID = self._session.scalar(text("SELECT gen_random_uuid()"))
        self._run("CREATE TEMP TABLE copied ON COMMIT DROP AS SELECT * FROM ledger_entries WHERE customer_id = :c AND "
                  "seq = :s", s=source)  # fmt: skip
        self._run("UPDATE copied SET seq = :t, id = :id", t=target, id=added)
        self._run("INSERT INTO ledger_entries SELECT * FROM copied")
        return added

    def _shift(self, behind: int, by: int) -> None:
        """Renumber every entry behind this seq, and the books' count."""
        self._run("UPDATE ledger_entries SET seq = seq + :f WHERE customer_id = :c AND seq > :b", f=FAR, b=behind)
        self._run("UPDATE ledger_entries SET seq = seq - :f WHERE customer_id = :c AND seq > :f", f=FAR - by)
        self._run("UPDATE ledger_books SET last_seq = last_seq + :d WHERE customer_id = :c", d=by)

    def _id_at(self, seq: int) -> UUID:
        found: UUID = self._session.scalar(
            text("SELECT id FROM ledger_entries WHERE customer_id = :c AND seq = :k"), {"c": self._customer, "k": seq}
        )
        return found

    def _run(self, statement: str, **values: Any) -> None:
        self._session.execute(text(statement), {"c": self._customer, "k": self._seq, **values})


TAMPERINGS: dict[str, Callable[[Tamperer], Expected]] = {
    "change": Tamperer.change,
    "delete": Tamperer.delete,
    "delete and close the gap": Tamperer.delete_and_close_the_gap,
    "insert in between": Tamperer.insert_in_between,
    "append uncounted": Tamperer.append_uncounted,
    "append and count": Tamperer.append_and_count,
    "swap": Tamperer.swap,
    "give away": Tamperer.give_away,
}
