"""The plans' tables as mapped rows. The rules on them stand in Postgres."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from ledger.orm import Base


class Plan(Base):
    __tablename__ = "plans"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class PlanVersion(Base):
    """What a plan costs and includes, for those who take it from `valid_from` on. Never changed.

    `fee` is for a whole `interval` ("month" or "year"), `included_usage` for each of the customer's months.
    """

    __tablename__ = "plan_versions"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan: Mapped[str]
    currency: Mapped[str]
    fee: Mapped[Decimal]
    interval: Mapped[str]
    timing: Mapped[str]
    included_usage: Mapped[Decimal]
    trial_days: Mapped[int] = mapped_column(SmallInteger)
    tax_inclusive: Mapped[bool] = mapped_column(server_default="false")
    valid_from: Mapped[datetime]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class PlanPhase(Base):
    """Who has which version from when until when, and how far its fee was charged and earned.

    A term is what one fee pays: from `term_start` to `term_end`, a part of the calendar's that began at `window_start`.
    """

    __tablename__ = "plan_phases"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan_version_id: Mapped[UUID]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    charged_from: Mapped[datetime]
    window_start: Mapped[datetime | None]
    term_start: Mapped[datetime | None]
    term_end: Mapped[datetime | None]
    released_until: Mapped[datetime | None]
    earns_at: Mapped[datetime | None]
    deferred: Mapped[Decimal] = mapped_column(server_default="0")
    reason: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime]
    end_reason: Mapped[str | None]
    ended_by: Mapped[str | None]
    withdrawn_at: Mapped[datetime | None]
