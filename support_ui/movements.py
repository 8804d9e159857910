"""What staff begin with a final invoice: announced, agreed to, approved by a second person, withdrawn, tried again."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import structlog
from flask import abort, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from invoicing.customers import get_customer
from invoicing.drafts import get_invoice
from invoicing.errors import InvoicingError
from invoicing.history import record
from invoicing.movements import requests
from invoicing.movements.orders import subjects_of
from invoicing.movements.standing import lock_invoice, standing_of
from invoicing.movements.tables import Movement
from invoicing.tables import Invoice
from ledger.errors import LedgerError
from ledger.zones import zone
from support_ui.access import actor, needs, wants_fragment
from support_ui.adjustments import INVOICE
from support_ui.aftermath import aftermath_of, name_of
from support_ui.announcements import Announcement, announce
from support_ui.forms import (
    FIELD_OF_CODE,
    ON_FORM,
    BeginCreditNote,
    BeginOutside,
    BeginWhole,
    BeginWithAmount,
    Form,
    read_form,
)
from support_ui.invoice_page import Conflict, answer, page_context, steps_since
from support_ui.site import FRAGMENT, bp, refusal_text, say

log = structlog.get_logger(__name__)

SCHEMAS = {
    "credit_note": BeginCreditNote,
    "outside_payment": BeginOutside,
    "refund_unapplied": BeginWithAmount,
    "keep_unapplied": BeginWithAmount,
    "void": BeginWhole,
    "write_off": BeginWhole,
    "accept_dispute": BeginWhole,
}
CONFLICTS = frozenset({
    "movement_conflict", "movement_under_way", "movement_not_possible", "not_awaiting_approval", "unknown_movement",
    "payment_conflict",
})  # fmt: skip
"""Refusals by what happened to the invoice, not by what was typed: 409."""
FIELDS = {**FIELD_OF_CODE, "amount_too_large": "amount"}
_OPTIONS = {"credit_note": ("paid_part",), "void": ("then",), "accept_dispute": ("dispute",)}


@bp.post(f"{INVOICE}/movements")
@needs("agent")
def begin_movement(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Begin what the form's `kind` says, if the page announced just that; else announce it."""
    kind = request.form.get("kind", "")
    if kind not in SCHEMAS:
        abort(422, "The form does not say what to do: reload the page.")
    options = {name: request.form[name].strip() for name in _OPTIONS.get(kind, ()) if request.form.get(name)}
    form = read_form(SCHEMAS[kind], name=name_of(kind, options))
    if form.is_valid and kind == "outside_payment":
        options = _outside_options(customer_id, invoice_id, form)
    if not form.is_valid:
        return answer(customer_id, invoice_id, form=form, status=422)
    invoice = lock_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id)
    known = g.session.get(Movement, (customer_id, form.values["movement_id"]))
    try:
        if known is None:
            if invoice.version != form.values["version"]:
                return _changed(invoice, form)
            announcement = _announced(invoice, kind, form, options)
            if announcement.digest != form.values["announced"]:
                return _ask_again(customer_id, invoice_id, form, announcement)
        movement = requests.request_movement(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            movement_id=form.values["movement_id"],
            kind=kind,
            amount=form.values.get("amount"),
            options=options,
            reason=form.values["reason"],
            actor=actor(),
            provider=g.provider,
            settings=g.settings,
            now=g.now,
        )
    except (InvoicingError, LedgerError) as error:
        return _refused(customer_id, invoice_id, form, error)
    if known is not None:
        say("This was asked for already; it was not done twice.", "info")
    else:
        log.info("movement_begun", movement=str(movement.id), kind=kind, actor=actor())
        say(_done_words(movement))
        ring_for(movement)
    return answer(customer_id, invoice_id)


@bp.post(f"{INVOICE}/movements/<uuid:movement_id>/approval")
@needs("approver")
def approve_movement(customer_id: UUID, invoice_id: UUID, movement_id: UUID) -> ResponseReturnValue:
    """Agree, as a second person, to what somebody else began."""
    form = Form(f"approve-{movement_id}", typed=request.form.to_dict())
    try:
        movement = requests.approve_movement(
            g.session,
            customer_id=customer_id,
            movement_id=movement_id,
            actor=actor(),
            provider=g.provider,
            now=g.now,
        )
    except (InvoicingError, LedgerError) as error:
        return _refused(customer_id, invoice_id, form, error)
    log.info("movement_approved", movement=str(movement.id), kind=movement.kind, actor=actor())
    say("Approved. " + _done_words(movement))
    ring_for(movement)
    return answer(customer_id, invoice_id)


@bp.post(f"{INVOICE}/movements/<uuid:movement_id>/withdrawal")
@needs("agent")
def withdraw_movement(customer_id: UUID, invoice_id: UUID, movement_id: UUID) -> ResponseReturnValue:
    """Take back what awaits approval."""
    form = Form(f"withdraw-{movement_id}", typed=request.form.to_dict())
    try:
        requests.withdraw_movement(
            g.session,
            customer_id=customer_id,
            movement_id=movement_id,
            actor=actor(),
            reason=request.form.get("reason", ""),
            now=g.now,
        )
    except InvoicingError as error:
        return _refused(customer_id, invoice_id, form, error)
    log.info("movement_withdrawn", movement=str(movement_id), actor=actor())
    say("Withdrawn: nothing happened.")
    return answer(customer_id, invoice_id)


@bp.post(f"{INVOICE}/operations/<uuid:subject_id>/retry")
@needs("agent")
def retry_operation(customer_id: UUID, invoice_id: UUID, subject_id: UUID) -> ResponseReturnValue:
    """Make a parked or waiting order due now, and note who asked."""
    invoice = get_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id).invoice
    return answer(customer_id, invoice_id, status=200 if _try_again(customer_id, subject_id, invoice) else 409)


@bp.post("/customers/<uuid:customer_id>/operations/<uuid:subject_id>/retry")
@needs("agent")
def retry_stuck_operation(customer_id: UUID, subject_id: UUID) -> ResponseReturnValue:
    """The same, from the list of what stands still: some of it is about no invoice, or not shown on its page."""
    subjects = [subject_id]
    found = g.provider.operation_states(g.session, customer_id=customer_id, subjects=subjects).get(subject_id)
    invoice = g.session.get(Invoice, (customer_id, found.invoice_id)) if found else None
    _try_again(customer_id, subject_id, invoice)
    return redirect(url_for(".home", _anchor="operations"), code=303)


def _try_again(customer_id: UUID, subject_id: UUID, invoice: Invoice | None) -> bool:
    """Whether the order is due now; what was said tells the person either way."""
    try:
        g.provider.retry_operation(g.session, customer_id=customer_id, subject_id=subject_id, actor=actor(), now=g.now)
    except Exception as error:
        # The provider's refusals are classes of a room that this one must not import; what is none goes on.
        text = refusal_text(error)
        if text is None:
            raise
        g.session.rollback()
        say(text, "bad")
        return False
    if invoice is not None:
        details = {"order": str(subject_id)}
        record(g.session, invoice, action="order to be tried again", actor=actor(), now=g.now, details=details)
    log.info("operation_retried", operation=str(subject_id), actor=actor())
    g.ring("operation", customer_id, subject_id)
    say("It is due now. A worker takes it up within moments.")
    return True


def ring_for(movement: Movement) -> None:
    """Wake the worker for what the movement ordered from the provider, once this request is committed."""
    key = {"customer_id": movement.customer_id}
    subjects = subjects_of(g.session, movement_id=movement.id, **key)
    for subject in g.provider.operation_states(g.session, subjects=subjects, **key):
        g.ring("operation", movement.customer_id, subject)


def _announced(invoice: Invoice, kind: str, form: Form, options: Mapping[str, str]) -> Announcement:
    after = aftermath_of(g.session, invoice, provider=g.provider)
    return announce(
        g.session,
        after.standing if after else standing_of(g.session, invoice),
        kind=kind,
        amount=form.values.get("amount"),
        options=options,
        fees=after.fees if after else Decimal(0),
        approval_limit=g.settings.approval_limit,
        provider=g.provider,
    )


def _ask_again(customer_id: UUID, invoice_id: UUID, form: Form, announcement: Announcement) -> ResponseReturnValue:
    """The form as it was filled in, with what it would do: nothing was done, so there is nothing to redirect from."""
    g.session.rollback()
    context = page_context(customer_id, invoice_id, form=form, announcement=announcement)
    if wants_fragment():
        return render_template("support/invoices/_invoice.html", **context), 200, {FRAGMENT: "1"}
    return render_template("support/invoices/show.html", **context), 200


def _changed(invoice: Invoice, form: Form) -> ResponseReturnValue:
    """The invoice moved on after the page was made: nothing of the form is done."""
    key = (invoice.customer_id, invoice.id)
    g.session.rollback()
    view = get_invoice(g.session, customer_id=key[0], invoice_id=key[1])
    seen = int(form.values["version"])
    form.refuse("The invoice changed after you opened it: see above. Read again what would happen.")
    return answer(*key, form=form, conflict=Conflict(seen, view.invoice.version, steps_since(view, seen)), status=409)


def _refused(customer_id: UUID, invoice_id: UUID, form: Form, error: Exception) -> ResponseReturnValue:
    # What was locked or half done must be gone before the page is read again.
    g.session.rollback()
    code = str(getattr(error, "code", ""))
    form.refuse(str(error), at=FIELDS.get(code, ON_FORM))
    status = 403 if code == "second_person_needed" else 409 if code in CONFLICTS else 422
    return answer(customer_id, invoice_id, form=form, status=status)


def _outside_options(customer_id: UUID, invoice_id: UUID, form: Form) -> dict[str, str]:
    """When and under which reference the money came; days are those of the customer's billing time zone."""
    customer = get_customer(g.session, customer_id=customer_id)
    invoice = get_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id).invoice
    on: date = form.values["received_on"]
    received_at = datetime(on.year, on.month, on.day, tzinfo=zone(customer.time_zone)).astimezone(UTC)
    if received_at > g.now:
        form.refuse("That day has not come yet.", at="received_on")
    elif received_at < invoice.period_start:
        form.refuse("That is before the time that the invoice is about. Look at the statement again.", at="received_on")
    return {"received_at": received_at.isoformat(), "reference": form.values["reference"]}


def _done_words(movement: Movement) -> str:
    if movement.state == "awaiting_approval":
        return "Asked for. Nothing happens before a second person approves it."
    if movement.state == "done":
        return "Done."
    return "Begun. How far it is stands below."
