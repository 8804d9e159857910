"""The first page: what needs a person, across all customers."""

from uuid import UUID

from flask import g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing import drafts, parking
from invoicing.customers import customers_by_id
from invoicing.movements import requests, tasks
from invoicing.parking import NotParked
from invoicing.tables import Invoice, ParkedWork, PaymentFailure
from support_ui.access import actor, needs
from support_ui.drafts import DUE_SOON
from support_ui.forms import ParkedKey, read_form
from support_ui.site import bp, say

SHOWN = 15  # of each kind; more stand on their own pages
COUNTED = 500  # drafts that are looked through; beyond that the figure says "500+"


@bp.get("/")
def home() -> ResponseReturnValue:
    """Tasks, drafts and movements that wait for a person, parked work, and what failed on its way to or from Stripe."""
    rows = drafts.list_drafts(g.session, limit=COUNTED)
    held = [row for row in rows if row.invoice.held_at is not None]
    approvals = [row for row in rows if row.needs_approval]
    soon = [row for row in rows if row.invoice.held_at is None and row.invoice.finalize_after <= g.now + DUE_SOON]
    parked = parking.parked(g.session, limit=SHOWN + 1)
    problems = g.provider.problems(g.session, limit=SHOWN + 1)
    stuck = g.gateway.problem_operations(g.session, limit=SHOWN + 1)
    about = [state.invoice_id for state in problems] + [one.invoice_id for one in stuck if one.invoice_id]
    troubled = invoices_by_id(g.session, about)
    failures = failed_payments(g.session, limit=SHOWN + 1)
    open_tasks = tasks.open_tasks(g.session, limit=SHOWN)
    awaiting = requests.awaiting(g.session, limit=SHOWN + 1)
    named = {row.invoice.customer_id for row in rows} | {work.customer_id for work in parked}
    named |= {invoice.customer_id for invoice in troubled.values()} | {invoice.customer_id for invoice, _ in failures}
    named |= {movement.customer_id for movement in awaiting} | {one.customer_id for one in stuck}
    named |= {task.customer_id for task in open_tasks if task.customer_id}
    return render_template(
        "support/home.html",
        open_tasks=open_tasks,
        open_tasks_count=sum(tasks.count_open(g.session).values()),
        awaiting=awaiting,
        awaited=invoices_by_id(g.session, [movement.invoice_id for movement in awaiting]),
        held=held,
        approvals=approvals,
        soon=soon,
        drafts_cut=len(rows) == COUNTED,
        parked=parked,
        problems=problems,
        stuck=stuck,
        troubled=troubled,
        failures=failures,
        inbox_failed=g.provider.inbox(g.session, state="parked", before=None, limit=SHOWN + 1),
        inbox_counts=g.provider.inbox_counts(g.session),
        outage=g.gateway.outage(g.session),
        customers=customers_by_id(g.session, customer_ids=sorted(named)),
        shown=SHOWN,
    )


def invoices_by_id(session: Session, invoice_ids: list[UUID]) -> dict[UUID, Invoice]:
    """Invoices of whatever customers, by id."""
    if not invoice_ids:
        return {}
    return {row.id: row for row in session.scalars(select(Invoice).where(Invoice.id.in_(invoice_ids)))}


def failed_payments(session: Session, *, limit: int) -> list[tuple[Invoice, PaymentFailure]]:
    """Invoices that are still open after a failed payment, with their latest failure, the newest first."""
    latest = (
        select(PaymentFailure.customer_id, PaymentFailure.invoice_id, func.max(PaymentFailure.failed_at).label("at"))
        .group_by(PaymentFailure.customer_id, PaymentFailure.invoice_id)
        .subquery()
    )
    rows = session.execute(
        select(Invoice, PaymentFailure)
        .join(latest, (latest.c.customer_id == Invoice.customer_id) & (latest.c.invoice_id == Invoice.id))
        .join(
            PaymentFailure,
            (PaymentFailure.customer_id == latest.c.customer_id)
            & (PaymentFailure.invoice_id == latest.c.invoice_id)
            & (PaymentFailure.failed_at == latest.c.at),
        )
        .where(Invoice.state == "final")
        .order_by(PaymentFailure.failed_at.desc(), Invoice.id)
        .limit(limit)
    )
    found: dict[UUID, tuple[Invoice, PaymentFailure]] = {}
    for invoice, failure in rows:
        found.setdefault(invoice.id, (invoice, failure))
    return list(found.values())


@bp.post("/customers/<uuid:customer_id>/parked_releases")
@needs("agent")
def release_parked(customer_id: UUID) -> ResponseReturnValue:
    """Let the next run try a customer's parked work again."""
    form = read_form(ParkedKey, name="parked")
    if not form.is_valid:
        say("The form is incomplete: reload the page.", "bad")
    else:
        try:
            parking.release_parked(g.session, customer_id=customer_id, **form.values, actor=actor(), now=g.now)
        except NotParked as error:
            say(str(error), "info")
        else:
            say("Released: the next run tries it again.")
    is_from_customer = request.form.get("back") == "customer"
    back = url_for(".customer", customer_id=customer_id) if is_from_customer else url_for(".home")
    return redirect(back, code=303)


def parked_of(session: Session, customer_id: UUID) -> list[ParkedWork]:
    """What is parked of one customer, the oldest first."""
    return list(
        session.scalars(
            select(ParkedWork)
            .where(ParkedWork.customer_id == customer_id, ParkedWork.released_at.is_(None))
            .order_by(ParkedWork.parked_at)
        )
    )
