"""Explaining: from any amount to the entries behind it, and from one entry to everything that the books know of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Date, Select, Text, case, cast, func, literal, null, select, union_all
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.accounts import is_debit_normal
from ledger.books import BooksNotFound
from ledger.errors import LedgerError
from ledger.money import EXACT, plain
from ledger.posting import MAX_BATCH
from ledger.seal_tables import Seal
from ledger.selections import Selection, journal_condition, kept_totals
from ledger.tables import Books, Document, Entry, PeriodRow

PAGE = 1_000
"""Entries read at a time when all of them are wanted."""

LEGS_KEPT = 1_000
"""Legs of one transaction that a story holds; it says how many there are."""


class TotalsDisagree(LedgerError):
    """The entries do not add up to what the running totals say. Run `billing ledger check` before billing anything."""

    code = "totals_disagree"


class EntryNotFound(LedgerError):
    """These books have no such entry. Check the id."""

    code = "unknown_entry"


@dataclass(frozen=True, slots=True)
class Part:
    """The part of an amount that has this item, day or contra account; exact and signed as the whole is."""

    key: str | date | None
    amount: Decimal
    quantity: Decimal
    entries: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """What adds up to an amount, exact, in major units of `currency`.

    Signed in the account's normal direction, as balances are: positive raises the balance. `total` is the sum of all
    `count` entries, and was compared with the running totals, as `quantity` was. `entries` is one page of them in
    order of `seq`; the next one begins after `next_after`.
    """

    customer_id: UUID
    currency: str
    selection: Selection
    total: Decimal
    quantity: Decimal
    count: int
    by_item: list[Part]
    by_day: list[Part]
    by_contra: list[Part]
    entries: list[Entry]
    next_after: int | None


def explain_amount(
    session: Session, *, customer_id: UUID, selection: Selection, limit: int = 100, after_seq: int = 0
) -> Explanation:
    """The entries behind an amount, their sum, and what it is made of. Writes nothing.

    Adds up every entry and compares the sum with the running totals, in one statement, so that postings which happen
    meanwhile count in both or in neither. `limit` (at most PAGE) entries are returned, those after `after_seq`.

    Raises:
        BooksNotFound: there is no such customer.
        TotalsDisagree: sum, quantity or number of the entries is not what the running totals say.
    """
    currency = session.scalar(select(Books.currency).where(Books.customer_id == customer_id))
    if currency is None:
        raise BooksNotFound(f"There are no books for customer {customer_id}. Check the id.")
    rows = session.execute(_sums(customer_id, selection)).all()
    found = {part: [row for row in rows if row.part == part] for part in ("journal", "item", "day", "contra")}
    (journal,) = found["journal"]
    total, quantity = Decimal(journal.amount), Decimal(journal.quantity)
    _compare((total, quantity, journal.entries), found["contra"])
    # Later entries are in no sum above, so they are in no page either.
    page = list(
        session.scalars(_pages(customer_id, selection, after_seq).where(Entry.seq <= journal.last_seq).limit(limit + 1))
    )
    by_item = [Part(row.item, row.amount, row.quantity, int(row.entries)) for row in found["item"]]
    by_contra = [Part(row.contra, row.amount, row.quantity, int(row.entries)) for row in found["contra"]]
    return Explanation(
        customer_id=customer_id,
        currency=currency,
        selection=selection,
        total=total,
        quantity=quantity,
        count=int(journal.entries),
        by_item=sorted(by_item, key=_largest_first),
        by_day=[Part(row.day, row.amount, row.quantity, int(row.entries)) for row in found["day"]],
        by_contra=sorted(by_contra, key=_largest_first),
        entries=page[:limit],
        next_after=page[limit - 1].seq if len(page) > limit else None,
    )


def stream_entries(
    session: Session, *, customer_id: UUID, selection: Selection, after_seq: int = 0, page_size: int = PAGE
) -> Iterator[Entry]:
    """Every entry of the selection in order of `seq`, a page at a time: a million of them fill no memory."""
    while True:
        page = list(session.scalars(_pages(customer_id, selection, after_seq).limit(page_size)))
        yield from page
        if len(page) < page_size:
            return
        after_seq = page[-1].seq


def signed_amount(entry: Entry, account: str) -> Decimal:
    """The entry's amount as it moved this account, in the account's normal direction."""
    return entry.amount if (entry.debit_account == account) == is_debit_normal(account) else -entry.amount


def _largest_first(part: Part) -> tuple[Decimal, str]:
    return -part.amount, str(part.key)


def _compare(journal: tuple[Decimal, Decimal, int], totals: Sequence[Any]) -> None:
    kept = (
        _add(row.amount for row in totals),
        _add(row.quantity for row in totals),
        sum(int(row.entries) for row in totals),
    )
    if kept != journal:
        raise TotalsDisagree(
            f"{journal[2]:,} entries add up to {plain(journal[0])} (quantity {plain(journal[1])}), but the running "
            f"totals hold {plain(kept[0])} (quantity {plain(kept[1])}) from {kept[2]:,} entries: somebody or something "
            "wrote past the guards. Run `billing ledger check` before anything is billed."
        )


def _add(amounts: Iterator[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def _sums(customer_id: UUID, selection: Selection) -> Select[Any]:
    """One row of part "journal", and one for each item, day and contra account of the running totals."""
    entries = Entry.__table__
    normal = 1 if is_debit_normal(selection.account) else -1
    is_debit = entries.c.debit_account == selection.account
    sign = case((is_debit, normal), else_=-normal)
    journal = select(
        literal("journal").label("part"),
        cast(null(), Text).label("item"),
        cast(null(), Date).label("day"),
        cast(null(), Text).label("contra"),
        func.coalesce(func.sum(entries.c.amount * sign), 0).label("amount"),
        func.coalesce(func.sum(entries.c.quantity * sign), 0).label("quantity"),
        func.count().label("entries"),
        func.coalesce(func.max(entries.c.seq), 0).label("last_seq"),
    ).where(journal_condition(customer_id, selection))
    kept = kept_totals(customer_id, selection, normal=normal)
    keys = {"item": kept.c.item, "day": kept.c.day, "contra": kept.c.contra}
    parts = [
        select(
            literal(name),
            *(column if other == name else cast(null(), column.type) for other, column in keys.items()),
            func.sum(kept.c.amount),
            func.sum(kept.c.quantity),
            func.sum(kept.c.entries),
            literal(0),
        ).group_by(key)
        for name, key in keys.items()
    ]
    found = union_all(journal, *parts).subquery()
    return select(found).order_by(found.c.part, found.c.day)


def _pages(customer_id: UUID, selection: Selection, after_seq: int) -> Select[Entry]:
    return (
        select(Entry).where(journal_condition(customer_id, selection), Entry.seq > after_seq).order_by(Entry.seq.asc())
    )


@dataclass(frozen=True, slots=True)
class SealedRange:
    """The range of one book's entries, by `seq`, that was sealed together."""

    first_seq: int
    last_seq: int
    sealed_at: datetime


Placement = Literal["in time", "late", "carried"]


@dataclass(frozen=True, slots=True)
class EntryStory:
    """One entry and what the books know of its cause.

    `legs` are the other entries of its transaction, in order of `seq`, at most LEGS_KEPT of `leg_count`. `placement`
    says how its period came about, None for entries of no period. `sealed` is None for what no seal covers yet.
    """

    entry: Entry
    currency: str
    holder: str
    legs: list[Entry]
    leg_count: int
    reverses: Entry | None
    reversed_by: Entry | None
    document: Document | None
    period: PeriodRow | None
    usage_period: PeriodRow | None
    placement: Placement | None
    sealed: SealedRange | None


def explain_entry(session: Session, *, customer_id: UUID, entry_id: UUID) -> EntryStory:
    """The entry with the other legs of its transaction, what it reverses or is reversed by, document and period.

    Raises:
        EntryNotFound: these books have no such entry.
    """
    entry = session.get(Entry, (customer_id, entry_id))
    if entry is None:
        raise EntryNotFound(f"The books of {customer_id} have no entry {entry_id}. Check the id.")
    books = session.get_one(Books, customer_id)
    legs = [leg for leg in _legs(session, entry) if leg.id != entry.id]
    document = session.get(Document, (customer_id, entry.document_id)) if entry.document_id else None
    period = session.get(PeriodRow, (customer_id, entry.period_start)) if entry.period_start else None
    used = session.get(PeriodRow, (customer_id, entry.usage_period_start)) if entry.usage_period_start else None
    return EntryStory(
        entry=entry,
        currency=books.currency,
        holder=books.holder,
        legs=legs[:LEGS_KEPT],
        leg_count=len(legs),
        reverses=session.get(Entry, (customer_id, entry.reverses_id)) if entry.reverses_id else None,
        reversed_by=session.scalar(
            select(Entry).where(Entry.customer_id == customer_id, Entry.reverses_id == entry.id)
        ),
        document=document,
        period=period,
        usage_period=used,
        placement=_placement(entry),
        sealed=_sealed(session, entry),
    )


def _sealed(session: Session, entry: Entry) -> SealedRange | None:
    row = session.execute(
        select(Seal.first_seq, Seal.last_seq, Seal.sealed_at)
        .where(Seal.customer_id == entry.customer_id, Seal.first_seq <= entry.seq)
        .order_by(Seal.first_seq.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None or row.last_seq < entry.seq else SealedRange(*row)


def _placement(entry: Entry) -> Placement | None:
    if entry.period_start is None:
        return None
    if accounts.CARRIED in (entry.debit_account, entry.credit_account):
        return "carried"
    return "in time" if entry.period_start == entry.usage_period_start else "late"


def _legs(session: Session, entry: Entry) -> list[Entry]:
    """Every entry of the transaction, this one too.

    They were posted under one lock, so they lie close together: within one batch of each other. Looking there needs no
    index on the transaction, which would cost every posting; it goes on for as long as the next batch has some.
    """
    low, high = entry.seq - MAX_BATCH, entry.seq + MAX_BATCH
    while True:
        found = list(
            session.scalars(
                select(Entry)
                .where(
                    Entry.customer_id == entry.customer_id,
                    Entry.seq.between(low, high),
                    Entry.transaction_id == entry.transaction_id,
                )
                .order_by(Entry.seq)
            )
        )
        wider = found[0].seq - MAX_BATCH, found[-1].seq + MAX_BATCH
        if wider == (low, high):
            return found
        low, high = wider


def find_entries(
    session: Session, *, ids: Sequence[UUID], customer_id: UUID | None = None, limit: int = 2
) -> list[tuple[UUID, UUID]]:
    """`(customer_id, id)` of up to `limit` entries with one of these ids, in all books or in one customer's.

    Two customers may have an entry with the same id: it is made of the source's event alone. Without a customer the
    primary key, which begins with it, is tried for each one: a second or so for 100,000 customers.
    """
    # The inner limit keeps Postgres from turning the look-ups, one for each of the books, into a scan of the journal.
    inner = (
        select(Entry.customer_id, Entry.id)
        .where(Entry.customer_id == Books.customer_id, Entry.id.in_(ids))
        .correlate(Books)
        .limit(limit)
        .lateral()
    )
    query = select(inner.c.customer_id, inner.c.id).select_from(Books).join(inner, literal(True))
    if customer_id is not None:
        query = query.where(Books.customer_id == customer_id)
    return [(found, entry_id) for found, entry_id in session.execute(query.limit(limit))]


def find_transaction(
    session: Session, *, transaction_id: UUID, customer_id: UUID | None = None
) -> list[tuple[UUID, UUID]]:
    """`(customer_id, id)` of one entry of this transaction for each of up to two customers who have it.

    No index knows transactions, so without a customer this reads the whole journal: a second or so per ten million.
    """
    query = select(Entry.customer_id, func.min(cast(Entry.id, Text))).where(Entry.transaction_id == transaction_id)
    if customer_id is not None:
        query = query.where(Entry.customer_id == customer_id)
    rows = session.execute(query.group_by(Entry.customer_id).limit(2))
    return [(found, UUID(entry_id)) for found, entry_id in rows]
