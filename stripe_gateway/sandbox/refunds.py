"""Refunds: money back on a charge, in whole or in parts, never more than was charged.

Source: https://docs.stripe.com/refunds (pending, failed and canceled refunds).
"""

from __future__ import annotations

from .balance import balance_entry, settled
from .errors import Json, invalid, refused
from .events import emit
from .ids import new_id
from .lists import list_objects
from .params import merged_metadata
from .payment_methods import behaviour_of
from .world import Call, World

FAILURE_REASONS = (
    "lost_or_stolen_card", "expired_or_canceled_card", "charge_for_pending_refund_disputed", "insufficient_funds",
    "declined", "merchant_request", "unknown",
)  # fmt: skip
# A dispute in one of these states lets the charge be refunded: an inquiry, or one that the merchant won.
_REFUNDABLE = frozenset(["warning_needs_response", "warning_under_review", "warning_closed", "won", "prevented"])


# Where the money goes back to, by the type of the payment method.
_DESTINATIONS: Json = {
    "card": {
        "card": {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"},
        "type": "card",
    },
    "us_bank_account": {"type": "us_bank_transfer", "us_bank_transfer": {"reference": None, "reference_status": None}},
    "sepa_debit": {"type": "eu_bank_transfer", "eu_bank_transfer": {"reference": None, "reference_status": None}},
}


def create_refund(call: Call) -> Json:
    """Refund `amount` minor units (default: all that is left). The processing fee does not come back."""
    params = call.params
    charge = _charge(call.world, params)
    return make_refund(
        call.world,
        charge,
        amount=params.get("amount"),
        reason=params.get("reason"),
        metadata=merged_metadata({}, params.get("metadata", {})),
    )


def make_refund(
    world: World, charge: Json, *, amount: int | None = None, reason: str | None = None, metadata: Json | None = None
) -> Json:
    """A refund of a charge that succeeded, in minor units of its currency; None is all that is left.

    Raises:
        ApiError: 400, when it would exceed what is left, or while a dispute holds the money.
    """
    check_not_disputed(world, charge)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left <= 0:
        raise refused(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = left if amount is None else amount
    if amount > left:
        raise refused(f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).", param="amount")
    behaviour = behaviour_of(world, charge["payment_method"]).refund
    way = charge["payment_method_details"]["type"]
    waits = world.settings.refund_pending or behaviour == "pending"
    refund: Json = {
        "id": new_id("re" if way == "card" else "pyr"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": world.clock.stamp(),
        "currency": charge["currency"],
        "destination_details": _DESTINATIONS[way],
        "metadata": metadata or {},
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "pending" if waits else "succeeded",
        "transfer_reversal": None,
    }
    if waits:
        refund["pending_reason"] = "processing"
    else:
        _take_money(world, refund)
    world.store.insert(refund)
    before = _count_on_charge(world, charge, amount)
    emit(world, "refund.created", refund)
    emit(world, "charge.refunded", charge, previous=before)
    if not waits:
        emit(world, "refund.updated", refund, previous={"status": "pending"})
    if behaviour == "fails":
        world.schedule("fail_refund", refund["id"], delay_s=world.settings.settlement_delay_s)
    elif behaviour == "pending":
        world.schedule("settle_refund", refund["id"], delay_s=world.settings.settlement_delay_s)
    return refund


def check_not_disputed(world: World, charge: Json) -> None:
    """Raises ApiError (400, `charge_disputed`) while a dispute holds the charge's money, or has lost it."""
    for dispute in world.store.where("dispute", "parent = ?", charge["id"]):
        if dispute["status"] not in _REFUNDABLE:
            raise refused(
                f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed"
            )


def settle(world: World, refund: Json) -> Json:
    """A pending refund succeeds: the money leaves the balance."""
    if refund["status"] not in ("pending", "requires_action"):
        raise refused(f"Refund {refund['id']} is {refund['status']}: only a pending refund can succeed.")
    _take_money(world, refund)
    return _move(world, refund, "succeeded")


def fail(world: World, refund: Json, *, reason: str = "expired_or_canceled_card") -> Json:
    """The bank sends the refund back, also days after it succeeded: the money is in the balance again."""
    if refund["status"] not in ("pending", "requires_action", "succeeded"):
        raise refused(f"Refund {refund['id']} is {refund['status']}: it cannot fail any more.")
    if reason not in FAILURE_REASONS:
        raise invalid(f"Invalid reason: must be one of {', '.join(FAILURE_REASONS)}", param="reason")
    refund["failure_reason"] = reason
    if refund["balance_transaction"] is not None:
        back = settled(world, refund["currency"], refund["amount"])
        entry = balance_entry(
            world, refund["id"], back.currency, back.amount, kind="refund_failure", description="Refund failed",
            rate=back.rate,
        )  # fmt: skip
        refund["failure_balance_transaction"] = entry["id"]
    _return_to_charge(world, refund)
    return _move(world, refund, "failed")


def cancel(world: World, refund: Json) -> Json:
    """A refund that has not gone out yet never will."""
    if refund["status"] not in ("pending", "requires_action"):
        raise refused(f"Refund {refund['id']} is {refund['status']}: it cannot be canceled any more.")
    refund["failure_reason"] = "merchant_request"
    _return_to_charge(world, refund)
    return _move(world, refund, "canceled")


def require_action(world: World, refund: Json) -> Json:
    """The customer must say where the money is to go, as with some bank transfers."""
    if refund["status"] != "pending":
        raise refused(f"Refund {refund['id']} is {refund['status']}: only a pending refund can wait for the customer.")
    return _move(world, refund, "requires_action")


def settle_when_due(world: World, refund_id: str) -> None:
    refund = world.store.get(refund_id, kind="refund")
    if refund["status"] == "pending":
        settle(world, refund)


def fail_when_due(world: World, refund_id: str) -> None:
    refund = world.store.get(refund_id, kind="refund")
    if refund["status"] == "succeeded":
        fail(world, refund)


def _take_money(world: World, refund: Json) -> None:
    kind = "payment_refund" if refund["id"].startswith("pyr_") else "refund"
    given = settled(world, refund["currency"], -refund["amount"])
    entry = balance_entry(
        world, refund["id"], given.currency, given.amount, kind=kind, description="Refund for charge", rate=given.rate
    )
    refund["balance_transaction"] = entry["id"]


def _count_on_charge(world: World, charge: Json, amount: int) -> Json:
    """Add to what was refunded on the charge; returns the fields as they were."""
    before = {"amount_refunded": charge["amount_refunded"], "refunded": charge["refunded"]}
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    world.store.update(charge)
    return before


def _return_to_charge(world: World, refund: Json) -> None:
    charge = world.store.row(refund["charge"], kind="charge", deleted=True)
    if charge is not None:
        _count_on_charge(world, charge.data, -refund["amount"])


def _move(world: World, refund: Json, status: str) -> Json:
    previous: Json = {"status": refund["status"]}
    refund["status"] = status
    reason = refund.pop("pending_reason", None)
    if reason is not None:
        previous["pending_reason"] = reason
    world.store.update(refund)
    emit(world, "refund.updated", refund, previous=previous)
    emit(world, "charge.refund.updated", refund, previous=previous)
    if status == "failed":
        emit(world, "refund.failed", refund)
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


def update_refund(call: Call) -> Json:
    """Only metadata can change."""
    world = call.world
    refund = world.store.get(call.ids[0], kind="refund")
    before = refund["metadata"]
    if "metadata" in call.params:
        refund["metadata"] = merged_metadata(before, call.params["metadata"])
    if refund["metadata"] != before:
        world.store.update(refund)
        emit(world, "refund.updated", refund, previous={"metadata": before})
        emit(world, "charge.refund.updated", refund, previous={"metadata": before})
    return refund


def cancel_refund(call: Call) -> Json:
    """Through the API only a refund that waits for the customer can be canceled, as Stripe has it."""
    refund = call.world.store.get(call.ids[0], kind="refund")
    if refund["status"] != "requires_action":
        raise refused(
            f"You cannot cancel refund {refund['id']}: its status is {refund['status']}, not requires_action."
        )
    return cancel(call.world, refund)


def retrieve_refund(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="refund")


def list_refunds(call: Call) -> Json:
    return list_objects(call, "refund", url="/v1/refunds", filters={"charge": "parent", "payment_intent": "ref"})
