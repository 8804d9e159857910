"""The time machine: what the books said at any past moment.

Two times can be asked for, alone or together. `effective_before` is about the world: what had happened before that
instant (exclusive, as all periods are half-open). `known_at` is about us: what had been recorded by that instant
(inclusive, so that the `recorded_at` of an entry is a moment at which that entry is known).

Within one customer's books `seq` has no gap and `recorded_at` never runs backwards, so what was known at a moment is
always a prefix of the journal, and its last `seq` is found in some twenty steps however long the journal is. Entries
are never changed, so a prefix says the same for ever. An entry is recorded in the transaction that posts it: it is
known from then on, while others could see it only once that transaction committed, moments later.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Select, and_, case, func, literal, or_, select, text, union_all
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.accounts import is_debit_normal
from ledger.balances import balances
from ledger.books import BooksNotFound
from ledger.errors import LedgerError
from ledger.money import EXACT
from ledger.tables import TOTALS, UNBILLED_TOTALS, Books, Entry

FETCHED = 2_000
"""Rows of a statement fetched at a time: what it holds in memory, however long it is."""


class UnknownAccount(LedgerError):
    """These books have no such account. Use a code from the chart of accounts, such as assets:receivable."""

    code = "unknown_account"


@dataclass(frozen=True, slots=True)
class UnbilledLine:
    """One item's part of a period's charges. `amount` and `quantity` are exact and signed, positive where charged."""

    item: str | None
    price_id: UUID | None
    usage_period_start: datetime
    contra_account: str
    quantity: Decimal
    amount: Decimal
    entries: int


@dataclass(frozen=True, slots=True)
class StatementRow:
    """One entry as its account saw it. One of `debit` and `credit` is 0; `balance` is the account's after this row."""

    seq: int
    entry_id: UUID
    effective_at: datetime
    recorded_at: datetime
    contra_account: str
    kind: str
    item: str | None
    document_id: UUID | None
    debit: Decimal
    credit: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The entries that were known: those up to `seq`, of `last_seq` that the books have now."""

    seq: int
    last_seq: int

    @property
    def is_recent(self) -> bool:
        """Whether fewer entries came after it than it has: then totals less the later ones cost less than a sum."""
        return self.last_seq - self.seq < self.seq


# In one statement, so that the books' last number and the entries are of one snapshot. Half of what is left is ruled
# out by each step, which reads one entry by its number.
_PREFIX = text("""
    WITH RECURSIVE search (low, high, last_seq) AS (
        SELECT CAST(0 AS bigint), CAST(last_seq AS bigint), last_seq FROM ledger_books WHERE customer_id = :customer_id
        UNION ALL
        SELECT CASE WHEN is_known THEN middle ELSE low END, CASE WHEN is_known THEN high ELSE middle - 1 END, last_seq
          FROM (SELECT low, high, last_seq, middle,
                       (SELECT e.recorded_at FROM ledger_entries e
                         WHERE e.customer_id = :customer_id AND e.seq <= middle
                         ORDER BY e.seq DESC LIMIT 1) <= :known_at AS is_known
                  FROM (SELECT low, high, last_seq, (low + high + 1) / 2 AS middle
                          FROM search WHERE low < high) half) step
    )
    SELECT low, last_seq FROM search WHERE low = high
""")


def known_seq(session: Session, *, customer_id: UUID, known_at: datetime) -> int:
    """The last `seq` that had been recorded at `known_at` (inclusive); 0 if nothing had, or if there are no books."""
    return _prefix(session, customer_id, known_at).seq


def balances_at(
    session: Session,
    *,
    customer_id: UUID,
    effective_before: datetime | None = None,
    known_at: datetime | None = None,
) -> dict[str, Decimal]:
    """Every account's balance in major units, exact, with the signs of `ledger.balances.balances`.

    Counts what took effect before `effective_before` (exclusive) and had been recorded at `known_at` (inclusive); None
    leaves that side open, and with neither it is what the books say now. Accounts that had not moved are missing.
    """
    if effective_before is None and known_at is None:
        return balances(session, customer_id=customer_id)
    prefix = _prefix(session, customer_id, known_at)
    if effective_before is not None:
        happened = and_(_known(customer_id, prefix), Entry.effective_at < effective_before)
        moved = _moves(Entry.__table__, happened)
    elif prefix.is_recent:
        # Everything less what came later, in one statement: totals and entries are then of one snapshot.
        later = and_(Entry.customer_id == customer_id, Entry.seq > prefix.seq)
        moved = _moves(TOTALS, TOTALS.c.customer_id == customer_id) + _moves(Entry.__table__, later, sign=-1)
    else:
        moved = _moves(Entry.__table__, _known(customer_id, prefix))
    sums = union_all(*moved).subquery()
    rows = session.execute(
        select(sums.c.account, func.sum(sums.c.debit), func.sum(sums.c.credit))
        .group_by(sums.c.account)
        .having(func.sum(sums.c.entries) > 0)
    )
    return {account: _normal(account, debit=debit, credit=credit) for account, debit, credit in sorted(rows.all())}


def balance_at(
    session: Session,
    *,
    customer_id: UUID,
    account: str,
    effective_before: datetime | None = None,
    known_at: datetime | None = None,
) -> Decimal:
    """One account's balance, as in `balances_at`; 0 if it had not moved."""
    found = balances_at(session, customer_id=customer_id, effective_before=effective_before, known_at=known_at)
    return found.get(account, Decimal(0))


def unbilled_at(
    session: Session, *, customer_id: UUID, period_start: datetime, known_at: datetime
) -> list[UnbilledLine]:
    """What the customer's panel showed for one period at that moment: its charges recorded by `known_at` (inclusive).

    Line by line as the panel groups them, the largest first; the amounts are exact and add up to what was unbilled.
    Empty if nothing of the period was known.
    """
    prefix = _prefix(session, customer_id, known_at)
    view = UNBILLED_TOTALS.c
    entries = Entry.__table__.c
    if prefix.is_recent:
        kept = select(
            *_unbilled_columns(UNBILLED_TOTALS), view.contra_account, view.quantity, view.amount, view.entries
        )
        kept = kept.where(
            view.customer_id == customer_id, view.period_start == period_start, view.document_id.is_(None)
        )
        parts = [kept, _charges(customer_id, period_start, entries.seq > prefix.seq, sign=-1)]
    else:
        parts = [_charges(customer_id, period_start, entries.seq <= prefix.seq)]
    found = union_all(*parts).subquery().c
    key = (found.item, found.price_id, found.usage_period_start, found.contra_account)
    amount = func.sum(found.amount)
    rows = session.execute(
        select(*key, func.sum(found.quantity), amount, func.sum(found.entries))
        .group_by(*key)
        .having(func.sum(found.entries) > 0)
        .order_by(found.contra_account == accounts.CARRIED, amount.desc(), *key)
    )
    return [UnbilledLine(*row[:6], entries=int(row[6])) for row in rows]


class Statement:
    """One account between two moments: `opening`, then `rows` once, then `closing`. Amounts in the books' currency."""

    def __init__(
        self,
        *,
        customer_id: UUID,
        account: str,
        currency: str,
        opening: Decimal,
        read: Callable[[], Iterator[Any]],
    ) -> None:
        self.customer_id = customer_id
        self.account = account
        self.currency = currency
        self.opening = opening
        """The balance before the first row, in the account's normal direction."""
        self.debits = Decimal(0)
        """The rows' debits added up, as far as `rows` was read; `credits` likewise."""
        self.credits = Decimal(0)
        self.rows: Iterator[StatementRow] = self._rows(read)
        """The entries in order of effect, then of seq; each is read from the database as it is asked for."""
        self._is_complete = False

    @property
    def closing(self) -> Decimal:
        """The balance after the last row.

        Raises:
            RuntimeError: `rows` was not read to its end, so that nobody knows yet.
        """
        if not self._is_complete:
            raise RuntimeError("The closing balance is known when all rows of the statement have been read.")
        return self._balance()

    def _balance(self) -> Decimal:
        moved = _normal(self.account, debit=self.debits, credit=self.credits)
        return EXACT.add(self.opening, moved)

    def _rows(self, read: Callable[[], Iterator[Any]]) -> Iterator[StatementRow]:
        for row in read():
            self.debits = EXACT.add(self.debits, row.debit)
            self.credits = EXACT.add(self.credits, row.credit)
            fields: tuple[Any, ...] = (*row, self._balance())
            yield StatementRow(*fields)
        self._is_complete = True


def statement(
    session: Session,
    *,
    customer_id: UUID,
    account: str,
    since: datetime | None = None,
    until: datetime | None = None,
    known_at: datetime | None = None,
) -> Statement:
    """One account's entries that took effect in `[since, until)`, as they were known at `known_at` (inclusive).

    None leaves a side open. The opening balance is of what took effect before `since`; each row has the balance after
    it. Rows come through a server-side cursor, so memory stays small; read them within this session's transaction. What
    is posted meanwhile is not in it.

    Raises:
        BooksNotFound: there is no such customer.
        UnknownAccount: books of this kind have no such account.
    """
    books = session.execute(select(Books.holder, Books.currency).where(Books.customer_id == customer_id)).one_or_none()
    if books is None:
        raise BooksNotFound(f"There are no books for customer {customer_id}. Check the id.")
    known = sorted(accounts.accounts_of(books.holder))
    if account not in known:
        raise UnknownAccount(f"{account!r} is no account of {books.holder} books, which have: {', '.join(known)}.")
    # Fixed now, so that opening, rows and closing are of the same entries even if others post meanwhile.
    mine = and_(_known(customer_id, _prefix(session, customer_id, known_at)), _moves_account(account))
    opening = Decimal(0)
    if since is not None:
        debit, credit = map(func.sum, _sides(account))
        before = session.execute(select(debit, credit).where(mine, Entry.effective_at < since)).one()
        opening = _normal(account, debit=before[0] or Decimal(0), credit=before[1] or Decimal(0))
    window = [mine]
    if since is not None:
        window.append(Entry.effective_at >= since)
    if until is not None:
        window.append(Entry.effective_at < until)
    query = _statement_rows(account).where(*window).order_by(Entry.effective_at, Entry.seq)

    def read() -> Iterator[Any]:
        # Whoever reads may pause for longer than an idle transaction is allowed to live.
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield from session.execute(query, execution_options={"yield_per": FETCHED})

    return Statement(customer_id=customer_id, account=account, currency=books.currency, opening=opening, read=read)


def _prefix(session: Session, customer_id: UUID, known_at: datetime | None) -> _Prefix:
    if known_at is None:
        last_seq = session.scalar(select(Books.last_seq).where(Books.customer_id == customer_id)) or 0
        return _Prefix(last_seq, last_seq)
    row = session.execute(_PREFIX, {"customer_id": customer_id, "known_at": known_at}).one_or_none()
    return _Prefix(0, 0) if row is None else _Prefix(row.low, row.last_seq)


def _known(customer_id: UUID, prefix: _Prefix) -> ColumnElement[bool]:
    return and_(Entry.customer_id == customer_id, Entry.seq <= prefix.seq)


def _moves(source: FromClause, condition: ColumnElement[bool], *, sign: int = 1) -> list[Select[Any]]:
    """(account, debit, credit, entries) from both sides of these rows, of the journal or of the running totals."""
    columns = source.c
    count = func.sum(columns.entries) if "entries" in columns else func.count()
    # Added up by pairs of accounts first, so that the rows are read once and not once for each side.
    pairs = (
        select(
            columns.debit_account,
            columns.credit_account,
            (func.sum(columns.amount) * sign).label("amount"),
            (count * sign).label("entries"),
        )
        .where(condition)
        .group_by(columns.debit_account, columns.credit_account)
        .cte()
        .c
    )
    nothing = literal(Decimal(0))
    return [
        select(
            pairs.debit_account.label("account"), pairs.amount.label("debit"), nothing.label("credit"), pairs.entries
        ),
        select(pairs.credit_account, nothing, pairs.amount, pairs.entries),
    ]


def _unbilled_columns(source: FromClause) -> list[ColumnElement[Any]]:
    return [source.c.item, source.c.price_id, source.c.usage_period_start]


def _charges(
    customer_id: UUID, period_start: datetime, condition: ColumnElement[bool], *, sign: int = 1
) -> Select[Any]:
    """The period's charges as the view `ledger_unbilled` shows them, but from the journal."""
    entries = Entry.__table__.c
    is_debit = entries.debit_account == accounts.UNBILLED
    signed = case((is_debit, sign), else_=-sign)
    return select(
        *_unbilled_columns(Entry.__table__),
        case((is_debit, entries.credit_account), else_=entries.debit_account).label("contra_account"),
        (func.coalesce(entries.quantity, 0) * signed).label("quantity"),
        (entries.amount * signed).label("amount"),
        literal(sign).label("entries"),
    ).where(entries.customer_id == customer_id, entries.period_start == period_start, condition)


def _moves_account(account: str) -> ColumnElement[bool]:
    return or_(Entry.debit_account == account, Entry.credit_account == account)


def _sides(account: str) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """What an entry debits the account with, and what it credits it with; one of them is 0."""
    debit = case((Entry.debit_account == account, Entry.amount), else_=Decimal(0))
    return debit, case((Entry.credit_account == account, Entry.amount), else_=Decimal(0))


def _statement_rows(account: str) -> Select[Any]:
    # Columns, not mapped rows: the session would keep every row that it ever mapped. In the order of StatementRow.
    debit, credit = _sides(account)
    return select(
        Entry.seq,
        Entry.id,
        Entry.effective_at,
        Entry.recorded_at,
        case((Entry.debit_account == account, Entry.credit_account), else_=Entry.debit_account),
        Entry.kind,
        Entry.item,
        Entry.document_id,
        debit.label("debit"),
        credit.label("credit"),
    )


def _normal(account: str, *, debit: Decimal, credit: Decimal) -> Decimal:
    return EXACT.subtract(debit, credit) if is_debit_normal(account) else EXACT.subtract(credit, debit)
