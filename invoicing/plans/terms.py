"""What a plan includes, as rating needs to know it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from invoicing.plans.fees import part
from invoicing.plans.tables import PlanPhase, PlanVersion
from ledger.periods import Period, calendar_period
from ledger.tables import Books


@dataclass(frozen=True, slots=True)
class Included:
    """Usage of up to `amount` (0 or more, major units) that a plan gives back in one rating period.

    `plan_version_id` and `item` are the price and the item of the entries that give it back.
    """

    amount: Decimal
    plan_version_id: UUID
    item: str


def included_usage(
    session: Session,
    *,
    customer_ids: Collection[UUID],
    rating_starts: Collection[datetime],
) -> Mapping[tuple[UUID, datetime], Included]:
    """What the plans of these customers include in the rating periods that start then; no plan, no row.

    Asked under the locks of the books, for periods of which nothing is counted yet. What changes within a period is
    told by `rating.recharge_included`.
    """
    if not customer_ids or not rating_starts:
        return {}
    books = session.execute(
        select(Books.customer_id, Books.time_zone, Books.anchor_day).where(Books.customer_id.in_(customer_ids))
    )
    calendars: dict[UUID, tuple[str, int]] = {row.customer_id: (row.time_zone, row.anchor_day) for row in books}
    held = _held(session, customer_ids, since=min(rating_starts))
    found: dict[tuple[UUID, datetime], Included] = {}
    for customer_id, (time_zone, anchor_day) in calendars.items():
        for start in rating_starts:
            month = calendar_period(start, time_zone=time_zone, anchor_day=anchor_day)
            plans = [one for one in held if one.customer_id == customer_id and one.overlaps(month)]
            if plans:
                amount = sum((one.part_of(month) for one in plans), Decimal(0))
                found[customer_id, start] = Included(amount, plans[-1].version_id, f"plan:{plans[-1].plan}:included")
    return found


def included_of(session: Session, *, customer_id: UUID, month: Period) -> Decimal:
    """How much usage a customer's plans include in one month of the calendar, each for its part of the seconds."""
    held = _held(session, [customer_id], since=month.start)
    return sum((one.part_of(month) for one in held if one.overlaps(month)), Decimal(0))


@dataclass(frozen=True, slots=True)
class _Held:
    """A plan that a customer has for some time."""

    customer_id: UUID
    starts_at: datetime
    ends_at: datetime | None
    version_id: UUID
    plan: str
    included_usage: Decimal

    def overlaps(self, month: Period) -> bool:
        return self.starts_at < month.end and (self.ends_at is None or self.ends_at > month.start)

    def part_of(self, month: Period) -> Decimal:
        end = month.end if self.ends_at is None else min(self.ends_at, month.end)
        return part(self.included_usage, month, max(self.starts_at, month.start), end)


def _held(session: Session, customer_ids: Collection[UUID], *, since: datetime) -> list[_Held]:
    # Column by column: the customer's own role may not read who wrote it, and why.
    rows = session.execute(
        select(
            PlanPhase.customer_id,
            PlanPhase.starts_at,
            PlanPhase.ends_at,
            PlanPhase.plan_version_id,
            PlanVersion.plan,
            PlanVersion.included_usage,
        )
        .join(PlanVersion, PlanVersion.id == PlanPhase.plan_version_id)
        .where(
            PlanPhase.customer_id.in_(customer_ids),
            PlanPhase.withdrawn_at.is_(None),
            or_(PlanPhase.ends_at.is_(None), PlanPhase.ends_at > since),
        )
        .order_by(PlanPhase.customer_id, PlanPhase.starts_at)
    )
    return [_Held(*row) for row in rows]
