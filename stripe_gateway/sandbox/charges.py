"""Payment intents and charges: one attempt after another to take money from a payment method."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from .balance import balance_entry, settled
from .bank_accounts import CURRENCIES, BankAccount, shown_account
from .errors import Json, refused
from .events import emit
from .ids import new_id, new_token
from .lists import list_objects
from .payment_methods import behaviour_of
from .world import Call, World


def new_intent(
    world: World,
    *,
    amount: int,
    currency: str,
    customer: str | None,
    description: str | None,
    order: str | None = None,
    metadata: Json | None = None,
) -> Json:
    """An incomplete payment intent over `amount` minor units. Metadata of an invoice do not travel to it."""
    intent_id = new_id("pi")
    secret = f"{intent_id}_secret_{new_token(24)}"
    intent: Json = {
        "id": intent_id,
        "object": "payment_intent",
        "amount": amount,
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
        "currency": currency,
        "customer": customer,
        "description": description,
        "excluded_payment_method_types": None,
        "livemode": False,
        "metadata": metadata or {},
        "payment_details": {"customer_reference": None, "order_reference": order},
        "payment_method_options": {},
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }
    world.store.insert(intent)
    emit(world, "payment_intent.created", intent)
    return intent


def debit(world: World, intent: Json, method_id: str) -> Json:
    """Begin to debit a bank account with the intent's amount: it is `processing` until the bank answers, in days.

    Raises:
        ApiError: 400, when the account cannot pay in this currency.
    """
    account = behaviour_of(world, method_id)
    assert isinstance(account, BankAccount), "only bank accounts are debited"  # noqa: S101 - the callers look
    if CURRENCIES[account.type] != intent["currency"]:
        raise refused(
            f"The payment method type {account.type} is invalid in {intent['currency']}; it takes "
            f"{CURRENCIES[account.type]} only.", param="payment_method",
        )  # fmt: skip
    charge = _charge(world, intent, method_id)
    show_outcome(charge)
    world.store.insert(charge)
    intent.update(
        last_payment_error=None, latest_charge=charge["id"], payment_method=method_id, status="processing",
        payment_method_types=sorted({*intent["payment_method_types"], account.type}),
    )  # fmt: skip
    world.store.update(intent)
    emit(world, "payment_intent.processing", intent)
    emit(world, "charge.pending", charge)
    world.schedule("debit_balance", charge["id"], delay_s=world.settings.settlement_delay_s)
    if not account.endless:
        world.schedule("debit_ends", charge["id"], delay_s=world.settings.debit_days * 86400)
    return charge


def show_outcome(charge: Json, *, declined: str | None = None) -> None:
    """Say on the charge that the network took it, or why it did not."""
    if declined is None:
        charge["outcome"].update(
            network_status="approved_by_network", type="authorized", seller_message="Payment complete."
        )
        return
    charge["outcome"].update(
        network_status="declined_by_network",
        reason=declined,
        seller_message="The bank did not return any further details with this decline.",
        type="issuer_declined",
    )


def take(world: World, intent: Json, method_id: str) -> Json:
    """Charge a card. The balance transaction is null at first and follows with `charge.updated`."""
    charge = _charge(world, intent, method_id)
    charge.update(amount_captured=charge["amount"], captured=True, paid=True, status="succeeded")
    show_outcome(charge)
    world.store.insert(charge)
    intent.update(
        amount_received=intent["amount"],
        last_payment_error=None,
        latest_charge=charge["id"],
        payment_method=method_id,
        status="succeeded",
    )
    world.store.update(intent)
    emit(world, "payment_intent.succeeded", intent)
    emit(world, "charge.succeeded", charge)
    delay_s = world.settings.settlement_delay_s
    world.schedule("settle", charge["id"], delay_s=delay_s)
    card = behaviour_of(world, method_id)
    if card.dispute:
        world.schedule("dispute", charge["id"], delay_s=delay_s)
    if card.fraud_warning:
        world.schedule("fraud_warning", charge["id"], delay_s=delay_s)
    return charge


def fail_to_take(world: World, intent: Json, method_id: str, error: Json) -> None:
    """Record a declined charge; the payment intent waits for another payment method."""
    charge = _charge(world, intent, method_id)
    charge.update(status="failed", failure_code=error["code"], failure_message=error["message"])
    show_outcome(charge, declined=error.get("decline_code", error["code"]))
    world.store.insert(charge)
    # The full error names the card and the charge; `charge` is what a human looks for first.
    kept = {**error, "charge": charge["id"], "payment_method": world.store.get(method_id, kind="payment_method")}
    intent.update(last_payment_error=kept, latest_charge=charge["id"], status="requires_payment_method")
    world.store.update(intent)
    emit(world, "charge.failed", charge)
    emit(world, "payment_intent.payment_failed", intent)


def cancel_intent(world: World, intent: Json, *, reason: str) -> None:
    """The intent will never be paid."""
    intent.update(canceled_at=world.clock.stamp(), cancellation_reason=reason, status="canceled")
    world.store.update(intent)
    emit(world, "payment_intent.canceled", intent)


def _charge(world: World, intent: Json, method_id: str) -> Json:
    method = world.store.get(method_id, kind="payment_method", param="payment_method")
    kind = method["type"]
    return {
        "id": new_id("ch" if kind == "card" else "py"),
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
        "payment_method_details": {"type": kind, kind: _details(world, method, intent)},
        "radar_options": {},
        "refunded": False,
        "status": "pending",
    }


def _details(world: World, method: Json, intent: Json) -> Json:
    """What a charge shows of the card or the bank account that it was taken from."""
    account = behaviour_of(world, method["id"])
    if isinstance(account, BankAccount):
        day = datetime.fromtimestamp(world.clock.now(), tz=UTC).date() + timedelta(days=1)
        own = {"mandate": None} if account.type == "sepa_debit" else {"payment_reference": None}
        return {**shown_account(account), "expected_debit_date": day.isoformat(), **own}
    shown = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4", "wallet")
    return {
        **{name: method["card"][name] for name in shown},
        "amount_authorized": intent["amount"],
        "installments": None,
        "mandate": None,
        "network": method["card"]["brand"],
        "three_d_secure": None,
    }


def settle_when_due(world: World, charge_id: str) -> None:
    """The clock's turn: the charge meets the balance, its fee is known, `charge.updated` tells."""
    charge = world.store.get(charge_id, kind="charge")
    if charge["balance_transaction"] is not None:
        return
    got = settled(world, charge["currency"], charge["amount"])
    percent = Decimal(world.settings.fee_percent) / 100
    fee = int((got.amount * percent).quantize(Decimal(1), ROUND_HALF_UP)) + world.settings.fee_fixed_minor
    entry = balance_entry(
        world, charge["id"], got.currency, got.amount, fee=fee, kind="charge", description=charge["description"],
        rate=got.rate,
    )  # fmt: skip
    charge["balance_transaction"] = entry["id"]
    world.store.update(charge)
    emit(world, "charge.updated", charge, previous={"balance_transaction": None})


def retrieve_charge(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="charge")


def list_charges(call: Call) -> Json:
    return list_objects(call, "charge", url="/v1/charges", filters={"customer": "customer", "payment_intent": "parent"})
