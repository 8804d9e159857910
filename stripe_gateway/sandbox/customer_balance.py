"""A customer's balance: what is owed to it or by it beside the invoices, and every change of that.

Source: https://docs.stripe.com/billing/customer/balance. A negative balance is money for the customer.
"""

from __future__ import annotations

from .errors import Json, missing, refused
from .events import emit
from .ids import new_id
from .lists import list_objects
from .params import merged_metadata
from .world import Call, World


def record_change(
    world: World,
    customer: Json,
    amount: int,
    *,
    kind: str,
    currency: str,
    invoice: str | None = None,
    credit_note: str | None = None,
    description: str | None = None,
    metadata: Json | None = None,
) -> Json:
    """Write down that the customer's balance, which stands already, moved by `amount` minor units."""
    return world.store.insert(
        {
            "id": new_id("cbtxn"),
            "object": "customer_balance_transaction",
            "amount": amount,
            "created": world.clock.stamp(),
            "credit_note": credit_note,
            "currency": currency,
            "customer": customer["id"],
            "description": description,
            "ending_balance": customer["balance"],
            "invoice": invoice,
            "livemode": False,
            "metadata": metadata or {},
            "type": kind,
        }
    )


def change_balance(
    world: World,
    customer_id: str,
    amount: int,
    *,
    kind: str,
    currency: str,
    invoice: str | None = None,
    credit_note: str | None = None,
    description: str | None = None,
    metadata: Json | None = None,
) -> Json:
    """Add `amount` minor units to what the customer owes (negative: is owed); returns the transaction."""
    customer = world.store.get(customer_id, kind="customer")
    previous = {"balance": customer["balance"]}
    customer["balance"] += amount
    if customer["currency"] is None:
        previous["currency"] = None
        customer["currency"] = currency
    world.store.update(customer)
    transaction = record_change(
        world, customer, amount, kind=kind, currency=currency, invoice=invoice, credit_note=credit_note,
        description=description, metadata=metadata,
    )  # fmt: skip
    emit(world, "customer.updated", customer, previous=previous)
    return transaction


def create_transaction(call: Call) -> Json:
    """An adjustment by hand; it is applied to the next invoice that is finalized."""
    params, world = call.params, call.world
    customer = world.store.get(call.ids[0], kind="customer")
    currency = params["currency"].lower()
    if customer["currency"] not in (None, currency):
        raise refused(
            f"The customer's currency is {customer['currency']}: the balance cannot be changed in {currency}.",
            param="currency",
        )
    return change_balance(
        world, customer["id"], params["amount"], kind="adjustment", currency=currency,
        description=params.get("description"), metadata=merged_metadata({}, params.get("metadata", {})),
    )  # fmt: skip


def retrieve_transaction(call: Call) -> Json:
    found = call.world.store.get(call.ids[1], kind="customer_balance_transaction")
    if found["customer"] != call.ids[0]:
        raise missing("customer balance transaction", call.ids[1])
    return found


def update_transaction(call: Call) -> Json:
    """Its description and metadata can change, its amount never."""
    transaction = retrieve_transaction(call)
    if "description" in call.params:
        transaction["description"] = call.params["description"]
    if "metadata" in call.params:
        transaction["metadata"] = merged_metadata(transaction["metadata"], call.params["metadata"])
    return call.world.store.update(transaction)


def list_transactions(call: Call) -> Json:
    """Newest first; `invoice` gives those of one invoice."""
    call.world.store.get(call.ids[0], kind="customer")
    asked = Call(call.world, call.ids, {**call.params, "customer": call.ids[0]}, call.expand)
    return list_objects(
        asked,
        "customer_balance_transaction",
        url=f"/v1/customers/{call.ids[0]}/balance_transactions",
        filters={"customer": "customer", "invoice": "json_extract(data, '$.invoice')"},
    )
