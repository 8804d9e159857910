"""Statements: what a customer owes right now and why, read from the same running totals that the invoice is made of."""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from invoicing.credit.lots import usable_credit
from invoicing.customers import CustomerView, get_customer
from invoicing.drafts import InvoiceNotFound
from invoicing.prices.tables import DiscountRow
from invoicing.tables import Invoice, Item, Price
from ledger import accounts
from ledger.money import plain
from ledger.periods import Period, calendar_period
from ledger.tables import UNBILLED_TOTALS, Entry, PeriodRow

Dimension = Literal["app", "region", "day", "item"]


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item's part of a period. `amount` is exact and signed.

    `unit_amount` is None where it came rated, and where its price has tiers or packages.
    """

    contra_account: str
    item: str | None
    name: str
    unit: str
    price_id: UUID | None
    unit_amount: Decimal | None
    usage_period_start: datetime
    quantity: Decimal
    amount: Decimal
    entries: int
    late: bool

    @property
    def carried(self) -> bool:
        """Whether it was carried forward from an earlier invoice."""
        return self.contra_account == accounts.CARRIED


@dataclass(frozen=True, slots=True)
class BreakdownRow:
    """One app's, region's, day's or item's part; `key` is None for what has no such label."""

    key: str | date | None
    amount: Decimal
    quantity: Decimal
    entries: int


@dataclass(frozen=True, slots=True)
class PeriodStatement:
    """One period so far. Amounts exact, in major units; `total` is the sum of `items`, and of every breakdown."""

    customer_id: UUID
    start: datetime
    end: datetime
    time_zone: str
    currency: str
    state: str
    total: Decimal
    items: list[ItemRow] = field(default_factory=list)
    by_app: list[BreakdownRow] = field(default_factory=list)
    by_region: list[BreakdownRow] = field(default_factory=list)
    by_day: list[BreakdownRow] = field(default_factory=list)
    credits: dict[str, Decimal] = field(default_factory=dict)
    last_recorded_at: datetime | None = None

    @property
    def carried_in(self) -> Decimal:
        """The part of `total` that was carried forward from earlier invoices."""
        return sum((row.amount for row in self.items if row.carried), Decimal(0))


def current_period(session: Session, *, customer_id: UUID, now: datetime) -> PeriodStatement:
    """The period that holds `now`, as it would be billed if it ended this moment. Writes nothing.

    Raises:
        CustomerNotFound: there is no such customer.
    """
    customer = get_customer(session, customer_id=customer_id)
    row = session.scalar(
        select(PeriodRow).where(PeriodRow.customer_id == customer_id, PeriodRow.start_at <= now, PeriodRow.end_at > now)
    )
    if row is not None:
        return _statement(session, customer, Period(row.start_at, row.end_at), state=row.state)
    # Nobody needed it yet, so it holds nothing. It will be the calendar's, between its neighbours: the one before may
    # have been billed early, or cut by another anchor day.
    period = calendar_period(now, time_zone=customer.time_zone, anchor_day=customer.anchor_day)
    of_customer = PeriodRow.customer_id == customer_id
    before = session.scalar(select(func.max(PeriodRow.end_at)).where(of_customer, PeriodRow.end_at <= now))
    after = session.scalar(select(func.min(PeriodRow.start_at)).where(of_customer, PeriodRow.start_at > now))
    start = period.start if before is None else max(period.start, before)
    end = period.end if after is None else min(period.end, after)
    return _statement(session, customer, Period(start, end), state="open")


def unbilled_periods(session: Session, *, customer_id: UUID) -> list[PeriodStatement]:
    """Every open period that has charges, the oldest first: what is used and not yet on a draft.

    Raises:
        CustomerNotFound: there is no such customer.
    """
    customer = get_customer(session, customer_id=customer_id)
    rows = session.scalars(
        select(PeriodRow)
        .where(PeriodRow.customer_id == customer_id, PeriodRow.state == "open")
        .order_by(PeriodRow.start_at)
    ).all()
    statements = [_statement(session, customer, Period(row.start_at, row.end_at), state="open") for row in rows]
    return [statement for statement in statements if statement.items]


def invoice_items(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[ItemRow]:
    """The charges of the period that an invoice bills, item by item, without adjustments; a top-up bills none.

    Raises:
        InvoiceNotFound: this customer has no such invoice.
    """
    invoice = _invoice(session, customer_id, invoice_id)
    if invoice.kind == "top_up":
        return []
    return _items(session, _charges(customer_id, invoice.period_start), invoice.period_start)


def period_breakdown(
    session: Session, *, customer_id: UUID, invoice_id: UUID, by: Dimension, item: str | None = None
) -> list[BreakdownRow]:
    """What the period of an invoice is made of, by app, region, day or item; `item` narrows to one item.

    The largest first; days in order. The rows add up to the invoice's lines without adjustments.

    Raises:
        InvoiceNotFound: this customer has no such invoice.
    """
    invoice = _invoice(session, customer_id, invoice_id)
    if invoice.kind == "top_up":
        return []
    charges = _charges(customer_id, invoice.period_start)
    if item is not None:
        charges &= UNBILLED_TOTALS.c.item == item
    return _breakdown(session, charges, by)


def list_entries(
    session: Session,
    *,
    customer_id: UUID,
    period_start: datetime | None = None,
    document_id: UUID | None = None,
    item: str | None = None,
    price_id: UUID | None = None,
    usage_period_start: datetime | None = None,
    before_seq: int | None = None,
    limit: int = 100,
) -> list[Entry]:
    """The customer's journal entries, the newest first, narrowed by what is given; `before_seq` pages.

    `period_start` is that of the period that bills them, `price_id` also that of a discount or a plan's version.

    `limit` is at most 1,000.
    """
    query = select(Entry).where(Entry.customer_id == customer_id)
    if period_start is not None:
        query = query.where(Entry.period_start == period_start)
    if document_id is not None:
        query = query.where(Entry.document_id == document_id)
    if item is not None:
        query = query.where(Entry.item == item)
    if price_id is not None:
        query = query.where(Entry.price_id == price_id)
    if usage_period_start is not None:
        query = query.where(Entry.usage_period_start == usage_period_start)
    if before_seq is not None:
        query = query.where(Entry.seq < before_seq)
    return list(session.scalars(query.order_by(Entry.seq.desc()).limit(min(limit, 1000))))


def _invoice(session: Session, customer_id: UUID, invoice_id: UUID) -> Invoice:
    invoice = session.get(Invoice, (customer_id, invoice_id))
    if invoice is None:
        raise InvoiceNotFound("There is no such invoice. Check the link or the number.")
    return invoice


def _charges(customer_id: UUID, period_start: datetime) -> ColumnElement[bool]:
    view = UNBILLED_TOTALS.c
    return (view.customer_id == customer_id) & (view.period_start == period_start) & view.document_id.is_(None)


def _statement(session: Session, customer: CustomerView, period: Period, *, state: str) -> PeriodStatement:
    charges = _charges(customer.customer_id, period.start)
    items = _items(session, charges, period.start)
    return PeriodStatement(
        customer_id=customer.customer_id,
        start=period.start,
        end=period.end,
        time_zone=customer.time_zone,
        currency=customer.currency,
        state=state,
        total=sum((row.amount for row in items), Decimal(0)),
        items=items,
        by_app=_breakdown(session, charges, "app"),
        by_region=_breakdown(session, charges, "region"),
        by_day=_breakdown(session, charges, "day"),
        credits=usable_credit(session, customer_id=customer.customer_id),
        last_recorded_at=_last_recorded_at(session, customer.customer_id),
    )


def _last_recorded_at(session: Session, customer_id: UUID) -> datetime | None:
    """When we last learned of a charge: entries are numbered in the order in which we learned of them."""
    return session.scalar(
        select(Entry.recorded_at)
        .where(Entry.customer_id == customer_id, Entry.period_start.is_not(None))
        .order_by(Entry.seq.desc())
        .limit(1)
    )


def _items(session: Session, charges: ColumnElement[bool], period_start: datetime) -> list[ItemRow]:
    view = UNBILLED_TOTALS.c
    sums = (
        select(
            view.customer_id,
            view.contra_account,
            view.item,
            view.price_id,
            view.usage_period_start,
            func.sum(view.quantity).label("quantity"),
            func.sum(view.amount).label("amount"),
            func.sum(view.entries).label("entries"),
        )
        .where(charges)
        .group_by(view.customer_id, view.contra_account, view.item, view.price_id, view.usage_period_start)
        .subquery()
    )
    rows = session.execute(
        select(sums, Item.name, Item.unit, Price.unit_amount, DiscountRow.percent)
        .outerjoin(Item, Item.code == sums.c.item)
        .outerjoin(Price, (Price.id == sums.c.price_id) & (Price.model == "per_unit"))
        .outerjoin(DiscountRow, (DiscountRow.customer_id == sums.c.customer_id) & (DiscountRow.id == sums.c.price_id))
        .order_by(sums.c.contra_account == accounts.CARRIED, sums.c.amount.desc(), sums.c.item)
    )
    return [
        ItemRow(
            contra_account=row.contra_account,
            item=row.item,
            name=(row.name or row.item or "Adjustment")
            + ("" if row.percent is None else f", {plain(row.percent)} % off"),
            unit=row.unit or "",
            price_id=row.price_id,
            unit_amount=row.unit_amount,
            usage_period_start=row.usage_period_start,
            quantity=row.quantity,
            amount=row.amount,
            entries=int(row.entries),
            late=row.usage_period_start != period_start and row.contra_account != accounts.CARRIED,
        )
        for row in rows
    ]


def _name(item: str, *, off: Decimal | None) -> str:
    """What a row is called; a discount by what it is taken off, in percent."""
    return item if off is None else f"{item}, {plain(off)} % off"


def _breakdown(session: Session, charges: ColumnElement[bool], by: Dimension) -> list[BreakdownRow]:
    column = UNBILLED_TOTALS.c[by]
    amount = func.sum(UNBILLED_TOTALS.c.amount)
    rows = session.execute(
        select(column, amount, func.sum(UNBILLED_TOTALS.c.quantity), func.sum(UNBILLED_TOTALS.c.entries))
        .where(charges)
        .group_by(column)
        .order_by(column if by == "day" else amount.desc(), column)
    )
    return [BreakdownRow(key, total, quantity, int(entries)) for key, total, quantity, entries in rows]
