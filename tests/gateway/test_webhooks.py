"""Webhooks: only Stripe's are taken, each has its effect once, and their order means nothing."""

import hashlib
import hmac
import json
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from stripe_gateway.errors import BadEvent, BadSignature, BodyTooLarge, EventIsDone, EventNotFound
from stripe_gateway.webhooks import MAX_BODY_BYTES, verify
from tests.gateway.conftest import Town, at_once, now, shuffled
from tests.processes.sandbox import WEBHOOK_SECRET
from tests.sandbox.receiver import Delivery

BODY = b'{"id": "evt_1", "object": "event"}'


def signed(body: bytes, *, secret: str = WEBHOOK_SECRET, age_s: int = 0) -> str:
    stamp = int(now().timestamp()) - age_s
    mac = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={mac}"


def event(kind: str, obj: dict[str, Any], **changes: Any) -> bytes:
    body = {
        "id": "evt_made",
        "object": "event",
        "type": kind,
        "created": int(now().timestamp()),
        "livemode": False,
        "data": {"object": obj},
    }
    return json.dumps({**body, **changes}).encode()


def receive(town: Town, body: bytes, signature: str | None = None) -> str:
    with Session(town.engine) as session, session.begin():
        return town.gateway.receive(session, body=body, signature=signature or signed(body), now=now())


# The signature


def test_stripes_signature_is_accepted_and_nobody_elses() -> None:
    good = signed(BODY)
    verify(BODY, good, secrets=["whsec_old", WEBHOOK_SECRET], now=now())
    stamp, _, mac = good.partition(",v1=")
    refused = [
        (BODY + b" ", good),
        (BODY, signed(BODY, secret="whsec_other")),
        (BODY, f"{stamp},v1={'0' * 64}"),
        (BODY, f"{stamp},v0={mac}"),
        (BODY, f"t=1,v1={mac}"),
        (BODY, f"v1={mac}"),
        (BODY, ""),
        (BODY, "t=,v1="),
        (BODY, "t=²,v1=é"),
        (BODY, signed(BODY, age_s=301)),
        (BODY, signed(BODY, age_s=-302)),
    ]
    for body, header in refused:
        with pytest.raises(BadSignature):
            verify(body, header, secrets=[WEBHOOK_SECRET], now=now())
    verify(BODY, signed(BODY, age_s=298), secrets=[WEBHOOK_SECRET], now=now())


def test_while_secrets_rotate_both_signatures_of_a_header_count() -> None:
    old, new = signed(BODY, secret="whsec_old"), signed(BODY, secret="whsec_new")
    header = f"{old},v1={new.partition('v1=')[2]}"
    for secret in ("whsec_old", "whsec_new"):
        verify(BODY, header, secrets=[secret], now=now())


def test_thousands_of_mutated_deliveries_are_refused_and_never_surprise() -> None:
    dice = random.Random(7)
    body, header = BODY, signed(BODY)
    for _ in range(3000):
        mutated, other = bytearray(body), bytearray(header.encode())
        target = mutated if dice.random() < 0.5 else other
        for _ in range(dice.randint(1, 3)):
            target[dice.randrange(len(target))] ^= 1 << dice.randrange(8)
        if bytes(mutated) == body and bytes(other) == header.encode():
            continue
        try:
            verify(bytes(mutated), other.decode("latin-1"), secrets=[WEBHOOK_SECRET], now=now())
        except BadSignature:
            continue
        # The only harmless mutation: the same signature, written in a way that reads the same.
        assert bytes(mutated) == body


def test_what_is_no_snapshot_event_is_refused_by_name(town: Town) -> None:
    for body in (
        b"[]",
        b"nonsense",
        b'{"object": "v2.core.event", "id": "evt_1"}',
        b"\xff\xfe",
        event("x", {}, id="in_1"),
    ):
        with pytest.raises(BadEvent):
            receive(town, body)
    with pytest.raises(BodyTooLarge):
        receive(town, b" " * (MAX_BODY_BYTES + 1))
    with pytest.raises(BadSignature):
        receive(town, event("invoice.paid", {"id": "in_1"}), signature="t=1,v1=2")
    assert not town.events()


# The story of one invoice


def story(hooked: Town, name: str = "acme", card: str = "pm_card_visa") -> list[Delivery]:
    """Everything that Stripe says about one invoice from its customer to its end, undelivered so far."""
    hooked.invoice(name, card=card)
    hooked.sync()
    hooked.settle()
    return hooked.fetch()


def test_cash_comes_from_invoice_payment_paid_alone(hooked: Town) -> None:
    """
    receivable    12.34 ->  0.00
    stripe        -0.66 -> 11.68   what Stripe keeps is known from the charge
    payment_fees   0.66
    """
    deliveries = story(hooked)
    others = [one for one in deliveries if one.event["type"] != "invoice_payment.paid"]
    hooked.deliver(others)
    hooked.handle()
    assert hooked.balance("acme", "assets:receivable") == Decimal("12.34")
    hooked.deliver(deliveries)
    hooked.handle()
    assert hooked.balance("acme", "assets:receivable") == 0
    assert hooked.balance("acme", "assets:stripe") == Decimal("11.68")
    assert hooked.balance("acme", "expenses:payment_fees") == Decimal("0.66")
    assert hooked.books()["invoices"][0][1] == "paid"
    assert not hooked.events("parked")
    assert not hooked.events("pending")
    hooked.company.check()


def test_every_event_five_times_in_any_order_gives_the_same_books(hooked: Town) -> None:
    cards = ("pm_card_visa", "pm_card_chargeCustomerFail", "pm_card_visa")
    for number, card in enumerate(cards):
        hooked.invoice(f"customer-{number}", f"{number + 3}.50", card=card)
    hooked.sync()
    hooked.settle()
    deliveries = hooked.fetch()
    assert len(deliveries) > 20
    hooked.deliver(shuffled(deliveries, times=5, seed=1))
    at_once(*[lambda: hooked.gateway.handle_due(now=now()) for _ in range(3)])
    hooked.handle()
    first = hooked.books()
    assert [state for _, state, *_ in first["invoices"]].count("paid") == 2
    assert len(first["failures"]) == 1
    assert first["cash entries"] == 2
    assert {event.deliveries for event in hooked.events()} == {5}

    # The same news under other event ids, again five times.
    hooked.sandbox.resend(new_event_id=True, times=5, shuffle=True, seed=2)
    hooked.settle()
    hooked.deliver(hooked.fetch())
    hooked.handle()
    assert hooked.books() == first
    assert not hooked.events("parked")
    hooked.company.check()


@pytest.mark.parametrize("seed", range(4))
def test_webhooks_that_come_before_the_answers_advance_the_sync(hooked: Town, seed: int) -> None:
    """The answer to `finalize` is lost, and the events arrive first, in disorder."""
    invoice = hooked.invoice("acme", card="pm_card_visa")
    hooked.sandbox.fault("invoices.finalize", "reset_after")
    hooked.sync(patience_s=0)
    assert hooked.row(invoice).state == "waiting"
    hooked.settle()
    deliveries = hooked.fetch()
    hooked.deliver(shuffled(deliveries, times=1, seed=seed))
    hooked.handle()
    row = hooked.row(invoice)
    assert (row.state, row.external_status) == ("done", "paid")
    assert hooked.balance("acme", "assets:receivable") == 0
    writes = hooked.sandbox.counts()["invoices.finalize"]
    hooked.sync()
    assert hooked.sandbox.counts()["invoices.finalize"] == writes, "nothing was left to send"
    hooked.assert_each_stands_once()


def test_cash_for_an_invoice_whose_id_we_never_learned_is_found_by_its_metadata(hooked: Town) -> None:
    """The answer to `create` is lost for good; a person finalizes the draft by hand, and it is paid."""
    invoice = hooked.invoice("acme", card="pm_card_visa")
    hooked.sandbox.fault("invoices.create", "reset_after")
    hooked.sync(patience_s=0)
    assert hooked.row(invoice).external_id is None
    [draft] = hooked.drafts()
    client = hooked.gateway.client
    client.add_lines(draft["id"], {"lines": [{"amount": 1234}]}, key="by-hand-1")
    client.finalize_invoice(draft["id"], {"auto_advance": True}, key="by-hand-2")
    hooked.settle()
    hooked.deliver([one for one in hooked.fetch() if one.event["type"] == "invoice_payment.paid"])
    hooked.handle()
    assert hooked.balance("acme", "assets:stripe") == Decimal("12.34")
    hooked.sync(at=now() + timedelta(minutes=1))
    hooked.assert_each_stands_once()


def test_a_failed_charge_is_recorded_with_its_reason_and_the_next_attempt(hooked: Town) -> None:
    deliveries = story(hooked, card="pm_card_chargeCustomerFail")
    hooked.deliver(deliveries)
    hooked.handle()
    [(external_id, attempt, code)] = hooked.books()["failures"]
    assert external_id.startswith("fail:in_")
    assert (attempt, code) == (1, "generic_decline")
    assert hooked.books()["invoices"][0][1] == "final"


def test_a_failure_that_arrives_after_the_payment_is_dropped(hooked: Town) -> None:
    invoice = hooked.invoice("acme", card="pm_card_chargeCustomerFail")
    hooked.sync()
    hooked.settle()
    hooked.sandbox.post(f"invoices/{hooked.row(invoice).external_id}/pay")
    hooked.settle()
    deliveries = hooked.fetch()
    failures = [one for one in deliveries if one.event["type"] == "invoice.payment_failed"]
    assert failures
    hooked.deliver([one for one in deliveries if one not in failures])
    hooked.handle()
    assert hooked.books()["invoices"][0][1] == "paid"
    hooked.deliver(failures)
    hooked.handle()
    assert hooked.books()["failures"] == []


def test_a_default_card_is_known_from_webhooks_and_forgotten_when_detached(hooked: Town) -> None:
    hooked.company.customer("acme")
    client = hooked.gateway.client
    customer = hooked.gateway.ensure_customer(customer_id=customer_id_for("acme"), now=now())
    method = client.set_default_payment_method(customer, "pm_card_visa")
    hooked.settle()
    hooked.deliver(shuffled(hooked.fetch(), times=2, seed=3))
    hooked.handle()
    charged = hooked.invoice("acme")
    hooked.sync()
    assert hooked.standing()[str(charged.id)][0]["collection_method"] == "charge_automatically"

    client._v1.payment_methods.detach(method)
    hooked.settle()
    hooked.deliver([one for one in hooked.fetch() if one.event["type"] == "payment_method.detached"])
    hooked.handle()
    hooked.company.use("acme", "2025-07-03", "5.00")
    hooked.company.close("2025-08-02")
    hooked.company.finalize_due("2025-08-10")
    sent = hooked.company.invoice("acme", "2025-07").invoice
    hooked.sync()
    assert hooked.standing()[str(sent.id)][0]["collection_method"] == "send_invoice"


def test_a_void_at_stripe_is_shown_to_a_person(hooked: Town) -> None:
    invoice = hooked.invoice("acme")
    hooked.sync()
    hooked.gateway.client._v1.invoices.void_invoice(hooked.row(invoice).external_id)
    hooked.settle()
    hooked.deliver(hooked.fetch())
    hooked.handle()
    row = hooked.row(invoice)
    assert (row.state, row.external_status, row.last_code) == ("done", "void", "stripe_void")
    with Session(hooked.engine) as session:
        assert [problem.invoice_id for problem in hooked.gateway.problems(session, limit=5)] == [invoice.id]


# What does not fit is parked


def paid_event(hooked: Town, **changes: Any) -> bytes:
    [delivery] = [one for one in story(hooked) if one.event["type"] == "invoice_payment.paid"]
    body = delivery.event
    body["data"]["object"].update(changes)
    return json.dumps(body).encode()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"currency": "eur"}, "EUR"),
        ({"livemode": True}, "livemode"),
        ({"amount_paid": 0}, "no payment"),
        ({"amount_paid": -5}, "no payment"),
        ({"status": "open"}, "no payment"),
    ],
)
def test_cash_that_does_not_fit_our_record_is_parked_and_posts_nothing(
    hooked: Town, changes: dict[str, Any], why: str
) -> None:
    receive(hooked, paid_event(hooked, **changes))
    hooked.handle()
    [parked] = hooked.events("parked")
    assert why in (parked.error or "")
    assert hooked.balance("acme", "assets:stripe") == 0


def test_events_of_another_mode_or_account_are_parked(town: Town) -> None:
    receive(town, event("invoice.paid", {"id": "in_1"}, livemode=True, id="evt_mode"))
    receive(town, event("invoice.paid", {"id": "in_1"}, account="acct_1", id="evt_account"))
    town.handle()
    assert {one.id for one in town.events("parked")} == {"evt_mode", "evt_account"}


def test_unknown_events_and_foreign_invoices_are_kept_and_ignored(town: Town) -> None:
    foreign = town.gateway.client.create_customer({"name": "somebody else"}, key="other")
    invoice = town.gateway.client.create_invoice({"customer": foreign["id"]}, key="foreign")
    receive(town, event("mystery.happened", {"id": "xyz_1"}, id="evt_mystery"))
    receive(town, event("invoice.paid", {**invoice, "status": "paid"}, id="evt_foreign"))
    payment = {"id": "inpay_1", "invoice": invoice["id"], "status": "paid", "amount_paid": 5}
    receive(town, event("invoice_payment.paid", payment, id="evt_payment"))
    town.handle()
    assert {one.id for one in town.events("ignored")} == {"evt_mystery", "evt_foreign", "evt_payment"}


def test_an_event_that_nobody_can_read_is_parked_after_five_tries_and_can_be_run_again(town: Town) -> None:
    receive(town, event("invoice.paid", {"id": "in_1"}, id="evt_odd"))  # no status: not of any shape we know
    for minutes in range(8):
        town.gateway.handle_due(now=now() + timedelta(minutes=minutes))
    [parked] = town.events("parked")
    assert parked.attempts == 5
    assert "KeyError" in (parked.error or "") or "status" in (parked.error or "")
    with Session(town.engine) as session, session.begin():
        town.gateway.rerun(session, event_id="evt_odd", actor="agent@demo.test", now=now())
    [again] = town.events("pending")
    assert again.attempts == 0
    with Session(town.engine) as session, pytest.raises(EventNotFound):
        town.gateway.rerun(session, event_id="evt_none", actor="agent@demo.test", now=now())


def test_a_done_event_is_not_run_again(hooked: Town) -> None:
    hooked.deliver(story(hooked))
    hooked.handle()
    done = hooked.events("done")[0]
    with Session(hooked.engine) as session, pytest.raises(EventIsDone):
        hooked.gateway.rerun(session, event_id=done.id, actor="agent@demo.test", now=now())
    with Session(hooked.engine) as session:
        shown = hooked.gateway.inbox_event(session, done.id)
        assert shown is not None
        assert shown.payload["id"] == done.id
        assert sum(hooked.gateway.inbox_counts(session).values()) == len(hooked.events())
        assert hooked.gateway.inbox(session, state="done", before=None, limit=5)[0].payload == {}


def test_an_outage_of_stripe_parks_no_event(hooked: Town) -> None:
    """A failed charge needs Stripe's word on the reason; Stripe is away for an hour."""
    deliveries = story(hooked, card="pm_card_chargeCustomerFail")
    hooked.deliver(deliveries)
    hooked.sandbox.fault("invoice_payments.list", "429", count=None)
    for minutes in range(0, 60, 10):
        hooked.gateway.handle_due(now=now() + timedelta(minutes=minutes))
    assert not hooked.events("parked")
    hooked.sandbox.clear_faults()
    hooked.gateway.handle_due(now=now() + timedelta(hours=2))
    assert len(hooked.books()["failures"]) == 1
