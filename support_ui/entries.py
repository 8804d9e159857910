"""One entry of the journal: its story."""

from datetime import timedelta
from uuid import UUID

from flask import g, render_template
from flask.typing import ResponseReturnValue

from invoicing.customers import get_customer
from invoicing.explaining.answers import explain_one_entry
from ledger.explain import EntryNotFound
from support_ui.evidence import signed
from support_ui.site import bp, not_found

LEGS_SHOWN = 50

bp.register_error_handler(EntryNotFound, not_found)


@bp.get("/customers/<uuid:customer_id>/entries/<uuid:entry_id>")
def entry(customer_id: UUID, entry_id: UUID) -> ResponseReturnValue:
    """Who, what, when and why: amount and accounts, cause, period, document, price, and the entries around it."""
    customer = get_customer(g.session, customer_id=customer_id)
    explained = explain_one_entry(g.session, customer_id=customer_id, entry_id=entry_id)
    story = explained.story
    return render_template(
        "support/customers/entry.html",
        customer=customer,
        explained=explained,
        story=story,
        entry=story.entry,
        legs=story.legs[:LEGS_SHOWN],
        # Recorded times are inclusive, so that this is the last moment at which nobody knew of the entry.
        just_before=(story.entry.recorded_at - timedelta(microseconds=1)).isoformat(),
        signed=signed,
    )
