"""What a plan includes, as rating needs to know it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from invoicing.plan_fees import part
from invoicing.plan_tables import PlanPhase, PlanVersion
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
    rows = _phases(session, customer_ids, since=min(rating_starts))
    found: dict[tuple[UUID, datetime], Included] = {}
    for customer_id, (time_zone, anchor_day) in calendars.items():
        for start in rating_starts:
            month = calendar_period(start, time_zone=time_zone, anchor_day=anchor_day)
            phases = [row for row in rows if row[0].customer_id == customer_id and _overlaps(row[0], month)]
            if phases:
                _, last = phases[-1]
                amount = sum((_part_of(*row, month) for row in phases), Decimal(0))
                found[customer_id, start] = Included(amount, last.id, f"plan:{last.plan}:included")
    return found


def included_of(session: Session, *, customer_id: UUID, month: Period) -> Decimal:
    """How much usage a customer's plans include in one month of the calendar, each for its part of the seconds."""
    rows = _phases(session, [customer_id], since=month.start)
    return sum((_part_of(*row, month) for row in rows if _overlaps(row[0], month)), Decimal(0))


def _phases(
    session: Session, customer_ids: Collection[UUID], *, since: datetime
) -> list[tuple[PlanPhase, PlanVersion]]:
    rows = session.execute(
        select(PlanPhase, PlanVersion)
        .join(PlanVersion, PlanVersion.id == PlanPhase.plan_version_id)
        .where(
            PlanPhase.customer_id.in_(customer_ids),
            PlanPhase.withdrawn_at.is_(None),
            or_(PlanPhase.ends_at.is_(None), PlanPhase.ends_at > since),
        )
        .order_by(PlanPhase.customer_id, PlanPhase.starts_at)
    )
    return [(phase, version) for phase, version in rows]


def _overlaps(phase: PlanPhase, month: Period) -> bool:
    return phase.starts_at < month.end and (phase.ends_at is None or phase.ends_at > month.start)


def _part_of(phase: PlanPhase, version: PlanVersion, month: Period) -> Decimal:
    end = month.end if phase.ends_at is None else min(phase.ends_at, month.end)
    return part(version.included_usage, month, max(phase.starts_at, month.start), end)
