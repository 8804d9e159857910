"""Disputes, inquiries and fraud warnings: https://docs.stripe.com/disputes/how-disputes-work."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver
from tests.sandbox.stories import charge_of, entries, previous, told

Make = Callable[..., Any]
WITHDRAWN = ("adjustment", "dispute", -1500, 1500)
REINSTATED = ("adjustment", "dispute_reversal", 1500, 0)


@pytest.fixture
def charge(sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make) -> Make:
    """A charge of 1500 that succeeded, by default on a working card."""

    def make(card: str = "pm_card_visa") -> stripe.Charge:
        someone = customer(card)
        final(someone.id, 1500)
        return charge_of(sandbox, client, someone.id)

    return make


def test_a_dispute_takes_the_amount_and_a_fee_and_winning_gives_the_amount_back(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    source = charge()
    opened = sandbox.post("disputes", charge=source.id, reason="product_not_received")
    dispute = client.v1.disputes.retrieve(opened["id"])
    assert (dispute.status, dispute.amount, dispute.reason) == ("needs_response", 1500, "product_not_received")
    assert dispute.payment_intent == source.payment_intent
    assert [(entry.amount, entry.fee, entry.net) for entry in dispute.balance_transactions] == [(-1500, 1500, -3000)]
    assert entries(client, dispute.id) == [WITHDRAWN]
    assert client.v1.charges.retrieve(source.id).disputed
    sandbox.post(f"disputes/{dispute.id}", status="under_review")
    assert sandbox.post(f"disputes/{dispute.id}", status="won")["status"] == "won"
    assert entries(client, dispute.id) == [REINSTATED, WITHDRAWN]
    sandbox.wait_for_webhooks()
    assert told(receiver, dispute.id) == [
        "charge.dispute.closed", "charge.dispute.created", "charge.dispute.funds_reinstated",
        "charge.dispute.funds_withdrawn", "charge.dispute.updated",
    ]  # fmt: skip
    assert previous(receiver, dispute.id, "charge.dispute.updated") == [{"status": "needs_response"}]
    with pytest.raises(RuntimeError, match="cannot become lost"):
        sandbox.post(f"disputes/{dispute.id}", status="lost")


def test_a_lost_dispute_can_be_won_late(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    opened = sandbox.post("disputes", charge=charge().id)
    lost = client.v1.disputes.close(opened["id"])
    assert (lost.status, entries(client, lost.id)) == ("lost", [WITHDRAWN])
    with pytest.raises(stripe.InvalidRequestError, match="only one that needs a response"):
        client.v1.disputes.close(lost.id)
    sandbox.advance(90 * 86400)
    assert sandbox.post(f"disputes/{lost.id}", status="won")["status"] == "won"
    assert entries(client, lost.id) == [REINSTATED, WITHDRAWN]
    sandbox.wait_for_webhooks()
    assert told(receiver, lost.id).count("charge.dispute.closed") == 2


def test_an_inquiry_moves_no_money_until_it_is_escalated(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    source = charge()
    one = sandbox.post("disputes", charge=source.id, inquiry=True)
    assert (one["status"], one["is_charge_refundable"], one["balance_transactions"]) == (
        "warning_needs_response", True, [],
    )  # fmt: skip
    assert client.v1.refunds.create({"charge": source.id, "amount": 500}).status == "succeeded"
    assert sandbox.post(f"disputes/{one['id']}", status="under_review")["status"] == "warning_under_review"
    assert sandbox.post(f"disputes/{one['id']}", status="warning_closed")["status"] == "warning_closed"
    assert entries(client, one["id"]) == []
    sandbox.wait_for_webhooks()
    assert "charge.dispute.funds_withdrawn" not in receiver.types()

    two = sandbox.post("disputes", charge=source.id, inquiry=True)
    assert sandbox.post(f"disputes/{two['id']}", status="needs_response")["amount"] == 1000
    assert entries(client, two["id"]) == [("adjustment", "dispute", -1000, 1500)]


def test_no_refund_while_a_dispute_holds_the_money(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    source = charge()
    dispute = sandbox.post("disputes", charge=source.id, amount=700)
    with pytest.raises(stripe.InvalidRequestError, match="has been charged back") as refused:
        client.v1.refunds.create({"charge": source.id, "amount": 100})
    assert refused.value.code == "charge_disputed"
    sandbox.post(f"disputes/{dispute['id']}", status="won")
    assert client.v1.refunds.create({"charge": source.id}).amount == 1500


def test_disputes_may_be_lost_from_the_start_differ_in_amount_and_come_in_numbers(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    source = charge()
    sandbox.set(dispute_fee_minor=2000, dispute_fee_returned=True)
    first = sandbox.post("disputes", charge=source.id, amount=1700, status="lost")
    second = sandbox.post("disputes", charge=source.id, amount=100)
    third = sandbox.post("disputes", charge=source.id, amount=100, status="prevented")
    assert entries(client, first["id"]) == [("adjustment", "dispute", -1700, 2000)]
    assert entries(client, third["id"]) == []
    sandbox.post(f"disputes/{second['id']}", status="won")
    assert entries(client, second["id"])[0] == ("adjustment", "dispute_reversal", 100, -2000)
    sandbox.wait_for_webhooks()
    assert "charge.dispute.closed" in told(receiver, first["id"])
    listed = client.v1.disputes.list({"charge": source.id})
    assert [dispute.id for dispute in listed.data] == [third["id"], second["id"], first["id"]]
    by_intent = client.v1.disputes.list({"payment_intent": str(source.payment_intent), "limit": 1})
    assert len(list(by_intent.auto_paging_iter())) == 3
    assert client.v1.disputes.list({"created": {"gt": third["created"]}}).data == []


def test_a_lost_dispute_brings_a_part_back(sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make) -> None:
    dispute = sandbox.post("disputes", charge=charge().id)
    sandbox.post(f"disputes/{dispute['id']}", status="lost", reinstate=400)
    assert entries(client, dispute["id"]) == [("adjustment", "dispute_reversal", 400, 0), WITHDRAWN]
    with pytest.raises(RuntimeError, match="no more than it holds"):
        sandbox.post(f"disputes/{dispute['id']}", status="lost", reinstate=1101)
    sandbox.post(f"disputes/{dispute['id']}", status="won")
    assert entries(client, dispute["id"])[0] == ("adjustment", "dispute_reversal", 1100, 0)


def test_evidence_is_staged_submitted_and_decides(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make, receiver: Receiver
) -> None:
    for words, end in (("winning_evidence", "won"), ("losing_evidence", "lost")):
        dispute_id = sandbox.post("disputes", charge=charge().id)["id"]
        staged = client.v1.disputes.update(dispute_id, {"evidence": {"customer_name": "A"}, "submit": False})
        assert (staged.status, staged.evidence_details.has_evidence) == ("needs_response", True)
        sent = client.v1.disputes.update(
            dispute_id, {"evidence": {"uncategorized_text": words}, "metadata": {"case": "1"}}
        )
        assert (sent.status, sent.evidence_details.submission_count) == ("under_review", 1)
        sandbox.advance(1)
        assert client.v1.disputes.retrieve(dispute_id).status == end
        with pytest.raises(stripe.InvalidRequestError, match="no longer be submitted"):
            client.v1.disputes.update(dispute_id, {"evidence": {"customer_name": "B"}})
        assert client.v1.disputes.update(dispute_id, {"metadata": {"case": "2"}}).metadata["case"] == "2"


@pytest.mark.parametrize(
    ("card", "status", "told_of"),
    [
        ("pm_card_createDispute", "needs_response", "charge.dispute.funds_withdrawn"),
        ("pm_card_createDisputeInquiry", "warning_needs_response", "charge.dispute.created"),
        ("pm_card_createIssuerFraudRecord", None, "radar.early_fraud_warning.created"),
    ],
)
def test_the_test_cards_are_disputed_after_they_paid(
    client: stripe.StripeClient, charge: Make, receiver: Receiver, card: str, status: str | None, told_of: str
) -> None:
    source = charge(card)
    found = client.v1.disputes.list({"charge": source.id}).data
    assert [dispute.status for dispute in found] == ([status] if status else [])
    assert told_of in receiver.types()
    warnings = client.v1.radar.early_fraud_warnings.list({"charge": source.id}).data
    assert [warning.actionable for warning in warnings] == ([] if status else [True])
    if warnings:
        assert client.v1.radar.early_fraud_warnings.retrieve(warnings[0].id).payment_intent == source.payment_intent


def test_an_early_fraud_warning_comes_when_asked(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: Make
) -> None:
    source = charge()
    sandbox.post("early_fraud_warnings", charge=source.id, fraud_type="misc")
    assert [w.fraud_type for w in client.v1.radar.early_fraud_warnings.list().data] == ["misc"]
    with pytest.raises(RuntimeError, match="fraud_type"):
        sandbox.post("early_fraud_warnings", charge=source.id, fraud_type="dislike")
    with pytest.raises(RuntimeError, match="Unknown fields: colour"):
        sandbox.post("disputes", charge=source.id, colour="red")
