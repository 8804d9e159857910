"""Corrections of a draft: charges added, lines credited or waived, each undone or approved."""

from uuid import UUID

from flask import abort, g, request
from flask.typing import ResponseReturnValue

from invoicing import adjustments
from support_ui.access import actor, needs
from support_ui.forms import Approval, Charge, Form, LineCredit, LineWaiver, Step, read_form
from support_ui.invoice_page import change_draft
from support_ui.site import bp

INVOICE = "/customers/<uuid:customer_id>/invoices/<uuid:invoice_id>"


@bp.post(f"{INVOICE}/adjustments")
@needs("agent")
def adjust(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Add a charge, credit a line or waive it, as the form's `kind` says."""
    makers = {"charge": _charge, "credit": _credit, "waive": _waive}
    make = makers.get(request.form.get("kind", ""))
    if make is None:
        abort(422, "The form does not say what to do: reload the page.")
    return make(customer_id, invoice_id)


def _charge(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    form = read_form(Charge, name="charge")
    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"charge added"}),
        change=lambda: adjustments.add_charge(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            expected_version=form.values["version"],
            amount=form.values["amount"],
            description=form.values["description"],
            reason=form.values["reason"],
            actor=actor(),
            settings=g.settings,
            now=g.now,
        ),
        done="The charge is on the draft.",
    )


def _credit(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    form = read_form(LineCredit, name="credit")
    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"line credited"}),
        change=lambda: adjustments.credit_line(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            expected_version=form.values["version"],
            line_id=form.values["line_id"],
            amount=form.values["amount"],
            reason=form.values["reason"],
            actor=actor(),
            settings=g.settings,
            now=g.now,
        ),
        done="The line is credited.",
    )


def _waive(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    form = read_form(LineWaiver, name="waive")
    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"line waived"}),
        change=lambda: adjustments.waive_line(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            expected_version=form.values["version"],
            line_id=form.values["line_id"],
            reason=form.values["reason"],
            actor=actor(),
            settings=g.settings,
            now=g.now,
        ),
        done="The line is waived.",
    )


@bp.post(f"{INVOICE}/adjustments/<uuid:adjustment_id>/undoing")
@needs("agent")
def undo(customer_id: UUID, invoice_id: UUID, adjustment_id: UUID) -> ResponseReturnValue:
    """Undo one adjustment exactly."""
    form = _about(adjustment_id, read_form(Step, name=f"undo-{adjustment_id}"))
    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"adjustment undone"}),
        change=lambda: adjustments.undo(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            expected_version=form.values["version"],
            adjustment_id=adjustment_id,
            reason=form.values["reason"],
            actor=actor(),
            now=g.now,
        ),
        done="The adjustment is undone.",
    )


@bp.post(f"{INVOICE}/adjustments/<uuid:adjustment_id>/approval")
@needs("approver")
def approve(customer_id: UUID, invoice_id: UUID, adjustment_id: UUID) -> ResponseReturnValue:
    """Agree, as a second person, to somebody else's adjustment."""
    form = _about(adjustment_id, read_form(Approval, name=f"approve-{adjustment_id}"))
    return change_draft(
        customer_id,
        invoice_id,
        form=form,
        actions=frozenset({"adjustment approved"}),
        change=lambda: adjustments.approve(
            g.session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            expected_version=form.values["version"],
            adjustment_id=adjustment_id,
            actor=actor(),
            now=g.now,
        ),
        done="The adjustment is approved.",
    )


def _about(adjustment_id: UUID, form: Form) -> Form:
    form.values["adjustment_id"] = adjustment_id
    return form
