"""Settling: what a draft's exact total becomes - nothing, carried forward, or an invoice with an amount due."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.credit.lots import Allotment, allot, by_account, lots_of
from invoicing.provider import Provider
from invoicing.tables import Invoice, Line
from invoicing.tax.engine import LAST_INSTANT, TAX_TABLE, UNTAXED, Assessment, Tax, TaxableLine, TaxEngine, checked
from ledger.money import invoice_exponent, round_half_even, split_cents


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one draft's exact total becomes an amount due. All in major units."""

    exact: Decimal
    rounded: Decimal
    """The lines' sum, rounded once: without the taxes that come on top, with those that are inside."""
    allotments: Sequence[Allotment]
    """What each lot of credit pays, in the order in which they are used."""
    outcome: str
    """final (something is due), paid (credits cover all), carried_forward, or empty."""
    assessment: Assessment = UNTAXED
    shares: Sequence[Decimal] = field(default_factory=tuple)
    """What each line has of `rounded`, in the lines' order."""

    @property
    def total(self) -> Decimal:
        """What the invoice is over, taxes and all."""
        return self.rounded + self.assessment.on_top

    @property
    def credits(self) -> dict[str, Decimal]:
        """What each kind of credit pays, by account."""
        return by_account(self.allotments)

    @property
    def applied(self) -> Decimal:
        return sum((allotment.amount for allotment in self.allotments), Decimal(0))

    @property
    def due(self) -> Decimal:
        return self.total - self.applied


def settle(
    session: Session, invoice: Invoice, lines: Sequence[Line], *, provider: Provider, taxes: TaxEngine = TAX_TABLE
) -> Settlement:
    """What finalizing this draft now would do. Writes nothing.

    Taxed by what is valid in the period's last instant. Decided on the total with tax, before credits: exactly nothing
    on the draft ends it empty; negative or below the provider's minimum carries it forward. Credits pay lot by
    lot, as `invoicing.credit.lots` orders them; if what they leave is positive but below the minimum, the whole invoice
    is carried and the credits stay. What is carried is carried without tax, and taxed by the invoice that bills it.

    Raises:
        TooManyTaxes, BadAssessment.
    """
    exact = sum((line.amount for line in lines), Decimal(0))
    exponent = invoice_exponent(invoice.currency)
    rounded = round_half_even(exact, exponent)
    assessment = assess(session, invoice, lines, taxes=taxes)
    minimum = provider.of(session, customer_id=invoice.customer_id).minimum(invoice.currency)
    total = rounded + assessment.on_top
    if exact == 0 and not any(tax.amount for tax in assessment.taxes):
        return Settlement(exact, Decimal(0), (), "empty")
    shares = split_cents(rounded, [line.amount for line in lines], exponent)
    if total < minimum:
        return Settlement(exact, rounded, (), "carried_forward", assessment, shares)
    used = allot(
        lots_of(session, customer_id=invoice.customer_id),
        total=total,
        by_item=_gross_by_item(lines, shares, assessment),
        period_end=invoice.period_end,
        currency=invoice.currency,
    )
    left = total - sum((allotment.amount for allotment in used), Decimal(0))
    if 0 < left < minimum:
        return Settlement(exact, rounded, (), "carried_forward", assessment, shares)
    return Settlement(exact, rounded, used, "final" if left > 0 else "paid", assessment, shares)


def assess(session: Session, invoice: Invoice, lines: Sequence[Line], *, taxes: TaxEngine = TAX_TABLE) -> Assessment:
    """What is due on these lines of a draft, by what is valid in the last instant of its period. Writes nothing.

    Raises:
        TooManyTaxes, BadAssessment.
    """
    if invoice.kind != "cycle":
        return UNTAXED  # credit bought in advance is money for money: what it pays for later is taxed then
    taxable = [
        TaxableLine(line_id=line.id, item=line.item, amount=line.amount, inclusive=line.tax_inclusive) for line in lines
    ]
    assessment = taxes.assess(
        session,
        customer_id=invoice.customer_id,
        currency=invoice.currency,
        at=invoice.period_end - LAST_INSTANT,
        lines=taxable,
    )
    return checked(assessment, taxable, currency=invoice.currency)


def taxable_shares(settlement: Settlement, lines: Sequence[Line], tax: Tax) -> list[tuple[Line, Decimal, Decimal]]:
    """Each line that this tax was taken of, with its amount without tax and its share of the tax, in major units."""
    inside: dict[object, Decimal] = {}
    for other in settlement.assessment.taxes:
        if other.inclusive:
            for line_id, share in other.shares.items():
                inside[line_id] = inside.get(line_id, Decimal(0)) + share
    return [
        (line, rounded - inside.get(line.id, Decimal(0)), tax.shares[line.id])
        for line, rounded in zip(lines, settlement.shares, strict=True)
        if line.id in tax.shares
    ]


def _gross_by_item(
    lines: Sequence[Line], shares: Sequence[Decimal], assessment: Assessment
) -> dict[str | None, Decimal]:
    """What the lines of each item come to, rounded, with the taxes on top of them."""
    gross: dict[str | None, Decimal] = {}
    on_top = [tax for tax in assessment.taxes if not tax.inclusive]
    for line, share in zip(lines, shares, strict=True):
        taxes = sum((tax.shares.get(line.id, Decimal(0)) for tax in on_top), Decimal(0))
        gross[line.item] = gross.get(line.item, Decimal(0)) + share + taxes
    return gross
