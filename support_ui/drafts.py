"""Open drafts, and what keeps one from being finalized: hold and release."""

from datetime import timedelta
from uuid import UUID

from flask import g, render_template, request
from flask.typing import ResponseReturnValue

from invoicing import drafts
from invoicing.customers import customers_by_id
from support_ui.access import actor, needs
from support_ui.adjustments import INVOICE
from support_ui.forms import Step, read_form
from support_ui.invoice_page import change_draft
from support_ui.site import bp

DUE_SOON = timedelta(hours=24)
LISTED = 500

FILTERS = {
    "all": "All",
    "held": "Held",
    "approval": "Awaiting approval",
    "soon": "Due within a day",
}


@bp.get("/drafts")
def draft_list() -> ResponseReturnValue:
    """All open drafts, those due first; `show` narrows."""
    chosen = request.args.get("show", "all")
    chosen = chosen if chosen in FILTERS else "all"
    rows = drafts.list_drafts(g.session, held=True if chosen == "held" else None, limit=LISTED)
    if chosen == "approval":
        rows = [row for row in rows if row.needs_approval]
    elif chosen == "soon":
        rows = [row for row in rows if row.invoice.held_at is None and row.invoice.finalize_after <= g.now + DUE_SOON]
    return render_template(
        "support/drafts/index.html",
        rows=rows,
        chosen=chosen,
        filters=FILTERS,
        customers=customers_by_id(g.session, customer_ids=[row.invoice.customer_id for row in rows]),
        is_cut=len(rows) == LISTED,
        listed=LISTED,
    )


@bp.post(f"{INVOICE}/hold")
@needs("agent")
def hold(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Keep the draft from being finalized."""
    form = read_form(Step, name="hold")
    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"held"}),
        change=lambda: drafts.hold(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            expected_version=form.values["version"],
            reason=form.values["reason"],
            actor=actor(),
            now=g.now,
        ),
        done="The draft is held. It will not be finalized until somebody releases it.",
    )


@bp.post(f"{INVOICE}/release")
@needs("agent")
def release(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Let the draft be finalized again."""
    form = read_form(Step, name="release")
    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"released"}),
        change=lambda: drafts.release(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            expected_version=form.values["version"],
            reason=form.values["reason"],
            actor=actor(),
            now=g.now,
        ),
        done="The draft is released.",
    )
