"""Invoice payments: which payment intents, or payments outside of Stripe, pay which invoice.

Source: https://docs.stripe.com/invoicing/partial-payments (several payments of one invoice, overpayment).
"""

from __future__ import annotations

from . import charges
from .errors import Json
from .events import emit
from .ids import new_id
from .lists import list_objects
from .world import Call, World


def new_payment(world: World, invoice: Json) -> Json:
    """An incomplete payment intent over what remains of an invoice, tied to it by the invoice payment returned."""
    intent = charges.new_intent(
        world, amount=invoice["amount_remaining"], currency=invoice["currency"], customer=invoice["customer"],
        description="Payment for Invoice", order=invoice["id"],
    )  # fmt: skip
    # What a browser needs to let the customer confirm the payment of an open invoice.
    invoice["confirmation_secret"] = {"client_secret": intent["client_secret"], "type": "payment_intent"}
    link = {"payment_intent": intent["id"], "type": "payment_intent"}
    return tie(world, invoice, link, intent["amount"], is_default=True)


def tie(world: World, invoice: Json, payment: Json, amount: int, *, is_default: bool) -> Json:
    """An open invoice payment; `payment` names the payment intent or payment record."""
    return world.store.insert(
        {
            "id": new_id("inpay"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": amount,
            "created": world.clock.stamp(),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": is_default,
            "livemode": False,
            "payment": payment,
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )


def _open_payment(world: World, invoice: Json) -> Json | None:
    """The invoice's own open payment; those that were attached to it are left to themselves."""
    found = world.store.where("invoice_payment", "parent = ? AND status = 'open'", invoice["id"])
    return next((payment for payment in found if payment["is_default"]), None)


def _intent(world: World, payment: Json) -> Json:
    return world.store.get(payment["payment"]["payment_intent"], kind="payment_intent")


def succeeded_charge(world: World, invoice: Json, method_id: str) -> int:
    """Charge what remains; returns the amount in minor units that this paid."""
    payment = _open_payment(world, invoice) or new_payment(world, invoice)
    intent = _intent(world, payment)
    charges.take(world, intent, method_id)
    return paid(world, payment, intent["amount_received"])


def begun_debit(world: World, invoice: Json, method_id: str) -> None:
    """Begin to debit a bank account with what remains; nothing is paid until the bank has answered."""
    payment = _open_payment(world, invoice) or new_payment(world, invoice)
    charges.debit(world, _intent(world, payment), method_id)


def under_way(world: World, invoice: Json) -> Json | None:
    """The payment of the invoice that waits for a bank's answer, if there is one."""
    found = world.store.where("invoice_payment", "parent = ? AND status = 'open'", invoice["id"])
    return next((payment for payment in found if _intent(world, payment)["status"] == "processing"), None)


def paid(world: World, payment: Json, amount: int) -> int:
    """The payment of an invoice arrived; returns its amount."""
    payment.update(amount_paid=amount, status="paid")
    payment["status_transitions"]["paid_at"] = world.clock.stamp()
    world.store.update(payment)
    emit(world, "invoice_payment.paid", payment)
    return amount


def failed_charge(world: World, invoice: Json, method_id: str, error: Json) -> None:
    """Record a declined charge of the invoice."""
    payment = _open_payment(world, invoice) or new_payment(world, invoice)
    charges.fail_to_take(world, _intent(world, payment), method_id, error)


def cancel_payment(world: World, invoice: Json, *, reason: str, attached: bool = False) -> None:
    """Cancel the open payment of an invoice that ends another way; `attached` those too that were attached to it.

    A debit that waits for the bank's answer cannot be called back: it goes on, and its money comes all the same.
    """
    for payment in world.store.where("invoice_payment", "parent = ? AND status = 'open'", invoice["id"]):
        intent = _intent(world, payment)
        if (payment["is_default"] or attached) and intent["status"] != "processing":
            payment["status"] = "canceled"
            payment["status_transitions"]["canceled_at"] = world.clock.stamp()
            world.store.update(payment)
            charges.cancel_intent(world, intent, reason=reason)


def paid_charges(world: World, invoice: Json) -> list[Json]:
    """The charges that paid the invoice, oldest first."""
    payments = world.store.where("invoice_payment", "parent = ? AND status = 'paid'", invoice["id"], newest_first=False)
    intents = [payment["payment"].get("payment_intent") for payment in payments]
    return [
        charge
        for intent in intents
        for charge in world.store.where("charge", "parent = ? AND status = 'succeeded'", intent)
    ]


def adjust_payment(world: World, invoice: Json) -> None:
    """Let the open payment ask for what remains, after a credit note or a partial payment changed that."""
    payment = _open_payment(world, invoice)
    if payment is None or _intent(world, payment)["status"] == "processing":
        return
    world.store.update({**_intent(world, payment), "amount": invoice["amount_remaining"]})
    world.store.update({**payment, "amount_requested": invoice["amount_remaining"]})


def retrieve_invoice_payment(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="invoice_payment")


def list_invoice_payments(call: Call) -> Json:
    """Newest first; `payment` finds the invoice of a payment intent or payment record."""
    payment = call.params.get("payment") or {}
    ref = payment.get(payment["type"]) if payment else None
    asked = Call(call.world, call.ids, {**call.params, "ref": ref}, call.expand)
    return list_objects(
        asked,
        "invoice_payment",
        url="/v1/invoice_payments",
        filters={"invoice": "parent", "status": "status", "ref": "ref"},
    )
