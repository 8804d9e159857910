"""Money that a person transfers back, since it came by transfer: noted when it is on its way, and booked with it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, String, cast, select
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.movements.refunds import BY_HAND_TASK, settle_refund
from invoicing.movements.tables import Refund, Task
from invoicing.movements.tasks import resolve_gone


class TransferNotWanted(InvoicingError):
    """There is no such refund to be transferred by hand, or it was settled already. Reload the list."""

    code = "transfer_not_wanted"


class TransferReferenceMissing(InvoicingError):
    """Give the transfer's reference at the bank, in 1 to 200 printable characters: it proves what was sent."""

    code = "transfer_reference_missing"


def waiting_transfers(session: Session, *, limit: int) -> list[Refund]:
    """Refunds that wait for a person to transfer them, the oldest first."""
    query = _waiting().order_by(Refund.requested_at, Refund.id).limit(limit)
    return list(session.scalars(query))


def _waiting() -> Select[Refund]:
    is_task = (Task.kind == BY_HAND_TASK) & (Task.subject == cast(Refund.id, String)) & Task.resolved_at.is_(None)
    return select(Refund).join(Task, is_task).where(Refund.state.in_(("requested", "pending")))


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
    wanted = _waiting().where(Refund.customer_id == customer_id, Refund.id == refund_id).with_for_update(of=Refund)
    if session.scalars(wanted).one_or_none() is None:
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
    resolve_gone(session, kind=BY_HAND_TASK, subject=str(refund_id), cause=f"transferred: {reference}", now=now)
