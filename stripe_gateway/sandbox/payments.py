"""Payment intents, charges and invoice payments: how an invoice is paid."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from .balance import balance_entry
from .errors import Json, invalid
from .events import emit
from .ids import new_id, new_token
from .lists import list_objects
from .payment_methods import card_behind
from .world import Call, World


def new_payment(world: World, invoice: Json) -> Json:
    """An incomplete payment intent for a finalized invoice; returns the invoice payment that ties them together."""
    intent_id = new_id("pi")
    secret = f"{intent_id}_secret_{new_token(24)}"
    # What a browser needs to let the customer confirm the payment of an open invoice.
    invoice["confirmation_secret"] = {"client_secret": secret, "type": "payment_intent"}
    intent: Json = {
        "id": intent_id,
        "object": "payment_intent",
        "amount": invoice["amount_due"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        **dict.fromkeys(
            [
                "application",
                "application_fee_amount",
                "automatic_payment_methods",
                "canceled_at",
                "cancellation_reason",
                "customer_account",
                "last_payment_error",
                "latest_charge",
                "next_action",
                "on_behalf_of",
                "payment_method",
                "payment_method_configuration_details",
                "processing",
                "receipt_email",
                "review",
                "setup_future_usage",
                "shipping",
                "statement_descriptor",
                "statement_descriptor_suffix",
                "transfer_data",
                "transfer_group",
            ]
        ),
        "capture_method": "automatic",
        "client_secret": secret,
        "confirmation_method": "automatic",
        "created": world.clock.stamp(),
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "description": "Payment for Invoice",
        "excluded_payment_method_types": None,
        "livemode": False,
        # An invoice's metadata do not travel to its payment intent or charge.
        "metadata": {},
        "payment_details": {"customer_reference": None, "order_reference": invoice["id"]},
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }
    world.store.insert(intent)
    emit(world, "payment_intent.created", intent)
    return world.store.insert(
        {
            "id": new_id("inpay"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": world.clock.stamp(),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": {"payment_intent": intent_id, "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )


def _open_payment(world: World, invoice: Json) -> Json | None:
    found = world.store.where("invoice_payment", "parent = ? AND status = 'open'", invoice["id"], limit=1)
    return found[0] if found else None


def succeeded_charge(world: World, invoice: Json, method_id: str) -> None:
    """Charge what remains. The balance transaction is null at first and follows with `charge.updated`."""
    payment = _open_payment(world, invoice) or new_payment(world, invoice)
    intent = world.store.get(payment["payment"]["payment_intent"], kind="payment_intent")
    charge = _charge(world, intent, method_id)
    charge.update(amount_captured=charge["amount"], captured=True, paid=True, status="succeeded")
    charge["outcome"].update(
        network_status="approved_by_network", type="authorized", seller_message="Payment complete."
    )
    world.store.insert(charge)
    intent.update(
        amount_received=intent["amount"],
        last_payment_error=None,
        latest_charge=charge["id"],
        payment_method=method_id,
        status="succeeded",
    )
    world.store.update(intent)
    now = world.clock.stamp()
    payment.update(amount_paid=intent["amount"], status="paid")
    payment["status_transitions"]["paid_at"] = now
    world.store.update(payment)
    emit(world, "payment_intent.succeeded", intent)
    emit(world, "charge.succeeded", charge)
    emit(world, "invoice_payment.paid", payment)
    delay_s = world.settings.settlement_delay_s
    world.schedule("settle", charge["id"], delay_s=delay_s)
    card = card_behind(world, method_id)
    if card.dispute:
        world.schedule("dispute", charge["id"], delay_s=delay_s)
    if card.fraud_warning:
        world.schedule("fraud_warning", charge["id"], delay_s=delay_s)


def failed_charge(world: World, invoice: Json, method_id: str, error: Json) -> None:
    """Record a declined charge; the payment intent waits for another payment method."""
    payment = _open_payment(world, invoice) or new_payment(world, invoice)
    intent = world.store.get(payment["payment"]["payment_intent"], kind="payment_intent")
    charge = _charge(world, intent, method_id)
    charge.update(status="failed", failure_code=error["code"], failure_message=error["message"])
    charge["outcome"].update(
        network_status="declined_by_network",
        reason=error.get("decline_code", error["code"]),
        seller_message="The bank did not return any further details with this decline.",
        type="issuer_declined",
    )
    world.store.insert(charge)
    # The full error names the card and the charge; `charge` is what a human looks for first.
    kept = {**error, "charge": charge["id"], "payment_method": world.store.get(method_id, kind="payment_method")}
    intent.update(last_payment_error=kept, latest_charge=charge["id"], status="requires_payment_method")
    world.store.update(intent)
    emit(world, "charge.failed", charge)
    emit(world, "payment_intent.payment_failed", intent)


def cancel_payment(world: World, invoice: Json, *, reason: str) -> None:
    """Cancel the open payment of an invoice that ends another way."""
    payment = _open_payment(world, invoice)
    if payment is None:
        return
    now = world.clock.stamp()
    intent = world.store.get(payment["payment"]["payment_intent"], kind="payment_intent")
    intent.update(canceled_at=now, cancellation_reason=reason, status="canceled")
    world.store.update(intent)
    payment["status"] = "canceled"
    payment["status_transitions"]["canceled_at"] = now
    world.store.update(payment)
    emit(world, "payment_intent.canceled", intent)


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
    """Let the open payment ask for what remains, after a credit note changed that."""
    payment = _open_payment(world, invoice)
    if payment is None:
        return
    intent = world.store.get(payment["payment"]["payment_intent"], kind="payment_intent")
    world.store.update({**intent, "amount": invoice["amount_remaining"]})
    world.store.update({**payment, "amount_requested": invoice["amount_remaining"]})


def _charge(world: World, intent: Json, method_id: str) -> Json:
    method = world.store.get(method_id, kind="payment_method", param="payment_method")
    shown = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "wallet")
    return {
        "id": new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        **dict.fromkeys(
            [
                "application",
                "application_fee",
                "application_fee_amount",
                "balance_transaction",
                "failure_balance_transaction",
                "failure_code",
                "failure_message",
                "on_behalf_of",
                "receipt_email",
                "receipt_number",
                "receipt_url",
                "review",
                "shipping",
                "source_transfer",
                "statement_descriptor",
                "statement_descriptor_suffix",
                "transfer_data",
                "transfer_group",
            ]
        ),
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "SANDBOX",
        "captured": False,
        "created": world.clock.stamp(),
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "fraud_details": {},
        "livemode": False,
        "metadata": {},
        "outcome": {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": None,
            "reason": None,
            "risk_level": "normal",
            "risk_score": 12,
            "seller_message": None,
            "type": "",
        },
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": method_id,
        "payment_method_details": {
            "card": {
                **{name: method["card"][name] for name in shown},
                "amount_authorized": intent["amount"],
                "installments": None,
                "mandate": None,
                "network": method["card"]["brand"],
                "three_d_secure": None,
            },
            "type": "card",
        },
        "radar_options": {},
        "refunded": False,
        "status": "pending",
    }


def settle_when_due(world: World, charge_id: str) -> None:
    """The clock's turn: the charge meets the balance, its fee is known, `charge.updated` tells."""
    charge = world.store.get(charge_id, kind="charge")
    if charge["balance_transaction"] is not None:
        return
    percent = Decimal(world.settings.fee_percent) / 100
    fee = int((charge["amount"] * percent).quantize(Decimal(1), ROUND_HALF_UP)) + world.settings.fee_fixed_minor
    entry = balance_entry(
        world, charge["id"], charge["currency"], charge["amount"], fee=fee, kind="charge",
        description=charge["description"],
    )  # fmt: skip
    charge["balance_transaction"] = entry["id"]
    world.store.update(charge)
    emit(world, "charge.updated", charge, previous={"balance_transaction": None})


def retrieve_payment_intent(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="payment_intent")


def retrieve_charge(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="charge")


def retrieve_invoice_payment(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="invoice_payment")


def list_payment_intents(call: Call) -> Json:
    return list_objects(call, "payment_intent", url="/v1/payment_intents", filters={"customer": "customer"})


def list_charges(call: Call) -> Json:
    return list_objects(call, "charge", url="/v1/charges", filters={"customer": "customer", "payment_intent": "parent"})


def list_invoice_payments(call: Call) -> Json:
    payment = call.params.get("payment") or {}
    if payment and payment["type"] != "payment_intent":
        raise invalid("The sandbox has payments of type payment_intent only", param="payment[type]")
    asked = Call(call.world, call.ids, {**call.params, "ref": payment.get("payment_intent")}, call.expand)
    return list_objects(
        asked,
        "invoice_payment",
        url="/v1/invoice_payments",
        filters={"invoice": "parent", "status": "status", "ref": "ref"},
    )
