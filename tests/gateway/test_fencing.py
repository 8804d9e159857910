"""Whoever lost the lease writes nothing, however late it wakes."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from stripe_gateway import outbox
from stripe_gateway.clock import RunClock
from stripe_gateway.errors import LeaseLost
from stripe_gateway.sync import Syncer
from tests.gateway.conftest import Town, at_once, client_for, now


def expire_leases(town: Town) -> None:
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_syncs SET lease_until = clock_timestamp() - interval '1 second'"))


def test_a_row_in_work_is_claimed_by_nobody_else(town: Town) -> None:
    town.invoices(1)
    assert outbox.claim_next(town.engine, now=now()) is not None
    assert outbox.claim_next(town.engine, now=now() + timedelta(hours=1)) is None


def test_of_many_that_claim_at_once_one_gets_the_row(town: Town) -> None:
    town.invoices(3)
    claims = at_once(*[lambda: outbox.claim_next(town.engine, now=now()) for _ in range(12)])
    claimed = [claim.invoice_id for claim in claims if claim is not None]
    assert len(claimed) == len(set(claimed)) == 3


def test_a_zombies_writes_touch_nothing(town: Town) -> None:
    invoice = town.invoice()
    zombie = outbox.claim_next(town.engine, now=now())
    assert zombie is not None
    expire_leases(town)
    assert town.sync().synced == 1
    with pytest.raises(LeaseLost):
        outbox.release(town.engine, zombie, state="waiting")
    with pytest.raises(LeaseLost):
        outbox.keep(town.engine, zombie, state="unknown")
    with pytest.raises(LeaseLost):
        outbox.advance(town.engine, zombie, now=now(), step="create", generation=2)
    assert town.row(invoice).state == "done"


def test_a_zombie_that_wakes_between_two_calls_sends_the_same_and_then_stops(town: Town) -> None:
    """It sleeps through its lease; another finishes. What it still sends replays, and nothing changes."""
    invoice = town.invoice()
    # As often as it tries: on a slow machine a second attempt may be due before the run ends.
    town.sandbox.fault("invoices.create", "429", count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    zombie = outbox.claim(
        town.engine, customer_id=invoice.customer_id, invoice_id=invoice.id, now=now() + timedelta(minutes=10)
    )
    assert zombie is not None
    assert zombie.step == "create"
    expire_leases(town)
    assert town.sync(at=now() + timedelta(minutes=10)).synced == 1
    with pytest.raises(LeaseLost):
        Syncer(town.engine, client_for(town), RunClock(now())).run(zombie)
    town.assert_each_stands_once()
    assert not town.drafts()


def test_work_that_a_dead_process_left_is_taken_up_and_remembered_as_unsure(town: Town) -> None:
    invoice = town.invoice()
    assert outbox.claim_next(town.engine, now=now()) is not None
    expire_leases(town)
    again = outbox.claim_next(town.engine, now=now())
    assert again is not None
    assert again.unsure_at is not None
    assert again.fence == 2
    expire_leases(town)
    assert town.sync().synced == 1
    assert town.row(invoice).unsure_at is None


def test_a_webhook_that_is_faster_than_the_answer_wins_and_the_worker_stops(town: Town) -> None:
    invoice = town.invoice()
    # As often as it tries: on a slow machine a second attempt may be due before the run ends.
    town.sandbox.fault("invoices.finalize", "429", count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    worker = outbox.claim(
        town.engine, customer_id=invoice.customer_id, invoice_id=invoice.id, now=now() + timedelta(minutes=10)
    )
    assert worker is not None
    assert worker.external_id is not None
    final = town.gateway.client.finalize_invoice(worker.external_id, {"auto_advance": True}, key="elsewhere")
    with Session(town.engine) as session, session.begin():
        outbox.confirm(session, invoice.customer_id, invoice.id, final, now=now())
    with pytest.raises(LeaseLost):
        outbox.finish(town.engine, worker, final, now=now())
    town.assert_each_stands_once()
