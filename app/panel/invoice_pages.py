"""What the panel shows of invoices: the list, one invoice, and what stands behind one of its lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.panel import format as formats
from app.panel.aftermath import Happening, credited_of, happenings_of, replacement_of, taken_back_of
from app.panel.wording import Status, status_of
from invoicing.customers import CustomerView
from invoicing.delayed_payments import under_way
from invoicing.drafts import InvoiceNotFound, get_invoice, list_invoices
from invoicing.explaining.of_line import LineExplanation, agreed_lines, explain_line
from invoicing.manual.provider import MANUAL
from invoicing.settling import assess
from invoicing.tables import Adjustment, Invoice, Item, Line, PaymentFailure, PaymentUnderWay, Price
from invoicing.tax.engine import UNTAXED, Tax
from invoicing.tax.tables import InvoiceTax
from ledger import accounts
from ledger.money import invoice_exponent, round_half_even, split_cents
from ledger.tables import UNBILLED_TOTALS

_PAYABLE = ("final", "uncollectible")
LISTED = 100
"""Invoices on the list page: over eight years of months."""


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    """One invoice in a list. `total` is rounded, before credits; of a draft it is the total so far."""

    id: UUID
    title: str
    number: str | None
    total: Decimal
    open_amount: Decimal
    status: Status
    is_payable: bool
    by_transfer: bool
    """Whether it is paid by bank transfer: no page of a provider's takes the money."""


@dataclass(frozen=True, slots=True)
class ShownLine:
    """One line. `kind`: usage, adjustment, carried or credit. `amount` is exact, `shown` its cents of the total."""

    id: UUID
    kind: str
    item: str | None
    description: str
    quantity: Decimal | None
    unit: str
    unit_amount: Decimal | None
    amount: Decimal
    shown: Decimal
    is_priced_by_quantity: bool = False
    """Whether its price has tiers, packages or an allowance, so that no single amount is that of one unit."""


@dataclass(frozen=True, slots=True)
class InvoicePage:
    """One invoice as its page shows it. Amounts in major units, rounded but for `exact_total`."""

    row: InvoiceRow
    invoice: Invoice
    lines: list[ShownLine]
    exact_total: Decimal
    total: Decimal
    """With tax."""
    net: Decimal
    """The lines' rounded sum: without the taxes that come on top."""
    taxes: Sequence[Tax | InvoiceTax]
    credits_applied: Decimal
    amount_due: Decimal
    credited: Decimal
    """What credit notes took off what was to be paid."""
    happenings: list[Happening]
    replacement: Invoice | None
    is_at_provider: bool


@dataclass(frozen=True, slots=True)
class LineShare:
    """A part of a line: what one app or one region used."""

    name: str | None
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class LinePage:
    """What stands behind one line of usage: the same amount by app, by region and by day, exact."""

    line: ShownLine
    apps: list[LineShare]
    regions: list[LineShare]
    by_day: dict[date, Decimal]
    why: LineExplanation


def invoice_rows(session: Session, customer: CustomerView, *, limit: int = LISTED) -> list[InvoiceRow]:
    """The customer's invoices, the newest period first."""
    invoices = list_invoices(session, customer_id=customer.customer_id, limit=limit)
    drafts = [invoice.id for invoice in invoices if invoice.state == "draft"]
    exact = _draft_totals(session, customer.customer_id, drafts)
    failures = _failures(session, customer.customer_id, [i.id for i in invoices if i.state == "final"])
    paid = [invoice.id for invoice in invoices if invoice.state == "paid"]
    credited = credited_of(session, customer.customer_id, paid)
    taken_back = taken_back_of(session, customer.customer_id, paid)
    payable = [invoice.id for invoice in invoices if invoice.state in _PAYABLE]
    waiting = under_way(session, customer_id=customer.customer_id, invoice_ids=payable)
    return [
        _row(
            invoice,
            customer,
            exact_total=exact.get(invoice.id, Decimal(0)),
            failures=failures.get(invoice.id, []),
            credited=credited.get(invoice.id, Decimal(0)),
            waiting=waiting.get(invoice.id, []),
            is_taken_back=invoice.id in taken_back,
            draft_tax=_draft_tax(session, invoice) if invoice.state == "draft" else Decimal(0),
        )
        for invoice in invoices
    ]


def invoice_page(session: Session, customer: CustomerView, *, invoice_id: UUID) -> InvoicePage:
    """One of this customer's invoices.

    Raises:
        InvoiceNotFound: this customer has no such invoice, whoever else may.
    """
    view = get_invoice(session, customer_id=customer.customer_id, invoice_id=invoice_id)
    invoice = view.invoice
    lines = agreed_lines(view)
    exact_total = sum((line.amount for line in lines), Decimal(0))
    credited = credited_of(session, customer.customer_id, [invoice.id]).get(invoice.id, Decimal(0))
    draft = assess(session, invoice, lines) if invoice.state == "draft" else UNTAXED
    row = _row(
        invoice,
        customer,
        exact_total=exact_total,
        failures=view.failures,
        credited=credited,
        waiting=view.under_way,
        is_taken_back=bool(taken_back_of(session, customer.customer_id, [invoice.id])),
        draft_tax=draft.on_top,
    )
    credits_applied = invoice.credits_applied or Decimal(0)
    taxes: Sequence[Tax | InvoiceTax] = view.taxes or draft.taxes
    return InvoicePage(
        row=row,
        invoice=invoice,
        lines=shown_lines(session, invoice, lines),
        exact_total=exact_total,
        total=row.total,
        net=row.total - sum((tax.amount for tax in taxes if not tax.inclusive), Decimal(0)),
        taxes=taxes,
        credits_applied=credits_applied,
        amount_due=row.total - credits_applied if invoice.amount_due is None else invoice.amount_due,
        credited=invoice.amount_credited,
        happenings=happenings_of(session, view),
        replacement=replacement_of(session, invoice),
        is_at_provider=invoice.state in ("final", "paid", "uncollectible")
        and bool(invoice.amount_due)
        and not row.by_transfer,
    )


def line_page(session: Session, customer: CustomerView, *, invoice_id: UUID, line_id: UUID) -> LinePage:
    """What stands behind one line of one of this customer's invoices, read from the totals that it was billed from.

    Raises:
        InvoiceNotFound: this customer has no such invoice, or it has no such line of usage.
    """
    view = get_invoice(session, customer_id=customer.customer_id, invoice_id=invoice_id)
    line = next((line for line in view.lines if line.id == line_id and line.adjustment_id is None), None)
    if line is None:
        raise InvoiceNotFound("There is no such line on this invoice. Go back to the invoice and choose one.")
    shown = next(shown for shown in shown_lines(session, view.invoice, agreed_lines(view)) if shown.id == line_id)
    return LinePage(
        line=shown,
        apps=_shares(session, view.invoice, line, UNBILLED_TOTALS.c.app),
        regions=_shares(session, view.invoice, line, UNBILLED_TOTALS.c.region),
        by_day=_by_day(session, view.invoice, line),
        why=explain_line(
            session, customer_id=customer.customer_id, invoice_id=invoice_id, line_id=line_id, for_staff=False
        ),
    )


def shown_lines(session: Session, invoice: Invoice, lines: Sequence[Line]) -> list[ShownLine]:
    """The lines with their units and prices. Before finalization the cents are shared out as finalization would."""
    decimals = invoice_exponent(invoice.currency)
    amounts = [line.amount for line in lines]
    shares = split_cents(round_half_even(sum(amounts, Decimal(0)), decimals), amounts, decimals)
    prices = price_amounts(session, [line.price_id for line in lines if line.price_id is not None])
    units = item_units(session, [line.item for line in lines if line.item is not None])
    return [
        ShownLine(
            id=line.id,
            kind=_kind(line),
            item=line.item,
            description=line.description,
            quantity=line.quantity if line.quantity and line.item is not None else None,
            unit=units.get(line.item or "", ""),
            unit_amount=prices.get(line.price_id) if line.price_id is not None else None,
            amount=line.amount,
            shown=line.rounded if line.rounded is not None else share,
            is_priced_by_quantity=bool(line.quantity) and line.price_id is not None and line.price_id not in prices,
        )
        for line, share in zip(lines, shares, strict=True)
    ]


def price_amounts(session: Session, price_ids: Sequence[UUID]) -> dict[UUID, Decimal]:
    """What one unit costs, by price; tiers and packages have no such amount."""
    if not price_ids:
        return {}
    return dict(
        session.execute(
            select(Price.id, Price.unit_amount).where(Price.id.in_(set(price_ids)), Price.model == "per_unit")
        ).all()
    )


def item_units(session: Session, codes: Sequence[str]) -> dict[str, str]:
    """In what each item is counted; items whose unit is unknown have an empty one."""
    if not codes:
        return {}
    return dict(session.execute(select(Item.code, Item.unit).where(Item.code.in_(set(codes)))).all())


def _kind(line: Line) -> str:
    if line.contra_account == accounts.CREDITS_PREPAID:
        return "credit"
    if line.adjustment_id is not None:
        return "adjustment"
    return "carried" if line.contra_account == accounts.CARRIED else "usage"


def _row(
    invoice: Invoice,
    customer: CustomerView,
    *,
    exact_total: Decimal,
    failures: list[PaymentFailure],
    credited: Decimal,
    waiting: list[PaymentUnderWay],
    is_taken_back: bool,
    draft_tax: Decimal = Decimal(0),
) -> InvoiceRow:
    by_transfer = (invoice.provider or customer.provider) == MANUAL
    # While the bank is being asked, nobody is to pay it a second time.
    is_payable = invoice.state in _PAYABLE and not waiting
    known = invoice.total if invoice.total is not None else invoice.exact_total
    total = known if known is not None else exact_total
    return InvoiceRow(
        id=invoice.id,
        title="Prepaid credit"
        if invoice.kind == "top_up"
        else formats.month(invoice.period_start, invoice.period_end, customer.time_zone),
        number=invoice.number,
        total=round_half_even(total, invoice_exponent(invoice.currency)) + draft_tax,
        open_amount=invoice.open if is_payable else Decimal(0),
        status=status_of(
            invoice,
            failures,
            collection_method=customer.collection_method,
            time_zone=customer.time_zone,
            credited=credited,
            by_transfer=by_transfer,
            under_way=waiting,
            is_taken_back=is_taken_back,
        ),
        is_payable=is_payable,
        by_transfer=by_transfer,
    )


def _draft_tax(session: Session, invoice: Invoice) -> Decimal:
    """What would come on top of the draft if it became final now."""
    view = get_invoice(session, customer_id=invoice.customer_id, invoice_id=invoice.id)
    return assess(session, invoice, agreed_lines(view)).on_top


def _draft_totals(session: Session, customer_id: UUID, invoice_ids: Sequence[UUID]) -> dict[UUID, Decimal]:
    """What drafts come to, without adjustments that await a second person."""
    waits = Adjustment.needs_approval & Adjustment.approved_at.is_(None) & Adjustment.undone_at.is_(None)
    is_own = (Adjustment.customer_id == Line.customer_id) & (Adjustment.id == Line.adjustment_id)
    rows = session.execute(
        select(Line.invoice_id, func.sum(Line.amount))
        .outerjoin(Adjustment, is_own)
        .where(Line.customer_id == customer_id, Line.invoice_id.in_(invoice_ids), waits.is_not(True))
        .group_by(Line.invoice_id)
    )
    return dict(rows.all())


def _failures(session: Session, customer_id: UUID, invoice_ids: Sequence[UUID]) -> dict[UUID, list[PaymentFailure]]:
    found: dict[UUID, list[PaymentFailure]] = {}
    query = (
        select(PaymentFailure)
        .where(PaymentFailure.customer_id == customer_id, PaymentFailure.invoice_id.in_(invoice_ids))
        .order_by(PaymentFailure.attempt, PaymentFailure.failed_at)
    )
    for failure in session.scalars(query):
        found.setdefault(failure.invoice_id, []).append(failure)
    return found


def _charges_of(invoice: Invoice, line: Line) -> ColumnElement[bool]:
    view = UNBILLED_TOTALS.c
    return (
        (view.customer_id == invoice.customer_id)
        & (view.period_start == invoice.period_start)
        & view.document_id.is_(None)
        & (view.contra_account == line.contra_account)
        & view.item.is_not_distinct_from(line.item)
        & view.price_id.is_not_distinct_from(line.price_id)
        & (view.usage_period_start == line.usage_period_start)
    )


def _shares(session: Session, invoice: Invoice, line: Line, by: ColumnElement[str]) -> list[LineShare]:
    view = UNBILLED_TOTALS.c
    amount = func.sum(view.amount)
    rows = session.execute(
        select(by, func.sum(view.quantity), amount)
        .where(_charges_of(invoice, line))
        .group_by(by)
        .order_by(amount.desc(), by)
    )
    return [LineShare(*row) for row in rows]


def _by_day(session: Session, invoice: Invoice, line: Line) -> dict[date, Decimal]:
    view = UNBILLED_TOTALS.c
    rows = session.execute(
        select(view.day, func.sum(view.amount)).where(_charges_of(invoice, line)).group_by(view.day).order_by(view.day)
    )
    return dict(rows.all())
