"""Documents: what an entry can be about. The row is the ledger's own knowledge that the document exists."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.tables import Document


def open_documents(
    session: Session, documents: list[tuple[UUID, UUID, datetime | None]], *, kind: str, now: datetime
) -> None:
    """Register `(customer_id, document_id, period_start)`; those that exist stay as they are. The caller commits."""
    if not documents:
        return
    session.execute(
        insert(Document).on_conflict_do_nothing(),
        [
            {"customer_id": customer, "id": document, "kind": kind, "period_start": period_start, "created_at": now}
            for customer, document, period_start in documents
        ],
    )
