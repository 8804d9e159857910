"""A customer's plan: given, changed, given up and kept, by staff."""

from collections.abc import Callable
from uuid import UUID

from flask import g, redirect, url_for
from flask.typing import ResponseReturnValue

from invoicing import subscriptions
from invoicing.errors import InvoicingError
from support_ui.access import actor, needs
from support_ui.forms import ON_FORM, Form, PlanChange, PlanEnd, read_form
from support_ui.site import bp, say

PATH = "/customers/<uuid:customer_id>/plan"


@bp.post(PATH)
@needs("agent")
def plan(customer_id: UUID) -> ResponseReturnValue:
    """Give the customer a plan, now or when the paid time is over."""
    form = read_form(PlanChange, name="plan")

    def change() -> str:
        wanted = dict(form.values)
        code, _, interval = wanted.pop("plan").partition(" ")
        begin = subscriptions.change_at_end if wanted.pop("when") == "period_end" else subscriptions.subscribe
        taken = begin(
            g.session,
            customer_id=customer_id,
            plan=code,
            interval=interval or "month",
            actor=actor(),
            now=g.now,
            **wanted,
        )
        return "The plan is changed." if taken is None or taken.since <= g.now else "The plan will change."

    return _answer(customer_id, form, change)


@bp.post(f"{PATH}/end")
@needs("agent")
def end_plan(customer_id: UUID) -> ResponseReturnValue:
    """End the customer's plan, now or when the paid time is over."""
    form = read_form(PlanEnd, name="plan-end")

    def change() -> str:
        if form.values["when"] == "period_end":
            subscriptions.change_at_end(
                g.session, customer_id=customer_id, plan=None, reason=form.values["reason"], actor=actor(), now=g.now
            )
            return "The plan will end."
        subscriptions.cancel(g.session, customer_id=customer_id, reason=form.values["reason"], actor=actor(), now=g.now)
        return "The plan has ended; what was charged beyond now is given back."

    return _answer(customer_id, form, change)


@bp.post(f"{PATH}/keep")
@needs("agent")
def keep_plan(customer_id: UUID) -> ResponseReturnValue:
    """Take back the planned end of the plan."""

    def change() -> str:
        subscriptions.keep(g.session, customer_id=customer_id, actor=actor(), now=g.now)
        return "The plan goes on."

    return _answer(customer_id, Form("plan-keep"), change)


def _answer(customer_id: UUID, form: Form, change: Callable[[], str]) -> ResponseReturnValue:
    if form.is_valid:
        try:
            done = change()
        except InvoicingError as error:
            g.session.rollback()
            form.refuse(str(error), at=ON_FORM)
        else:
            say(done)
    for messages in form.errors.values():
        for message in messages:
            say(message, "bad")
    return redirect(url_for(".customer", customer_id=customer_id, _anchor="plan"), code=303)
