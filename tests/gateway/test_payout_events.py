"""What each event of a payout does to the books of the house and of customers, and that it does it once."""

from decimal import Decimal
from typing import Any

import pytest

from tests.gateway import movement as do
from tests.gateway.conftest import Town
from tests.gateway.news import charged, heard, take


def house(town: Town) -> dict[str, Decimal]:
    return do.balances(town).get("house USD", {})


def paid_out(town: Town) -> dict[str, Any]:
    """A payout of everything that is available, arrived and reconciled at Stripe."""
    town.sandbox.advance(3 * 86400)
    town.settle()
    town.fetch()
    payout: dict[str, Any] = town.sandbox.post("payouts")
    town.sandbox.advance(5 * 86400)
    return payout


def test_payout_paid_is_in_the_bank_and_each_part_of_it_leaves_its_customers_books(hooked: Town) -> None:
    """
    house     bank <- stripe          96.80     then, of the charge:
    acme      house <- stripe         96.80
    house     stripe <- customers     96.80
    """
    charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid", "charge.updated"))
    assert do.held(hooked, "acme", "assets:stripe") == Decimal("96.80")
    paid_out(hooked)
    take(hooked, heard(hooked, "payout.paid", "payout.reconciliation_completed"))
    assert house(hooked) == {"assets:bank": Decimal("96.8"), "assets:customers": Decimal("-96.8")}
    assert do.held(hooked, "acme", "assets:stripe") == 0
    assert do.held(hooked, "acme", "assets:house") == Decimal("96.80")
    do.check(hooked)


def test_a_payout_alone_tells_of_payment_fee_refund_and_dispute_that_nobody_told_of(hooked: Town) -> None:
    """Only the last event arrives: what each balance transaction did is booked before it is cleared."""
    invoice = charged(hooked)
    charge = do.charge_of(hooked, invoice)
    hooked.gateway.client.create_refund({"charge": charge, "amount": 1000}, key="dashboard")
    hooked.sandbox.post("disputes", charge=charge, amount=2000)
    paid_out(hooked)
    take(hooked, heard(hooked, "payout.reconciliation_completed"))
    assert do.held(hooked, "acme", "expenses:payment_fees") == Decimal("3.20")
    assert do.held(hooked, "acme", "assets:disputed") == 20
    assert [one.state for one in do.refunds(hooked)] == ["succeeded"]
    if do.state(hooked, invoice) != "paid":
        pytest.fail("the payment itself is booked from the refund's or the dispute's")
    assert do.held(hooked, "acme", "assets:stripe") == 0
    do.check(hooked)


def test_money_of_nobody_in_a_payout_is_kept_in_suspense_with_a_task(hooked: Town) -> None:
    charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid", "charge.updated"))
    client = hooked.gateway.client
    other = client.create_customer({"name": "somebody else", "email": "else@demo.test"}, key="else")
    foreign = client.create_invoice(
        {"customer": other["id"], "collection_method": "send_invoice", "days_until_due": 30}, key="foreign"
    )
    client.add_lines(foreign["id"], {"lines": [{"amount": 4000, "description": "not ours"}]}, key="foreign lines")
    client.finalize_invoice(foreign["id"], {}, key="foreign final")
    hooked.sandbox.post(f"invoices/{foreign['id']}/pay")
    hooked.sandbox.set(payout_fee_minor=25)
    paid_out(hooked)
    take(hooked, heard(hooked, "payout.paid", "payout.reconciliation_completed"))
    assert do.tasks(hooked) == ["unknown_money"]
    assert house(hooked)["assets:suspense"] == Decimal("-38.54")
    assert do.held(hooked, "acme", "assets:stripe") == 0


def test_payout_failed_after_paid_is_taken_back_and_told(hooked: Town) -> None:
    charged(hooked)
    take(hooked, heard(hooked, "invoice_payment.paid", "charge.updated"))
    payout = paid_out(hooked)
    take(hooked, heard(hooked, "payout.paid"))
    assert house(hooked)["assets:bank"] == Decimal("96.80")
    hooked.sandbox.post(f"payouts/{payout['id']}/fail")
    take(hooked, heard(hooked, "payout.failed"))
    assert "assets:bank" not in house(hooked)
    assert do.tasks(hooked) == ["payout_failed"]
    do.check(hooked)
