"""What every provider must do: one suite, run on Stripe (its sandbox, over HTTP) and on letters with bank transfers."""

from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import change_provider
from invoicing.movements.tables import Refund
from tests.providers.conftest import Collector, now


def test_an_invoice_is_given_to_its_customers_provider_once_and_says_so(collector: Collector) -> None:
    invoice = collector.final_invoice()
    assert (invoice.state, invoice.provider) == ("final", collector.name)
    assert collector.state(invoice).state == "due"
    collector.work()
    first = collector.state(invoice)
    assert (first.state, first.step) == ("done", "done")
    collector.work()
    assert collector.state(invoice) == first
    assert len(collector.postbox.letters) == (1 if collector.name == "manual" else 0)


def test_what_is_below_the_providers_minimum_is_carried_forward(collector: Collector) -> None:
    invoice = collector.final_invoice("0.30")
    with Session(collector.engine) as session:
        least = collector.providers.of(session, customer_id=invoice.customer_id).minimum("USD")
    assert invoice.state == ("carried_forward" if Decimal("0.30") < least else "final")
    assert least == (Decimal("0.50") if collector.name == "stripe" else Decimal("0.01"))


def test_a_payment_settles_the_invoice_and_is_booked_where_the_money_is(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00", "2.50")
    collector.work()
    collector.pay(invoice)
    assert collector.invoice().state == "paid"
    assert collector.balance("assets:receivable") == 0
    account = "assets:stripe" if collector.name == "stripe" else "assets:bank"
    assert collector.balance(account) + collector.balance("expenses:payment_fees") == Decimal("42.50")


@pytest.mark.parametrize("then", ["rebill", "give_up"])
def test_a_void_ends_the_invoice_once_the_provider_has_ended_it(collector: Collector, then: str) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    movement = collector.begin(invoice, "void", then=then)
    collector.work()
    assert collector.movement(invoice, movement).state == "done"
    again = collector.invoice()
    assert (again.generation, again.state) == ((2, "draft") if then == "rebill" else (1, "void"))
    assert collector.balance("assets:receivable") == 0
    assert collector.balance("assets:unbilled") == (Decimal("40.00") if then == "rebill" else 0)


def test_what_is_written_off_may_be_paid_after_all(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    collector.begin(invoice, "write_off")
    collector.work()
    assert collector.invoice().state == "uncollectible"
    assert collector.balance("expenses:bad_debt") == Decimal("40.00")
    collector.pay(collector.invoice())
    assert collector.invoice().state == "paid"
    assert collector.balance("expenses:bad_debt") == 0


def test_a_credit_note_lowers_what_is_still_to_be_paid(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    movement = collector.begin(invoice, "credit_note", amount="15.50")
    collector.work()
    assert collector.movement(invoice, movement).state == "done"
    assert collector.invoice().open == Decimal("24.50")
    collector.pay(collector.invoice())
    assert collector.invoice().state == "paid"
    assert collector.balance("liabilities:unapplied") == 0


def test_what_was_paid_goes_back_the_way_it_came(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    collector.pay(invoice)
    movement = collector.begin(invoice, "credit_note", amount="15.50", paid_part="refund")
    collector.send_refunds()
    collector.work()
    assert collector.movement(invoice, movement).state == "done"
    with Session(collector.engine) as session:
        (refund,) = session.query(Refund).all()
        assert (refund.state, refund.amount, refund.provider) == ("succeeded", Decimal("15.50"), collector.name)
    account = "assets:stripe" if collector.name == "stripe" else "assets:bank"
    assert collector.balance(account) + collector.balance("expenses:payment_fees") == Decimal("24.50")
    assert collector.balance("liabilities:unapplied") == 0


def test_money_that_came_another_way_ends_the_collection(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    movement = collector.begin(
        invoice, "outside_payment", amount="40.00", received_at=now().isoformat(), reference="statement 17"
    )
    collector.work()
    assert collector.movement(invoice, movement).state == "done"
    assert collector.invoice().state == "paid"
    assert collector.balance("assets:bank") == Decimal("40.00")
    assert collector.balance("assets:stripe") == 0


def test_a_part_that_came_another_way_leaves_the_rest_to_be_collected(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    movement = collector.begin(
        invoice, "outside_payment", amount="15.00", received_at=now().isoformat(), reference="statement 18"
    )
    collector.work()
    assert collector.movement(invoice, movement).state == "done"
    assert (collector.invoice().state, collector.invoice().open) == ("final", Decimal("25.00"))
    collector.pay(collector.invoice())
    assert collector.invoice().state == "paid"
    assert collector.balance("assets:receivable") == 0
    assert collector.balance("liabilities:unapplied") == 0


def test_asked_twice_it_is_done_once(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    movement = uuid4()
    for _ in range(2):
        collector.begin(invoice, "credit_note", movement_id=movement, amount="15.50")
        collector.work()
    assert collector.invoice().amount_credited == Decimal("15.50")


def test_what_is_done_is_not_tried_again_and_the_refusal_has_a_name(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    collector.work()
    with Session(collector.engine) as session, pytest.raises(Exception, match="already") as refused:
        collector.providers.retry(
            session, customer_id=invoice.customer_id, invoice_id=invoice.id, actor="robin", now=now()
        )
    assert getattr(refused.value, "code", None) in ("sync_done", "letter_is_sent")


def test_an_invoice_stays_with_its_provider_when_the_customer_changes(collector: Collector) -> None:
    invoice = collector.final_invoice("40.00")
    other = "manual" if collector.name == "stripe" else "stripe"
    with Session(collector.engine) as session, session.begin():
        change_provider(session, customer_id=invoice.customer_id, provider=other)
    collector.work()
    assert collector.state(invoice).state == "done"
    collector.pay(collector.invoice())
    assert collector.invoice().state == "paid"


def test_an_unknown_invoice_is_refused_by_name(collector: Collector) -> None:
    customer = collector.company.customer("acme")
    with Session(collector.engine) as session, pytest.raises(Exception, match="final") as refused:
        collector.providers.retry(session, customer_id=customer, invoice_id=uuid4(), actor="robin", now=now())
    assert getattr(refused.value, "code", None) == "unknown_sync"
