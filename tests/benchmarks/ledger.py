"""Posting, beside COPY and INSERT into tables without any guard."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ledger.books import open_books
from ledger.entries import NewEntry
from ledger.posting import COLUMNS, post
from tests.benchmarks.rounds import Way
from tests.benchmarks.workload import MONTH, entries, take

BATCH = 1_000
BATCHES = 4  # a round, each committed
SINGLES = 200  # a round, each committed
CUSTOMERS = 200

COPY = "COPY, bare table"
INSERT, INSERT_ONE = "INSERT, bare table and indexes", "INSERT one by one, bare table and indexes"
POST, REPLAY, POST_ONE = "ledger.post", "ledger.post, the same again", "ledger.post one by one"


def bare_tables(owner: psycopg.Connection) -> None:
    """The journal's columns without its guards: once bare, once with the same indexes."""
    owner.execute("CREATE TABLE bare (LIKE ledger_entries)")
    owner.execute("CREATE TABLE indexed (LIKE ledger_entries INCLUDING INDEXES)")


def open_customers(engine: Engine) -> list[UUID]:
    customers = [uuid4() for _ in range(CUSTOMERS)]
    with Session(engine) as session, session.begin():
        for customer_id in customers:
            open_books(session, customer_id=customer_id, currency="USD", time_zone="UTC", anchor_day=1, now=MONTH)
    return customers


def row_of(entry: NewEntry, seq: int) -> dict[str, object]:
    """The row as the ledger would write it."""
    fields = {name: getattr(entry, name) for name in COLUMNS if hasattr(entry, name)}
    return fields | {
        "seq": seq,
        "recorded_at": datetime.now(UTC),
        "period_start": MONTH,
        "usage_period_start": MONTH,
        "labels": dict(entry.labels),
    }


class Bare:
    """The same rows into a table without guards, over the same driver."""

    def __init__(self, owner: psycopg.Connection, source: Iterator[NewEntry]) -> None:
        self.owner, self.source, self.seq = owner, source, 0
        self.columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))

    def rows(self, size: int) -> list[dict[str, object]]:
        made = [row_of(entry, self.seq + n) for n, entry in enumerate(take(self.source, size), start=1)]
        self.seq += size
        return made

    def copy(self, batches: list[list[dict[str, object]]]) -> None:
        statement = sql.SQL("COPY bare ({}) FROM STDIN").format(self.columns)
        for batch in batches:
            with self.owner.transaction(), self.owner.cursor() as cursor, cursor.copy(statement) as copy:
                for row in batch:
                    copy.write_row([Jsonb(row[name]) if name == "labels" else row[name] for name in COLUMNS])

    def insert(self, batches: list[list[dict[str, object]]]) -> None:
        """The fastest INSERT that we know of: the rows of a batch as one JSON text, as the ledger sends them."""
        kinds = sql.SQL(", ".join(f"{name} {kind}" for name, kind in COLUMNS.items()))
        statement = sql.SQL(
            "INSERT INTO indexed ({0}) SELECT {0} FROM json_to_recordset(%s::json) AS sent ({1})"
        ).format(self.columns, kinds)
        for batch in batches:
            with self.owner.transaction():
                self.owner.execute(statement, [json.dumps(batch, default=_as_text, ensure_ascii=False)])


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def ways(engine: Engine, owner: psycopg.Connection) -> list[Way]:
    bare_tables(owner)
    source = entries(open_customers(engine))
    bare = Bare(owner, entries([uuid4() for _ in range(CUSTOMERS)]))
    posted: list[list[NewEntry]] = []

    def post_all(batches: list[list[NewEntry]]) -> int:
        for batch in batches:
            with Session(engine) as session, session.begin():
                post(session, batch, now=MONTH)
        return sum(map(len, batches))

    prepared: dict[str, list[list[NewEntry]]] = {}
    prepared_rows: dict[str, list[list[dict[str, object]]]] = {}

    def prepare(turn: int) -> int:
        """Make the rows of a round beforehand, so that only their way into the database is measured."""
        prepared[POST] = [take(source, BATCH) for _ in range(BATCHES)]
        prepared[POST_ONE] = [take(source, 1) for _ in range(SINGLES)]
        prepared_rows[COPY] = [bare.rows(BATCH) for _ in range(BATCHES)]
        prepared_rows[INSERT] = [bare.rows(BATCH) for _ in range(BATCHES)]
        prepared_rows[INSERT_ONE] = [bare.rows(1) for _ in range(SINGLES)]
        return 1

    def run_post(turn: int) -> int:
        posted[:] = prepared[POST]
        return post_all(posted)

    def run_copy(turn: int) -> int:
        bare.copy(prepared_rows[COPY])
        return BATCH * BATCHES

    def run_insert(turn: int) -> int:
        bare.insert(prepared_rows[INSERT])
        return BATCH * BATCHES

    def run_insert_one(turn: int) -> int:
        bare.insert(prepared_rows[INSERT_ONE])
        return SINGLES

    return [
        Way("preparing", "", prepare),
        Way(COPY, "rows", run_copy),
        Way(INSERT, "rows", run_insert),
        Way(POST, "entries", run_post, beside=INSERT),
        Way(REPLAY, "entries", lambda _: post_all(posted), beside=POST),
        Way(INSERT_ONE, "rows", run_insert_one),
        Way(POST_ONE, "entries", lambda _: post_all(prepared[POST_ONE]), beside=INSERT_ONE),
    ]
