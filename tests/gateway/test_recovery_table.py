"""The recovery table of a sync, one test for each row: where it was cut off, and how it goes on."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from invoicing.tables import Invoice
from stripe_gateway import outbox
from stripe_gateway.errors import StripeClosed
from stripe_gateway.recovery import MAX_GENERATIONS
from tests.gateway import movement as do
from tests.gateway.conftest import WRITES, Town, client_for, make_town, now, sync_patiently
from tests.gateway.test_recovery import retry, stands

YOUNG = timedelta(minutes=2)
OLD = timedelta(hours=23, minutes=1)
HOUR = timedelta(hours=1)


def cut(town: Town, endpoint: str, fault: str, **fields: Any) -> Invoice:
    """An invoice whose sync got as far as this call, once, and no further."""
    invoice = town.invoice()
    town.sandbox.fault(endpoint, fault, **fields)
    # Whatever it tries after that finds nobody.
    town.sandbox.fault("*", "reset_before", count=None, skip=("customers.create", *WRITES).index(endpoint))
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    return invoice


def keys(town: Town, endpoint: str) -> list[str]:
    return [line["idempotency_key"] for line in town.sandbox.requests(endpoint)]


def forget_keys(town: Town) -> None:
    """Stripe may forget a key after a day."""
    town.sandbox.advance(25 * 3600)


def test_row_before_1_is_sent(town: Town) -> None:
    """The request is frozen, and the process died before it sent anything: it is sent, under the same key."""
    invoice = cut(town, "customers.create", "429")
    claimed = outbox.claim_next(town.engine, now=now() + YOUNG)
    assert claimed is not None
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_syncs SET lease_until = clock_timestamp() - interval '1 second'"))
    town.sync(at=now() + YOUNG)
    stands(town, invoice)
    assert set(keys(town, "invoices.create")) == {f"inv:{invoice.id}:create:g1"}


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_row_1_sent_no_answer(town: Town, fault: str) -> None:
    """Young, the same key replays it."""
    invoice = cut(town, "invoices.create", fault)
    town.sync(at=now() + YOUNG)
    stands(town, invoice)
    assert set(keys(town, "invoices.create")) == {f"inv:{invoice.id}:create:g1"}


@pytest.mark.parametrize(("fault", "generation"), [("reset_before", 2), ("reset_after", 1)])
def test_row_1_sent_no_answer_and_the_key_is_old(town: Town, fault: str, generation: int) -> None:
    """Exactly one draft with our id in its metadata is adopted; without one the next generation begins."""
    invoice = cut(town, "invoices.create", fault)
    forget_keys(town)
    town.sync(at=now() + OLD)
    stands(town, invoice)
    assert town.row(invoice).generation == generation


def test_row_1_done_not_stored(town: Town) -> None:
    """The draft that nobody knows is inert: Stripe never advances it, so it never charges anybody."""
    invoice = cut(town, "invoices.create", "reset_after")
    [draft] = town.drafts()
    assert draft["auto_advance"] is False
    town.sandbox.advance(30 * 86400)
    assert [one["status"] for one in town.gateway.client.list_invoices()] == ["draft"]
    town.sync(at=now() + timedelta(days=30))
    assert stands(town, invoice)["id"] == draft["id"]


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_row_2_sent_no_answer(town: Town, fault: str) -> None:
    """Young, the same key; the lines are there once."""
    invoice = cut(town, "invoices.add_lines", fault)
    town.sync(at=now() + YOUNG)
    assert len(stands(town, invoice)["lines"]["data"]) == 1
    assert set(keys(town, "invoices.add_lines")) == {f"inv:{invoice.id}:lines:g1"}


@pytest.mark.parametrize("found", ["nothing", "our lines", "something else"])
def test_row_2_sent_no_answer_and_the_key_is_old(town: Town, found: str) -> None:
    """Lines are appended, so they are never sent again unchecked: what is not exactly ours is deleted first."""
    invoice = cut(town, "invoices.add_lines", "reset_after" if found == "our lines" else "reset_before")
    [draft] = town.drafts()
    if found == "something else":
        town.gateway.client.add_lines(draft["id"], {"lines": [{"amount": 99, "description": "?"}]}, key="by hand")
    forget_keys(town)
    town.sync(at=now() + OLD)
    standing = stands(town, invoice)
    assert len(standing["lines"]["data"]) == 1
    assert (standing["id"] == draft["id"]) is (found == "our lines")


def test_row_2_done_3_not_sent(town: Town) -> None:
    invoice = cut(town, "invoices.add_lines", "delay_after", delay_s=0.01)
    assert town.row(invoice).step == "finalize"
    [draft] = town.drafts()
    town.sync(at=now() + YOUNG)
    assert stands(town, invoice)["id"] == draft["id"]


@pytest.mark.parametrize("age", [YOUNG, OLD])
@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_row_3_sent_no_answer(town: Town, fault: str, age: timedelta) -> None:
    """Young, the same key; old, a status that is no draft means that it is done."""
    invoice = cut(town, "invoices.finalize", fault)
    if age == OLD:
        forget_keys(town)
    town.sync(at=now() + age)
    stands(town, invoice)
    assert len(keys(town, "invoices.finalize")) <= 2


@pytest.mark.parametrize("first", ["invoice.finalized", "invoice_payment.paid"])
def test_row_3_done_not_stored_webhook_first(hooked: Town, first: str) -> None:
    """Whichever event comes first: the status confirms the sync, the payment finds its invoice."""
    invoice = hooked.invoice("acme", "12.34", card="pm_card_visa")
    hooked.sandbox.fault("invoices.finalize", "reset_after")
    hooked.sync(patience_s=0)
    hooked.settle()
    deliveries = hooked.fetch()
    for kind in (first, "invoice.finalized", "invoice_payment.paid"):
        hooked.deliver([one for one in deliveries if one.event["type"] == kind])
        hooked.handle(tries=1)
    assert hooked.row(invoice).state == "done"
    assert do.state(hooked, invoice) == "paid"
    assert not hooked.events("parked")
    hooked.assert_each_stands_once()


@pytest.mark.parametrize("fault", ["429", "lock_timeout"])
@pytest.mark.parametrize("endpoint", WRITES)
def test_rows_409_and_429_send_the_same_again_with_back_off(town: Town, endpoint: str, fault: str) -> None:
    invoice = cut(town, endpoint, fault)
    row = town.row(invoice)
    assert row.state == "waiting"
    assert row.unsure_at is None, "nothing was executed"
    assert row.next_attempt_at > now() - timedelta(minutes=1)
    town.sync(at=now() + YOUNG)
    stands(town, invoice)
    assert len(set(keys(town, endpoint))) == 1


@pytest.mark.parametrize(("first", "endpoint"), [("reset_before", "invoices.create"), ("reset_after", "invoices.list")])
def test_row_429_on_a_replay_says_nothing_about_the_first_attempt(town: Town, first: str, endpoint: str) -> None:
    """The answer to the first attempt was lost; the second, or the look before it, met a limiter: the doubt stays."""
    invoice = cut(town, "invoices.create", first)
    unsure_at = town.row(invoice).unsure_at
    assert unsure_at is not None
    town.sandbox.fault(endpoint, "429")
    town.sync(at=now() + YOUNG, patience_s=0)
    assert town.row(invoice).unsure_at == unsure_at
    town.sync(at=now() + 2 * YOUNG)
    stands(town, invoice)


def test_row_500_repeatedly(town: Town) -> None:
    """The same key three times, then Stripe is read; nothing new within the hour, then the next generation."""
    invoice = town.invoice()
    town.sandbox.fault("invoices.create", "500_before")
    begin = now()
    town.sync(at=begin)
    assert len(keys(town, "invoices.create")) == 3
    row = town.row(invoice)
    assert (row.state, row.last_code, row.generation) == ("unknown", "stripe_unsure", 1)
    town.sync(at=begin + timedelta(minutes=50), patience_s=0)
    assert len(keys(town, "invoices.create")) == 3
    town.sync(at=begin + timedelta(minutes=75))
    stands(town, invoice)
    assert town.row(invoice).generation == 2


def test_what_stripe_never_takes_waits_for_a_person_in_the_end(town: Town) -> None:
    """Every attempt fails for a day: it is parked with what to do, and a person's retry begins the next generation."""
    invoice = town.invoice()
    town.sandbox.fault("invoices.create", "500_before", count=None)
    client = client_for(town)
    begin = now()
    for hour in range(2 * MAX_GENERATIONS):
        sync_patiently(town.engine, client, at=begin + timedelta(hours=hour), patience_s=3)
    row = town.row(invoice)
    assert (row.state, row.last_code, row.generation) == ("parked", "stripe_not_settled", MAX_GENERATIONS + 1)
    assert "retry it from the invoice" in (row.last_error or "")
    town.sandbox.clear_faults()
    retry(town, invoice)
    town.sync(at=begin + timedelta(days=2))
    stands(town, invoice)


def test_row_400_idempotency_error(town: Town) -> None:
    """Parameters drifted under a key: a fault of ours, parked, and never sent under a new key by itself."""
    invoice = town.invoice()
    customer = town.gateway.client.create_customer({"name": "somebody else"}, key="other")
    town.gateway.client.create_invoice({"customer": customer["id"]}, key=f"inv:{invoice.id}:create:g1")
    assert town.sync().parked == 1
    town.sync(at=now() + timedelta(days=3))
    row = town.row(invoice)
    assert (row.state, row.generation) == ("parked", 1)
    assert not town.standing()


def test_row_400_other(town: Town) -> None:
    """Stripe's reason is shown; once it is set right, a person's retry begins the next generation."""
    invoice = town.invoice()
    customer = town.gateway.client.create_customer({"name": "somebody else"}, key="other")
    taken = town.gateway.client.create_invoice({"customer": customer["id"], "number": invoice.number}, key="taken")
    assert town.sync().parked == 1
    town.gateway.client.delete_draft(taken["id"])
    assert town.sync().synced == 0
    retry(town, invoice)
    assert town.sync().synced == 1
    town.assert_each_stands_once()
    assert town.row(invoice).generation == 2


def test_rows_401_and_403_stop_the_run_and_keep_the_generation(town: Town) -> None:
    invoice = town.invoice()
    closed = make_town(town.engine, town.sandbox, api_key="sk_test_wrong")
    with pytest.raises(StripeClosed):
        closed.sync()
    assert town.row(invoice).generation == 1
    assert town.sync(at=now() + YOUNG).synced == 1
    stands(town, invoice)


@pytest.mark.parametrize("endpoint", WRITES)
def test_row_a_key_older_than_23_hours_is_read_first(town: Town, endpoint: str) -> None:
    invoice = cut(town, endpoint, "429")
    old = set(keys(town, endpoint))
    town.sandbox.clear_requests()
    town.sync(at=now() + OLD)
    sent = [line["endpoint"] for line in town.sandbox.requests("invoices.*")]
    assert sent[0] in ("invoices.list", "invoices.retrieve")
    assert old.isdisjoint(keys(town, endpoint))
    stands(town, invoice)


def test_an_operation_waits_behind_every_row_until_its_invoice_stands(town: Town) -> None:
    """What is asked about an invoice is never sent before the invoice is there, whatever becomes of the sync."""
    invoice = cut(town, "invoices.finalize", "reset_after")
    given = do.credit(town, invoice, "1.34")
    assert town.sync(at=now() + YOUNG).operations == 1
    assert do.movement(town, invoice, given).state == "done"
    with Session(town.engine) as session:
        assert town.gateway.operation_counts(session) == {"done": 1}
