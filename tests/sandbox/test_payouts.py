"""Payouts and the account's balance: https://docs.stripe.com/payouts/reconciliation."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver
from tests.sandbox.stories import charge_of, entries, told

Make = Callable[..., Any]
DAY_S = 86400


@pytest.fixture
def charge(sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make) -> Make:
    """A charge of 1500 whose 1426 (2.9 % + 30 = 74 of fees) are in the balance, available after two days."""

    def make() -> stripe.Charge:
        someone = customer()
        final(someone.id, 1500)
        return charge_of(sandbox, client, someone.id)

    return make


def _balance(client: stripe.StripeClient) -> tuple[int, int]:
    balance = client.v1.balance.retrieve()
    return balance.available[0].amount, balance.pending[0].amount


def test_a_payout_takes_what_is_available_and_lists_it(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    assert _balance(client) == (0, 0)
    first = charge()
    sandbox.advance(DAY_S)
    with pytest.raises(RuntimeError, match="Nothing is available"):
        sandbox.post("payouts")
    sandbox.advance(DAY_S)
    charge()
    refund = client.v1.refunds.create({"charge": first.id, "amount": 100})
    assert _balance(client) == (1326, 1426)
    payout = client.v1.payouts.retrieve(sandbox.post("payouts")["id"])
    assert (payout.amount, payout.status, payout.automatic) == (1326, "paid", True)
    assert payout.reconciliation_status == "completed"
    assert _balance(client) == (0, 1426)
    listed = client.v1.balance_transactions.list({"payout": payout.id}).data
    assert {(entry.type, entry.source, entry.net) for entry in listed} == {
        ("charge", first.id, 1426), ("refund", refund.id, -100), ("payout", payout.id, -1326),
    }  # fmt: skip
    sandbox.wait_for_webhooks()
    assert told(receiver, payout.id) == [
        "payout.created", "payout.paid", "payout.reconciliation_completed", "payout.updated",
    ]  # fmt: skip


def test_a_payout_that_was_paid_fails_and_the_next_one_brings_the_money(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    charge()
    sandbox.advance(3 * DAY_S)
    first = sandbox.post("payouts")["id"]
    failed = sandbox.post(f"payouts/{first}/fail", code="no_account")
    assert (failed["status"], failed["failure_code"]) == ("failed", "no_account")
    assert entries(client, first) == [
        ("payout_failure", "payout_reversal", 1426, 0), ("payout", "payout", -1426, 0),
    ]  # fmt: skip
    back = client.v1.balance_transactions.retrieve(failed["failure_balance_transaction"])
    assert (back.amount, back.source) == (1426, first)
    with pytest.raises(RuntimeError, match="cannot fail any more"):
        sandbox.post(f"payouts/{first}/fail")
    second = sandbox.post("payouts")
    assert second["amount"] == 1426
    listed = client.v1.balance_transactions.list({"payout": second["id"]}).data
    assert [entry.type for entry in listed] == ["payout", "payout_failure"]
    sandbox.wait_for_webhooks()
    assert "payout.failed" in told(receiver, first)


def test_a_payout_on_its_way_arrives_with_the_clock(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    charge()
    sandbox.advance(3 * DAY_S)
    payout = sandbox.post("payouts", arrive_s=2 * DAY_S)
    assert (payout["status"], payout["arrival_date"] - payout["created"]) == ("pending", 2 * DAY_S)
    sandbox.advance(DAY_S)
    assert client.v1.payouts.retrieve(payout["id"]).reconciliation_status == "completed"
    assert client.v1.payouts.list({"status": "paid"}).data == []
    sandbox.advance(DAY_S + 1)
    assert [found.id for found in client.v1.payouts.list({"status": "paid"}).data] == [payout["id"]]
    by_day: Any = {"arrival_date": {"gt": payout["arrival_date"]}}
    assert client.v1.payouts.list(by_day).data == []


def test_stripes_own_fee_goes_off_the_payout(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    sandbox.set(payout_fee_minor=26)
    charge()
    sandbox.advance(3 * DAY_S)
    payout = sandbox.post("payouts", currency="usd")
    assert payout["amount"] == 1400
    fees = client.v1.balance_transactions.list({"payout": payout["id"], "type": "stripe_fee"}).data
    assert [(fee.amount, fee.reporting_category, fee.source) for fee in fees] == [(-26, "fee", None)]


def test_a_manual_payout_is_canceled_while_it_is_pending(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    charge()
    sandbox.advance(3 * DAY_S)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payouts.create({"amount": 1427, "currency": "usd"})
    assert refused.value.code == "balance_insufficient"
    one = client.v1.payouts.create({"amount": 1000, "currency": "usd"})
    assert (one.automatic, one.reconciliation_status, _balance(client)[0]) == (False, "not_applicable", 426)
    assert client.v1.payouts.cancel(one.id).status == "canceled"
    assert _balance(client)[0] == 1426
    two = client.v1.payouts.create({"amount": 1000, "currency": "usd", "metadata": {"a": "b"}})
    client.v1.payouts.update(two.id, {"metadata": {"c": "d"}})
    sandbox.advance(3 * DAY_S)
    with pytest.raises(stripe.InvalidRequestError, match="only pending"):
        client.v1.payouts.cancel(two.id)
    automatic = sandbox.post("payouts")
    assert automatic["amount"] == 426
    with pytest.raises(stripe.InvalidRequestError, match="Automatic payouts"):
        client.v1.payouts.cancel(automatic["id"])
    sandbox.wait_for_webhooks()
    assert "payout.canceled" in told(receiver, one.id)


def test_a_lost_dispute_can_leave_nothing_to_pay_out(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    """1426 - 1500 - 1500 of fee is below zero: the balance is negative and nothing is paid out."""
    sandbox.post("disputes", charge=charge().id)
    sandbox.advance(3 * DAY_S)
    assert _balance(client) == (-1574, 0)
    with pytest.raises(RuntimeError, match="Nothing is available"):
        sandbox.post("payouts")
