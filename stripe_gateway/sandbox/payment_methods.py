"""Payment methods: test cards and bank accounts, created, attached to a customer, detached."""

from __future__ import annotations

from typing import Any

from .bank_accounts import BANK_ACCOUNTS, TYPES, BankAccount, as_method, named_account
from .cards import BY_NUMBER, CARDS, Card, decline, find_card
from .errors import ApiError, Json, invalid, missing, refused
from .events import emit
from .ids import new_id
from .lists import list_objects
from .world import Call, World


def create_payment_method(call: Call) -> Json:
    params = call.params
    kind = params.get("type", "card")
    if kind in TYPES:
        name = named_account(kind, params.get(kind) or {})
    elif kind == "card":
        name = _named_card(params.get("card") or {})
    else:
        raise invalid(f"The sandbox knows payment methods of type card, {', '.join(TYPES)} only", param="type")
    method = fresh_method(call.world, name)
    details = params.get("billing_details") or {}
    method["billing_details"].update({key: value for key, value in details.items() if key != "tax_id"})
    method["metadata"] = params.get("metadata") or {}
    return call.world.store.update(method)


def _named_card(card: Json) -> str:
    token = card.get("token")
    if token:
        name = find_card(token.replace("tok_", "pm_card_", 1))
        if name is None:
            raise missing("token", token, param="card[token]")
        return name
    number = (card.get("number") or "").replace(" ", "")
    if not number:
        raise invalid("Missing required param: card[number].", code="parameter_missing", param="card[number]")
    if number not in BY_NUMBER:
        raise ApiError(402, "Your card number is incorrect.", kind="card_error", code="incorrect_number")
    return BY_NUMBER[number]


def find_test_method(name: str) -> str | None:
    """The canonical name of a test card or bank account, or None where it is none of ours."""
    return name if name in BANK_ACCOUNTS else find_card(name)


def fresh_method(world: World, name: str) -> Json:
    """A new payment method object that behaves like the named test card or bank account."""
    known = BANK_ACCOUNTS.get(name) or CARDS[name]
    kind, details = (known.type, as_method(known)) if isinstance(known, BankAccount) else ("card", _as_method(known))
    method: Json = {
        "id": new_id("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": dict.fromkeys(("address", "email", "name", "phone", "tax_id")),
        "created": world.clock.stamp(),
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": kind,
        kind: details,
    }
    return world.store.insert(method, private={"card": name})


def _as_method(card: Card) -> Json:
    return {
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": card.country,
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"sandbox{card.last4}{card.brand}",
        "funding": card.funding,
        "generated_from": None,
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def attach(world: World, method_id: str, customer: Json, *, param: str = "id") -> Json:
    """Attach a payment method; a test id such as ``pm_card_visa`` gives a fresh one, as at Stripe.

    Raises:
        ApiError: 402 for a card that declines being attached, 404 or 400 for an unknown one.
    """
    name = find_test_method(method_id)
    if name is not None:
        known = _behaviour(name)
        if known.attach_decline:
            raise decline(known.attach_decline, keeps_work=False)
        method = fresh_method(world, name)
    else:
        row = world.store.row(method_id, kind="payment_method")
        if row is None:
            shown = "PaymentMethod" if param == "id" else "payment method"
            raise missing(shown, method_id, param=param)
        method = row.data
        if method["customer"] == customer["id"]:
            return method
        if method["customer"] is not None:
            raise refused("The payment method you provided has already been attached to a customer.")
        if row.private.get("detached"):
            raise refused(
                "This PaymentMethod was previously detached from a Customer, and may not be used again.",
            )
        known = _behaviour(row.private["card"])
        if known.attach_decline:
            raise decline(known.attach_decline, keeps_work=False)
    method["customer"] = customer["id"]
    world.store.update(method)
    emit(world, "payment_method.attached", method)
    return method


def find_or_make(world: World, method_id: str) -> Json:
    """A payment method that exists, or a fresh one for a test id such as ``pm_card_visa``; it belongs to nobody new."""
    name = find_test_method(method_id)
    if name is not None:
        return fresh_method(world, name)
    row = world.store.row(method_id, kind="payment_method")
    if row is None:
        raise missing("PaymentMethod", method_id, param="payment_method")
    return row.data


def attach_payment_method(call: Call) -> Json:
    customer = call.world.store.get(call.params["customer"], kind="customer", param="customer")
    return attach(call.world, call.ids[0], customer)


def detach_payment_method(call: Call) -> Json:
    """A detached method can never be attached again, and is nobody's default any more."""
    world = call.world
    row = world.store.row(call.ids[0], kind="payment_method")
    if row is None:
        raise missing("PaymentMethod", call.ids[0])
    method = row.data
    owner = method["customer"]
    if owner is None:
        raise refused("The payment method you provided is not attached to a customer so detachment is impossible.")
    method["customer"] = None
    world.store.update(method, private={**row.private, "detached": True})
    customer = world.store.row(owner, kind="customer")
    if customer is not None and customer.data["invoice_settings"]["default_payment_method"] == method["id"]:
        changed: dict[str, Any] = customer.data
        before = changed["invoice_settings"]
        changed["invoice_settings"] = {**before, "default_payment_method": None}
        world.store.update(changed)
        emit(world, "customer.updated", changed, previous={"invoice_settings": before})
    emit(world, "payment_method.detached", method, previous={"customer": owner})
    return method


def retrieve_payment_method(call: Call) -> Json:
    row = call.world.store.row(call.ids[0], kind="payment_method")
    if row is None:
        raise missing("PaymentMethod", call.ids[0])
    return row.data


def list_payment_methods(call: Call) -> Json:
    return list_objects(
        call,
        "payment_method",
        url="/v1/payment_methods",
        filters={"customer": "customer", "type": "json_extract(data, '$.type')"},
    )


def list_customer_payment_methods(call: Call) -> Json:
    call.world.store.get(call.ids[0], kind="customer")
    asked = Call(call.world, call.ids, {**call.params, "customer": call.ids[0]}, call.expand)
    return {**list_payment_methods(asked), "url": f"/v1/customers/{call.ids[0]}/payment_methods"}


def behaviour_of(world: World, method_id: str) -> Card | BankAccount:
    """How the card or the bank account behind a payment method behaves."""
    row = world.store.row(method_id, kind="payment_method")
    if row is None:
        raise missing("PaymentMethod", method_id, param="payment_method")
    return _behaviour(row.private["card"])


def _behaviour(name: str) -> Card | BankAccount:
    return BANK_ACCOUNTS.get(name) or CARDS[name]
