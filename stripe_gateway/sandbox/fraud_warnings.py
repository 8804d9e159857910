"""Early fraud warnings: a card's issuer suspects fraud before anybody disputes the payment.

Source: https://docs.stripe.com/disputes/measuring and https://docs.stripe.com/api/radar/early_fraud_warnings.
"""

from __future__ import annotations

from .errors import Json, invalid
from .events import emit
from .ids import new_id
from .lists import list_objects
from .world import Call, World

FRAUD_TYPES = (
    "card_never_received", "fraudulent_card_application", "made_with_counterfeit_card", "made_with_lost_card",
    "made_with_stolen_card", "misc", "unauthorized_use_of_card",
)  # fmt: skip


def warn(world: World, charge: Json, *, fraud_type: str = "made_with_stolen_card") -> Json:
    """Warn about a charge; it can be acted on until it is refunded or disputed."""
    if fraud_type not in FRAUD_TYPES:
        raise invalid(f"Invalid fraud_type: must be one of {', '.join(FRAUD_TYPES)}", param="fraud_type")
    warning = world.store.insert(
        {
            "id": new_id("issfr"),
            "object": "radar.early_fraud_warning",
            "actionable": not charge["disputed"] and not charge["refunded"],
            "charge": charge["id"],
            "created": world.clock.stamp(),
            "fraud_type": fraud_type,
            "livemode": False,
            "payment_intent": charge["payment_intent"],
        }
    )
    emit(world, "radar.early_fraud_warning.created", warning)
    return warning


def warn_when_due(world: World, charge_id: str) -> None:
    """The clock's turn for the test card whose issuer warns."""
    row = world.store.row(charge_id, kind="charge")
    if row is not None:
        warn(world, row.data)


def retrieve_warning(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="radar.early_fraud_warning")


def list_warnings(call: Call) -> Json:
    return list_objects(
        call,
        "radar.early_fraud_warning",
        url="/v1/radar/early_fraud_warnings",
        filters={"charge": "parent", "payment_intent": "ref"},
    )
