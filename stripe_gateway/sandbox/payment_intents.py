"""Payments without an invoice of their own, and payments that are attached to an invoice by hand.

Source: https://docs.stripe.com/api/payment_intents and https://docs.stripe.com/invoicing/partial-payments.
"""

from __future__ import annotations

from . import charges, payments
from .bank_accounts import BankAccount
from .cards import refusal
from .collection import apply_payment
from .currencies import minimum_charge
from .errors import Json, invalid, refused
from .lists import list_objects
from .params import merged_metadata
from .payment_methods import attach, behaviour_of, find_or_make
from .world import Call, World


def create_intent(call: Call) -> Json:
    """A payment intent, charged at once with `confirm`."""
    params, world = call.params, call.world
    currency = params["currency"].lower()
    if params["amount"] < minimum_charge(currency):
        raise refused(
            f"Amount must be no less than {minimum_charge(currency)} in {currency}.", code="amount_too_small",
            param="amount",
        )  # fmt: skip
    customer = params.get("customer")
    if customer is not None:
        world.store.get(customer, kind="customer", param="customer")
    intent = charges.new_intent(
        world, amount=params["amount"], currency=currency, customer=customer,
        description=params.get("description"), metadata=merged_metadata({}, params.get("metadata", {})),
    )  # fmt: skip
    if params.get("payment_method"):
        intent["payment_method"] = _method(world, intent, params["payment_method"])
        intent["status"] = "requires_confirmation"
        world.store.update(intent)
    if params.get("confirm"):
        return _confirm(world, intent, off_session=params.get("off_session", False))
    return intent


def confirm_intent(call: Call) -> Json:
    params, world = call.params, call.world
    intent = world.store.get(call.ids[0], kind="payment_intent")
    if params.get("payment_method"):
        intent["payment_method"] = _method(world, intent, params["payment_method"])
    return _confirm(world, intent, off_session=params.get("off_session", False))


def cancel_intent(call: Call) -> Json:
    world = call.world
    intent = world.store.get(call.ids[0], kind="payment_intent")
    if intent["status"] in ("succeeded", "canceled", "processing"):
        raise _unexpected(intent, "canceled")
    for payment in world.store.where("invoice_payment", "ref = ? AND status = 'open'", intent["id"]):
        if payment["is_default"]:
            raise refused(f"PaymentIntent {intent['id']} belongs to invoice {payment['invoice']}: void that instead.")
        payment["status"] = "canceled"
        payment["status_transitions"]["canceled_at"] = world.clock.stamp()
        world.store.update(payment)
    charges.cancel_intent(world, intent, reason=call.params.get("cancellation_reason", "requested_by_customer"))
    return intent


def _method(world: World, intent: Json, name: str) -> str:
    """The payment method to charge; a test id gives a fresh one, the customer's when the intent has one."""
    if intent["customer"] is None:
        return str(find_or_make(world, name)["id"])
    customer = world.store.get(intent["customer"], kind="customer")
    return str(attach(world, name, customer, param="payment_method")["id"])


def _confirm(world: World, intent: Json, *, off_session: bool) -> Json:
    if intent["status"] in ("succeeded", "canceled", "processing"):
        raise _unexpected(intent, "confirmed")
    method_id = intent["payment_method"]
    if method_id is None:
        raise refused(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    behaviour = behaviour_of(world, method_id)
    if isinstance(behaviour, BankAccount):
        charges.debit(world, intent, method_id)
        return intent
    error = refusal(behaviour, off_session=off_session)
    if error is not None:
        charges.fail_to_take(world, intent, method_id, error.body["error"])
        raise error
    charges.take(world, intent, method_id)
    for payment in world.store.where("invoice_payment", "ref = ? AND status = 'open'", intent["id"]):
        _credit(world, payment, intent["amount_received"])
    return intent


def _unexpected(intent: Json, verb: str) -> Exception:
    return refused(
        f"This PaymentIntent could not be {verb} because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
    )


def _credit(world: World, payment: Json, amount: int, *, off_stripe: bool = False) -> None:
    payments.paid(world, payment, amount)
    apply_payment(world, world.store.get(payment["invoice"], kind="invoice"), amount, off_stripe=off_stripe)


def attach_payment(call: Call) -> Json:
    """Let a payment intent, or a payment recorded by hand, pay an invoice: in part, in whole, or more than that."""
    params, world = call.params, call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    given = [name for name in ("payment_intent", "payment_record") if params.get(name)]
    if len(given) != 1:
        raise invalid("You must pass exactly one of `payment_intent` and `payment_record`.", param="payment_intent")
    if invoice["status"] not in ("open", "uncollectible"):
        raise refused(f"Payments can be attached to open invoices only; this one is {invoice['status']}.")
    kind = given[0]
    source = world.store.get(params[kind], kind=kind, param=kind)
    if world.store.count("invoice_payment", "ref = ?", source["id"]):
        raise refused(f"{source['id']} is already attached to an invoice.", param=kind)
    link = {kind: source["id"], "type": kind}
    if kind == "payment_record":
        amount = source["amount_guaranteed"]
        if amount["currency"] != invoice["currency"] or amount["value"] <= 0:
            raise refused("The payment record must be guaranteed and in the invoice's currency.", param=kind)
        payment = payments.tie(world, invoice, link, amount["value"], is_default=False)
        _credit(world, payment, amount["value"], off_stripe=True)
        return world.store.get(invoice["id"], kind="invoice")
    if source["status"] == "canceled" or source["currency"] != invoice["currency"]:
        raise refused("The PaymentIntent must not be canceled, and in the invoice's currency.", param=kind)
    if source["customer"] != invoice["customer"]:
        raise refused("The PaymentIntent and the invoice must have the same customer.", param=kind)
    payment = payments.tie(world, invoice, link, source["amount"], is_default=False)
    if source["status"] == "succeeded":
        _credit(world, payment, source["amount_received"])
    return world.store.get(invoice["id"], kind="invoice")


def retrieve_intent(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="payment_intent")


def list_intents(call: Call) -> Json:
    return list_objects(call, "payment_intent", url="/v1/payment_intents", filters={"customer": "customer"})
