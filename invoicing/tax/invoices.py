"""Taxing: what an invoice was taxed with, written down with it and read again."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from invoicing.settling import Settlement, assess, taxable_shares
from invoicing.tables import Invoice, Line
from invoicing.tax.tables import InvoiceLineTax, InvoiceTax


def invoice_tax_id(invoice_id: UUID, position: int) -> UUID:
    """The id of an invoice's tax, by its place on the invoice, from 1."""
    return uuid5(invoice_id, f"tax:{position}")


def write_taxes(session: Session, invoice: Invoice, lines: list[Line], settlement: Settlement) -> None:
    """Write the invoice's taxes and each line's share of them, while it is still a draft. The caller commits."""
    taxes, shares = [], []
    for position, tax in enumerate(settlement.assessment.taxes, start=1):
        key = {"customer_id": invoice.customer_id, "invoice_id": invoice.id}
        of_lines = taxable_shares(settlement, lines, tax)
        tax_id = invoice_tax_id(invoice.id, position)
        taxes.append({
            **key,
            "id": tax_id,
            "position": position,
            "treatment": tax.treatment,
            "tax_rate_id": tax.tax_rate_id,
            "jurisdiction": tax.jurisdiction,
            "name": tax.name,
            "percent": tax.percent,
            "inclusive": tax.inclusive,
            "taxable": sum(taxable for _, taxable, _ in of_lines),
            "amount": tax.amount,
            "legal_note": tax.legal_note,
        })  # fmt: skip
        shares += [
            {**key, "invoice_tax_id": tax_id, "line_id": line.id, "taxable": taxable, "amount": share}
            for line, taxable, share in of_lines
        ]
    if taxes:
        session.execute(insert(InvoiceTax), taxes)
        session.execute(insert(InvoiceLineTax), shares)


def taxes_of(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[InvoiceTax]:
    """What a final invoice was taxed with, in the order in which it is shown."""
    return list(
        session.scalars(
            select(InvoiceTax)
            .where(InvoiceTax.customer_id == customer_id, InvoiceTax.invoice_id == invoice_id)
            .order_by(InvoiceTax.position)
        )
    )


@dataclass(frozen=True, slots=True)
class LineTax:
    """A tax that one line bears: `amount` in major units, rounded, is the line's share of it."""

    title: str
    amount: Decimal
    inclusive: bool
    tax_rate_id: UUID | None
    legal_note: str | None


def taxes_of_line(session: Session, invoice: Invoice, lines: Sequence[Line], *, line_id: UUID) -> list[LineTax]:
    """The taxes that a line bears, as it was taxed; those of a draft's line as it would be now. Writes nothing."""
    if invoice.state == "draft":
        return [
            LineTax(tax.title, tax.shares[line_id], tax.inclusive, tax.tax_rate_id, tax.legal_note)
            for tax in assess(session, invoice, lines).taxes
            if line_id in tax.shares
        ]
    rows = session.execute(
        select(InvoiceTax, InvoiceLineTax.amount)
        .join(
            InvoiceLineTax,
            (InvoiceLineTax.customer_id == InvoiceTax.customer_id)
            & (InvoiceLineTax.invoice_id == InvoiceTax.invoice_id)
            & (InvoiceLineTax.invoice_tax_id == InvoiceTax.id),
        )
        .where(
            InvoiceLineTax.customer_id == invoice.customer_id,
            InvoiceLineTax.invoice_id == invoice.id,
            InvoiceLineTax.line_id == line_id,
        )
        .order_by(InvoiceTax.position)
    )
    return [LineTax(tax.title, amount, tax.inclusive, tax.tax_rate_id, tax.legal_note) for tax, amount in rows]
