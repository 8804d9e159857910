"""Which plan a customer has, over HTTP: given, changed, given up."""

from typing import Any
from uuid import UUID

from flask import g, jsonify
from flask.typing import ResponseReturnValue

from app.api import rendering
from app.api.blueprint import bp
from app.api.requests import FieldsRefused, read_body
from app.api.schemas import PlanEndSchema, PlanSchema
from invoicing import subscriptions
from invoicing.customers import get_customer
from invoicing.plans.catalogue import INTERVALS, list_plans
from invoicing.subscriptions import Subscription

PATH = "/customers/<uuid:customer_id>/plan"
WHEN = ("now", "period_end")


@bp.get("/plans")
def show_plans() -> ResponseReturnValue:
    """Every version of every plan that is offered."""
    return jsonify(plans=[rendering.plan(terms) for terms in list_plans(g.session)])


@bp.put(PATH)
def put_plan(customer_id: UUID) -> ResponseReturnValue:
    """Give the customer a plan, now or when the present one's paid time is over. The same again changes nothing."""
    wanted = dict(read_body(PlanSchema()))
    _known("interval", wanted["interval"], INTERVALS)
    when = _known("when", wanted.pop("when"), WHEN)
    change = subscriptions.subscribe if when == "now" else subscriptions.change_at_end
    change(g.session, customer_id=customer_id, **wanted, actor=g.actor, now=g.now)
    return show_plan(customer_id)


@bp.delete(PATH)
def end_plan(customer_id: UUID) -> ResponseReturnValue:
    """End the customer's plan, now with the rest given back, or when its paid time is over."""
    wanted = read_body(PlanEndSchema())
    whose: dict[str, Any] = {"customer_id": customer_id, "reason": wanted["reason"], "actor": g.actor, "now": g.now}
    if _known("when", wanted["when"], WHEN) == "now":
        subscriptions.cancel(g.session, **whose)
    else:
        subscriptions.change_at_end(g.session, plan=None, **whose)
    return show_plan(customer_id)


@bp.get(PATH)
def show_plan(customer_id: UUID) -> ResponseReturnValue:
    """The plan that the customer has now, and what follows; null where there is none."""
    get_customer(g.session, customer_id=customer_id)
    found = subscriptions.subscriptions_of(g.session, customer_id=customer_id)
    current = next((one for one in found if one.since <= g.now and (one.until is None or g.now < one.until)), None)
    following = next((one for one in found if one.since > g.now), None)
    return jsonify(current=_or_null(current), next=_or_null(following))


def _or_null(subscription: Subscription | None) -> dict[str, Any] | None:
    return None if subscription is None else rendering.subscription(subscription)


def _known(field: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise FieldsRefused([(field, f"bad_{field}", f"Give one of {', '.join(allowed)}.")])
    return value
