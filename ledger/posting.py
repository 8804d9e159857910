"""Posting: the one way in which entries come into the journal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.books import BooksNotFound, LockedBooks, lock_books
from ledger.entries import EntriesRefused, EntryProblem, NewEntry, problems_of
from ledger.errors import LedgerError
from ledger.periods import load_period_books
from ledger.references import reference_problems
from ledger.tables import Books, PeriodRow
from ledger.writing import write

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


class EmptyTransaction(LedgerError):
    """There is no entry to post: a transaction moves at least one amount."""

    code = "empty_transaction"


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
        EmptyTransaction, BatchTooLarge: no entries, or more than MAX_BATCH.
    """
    if not entries:
        raise EmptyTransaction("There is no entry to post: a transaction moves at least one amount.")
    if len(entries) > MAX_BATCH:
        raise BatchTooLarge(f"{len(entries)} entries in one posting; at most {MAX_BATCH}. Send several batches.")
    # A wrong value would fail in the middle of a statement, so look at every entry before the first one.
    problems = [problem for index, entry in enumerate(entries) for problem in _problems_before_lock(index, entry)]
    if problems:
        raise EntriesRefused(sorted(problems + _other_problems(session, entries, problems), key=_index_of))
    if _is_plain(entries) and not _seems_sent_before(session, entries):
        written = write(session, entries)
        if not written.unusual:
            return Posted(written.posted, written.replayed)
    return _post_with_care(session, entries, now=now)


def _is_plain(entries: Sequence[NewEntry]) -> bool:
    """Whether these are what nearly all batches are: charges of customers that refer to nothing, each event once."""
    return all(
        entry.document_id is None
        and entry.reverses_id is None
        and entry.period_start is None
        and not _is_of_house(entry)
        for entry in entries
    ) and len({(entry.customer_id, entry.id) for entry in entries}) == len(entries)


MANY = 50
"""Entries from which on a look at the first costs nothing beside the batch."""

_IS_KNOWN = "SELECT EXISTS (SELECT FROM ledger_entries WHERE customer_id = %s AND id = %s)"


def _seems_sent_before(session: Session, entries: Sequence[NewEntry]) -> bool:
    """Whether the first of many is in the journal: then the rest probably is, and need not be sent to be dropped.

    Only a hint, read before any lock; either way of posting is right for either answer.
    """
    if len(entries) < MANY:
        return False
    first = entries[0]
    return bool(session.connection().exec_driver_sql(_IS_KNOWN, (first.customer_id, first.id)).scalar())


def _post_with_care(session: Session, entries: Sequence[NewEntry], *, now: datetime) -> Posted:
    """Look everything up, step by step, to say exactly what is wrong, or to open the periods that are missing."""
    books = lock_books(session, (entry.customer_id for entry in entries))
    missing = sorted({entry.customer_id for entry in entries} - books.keys())
    if missing:
        raise BooksNotFound(f"There are no books for customer {missing[0]}. Create the customer first.")
    fresh = _drop_replays(session, entries)
    if fresh:
        holders = {customer_id: kept.holder for customer_id, kept in books.items()}
        problems = _foreign_accounts(fresh, holders) + reference_problems(session, fresh)
        if problems:
            raise EntriesRefused(sorted(problems, key=_index_of))
        added = [entry for _, entry in fresh]
        _open_missing_periods(session, added, books=books, now=now)
        written = write(session, added, any_holder=True)
        if written.posted != len(added):
            raise RuntimeError(f"{len(added)} entries were found right under the lock, {written.posted} were written")
    return Posted(posted=len(fresh), replayed=len(entries) - len(fresh))


def _index_of(problem: EntryProblem) -> int:
    return problem.index


def _problems_before_lock(index: int, entry: NewEntry) -> list[EntryProblem]:
    # Whose books they are is known only after the lock; an account of either kind passes until then.
    return problems_of(index, entry, holder="house" if _is_of_house(entry) else "customer")


_HOUSE_ONLY = accounts.HOUSE_ACCOUNTS - accounts.CUSTOMER_ACCOUNTS


def _is_of_house(entry: NewEntry) -> bool:
    # Asked before anything is known to be right: an account may not even be text yet, nor fit into a set.
    named: tuple[object, object] = (entry.debit_account, entry.credit_account)
    return any(isinstance(code, str) and code in _HOUSE_ONLY for code in named)


def _other_problems(
    session: Session, entries: Sequence[NewEntry], problems: Sequence[EntryProblem]
) -> list[EntryProblem]:
    """What the books have against the entries of a refused batch that look right by themselves.

    So one answer names everything. Nothing will be written, so no lock is needed; customers without books are left out.
    """
    bad = {problem.index for problem in problems}
    customers = {entry.customer_id for index, entry in enumerate(entries) if index not in bad}
    rows = session.execute(select(Books.customer_id, Books.holder).where(Books.customer_id.in_(customers)))
    holders: dict[UUID, str] = {row.customer_id: row.holder for row in rows}
    good = [(index, entry) for index, entry in enumerate(entries) if index not in bad and entry.customer_id in holders]
    return _foreign_accounts(good, holders) + reference_problems(session, good) if good else []


def _foreign_accounts(entries: Sequence[tuple[int, NewEntry]], holders: dict[UUID, str]) -> list[EntryProblem]:
    return [
        EntryProblem(
            index,
            "debit_account",
            "unknown_account",
            f"{entry.debit_account!r} or {entry.credit_account!r} is no account of {holders[entry.customer_id]} books.",
        )
        for index, entry in entries
        if not {entry.debit_account, entry.credit_account} <= accounts.accounts_of(holders[entry.customer_id])
    ]


_KNOWN = text("""
    SELECT e.customer_id, e.id, e.digest
      FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS sent (customer_id, id)
      JOIN ledger_entries e USING (customer_id, id)
""")


def _drop_replays(session: Session, entries: Sequence[NewEntry]) -> list[tuple[int, NewEntry]]:
    """The entries that are not in the journal yet, each with its index in the batch."""
    rows = session.execute(
        _KNOWN,
        {"customers": [entry.customer_id for entry in entries], "ids": [entry.id for entry in entries]},
    )
    known: dict[tuple[UUID, UUID], bytes] = {(row.customer_id, row.id): row.digest for row in rows}
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
    return fresh


def _open_missing_periods(
    session: Session, entries: list[NewEntry], *, books: dict[UUID, LockedBooks], now: datetime
) -> None:
    """Open the periods that these charges are the first to need: of their use, or to be billed in."""
    unplaced = [entry for entry in entries if entry.is_charge and entry.period_start is None]
    if not unplaced:
        return
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
    used = [(entry.customer_id, period_books[entry.customer_id].holding(entry.effective_at)) for entry in unplaced]
    for customer_id, period in used:
        period_books[customer_id].billing(period, now=now)
    open_periods(
        session,
        [
            (customer, period.start, period.end, books[customer].time_zone)
            for customer, book in period_books.items()
            for period in book.opened
        ],
        now=now,
    )


def open_periods(session: Session, periods: Iterable[tuple[UUID, datetime, datetime, str]], *, now: datetime) -> None:
    """Write down newly opened periods `(customer_id, start, end, time_zone)`. The caller holds the books' locks."""
    rows = [
        {"customer_id": customer, "start_at": start, "end_at": end, "time_zone": time_zone, "opened_at": now}
        for customer, start, end, time_zone in periods
    ]
    if rows:
        session.execute(insert(PeriodRow), rows)
