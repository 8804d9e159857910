"""Payments that happened outside of Stripe and are only written down there.

Source: https://docs.stripe.com/api/payment-record/report.
"""

from __future__ import annotations

from .errors import Json
from .ids import new_id
from .params import merged_metadata
from .world import Call

_AMOUNTS = ("amount_authorized", "amount_canceled", "amount_failed", "amount_guaranteed", "amount_refunded")


def report_payment(call: Call) -> Json:
    """Write a payment down; `outcome` guaranteed (the default here) means that the money is there."""
    params, world = call.params, call.world
    asked = {"currency": params["amount_requested"]["currency"].lower(), "value": params["amount_requested"]["value"]}
    reached = "amount_failed" if params.get("outcome") == "failed" else "amount_guaranteed"
    details = params["payment_method_details"]
    processor = params.get("processor_details") or {"type": "custom"}
    customer = params.get("customer_details")
    record: Json = {
        "id": new_id("pr"),
        "object": "payment_record",
        "amount": asked,
        **{name: {**asked, "value": asked["value"] if name == reached else 0} for name in _AMOUNTS},
        "amount_requested": asked,
        "application": None,
        "created": world.clock.stamp(),
        "customer_details": None
        if customer is None
        else {name: customer.get(name) for name in ("customer", "email", "name", "phone")},
        "customer_presence": params.get("customer_presence"),
        "description": params.get("description"),
        "latest_payment_attempt_record": None,
        "livemode": False,
        "metadata": merged_metadata({}, params.get("metadata", {})),
        "payment_method_details": {
            "billing_details": None,
            "custom": {"display_name": (details.get("custom") or {}).get("display_name", "Custom"), "type": None},
            "payment_method": details.get("payment_method"),
            "type": "custom",
        },
        "processor_details": processor,
        "reported_by": "self",
        "shipping_details": None,
    }
    return world.store.insert(record)


def retrieve_record(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="payment_record")
