"""Collection orders: a final invoice as whoever collects it is to see it, with applied credits as negative lines."""

from decimal import Decimal
from uuid import UUID, uuid5

from invoicing.provider import CollectionOrder, OrderLine, OrderTax
from invoicing.settling import Settlement, taxable_shares
from invoicing.tables import Customer, Invoice, Line
from ledger import accounts

_CREDIT_NAMES = {
    accounts.CREDITS_PROMOTIONAL: "Promotional credit",
    accounts.CREDITS_GOODWILL: "Goodwill credit",
    accounts.CREDITS_PREPAID: "Prepaid credit",
}


def order_of(invoice: Invoice, lines: list[Line], settlement: Settlement, customer: Customer) -> CollectionOrder:
    """The order for this invoice, which has its number, and whose lines have their shares of the rounded sum."""
    taxes: dict[UUID, list[OrderTax]] = {}
    for tax in settlement.assessment.taxes:
        for line, taxable, share in taxable_shares(settlement, lines, tax):
            taxes.setdefault(line.id, []).append(
                OrderTax(
                    name=tax.name,
                    jurisdiction=tax.jurisdiction,
                    percent=tax.percent,
                    inclusive=tax.inclusive,
                    taxable=taxable,
                    amount=share,
                    treatment=tax.treatment,
                )
            )
    order_lines = [
        OrderLine(
            line_id=line.id,
            item=line.item,
            description=line.description,
            amount=line.rounded if line.rounded is not None else Decimal(0),
            period_start=invoice.period_start,
            period_end=invoice.period_end,
            taxes=tuple(taxes.get(line.id, ())),
        )
        for line in lines
    ]
    order_lines += [
        OrderLine(
            line_id=uuid5(invoice.id, account),
            item=None,
            description=_CREDIT_NAMES[account],
            amount=-amount,
            period_start=invoice.period_start,
            period_end=invoice.period_end,
            is_credit=True,
        )
        for account, amount in settlement.credits.items()
    ]
    if invoice.number is None:
        raise AssertionError("an order is written after the number is given")
    return CollectionOrder(
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        number=invoice.number,
        currency=invoice.currency,
        amount_due=settlement.due,
        collection_method=customer.collection_method,
        period_start=invoice.period_start,
        period_end=invoice.period_end,
        lines=order_lines,
        customer_name=customer.name,
        customer_email=customer.email,
        customer_external_id=customer.external_id,
        legal_notes=settlement.assessment.legal_notes,
    )
