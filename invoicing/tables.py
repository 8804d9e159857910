"""The invoicing room's tables, as mapped rows. The rules on them are in the migrations, in Postgres itself."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Identity, SmallInteger, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class InvoicePrefix(Base):
    __tablename__ = "invoice_prefixes"
    prefix: Mapped[str] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID]


class Customer(Base):
    """Who is billed. Currency, time zone and anchor day stand in the customer's books."""

    __tablename__ = "customers"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str]
    name: Mapped[str]
    email: Mapped[str | None]
    collection_method: Mapped[str] = mapped_column(server_default="automatic")
    draft_window_s: Mapped[int | None]
    provider: Mapped[str] = mapped_column(server_default="stripe")
    invoice_prefix: Mapped[str]
    last_invoice_number: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class Item(Base):
    """What was used or sold."""

    __tablename__ = "items"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    unit: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime]


class Price(Base):
    """One version of a price. Never changed: another version is another row. `PriceTerms` says what it means."""

    __tablename__ = "prices"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    item: Mapped[str]
    currency: Mapped[str]
    unit_amount: Mapped[Decimal]
    valid_from: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(deferred=True)
    created_by: Mapped[str] = mapped_column(deferred=True)
    price_list: Mapped[str] = mapped_column(server_default="public")
    customer_id: Mapped[UUID | None] = mapped_column(deferred=True)
    region: Mapped[str | None]
    model: Mapped[str] = mapped_column(server_default="per_unit")
    package_size: Mapped[Decimal | None]
    included: Mapped[Decimal] = mapped_column(server_default="0")
    included_item: Mapped[str | None]
    included_per_unit: Mapped[Decimal] = mapped_column(server_default="0")
    minimum: Mapped[Decimal | None]
    maximum: Mapped[Decimal | None]
    valid_until: Mapped[datetime | None]
    tax_inclusive: Mapped[bool] = mapped_column(server_default="false")
    change_id: Mapped[UUID | None] = mapped_column(deferred=True)


class Invoice(Base):
    """An invoice from draft to paid. Amounts are in major units; `tax` and what follows are set at finalization.

    `total` is the lines' rounded sum and the tax on top of it, `tax`; `tax_included` is inside of it.
    """

    __tablename__ = "invoices"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    generation: Mapped[int] = mapped_column(SmallInteger, server_default="1")
    state: Mapped[str] = mapped_column(server_default="draft")
    currency: Mapped[str]
    version: Mapped[int] = mapped_column(server_default="1")
    compiled_at: Mapped[datetime]
    finalize_after: Mapped[datetime]
    held_at: Mapped[datetime | None]
    held_by: Mapped[str | None]
    hold_reason: Mapped[str | None]
    number: Mapped[str | None]
    number_seq: Mapped[int | None]
    exact_total: Mapped[Decimal | None]
    tax: Mapped[Decimal] = mapped_column(server_default="0")
    tax_included: Mapped[Decimal] = mapped_column(server_default="0")
    total: Mapped[Decimal | None]
    credits_applied: Mapped[Decimal | None]
    amount_due: Mapped[Decimal | None]
    amount_paid: Mapped[Decimal] = mapped_column(server_default="0")
    amount_credited: Mapped[Decimal] = mapped_column(server_default="0")
    finalized_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    provider: Mapped[str | None]

    @property
    def open(self) -> Decimal:
        """What is neither paid nor credited, in major units; 0 before it is final. Given up or void, nobody owes it."""
        return Decimal(0) if self.amount_due is None else self.amount_due - self.amount_credited - self.amount_paid


class Line(Base):
    """What an invoice shows. `amount` is exact; `rounded` is its share of the lines' rounded sum.

    With `tax_inclusive` its taxes are inside of it, else they come on top.
    """

    __tablename__ = "invoice_lines"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    position: Mapped[int]
    contra_account: Mapped[str]
    item: Mapped[str | None]
    price_id: Mapped[UUID | None]
    usage_period_start: Mapped[datetime]
    description: Mapped[str]
    quantity: Mapped[Decimal | None]
    amount: Mapped[Decimal]
    rounded: Mapped[Decimal | None]
    adjustment_id: Mapped[UUID | None]
    tax_inclusive: Mapped[bool] = mapped_column(server_default="false")


class Adjustment(Base):
    """A correction of a draft by staff: who, what, why, and whether a second person agreed or it was undone."""

    __tablename__ = "adjustments"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    kind: Mapped[str]
    line_id: Mapped[UUID | None]
    amount: Mapped[Decimal]
    description: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    entry_id: Mapped[UUID]
    needs_approval: Mapped[bool]
    approved_by: Mapped[str | None]
    approved_at: Mapped[datetime | None]
    undone_by: Mapped[str | None]
    undone_at: Mapped[datetime | None]
    undo_reason: Mapped[str | None]


class HistoryRow(Base):
    """One step in an invoice's life: time, actor, action, reason; a change of state names both states."""

    __tablename__ = "invoice_history"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    from_state: Mapped[str | None]
    to_state: Mapped[str | None]
    reason: Mapped[str | None]
    details: Mapped[dict[str, Any]]


class CreditGrant(Base):
    """A lot of credit, given or bought: who may use it for what until when. What is left of it: `credit_lots`."""

    __tablename__ = "credit_grants"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[str]
    amount: Mapped[Decimal]
    reason: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    currency: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="100")
    expires_at: Mapped[datetime | None]
    items: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    invoice_id: Mapped[UUID | None]
    """The top-up that sold it, whose id it has."""


class CreditUse(Base):
    """What became of a part of a lot: applied to an invoice, expired, revoked; returned gives it back."""

    __tablename__ = "credit_uses"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    grant_id: Mapped[UUID]
    kind: Mapped[str]
    invoice_id: Mapped[UUID | None]
    amount: Mapped[Decimal]
    entry_id: Mapped[UUID]
    at: Mapped[datetime]
    actor: Mapped[str]
    reason: Mapped[str | None]


class RefillRule(Base):
    """Below which prepaid credit a customer buys how much; the last row counts, without amounts nothing is bought."""

    __tablename__ = "refill_rules"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    threshold: Mapped[Decimal | None]
    amount: Mapped[Decimal | None]
    actor: Mapped[str]
    set_at: Mapped[datetime]


class Payment(Base):
    """Money that arrived for an invoice. `applied` is the part that was due; the rest is the customer's, unapplied."""

    __tablename__ = "payments"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    amount: Mapped[Decimal]
    applied: Mapped[Decimal]
    received_at: Mapped[datetime]
    recorded_at: Mapped[datetime]


class PaymentFailure(Base):
    __tablename__ = "payment_failures"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    attempt: Mapped[int]
    code: Mapped[str | None]
    message: Mapped[str | None]
    failed_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime | None]


class PaymentUnderWay(Base):
    """A debit that a bank answers after days: under_way, then paid or failed. It moves no money, `payments` does."""

    __tablename__ = "payments_under_way"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    amount: Mapped[Decimal]
    method: Mapped[str]
    began_at: Mapped[datetime]
    noted_at: Mapped[datetime]
    state: Mapped[str]
    ended_at: Mapped[datetime | None]


class ParkedWork(Base):
    """One customer set aside, with the reason, while all others go on."""

    __tablename__ = "parked_work"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    reason: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default="1")
    parked_at: Mapped[datetime]
    released_at: Mapped[datetime | None]
    released_by: Mapped[str | None]
