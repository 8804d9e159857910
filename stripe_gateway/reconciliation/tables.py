"""What reconciliation remembers, as mapped rows. The rules on them are in migration 0010, in Postgres itself."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class StripeReconciliation(Base):
    """One run and its place. `state`: running (perhaps nobody is at it just now), done, given_up.

    `stage` and `cursor` are what comes next. Whoever goes on with a run raises `fence`; whoever was at it before can
    write nothing any more.
    """

    __tablename__ = "stripe_reconciliations"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    is_full: Mapped[bool]
    asked_from: Mapped[datetime | None]
    asked_to: Mapped[datetime | None]
    window_from: Mapped[datetime]
    state: Mapped[str] = mapped_column(server_default="running")
    stage: Mapped[str]
    cursor: Mapped[str | None]
    counts: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    fence: Mapped[int] = mapped_column(BigInteger, server_default="1")
    started_at: Mapped[datetime]
    progressed_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class StripeSeen(Base):
    """An object of ours that Stripe's lists have shown to a run at work."""

    __tablename__ = "stripe_seen"
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str] = mapped_column(primary_key=True)


class StripeDifference(Base):
    """What a run found. `outcome`: repaired, task (a person must look), explained (a person did; it is as it was)."""

    __tablename__ = "stripe_differences"
    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    customer_id: Mapped[UUID | None]
    invoice_id: Mapped[UUID | None]
    found_at: Mapped[datetime]


class StripeTransaction(Base):
    """A movement of the balance at Stripe, in major units, signed as there; whose it is, once known."""

    __tablename__ = "stripe_transactions"
    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    category: Mapped[str]
    source: Mapped[str | None]
    currency: Mapped[str]
    amount: Mapped[Decimal]
    fee: Mapped[Decimal]
    net: Mapped[Decimal]
    created_at: Mapped[datetime]
    available_at: Mapped[datetime]
    customer_id: Mapped[UUID | None]
    invoice_id: Mapped[UUID | None]
    payout: Mapped[str | None]
    seen_at: Mapped[datetime]
    is_under_way: Mapped[bool]
