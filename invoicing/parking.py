"""Parking: set one customer's work aside with a reason, so that all others go on; a person releases it."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.tables import ParkedWork

REASON_LIMIT = 1000  # characters kept of an error's text


class NotParked(InvoicingError):
    """This work is not parked (any more). Reload the list."""

    code = "not_parked"


def park(session: Session, *, customer_id: UUID, stage: str, subject: str, error: Exception, now: datetime) -> None:
    """Set the work aside; parked again, it counts one more attempt. The caller commits.

    `stage` is "close" or "finalize", `subject` what of the customer's it is about: a period's start or an invoice id.
    """
    reason = str(getattr(error, "orig", None) or error).strip().splitlines()
    values = {
        "code": getattr(error, "code", None) if isinstance(error, InvoicingError) else type(error).__name__,
        "reason": (reason[0] if reason else type(error).__name__)[:REASON_LIMIT],
        "parked_at": now,
    }
    session.execute(
        insert(ParkedWork)
        .values(customer_id=customer_id, stage=stage, subject=subject, attempts=1, **values)
        .on_conflict_do_update(
            index_elements=[ParkedWork.customer_id, ParkedWork.stage, ParkedWork.subject],
            set_={**values, "attempts": ParkedWork.attempts + 1, "released_at": None, "released_by": None},
        )
    )


def parked(session: Session, *, limit: int = 100) -> list[ParkedWork]:
    """What is parked now, the oldest first."""
    return list(
        session.scalars(
            select(ParkedWork)
            .where(ParkedWork.released_at.is_(None))
            .order_by(ParkedWork.parked_at, ParkedWork.customer_id)
            .limit(limit)
        )
    )


def parked_customers(session: Session, *, stage: str, customer_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these customers have work parked at this stage."""
    return set(
        session.scalars(
            select(ParkedWork.customer_id).where(
                ParkedWork.stage == stage,
                ParkedWork.customer_id == func.any(bindparam("customer_ids", list(customer_ids), type_=ARRAY(Uuid))),
                ParkedWork.released_at.is_(None),
            )
        )
    )


def parked_subjects(session: Session, *, stage: str) -> set[tuple[UUID, str]]:
    """All `(customer_id, subject)` parked at this stage."""
    rows = session.execute(
        select(ParkedWork.customer_id, ParkedWork.subject).where(
            ParkedWork.stage == stage, ParkedWork.released_at.is_(None)
        )
    )
    return {(customer_id, subject) for customer_id, subject in rows}


def release_parked(session: Session, *, customer_id: UUID, stage: str, subject: str, actor: str, now: datetime) -> None:
    """Let the next run try this work again. The caller commits.

    Raises:
        NotParked: it is not parked, or somebody released it already.
    """
    released = session.execute(
        update(ParkedWork)
        .where(
            ParkedWork.customer_id == customer_id,
            ParkedWork.stage == stage,
            ParkedWork.subject == subject,
            ParkedWork.released_at.is_(None),
        )
        .values(released_at=now, released_by=actor)
        .returning(ParkedWork.customer_id)
    ).first()
    if released is None:
        raise NotParked("This work is not parked any more. Reload the list.")
