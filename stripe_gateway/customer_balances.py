"""A customer's balance at Stripe is kept at 0: our books hold what is the customer's, and nothing may be used twice.

Source: https://docs.stripe.com/billing/customer/balance - a balance is applied to the next finalized invoice, which
cannot be chosen. Amounts paid too much are credited to it.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from ledger.tables import Books
from stripe_gateway import customers
from stripe_gateway.acts import Act, Anew, Denied, Desk, Ended, Outcome, Ready
from stripe_gateway.client import Client, Json
from stripe_gateway.tables import StripeOperation


def _prepare(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    external_id = customers.load(desk.engine, operation.customer_id).external_id
    if external_id is None:
        return Ended(None)
    customer = desk.client.retrieve_customer(external_id)
    balance = 0 if customer.get("deleted") else customer["balance"]
    if balance == 0:
        return Ended(external_id)
    with Session(desk.engine) as session:
        currency = customer.get("currency") or session.get_one(Books, operation.customer_id).currency.lower()
    body = {
        "amount": -balance,
        "currency": currency,
        "description": "Held in the billing ledger instead",
        "metadata": {"ledger_operation": _name(operation)},
    }
    return Ready(body, target=external_id)


def _name(operation: StripeOperation) -> str:
    return f"{operation.id}:g{operation.generation}"


def _target(operation: StripeOperation) -> str:
    assert operation.external_id is not None, "a request to a customer names it"  # noqa: S101 - prepare stored it
    return operation.external_id


def _send(client: Client, operation: StripeOperation, body: Json, key: str) -> Json:
    return client.adjust_balance(_target(operation), body, key=key)


def _find(client: Client, operation: StripeOperation, body: Json) -> Json | None:
    for change in client.list_customer_balance(_target(operation)):
        if (change.get("metadata") or {}).get("ledger_operation") == body["metadata"]["ledger_operation"]:
            return change
    return None


def _judge(operation: StripeOperation, change: Json) -> Ended | Anew:
    if change["ending_balance"] != 0:
        # An invoice was finalized between our reading and our writing, and took a part of it.
        return Anew(f"The balance was {change['ending_balance']} (minor units) after it was set to 0.")
    return Ended(_target(operation), "0", change)


def _settle(_session: Session, _operation: StripeOperation, _outcome: Outcome, _now: datetime) -> None:
    """The books hold the money already: that is why it must not stand at Stripe as well."""


ACT = Act("bal", "adjust", True, _prepare, _send, _find, _judge, _settle)
