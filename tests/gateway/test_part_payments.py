"""A customer pays a part by bank transfer: our books have it, and Stripe collects only the rest, once."""

from decimal import Decimal
from uuid import UUID

import pytest

from invoicing.payments import PaymentRefused
from invoicing.tables import Invoice
from stripe_gateway.reconciliation import ReconcileReport
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now

PAID_ON = "2025-07-20T00:00:00+00:00"


def part(town: Town, invoice: Invoice, amount: str, number: int = 1) -> UUID:
    options = {"received_at": PAID_ON, "reference": f"SEPA {number}"}
    return do.begin(town, invoice, "outside_payment", amount, options=options, number=number)


def compared(town: Town) -> ReconcileReport:
    return town.gateway.reconcile(now=now())


def remaining(town: Town, invoice: Invoice) -> tuple[str, int, int]:
    found = do.at_stripe(town, invoice)
    return found["status"], found["amount_remaining"], found["amount_paid_off_stripe"]


def test_stripe_is_told_of_a_part_and_collects_the_rest(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "30.00")
    given = part(hooked, invoice, "12.00")
    assert do.held(hooked, "acme", "assets:bank") == 12
    hooked.sync()
    assert do.movement(hooked, invoice, given).state == "done"
    assert remaining(hooked, invoice) == ("open", 1800, 1200)
    do.pump(hooked)
    assert do.held(hooked, "acme", "assets:bank") == 12, "what Stripe repeats of it is not booked again"
    hooked.sandbox.post(f"invoices/{hooked.row(invoice).external_id}/pay")
    hooked.sandbox.advance(60)
    do.pump(hooked)
    assert do.state(hooked, invoice) == "paid"
    assert do.held(hooked, "acme", "assets:bank") == 12
    # 18.00 less 2.9 % and 0.30.
    assert do.held(hooked, "acme", "assets:stripe") == Decimal("17.18")
    assert do.held(hooked, "acme", "liabilities:unapplied") == 0
    assert compared(hooked).differences == []
    do.check(hooked)


def test_two_parts_and_the_rest_by_transfer_pay_it_all(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "30.00")
    for number, amount in enumerate(("10.00", "10.00", "10.00"), start=1):
        part(hooked, invoice, amount, number)
        hooked.sync()
        do.pump(hooked)
    assert remaining(hooked, invoice) == ("paid", 0, 3000)
    assert do.state(hooked, invoice) == "paid"
    assert do.held(hooked, "acme", "assets:bank") == 30
    assert [one.kind for one in do.operations(hooked)] == ["pay_part", "pay_part", "pay_outside"]
    assert compared(hooked).differences == []
    do.check(hooked)


def test_with_every_webhook_lost_a_run_books_no_part_twice(town: Town) -> None:
    invoice = do.standing(town, "acme", "30.00")
    part(town, invoice, "12.00")
    town.sync()
    assert compared(town).differences == []
    assert do.held(town, "acme", "assets:bank") == 12


def test_a_part_that_somebody_else_records_at_stripe_is_booked_beside_ours(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "30.00")
    part(hooked, invoice, "12.00")
    hooked.sync()
    do.record_there(hooked.gateway.client, 1200, str(hooked.row(invoice).external_id), key="foreign")
    do.pump(hooked)
    assert do.held(hooked, "acme", "assets:bank") == 24
    assert remaining(hooked, invoice) == ("open", 600, 2400)
    assert compared(hooked).differences == []


@pytest.mark.parametrize("endpoint", ["payment_records.report_payment", "invoices.attach_payment"])
@pytest.mark.parametrize("kind", ["500_before", "500_after", "reset_before", "reset_after", "truncate", "429"])
def test_a_part_whose_answer_is_lost_is_attached_once(hooked: Town, endpoint: str, kind: str) -> None:
    invoice = do.standing(hooked, "acme", "30.00")
    given = part(hooked, invoice, "12.00")
    hooked.sandbox.post("faults", endpoint=endpoint, kind=kind, count=2, reason="endpoint-rate")
    at = now()
    for _ in range(8):
        hooked.sync(at=at, patience_s=0)
        at += 2 * do.DAY / 24
    hooked.sandbox.advance(0)
    assert do.movement(hooked, invoice, given).state == "done"
    assert remaining(hooked, invoice) == ("open", 1800, 1200)


def test_a_rest_that_is_too_little_to_collect_is_refused_with_the_cure(town: Town) -> None:
    invoice = do.standing(town, "acme", "30.00")
    with pytest.raises(PaymentRefused, match=r"would leave 0\.49, which is too little.*Credit that first"):
        part(town, invoice, "29.51")
    assert do.held(town, "acme", "assets:bank") == 0
    do.begin(town, invoice, "credit_note", "0.49")
    town.sync()
    part(town, invoice, "29.51")
    town.sync()
    assert do.state(town, invoice) == "paid"
    assert do.at_stripe(town, invoice)["status"] == "paid"


def test_a_part_of_what_stripe_has_collected_meanwhile_is_the_customers(hooked: Town) -> None:
    invoice = do.standing(hooked, "acme", "30.00")
    hooked.sandbox.post(f"invoices/{hooked.row(invoice).external_id}/pay")
    given = part(hooked, invoice, "12.00")
    hooked.sync()
    do.pump(hooked)
    assert do.movement(hooked, invoice, given).state == "done"
    assert do.held(hooked, "acme", "liabilities:unapplied") == -12
    assert compared(hooked).unexplained == []


def test_a_part_is_not_told_where_stripe_collects_another_amount(town: Town) -> None:
    invoice = do.standing(town, "acme", "30.00")
    given = part(town, invoice, "12.00")
    town.sandbox.post("drift", object=town.row(invoice).external_id, set={"amount_remaining": 2500})
    town.sync()
    refused = do.movement(town, invoice, given)
    assert (refused.state, refused.code) == ("refused", "outside_amount_differs")
    assert remaining(town, invoice) == ("open", 2500, 0)
