"""Customers: whom Stripe bills, with their default payment method and balance."""

from __future__ import annotations

import secrets
from typing import Any

from .customer_balance import record_change
from .errors import Json, missing
from .events import emit
from .ids import new_id
from .lists import list_objects
from .params import merged_metadata
from .payment_methods import attach
from .world import Call, World

_PLAIN = ("address", "description", "email", "name", "phone", "shipping")
_ACCOUNT_CURRENCY = "usd"  # of a balance that is set before the customer has a currency
_PREFIX_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"


def create_customer(call: Call) -> Json:
    params, world = call.params, call.world
    settings = params.get("invoice_settings") or {}
    customer: Json = {
        "id": new_id("cus"),
        "object": "customer",
        "address": None,
        "balance": params.get("balance", 0),
        "created": world.clock.stamp(),
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": params.get("invoice_prefix") or "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(8)),
        "invoice_settings": {
            "custom_fields": settings.get("custom_fields"),
            "default_payment_method": None,
            "footer": settings.get("footer"),
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": merged_metadata({}, params.get("metadata", {})),
        "name": None,
        "next_invoice_sequence": params.get("next_invoice_sequence", 1),
        "phone": None,
        "preferred_locales": params.get("preferred_locales") or [],
        "shipping": None,
        "tax_exempt": params.get("tax_exempt") or "none",
        "test_clock": None,
        **{name: params[name] for name in _PLAIN if name in params},
    }
    world.store.insert(customer)
    if customer["balance"]:
        record_change(world, customer, customer["balance"], kind="initial", currency=_ACCOUNT_CURRENCY)
    method_id = params.get("payment_method")
    if method_id:
        method_id = attach(world, method_id, customer, param="payment_method")["id"]
    default = settings.get("default_payment_method")
    if default:
        customer["invoice_settings"]["default_payment_method"] = (
            method_id if default == params.get("payment_method") else _own_method(world, customer["id"], default)
        )
        world.store.update(customer)
    emit(world, "customer.created", customer)
    return customer


def update_customer(call: Call) -> Json:
    params, world = call.params, call.world
    customer = _live(world, call.ids[0])
    before = {**customer, "invoice_settings": dict(customer["invoice_settings"])}
    for name in (*_PLAIN, "balance", "invoice_prefix", "next_invoice_sequence", "preferred_locales", "tax_exempt"):
        if name in params:
            customer[name] = params[name]
    if "metadata" in params:
        customer["metadata"] = merged_metadata(customer["metadata"], params["metadata"])
    settings = params.get("invoice_settings") or {}
    for name in ("custom_fields", "footer"):
        if name in settings:
            customer["invoice_settings"][name] = settings[name]
    if "default_payment_method" in settings:
        method_id = settings["default_payment_method"]
        customer["invoice_settings"]["default_payment_method"] = method_id and _own_method(
            world, customer["id"], method_id
        )
    moved = customer["balance"] - before["balance"]
    if moved:
        currency = customer["currency"] or _ACCOUNT_CURRENCY
        record_change(world, customer, moved, kind="adjustment", currency=currency)
    save_changed(world, customer, before)
    return customer


def save_changed(world: World, customer: Json, before: Json) -> None:
    """Keep a changed customer and say so; an update that changes nothing is no event."""
    previous = {name: before[name] for name in before if customer[name] != before[name]}
    world.store.update(customer)
    if previous:
        emit(world, "customer.updated", customer, previous=previous)


def make_default(world: World, customer: Json, method_id: str) -> None:
    """Charge this attached payment method from now on."""
    before = {**customer, "invoice_settings": dict(customer["invoice_settings"])}
    customer["invoice_settings"]["default_payment_method"] = method_id
    save_changed(world, customer, before)


def retrieve_customer(call: Call) -> Json:
    row = call.world.store.row(call.ids[0], kind="customer", deleted=True)
    if row is None:
        raise missing("customer", call.ids[0])
    return row.data


def delete_customer(call: Call) -> Json:
    """Deletion is final; the customer's invoices and payments stay readable."""
    world = call.world
    customer = _live(world, call.ids[0])
    for method in world.store.where("payment_method", "customer = ?", customer["id"]):
        world.store.update({**method, "customer": None})
    tombstone = {"id": customer["id"], "object": "customer", "deleted": True}
    world.store.update(tombstone)
    world.store.mark_deleted(customer["id"])
    emit(world, "customer.deleted", customer)
    return tombstone


def list_customers(call: Call) -> Json:
    return list_objects(call, "customer", url="/v1/customers", filters={"email": "json_extract(data, '$.email')"})


def _live(world: World, customer_id: str) -> Json:
    customer: dict[str, Any] = world.store.get(customer_id, kind="customer")
    return customer


def _own_method(world: World, customer_id: str, method_id: str) -> str:
    param = "invoice_settings[default_payment_method]"
    method = world.store.row(method_id, kind="payment_method")
    if method is None or method.data["customer"] != customer_id:
        raise missing("payment method", method_id, param=param)
    return method_id
