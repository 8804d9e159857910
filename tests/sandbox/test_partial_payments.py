"""Several payments of one invoice, too much of them, and money that came another way.

Source: https://docs.stripe.com/invoicing/partial-payments.
"""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver
from tests.sandbox.stories import charge_of, previous, told

Make = Callable[..., Any]


def _figures(invoice: Any) -> tuple[str, int, int, int, int]:
    return (
        invoice.status, invoice.amount_paid, invoice.amount_remaining, invoice.amount_overpaid,
        invoice.amount_paid_off_stripe,
    )  # fmt: skip


def _intent(client: stripe.StripeClient, customer_id: str, amount: int, **params: Any) -> stripe.PaymentIntent:
    asked: Any = {"amount": amount, "currency": "usd", "customer": customer_id, **params}
    return client.v1.payment_intents.create(asked)


def test_parts_pay_an_invoice_and_the_rest_is_charged(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    someone = customer()
    invoice = final(someone.id, 1000, auto_advance=False)
    done = _intent(client, someone.id, 300, payment_method="pm_card_visa", confirm=True)
    assert done.status == "succeeded"
    one = client.v1.invoices.attach_payment(invoice.id, {"payment_intent": done.id})
    assert _figures(one) == ("open", 300, 700, 0, 0)
    later = _intent(client, someone.id, 200)
    assert _figures(client.v1.invoices.attach_payment(invoice.id, {"payment_intent": later.id})) == _figures(one)
    client.v1.payment_intents.confirm(later.id, {"payment_method": "pm_card_visa"})
    with pytest.raises(stripe.InvalidRequestError, match="already attached"):
        client.v1.invoices.attach_payment(invoice.id, {"payment_intent": later.id})
    assert _figures(client.v1.invoices.pay(invoice.id)) == ("paid", 1000, 0, 0, 0)
    assert charge_of(sandbox, client, someone.id).amount == 500
    parts = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    assert sorted((part.amount_paid, part.is_default) for part in parts) == [(200, False), (300, False), (500, True)]
    by_intent: Any = {"payment": {"type": "payment_intent", "payment_intent": later.id}}
    assert [part.amount_paid for part in client.v1.invoice_payments.list(by_intent).data] == [200]
    assert receiver.types().count("invoice_payment.paid") == 3
    assert {"amount_paid": 0, "amount_remaining": 1000} in previous(receiver, invoice.id, "invoice.updated")


def test_what_is_paid_too_much_becomes_the_customers_balance(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    someone = customer()
    invoice = final(someone.id, 1000, auto_advance=False)
    intent = _intent(client, someone.id, 1200, payment_method="pm_card_visa", confirm=True)
    paid = client.v1.invoices.attach_payment(invoice.id, {"payment_intent": intent.id})
    assert _figures(paid) == ("paid", 1200, 0, 200, 0)
    assert client.v1.customers.retrieve(someone.id).balance == -200
    entries = client.v1.customers.balance_transactions.list(someone.id, {"invoice": invoice.id}).data
    assert [(entry.type, entry.amount) for entry in entries] == [("invoice_overpaid", -200)]
    sandbox.wait_for_webhooks()
    assert "invoice.overpaid" in told(receiver, invoice.id)
    assert "payment_intent.canceled" in receiver.types()


def test_a_payment_recorded_by_hand_pays_without_a_charge(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer().id, 1000, auto_advance=False)
    record = client.v1.payment_records.report_payment(
        {
            "amount_requested": {"currency": "usd", "value": 400}, "initiated_at": 1_790_000_000,
            "outcome": "guaranteed", "guaranteed": {"guaranteed_at": 1_790_000_000},
            "payment_method_details": {"type": "custom", "custom": {"display_name": "Bank transfer"}},
            "processor_details": {"type": "custom", "custom": {"payment_reference": "R-1"}},
        }
    )  # fmt: skip
    assert client.v1.payment_records.retrieve(record.id).amount_guaranteed.value == 400
    part = client.v1.invoices.attach_payment(invoice.id, {"payment_record": record.id})
    assert _figures(part) == ("open", 400, 600, 0, 400)
    whole = client.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    assert _figures(whole) == ("paid", 1000, 0, 0, 1000)
    sandbox.wait_for_webhooks()
    told_of = receiver.wait_for("invoice_payment.paid")["data"]["object"]["payment"]
    assert told_of == {"payment_record": record.id, "type": "payment_record"}
    assert "charge" not in sandbox.state()["objects"]


def test_an_uncollectible_invoice_is_paid_outside_or_attached(
    client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    someone = customer()
    one, two = (client.v1.invoices.mark_uncollectible(final(someone.id, 900, auto_advance=False).id) for _ in range(2))
    assert _figures(client.v1.invoices.pay(one.id, {"paid_out_of_band": True})) == ("paid", 900, 0, 0, 900)
    intent = _intent(client, someone.id, 900, payment_method="pm_card_visa", confirm=True)
    paid = client.v1.invoices.attach_payment(two.id, {"payment_intent": intent.id})
    assert _figures(paid) == ("paid", 900, 0, 0, 0)
    with pytest.raises(stripe.InvalidRequestError, match="open invoices only"):
        client.v1.invoices.attach_payment(two.id, {"payment_intent": intent.id})


def test_nothing_can_be_paid_on_a_void_invoice_and_later_payments_are_overpaid(
    client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    someone = customer()
    void, paid = (final(someone.id, 900, auto_advance=False) for _ in range(2))
    intents = [_intent(client, someone.id, 900) for _ in range(2)]
    for invoice, intent in zip((void, paid), intents, strict=True):
        client.v1.invoices.attach_payment(invoice.id, {"payment_intent": intent.id})
    client.v1.invoices.void_invoice(void.id)
    assert client.v1.payment_intents.retrieve(intents[0].id).status == "canceled"
    client.v1.invoices.pay(paid.id)
    client.v1.payment_intents.confirm(intents[1].id, {"payment_method": "pm_card_visa"})
    assert _figures(client.v1.invoices.retrieve(paid.id)) == ("paid", 1800, 0, 900, 0)
    assert client.v1.customers.retrieve(someone.id).balance == -900


def test_a_payment_of_another_customer_or_currency_cannot_be_attached(
    client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    someone, other = customer(), customer()
    invoice = final(someone.id, 900, auto_advance=False)
    for intent, says in (
        (_intent(client, other.id, 900), "same customer"),
        (_intent(client, someone.id, 900, currency="eur"), "currency"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match=says):
            client.v1.invoices.attach_payment(invoice.id, {"payment_intent": intent.id})
    with pytest.raises(stripe.InvalidRequestError, match="exactly one"):
        client.v1.invoices.attach_payment(invoice.id, {})


def test_a_payment_without_an_invoice_is_charged_declined_or_canceled(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, receiver: Receiver
) -> None:
    someone = customer()
    with pytest.raises(stripe.InvalidRequestError) as small:
        _intent(client, someone.id, 10)
    assert small.value.code == "amount_too_small"
    with pytest.raises(stripe.CardError):
        _intent(client, someone.id, 500, payment_method="pm_card_chargeCustomerFail", confirm=True)
    waiting = _intent(client, someone.id, 500)
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        client.v1.payment_intents.confirm(waiting.id)
    assert client.v1.payment_intents.cancel(waiting.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as late:
        client.v1.payment_intents.confirm(waiting.id, {"payment_method": "pm_card_visa"})
    assert late.value.code == "payment_intent_unexpected_state"
    foreign: Any = client.v1.payment_intents.create(
        {"amount": 700, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True,
         "expand": ["latest_charge"]}
    )  # fmt: skip
    assert (foreign.latest_charge.customer, foreign.latest_charge.amount) == (None, 700)
    sandbox.wait_for_webhooks()
    assert told(receiver, foreign.id) == ["payment_intent.created", "payment_intent.succeeded"]
    assert "invoice_payment.paid" not in receiver.types()


def test_a_finalization_fails_when_asked_and_leaves_the_draft(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, draft: Make, receiver: Receiver
) -> None:
    invoice = draft(customer().id, 900)
    sandbox.post(f"invoices/{invoice.id}/fail_finalization")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.invoices.finalize_invoice(invoice.id)
    assert refused.value.code == "customer_tax_location_invalid"
    kept: Any = client.v1.invoices.retrieve(invoice.id)
    assert (kept.status, kept.last_finalization_error.code) == ("draft", "customer_tax_location_invalid")
    final: Any = client.v1.invoices.finalize_invoice(invoice.id)
    assert (final.status, final.last_finalization_error) == ("open", None)
    sandbox.wait_for_webhooks()
    assert "invoice.finalization_failed" in told(receiver, invoice.id)


def test_an_adjustment_by_hand_pays_the_next_invoice(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    someone = customer()
    given = client.v1.customers.balance_transactions.create(
        someone.id, {"amount": -300, "currency": "usd", "description": "Sorry", "metadata": {"a": "b"}}
    )
    assert (given.type, given.ending_balance) == ("adjustment", -300)
    changed = client.v1.customers.balance_transactions.update(someone.id, given.id, {"description": "Changed"})
    assert changed.description == "Changed"
    assert client.v1.customers.balance_transactions.retrieve(someone.id, given.id).amount == -300
    with pytest.raises(stripe.InvalidRequestError, match="cannot be changed in eur"):
        client.v1.customers.balance_transactions.create(someone.id, {"amount": 1, "currency": "eur"})
    assert final(someone.id, 1000, auto_advance=False).amount_due == 700
    client.v1.customers.update(someone.id, {"balance": 50})
    kinds = [entry.type for entry in client.v1.customers.balance_transactions.list(someone.id).data]
    assert kinds == ["adjustment", "applied_to_invoice", "adjustment"]
    sandbox.wait_for_webhooks()
    assert {"balance": -300} in previous(receiver, someone.id, "customer.updated")


def test_drift_changes_or_loses_an_object_without_a_word(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer().id, 900, auto_advance=False)
    sandbox.wait_for_webhooks()
    heard = len(receiver.accepted())
    sandbox.post("drift", object=invoice.id, set={"amount_due": 901})
    assert client.v1.invoices.retrieve(invoice.id).amount_due == 901
    with pytest.raises(RuntimeError, match="fields that the object has"):
        sandbox.post("drift", object=invoice.id, set={"colour": "red"})
    sandbox.post("drift", object=invoice.id, lose=True)
    with pytest.raises(stripe.InvalidRequestError, match="No such invoice"):
        client.v1.invoices.retrieve(invoice.id)
    sandbox.wait_for_webhooks()
    assert len(receiver.accepted()) == heard
