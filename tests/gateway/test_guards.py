"""Guards that stand alone: no other one would notice what each of these keeps out."""

import time
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from stripe_gateway import customers, outbox
from stripe_gateway.breaker import Breaker, BreakerRules
from stripe_gateway.cash import note_effect
from stripe_gateway.client import Client
from stripe_gateway.customers import CustomerBusy
from stripe_gateway.errors import BadSignature, NoAnswer, StripeAway
from stripe_gateway.outbox import InvoiceDiffers, ObjectIsAnothers
from stripe_gateway.pacing import LocalPacer, Rates
from stripe_gateway.webhooks import verify
from tests.gateway.conftest import WRITES, Town, now, settings_for
from tests.gateway.test_webhooks import BODY, event, receive, signed
from tests.processes.sandbox import WEBHOOK_SECRET


def test_every_write_goes_out_under_the_key_that_was_frozen_for_it(town: Town) -> None:
    """The SDK makes up a key where it is given none, and nobody could send the same again."""
    town.invoice()
    assert town.sync().synced == 1
    with town.engine.connect() as connection:
        frozen = set(connection.scalars(text("SELECT idempotency_key FROM stripe_requests")))
    writes = ("customers.create", *WRITES)
    assert {line["idempotency_key"] for write in writes for line in town.sandbox.requests(write)} == frozen
    assert len(frozen) == len(writes)


def test_every_call_waits_for_its_turn(town: Town) -> None:
    """At a call in a hundred seconds, the second one has to wait long; how fast this machine is does not matter."""
    slept: list[float] = []
    pacer = LocalPacer(Rates(total=0.01, per_operation=0.01), sleep=slept.append)
    client = Client(settings_for(town.sandbox), pacer=pacer).for_people()
    for _ in range(2):
        assert not list(client.list_invoices())
    assert sum(slept) > 60


def test_a_line_that_somebody_else_put_on_the_draft_is_never_collected(town: Town) -> None:
    """
    ours            12.34
    somebody else's  1.00   put on the draft while we waited
    """
    invoice = town.invoice("acme", card="pm_card_visa")
    town.sandbox.fault("invoices.add_lines", "429", count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    [draft] = town.drafts()
    town.gateway.client.add_lines(draft["id"], {"lines": [{"amount": 100}]}, key="by-hand")
    assert town.sync().parked == 1
    assert not town.standing()
    assert not town.drafts()
    assert "Its total is 1334, ours is 1234" in (town.row(invoice).last_error or "")


def test_an_object_of_another_invoice_confirms_nothing(town: Town) -> None:
    first, second = town.invoice("first"), town.invoice("second")
    town.sync()
    stands = town.row(first).external_id
    assert stands is not None
    with Session(town.engine) as session, pytest.raises(ObjectIsAnothers):
        outbox.own(session, stands, kind="invoice", customer_id=second.customer_id, invoice_id=second.id, now=now())


def test_an_invoice_that_is_not_what_was_asked_for_confirms_nothing(town: Town) -> None:
    invoice = town.invoice()
    # As often as it tries: on a slow machine a second attempt may be due before the run ends.
    town.sandbox.fault("invoices.finalize", "429", count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    [draft] = town.drafts()
    final = town.gateway.client.finalize_invoice(draft["id"], {}, key="by-hand")
    with Session(town.engine) as session, pytest.raises(InvoiceDiffers, match="Its total is 1, ours is 1234"):
        outbox.confirm(session, invoice.customer_id, invoice.id, {**final, "total": 1}, now=now())
    assert town.row(invoice).state != "done"


def test_a_second_draft_of_an_invoice_is_deleted(town: Town) -> None:
    """The answer to `create` is lost, and while Stripe is away a request of ours turns up there a second time."""
    town.invoice()
    town.sandbox.fault("invoices.create", "reset_after")
    town.sandbox.fault("*", "reset_before", count=None, skip=1)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    [draft] = town.drafts()
    again = {"customer": draft["customer"], "metadata": draft["metadata"]}
    town.gateway.client.create_invoice(again, key="elsewhere")
    assert town.sync(at=now() + timedelta(minutes=1)).synced == 1
    town.assert_each_stands_once()
    assert not town.drafts()


def test_a_customer_in_the_making_is_made_by_nobody_else(town: Town) -> None:
    """Another process has claimed the customer and waits for Stripe's answer."""
    invoice = town.invoice()
    with town.engine.begin() as connection:
        connection.execute(
            text("UPDATE stripe_customers SET fence = 1, lease_until = clock_timestamp() + interval '1 minute'")
        )
    with pytest.raises(CustomerBusy):
        customers.ensure(town.engine, town.gateway.client, customer_id=invoice.customer_id, now=now())
    assert "customers.create" not in town.sandbox.counts()


def test_an_empty_secret_opens_nothing() -> None:
    """A comma too many in the list of secrets makes one that everybody knows."""
    for secret in ("", " "):
        with pytest.raises(BadSignature):
            verify(BODY, signed(BODY, secret=secret), secrets=[secret, WEBHOOK_SECRET], now=now())


def test_an_event_that_comes_again_is_one_row(town: Town) -> None:
    body = event("invoice.paid", {"id": "in_1"})
    assert receive(town, body) == receive(town, body)
    with town.engine.connect() as connection:
        rows = connection.execute(text("SELECT id, deliveries FROM stripe_events")).all()
    assert rows == [("evt_made", 2)]


def test_the_same_news_has_its_effect_once(town: Town) -> None:
    """Payments and entries have ids of their own besides; here is what all other news have."""
    customer = town.company.customer("acme")
    with Session(town.engine) as session, session.begin():
        assert note_effect(session, customer, "ip:inpay_1", cause="evt_1", now=now())
        assert not note_effect(session, customer, "ip:inpay_1", cause="evt_2", now=now())


def test_what_stripe_said_is_kept_as_it_came(town: Town, databases_owner: Engine) -> None:
    receive(town, event("invoice.paid", {"id": "in_1"}))
    with pytest.raises(DBAPIError, match="kept as it came"), databases_owner.begin() as connection:
        connection.execute(text("UPDATE stripe_events SET payload = '{}'"))


def test_whoever_knew_that_it_is_time_to_look_finds_that_another_one_looks(engine: Engine) -> None:
    """Both learned at one moment that Stripe may be asked; by the time of the second, the first is at it."""
    rules = BreakerRules(subjects=1, lasting_s=0.0, first_pause_s=0.01, longest_pause_s=3600.0, known_for_s=3600.0)
    first, second = Breaker(engine, rules), Breaker(engine, rules)
    first.failed("inv:1", NoAnswer("The connection was cut."))
    time.sleep(0.05)
    assert (first.until_probe_s(), second.until_probe_s()) == (0.0, 0.0)
    probes: list[str] = []

    def probe_of_first() -> None:
        probes.append("first")
        with pytest.raises(StripeAway):
            second.check(lambda: probes.append("second"))
        raise NoAnswer("The connection was cut.")

    with pytest.raises(StripeAway):
        first.check(probe_of_first)
    assert probes == ["first"]
