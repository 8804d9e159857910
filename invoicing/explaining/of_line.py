"""Explaining a line of an invoice: its charge, its share of the rounded total, its taxes, and which credits paid."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.credit.lots import Lot, grants_left, lots_of
from invoicing.drafts import InvoiceNotFound, InvoiceView, get_invoice
from invoicing.explaining.charges import ZERO, Charge
from invoicing.explaining.of_charge import ChargeExplanation, exact_sum, explain_charge
from invoicing.provider import Provider
from invoicing.settling import Settlement, assess, settle, taxable_shares
from invoicing.statements import ItemRow, PeriodStatement
from invoicing.tables import Adjustment, CreditUse, Invoice, Line
from invoicing.tax.engine import LAST_INSTANT, Tax
from invoicing.tax.profiles import profile_at
from invoicing.tax.tables import InvoiceLineTax, InvoiceTax, TaxRate
from ledger import accounts
from ledger.money import EXACT, invoice_exponent, round_half_even, split_cents
from ledger.tables import Entry

ORDER_OF_CREDIT = (
    "The lowest priority number pays first; then what expires first; then promotional, goodwill, prepaid; then the "
    "oldest. A lot pays only for periods that end before it expires, and only for its items."
)


@dataclass(frozen=True, slots=True)
class Rounding:
    """A line's share of the rounded sum: `floor` whole minor units, or one more, where the largest fractions are."""

    exact_total: Decimal
    rounded_total: Decimal
    floor: Decimal
    share: Decimal
    unit: Decimal

    @property
    def got_one_more(self) -> bool:
        return self.share > self.floor


@dataclass(frozen=True, slots=True)
class TaxExplained:
    """One tax that a line bears: `amount` is its share of `of_all`, which was rounded once for the whole invoice."""

    treatment: str
    title: str
    jurisdiction: str
    percent: Decimal
    inclusive: bool
    taxable: Decimal
    amount: Decimal
    of_all: Decimal
    legal_note: str | None
    valid_from: datetime | None
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class CreditExplained:
    """What one lot paid of an invoice, in the order in which they pay; without `lot.id` it is of no lot."""

    lot: Lot
    amount: Decimal


@dataclass(frozen=True, slots=True)
class LineExplanation:
    """One line. A correction has an `adjustment` and no charge, credit that was bought neither."""

    invoice: Invoice
    line: Line
    charge: ChargeExplanation | None
    adjustment: Adjustment | None
    rounding: Rounding | None
    taxes: Sequence[TaxExplained]
    untaxed: str | None
    """Why it bears no tax, where it bears none."""
    credits: Sequence[CreditExplained]
    """Which credit paid for the invoice as a whole, or would pay for the draft."""

    @property
    def adds_up(self) -> bool:
        """Whether everything behind it comes to the line's amount, to the last digit."""
        if self.charge is not None:
            return self.charge.adds_up and self.charge.charge.amount == self.line.amount
        return self.adjustment is None or self.adjustment.amount == self.line.amount


def explain_line(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    line_id: UUID,
    provider: Provider | None = None,
    for_staff: bool = True,
) -> LineExplanation:
    """Why a line is what it is. Writes nothing.

    With a `provider` a draft says which credit would pay for it. Without `for_staff` it reads what the customer's own
    panel may read: no reasons, no names, and no correction that awaits a second person.

    Raises:
        InvoiceNotFound: there is no such line on such an invoice of this customer.
    """
    view = get_invoice(session, customer_id=customer_id, invoice_id=invoice_id)
    lines = view.lines if for_staff else agreed_lines(view)
    line = next((line for line in lines if line.id == line_id), None)
    if line is None:
        raise InvoiceNotFound("There is no such line on this invoice. Go back to the invoice and choose one.")
    invoice = view.invoice
    adjustment = next((found for found in view.adjustments if found.id == line.adjustment_id), None)
    charge = None
    if line.adjustment_id is None and invoice.kind == "cycle":
        charge = explain_charge(session, charge_of(line, invoice), for_staff=for_staff)
    taxes = _taxes(session, invoice, lines, line)
    return LineExplanation(
        invoice=invoice,
        line=line,
        charge=charge,
        adjustment=adjustment,
        rounding=_rounding(invoice, lines, line),
        taxes=taxes,
        untaxed=None if taxes else _why_untaxed(session, invoice),
        credits=_credits(session, view, provider),
    )


def explain_row(
    session: Session, statement: PeriodStatement, *, row_id: UUID, for_staff: bool = True
) -> ChargeExplanation | None:
    """Why a row of a period so far is what it is; None if the period has no such row. Writes nothing."""
    for row in statement.items:
        charge = charge_of_row(statement, row)
        if charge.row_id == row_id:
            return explain_charge(session, charge, for_staff=for_staff)
    return None


def charge_of(line: Line, invoice: Invoice) -> Charge:
    """The charge that a line bills, which is no correction and no credit that was bought."""
    return Charge(
        customer_id=invoice.customer_id,
        currency=invoice.currency,
        period_start=invoice.period_start,
        usage_period_start=line.usage_period_start,
        contra_account=line.contra_account,
        item=line.item,
        price_id=line.price_id,
        amount=line.amount,
        quantity=line.quantity or ZERO,
    )


def charge_of_row(statement: PeriodStatement, row: ItemRow) -> Charge:
    """The charge that a row of a period so far shows; its `row_id` names it."""
    return Charge(
        customer_id=statement.customer_id,
        currency=statement.currency,
        period_start=statement.start,
        usage_period_start=row.usage_period_start,
        contra_account=row.contra_account,
        item=row.item,
        price_id=row.price_id,
        amount=row.amount,
        quantity=row.quantity or ZERO,
    )


def agreed_lines(view: InvoiceView) -> list[Line]:
    """The lines without corrections that await a second person: until then they are nothing to tell a customer."""
    waiting = {
        adjustment.id
        for adjustment in view.adjustments
        if adjustment.needs_approval and adjustment.approved_at is None and adjustment.undone_at is None
    }
    return [line for line in view.lines if line.adjustment_id not in waiting]


def _rounding(invoice: Invoice, lines: Sequence[Line], line: Line) -> Rounding | None:
    """None for an invoice that was never rounded, since it was carried forward."""
    exponent = invoice_exponent(invoice.currency)
    unit = Decimal(1).scaleb(-exponent)
    exact = exact_sum(each.amount for each in lines)
    if invoice.state == "draft":
        shares = split_cents(round_half_even(exact, exponent), [each.amount for each in lines], exponent)
    elif all(each.rounded is not None for each in lines):
        shares = [each.rounded or ZERO for each in lines]
    else:
        return None
    return Rounding(
        exact_total=exact,
        rounded_total=exact_sum(shares),
        floor=line.amount.quantize(unit, rounding=ROUND_FLOOR, context=EXACT),
        share=shares[[each.id for each in lines].index(line.id)],
        unit=unit,
    )


def _taxes(session: Session, invoice: Invoice, lines: Sequence[Line], line: Line) -> list[TaxExplained]:
    """The taxes that the line bears: as it was taxed, or of a draft's line as it would be now."""
    if invoice.state == "draft":
        return _taxes_of_draft(session, invoice, lines, line)
    rows = session.execute(
        select(InvoiceTax, InvoiceLineTax.taxable, InvoiceLineTax.amount)
        .join(
            InvoiceLineTax,
            (InvoiceLineTax.customer_id == InvoiceTax.customer_id)
            & (InvoiceLineTax.invoice_id == InvoiceTax.invoice_id)
            & (InvoiceLineTax.invoice_tax_id == InvoiceTax.id),
        )
        .where(
            InvoiceLineTax.customer_id == invoice.customer_id,
            InvoiceLineTax.invoice_id == invoice.id,
            InvoiceLineTax.line_id == line.id,
        )
        .order_by(InvoiceTax.position)
    ).all()
    return _told(session, [(tax, taxable, amount) for tax, taxable, amount in rows])


def _taxes_of_draft(session: Session, invoice: Invoice, lines: Sequence[Line], line: Line) -> list[TaxExplained]:
    exponent = invoice_exponent(invoice.currency)
    assessment = assess(session, invoice, lines)
    exact = exact_sum(each.amount for each in lines)
    rounded = round_half_even(exact, exponent)
    shares = split_cents(rounded, [each.amount for each in lines], exponent)
    settlement = Settlement(exact, rounded, (), "final", assessment, shares)
    found = [
        (tax, taxable, amount)
        for tax in assessment.taxes
        for of, taxable, amount in taxable_shares(settlement, lines, tax)
        if of.id == line.id
    ]
    return _told(session, found)


def _told(session: Session, found: Sequence[tuple[Tax | InvoiceTax, Decimal, Decimal]]) -> list[TaxExplained]:
    """Each tax with what it was taken of and the line's share of it, and since when its rate holds."""
    wanted = {tax.tax_rate_id for tax, _, _ in found if tax.tax_rate_id is not None}
    rows = session.execute(select(TaxRate.id, TaxRate.valid_from, TaxRate.valid_until).where(TaxRate.id.in_(wanted)))
    validity: dict[UUID | None, tuple[datetime, datetime | None]] = {row.id: (row[1], row[2]) for row in rows}
    return [
        TaxExplained(
            treatment=tax.treatment,
            title=tax.title,
            jurisdiction=tax.jurisdiction,
            percent=tax.percent,
            inclusive=tax.inclusive,
            taxable=taxable,
            amount=amount,
            of_all=tax.amount,
            legal_note=tax.legal_note,
            valid_from=validity[tax.tax_rate_id][0] if tax.tax_rate_id in validity else None,
            valid_until=validity[tax.tax_rate_id][1] if tax.tax_rate_id in validity else None,
        )
        for tax, taxable, amount in found
    ]


def _why_untaxed(session: Session, invoice: Invoice) -> str:
    if invoice.kind != "cycle":
        return "Credit bought in advance bears no tax: what it pays for is taxed then."
    if invoice.state == "carried_forward":
        return "What is carried forward bears no tax: the invoice that bills it is taxed."
    profile = profile_at(session, customer_id=invoice.customer_id, at=invoice.period_end - LAST_INSTANT)
    if profile is None:
        return "No place of taxation was known at the end of the period, so there is no tax."
    place = profile.country + (f"-{profile.state}" if profile.state else "")
    return f"No tax rate of {place} held for it at the end of the period, so there is no tax."


def _credits(session: Session, view: InvoiceView, provider: Provider | None) -> list[CreditExplained]:
    invoice = view.invoice
    customer_id = invoice.customer_id
    if invoice.state == "draft":
        if provider is None:
            return []
        allotments = settle(session, invoice, view.lines, provider=provider).allotments
        lots = {(lot.account, lot.id): lot for lot in lots_of(session, customer_id=customer_id)}
        return [CreditExplained(lots[found.account, found.grant_id], found.amount) for found in allotments]
    if not invoice.credits_applied:
        return []
    used: dict[UUID, Decimal] = dict(
        session.execute(
            select(CreditUse.grant_id, CreditUse.amount).where(
                CreditUse.customer_id == customer_id, CreditUse.invoice_id == invoice.id, CreditUse.kind == "applied"
            )
        ).all()
    )
    lots_used = [lot for lot in grants_left(session, customer_id=customer_id, also_empty=True) if lot.id in used]
    found = [CreditExplained(lot, used[lot.id]) for lot in lots_used if lot.id is not None]
    # What an account held beyond its lots, such as an opening balance, pays last.
    paid = session.execute(
        select(Entry.debit_account, func.sum(Entry.amount))
        .where(
            Entry.customer_id == customer_id,
            Entry.document_id == invoice.id,
            Entry.debit_account.in_(accounts.CREDITS),
            Entry.credit_account == accounts.RECEIVABLE,
        )
        .group_by(Entry.debit_account)
        .order_by(Entry.debit_account)
    ).all()
    for account, amount in paid:
        beyond = amount - exact_sum(one.amount for one in found if one.lot.account == account)
        if beyond > 0:
            found.append(CreditExplained(Lot(None, account, beyond, ZERO), beyond))
    return found
