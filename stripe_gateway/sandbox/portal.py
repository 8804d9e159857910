"""Customer Portal sessions: a short-lived address where a customer manages payment methods and invoices."""

from __future__ import annotations

from .errors import Json
from .ids import new_id, new_token
from .world import Call

# Stripe's sessions are short-lived; open one per visit and never store its address.
SESSION_S = 3600


def create_session(call: Call) -> Json:
    params, world = call.params, call.world
    customer = world.store.get(params["customer"], kind="customer", param="customer")
    token = new_token(32)
    session: Json = {
        "id": new_id("bps"),
        "object": "billing_portal.session",
        "configuration": params.get("configuration") or "bpc_1sandboxDefaultConfig00",
        "created": world.clock.stamp(),
        "customer": customer["id"],
        "customer_account": None,
        "flow": None,
        "livemode": False,
        "locale": params.get("locale"),
        "on_behalf_of": None,
        "return_url": params.get("return_url"),
        "url": f"{world.public_url}/p/session/{token}",
    }
    return world.store.insert(session, private={"token": token})
