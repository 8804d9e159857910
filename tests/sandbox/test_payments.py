"""Charges, declines, retries, fees and refunds."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver

Make = Callable[..., Any]
DAY_S = 86400


def test_a_finalized_invoice_is_charged_and_told(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer().id, 1500)
    assert invoice.status == "open"
    sandbox.wait_for_webhooks()
    kinds = receiver.types()
    for kind in ("invoice.created", "invoice.finalized", "payment_intent.succeeded", "charge.succeeded",
                 "invoice_payment.paid", "invoice.paid", "invoice.payment_succeeded", "charge.updated"):  # fmt: skip
        assert kinds.count(kind) == 1, kind
    paid = receiver.wait_for("invoice_payment.paid")["data"]["object"]
    assert (paid["invoice"], paid["amount_paid"], paid["payment"]["type"]) == (invoice.id, 1500, "payment_intent")
    whole = client.v1.invoices.retrieve(invoice.id)
    assert (whole.status, whole.amount_paid, whole.amount_remaining, whole.attempt_count) == ("paid", 1500, 0, 1)


def test_the_balance_transaction_comes_with_charge_updated(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    """1500 at 2.9 % + 30 = 44 + 30 (43.5 rounds up) = 74 of fees."""
    final(customer().id, 1500)
    sandbox.wait_for_webhooks()
    assert receiver.wait_for("charge.succeeded")["data"]["object"]["balance_transaction"] is None
    updated = receiver.wait_for("charge.updated")["data"]
    assert updated["previous_attributes"] == {"balance_transaction": None}
    entry = client.v1.balance_transactions.retrieve(updated["object"]["balance_transaction"])
    assert (entry.amount, entry.fee, entry.net, entry.status) == (1500, 74, 1426, "pending")
    sandbox.advance(3 * DAY_S)
    assert client.v1.balance_transactions.retrieve(entry.id).status == "available"


def test_the_charge_waits_for_the_collection_delay(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    sandbox.set(collection_delay_s=3600.0)
    invoice = final(customer().id, 1500)
    sandbox.advance(3500)
    assert client.v1.invoices.retrieve(invoice.id).status == "open"
    sandbox.advance(101)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_declined_card_is_told_and_retried_by_the_clock(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer("pm_card_chargeCustomerFail").id, 1500)
    sandbox.wait_for_webhooks()
    failed = receiver.wait_for("invoice.payment_failed")["data"]["object"]
    assert (failed["status"], failed["attempt_count"], failed["amount_remaining"]) == ("open", 1, 1500)
    assert failed["next_payment_attempt"] - failed["created"] == pytest.approx(3 * DAY_S, abs=5)
    intent = receiver.wait_for("payment_intent.payment_failed")["data"]["object"]
    assert intent["last_payment_error"]["code"] == "card_declined"
    assert receiver.wait_for("charge.failed")["data"]["object"]["failure_code"] == "card_declined"

    sandbox.advance(20 * DAY_S)
    sandbox.wait_for_webhooks()
    attempts = [
        e["data"]["object"]["attempt_count"] for e in receiver.accepted() if e["type"] == "invoice.payment_failed"
    ]
    assert sorted(attempts) == [1, 2, 3, 4]
    last = client.v1.invoices.retrieve(invoice.id)
    assert (last.status, last.next_payment_attempt) == ("open", None)
    assert "invoice.paid" not in receiver.types()


def test_a_retry_uses_the_card_that_is_the_default_by_then(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    someone = customer("pm_card_chargeCustomerFail")
    invoice = final(someone.id, 1500)
    sandbox.advance(0)
    good = client.v1.payment_methods.attach("pm_card_mastercard", {"customer": someone.id})
    client.v1.customers.update(someone.id, {"invoice_settings": {"default_payment_method": good.id}})
    sandbox.advance(3 * DAY_S + 1)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"


def test_without_a_payment_method_the_attempt_fails_and_is_not_repeated(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer(None).id, 1500)
    sandbox.advance(30 * DAY_S)
    sandbox.wait_for_webhooks()
    assert receiver.types().count("invoice.payment_failed") == 1
    assert client.v1.invoices.retrieve(invoice.id).next_payment_attempt is None


def test_cards_that_decline_cannot_be_attached(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make
) -> None:
    someone = customer(None)
    with pytest.raises(stripe.CardError) as declined:
        client.v1.payment_methods.attach("pm_card_chargeDeclined", {"customer": someone.id})
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    with pytest.raises(stripe.CardError):
        client.v1.customers.create({"payment_method": "pm_card_visa_chargeDeclinedInsufficientFunds"})
    state = sandbox.state()["objects"]
    assert state["customer"] == 1
    assert "payment_method" not in state


def test_each_attachment_of_a_test_card_is_a_new_object(client: stripe.StripeClient, customer: Make) -> None:
    someone = customer(None)
    one, two = (client.v1.payment_methods.attach("pm_card_visa", {"customer": someone.id}) for _ in range(2))
    assert one.id != two.id
    assert one.id.startswith("pm_1")
    assert len(client.v1.payment_methods.list({"customer": someone.id}).data) == 2


def test_a_detached_card_is_nobodys_and_stays_so(client: stripe.StripeClient, customer: Make) -> None:
    someone = customer()
    default = someone.invoice_settings.default_payment_method
    assert client.v1.payment_methods.detach(default).customer is None
    settings = client.v1.customers.retrieve(someone.id).invoice_settings
    assert settings is not None
    assert settings.default_payment_method is None
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        client.v1.payment_methods.attach(default, {"customer": someone.id})


def test_paying_by_hand_with_a_bad_card_is_a_402_and_the_attempt_stays(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    invoice = final(customer("pm_card_chargeCustomerFail").id, 1500, auto_advance=False)
    with pytest.raises(stripe.CardError):
        client.v1.invoices.pay(invoice.id)
    assert client.v1.invoices.retrieve(invoice.id).attempt_count == 1
    assert sandbox.state()["objects"]["charge"] == 1


def test_paying_out_of_band_moves_no_money_here(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer().id, 1500, auto_advance=False)
    paid = client.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_paid) == ("paid", 1500)
    sandbox.wait_for_webhooks()
    assert "invoice_payment.paid" not in receiver.types()
    assert "charge" not in sandbox.state()["objects"]


def test_refunds_are_partial_and_never_more_than_the_charge(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    final(customer().id, 1500)
    sandbox.wait_for_webhooks()
    charge = client.v1.charges.list().data[0]
    assert client.v1.refunds.create({"charge": charge.id, "amount": 500}).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded"):
        client.v1.refunds.create({"charge": charge.id, "amount": 1001})
    assert client.v1.refunds.create({"payment_intent": str(charge.payment_intent)}).amount == 1000
    with pytest.raises(stripe.InvalidRequestError) as again:
        client.v1.refunds.create({"charge": charge.id})
    assert again.value.code == "charge_already_refunded"
    entries = client.v1.balance_transactions.list({"type": "refund"}).data
    assert sorted((entry.amount, entry.fee) for entry in entries) == [(-1000, 0), (-500, 0)]
