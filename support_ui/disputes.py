"""Disputes over all customers: those that want an answer first, by when it is due, and what the others cost."""

from flask import g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.customers import customers_by_id
from invoicing.movements.disputes import CLOSED, loss_of
from invoicing.movements.tables import Dispute
from support_ui.home import invoices_by_id
from support_ui.site import bp

SHOWN = 200
STATES = {"open": "Open", "closed": "Decided"}


@bp.get("/disputes")
def dispute_list() -> ResponseReturnValue:
    """Open disputes by the day until which evidence is taken, or the latest that were decided."""
    state = request.args.get("state", "open")
    state = state if state in STATES else "open"
    rows = disputes_in(g.session, state=state, limit=SHOWN + 1)
    shown = rows[:SHOWN]
    return render_template(
        "support/money/disputes.html",
        disputes=shown,
        has_more=len(rows) > SHOWN,
        state=state,
        states=STATES,
        counts=_counts(g.session),
        customers=customers_by_id(g.session, customer_ids=sorted({row.customer_id for row in shown})),
        invoices=invoices_by_id(g.session, [row.invoice_id for row in shown if row.invoice_id]),
        costs={row.id: loss_of(row) + row.fees for row in shown},
    )


def disputes_in(session: Session, *, state: str, limit: int) -> list[Dispute]:
    """Open disputes, the most urgent first; or decided ones, the latest first. One whose facts are unknown is open."""
    is_closed = func.coalesce(Dispute.status, "").in_(CLOSED)
    query = select(Dispute).where(is_closed if state == "closed" else ~is_closed).limit(limit)
    if state == "closed":
        return list(session.scalars(query.order_by(Dispute.closed_at.desc().nulls_last(), Dispute.id)))
    # What wants an answer comes before what the bank is looking at.
    waits = Dispute.status.in_(("needs_response", "warning_needs_response"))
    order = (waits.desc().nulls_last(), Dispute.evidence_due_at.nulls_last(), Dispute.opened_at, Dispute.id)
    return list(session.scalars(query.order_by(*order)))


def _counts(session: Session) -> dict[str, int]:
    is_closed = func.coalesce(Dispute.status, "").in_(CLOSED)
    rows = session.execute(select(is_closed, func.count()).group_by(is_closed)).all()
    found = {row[0]: row[1] for row in rows}
    return {"open": found.get(False, 0), "closed": found.get(True, 0)}
