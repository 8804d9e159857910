"""Whatever becomes of a request or its answer: one refund, one note, one void. Each row of the table, by kind."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from invoicing.tables import Invoice
from stripe_gateway import operations
from stripe_gateway.clock import RunClock
from stripe_gateway.errors import LeaseLost
from stripe_gateway.operating import Operator
from stripe_gateway.operations import set_balance_to_zero
from tests.gateway import movement as do
from tests.gateway.conftest import Town, client_for, now

DAY = timedelta(days=1)

Ask = Callable[[Town, Invoice], UUID]


def a_refund(town: Town, invoice: Invoice) -> UUID:
    return do.credit(town, invoice, "30")


def a_credit_note(town: Town, invoice: Invoice) -> UUID:
    return do.credit(town, invoice, "30")


def accept(town: Town, invoice: Invoice) -> UUID:
    [dispute] = [one for one in do.disputes(town) if one.invoice_id == invoice.id]
    return do.begin(town, invoice, "accept_dispute", options={"dispute": dispute.external_id})


def write_off(town: Town, invoice: Invoice) -> UUID:
    return do.begin(town, invoice, "write_off")


def zero(town: Town, invoice: Invoice) -> UUID:
    from sqlalchemy.orm import Session

    customer = do.at_stripe(town, invoice)["customer"]
    town.gateway.client.adjust_balance(customer, {"amount": -500, "currency": "usd"}, key=f"by hand {invoice.id}")
    with Session(town.engine) as session, session.begin():
        return set_balance_to_zero(
            session, customer_id=invoice.customer_id, invoice_id=invoice.id, cause="over:in_1:500", now=now()
        )


ENDPOINTS: dict[str, tuple[str, Ask]] = {
    "void": ("invoices.void", do.void),
    "uncollectible": ("invoices.mark_uncollectible", write_off),
    "pay_outside": ("invoices.pay", do.outside),
    "refund": ("refunds.create", a_refund),
    "credit_note": ("credit_notes.create", a_credit_note),
    "balance": ("customers.balance_transactions.create", zero),
    "close_dispute": ("disputes.close", accept),
}
MAKES = ("refund", "credit_note", "balance")
"""Kinds of which a second execution would make a second thing."""


def prepared(town: Town, kind: str) -> Invoice:
    """An invoice about which an operation of this kind can be asked."""
    if kind not in ("refund", "close_dispute"):
        return do.standing(town, "acme", "100")
    invoice = do.paid(town, "acme", "100")
    if kind == "close_dispute":
        town.sandbox.post("disputes", charge=do.charge_of(town, invoice))
        do.pump(town)
    return invoice


def asked(town: Town, kind: str) -> tuple[Invoice, UUID]:
    invoice = prepared(town, kind)
    return invoice, ENDPOINTS[kind][1](town, invoice)


def executed(town: Town, kind: str, invoice: Invoice) -> Any:
    """What stands at Stripe of it, in a form that shows a second execution."""
    client, found = town.gateway.client, do.at_stripe(town, invoice)
    looks: dict[str, Callable[[], Any]] = {
        "void": lambda: found["status"],
        "uncollectible": lambda: found["status"],
        "pay_outside": lambda: found["status"],
        "refund": lambda: [one["amount"] for one in client.list_refunds()],
        "credit_note": lambda: [one["total"] for one in client.list_credit_notes()],
        "balance": lambda: [one["amount"] for one in client.list_customer_balance(found["customer"])],
        "close_dispute": lambda: [one["status"] for one in client.list_disputes()],
    }
    return looks[kind]()


ONCE = {
    "void": "void",
    "uncollectible": "uncollectible",
    "pay_outside": "paid",
    "refund": [3000],
    "credit_note": [3000],
    "balance": [500, -500],
    "close_dispute": ["lost"],
}


def assert_once(town: Town, kind: str, invoice: Invoice) -> None:
    assert executed(town, kind, invoice) == ONCE[kind]
    assert {one.state for one in do.operations(town)} == {"done"}
    do.check(town)


@pytest.mark.parametrize("kind", ENDPOINTS)
def test_a_fault_at_the_write_ends_in_one_execution(hooked: Town, kind: str) -> None:
    """One after the other, each kind of fault that leaves the key young."""
    invoice, _ = asked(hooked, kind)
    endpoint = ENDPOINTS[kind][0]
    for fault, fields in (
        ("500_before", {"stored": False}),
        ("429", {}),
        ("lock_timeout", {}),
        ("reset_before", {}),
        ("reset_after", {}),
    ):
        hooked.sandbox.fault(endpoint, fault, **fields)
    hooked.sync()
    assert_once(hooked, kind, invoice)


@pytest.mark.parametrize("kind", ENDPOINTS)
@pytest.mark.parametrize("fault", ["500_before", "500_after"])
def test_a_stored_500_is_resolved_by_reading(hooked: Town, kind: str, fault: str) -> None:
    """The key repeats it for ever. What makes a thing is not asked for anew within an hour."""
    invoice, _ = asked(hooked, kind)
    hooked.sandbox.fault(ENDPOINTS[kind][0], fault)
    begin = now()
    hooked.sync(at=begin)
    if fault == "500_before" and kind in MAKES:
        [one] = do.operations(hooked, kind)
        assert (one.state, one.last_code) == ("unknown", "stripe_unsure")
        hooked.sync(at=begin + timedelta(minutes=30))
        assert executed(hooked, kind, invoice) != ONCE[kind]
        hooked.sync(at=begin + timedelta(minutes=75))
    assert_once(hooked, kind, invoice)


@pytest.mark.parametrize("kind", ENDPOINTS)
@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_an_answer_lost_for_longer_than_keys_live_is_read_not_sent(hooked: Town, kind: str, fault: str) -> None:
    invoice, _ = asked(hooked, kind)
    # As often as it tries: on a slow machine a second attempt may be due before the run ends.
    hooked.sandbox.fault(ENDPOINTS[kind][0], fault, count=1000)
    begin = now()
    hooked.sync(at=begin, patience_s=0)
    hooked.sandbox.clear_faults()
    old = {line["idempotency_key"] for line in hooked.sandbox.requests(ENDPOINTS[kind][0])}
    hooked.sandbox.advance(3 * 86400)
    hooked.sandbox.clear_requests()
    hooked.sync(at=begin + 3 * DAY)
    assert_once(hooked, kind, invoice)
    again = {line["idempotency_key"] for line in hooked.sandbox.requests(ENDPOINTS[kind][0])}
    assert old.isdisjoint(again), "a key that Stripe may have forgotten is never trusted"


@pytest.mark.parametrize("kind", ["void", "refund", "credit_note"])
def test_an_operation_that_a_dead_process_left_is_taken_up(hooked: Town, kind: str) -> None:
    """It had sent its request and was killed before the answer; a zombie that wakes later writes nothing."""
    invoice, _ = asked(hooked, kind)
    hooked.sandbox.fault(ENDPOINTS[kind][0], "reset_after", count=1000)
    assert hooked.sync(patience_s=0).operations == 0
    hooked.sandbox.clear_faults()
    later = now() + timedelta(minutes=10)
    zombie = operations.claim_next(hooked.engine, now=later)
    assert zombie is not None
    assert operations.claim_next(hooked.engine, now=later + DAY) is None or kind == "refund"
    with hooked.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_operations SET lease_until = clock_timestamp() - interval '1 second'"))
    hooked.sync(at=later)
    with pytest.raises(LeaseLost):
        Operator(hooked.engine, client_for(hooked), RunClock(later)).run(zombie)
    assert_once(hooked, kind, invoice)


def test_parameters_that_drift_under_a_key_park_the_operation_and_are_never_sent_anew(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    given = do.credit(hooked, invoice, "30")
    [one] = do.operations(hooked)
    body = {"invoice": hooked.row(invoice).external_id, "amount": 100}
    hooked.gateway.client.create_credit_note(body, key=f"cn:{one.id}:create:g1")
    summary = hooked.sync()
    assert summary.operations == 0
    assert len(summary.problems) == 1
    [one] = do.operations(hooked)
    assert (one.state, one.generation) == ("parked", 1)
    assert do.movement(hooked, invoice, given).state == "working"


def test_an_event_that_is_faster_than_the_answer_ends_the_operation(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "100")
    given = do.void(hooked, invoice)
    hooked.sandbox.fault("invoices.void", "reset_after", count=1000)
    hooked.sync(patience_s=0)
    hooked.sandbox.clear_faults()
    assert do.operations(hooked)[0].state == "waiting"
    do.pump(hooked)
    assert do.operations(hooked)[0].state == "done"
    assert do.movement(hooked, invoice, given).state == "done"
    writes = hooked.sandbox.counts()["invoices.void"]
    hooked.sync(at=now() + timedelta(minutes=5))
    assert hooked.sandbox.counts()["invoices.void"] == writes
    assert do.tasks(hooked) == []
    do.check(hooked)


def test_a_refund_whose_answer_is_lost_is_settled_by_its_event(hooked: Town) -> None:
    invoice = do.paid(hooked, "acme", "100")
    do.credit(hooked, invoice, "30")
    hooked.sandbox.fault("refunds.create", "reset_after", count=1000)
    hooked.sync(patience_s=0)
    hooked.sandbox.clear_faults()
    assert do.refunds(hooked)[0].state == "requested"
    do.pump(hooked)
    assert do.refunds(hooked)[0].state == "succeeded"
    hooked.sync(at=now() + timedelta(minutes=5))
    assert [one["amount"] for one in hooked.gateway.client.list_refunds()] == [3000]
    assert {one.state for one in do.operations(hooked)} == {"done"}
    do.check(hooked)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE stripe_operations SET intent = '{}'",
        "UPDATE stripe_operations SET kind = 'uncollectible'",
        "UPDATE stripe_operations SET state = 'due', step = 'prepare', done_at = NULL",
        "UPDATE stripe_operations SET state = 'refused', last_code = 'x'",
        "UPDATE stripe_operations SET fence = 0",
        "UPDATE stripe_operations SET external_id = 'in_other'",
        "DELETE FROM stripe_operations",
        "TRUNCATE stripe_operations",
    ],
)
def test_an_ended_operation_is_kept_as_it_ended(town: Town, databases_owner: Any, change: str) -> None:
    invoice = do.standing(town, "acme", "100")
    do.void(town, invoice)
    assert town.sync().operations == 1
    with databases_owner.connect() as connection, pytest.raises(Exception, match="refused"):
        connection.execute(text(change))


def test_a_canceled_sync_stays_canceled(town: Town, databases_owner: Any) -> None:
    invoice = town.invoice("acme", "100")
    do.void(town, invoice)
    assert town.sync().operations == 1
    with databases_owner.connect() as connection, pytest.raises(Exception, match="stays canceled"):
        connection.execute(text("UPDATE stripe_syncs SET state = 'due'"))
