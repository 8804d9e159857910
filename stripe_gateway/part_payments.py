"""A part of an invoice that came past Stripe: it is written down there as a payment record and attached to the invoice.

`paid_out_of_band` says that all was paid, and a credit note would say that less is owed; neither is true of a part. A
payment record that is attached lowers what remains, and Stripe collects the rest. Source:
https://docs.stripe.com/invoicing/partial-payments and https://docs.stripe.com/api/invoices/attach_payment.

It takes two calls. The record pays nothing until it is attached, so only attaching must not happen twice: the record
carries our movement's id, and before anything is sent anew the invoice's payments are read for it.
"""

import json
from typing import Any

from stripe_gateway import debits
from stripe_gateway.acts import Act, Denied, Desk, Ended, Ready
from stripe_gateway.client import Client, Json
from stripe_gateway.errors import NotYet
from stripe_gateway.invoice_ends import shown, standing, target_of, tell_movement
from stripe_gateway.ownership import id_of
from stripe_gateway.tables import StripeOperation

RECORD = "payment_record"
MOVEMENT = "ledger_movement_id"


def _prepare(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    sync = standing(desk, operation)
    if sync is None or sync.external_id is None:
        return Ended(None)
    invoice = desk.client.retrieve_invoice(sync.external_id)
    if invoice["status"] == "paid":
        # The rest and more was collected meanwhile: what came twice is the customer's, in our books.
        return Ended(None, "paid", invoice)
    if invoice["status"] not in ("open", "uncollectible"):
        status = invoice["status"]
        return Denied(f"invoice_is_{status}", f"At Stripe {invoice['id']} is {status}: nothing can be paid on it.")
    if debits.processing(desk.client, sync.external_id) is not None:
        raise NotYet(f"The customer's bank is being debited for {sync.number}; its answer decides. Some days at most.")
    amount_minor, left_minor = operation.amount_minor or 0, _left(operation)
    if invoice["amount_remaining"] != amount_minor + left_minor:
        return Denied(
            "outside_amount_differs",
            f"Stripe still collects {shown(invoice['amount_remaining'], operation)}; here "
            f"{shown(amount_minor + left_minor, operation)} were open before {shown(amount_minor, operation)} came. A "
            "reconciliation says which is right; then record the payment at Stripe by hand.",
        )
    return Ready(_report(operation, invoice), target=sync.external_id)


def _left(operation: StripeOperation) -> int:
    return int(json.loads(operation.intent)["left"])


def _report(operation: StripeOperation, invoice: Json) -> Json:
    """The frozen body of the payment record."""
    reference = json.loads(operation.intent)["reference"]
    at = int(operation.created_at.timestamp())
    return {
        "amount_requested": {"currency": invoice["currency"], "value": operation.amount_minor},
        "customer_details": {"customer": id_of(invoice["customer"])},
        "guaranteed": {"guaranteed_at": at},
        "initiated_at": at,
        "metadata": {MOVEMENT: str(operation.id), "ledger_invoice_id": str(operation.invoice_id)},
        "outcome": "guaranteed",
        "payment_method_details": {"type": "custom", "custom": {"display_name": "Bank transfer"}},
        "processor_details": {"type": "custom", "custom": {"payment_reference": reference}},
    }


def _send(client: Client, operation: StripeOperation, body: Json, key: str) -> Json:
    record = client.report_payment(body, key=f"{key}:record")
    invoice = client.attach_payment(target_of(operation), {RECORD: record["id"]}, key=key)
    return {"record": record["id"], "invoice": invoice}


def _find(client: Client, operation: StripeOperation, _body: Json) -> Json | None:
    """Our record among the invoice's payments; one that was never attached paid nothing and is left to itself."""
    invoice = target_of(operation)
    for payment in client.list_invoice_payments(invoice=invoice):
        record = id_of(payment["payment"].get(RECORD))
        if record is not None and is_ours(client.retrieve_payment_record(record), operation):
            return {"record": record, "invoice": client.retrieve_invoice(invoice)}
    return None


def is_ours(record: Json, operation: StripeOperation) -> bool:
    """Whether a payment record is the one that this operation made."""
    return bool((record.get("metadata") or {}).get(MOVEMENT) == str(operation.id))


def _judge(_operation: StripeOperation, found: Json) -> Ended:
    invoice: dict[str, Any] = found["invoice"]
    return Ended(found["record"], invoice["status"], invoice)


ACT = Act("mv", "part", True, _prepare, _send, _find, _judge, tell_movement)
