"""Posting: the one way in which entries come into the journal."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.books import BooksNotFound, LockedBooks, lock_books
from ledger.entries import EntriesRefused, EntryProblem, NewEntry, problems_of
from ledger.errors import LedgerError
from ledger.periods import load_period_books
from ledger.references import reference_problems
from ledger.tables import PeriodRow

MAX_BATCH = 10_000
"""Entries per call: a batch locks its books until it commits, so it stays short."""


class EntryConflict(LedgerError):
    """An event with this id was posted before with other content; nothing was written.

    The same event may be sent again any number of times, unchanged. A correction is a new event with its own id.
    """

    code = "entry_conflict"

    def __init__(self, conflicts: "list[Conflict]") -> None:
        self.conflicts = conflicts
        first = conflicts[0]
        more = f" (and {len(conflicts) - 1} more)" if len(conflicts) > 1 else ""
        super().__init__(
            f"Entry {first.index}: its event was posted before with other content (entry {first.entry_id}){more}. "
            "Send it unchanged, or send the correction as a new event with its own id."
        )


class BatchTooLarge(LedgerError):
    """More entries than one posting takes. Send them in several batches."""

    code = "batch_too_large"


@dataclass(frozen=True, slots=True)
class Conflict:
    index: int
    customer_id: UUID
    entry_id: UUID


@dataclass(frozen=True, slots=True)
class Posted:
    """What a posting did. `replayed` entries were in the journal already, with the same content."""

    posted: int
    replayed: int


def post(session: Session, entries: Sequence[NewEntry], *, now: datetime) -> Posted:
    """Post all of these entries, or none. The caller commits; the locks of the books are held until then.

    Entries that are in the journal already, with the same digest, change nothing. Each charge goes to the period that
    holds its `effective_at`, or, if that is closed, to the earliest open one after it. `now` decides only which period
    to open when none is open; `recorded_at` is the database's own clock, read after the lock was taken.

    Raises:
        EntriesRefused: some entries are not acceptable; every problem of the batch is named.
        EntryConflict: an entry with the same id and another digest exists, in the journal or in this batch.
        BooksNotFound: a customer has no books.
        BatchTooLarge: more than MAX_BATCH entries.
    """
    if not entries:
        return Posted(0, 0)
    if len(entries) > MAX_BATCH:
        raise BatchTooLarge(f"{len(entries)} entries in one posting; at most {MAX_BATCH}. Send several batches.")
    # An array of a wrong value would fail in the middle of a statement, so look at every entry before the first one.
    _refuse([problem for index, entry in enumerate(entries) for problem in _problems_before_lock(index, entry)])
    books = lock_books(session, (entry.customer_id for entry in entries))
    missing = sorted({entry.customer_id for entry in entries} - books.keys())
    if missing:
        raise BooksNotFound(f"There are no books for customer {missing[0]}. Create the customer first.")
    _refuse(_foreign_accounts(entries, books))
    read_at, fresh = _drop_replays(session, entries)
    if fresh:
        _refuse(reference_problems(session, fresh))
        added = [entry for _, entry in fresh]
        placed = _place_charges(session, added, books=books, now=now)
        _insert(session, added, placed=placed, books=books, read_at=read_at)
    return Posted(posted=len(fresh), replayed=len(entries) - len(fresh))


def _refuse(problems: list[EntryProblem]) -> None:
    if problems:
        raise EntriesRefused(problems)


def _problems_before_lock(index: int, entry: NewEntry) -> list[EntryProblem]:
    # Whose books they are is known only after the lock; an account of either kind passes until then.
    is_house = entry.debit_account in _HOUSE_ONLY or entry.credit_account in _HOUSE_ONLY
    return problems_of(index, entry, holder="house" if is_house else "customer")


_HOUSE_ONLY = accounts.HOUSE_ACCOUNTS - accounts.CUSTOMER_ACCOUNTS


def _foreign_accounts(entries: Sequence[NewEntry], books: dict[UUID, LockedBooks]) -> list[EntryProblem]:
    return [
        EntryProblem(
            index,
            "debit_account",
            "unknown_account",
            f"{entry.debit_account!r} or {entry.credit_account!r} "
            f"is no account of {books[entry.customer_id].holder} books.",
        )
        for index, entry in enumerate(entries)
        if not {entry.debit_account, entry.credit_account} <= accounts.accounts_of(books[entry.customer_id].holder)
    ]


_KNOWN = text("""
    SELECT greatest(clock_timestamp(), now()) AS read_at, sent.customer_id, sent.id, e.digest
      FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS sent (customer_id, id)
      LEFT JOIN ledger_entries e USING (customer_id, id)
""")


def _drop_replays(session: Session, entries: Sequence[NewEntry]) -> tuple[datetime, list[tuple[int, NewEntry]]]:
    """The database's clock, and the entries that are not in the journal yet, each with its index in the batch."""
    rows = session.execute(
        _KNOWN,
        {"customers": [entry.customer_id for entry in entries], "ids": [entry.id for entry in entries]},
    ).all()
    known: dict[tuple[UUID, UUID], bytes] = {(row.customer_id, row.id): row.digest for row in rows if row.digest}
    fresh: list[tuple[int, NewEntry]] = []
    conflicts: list[Conflict] = []
    for index, entry in enumerate(entries):
        key = (entry.customer_id, entry.id)
        before = known.get(key)
        if before is None:
            known[key] = entry.digest
            fresh.append((index, entry))
        elif bytes(before) != entry.digest:
            conflicts.append(Conflict(index, entry.customer_id, entry.id))
    if conflicts:
        raise EntryConflict(conflicts)
    return max(row.read_at for row in rows), fresh


def _place_charges(
    session: Session, entries: list[NewEntry], *, books: dict[UUID, LockedBooks], now: datetime
) -> list[tuple[datetime | None, datetime | None]]:
    """Each entry's period and the period of its usage; opens the periods that are first needed."""
    unplaced = [entry for entry in entries if entry.is_charge and entry.period_start is None]
    if not unplaced:
        return [(entry.period_start, entry.usage_period_start) for entry in entries]
    period_books = load_period_books(
        session,
        [
            (customer, books[customer].time_zone, books[customer].anchor_day)
            for customer in sorted({entry.customer_id for entry in unplaced})
        ],
        since=min(entry.effective_at for entry in unplaced),
    )
    # First every period of use, then who bills it: the batch's own charges may open a period that an earlier one of
    # them, being late, belongs into.
    for entry in unplaced:
        period_books[entry.customer_id].holding(entry.effective_at)
    placed: list[tuple[datetime | None, datetime | None]] = []
    for entry in entries:
        if not entry.is_charge or entry.period_start is not None:
            placed.append((entry.period_start, entry.usage_period_start))
            continue
        known = period_books[entry.customer_id]
        used = known.holding(entry.effective_at)
        placed.append((known.billing(used, now=now).start, used.start))
    open_periods(
        session,
        [
            (customer, period.start, period.end, books[customer].time_zone)
            for customer, book in period_books.items()
            for period in book.opened
        ],
        now=now,
    )
    return placed


def open_periods(session: Session, periods: Iterable[tuple[UUID, datetime, datetime, str]], *, now: datetime) -> None:
    """Write down newly opened periods `(customer_id, start, end, time_zone)`. The caller holds the books' locks."""
    rows = [
        {"customer_id": customer, "start_at": start, "end_at": end, "time_zone": time_zone, "opened_at": now}
        for customer, start, end, time_zone in periods
    ]
    if rows:
        session.execute(insert(PeriodRow), rows)


COLUMNS = {
    "customer_id": "uuid", "id": "uuid", "transaction_id": "uuid", "seq": "bigint", "debit_account": "text",
    "credit_account": "text", "amount": "numeric", "effective_at": "timestamptz", "recorded_at": "timestamptz",
    "period_start": "timestamptz", "usage_period_start": "timestamptz", "document_id": "uuid", "item": "text",
    "price_id": "uuid", "quantity": "numeric", "labels": "jsonb", "kind": "text", "reverses_id": "uuid",
    "actor": "text", "reason": "text", "digest": "bytea",
}  # fmt: skip

# The batch goes as one JSON text: half the work of twenty arrays, for us and for Postgres alike. Numbers, times and
# bytes stand in it as text and are read by their own types, so no digit is lost on the way.
_INSERT = text(f"""
    INSERT INTO ledger_entries ({", ".join(COLUMNS)})
    SELECT {", ".join(COLUMNS)}
      FROM json_to_recordset(CAST(:entries AS json))
        AS sent ({", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())})
""")  # noqa: S608 - names of our own columns


def _insert(
    session: Session,
    entries: list[NewEntry],
    *,
    placed: list[tuple[datetime | None, datetime | None]],
    books: dict[UUID, LockedBooks],
    read_at: datetime,
) -> None:
    last_seq = {customer_id: kept.last_seq for customer_id, kept in books.items()}
    # The clock may have been set back since the last posting; within the books recorded_at never runs backwards.
    recorded_at = {customer_id: max(read_at, kept.last_recorded_at or read_at) for customer_id, kept in books.items()}
    rows = []
    for entry, (period_start, usage_period_start) in zip(entries, placed, strict=True):
        last_seq[entry.customer_id] += 1
        rows.append(
            {
                "customer_id": str(entry.customer_id),
                "id": str(entry.id),
                "transaction_id": str(entry.transaction_id),
                "seq": last_seq[entry.customer_id],
                "debit_account": entry.debit_account,
                "credit_account": entry.credit_account,
                "amount": str(entry.amount),
                "effective_at": entry.effective_at.isoformat(),
                "recorded_at": recorded_at[entry.customer_id].isoformat(),
                "period_start": _instant(period_start),
                "usage_period_start": _instant(usage_period_start),
                "document_id": _text(entry.document_id),
                "item": entry.item,
                "price_id": _text(entry.price_id),
                "quantity": _text(entry.quantity),
                "labels": dict(entry.labels),
                "kind": entry.kind,
                "reverses_id": _text(entry.reverses_id),
                "actor": entry.actor,
                "reason": entry.reason,
                "digest": "\\x" + entry.digest.hex(),
            }
        )
    # One statement, so that the guards and the running totals see the batch as one set.
    session.execute(_INSERT, {"entries": json.dumps(rows, ensure_ascii=False)})


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _text(value: UUID | Decimal | None) -> str | None:
    return None if value is None else str(value)
