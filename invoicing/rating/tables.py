"""The counters of rating, as mapped rows. The rules on them are in migration 0015; `counters.py` writes them."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class RatingCounter(Base):
    """What a customer used at one price in one rating period, and what that cost; signed, amount in major units."""

    __tablename__ = "rating_counters"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    rating_start: Mapped[datetime] = mapped_column(primary_key=True)
    price_id: Mapped[UUID] = mapped_column(primary_key=True)
    item: Mapped[str]
    quantity: Mapped[Decimal]
    amount: Mapped[Decimal]


class RatedQuantity(Base):
    """What a customer used in one rating period of an item on which another item's allowance depends."""

    __tablename__ = "rated_quantities"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    rating_start: Mapped[datetime] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[Decimal]


class UsageCharges(Base):
    """What usage cost in one rating period, of customers whose plan ever included usage.

    `included` is what the plan gives at most, `credited` what it gave so far: least(included, greatest(amount, 0)).
    `plan_version_id` and `item` are those of the entries that give it.
    """

    __tablename__ = "usage_charges"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    rating_start: Mapped[datetime] = mapped_column(primary_key=True)
    amount: Mapped[Decimal]
    included: Mapped[Decimal]
    credited: Mapped[Decimal]
    plan_version_id: Mapped[UUID]
    item: Mapped[str]
