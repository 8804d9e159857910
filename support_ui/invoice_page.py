"""What the page of one invoice shows, and how a form on it is answered: one place for page and fragment."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from flask import g, url_for
from flask.typing import ResponseReturnValue

from invoicing.customers import get_customer
from invoicing.drafts import DraftChanged, InvoiceView, NotADraft, get_invoice
from invoicing.errors import InvoicingError
from invoicing.explaining import words
from invoicing.explaining.of_line import LineExplanation, explain_line
from invoicing.settling import settle
from invoicing.tables import Customer, HistoryRow, Line
from support_ui import evidence
from support_ui.access import actor
from support_ui.aftermath import actions_of, aftermath_of
from support_ui.announcements import Announcement
from support_ui.forms import FIELD_OF_CODE, ON_FORM, Form
from support_ui.site import answer_form, say

CONFLICTS = frozenset({
    "draft_changed", "not_a_draft", "already_held", "not_held", "draft_held", "approval_pending",
    "approval_not_needed", "adjustment_undone", "unknown_adjustment", "unknown_line", "draft_does_not_match_ledger",
    "line_not_adjustable", "outcome_changed",
})  # fmt: skip
"""Refusals by what happened to the draft, not by what was typed: 409. The others are 422."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The draft changed between reading and sending: from which version to which, and what was done meanwhile."""

    seen: int
    actual: int
    steps: list[HistoryRow]


@dataclass(frozen=True, slots=True)
class OpenLine:
    """One line with what stands behind it, and what of it could still be taken off."""

    line: Line
    evidence: evidence.Evidence
    left: Decimal
    why: LineExplanation


def left_of(view: InvoiceView, line: Line) -> Decimal:
    """What of a line its credits have left, exact; 0 for an adjustment's own line."""
    if line.adjustment_id is not None:
        return Decimal(0)
    taken = sum((a.amount for a in view.adjustments if a.line_id == line.id and a.undone_at is None), Decimal(0))
    return max(Decimal(0), line.amount + taken)


def open_line(view: InvoiceView, line_id: UUID | str | None, *, before_seq: int | None = None) -> OpenLine | None:
    """The line with its evidence; None if the invoice has no such line."""
    line = next((line for line in view.lines if str(line.id) == str(line_id)), None)
    if line is None:
        return None
    found = evidence.evidence(g.session, line, invoice=view.invoice, before_seq=before_seq)
    invoice = view.invoice
    why = explain_line(
        g.session, customer_id=invoice.customer_id, invoice_id=invoice.id, line_id=line.id, provider=g.provider
    )
    return OpenLine(line, found, left_of(view, line), why)


def page_context(
    customer_id: UUID,
    invoice_id: UUID,
    *,
    form: Form | None = None,
    conflict: Conflict | None = None,
    announcement: Announcement | None = None,
) -> dict[str, Any]:
    """Everything that the page and its fragment show. `announcement` is what the form would do, if it was asked.

    Raises:
        CustomerNotFound, InvoiceNotFound.
    """
    view = get_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id)
    is_draft = view.invoice.state == "draft"
    prefix_and_last = g.session.get_one(Customer, customer_id)
    settlement = settle(g.session, view.invoice, view.lines, provider=g.provider) if is_draft else None
    after = aftermath_of(g.session, view.invoice, provider=g.provider)
    return {
        "view": view,
        "invoice": view.invoice,
        "customer": get_customer(g.session, customer_id=customer_id),
        "is_draft": is_draft,
        "settlement": settlement,
        "taxes": settlement.assessment.taxes if settlement else view.taxes,
        "minimum": g.provider.of(g.session, customer_id=customer_id).minimum(view.invoice.currency),
        "next_number": f"{prefix_and_last.invoice_prefix}-{prefix_and_last.last_invoice_number + 1:04d}",
        "sync": g.provider.sync_states(g.session, [(customer_id, invoice_id)]).get(invoice_id),
        "unit_prices": evidence.unit_prices(g.session, view.lines),
        "units": evidence.units(g.session, view.lines),
        "left": {line.id: left_of(view, line) for line in view.lines},
        "form": form,
        "conflict": conflict,
        "opened": open_line(view, form.typed.get("line_id")) if form and form.errors else None,
        "approval_limit": g.settings.approval_limit,
        "signed": evidence.signed,
        "after": after,
        "actions": actions_of(g.session, after, approval_limit=g.settings.approval_limit) if after else [],
        "announcement": announcement,
        "said": words,
    }


def answer(
    customer_id: UUID,
    invoice_id: UUID,
    *,
    form: Form | None = None,
    conflict: Conflict | None = None,
    status: int = 200,
) -> ResponseReturnValue:
    """The invoice's fragment, page or redirect, as the request wants it."""
    return answer_form(
        page="support/invoices/show.html",
        fragment="support/invoices/_invoice.html",
        status=status,
        context=page_context(customer_id, invoice_id, form=form, conflict=conflict),
        done_at=url_for("support.invoice", customer_id=customer_id, invoice_id=invoice_id),
    )


def change_draft(
    customer_id: UUID, invoice_id: UUID, *, form: Form, actions: frozenset[str], change: Callable[[], object], done: str
) -> ResponseReturnValue:
    """Do one thing to a draft and answer its form: done, 422 for what was typed, 409 for what happened meanwhile.

    `actions` are the words under which the history will know it, so that the second half of a double click is
    recognised as done instead of being refused as a stale draft.
    """
    if not form.is_valid:
        return answer(customer_id, invoice_id, form=form, status=422)
    try:
        change()
    except InvoicingError as error:
        # What was locked or half done must be gone before the page is read again.
        g.session.rollback()
        return _refused(customer_id, invoice_id, form, error, actions)
    say(done)
    return answer(customer_id, invoice_id)


def _refused(
    customer_id: UUID, invoice_id: UUID, form: Form, error: InvoicingError, actions: frozenset[str]
) -> ResponseReturnValue:
    view = get_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id)
    seen = int(form.values["version"])
    if isinstance(error, DraftChanged | NotADraft):
        if _is_repeat(view, form, seen, actions):
            say("This was done already; it was not done twice.", "info")
            return answer(customer_id, invoice_id)
        conflict = Conflict(seen, view.invoice.version, steps_since(view, seen))
        form.refuse(str(error))
        return answer(customer_id, invoice_id, form=form, conflict=conflict, status=409)
    form.refuse(str(error), at=FIELD_OF_CODE.get(error.code, ON_FORM))
    status = 403 if error.code == "second_person_needed" else 409 if error.code in CONFLICTS else 422
    return answer(customer_id, invoice_id, form=form, status=status)


def steps_since(view: InvoiceView, version: int) -> list[HistoryRow]:
    """The steps that made later versions: the first row is version 1, and each row after it made one more."""
    return view.history[version:]


def _is_repeat(view: InvoiceView, form: Form, seen: int, actions: frozenset[str]) -> bool:
    """Whether the step right after what the form saw is this very form, sent once before by the same person."""
    steps = steps_since(view, seen)
    if not steps:
        return False
    step = steps[0]
    wanted = {name: form.values[name] for name in ("amount", "description") if name in form.values}
    same_details = all(_same(step.details.get(name), value) for name, value in wanted.items())
    same_reason = step.reason == form.values.get("reason", step.reason)
    return (
        step.actor == actor()
        and step.action in actions
        and same_details
        and same_reason
        and _same_target(view, step, form)
    )


def _same(noted: object, value: object) -> bool:
    if isinstance(value, Decimal):
        return noted is not None and abs(Decimal(str(noted))) == value
    return noted == value or (isinstance(noted, str) and isinstance(value, str) and noted.endswith(value))


def _same_target(view: InvoiceView, step: HistoryRow, form: Form) -> bool:
    """Whether the step was about the line or the adjustment that the form is about."""
    adjustment_id = step.details.get("adjustment_id")
    if "adjustment_id" in form.values:
        return adjustment_id == str(form.values["adjustment_id"])
    if "line_id" in form.values:
        return any(str(a.id) == adjustment_id and a.line_id == form.values["line_id"] for a in view.adjustments)
    return True
