"""Refunds that wait, fail after they succeeded, or are called off: https://docs.stripe.com/refunds."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver

Make = Callable[..., Any]


@pytest.fixture
def charge(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> Callable[..., stripe.Charge]:
    """A charge of 1500 that succeeded and was settled, by default on a working card."""

    def make(card: str = "pm_card_visa", amount: int = 1500) -> stripe.Charge:
        someone = customer(card)
        final(someone.id, amount)
        sandbox.wait_for_webhooks()
        return client.v1.charges.list({"customer": someone.id}).data[0]

    return make


def _entries(client: stripe.StripeClient, source: str) -> list[tuple[str, str, int, int]]:
    listed = client.v1.balance_transactions.list({"source": source}).data
    return [(entry.type, entry.reporting_category, entry.amount, entry.fee) for entry in listed]


def _told(receiver: Receiver, refund_id: str) -> list[tuple[str, str]]:
    about = [event for event in receiver.accepted() if event["data"]["object"]["id"] == refund_id]
    return sorted({(event["type"], event["data"]["object"]["status"]) for event in about})


def test_a_pending_refund_takes_no_money_until_it_succeeds(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    sandbox.set(refund_pending=True)
    source = charge()
    refund = client.v1.refunds.create({"charge": source.id, "amount": 400})
    assert (refund.status, refund.pending_reason, refund.balance_transaction) == ("pending", "processing", None)
    assert client.v1.charges.retrieve(source.id).amount_refunded == 400
    assert _entries(client, refund.id) == []
    assert sandbox.post(f"refunds/{refund.id}/settle")["status"] == "succeeded"
    assert _entries(client, refund.id) == [("refund", "refund", -400, 0)]
    sandbox.wait_for_webhooks()
    assert _told(receiver, refund.id) == [
        ("charge.refund.updated", "succeeded"), ("refund.created", "pending"), ("refund.updated", "succeeded"),
    ]  # fmt: skip


@pytest.mark.parametrize("pending", [False, True])
def test_a_refund_that_fails_brings_back_exactly_what_it_took(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver, pending: bool
) -> None:
    sandbox.set(refund_pending=pending)
    source = charge()
    refund = client.v1.refunds.create({"charge": source.id, "amount": 400})
    sandbox.post(f"refunds/{refund.id}/fail", reason="lost_or_stolen_card")
    failed: Any = client.v1.refunds.retrieve(refund.id, {"expand": ["failure_balance_transaction"]}).to_dict()
    assert (failed["status"], failed["failure_reason"]) == ("failed", "lost_or_stolen_card")
    assert sum(amount for _, _, amount, _ in _entries(client, refund.id)) == 0
    if pending:
        assert "failure_balance_transaction" not in failed
    else:
        assert (failed["failure_balance_transaction"]["amount"], failed["failure_balance_transaction"]["type"]) == (
            400, "refund_failure",
        )  # fmt: skip
    after = client.v1.charges.retrieve(source.id)
    assert (after.amount_refunded, after.refunded) == (0, False)
    assert client.v1.refunds.create({"charge": source.id}).amount == 1500
    sandbox.wait_for_webhooks()
    assert ("refund.failed", "failed") in _told(receiver, refund.id)
    assert ("refund.updated", "failed") in _told(receiver, refund.id)
    with pytest.raises(RuntimeError, match="cannot fail any more"):
        sandbox.post(f"refunds/{refund.id}/fail")


def test_the_test_cards_refund_late_and_fail_late(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    sandbox.set(settlement_delay_s=3600)
    for card, first, last in (
        ("pm_card_pendingRefund", "pending", "succeeded"),
        ("pm_card_refundFail", "succeeded", "failed"),
    ):
        refund = client.v1.refunds.create({"charge": charge(card).id})
        assert client.v1.refunds.retrieve(refund.id).status == first
        sandbox.advance(3601)
        assert client.v1.refunds.retrieve(refund.id).status == last


def test_only_a_refund_that_waits_for_the_customer_can_be_canceled_through_the_api(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    sandbox.set(refund_pending=True)
    source = charge()
    refund = client.v1.refunds.create({"charge": source.id})
    with pytest.raises(stripe.InvalidRequestError, match="not requires_action"):
        client.v1.refunds.cancel(refund.id)
    sandbox.post(f"refunds/{refund.id}/require_action")
    assert client.v1.refunds.cancel(refund.id).status == "canceled"
    assert client.v1.charges.retrieve(source.id).amount_refunded == 0
    second = client.v1.refunds.create({"charge": source.id, "amount": 10})
    assert sandbox.post(f"refunds/{second.id}/cancel")["status"] == "canceled"


def test_refunds_are_listed_by_what_they_belong_to_and_when(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    one, two = charge(), charge()
    first = client.v1.refunds.create({"charge": one.id, "amount": 100})
    sandbox.advance(100)
    second = client.v1.refunds.create({"charge": two.id, "amount": 100})

    def ids(**params: Any) -> list[str]:
        return [refund.id for refund in client.v1.refunds.list(params).data]  # type: ignore[arg-type]

    assert ids() == [second.id, first.id]
    assert ids(charge=one.id) == [first.id]
    assert ids(payment_intent=str(two.payment_intent)) == [second.id]
    assert ids(created={"gte": second.created}) == [second.id]
    assert ids(ending_before=first.id) == [second.id]


def test_metadata_of_a_refund_can_change_and_nothing_else(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    refund = client.v1.refunds.create({"charge": charge().id, "amount": 100, "metadata": {"a": "1"}})
    changed = client.v1.refunds.update(refund.id, {"metadata": {"b": "2"}})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"a": "1", "b": "2"}
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        client.v1.refunds.update(refund.id, {"amount": 5})  # type: ignore[arg-type]
    sandbox.wait_for_webhooks()
    assert any(
        event["data"].get("previous_attributes") == {"metadata": {"a": "1"}}
        for event in receiver.accepted()
        if event["type"] == "refund.updated"
    )
