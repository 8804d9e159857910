"""What happens to a final invoice, as mapped rows. The rules on them are in migrations 0007, 0012 and 0020."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Integer
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class Movement(Base):
    """What staff or a program began with a final invoice.

    `kind`: credit_note, refund_unapplied, keep_unapplied, void, write_off, outside_payment, accept_dispute.
    `state`: awaiting_approval -> working -> done or refused; awaiting_approval -> withdrawn. `amount` is in major units
    of the invoice's currency, above 0. `code` and `note` say why it was refused or withdrawn.
    """

    __tablename__ = "movements"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    kind: Mapped[str]
    amount: Mapped[Decimal]
    options: Mapped[dict[str, Any]]
    draft_window_s: Mapped[int | None]
    reason: Mapped[str]
    actor: Mapped[str]
    requested_at: Mapped[datetime]
    needs_approval: Mapped[bool]
    approved_by: Mapped[str | None]
    approved_at: Mapped[datetime | None]
    state: Mapped[str]
    decided_at: Mapped[datetime | None]
    external_id: Mapped[str | None]
    code: Mapped[str | None]
    note: Mapped[str | None]


class CreditNote(Base):
    """Part of a final invoice taken back. The unpaid part was open, the cash part paid, the rest paid by credits.

    One that is void keeps its number and counts no more: the refund made at the provider for which it was issued did
    not arrive. `voided_by` and `void_reason` say who found out, and why.
    """

    __tablename__ = "credit_notes"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    movement_id: Mapped[UUID | None]
    seq: Mapped[int] = mapped_column(Integer)
    number: Mapped[str]
    amount: Mapped[Decimal]
    unpaid_part: Mapped[Decimal]
    cash_part: Mapped[Decimal]
    credits_part: Mapped[Decimal]
    disposition: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    issued_at: Mapped[datetime]
    voided_at: Mapped[datetime | None]
    voided_by: Mapped[str | None]
    void_reason: Mapped[str | None]

    @property
    def is_void(self) -> bool:
        return self.voided_at is not None


class Refund(Base):
    """Money of one payment on its way back. `state`: requested, pending, succeeded, failed, canceled."""

    __tablename__ = "refunds"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    credit_note_id: Mapped[UUID | None]
    movement_id: Mapped[UUID | None]
    provider: Mapped[str]
    payment_external_id: Mapped[str]
    amount: Mapped[Decimal]
    reason: Mapped[str]
    actor: Mapped[str]
    requested_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(server_default="requested")
    external_id: Mapped[str | None]
    failure_code: Mapped[str | None]
    failure_reason: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]


class Dispute(Base):
    """A payment that the customer's bank takes back. `withdrawn`, `reinstated`: sums, in major units; `fees` signed.

    The facts, from `invoice_id` to `opened_at`, are null while all we know is that money was withdrawn.
    """

    __tablename__ = "disputes"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str]
    external_id: Mapped[str]
    invoice_id: Mapped[UUID | None]
    payment_external_id: Mapped[str | None]
    amount: Mapped[Decimal | None]
    currency: Mapped[str | None]
    reason: Mapped[str | None]
    status: Mapped[str | None]
    evidence_due_at: Mapped[datetime | None]
    opened_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    withdrawn: Mapped[Decimal] = mapped_column(server_default="0")
    reinstated: Mapped[Decimal] = mapped_column(server_default="0")
    fees: Mapped[Decimal] = mapped_column(server_default="0")
    updated_at: Mapped[datetime]


class Payout(Base):
    """Money from the provider to the bank (negative: back). `customer_id` names the house's books."""

    __tablename__ = "payouts"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str]
    account: Mapped[str]
    currency: Mapped[str]
    external_id: Mapped[str]
    amount: Mapped[Decimal]
    status: Mapped[str]
    arrival_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    reconciled_at: Mapped[datetime | None]


class Exchange(Base):
    """A customer's money that met the provider's balance in another currency. Amounts in major units, one sign.

    `amount` is in the customer's `currency`, `settled` and `fee` are in `settled_currency`; below 0 it went back.
    """

    __tablename__ = "exchanges"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]
    invoice_id: Mapped[UUID]
    payment_external_id: Mapped[str]
    category: Mapped[str]
    currency: Mapped[str]
    amount: Mapped[Decimal]
    settled_currency: Mapped[str]
    settled: Mapped[Decimal]
    fee: Mapped[Decimal]
    rate: Mapped[Decimal | None]
    entry_id: Mapped[UUID | None]
    exchanged_at: Mapped[datetime]
    recorded_at: Mapped[datetime]


class Task(Base):
    """What only a person can settle. Found again while it is open, it is the same task, `seen` once more."""

    __tablename__ = "tasks"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    customer_id: Mapped[UUID | None]
    invoice_id: Mapped[UUID | None]
    title: Mapped[str]
    text: Mapped[str]
    cause: Mapped[str]
    details: Mapped[dict[str, Any]]
    opened_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    seen: Mapped[int] = mapped_column(Integer, server_default="1")
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str | None]
    resolution: Mapped[str | None]
