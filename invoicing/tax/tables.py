"""Tax, as mapped rows: rates, customers' profiles, and what invoices and credit notes were taxed with.

The rules on them are in migration 0016.
"""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from ledger.money import plain
from ledger.orm import Base


def tax_title(name: str, percent: Decimal, jurisdiction: str, *, treatment: str) -> str:
    """How people read a tax: "VAT 19 % (DE)"; what is not taxed has no percentage."""
    return f"{name} {plain(percent)} % ({jurisdiction})" if treatment == "rate" else f"{name} ({jurisdiction})"


class TaxRate(Base):
    """What a jurisdiction takes: `percent` of the price without tax, from `valid_from` until `valid_until`.

    `jurisdiction` is a country (DE) or a state within it (US-CA). With `item` it is for that item alone, in place of
    the rate of the same name for all others. It never changes; it can end, once.
    """

    __tablename__ = "tax_rates"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    jurisdiction: Mapped[str]
    name: Mapped[str]
    percent: Mapped[Decimal]
    item: Mapped[str | None]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class TaxProfile(Base):
    """Where a customer is taxed, and how, from `valid_from` on; of several from one time the last written counts.

    `status`: taxable, exempt or reverse_charge; the latter two say in `legal_note` why no tax is due.
    """

    __tablename__ = "tax_profiles"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    country: Mapped[str]
    state: Mapped[str | None]
    tax_id: Mapped[str | None]
    tax_id_type: Mapped[str | None]
    status: Mapped[str]
    legal_note: Mapped[str | None]
    valid_from: Mapped[datetime]
    reason: Mapped[str]
    actor: Mapped[str]
    recorded_at: Mapped[datetime]


class InvoiceTax(Base):
    """One tax of a final invoice, copied from its rate and frozen. Amounts rounded, in major units, of either sign.

    `taxable` is the amount without tax that it was taken of. `treatment`: rate, reverse_charge or exempt.
    """

    __tablename__ = "invoice_taxes"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger)
    treatment: Mapped[str]
    tax_rate_id: Mapped[UUID | None]
    jurisdiction: Mapped[str]
    name: Mapped[str]
    percent: Mapped[Decimal]
    inclusive: Mapped[bool]
    taxable: Mapped[Decimal]
    amount: Mapped[Decimal]
    legal_note: Mapped[str | None]

    @property
    def title(self) -> str:
        """As people read it: "VAT 19 % (DE)"."""
        return tax_title(self.name, self.percent, self.jurisdiction, treatment=self.treatment)


class InvoiceLineTax(Base):
    """A line's share of one tax of its invoice."""

    __tablename__ = "invoice_line_taxes"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_tax_id: Mapped[UUID] = mapped_column(primary_key=True)
    line_id: Mapped[UUID] = mapped_column(primary_key=True)
    taxable: Mapped[Decimal]
    amount: Mapped[Decimal]


class CreditNoteTax(Base):
    """How much of one tax of its invoice a credit note gives back."""

    __tablename__ = "credit_note_taxes"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    credit_note_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_tax_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    amount: Mapped[Decimal]
