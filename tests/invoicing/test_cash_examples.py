"""One worked example for each way that money comes, is disputed, costs a fee and is paid out: entries and balances.

Every invoice here is acme's for June: 100 used, 100 due. The books below each test's name are what the customer's books
say after it; `assets:` and `expenses:` are debits, the others credits.
"""

from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.movements.fees import record_fee
from invoicing.movements.payouts import clear_transaction, record_payout
from invoicing.provider import (
    AcceptDisputeOrder,
    OutsidePaymentOrder,
)
from ledger.balances import balances
from ledger.books import house_id
from tests.invoicing.conftest import Company, at
from tests.invoicing.desk import NOW, Desk

D = Decimal


def test_cash_settles_what_is_open_and_the_rest_stays_the_customers(company: Company) -> None:
    """stripe 120, unapplied 20, income:usage 100."""
    desk = Desk(company)
    desk.pay("120")
    assert desk.since(2) == [
        ("cash", "assets:stripe", "assets:receivable", "100"),
        ("cash", "assets:stripe", "liabilities:unapplied", "20"),
    ]
    assert desk.books() == {"assets:stripe": D(120), "liabilities:unapplied": D(20), "income:usage": D(100)}
    desk.check()


def test_money_that_came_outside_stripe_is_in_the_bank_and_stripe_is_told_to_stop(company: Company) -> None:
    """bank 100, income:usage 100."""
    desk = Desk(company)
    asked = desk.ask("outside_payment", received_at="2025-07-05T00:00:00+00:00", reference="SEPA 4711")
    assert desk.since(2) == [("cash", "assets:bank", "assets:receivable", "100")]
    assert (desk.invoice().state, desk.invoice().paid_at) == ("paid", at("2025-07-05"))
    order = company.remembered.asked[asked.id]
    assert isinstance(order, OutsidePaymentOrder)
    assert (order.amount, order.reference) == (D(100), "SEPA 4711")
    assert desk.done(asked)
    assert desk.books() == {"assets:bank": D(100), "income:usage": D(100)}
    desk.check()


def test_the_fee_of_a_payment_is_our_expense_and_is_posted_once(company: Company) -> None:
    """stripe 96.80, payment_fees 3.20, income:usage 100."""
    desk = Desk(company)
    desk.pay("100")
    for expected in (True, False):
        with Session(desk.engine) as session, session.begin():
            posted = record_fee(
                session,
                customer_id=desk.customer_id,
                invoice_id=desk.invoice_id,
                provider="stripe",
                transaction="txn_1",
                amount=D("3.20"),
                at=NOW,
                actor="stripe",
                now=NOW,
            )
        assert posted is expected
    assert desk.since(3) == [("fee", "expenses:payment_fees", "assets:stripe", "3.2")]
    assert desk.books() == {"assets:stripe": D("96.8"), "expenses:payment_fees": D("3.2"), "income:usage": D(100)}
    desk.check()


def test_a_payout_is_in_the_bank_and_then_cleared_from_the_books_it_came_from(company: Company) -> None:
    """acme: house 96.80, payment_fees 3.20; the house: bank 94.80, provider_fees 2, customers -96.80."""
    desk = Desk(company)
    desk.pay("100")
    house = house_id(provider="stripe", account="acct_1", currency="USD")
    with Session(desk.engine) as session, session.begin():
        record_fee(
            session,
            customer_id=desk.customer_id,
            invoice_id=desk.invoice_id,
            provider="stripe",
            transaction="txn_1",
            amount=D("3.20"),
            at=NOW,
            actor="stripe",
            now=NOW,
        )
    for status in ("in_transit", "paid", "paid", "in_transit"):
        with Session(desk.engine) as session, session.begin():
            record_payout(
                session,
                provider="stripe",
                account="acct_1",
                currency="USD",
                external_id="po_1",
                amount=D("94.80"),
                status=status,
                arrival_at=NOW,
                at=NOW,
                actor="stripe",
                now=NOW,
            )
    for transaction, owner, net, category in (
        ("txn_1", desk.customer_id, "96.80", "charge"),
        ("txn_2", None, "-2.00", "fee"),
        ("txn_3", None, "-94.80", "payout"),
    ):
        for expected in (category != "payout", False):
            with Session(desk.engine) as session, session.begin():
                posted = clear_transaction(
                    session,
                    provider="stripe",
                    account="acct_1",
                    currency="USD",
                    payout="po_1",
                    transaction=transaction,
                    customer_id=owner,
                    net=D(net),
                    category=category,
                    at=NOW,
                    actor="stripe",
                    now=NOW,
                )
            assert posted is expected
    assert desk.since(4) == [("payout", "assets:house", "assets:stripe", "96.8")]
    with Session(desk.engine) as session:
        of_house = {k: v for k, v in balances(session, customer_id=house).items() if v}
    assert of_house == {
        "assets:bank": D("94.80"),
        "assets:customers": D("-96.80"),
        "expenses:provider_fees": D("2.00"),
    }
    assert desk.tasks() == []
    desk.check()


def test_a_payout_that_failed_is_with_the_provider_again_in_either_order_of_events(company: Company) -> None:
    """The house: nothing."""
    company.customer("acme")
    for external_id, order in (("po_1", ("paid", "failed")), ("po_2", ("failed", "paid"))):
        for status in order:
            with Session(company.engine) as session, session.begin():
                record_payout(
                    session,
                    provider="stripe",
                    account="acct_1",
                    currency="USD",
                    external_id=external_id,
                    amount=D(50),
                    status=status,
                    arrival_at=None,
                    at=NOW,
                    actor="stripe",
                    now=NOW,
                )
    with Session(company.engine) as session:
        house = house_id(provider="stripe", account="acct_1", currency="USD")
        assert not any(balances(session, customer_id=house).values())
    company.check()


def test_money_of_nobody_stands_in_suspense_with_a_task_until_its_customer_is_known(company: Company) -> None:
    """Before: house suspense -30; after: acme house 30 and stripe -30, the house customers -30, suspense 0."""
    desk = Desk(company)
    house = house_id(provider="stripe", account="acct_1", currency="USD")

    def clear(owner: object) -> bool:
        with Session(desk.engine) as session, session.begin():
            return clear_transaction(
                session,
                provider="stripe",
                account="acct_1",
                currency="USD",
                payout="po_1",
                transaction="txn_9",
                customer_id=owner,  # type: ignore[arg-type]
                net=D(30),
                category="charge",
                at=NOW,
                actor="stripe",
                now=NOW,
            )

    def of_house() -> dict[str, Decimal]:
        with Session(desk.engine) as session:
            return {k: v for k, v in balances(session, customer_id=house).items() if v}

    assert [clear(None), clear(None)] == [True, False]
    assert of_house() == {"assets:stripe": D(30), "assets:suspense": D(-30)}
    assert desk.tasks() == ["unknown_money"]
    assert [clear(desk.customer_id), clear(desk.customer_id), clear(None)] == [True, False, False]
    assert of_house() == {"assets:stripe": D(30), "assets:customers": D(-30)}
    assert desk.books()["assets:house"] == D(30)
    assert desk.tasks() == []
    desk.check()


def test_a_disputed_payment_is_withdrawn_with_a_fee_and_comes_back_when_it_is_won(company: Company) -> None:
    """stripe 85, dispute_fees 15, income:usage 100."""
    desk = Desk(company)
    desk.pay("100")
    desk.dispute("needs_response")
    assert desk.dispute_funds("txn_d", "-100", "15")
    assert desk.since(3) == [
        ("dispute", "assets:disputed", "assets:stripe", "100"),
        ("fee", "expenses:dispute_fees", "assets:stripe", "15"),
    ]
    desk.dispute("won")
    assert desk.dispute_funds("txn_e", "100")
    assert not desk.dispute_funds("txn_e", "100")
    assert desk.since(5) == [("dispute", "assets:stripe", "assets:disputed", "100")]
    assert desk.invoice().state == "paid"
    desk.check()


def test_a_lost_dispute_is_a_loss_and_a_late_win_takes_the_loss_back(company: Company) -> None:
    """Lost: chargebacks 100, dispute_fees 15, stripe -15. Won after all: stripe 85, dispute_fees 15."""
    desk = Desk(company)
    desk.pay("100")
    desk.dispute("needs_response")
    desk.dispute_funds("txn_d", "-100", "15")
    accepted = desk.ask("accept_dispute", dispute="dp_1")
    assert isinstance(company.remembered.asked[accepted.id], AcceptDisputeOrder)
    desk.done(accepted)
    desk.dispute("lost")
    assert desk.since(5) == [("dispute", "expenses:chargebacks", "assets:disputed", "100")]
    desk.check()
    desk.dispute("won")
    desk.dispute_funds("txn_e", "100")
    assert desk.since(6) == [
        ("dispute", "assets:disputed", "expenses:chargebacks", "100"),
        ("dispute", "assets:stripe", "assets:disputed", "100"),
    ]
    assert desk.books() == {"assets:stripe": D(85), "expenses:dispute_fees": D(15), "income:usage": D(100)}
    desk.check()
