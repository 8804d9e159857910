"""Billing a customer before the period ends, by hand or from a spending threshold on."""

from uuid import UUID

from flask import g, redirect, url_for
from flask.typing import ResponseReturnValue

from invoicing.early_bills import bill_now, set_threshold
from invoicing.errors import InvoicingError
from support_ui.access import actor, needs
from support_ui.forms import BillNow, Form, Threshold, read_form
from support_ui.site import bp, say


@bp.post("/customers/<uuid:customer_id>/early-bill")
@needs("agent")
def early_bill(customer_id: UUID) -> ResponseReturnValue:
    """Close the period that the page showed, now; its draft opens. A double click opens the same one."""
    form = read_form(BillNow, name="early-bill")
    if form.is_valid:
        try:
            bill = bill_now(
                g.session, customer_id=customer_id, actor=actor(), settings=g.settings, now=g.now, **form.values
            )
        except InvoicingError as error:
            _refuse(form, error)
        else:
            say("The period is closed. Finalize the draft below, or leave it: it becomes final within minutes.")
            return redirect(url_for(".invoice", customer_id=customer_id, invoice_id=bill.invoice_id), code=303)
    return _back(customer_id, form)


@bp.post("/customers/<uuid:customer_id>/spending-threshold")
@needs("agent")
def spending_threshold(customer_id: UUID) -> ResponseReturnValue:
    """Set or lift the amount from which on the customer is billed at once."""
    form = read_form(Threshold, name="threshold")
    if form.is_valid:
        try:
            row = set_threshold(g.session, customer_id=customer_id, actor=actor(), now=g.now, **form.values)
        except InvoicingError as error:
            _refuse(form, error)
        else:
            say("The threshold is lifted." if row.amount is None else "The threshold is set.")
    return _back(customer_id, form)


def _refuse(form: Form, error: InvoicingError) -> None:
    g.session.rollback()
    form.refuse(str(error), at="reason" if error.code == "reason_missing" else "")


def _back(customer_id: UUID, form: Form) -> ResponseReturnValue:
    for messages in form.errors.values():
        for message in messages:
            say(message, "bad")
    return redirect(url_for(".customer", customer_id=customer_id, _anchor="billing-now"), code=303)
