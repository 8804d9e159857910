"""Debits of bank accounts: under way for days, then paid, failed, or paid and returned.

Source: https://docs.stripe.com/payments/ach-direct-debit and https://docs.stripe.com/payments/sepa-debit.
"""

from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver
from tests.sandbox.stories import entries, told

Make = Callable[..., Any]
DAY_S = 86400


def _later(sandbox: SandboxProcess, days: float) -> None:
    sandbox.wait_for_webhooks()
    sandbox.post("clock", advance_s=days * DAY_S)
    sandbox.wait_for_webhooks()


def _intent_of(client: stripe.StripeClient, invoice: Any) -> Any:
    payment: Any = client.v1.invoice_payments.list({"invoice": invoice.id}).data[0]
    return client.v1.payment_intents.retrieve(payment.payment.payment_intent, {"expand": ["latest_charge"]})


def test_a_debit_is_under_way_for_days_before_the_invoice_is_paid(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer("pm_usBankAccount_success").id, 10000)
    _later(sandbox, 1)
    intent = _intent_of(client, invoice)
    charge = intent.latest_charge
    assert (intent.status, charge.status, charge.paid) == ("processing", "pending", False)
    assert charge.id.startswith("py_")
    assert charge.payment_method_details.us_bank_account.last4 == "6789"
    waiting = client.v1.invoices.retrieve(invoice.id)
    assert (waiting.status, waiting.amount_paid, waiting.next_payment_attempt) == ("open", 0, None)
    assert entries(client, charge.id) == [("payment", "charge", 10000, 80)]
    assert told(receiver, intent.id) == ["payment_intent.created", "payment_intent.processing"]
    assert told(receiver, charge.id) == ["charge.pending", "charge.updated"]

    _later(sandbox, 4)
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    assert _intent_of(client, invoice).latest_charge.status == "succeeded"
    assert entries(client, charge.id) == [("payment", "charge", 10000, 80)]
    assert receiver.types().count("invoice_payment.paid") == 1
    assert "charge.succeeded" in told(receiver, charge.id)


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ("pm_usBankAccount_accountClosed", "account_closed"),
        ("pm_usBankAccount_noAccount", "no_account"),
        ("pm_usBankAccount_debitNotAuthorized", "debit_not_authorized"),
        ("pm_usBankAccount_insufficientFunds", "insufficient_funds"),
    ],
)
def test_a_debit_that_fails_leaves_the_invoice_open_and_takes_the_money_back(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver,
    account: str, code: str,
) -> None:  # fmt: skip
    invoice = final(customer(account).id, 10000)
    _later(sandbox, 4.5)
    intent = _intent_of(client, invoice)
    assert (intent.status, intent.last_payment_error.code) == ("requires_payment_method", code)
    assert (intent.latest_charge.status, intent.latest_charge.failure_code) == ("failed", code)
    assert entries(client, intent.latest_charge.id) == [
        ("payment_failure_refund", "charge_failure", -10000, -80),
        ("payment", "charge", 10000, 80),
    ]
    is_open = client.v1.invoices.retrieve(invoice.id)
    assert (is_open.status, is_open.amount_paid, is_open.attempt_count) == ("open", 0, 1)
    assert (is_open.next_payment_attempt is not None) is (code == "insufficient_funds")
    assert {"invoice.payment_failed", "payment_intent.payment_failed", "charge.failed"} <= set(receiver.types())
    assert "invoice_payment.paid" not in receiver.types()
    balance: Any = client.v1.balance.retrieve()
    assert sum(part.amount for part in [*balance.available, *balance.pending]) == 0


def test_money_that_is_under_way_is_neither_available_nor_paid_out(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    final(customer("pm_usBankAccount_processing").id, 10000)
    _later(sandbox, 30)
    balance = client.v1.balance.retrieve()
    assert [part.amount for part in balance.available] == [0]
    assert [part.amount for part in balance.pending] == [9920]
    with pytest.raises(RuntimeError, match="Nothing is available"):
        sandbox.post("payouts")


def test_nothing_is_charged_a_second_time_while_a_debit_is_under_way(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    invoice = final(customer("pm_usBankAccount_processing").id, 10000)
    _later(sandbox, 1)
    with pytest.raises(stripe.InvalidRequestError, match="processing"):
        client.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})
    intent = _intent_of(client, invoice)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})
    assert refused.value.code == "payment_intent_unexpected_state"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.cancel(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"
    _later(sandbox, 20)
    assert len(client.v1.charges.list({"payment_intent": intent.id}).data) == 1
    page = requests.get(str(invoice.hosted_invoice_url), timeout=10).text
    assert "on its way" in page
    assert "Pay with" not in page


@pytest.mark.parametrize("end", ["void", "outside"])
def test_a_debit_cannot_be_called_back_and_its_money_comes_all_the_same(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver, end: str
) -> None:
    someone = customer("pm_usBankAccount_success")
    invoice = final(someone.id, 10000)
    _later(sandbox, 1)
    if end == "void":
        client.v1.invoices.void_invoice(invoice.id)
    else:
        client.v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    _later(sandbox, 4)
    after = client.v1.invoices.retrieve(invoice.id)
    assert receiver.types().count("invoice_payment.paid") == 1
    assert _intent_of(client, invoice).status == "succeeded"
    if end == "void":
        assert (after.status, after.amount_paid) == ("void", 10000)
    else:
        assert (after.status, after.amount_paid, after.amount_overpaid) == ("paid", 20000, 10000)
        assert client.v1.customers.retrieve(someone.id).balance == -10000


def test_a_paid_debit_that_the_bank_returns_is_a_dispute_lost_from_the_start(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer("pm_usBankAccount_success").id, 10000)
    _later(sandbox, 4.5)
    charge = _intent_of(client, invoice).latest_charge
    _later(sandbox, 300)
    dispute = sandbox.post(f"debits/{charge.id}/return", reason="bank_cannot_process")
    assert (dispute["status"], dispute["reason"], dispute["amount"]) == ("lost", "bank_cannot_process", 10000)
    assert "payment_method_details" not in dispute
    sandbox.wait_for_webhooks()
    assert entries(client, dispute["id"]) == [("adjustment", "dispute", -10000, 1500)]
    assert told(receiver, dispute["id"]) == [
        "charge.dispute.closed", "charge.dispute.created", "charge.dispute.funds_withdrawn",
    ]  # fmt: skip
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="charged back"):
        client.v1.refunds.create({"charge": charge.id})


def test_the_account_that_disputes_does_so_once_it_has_paid(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    final(customer("pm_usBankAccount_dispute").id, 10000)
    _later(sandbox, 3)
    assert client.v1.disputes.list().data == []
    _later(sandbox, 2)
    assert [(found.status, found.amount) for found in client.v1.disputes.list().data] == [("lost", 10000)]


def test_a_sepa_debit_takes_euros_only(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    euros = final(customer("pm_success_de").id, 5000, currency="eur")
    dollars = final(customer("pm_success_de").id, 5000, auto_advance=False)
    with pytest.raises(stripe.InvalidRequestError, match="eur only"):
        client.v1.invoices.pay(dollars.id)
    _later(sandbox, 1)
    charge = _intent_of(client, euros).latest_charge
    assert (charge.payment_method_details.type, charge.payment_method_details.sepa_debit.country) == (
        "sepa_debit", "DE",
    )  # fmt: skip
    _later(sandbox, 4)
    assert client.v1.invoices.retrieve(euros.id).status == "paid"


def test_a_debit_is_refunded_as_a_bank_transfer(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    invoice = final(customer("pm_usBankAccount_success").id, 10000)
    _later(sandbox, 5)
    charge = _intent_of(client, invoice).latest_charge
    refund: Any = client.v1.refunds.create({"charge": charge.id, "amount": 400})
    assert (refund.destination_details.type, refund.status) == ("us_bank_transfer", "succeeded")
    assert entries(client, refund.id) == [("payment_refund", "refund", -400, 0)]


def test_test_numbers_make_the_same_accounts_as_test_ids(client: stripe.StripeClient) -> None:
    american = client.v1.payment_methods.create(
        {
            "type": "us_bank_account",
            "us_bank_account": {
                "account_number": "000222222227", "routing_number": "110000000", "account_holder_type": "company",
            },
            "billing_details": {"name": "Demo customer"},
        }
    )  # fmt: skip
    german = client.v1.payment_methods.create(
        {"type": "sepa_debit", "sepa_debit": {"iban": "DE89 3704 0044 0532 0130 00"}}
    )
    assert (american.type, american.us_bank_account.last4) == ("us_bank_account", "2227")  # type: ignore[union-attr]
    assert (german.type, german.sepa_debit.country) == ("sepa_debit", "DE")  # type: ignore[union-attr]
    with pytest.raises(stripe.InvalidRequestError, match="test accounts"):
        client.v1.payment_methods.create({"type": "sepa_debit", "sepa_debit": {"iban": "DE00"}})


@pytest.mark.parametrize(("preset", "status"), [("debit_fails", "open"), ("debit_returned", "paid")])
def test_a_bad_day_strikes_the_next_debit_and_no_other(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, preset: str, status: str
) -> None:
    sandbox.post("presets", name=preset)
    assert "next bank debit" in requests.get(sandbox.url, timeout=10).text
    first = final(customer("pm_usBankAccount_success").id, 10000)
    _later(sandbox, 4.5)
    second = final(customer("pm_usBankAccount_success").id, 10000)
    _later(sandbox, 4.5)
    assert client.v1.invoices.retrieve(first.id).status == status
    assert client.v1.invoices.retrieve(second.id).status == "paid"
    assert len(client.v1.disputes.list().data) == (preset == "debit_returned")
    assert sandbox.get("presets")["troubles"] == []


def test_a_button_lets_the_bank_answer_before_its_time(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    paid, failed = (final(customer("pm_usBankAccount_processing").id, 10000) for _ in range(2))
    sandbox.wait_for_webhooks()
    charges = [_intent_of(client, invoice).latest_charge.id for invoice in (paid, failed)]
    assert f"/act/debits/{charges[0]}/pay" in requests.get(f"{sandbox.url}/payments", timeout=10).text
    requests.post(f"{sandbox.url}/act/debits/{charges[0]}/pay", timeout=10)
    requests.post(f"{sandbox.url}/act/debits/{charges[1]}/fail", timeout=10)
    assert [client.v1.invoices.retrieve(invoice.id).status for invoice in (paid, failed)] == ["paid", "open"]
    for verb in ("pay", "fail"):
        with pytest.raises(RuntimeError, match="only a debit that is under way"):
            sandbox.post(f"debits/{charges[0]}/{verb}")
    assert f"/act/debits/{charges[0]}/return" in requests.get(f"{sandbox.url}/payments", timeout=10).text
