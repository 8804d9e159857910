"""Deliveries: signed, repeated until they are taken, and bent on demand."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import WEBHOOK_SECRET, SandboxProcess
from tests.sandbox.receiver import Receiver

Make = Callable[..., Any]


def test_every_delivery_carries_a_signature_that_the_sdk_accepts(
    sandbox: SandboxProcess, customer: Make, receiver: Receiver
) -> None:
    someone = customer()
    sandbox.wait_for_webhooks()
    assert receiver.deliveries
    for delivery in receiver.deliveries:
        event: Any = stripe.Webhook.construct_event(delivery.body, delivery.signature, WEBHOOK_SECRET)
        assert event.api_version == "2026-10-28.endive"
        assert event.pending_webhooks >= 1
    first = receiver.wait_for("customer.created")
    assert first["data"]["object"]["id"] == someone.id
    assert first["request"]["id"].startswith("req_")
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(delivery.body + b" ", delivery.signature, WEBHOOK_SECRET)


def test_a_delivery_is_repeated_until_it_is_taken(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    receiver.answers = [500, 404]
    client.v1.customers.create()
    sandbox.wait_for_webhooks()
    assert [delivery.answered for delivery in receiver.deliveries] == [500, 404, 200]
    assert len({delivery.event["id"] for delivery in receiver.deliveries}) == 1
    assert client.v1.events.list().data[0].pending_webhooks == 0


def test_an_event_counts_what_it_still_owes(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.webhook_mode(paused=True)
    client.v1.customers.create()
    assert client.v1.events.list().data[0].pending_webhooks == 1
    assert len(client.v1.events.list({"delivery_success": False}).data) == 1
    time.sleep(0.3)
    assert receiver.deliveries == []
    sandbox.webhook_mode(paused=False)
    sandbox.wait_for_webhooks()
    assert client.v1.events.list({"delivery_success": False}).data == []
    assert len(client.v1.events.list({"delivery_success": True}).data) == 1


def test_after_three_days_a_delivery_is_given_up(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    receiver.status = 500
    client.v1.customers.create()
    sandbox.advance(3 * 86400 + 60)
    sandbox.wait_for_webhooks()
    deliveries = sandbox.get("webhooks")["deliveries"]
    assert [(delivery["state"], delivery["last_status"]) for delivery in deliveries] == [("failed", 500)]
    assert len(client.v1.events.list({"delivery_success": False}).data) == 1


def test_lost_deliveries_are_never_sent(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.webhook_mode(drop_probability=1.0)
    client.v1.customers.create()
    sandbox.wait_for_webhooks()
    assert receiver.deliveries == []
    assert len(client.v1.events.list({"delivery_success": False}).data) == 1
    sandbox.resend()
    sandbox.wait_for_webhooks()
    assert receiver.types() == ["customer.created"]


def test_deliveries_are_doubled_on_demand(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.webhook_mode(duplicate=2)
    client.v1.customers.create()
    sandbox.wait_for_webhooks()
    assert len(receiver.deliveries) == 3
    assert len({event["id"] for event in receiver.accepted()}) == 1


def test_each_webhook_comes_under_a_second_id_on_demand(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.webhook_mode(second_id=1, duplicate=1)
    made = client.v1.customers.create()
    sandbox.wait_for_webhooks()
    came = [(event["id"], event["data"]["object"]["id"]) for event in receiver.accepted()]
    assert len(came) == 4
    assert len(set(came)) == 2
    assert {customer_id for _, customer_id in came} == {made.id}


def test_late_webhooks_wait_for_their_time(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    sandbox.webhook_mode(delay_s=3600.0)
    client.v1.customers.create()
    (owed,) = sandbox.get("webhooks")["deliveries"]
    assert owed["next_at"] > time.time() + 1800
    assert receiver.deliveries == []
    sandbox.advance(3600)
    sandbox.wait_for_webhooks()
    assert receiver.types() == ["customer.created"]


@pytest.mark.parametrize(("kind", "message"), [("stale", "tolerance"), ("forged", "No signatures")])
def test_false_webhooks_come_with_the_true_ones_on_demand(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver, kind: str, message: str
) -> None:
    sandbox.webhook_mode(**{kind: 2})
    client.v1.customers.create()
    sandbox.wait_for_webhooks()
    true, false, refusals = [], [], []
    for delivery in receiver.deliveries:
        try:
            stripe.Webhook.construct_event(delivery.body, delivery.signature, WEBHOOK_SECRET)
            true.append(delivery.event["id"])
        except stripe.SignatureVerificationError as error:
            false.append(delivery.event["id"])
            refusals.append(str(error))
    assert (len(true), len(false)) == (1, 2)
    assert all(message in refusal for refusal in refusals)
    # A replay repeats a true event; a forgery makes one up, so that taking it could not pass for a repetition.
    assert (true[0] in false) == (kind == "stale")


def test_everything_is_sent_five_times_in_a_shuffled_but_repeatable_order(
    sandbox: SandboxProcess, customer: Make, receiver: Receiver
) -> None:
    customer()
    sandbox.wait_for_webhooks()
    came = [event["id"] for event in receiver.accepted()]
    first = sandbox.resend(times=5, shuffle=True, seed=7)
    second = sandbox.resend(times=5, shuffle=True, seed=7)
    sandbox.wait_for_webhooks()
    assert first == second
    assert sorted(first) == sorted(came * 5)
    assert first != sorted(first)
    assert len(receiver.deliveries) == len(came) * 11


def test_the_same_happening_can_come_under_another_event_id(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    made = client.v1.customers.create()
    sandbox.wait_for_webhooks()
    (copy,) = sandbox.resend(new_event_id=True)
    sandbox.wait_for_webhooks()
    one, two = receiver.accepted()
    assert one["id"] != two["id"] == copy
    assert one["data"]["object"]["id"] == two["data"]["object"]["id"] == made.id
    assert client.v1.events.retrieve(copy).type == "customer.created"


@pytest.mark.parametrize(("option", "message"), [({"stale_s": 600}, "tolerance"), ({"forged": True}, "No signatures")])
def test_a_stale_or_forged_delivery_is_refused_by_the_sdk(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver, option: dict[str, Any], message: str
) -> None:
    client.v1.customers.create()
    sandbox.wait_for_webhooks()
    sandbox.resend(**option)
    sandbox.wait_for_webhooks()
    delivery = receiver.deliveries[-1]
    with pytest.raises(stripe.SignatureVerificationError, match=message):
        stripe.Webhook.construct_event(delivery.body, delivery.signature, WEBHOOK_SECRET)


def test_while_a_secret_is_rolled_both_sign(
    sandbox: SandboxProcess, client: stripe.StripeClient, receiver: Receiver
) -> None:
    new = sandbox.post("secrets/roll")["secret"]
    client.v1.customers.create()
    sandbox.wait_for_webhooks()
    delivery = receiver.deliveries[-1]
    assert delivery.signature.count("v1=") == 2
    for secret in (WEBHOOK_SECRET, new):
        stripe.Webhook.construct_event(delivery.body, delivery.signature, secret)
    sandbox.restart()
    sandbox.post("secrets/roll", secret="whsec_third", keep_old_s=0)
    sandbox.resend()
    sandbox.wait_for_webhooks()
    assert receiver.deliveries[-1].signature.count("v1=") == 2  # the third, and the first until its day is over
    stripe.Webhook.construct_event(receiver.deliveries[-1].body, receiver.deliveries[-1].signature, "whsec_third")


def test_an_endpoint_gets_only_what_it_asked_for(process: SandboxProcess, receiver: Receiver) -> None:
    from tests.sandbox.conftest import connect

    process.start(webhook_url=receiver.url, extra=("--webhook-events=customer.created,invoice.paid",))
    client = connect(process)
    made = client.v1.customers.create()
    client.v1.customers.update(made.id, {"name": "B"})
    process.wait_for_webhooks()
    assert receiver.types() == ["customer.created"]


def test_events_older_than_30_days_are_no_longer_listed(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    client.v1.customers.create()
    sandbox.advance(31 * 86400)
    assert client.v1.events.list().data == []
