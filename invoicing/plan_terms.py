"""What a plan includes, as rating needs to know it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Included:
    """Usage of up to `amount` (0 or more, major units) that a plan gives back in one rating period.

    `plan_version_id` and `item` are the price and the item of the entries that give it back.
    """

    amount: Decimal
    plan_version_id: UUID
    item: str


def included_usage(
    session: Session,  # noqa: ARG001
    *,
    customer_ids: Collection[UUID],  # noqa: ARG001
    rating_starts: Collection[datetime],  # noqa: ARG001
) -> Mapping[tuple[UUID, datetime], Included]:
    """What the plans of these customers include in the rating periods that start then; no plan, no row.

    Asked under the locks of the books, for periods of which nothing is counted yet. What changes within a period is
    told by `rating.recharge_included`.
    """
    return {}
