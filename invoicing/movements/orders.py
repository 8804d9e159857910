"""Orders: by which ids the provider knows what one movement asked of it."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements.tables import CreditNote, Refund


def subjects_of(session: Session, *, customer_id: UUID, movement_id: UUID) -> list[UUID]:
    """What `Provider.operation_states` may know of a movement: itself, its refunds, its credit note, in that order."""
    refunds = session.scalars(
        select(Refund.id)
        .where(Refund.customer_id == customer_id, Refund.movement_id == movement_id)
        .order_by(Refund.requested_at, Refund.id)
    )
    notes = session.scalars(
        select(CreditNote.id).where(CreditNote.customer_id == customer_id, CreditNote.movement_id == movement_id)
    )
    return [movement_id, *refunds, *notes]
