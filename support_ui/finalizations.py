"""Finalizing a draft by hand: exactly what the page announced, or nothing."""

from decimal import Decimal
from uuid import UUID

from flask import g
from flask.typing import ResponseReturnValue

from invoicing.errors import InvoicingError
from invoicing.finalization import finalize
from invoicing.tables import Invoice
from support_ui.access import actor, needs
from support_ui.adjustments import INVOICE
from support_ui.forms import Finalization, read_form
from support_ui.invoice_page import change_draft
from support_ui.site import bp


class OutcomeChanged(InvoicingError):
    """Something else would happen now than the page said. Read again what will happen, then decide."""

    code = "outcome_changed"


@bp.post(f"{INVOICE}/finalization")
@needs("agent")
def finalization(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Make the draft final, or carry it forward, as announced."""
    form = read_form(Finalization, name="finalization")

    def change() -> None:
        invoice = finalize(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            provider=g.provider,
            actor=actor(),
            now=g.now,
            expected_version=form.values["version"],
        )
        _compare(invoice, outcome=form.values["outcome"], due=form.values["due"])
        if invoice.state == "final":
            g.ring("sync_now", customer_id, invoice_id)

    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"finalized", "carried forward", "empty"}),
        change=change,
        done="Done. The history below says what happened.",
    )


def _compare(invoice: Invoice, *, outcome: str, due: Decimal) -> None:
    """Credits can be granted or used up without the draft's version changing; then the amount due is another one."""
    if invoice.state != outcome or (invoice.amount_due is not None and invoice.amount_due != due):
        raise OutcomeChanged(
            "Meanwhile something changed outside this draft, such as the customer's credits, so that something else "
            "would happen now. Nothing was done: read again below what will happen, then decide."
        )
