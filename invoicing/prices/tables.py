"""The price book's tables beside `prices` itself, as mapped rows. The rules on them stand in Postgres."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import SmallInteger, func, select
from sqlalchemy.orm import Mapped, column_property, mapped_column

from ledger.orm import Base


class PriceTier(Base):
    """A step of a tiered price, from `first` (exclusive) to the next one's (inclusive). Written before its price."""

    __tablename__ = "price_tiers"
    price_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    first: Mapped[Decimal]
    unit_amount: Mapped[Decimal]
    flat_amount: Mapped[Decimal] = mapped_column(server_default="0")


class PriceList(Base):
    """A set of prices that can be agreed with customers; "public" holds for everybody, "own" for single customers."""

    __tablename__ = "price_lists"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class RegionZone(Base):
    """In which zone a region lies, for life."""

    __tablename__ = "region_zones"
    region: Mapped[str] = mapped_column(primary_key=True)
    zone: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class CustomerPriceList(Base):
    """Which list was agreed with a customer, from when on; the next row takes over."""

    __tablename__ = "customer_price_lists"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    valid_from: Mapped[datetime] = mapped_column(primary_key=True)
    price_list: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class DiscountEnd(Base):
    """When a discount was ended before the end it had, if it had one. Once, and never changed."""

    __tablename__ = "discount_ends"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    discount_id: Mapped[UUID] = mapped_column(primary_key=True)
    ends_at: Mapped[datetime]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class PriceEnd(Base):
    """When a customer's own price was ended: from then on the list holds that holds without it. Never changed."""

    __tablename__ = "price_ends"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    price_id: Mapped[UUID] = mapped_column(primary_key=True, unique=True)
    ends_at: Mapped[datetime]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class DiscountRow(Base):
    """Percent off one item, or off everything. `until` is its own end, or its `DiscountEnd` if that is earlier."""

    __tablename__ = "discounts"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    item: Mapped[str | None]
    percent: Mapped[Decimal]
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime | None] = mapped_column()
    reason: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    until: Mapped[datetime | None] = column_property(
        func.least(
            valid_until,
            select(DiscountEnd.ends_at)
            .where(DiscountEnd.customer_id == customer_id, DiscountEnd.discount_id == id)  # noqa: A003 - the column above
            .correlate_except(DiscountEnd)
            .scalar_subquery(),
        )
    )


class PriceChange(Base):
    """New prices as they were drafted, and who decided about them. What was drafted is frozen."""

    __tablename__ = "price_changes"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str]
    content: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default="drafted")
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None]
