"""History: each step in an invoice's life, with time, actor and reason."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from invoicing.tables import HistoryRow, Invoice


def record(
    session: Session,
    invoice: Invoice,
    *,
    action: str,
    actor: str,
    now: datetime,
    reason: str | None = None,
    to_state: str | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Write one step down and raise the invoice's version; with `to_state`, move it there. The caller commits."""
    session.add(
        HistoryRow(
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            at=now,
            actor=actor,
            action=action,
            from_state=invoice.state if to_state else None,
            to_state=to_state,
            reason=reason,
            details=details or {},
        )
    )
    if to_state:
        invoice.state = to_state
    invoice.version += 1
    session.flush()
