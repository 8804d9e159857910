"""Tax given back: a credit note's part of each tax of its invoice, so that all notes together give back exactly all."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from invoicing.movements.tables import CreditNote
from invoicing.tables import Invoice
from invoicing.tax.engine import rounded
from invoicing.tax.invoices import taxes_of
from invoicing.tax.tables import CreditNoteTax, InvoiceTax
from ledger.money import invoice_exponent


@dataclass(frozen=True, slots=True)
class TaxGivenBack:
    """How much of one tax a credit note gives back: rounded, in major units, of the tax's own sign."""

    tax: InvoiceTax
    amount: Decimal


def give_back(session: Session, *, invoice: Invoice, note: CreditNote) -> list[TaxGivenBack]:
    """Write the note's part of each tax of the invoice. The note is written, its entries are not; the caller commits.

    Of each tax the notes up to this one give back what is their share of the invoice, rounded half-even: so the last
    one gives back what is left, to the minor unit, however many there are. A void note counts no more. The caller
    holds `lock_invoice`.
    """
    total = invoice.total or Decimal(0)
    credited = session.scalar(
        select(func.sum(CreditNote.amount)).where(
            CreditNote.customer_id == invoice.customer_id,
            CreditNote.invoice_id == invoice.id,
            CreditNote.voided_at.is_(None),
        )
    )
    share = Fraction(credited or 0) / Fraction(total)
    before = _given_back(session, invoice)
    parts = []
    for tax in taxes_of(session, customer_id=invoice.customer_id, invoice_id=invoice.id):
        target = rounded(Fraction(tax.amount) * share, invoice_exponent(invoice.currency))
        part = target - before.get(tax.id, Decimal(0))
        # After a note became void the others may have given back a unit more than their share: then nothing is added.
        if part * tax.amount > 0:
            parts.append(TaxGivenBack(tax, part))
    if parts:
        session.execute(
            insert(CreditNoteTax),
            [
                {
                    "customer_id": invoice.customer_id,
                    "credit_note_id": note.id,
                    "invoice_id": invoice.id,
                    "invoice_tax_id": part.tax.id,
                    "amount": part.amount,
                }
                for part in parts
            ],
        )
    return parts


def _given_back(session: Session, invoice: Invoice) -> dict[UUID, Decimal]:
    rows = session.execute(
        select(CreditNoteTax.invoice_tax_id, func.sum(CreditNoteTax.amount).label("amount"))
        .join(
            CreditNote,
            (CreditNote.customer_id == CreditNoteTax.customer_id) & (CreditNote.id == CreditNoteTax.credit_note_id),
        )
        .where(
            CreditNoteTax.customer_id == invoice.customer_id,
            CreditNoteTax.invoice_id == invoice.id,
            CreditNote.voided_at.is_(None),
        )
        .group_by(CreditNoteTax.invoice_tax_id)
    )
    return {row.invoice_tax_id: row.amount for row in rows}


def credit_note_taxes_of(session: Session, *, note: CreditNote) -> list[TaxGivenBack]:
    """What a credit note gave back, tax by tax, in the invoice's order; void or not."""
    rows = session.execute(
        select(InvoiceTax, CreditNoteTax.amount)
        .join(
            CreditNoteTax,
            (CreditNoteTax.customer_id == InvoiceTax.customer_id)
            & (CreditNoteTax.invoice_id == InvoiceTax.invoice_id)
            & (CreditNoteTax.invoice_tax_id == InvoiceTax.id),
        )
        .where(CreditNoteTax.customer_id == note.customer_id, CreditNoteTax.credit_note_id == note.id)
        .order_by(InvoiceTax.position)
    )
    return [TaxGivenBack(tax, amount) for tax, amount in rows]
