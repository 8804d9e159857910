"""Every row of the recovery table: whatever becomes of a request or its answer, one invoice stands in the end."""

from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from invoicing.provider import SyncState
from invoicing.tables import Invoice
from stripe_gateway.client import Json
from tests.gateway.conftest import WRITES, Town, now

STEPS = ["customers.create", *WRITES]
DAY = timedelta(days=1)


def stands(town: Town, invoice: Invoice, *, drafts: int = 0) -> Json:
    """The one invoice at Stripe; nothing else is left there."""
    town.assert_each_stands_once()
    assert len(town.drafts()) == drafts
    [found] = town.standing()[str(invoice.id)]
    customers = list(town.gateway.client.list_customers(created_from=0, email=None))
    assert len({customer["metadata"]["ledger_customer_id"] for customer in customers}) == len(customers)
    return found


@pytest.mark.parametrize("kind", ["reset_before", "reset_after", "truncate", "429", "lock_timeout", "500_before"])
def test_a_fault_at_any_call_ends_in_one_invoice(town: Town, kind: str) -> None:
    """The 500 is one that Stripe did not store: the same key goes on."""
    for endpoint in STEPS:
        invoice = town.invoice(f"customer of {endpoint}")
        town.sandbox.fault(endpoint, kind, **({"stored": False} if kind == "500_before" else {}))
        summary = town.sync()
        assert (summary.synced, summary.parked, summary.unknown) == (1, 0, 0), endpoint
        stands(town, invoice)


def retry(town: Town, invoice: Invoice) -> None:
    with Session(town.engine) as session, session.begin():
        town.gateway.retry(
            session, customer_id=invoice.customer_id, invoice_id=invoice.id, actor="agent@demo.test", now=now()
        )


def test_a_stored_500_that_did_nothing_is_resolved_by_reading(town: Town) -> None:
    """The key repeats the 500 for ever: after three of them Stripe is read; an hour later it begins anew."""
    for endpoint in STEPS:
        invoice = town.invoice(f"customer of {endpoint}")
        town.sandbox.fault(endpoint, "500_before")
        first = town.sync()
        if endpoint in ("customers.create", "invoices.create"):
            assert (first.synced, first.unknown) == (0, 1), "it may still happen, so nothing new is sent"
            assert town.sync(at=now() + timedelta(minutes=30)).synced == 0
            town.sync(at=now() + timedelta(minutes=75))
        stands(town, invoice)


def test_a_stored_500_that_did_its_work_is_found_by_reading(town: Town) -> None:
    for endpoint in STEPS:
        invoice = town.invoice(f"customer of {endpoint}")
        town.sandbox.fault(endpoint, "500_after")
        assert town.sync().synced == 1
        assert stands(town, invoice)["total"] == 1234


def test_a_500_after_the_work_whose_key_stripe_did_not_keep_does_nothing_twice(town: Town) -> None:
    """Stripe says it keeps them. Were one not kept, sending the same again would do it again, so it is read first."""
    for endpoint in STEPS:
        invoice = town.invoice(f"customer of {endpoint}")
        town.sandbox.clear_requests()
        town.sandbox.fault(endpoint, "500_after", stored=False)
        summary = town.sync()
        assert (summary.synced, summary.parked, summary.unknown) == (1, 0, 0), endpoint
        assert len(stands(town, invoice)["lines"]["data"]) == 1
        counts = town.sandbox.counts()
        if endpoint != "invoices.finalize":  # a draft is finalized once, whoever asks how often
            assert counts[endpoint] == 1, endpoint
        assert counts.get("invoices.delete", 0) == 0


@pytest.mark.parametrize("found", ["nothing", "our lines", "something else"])
def test_before_lines_are_sent_again_the_draft_is_read(town: Town, found: str) -> None:
    """Nothing there: the same again under the same key. Ours: on to finalize. Anything else: a fresh draft."""
    invoice = town.invoice()
    town.sandbox.fault("invoices.add_lines", "500_after" if found == "our lines" else "500_before", stored=False)
    town.sandbox.fault("invoices.retrieve", "429", count=None)
    town.sync(patience_s=0)
    [draft] = town.drafts()
    if found == "something else":
        town.gateway.client.add_lines(draft["id"], {"lines": [{"amount": 99, "description": "?"}]}, key="by hand")
    town.sandbox.clear_faults()
    town.sandbox.clear_requests()
    town.sync(at=now() + timedelta(minutes=2))
    standing = stands(town, invoice)
    sent = [line["endpoint"] for line in town.sandbox.requests("invoices.*")]
    assert sent[0] == "invoices.retrieve"
    assert ("invoices.add_lines" in sent) is (found != "our lines")
    assert (standing["id"] == draft["id"]) is (found != "something else")
    assert len(standing["lines"]["data"]) == 1


@pytest.mark.parametrize("kind", ["reset_before", "reset_after"])
def test_an_answer_lost_for_longer_than_keys_live(town: Town, kind: str) -> None:
    """The outage begins with a lost answer and lasts three days; Stripe has forgotten the key when it ends."""
    begin = now()
    for endpoint in STEPS:
        invoice = town.invoice(f"customer of {endpoint}")
        town.sandbox.fault(endpoint, kind)
        # What comes before the lost answer goes well, whatever comes after it meets the outage.
        town.sandbox.fault("*", "reset_before", count=None, skip=STEPS.index(endpoint))
        town.sync(at=begin, patience_s=0)
        town.sync(at=begin + DAY, patience_s=0)
        town.sandbox.advance(3 * 86400)
        town.sandbox.clear_faults()
        begin += 3 * DAY
        town.sync(at=begin)
        stands(town, invoice)


def test_a_key_older_than_23_hours_is_never_sent_again(town: Town) -> None:
    begin = now()
    for endpoint in WRITES:
        invoice = town.invoice(f"customer of {endpoint}")
        town.sandbox.fault(endpoint, "429", count=None)
        town.sync(at=begin, patience_s=0)
        old = {line["idempotency_key"] for line in town.sandbox.requests(endpoint)}
        town.sandbox.clear_faults()
        town.sandbox.clear_requests()
        begin += timedelta(hours=23, minutes=1)
        town.sync(at=begin)
        assert old.isdisjoint({line["idempotency_key"] for line in town.sandbox.requests(endpoint)}), endpoint
        stands(town, invoice)


def test_lines_that_differ_delete_the_draft_and_wait_for_a_person(town: Town) -> None:
    """A balance at Stripe would change what is due: nothing is finalized."""
    invoice = town.invoice("acme", card="pm_card_visa")
    customer = town.gateway.ensure_customer(customer_id=invoice.customer_id, now=now())
    town.gateway.client._v1.customers.update(customer, {"balance": -500})
    assert town.sync().parked == 1
    assert not town.standing()
    assert not town.drafts()
    row = town.row(invoice)
    assert "balance of -500" in (row.last_error or "")
    assert [problem.invoice_id for problem in problems(town)] == [invoice.id]

    town.gateway.client._v1.customers.update(customer, {"balance": 0})
    assert town.sync().synced == 0, "only a person makes it go on"
    retry(town, invoice)
    assert town.sync().synced == 1
    stands(town, invoice)


def problems(town: Town) -> list[SyncState]:
    with Session(town.engine) as session:
        return list(town.gateway.problems(session, limit=10))


def test_a_draft_deleted_by_hand_is_made_again(town: Town) -> None:
    invoice = town.invoice()
    town.sandbox.fault("invoices.add_lines", "429", count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    [draft] = town.drafts()
    town.gateway.client.delete_draft(draft["id"])
    town.sync()
    assert stands(town, invoice)["id"] != draft["id"]


def test_an_invoice_finalized_by_hand_meanwhile_is_taken_as_it_is(town: Town) -> None:
    invoice = town.invoice()
    town.sandbox.fault("invoices.finalize", "429", count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    [draft] = town.drafts()
    town.gateway.client.finalize_invoice(draft["id"], {}, key="by-hand")
    town.sync()
    assert stands(town, invoice)["id"] == draft["id"]


def test_a_number_that_stripe_has_already_is_a_refusal_that_a_person_sees(town: Town) -> None:
    invoice = town.invoice()
    customer = town.gateway.client.create_customer({"name": "somebody else"}, key="other")
    town.gateway.client.create_invoice({"customer": customer["id"], "number": invoice.number}, key="taken")
    assert town.sync().parked == 1
    row = town.row(invoice)
    assert "already in use" in (row.last_error or "")
    assert row.state == "parked"


def test_parameters_that_drift_under_a_key_are_parked_and_never_sent_under_a_new_one(town: Town) -> None:
    invoice = town.invoice()
    key = f"inv:{invoice.id}:create:g1"
    customer = town.gateway.client.create_customer({"name": "somebody else"}, key="other")
    town.gateway.client.create_invoice({"customer": customer["id"]}, key=key)
    assert town.sync().parked == 1
    assert town.row(invoice).generation == 1
    assert not town.standing()


def test_an_outage_of_three_days_ends_with_one_invoice_each(town: Town) -> None:
    town.invoices(10)
    for index, endpoint in enumerate(WRITES):
        town.sandbox.fault(endpoint, ("reset_before", "reset_after", "500_after")[index], count=4, skip=index)
    town.sync(patience_s=0.2)
    town.sandbox.fault("*", "reset_before", count=None)
    for hours in (1, 20, 30, 72):
        town.sync(at=now() + timedelta(hours=hours), patience_s=0.05)
    town.sandbox.advance(72 * 3600)
    town.sandbox.clear_faults()
    town.sync(at=now() + timedelta(hours=73))
    town.assert_each_stands_once()


def test_after_a_long_outage_nobody_waits_for_what_can_no_longer_happen(town: Town) -> None:
    """Since its key grew old Stripe was only asked, never sent anything: so nothing can turn up any more."""
    invoice = town.invoice()
    town.sandbox.fault("*", "reset_before", count=None, skip=1)
    for hours in (0, 1, 24, 48, 72):
        town.sync(at=now() + timedelta(hours=hours), patience_s=0)
    town.sandbox.advance(72 * 3600)
    town.sandbox.clear_faults()
    assert town.sync(at=now() + timedelta(hours=72, minutes=11)).synced == 1
    stands(town, invoice)


def test_random_faults_at_every_call_end_with_one_invoice_each(town: Town) -> None:
    town.invoices(20)
    for seed, kind in enumerate(("reset_before", "reset_after", "429", "lock_timeout", "truncate", "500_before")):
        stored = {"stored": False} if kind == "500_before" else {}
        town.sandbox.fault("*", kind, count=None, probability=0.06, seed=seed, **stored)
    for hours in range(6):
        if town.sync(at=now() + timedelta(hours=hours), patience_s=2).synced == 0 and hours > 2:
            break
    town.sandbox.clear_faults()
    town.sync(at=now() + timedelta(hours=8))
    town.assert_each_stands_once()
