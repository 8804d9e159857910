"""Documents: what an entry can be about. The row is the ledger's own knowledge that the document exists."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ledger.arrays import spell_array
from ledger.periods import ClosedPeriod
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


# LATERAL with a limit, and not EXISTS: that the planner may turn round, and read every charge there is.
_FOR_CLOSED_PERIODS = text("""
    INSERT INTO ledger_documents (customer_id, id, kind, period_start, created_at)
    SELECT c.customer_id, gen_random_uuid(), 'invoice', c.start_at, :now
      FROM unnest(CAST(:customers AS uuid[]), CAST(:starts AS timestamptz[])) AS c (customer_id, start_at)
     CROSS JOIN LATERAL (
           SELECT FROM ledger_unbilled u
            WHERE u.customer_id = c.customer_id AND u.period_start = c.start_at AND u.document_id IS NULL
            LIMIT 1) charges
    RETURNING customer_id, id, period_start
""")


def open_invoice_documents(
    session: Session, closed: Sequence[ClosedPeriod], *, now: datetime
) -> list[tuple[UUID, UUID, datetime]]:
    """Register one invoice for each of these periods that has charges: `(customer_id, document_id, period_start)`.

    For periods that this transaction has just closed, so that no period gets two. The caller commits.
    """
    if not closed:
        return []
    rows = session.execute(
        _FOR_CLOSED_PERIODS,
        {
            "customers": spell_array(c.customer_id for c in closed),
            "starts": spell_array(c.start for c in closed),
            "now": now,
        },
    )
    return [(customer_id, document_id, start) for customer_id, document_id, start in rows]
