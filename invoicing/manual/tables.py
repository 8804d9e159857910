"""The manual provider's tables, as mapped rows. The rules on them are in migration 0011."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class Letter(Base):
    """The letter of one invoice. `state`: due, waiting (tried, will be tried again), parked (needs a person), done.

    `recipient` is an e-mail address, None while we know none. A claim raises `fence` and sets `lease_until`.
    """

    __tablename__ = "manual_letters"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[str]
    recipient: Mapped[str | None]
    subject: Mapped[str]
    body: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="due")
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime]
    last_error: Mapped[str | None]
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]


class BankLine(Base):
    """One line of our bank statement, as it came. `amount` is in major units, negative for money that went out.

    `state`: open (a person must say what it is), settled (a payment of this invoice), set_aside (nothing of ours).
    """

    __tablename__ = "bank_lines"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    account: Mapped[str]
    external_id: Mapped[str]
    booked_on: Mapped[date]
    amount: Mapped[Decimal]
    currency: Mapped[str]
    payer: Mapped[str]
    reference: Mapped[str]
    imported_at: Mapped[datetime]
    imported_by: Mapped[str]
    state: Mapped[str]
    customer_id: Mapped[UUID | None]
    invoice_id: Mapped[UUID | None]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
    note: Mapped[str | None]
