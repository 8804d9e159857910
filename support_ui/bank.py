"""Bank lines: what arrived by transfer and names no invoice by itself, and what a person transfers back."""

from collections.abc import Callable
from uuid import UUID

import structlog
from flask import g, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate

from invoicing.customers import customers_by_id
from invoicing.errors import InvoicingError
from invoicing.manual import bank_lines as lines
from invoicing.manual import transfers
from invoicing.movements.tables import Movement
from ledger.errors import LedgerError
from support_ui.access import actor, needs
from support_ui.forms import FIELD_OF_CODE, ON_FORM, Form, Typed, read_form
from support_ui.home import invoices_by_id
from support_ui.movements import ring_for
from support_ui.site import answer_form, bp, say

log = structlog.get_logger(__name__)

SHOWN = 200
STATES = {"open": "Open", "settled": "Paid an invoice", "set_aside": "Set aside"}
FIELDS = {
    "bank_line_does_not_fit": "invoice_number",
    "transfer_reference_missing": "reference",
    "payment_refused": "invoice_number",
    **FIELD_OF_CODE,
}
DECIDED = frozenset({"bank_line_decided", "unknown_bank_line", "transfer_not_wanted"})
"""Refusals of what somebody, perhaps the same person with a second click, decided before: 409."""
_WHY = "Say why, in 1 to 2,000 characters: it stands beside the line."


class Settlement(Typed):
    """Which invoice a line paid."""

    invoice_number = fields.String(
        required=True,
        validate=validate.Length(1, 60, error="Give the invoice's number."),
        error_messages={"required": "Give the invoice's number."},
    )
    reason = fields.String(
        required=True, validate=validate.Length(1, 2000, error=_WHY), error_messages={"required": _WHY}
    )


class SettingAside(Typed):
    """Why a line is nothing of ours."""

    reason = fields.String(
        required=True, validate=validate.Length(1, 2000, error=_WHY), error_messages={"required": _WHY}
    )


class Transfer(Typed):
    """Under which reference money was transferred back."""

    reference = fields.String(
        required=True,
        validate=validate.Length(1, 200, error="Give the transfer's reference at the bank."),
        error_messages={"required": "Give the transfer's reference at the bank."},
    )


@bp.get("/bank")
def bank() -> ResponseReturnValue:
    """Lines of our statements, those that wait for a person first, and refunds to be transferred by hand."""
    return render_template("support/bank/index.html", **_context())


@bp.post("/bank/lines/<uuid:line_id>/settlement")
@needs("agent")
def settle_bank_line(line_id: UUID) -> ResponseReturnValue:
    """Say which invoice a line paid."""
    form = read_form(Settlement, name=f"settle-{line_id}")

    def settle() -> str:
        line = lines.settle_line(
            g.session,
            line_id=line_id,
            provider=g.provider,
            settings=g.settings,
            actor=actor(),
            now=g.now,
            **form.values,
        )
        movement = g.session.get(Movement, (line.customer_id, line.id))
        if movement is None:
            return "The payment is booked."
        # Stripe collects this invoice, and is told at once that it is paid.
        ring_for(movement)
        return "The payment is booked. Stripe is told to collect no more."

    return _answer(form, settle)


@bp.post("/bank/lines/<uuid:line_id>/setting-aside")
@needs("agent")
def set_bank_line_aside(line_id: UUID) -> ResponseReturnValue:
    """Say that a line is nothing of ours."""
    form = read_form(SettingAside, name=f"aside-{line_id}")

    def set_aside() -> str:
        lines.set_aside(g.session, line_id=line_id, actor=actor(), now=g.now, **form.values)
        return "The line is set aside."

    return _answer(form, set_aside)


@bp.post("/bank/transfers/<uuid:customer_id>/<uuid:refund_id>")
@needs("agent")
def note_bank_transfer(customer_id: UUID, refund_id: UUID) -> ResponseReturnValue:
    """Note that a refund was transferred by hand."""
    form = read_form(Transfer, name=f"transfer-{refund_id}")

    def note() -> str:
        transfers.note_transfer(
            g.session,
            customer_id=customer_id,
            refund_id=refund_id,
            at=g.now,
            actor=actor(),
            now=g.now,
            **form.values,
        )
        return "The refund is booked."

    return _answer(form, note)


def _answer(form: Form, change: Callable[[], str]) -> ResponseReturnValue:
    """Make the change, which says in a sentence what it did, and show the page."""
    if form.is_valid:
        try:
            done = change()
        except (InvoicingError, LedgerError) as error:
            g.session.rollback()
            if error.code in DECIDED:
                # What the form stood beside is gone from the page, and so is the form: say it above them all.
                say(str(error), "info")
                return _show(409)
            form.refuse(str(error), at=FIELDS.get(error.code, ON_FORM))
        else:
            log.info("bank_decision", form=form.name, actor=actor())
            say(done)
    return _show(422, form=form) if form.errors else _show(200)


def _show(status: int, *, form: Form | None = None) -> ResponseReturnValue:
    return answer_form(
        page="support/bank/index.html",
        fragment="support/bank/_bank.html",
        status=status,
        context=_context(form=form),
        done_at=url_for(".bank"),
    )


def _context(*, form: Form | None = None) -> dict[str, object]:
    state = request.args.get("state", "open")
    state = state if state in STATES else "open"
    found = lines.bank_lines(g.session, state=state, limit=SHOWN + 1)
    refunds = transfers.waiting_transfers(g.session, limit=SHOWN)
    named = {line.customer_id for line in found if line.customer_id} | {refund.customer_id for refund in refunds}
    wanted = [line.invoice_id for line in found if line.invoice_id] + [refund.invoice_id for refund in refunds]
    return {
        "lines": found[:SHOWN],
        "has_more": len(found) > SHOWN,
        "state": state,
        "states": STATES,
        "open_lines": lines.count_open(g.session),
        "refunds": refunds,
        "customers": customers_by_id(g.session, customer_ids=sorted(named)),
        "invoices": invoices_by_id(g.session, wanted),
        "form": form,
    }
