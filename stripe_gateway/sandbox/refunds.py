"""Refunds: money back on a charge, in whole or in parts, never more than was charged."""

from __future__ import annotations

from .errors import Json, invalid, refused
from .events import emit
from .ids import new_id
from .lists import list_objects
from .params import merged_metadata
from .payments import balance_entry
from .world import Call, World


def create_refund(call: Call) -> Json:
    """Refund `amount` minor units (default: all that is left). The processing fee does not come back."""
    params, world = call.params, call.world
    charge = _charge(world, params)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left <= 0:
        raise refused(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = params.get("amount", left)
    if amount > left:
        raise refused(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).", param="amount")
    refund: Json = {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": world.clock.stamp(),
        "currency": charge["currency"],
        "destination_details": {
            "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
            "type": "card",
        },
        "metadata": merged_metadata({}, params.get("metadata", {})),
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    entry = balance_entry(world, refund["id"], charge["currency"], -amount, fee=0, kind="refund")
    refund["balance_transaction"] = entry["id"]
    world.store.insert(refund)
    before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.store.update(charge)
    emit(world, "refund.created", refund)
    emit(world, "charge.refunded", charge, previous=before)
    emit(world, "refund.updated", refund, previous={"status": "pending"})
    return refund


def _charge(world: World, params: Json) -> Json:
    if params.get("charge"):
        charge = world.store.get(params["charge"], kind="charge", param="charge")
    elif params.get("payment_intent"):
        intent = world.store.get(params["payment_intent"], kind="payment_intent", param="payment_intent")
        if intent["latest_charge"] is None:
            raise refused(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.")
        charge = world.store.get(intent["latest_charge"], kind="charge")
    else:
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
    if charge["status"] != "succeeded":
        raise refused(f"Charge {charge['id']} was not successful and cannot be refunded.")
    return charge


def retrieve_refund(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="refund")


def list_refunds(call: Call) -> Json:
    return list_objects(call, "refund", url="/v1/refunds", filters={"charge": "parent", "payment_intent": "ref"})
