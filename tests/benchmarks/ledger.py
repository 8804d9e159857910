"""Posting in batches, beside COPY and INSERT into tables without any guard."""

from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ledger.books import open_books
from ledger.entries import NewEntry
from ledger.posting import post
from tests.benchmarks.bare import Bare, Row, make_tables
from tests.benchmarks.rounds import Way
from tests.benchmarks.sizes import FULL, Sizes
from tests.benchmarks.workload import MONTH, entries, take

BATCH = 1_000
CUSTOMERS = 200

COPY = "COPY, bare table"
INSERT = "INSERT, bare table and indexes"
POST, REPLAY = "ledger.post", "ledger.post, the same again"


def open_customers(engine: Engine, count: int = CUSTOMERS) -> list[UUID]:
    customers = [uuid4() for _ in range(count)]
    with Session(engine) as session, session.begin():
        for customer_id in customers:
            open_books(session, customer_id=customer_id, currency="USD", time_zone="UTC", anchor_day=1, now=MONTH)
    return customers


def ways(engine: Engine, owner: psycopg.Connection, customers: list[UUID], *, sizes: Sizes = FULL) -> list[Way]:
    make_tables(owner)
    source = entries(customers)
    bare = Bare(owner, entries([uuid4() for _ in range(CUSTOMERS)]))
    batches: list[list[NewEntry]] = []
    rows: dict[str, list[list[Row]]] = {}

    def prepare(turn: int) -> int:
        """Make the rows of a round beforehand, so that only their way into the database is measured."""
        batches[:] = [take(source, BATCH) for _ in range(sizes.batches)]
        rows[COPY] = [bare.rows(BATCH) for _ in range(sizes.batches)]
        rows[INSERT] = [bare.rows(BATCH) for _ in range(sizes.batches)]
        return 1

    def copy(turn: int) -> int:
        bare.copy(rows[COPY])
        return BATCH * sizes.batches

    def insert(turn: int) -> int:
        bare.insert(rows[INSERT])
        return BATCH * sizes.batches

    def post_all(turn: int) -> int:
        for batch in batches:
            with Session(engine) as session, session.begin():
                post(session, batch, now=MONTH)
        return BATCH * sizes.batches

    return [
        Way("preparing", "", prepare),
        Way(COPY, "rows", copy),
        Way(INSERT, "rows", insert),
        Way(POST, "entries", post_all, beside=INSERT),
        Way(REPLAY, "entries", post_all, beside=POST),
    ]
