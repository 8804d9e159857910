"""What stands behind a line: the entries that add up to it, to the last digit."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from invoicing.tables import Adjustment, Invoice, Item, Line, Price
from ledger import accounts
from ledger.tables import UNBILLED_TOTALS, Entry

ENTRIES_SHOWN = 25
PARTS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Part:
    """One app's part of a line; `app` is None for entries without that label."""

    app: str | None
    region: str | None
    amount: Decimal
    quantity: Decimal
    entries: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """The entries of one line, the newest first, at most ENTRIES_SHOWN of `count`; `total` is the sum of all."""

    entries: list[Entry]
    count: int
    total: Decimal
    parts: list[Part]
    unit: str
    unit_amount: Decimal | None
    next_before: int | None


def signed(entry: Entry, account: str = accounts.UNBILLED) -> Decimal:
    """The entry's amount as it moved the account: positive where it was debited."""
    return entry.amount if entry.debit_account == account else -entry.amount


def evidence(session: Session, line: Line, *, invoice: Invoice, before_seq: int | None = None) -> Evidence:
    """What adds up to this line. Reads sums from the running totals, and one page of entries."""
    condition = _entries_of(session, line, invoice)
    query = select(Entry).where(condition)
    if before_seq is not None:
        query = query.where(Entry.seq < before_seq)
    entries = list(session.scalars(query.order_by(Entry.seq.desc()).limit(ENTRIES_SHOWN + 1)))
    more, entries = len(entries) > ENTRIES_SHOWN, entries[:ENTRIES_SHOWN]
    count, total, parts = _sums(session, line, invoice, entries)
    unit = session.scalar(select(Item.unit).where(Item.code == line.item)) if line.item else None
    price = session.get(Price, line.price_id) if line.price_id else None
    return Evidence(
        entries=entries,
        count=count,
        total=total,
        parts=parts,
        unit=unit or "",
        unit_amount=price.unit_amount if price else None,
        next_before=entries[-1].seq if more else None,
    )


def unit_prices(session: Session, lines: list[Line]) -> dict[UUID, Decimal]:
    """The price of one unit, by price id, for those lines that have one; tiers and packages have none."""
    ids = {line.price_id for line in lines if line.price_id is not None}
    rows = session.execute(select(Price.id, Price.unit_amount).where(Price.id.in_(ids), Price.model == "per_unit"))
    return dict(rows.all())


def units(session: Session, lines: list[Line]) -> dict[str, str]:
    """What one unit of each line's item is, by item."""
    codes = {line.item for line in lines if line.item is not None}
    return dict(session.execute(select(Item.code, Item.unit).where(Item.code.in_(codes))).all())


def _entries_of(session: Session, line: Line, invoice: Invoice) -> ColumnElement[bool]:
    own = Entry.customer_id == invoice.customer_id
    if line.adjustment_id is not None:
        adjustment = session.get_one(Adjustment, (invoice.customer_id, line.adjustment_id))
        return own & (Entry.id == adjustment.entry_id)
    return and_(
        own,
        Entry.period_start == invoice.period_start,
        Entry.document_id.is_(None),
        Entry.item.is_not_distinct_from(line.item),
        Entry.price_id.is_not_distinct_from(line.price_id),
        Entry.usage_period_start == line.usage_period_start,
        or_(
            (Entry.debit_account == accounts.UNBILLED) & (Entry.credit_account == line.contra_account),
            (Entry.credit_account == accounts.UNBILLED) & (Entry.debit_account == line.contra_account),
        ),
    )


def _sums(session: Session, line: Line, invoice: Invoice, entries: list[Entry]) -> tuple[int, Decimal, list[Part]]:
    if line.adjustment_id is not None:
        return len(entries), sum((signed(entry) for entry in entries), Decimal(0)), []
    view = UNBILLED_TOTALS.c
    rows = session.execute(
        select(view.app, view.region, func.sum(view.amount), func.sum(view.quantity), func.sum(view.entries))
        .where(
            view.customer_id == invoice.customer_id,
            view.period_start == invoice.period_start,
            view.document_id.is_(None),
            view.item.is_not_distinct_from(line.item),
            view.price_id.is_not_distinct_from(line.price_id),
            view.usage_period_start == line.usage_period_start,
            view.contra_account == line.contra_account,
        )
        .group_by(view.app, view.region)
        .order_by(func.sum(view.amount).desc(), view.app, view.region)
    )
    parts = [Part(app, region, amount, quantity, int(count)) for app, region, amount, quantity, count in rows]
    total = sum((part.amount for part in parts), Decimal(0))
    return sum(part.entries for part in parts), total, parts
