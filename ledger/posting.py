"""Posting: the one way in which entries come into the journal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.books import BooksNotFound, LockedBooks, lock_books
from ledger.entries import EntriesRefused, EntryProblem, NewEntry, labels_text, problems_of
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
        placed = _place_charges(session, [entry for _, entry in fresh], books=books, now=now)
        _insert(session, placed, books=books, read_at=read_at)
    return Posted(posted=len(fresh), replayed=len(entries) - len(fresh))


def _refuse(problems: list[EntryProblem]) -> None:
    if problems:
        raise EntriesRefused(problems)


def _problems_before_lock(index: int, entry: NewEntry) -> list[EntryProblem]:
    # Whose books they are is known only after the lock; an account of either kind passes until then.
    house = {entry.debit_account, entry.credit_account} & (accounts.HOUSE_ACCOUNTS - accounts.CUSTOMER_ACCOUNTS)
    return problems_of(index, entry, holder="house" if house else "customer")


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
) -> list[NewEntry]:
    """Give every charge that has none its period, opening periods where they are first needed."""
    unplaced = [entry for entry in entries if entry.is_charge and entry.period_start is None]
    if not unplaced:
        return entries
    customers = {entry.customer_id for entry in unplaced}
    period_books = load_period_books(
        session,
        [(customer, books[customer].time_zone, books[customer].anchor_day) for customer in sorted(customers)],
        since=min(entry.effective_at for entry in unplaced),
    )
    placed: list[NewEntry] = []
    for entry in entries:
        if not entry.is_charge or entry.period_start is not None:
            placed.append(entry)
            continue
        known = period_books[entry.customer_id]
        used = known.holding(entry.effective_at)
        billed = known.billing(used, now=now)
        placed.append(replace(entry, period_start=billed.start, usage_period_start=used.start))
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


_INSERT = text("""
    INSERT INTO ledger_entries (customer_id, id, transaction_id, seq, debit_account, credit_account, amount,
        effective_at, recorded_at, period_start, usage_period_start, document_id, item, price_id, quantity, labels,
        kind, reverses_id, actor, reason, digest)
    SELECT customer_id, id, transaction_id, seq, debit_account, credit_account, amount, effective_at,
           recorded_at, period_start, usage_period_start, document_id, item, price_id, quantity,
           CAST(labels AS jsonb), kind, reverses_id, actor, reason, digest
      FROM unnest(
        CAST(:customer_id AS uuid[]), CAST(:id AS uuid[]), CAST(:transaction_id AS uuid[]), CAST(:seq AS bigint[]),
        CAST(:debit_account AS text[]), CAST(:credit_account AS text[]), CAST(:amount AS numeric[]),
        CAST(:effective_at AS timestamptz[]), CAST(:period_start AS timestamptz[]),
        CAST(:usage_period_start AS timestamptz[]), CAST(:document_id AS uuid[]), CAST(:item AS text[]),
        CAST(:price_id AS uuid[]), CAST(:quantity AS numeric[]), CAST(:labels AS text[]), CAST(:kind AS text[]),
        CAST(:reverses_id AS uuid[]), CAST(:actor AS text[]), CAST(:reason AS text[]), CAST(:digest AS bytea[]),
        CAST(:recorded_at AS timestamptz[]))
      AS sent (customer_id, id, transaction_id, seq, debit_account, credit_account, amount, effective_at, period_start,
        usage_period_start, document_id, item, price_id, quantity, labels, kind, reverses_id, actor, reason, digest,
        recorded_at)
""")
_COPIED = (
    "customer_id", "id", "transaction_id", "debit_account", "credit_account", "amount", "effective_at", "period_start",
    "usage_period_start", "document_id", "item", "price_id", "quantity", "kind", "reverses_id", "actor", "reason",
    "digest",
)  # fmt: skip


def _insert(session: Session, entries: list[NewEntry], *, books: dict[UUID, LockedBooks], read_at: datetime) -> None:
    next_seq = {customer_id: kept.last_seq for customer_id, kept in books.items()}
    # The clock may have been set back since the last posting; within the books recorded_at never runs backwards.
    recorded_at = {customer_id: max(read_at, kept.last_recorded_at or read_at) for customer_id, kept in books.items()}
    columns: dict[str, list[Any]] = {name: [getattr(entry, name) for entry in entries] for name in _COPIED}
    columns["seq"] = []
    for entry in entries:
        next_seq[entry.customer_id] += 1
        columns["seq"].append(next_seq[entry.customer_id])
    columns["recorded_at"] = [recorded_at[entry.customer_id] for entry in entries]
    columns["labels"] = [labels_text(entry.labels) for entry in entries]
    # One statement, so that the guards and the running totals see the batch as one set.
    session.execute(_INSERT, columns)
