"""Everything the sandbox remembers, in one SQLite file, so that a kill -9 loses nothing that was answered."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import Json, missing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, created INTEGER NOT NULL,
    customer TEXT, parent TEXT, ref TEXT, status TEXT, deleted INTEGER NOT NULL DEFAULT 0,
    data TEXT NOT NULL, private TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS objects_by_kind ON objects (kind, seq);
CREATE INDEX IF NOT EXISTS objects_by_customer ON objects (customer, kind, seq) WHERE customer IS NOT NULL;
CREATE INDEX IF NOT EXISTS objects_by_parent ON objects (parent, kind, seq) WHERE parent IS NOT NULL;
CREATE INDEX IF NOT EXISTS objects_by_ref ON objects (ref, kind, seq) WHERE ref IS NOT NULL;
CREATE INDEX IF NOT EXISTS objects_by_token ON objects (json_extract(private, '$.token'))
    WHERE kind IN ('invoice', 'billing_portal.session');
CREATE INDEX IF NOT EXISTS objects_by_payout ON objects (json_extract(private, '$.payout'), seq)
    WHERE kind = 'balance_transaction';
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, created INTEGER NOT NULL,
    object_id TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_object ON events (object_id, seq);
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, endpoint_id TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, next_at REAL NOT NULL, last_status INTEGER, last_error TEXT,
    delivered_at INTEGER, options TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (next_at, seq) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS deliveries_by_event ON deliveries (event_id);
CREATE TABLE IF NOT EXISTS secrets (
    endpoint_id TEXT NOT NULL, secret TEXT NOT NULL, expires_at REAL, PRIMARY KEY (endpoint_id, secret));
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, due_at REAL NOT NULL, kind TEXT NOT NULL, object_id TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due_at, seq);
CREATE TABLE IF NOT EXISTS idempotency (
    key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, digest TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
    request_id TEXT NOT NULL, created REAL NOT NULL);
CREATE INDEX IF NOT EXISTS idempotency_by_age ON idempotency (created);
CREATE TABLE IF NOT EXISTS requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, at REAL NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,
    endpoint TEXT, params TEXT NOT NULL, idempotency_key TEXT, status INTEGER NOT NULL, replayed INTEGER NOT NULL,
    fault TEXT, error_code TEXT);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

# Which field of an object its list endpoints filter by, besides the customer and the status.
_PARENT = {
    "line_item": "invoice",
    "invoice_payment": "invoice",
    "charge": "payment_intent",
    "balance_transaction": "source",
    "refund": "charge",
    "dispute": "charge",
    "credit_note": "invoice",
    "radar.early_fraud_warning": "charge",
}
_REF = {
    "invoice": "number",
    "refund": "payment_intent",
    "dispute": "payment_intent",
    "radar.early_fraud_warning": "payment_intent",
    "tax_rate": "display_name",
}


@dataclass(frozen=True)
class Row:
    """One stored object with what Stripe would never show of it."""

    seq: int
    data: Json
    private: Json


class Store:
    """The one connection and the one lock: whoever holds the lock is alone, which is what makes results repeatable."""

    def __init__(self, path: Path | None) -> None:
        self.lock = threading.RLock()
        self._depth = 0
        self._after_commit: list[Callable[[], None]] = []
        self._on_commit: list[Callable[[], None]] = []
        target = ":memory:" if path is None else str(path)
        self.connection = sqlite3.connect(target, check_same_thread=False, isolation_level=None)
        # NORMAL keeps every commit across a killed process; only a power cut could lose the last ones.
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = NORMAL")
        self.connection.execute("PRAGMA busy_timeout = 5000")
        self.connection.executescript(_SCHEMA)

    def on_commit(self, hook: Callable[[], None]) -> None:
        """Call `hook` after every commit, with the lock released: it wakes the threads that may have new work."""
        self._on_commit.append(hook)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; nested uses join the outer transaction."""
        with self.lock:
            if self._depth:
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
                return
            self.connection.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
            except BaseException:
                self.connection.execute("ROLLBACK")
                raise
            else:
                self.connection.execute("COMMIT")
            finally:
                self._depth = 0
        for hook in self._on_commit:
            hook()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to one SELECT, read at once."""
        with self.lock:
            return self.connection.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: Any) -> int:
        """Run one statement inside the caller's transaction; returns the number of rows it touched."""
        return self.connection.execute(sql, values).rowcount

    def close(self) -> None:
        with self.lock:
            self.connection.close()

    # Objects

    def insert(self, obj: Json, *, private: Json | None = None) -> Json:
        """Keep a new object; its list columns are taken from its own fields."""
        self.insert_many([obj], private=private)
        return obj

    def insert_many(self, objects: list[Json], *, private: Json | None = None) -> None:
        hidden = json.dumps(private or {}, separators=(",", ":"))
        self.connection.executemany(
            "INSERT INTO objects (id, kind, created, customer, parent, ref, status, data, private)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(o["id"], o["object"], o.get("created", 0), *_columns(o), _dump(o), hidden) for o in objects],
        )

    def update(self, obj: Json, *, private: Json | None = None) -> Json:
        """Replace an object that exists."""
        self.connection.execute(
            "UPDATE objects SET customer = ?, parent = ?, ref = ?, status = ?, data = ? WHERE id = ?",
            (*_columns(obj), _dump(obj), obj["id"]),
        )
        if private is not None:
            self.connection.execute("UPDATE objects SET private = ? WHERE id = ?", (json.dumps(private), obj["id"]))
        return obj

    def mark_deleted(self, object_id: str) -> None:
        self.connection.execute("UPDATE objects SET deleted = 1, ref = NULL WHERE id = ?", (object_id,))

    def row(self, object_id: str, *, kind: str | None = None, deleted: bool = False) -> Row | None:
        """The object of that id, or None when there is none, it is of another kind, or it was deleted."""
        found = self.rows("SELECT seq, kind, deleted, data, private FROM objects WHERE id = ?", object_id)
        if not found or (kind is not None and found[0][1] != kind) or (found[0][2] and not deleted):
            return None
        return Row(found[0][0], json.loads(found[0][3]), json.loads(found[0][4]))

    def get(self, object_id: str, *, kind: str, param: str = "id") -> Json:
        """The object of that id and kind.

        Raises:
            ApiError: 404 for an id in the address, 400 for an id in the parameter `param`.
        """
        row = self.row(object_id, kind=kind)
        if row is None:
            raise missing(kind.replace("_", " ") if kind == "payment_method" else kind, object_id, param=param)
        return row.data

    def where(
        self, kind: str, clause: str = "1", *values: Any, limit: int = -1, newest_first: bool = True
    ) -> list[Json]:
        """Objects of a kind that satisfy an SQL clause over the list columns."""
        order = "DESC" if newest_first else "ASC"
        found = self.rows(
            f"SELECT data FROM objects WHERE kind = ? AND deleted = 0 AND ({clause}) ORDER BY seq {order} LIMIT ?",  # noqa: S608 - `clause` is always a literal of this package
            kind,
            *values,
            limit,
        )
        return [json.loads(row[0]) for row in found]

    def count(self, kind: str, clause: str = "1", *values: Any) -> int:
        found = self.rows(
            f"SELECT count(*) FROM objects WHERE kind = ? AND deleted = 0 AND ({clause})",  # noqa: S608 - as above
            kind,
            *values,
        )
        return int(found[0][0])

    def by_token(self, kind: str, token: str) -> Row | None:
        """The invoice or portal session behind a token in a page's address."""
        if kind not in ("invoice", "billing_portal.session"):
            raise ValueError(f"{kind} has no page of its own")
        found = self.rows(
            "SELECT id FROM objects WHERE kind IN ('invoice', 'billing_portal.session') AND kind = ?"
            " AND json_extract(private, '$.token') = ? AND deleted = 0",
            kind,
            token,
        )
        return self.row(found[0][0]) if found else None

    # Small facts

    def fact(self, name: str) -> Any:
        found = self.rows("SELECT value FROM meta WHERE name = ?", name)
        return json.loads(found[0][0]) if found else None

    def keep_fact(self, name: str, value: Any) -> None:
        self.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", name, json.dumps(value))


def _dump(obj: Json) -> str:
    return json.dumps(obj, separators=(",", ":"))


def _columns(obj: Json) -> tuple[Any, Any, Any, Any]:
    kind = obj["object"]
    parent = obj.get(_PARENT.get(kind, ""))
    ref = obj.get(_REF.get(kind, ""))
    if kind == "invoice_payment":
        ref = obj["payment"].get(obj["payment"]["type"])
    return obj.get("customer"), parent, ref, obj.get("status")
