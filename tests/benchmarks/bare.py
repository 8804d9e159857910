"""The same rows into tables without any guard, over the same driver: what posting is compared with."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ledger.entries import NewEntry
from tests.benchmarks.workload import MONTH, take

COLUMNS = {
    "customer_id": "uuid", "id": "uuid", "transaction_id": "uuid", "seq": "bigint", "debit_account": "text",
    "credit_account": "text", "amount": "numeric", "effective_at": "timestamptz", "recorded_at": "timestamptz",
    "period_start": "timestamptz", "usage_period_start": "timestamptz", "document_id": "uuid", "item": "text",
    "price_id": "uuid", "quantity": "numeric", "labels": "jsonb", "kind": "text", "reverses_id": "uuid",
    "actor": "text", "reason": "text", "digest": "bytea",
}  # fmt: skip
Row = dict[str, object]


INDEXES = """
    SELECT replace(replace(pg_get_indexdef(i.indexrelid), i.indexrelid::regclass::text, 'bare_' || i.indexrelid),
                   'public.ledger_entries', 'indexed')
      FROM pg_index i WHERE i.indrelid = 'ledger_entries'::regclass
"""


def make_tables(owner: psycopg.Connection) -> None:
    """The journal's columns without constraint, trigger or row-level security: once bare, once with its indexes."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    for table in ("bare", "indexed"):
        owner.execute(f"CREATE TABLE {table} ({columns})".encode())
    for (statement,) in owner.execute(INDEXES).fetchall():
        owner.execute(statement)


class Bare:
    """Writes what `source` yields as the ledger would have written it; the customers are this writer's own."""

    def __init__(self, owner: psycopg.Connection, source: Iterator[NewEntry]) -> None:
        self._owner, self._source, self._seq = owner, source, 0
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        kinds = sql.SQL(", ".join(f"{name} {kind}" for name, kind in COLUMNS.items()))
        self._copy = sql.SQL("COPY bare ({}) FROM STDIN").format(columns)
        self._insert = sql.SQL(
            "INSERT INTO indexed ({0}) SELECT {0} FROM json_to_recordset(%s::json) AS sent ({1})"
        ).format(columns, kinds)

    def rows(self, size: int) -> list[Row]:
        made = [_row(entry, self._seq + n) for n, entry in enumerate(take(self._source, size), start=1)]
        self._seq += size
        return made

    def copy(self, batches: list[list[Row]]) -> None:
        for batch in batches:
            with self._owner.transaction(), self._owner.cursor() as cursor, cursor.copy(self._copy) as copy:
                for row in batch:
                    copy.write_row([Jsonb(row[name]) if name == "labels" else row[name] for name in COLUMNS])

    def insert(self, batches: list[list[Row]]) -> None:
        """The fastest INSERT that we know of: the rows of a batch as one JSON text, each batch committed."""
        for batch in batches:
            with self._owner.transaction():
                self._owner.execute(self._insert, [json.dumps(batch, default=_as_text, ensure_ascii=False)])


def _row(entry: NewEntry, seq: int) -> Row:
    fields = {name: getattr(entry, name) for name in COLUMNS if hasattr(entry, name)}
    return fields | {
        "seq": seq,
        "recorded_at": datetime.now(UTC),
        "period_start": MONTH,
        "usage_period_start": MONTH,
        "labels": dict(entry.labels),
    }


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)
