"""The ledger's tables, as mapped rows. The rules on them are in the migrations, in Postgres itself."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Date, LargeBinary, Numeric, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class Account(Base):
    __tablename__ = "ledger_accounts"
    code: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    title: Mapped[str]


class Books(Base):
    """One customer's (or the house's) complete, self-balancing set of accounts."""

    __tablename__ = "ledger_books"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    holder: Mapped[str]
    currency: Mapped[str]
    time_zone: Mapped[str]
    anchor_day: Mapped[int] = mapped_column(SmallInteger)
    last_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    last_recorded_at: Mapped[datetime | None]
    closings: Mapped[int] = mapped_column(BigInteger, server_default="0")
    opened_at: Mapped[datetime]


class PeriodRow(Base):
    __tablename__ = "ledger_periods"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    start_at: Mapped[datetime] = mapped_column(primary_key=True)
    end_at: Mapped[datetime]
    time_zone: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="open")
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    closed_seq: Mapped[int | None] = mapped_column(BigInteger)


class Document(Base):
    __tablename__ = "ledger_documents"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    period_start: Mapped[datetime | None]
    created_at: Mapped[datetime]


class Entry(Base):
    """One amount leaving `credit_account` and entering `debit_account`. Never changed."""

    __tablename__ = "ledger_entries"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    transaction_id: Mapped[UUID]
    seq: Mapped[int] = mapped_column(BigInteger)
    debit_account: Mapped[str]
    credit_account: Mapped[str]
    amount: Mapped[Decimal]
    effective_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    period_start: Mapped[datetime | None]
    usage_period_start: Mapped[datetime | None]
    document_id: Mapped[UUID | None]
    item: Mapped[str | None]
    price_id: Mapped[UUID | None]
    quantity: Mapped[Decimal | None]
    labels: Mapped[dict[str, Any]]
    kind: Mapped[str]
    reverses_id: Mapped[UUID | None]
    actor: Mapped[str]
    reason: Mapped[str | None]
    digest: Mapped[bytes] = mapped_column(LargeBinary)


# Tables without a primary key, and the exported view, are plain Core tables.
TOTALS = Table(
    "ledger_totals",
    Base.metadata,
    Column("customer_id", Uuid, nullable=False),
    Column("period_start", TIMESTAMP(timezone=True)),
    Column("usage_period_start", TIMESTAMP(timezone=True)),
    Column("document_id", Uuid),
    Column("debit_account", Text, nullable=False),
    Column("credit_account", Text, nullable=False),
    Column("item", Text),
    Column("price_id", Uuid),
    Column("day", Date, nullable=False),
    Column("app", Text),
    Column("region", Text),
    Column("amount", Numeric, nullable=False),
    Column("quantity", Numeric, nullable=False),
    Column("entries", BigInteger, nullable=False),
)

UNBILLED_TOTALS = Table(
    "ledger_unbilled",
    Base.metadata,
    Column("customer_id", Uuid),
    Column("period_start", TIMESTAMP(timezone=True)),
    Column("usage_period_start", TIMESTAMP(timezone=True)),
    Column("document_id", Uuid),
    Column("contra_account", Text),
    Column("item", Text),
    Column("price_id", Uuid),
    Column("day", Date),
    Column("app", Text),
    Column("region", Text),
    Column("amount", Numeric),
    Column("quantity", Numeric),
    Column("entries", BigInteger),
    info={"is_view": True},
)
"""The view `ledger_unbilled`: what moved assets:unbilled, signed, positive where it was debited."""
