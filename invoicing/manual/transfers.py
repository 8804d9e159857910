"""Money that a person transfers back: noted here when it is on its way, and booked with it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.movement_tables import Refund
from invoicing.refunds import settle_refund
from invoicing.tasks import resolve_gone

MANUAL = "manual"
TASK = "refund_by_hand"
"""The kind of task that stands for each such refund until it was transferred."""


class TransferNotWanted(InvoicingError):
    """There is no such refund to be transferred by hand, or it was settled already. Reload the list."""

    code = "transfer_not_wanted"


class TransferReferenceMissing(InvoicingError):
    """Give the transfer's reference at the bank, in 1 to 200 printable characters: it proves what was sent."""

    code = "transfer_reference_missing"


def waiting_transfers(session: Session, *, limit: int) -> list[Refund]:
    """Refunds that wait for a person to transfer them, the oldest first."""
    query = select(Refund).where(Refund.provider == MANUAL, Refund.state.in_(("requested", "pending")))
    return list(session.scalars(query.order_by(Refund.requested_at, Refund.id).limit(limit)))


def note_transfer(
    session: Session, *, customer_id: UUID, refund_id: UUID, reference: str, at: datetime, actor: str, now: datetime
) -> None:
    """Note that the refund was transferred at `at` under this reference, and book it. The caller commits.

    Raises:
        TransferReferenceMissing, TransferNotWanted.
    """
    reference = reference.strip()
    if not 0 < len(reference) <= 200 or not reference.isprintable():
        raise TransferReferenceMissing("Give the transfer's reference at the bank, in 1 to 200 printable characters.")
    refund = session.get(Refund, (customer_id, refund_id), with_for_update=True, populate_existing=True)
    if refund is None or refund.provider != MANUAL or refund.state not in ("requested", "pending"):
        raise TransferNotWanted(
            "There is no such refund to be transferred by hand, or it was settled already. Reload the list."
        )
    settle_refund(
        session,
        customer_id=customer_id,
        refund_id=refund_id,
        status="succeeded",
        external_id=reference,
        failure_code=None,
        failure_reason=None,
        at=at,
        actor=actor,
        now=now,
    )
    resolve_gone(session, kind=TASK, subject=str(refund_id), cause=f"transferred: {reference}", now=now)
