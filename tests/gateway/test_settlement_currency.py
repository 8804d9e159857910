"""An account that settles in EUR while customers pay in USD: no book holds two currencies, and no cent is unexplained.

The books below each test's name say what is there after it, debits above 0: the customer's in USD, the house's in USD
and in EUR. What is on income:exchange of both is what was given and what came for it.
"""

from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from invoicing.movements.exchanges import record_exchange
from invoicing.movements.payouts import clear_transaction
from invoicing.movements.refusals import ExchangeConflict
from invoicing.movements.tables import Exchange
from stripe_gateway.house import house_of
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now
from tests.gateway.news import charged
from tests.gateway.settlement import FULL, D, books, dispute, euros, paid_out, reconciled, rows, worth


def test_a_payment_leaves_the_customers_currency_and_its_fee_is_the_houses(abroad: Town) -> None:
    """
    acme        house 100, usage -100
    house USD   exchange 100, customers -100
    house EUR   stripe 89.03, provider_fees 2.97, exchange -92
    """
    invoice = do.paid(abroad, "acme", "100")
    assert do.state(abroad, invoice) == "paid"
    assert books(abroad, "customer acme") == {"assets:house": D(100), "income:usage": D(-100)}
    assert books(abroad, "house USD") == {"income:exchange": D(100), "assets:customers": D(-100)}
    assert euros(abroad) == {
        "assets:stripe": D("89.03"),
        "expenses:provider_fees": D("2.97"),
        "income:exchange": D(-92),
    }
    assert rows(abroad) == [(D(100), D(92), D("2.97"), D("0.92"))]
    assert reconciled(abroad) == []
    assert do.tasks(abroad) == []


def test_a_partial_refund_at_another_rate_leaves_the_difference_on_both_exchange_accounts(abroad: Town) -> None:
    """
    acme        house 50, adjustments 50, usage -100
    house USD   exchange 50, customers -50
    house EUR   stripe 41.53, provider_fees 2.97, exchange -44.50: 46 at the rate of the payment, 1.50 were lost
    """
    invoice = do.paid(abroad, "acme", "100")
    worth(abroad, "0.95")
    do.credit(abroad, invoice, "50")
    abroad.sync()
    do.pump(abroad)
    assert [one.state for one in do.refunds(abroad)] == ["succeeded"]
    mine = books(abroad, "customer acme")
    assert mine == {"assets:house": D(50), "income:adjustments": D(50), "income:usage": D(-100)}
    assert books(abroad, "house USD") == {"income:exchange": D(50), "assets:customers": D(-50)}
    assert euros(abroad)["income:exchange"] == D("-44.50")
    assert euros(abroad)["assets:stripe"] == D("89.03") - D("47.50")
    assert reconciled(abroad) == []


def test_a_refund_that_comes_back_at_a_third_rate_is_exchanged_twice(abroad: Town) -> None:
    invoice = do.paid(abroad, "acme", "100")
    worth(abroad, "0.95")
    do.credit(abroad, invoice, "50")
    abroad.sync()
    do.pump(abroad)
    worth(abroad, "0.90")
    [refund] = do.refunds(abroad)
    abroad.sandbox.post(f"refunds/{refund.external_id}/fail")
    do.pump(abroad)
    assert [one.state for one in do.refunds(abroad)] == ["failed"]
    assert books(abroad, "customer acme")["assets:house"] == D(100)
    assert euros(abroad)["income:exchange"] == D("-92") + D("47.50") - D("45.00")
    assert reconciled(abroad) == []


def test_a_lost_dispute_is_a_loss_in_the_customers_currency_and_its_fee_one_of_the_house(abroad: Town) -> None:
    """
    acme        house 80, chargebacks 20, usage -100
    house EUR   stripe 56.03, provider_fees 17.97, exchange -74: 92 less 20 at 0.90
    """
    invoice = do.paid(abroad, "acme", "100")
    worth(abroad, "0.90")
    given = dispute(abroad, invoice, 2000)
    do.pump(abroad)
    assert books(abroad, "customer acme")["assets:disputed"] == D(20)
    abroad.sandbox.post(f"disputes/{given}", status="lost")
    do.pump(abroad)
    mine = books(abroad, "customer acme")
    assert mine == {"assets:house": D(80), "expenses:chargebacks": D(20), "income:usage": D(-100)}
    assert euros(abroad) == {
        "assets:stripe": D("89.03") - 18 - 15,
        "expenses:provider_fees": D("17.97"),
        "income:exchange": D(-74),
    }
    [row] = do.disputes(abroad)
    assert (row.withdrawn, row.reinstated, row.fees) == (D(20), D(0), D(0))
    assert reconciled(abroad) == []


def test_a_dispute_lost_given_back_in_part_and_won_after_all_comes_back_to_the_cent(abroad: Town) -> None:
    """Stripe says in EUR what came back; in USD the parts add up to what was taken, whatever the rates."""
    invoice = do.paid(abroad, "acme", "100")
    worth(abroad, "0.907")
    given = dispute(abroad, invoice, 3333)
    worth(abroad, "0.9131")
    abroad.sandbox.post(f"disputes/{given}", status="lost", reinstate=1111)
    do.pump(abroad)
    assert books(abroad, "customer acme")["expenses:chargebacks"] == D("22.22")
    worth(abroad, "0.8999")
    abroad.sandbox.post(f"disputes/{given}", status="won")
    do.pump(abroad)
    mine = books(abroad, "customer acme")
    assert mine == {"assets:house": D(100), "income:usage": D(-100)}
    assert books(abroad, "house USD") == {"income:exchange": D(100), "assets:customers": D(-100)}
    # 33.33 went at 0.907, 11.11 came at 0.9131, 22.22 at 0.8999.
    assert euros(abroad)["income:exchange"] == D("-92") + D("30.23") - D("10.14") - D("20.00")
    assert reconciled(abroad) == []


def test_a_payout_pays_both_kinds_of_customers_out_and_one_that_fails_brings_all_of_it_back(abroad: Town) -> None:
    """A customer who pays in EUR is cleared at the payout as ever; one who pays in USD was exchanged before."""
    do.paid(abroad, "acme", "100")
    abroad.invoice("bert", "50", currency="EUR", card="pm_card_visa")
    abroad.sync()
    do.pump(abroad)
    before = books(abroad, "customer acme")
    assert books(abroad, "customer bert")["assets:stripe"] == D("48.25")
    payout = paid_out(abroad)
    do.pump(abroad)
    total = D("89.03") + D("48.25")
    assert payout["amount"] == int(total * 100)
    assert books(abroad, "customer acme") == before
    assert books(abroad, "customer bert")["assets:house"] == D("48.25")
    paid = {
        "assets:bank": total,
        "assets:customers": D("-48.25"),
        "expenses:provider_fees": D("2.97"),
        "income:exchange": D(-92),
    }
    assert euros(abroad) == paid
    assert reconciled(abroad) == []
    abroad.sandbox.post(f"payouts/{payout['id']}/fail")
    do.pump(abroad)
    back = {account: amount for account, amount in paid.items() if account != "assets:bank"}
    assert euros(abroad) == back | {"assets:stripe": total}
    assert reconciled(abroad) == []
    assert do.tasks(abroad) == ["payout_failed"]


# Currencies without decimals, small amounts, debits


def test_a_customer_in_a_currency_without_decimals_is_exchanged_into_one_with_them(hooked: Town) -> None:
    """10,000 JPY at 0.0061 are 61.00 EUR; 1 JPY at 0.0041 is nothing, and still leaves the customer's books."""
    worth(hooked, "0.0061", "jpy")
    invoice = hooked.invoice("acme", "10000", currency="JPY", card="pm_card_visa")
    hooked.sync()
    do.pump(hooked)
    assert books(hooked, "customer acme")["assets:house"] == D(10_000)
    assert rows(hooked) == [(D(10_000), D("61.00"), D("2.07"), D("0.0061"))]
    worth(hooked, "0.0041", "jpy")
    hooked.gateway.client.create_refund({"charge": do.charge_of(hooked, invoice), "amount": 1}, key="a yen")
    given = dispute(hooked, invoice, 1777)
    hooked.sandbox.post(f"disputes/{given}", status="lost", reinstate=333)
    do.pump(hooked)
    # 333 JPY are 1.37 EUR, which is 334 JPY at that rate: the nearest that Stripe's own figure tells.
    assert [row[:2] for row in rows(hooked)[:3]] == [(D(-1777), D("-7.29")), (D(-1), D(0)), (D(334), D("1.37"))]
    assert books(hooked, "customer acme")["assets:house"] == D(10_000) - 1 - 1777 + 334
    assert reconciled(hooked) == []
    # Won after all: 1,444 JPY come back as 5.92 EUR, and what we lack of what was taken is worth as much.
    hooked.sandbox.post(f"disputes/{given}", status="won")
    do.pump(hooked)
    assert books(hooked, "customer acme")["assets:house"] == D(10_000) - 1
    assert "assets:disputed" not in books(hooked, "customer acme")
    assert reconciled(hooked) == []


def test_a_debit_that_fails_in_another_currency_leaves_nothing_behind(abroad: Town) -> None:
    invoice = abroad.invoice("acme", "100", card="pm_usBankAccount_insufficientFunds")
    abroad.sync()
    abroad.sandbox.advance(60)
    do.pump(abroad)
    assert "house EUR" not in do.balances(abroad), "the bank has not answered"
    assert abroad.gateway.reconcile(now=now()).differences == []
    worth(abroad, "0.99")
    abroad.sandbox.advance(5 * 86400)
    do.pump(abroad)
    assert do.state(abroad, invoice) == "final"
    assert euros(abroad) == {}
    assert "assets:house" not in books(abroad, "customer acme")
    assert reconciled(abroad) == []


# What was in suspense, what does not fit, what nobody may do


def test_money_that_waited_in_suspense_is_exchanged_by_the_next_reconciliation(town: Town) -> None:
    """Before it could be exchanged, a payout in another currency than its customer's stood in suspense with a task."""
    worth(town, "0.92")
    invoice = charged(town)
    [moved] = town.gateway.client.page("balance_transactions", after=None).data
    with Session(town.engine) as session, session.begin():
        clear_transaction(
            session,
            provider="stripe",
            account=house_of(town.gateway.client).account,
            currency="EUR",
            payout="po_before",
            transaction=moved["id"],
            customer_id=invoice.customer_id,
            net=D("89.03"),
            category="charge",
            at=now(),
            actor="stripe",
            now=now(),
        )
    assert (euros(town)["assets:suspense"], do.tasks(town)) == (D("-89.03"), ["unknown_money"])
    reconciled(town)
    assert do.tasks(town) == []
    assert euros(town) == {
        "assets:stripe": D("89.03"),
        "expenses:provider_fees": D("2.97"),
        "income:exchange": D(-92),
    }


def test_an_account_that_begins_to_settle_in_another_currency_is_explained_in_both(hooked: Town) -> None:
    """What settled in USD before stays cleared in USD; of the house's books there only the exchange is no money."""
    do.paid(hooked, "acme", "100")
    hooked.sandbox.advance(3 * 86400)
    hooked.sandbox.post("payouts", currency="usd")
    do.pump(hooked)
    worth(hooked, "0.92")
    do.paid(hooked, "bert", "100")
    assert books(hooked, "house USD") == {
        "assets:bank": D("96.80"),
        "assets:customers": D("-196.80"),
        "income:exchange": D(100),
    }
    assert euros(hooked)["income:exchange"] == D(-92)
    assert reconciled(hooked) == []


def test_a_movement_that_stripe_shows_with_another_amount_later_is_named(abroad: Town) -> None:
    do.paid(abroad, "acme", "100")
    [moved] = abroad.gateway.client.page("balance_transactions", after=None).data
    abroad.sandbox.post("drift", object=moved["id"], set={"amount": 9300, "net": 9003})
    report = abroad.gateway.reconcile(now=now(), asked=FULL)
    assert [one.kind for one in report.unexplained] == ["money_differs"]
    assert "The difference is -1 EUR" in report.unexplained[0].text


def test_a_movement_that_was_exchanged_is_neither_cleared_nor_exchanged_again(abroad: Town) -> None:
    invoice = do.paid(abroad, "acme", "100")
    before = do.balances(abroad)
    with Session(abroad.engine) as session, session.begin():
        [known] = session.scalars(select(Exchange))
        told: dict[str, Any] = {
            "provider": "stripe",
            "account": known.account,
            "transaction": known.external_id,
            "category": "charge",
            "at": known.exchanged_at,
            "actor": "stripe",
            "now": now(),
        }
        net = known.settled - known.fee
        cleared = clear_transaction(session, currency="EUR", payout="po_1", customer_id=None, net=net, **told)
        assert cleared is False, "nobody was known to own it any more"
        told |= {
            "customer_id": invoice.customer_id,
            "invoice_id": invoice.id,
            "payment_external_id": known.payment_external_id,
            "currency": "USD",
            "amount": known.amount,
            "settled_currency": "EUR",
            "fee": known.fee,
            "rate": None,
        }
        assert record_exchange(session, settled=known.settled, **told) is False
        for wrong in (D("92.01"), D(-92), D("92.001"), D("NaN")):
            with pytest.raises(ExchangeConflict):
                record_exchange(session, settled=wrong, **told)
    assert do.balances(abroad) == before
    assert do.tasks(abroad) == []


def another(change: str) -> str:
    """A second row like the first, with something changed."""
    return f"INSERT INTO exchanges SELECT (json_populate_record(x, '{{{change}}}')).* FROM exchanges x"  # noqa: S608 - of this file


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE exchanges SET settled = 1", "refused"),
        ("DELETE FROM exchanges", "refused"),
        (another('"external_id": "txn_2", "amount": 99'), "has not left its customer's books"),
        (another('"external_id": "txn_2", "currency": "GBP"'), "books are not in GBP"),
        (another('"external_id": "txn_2", "settled": -1'), "exchanges_one_way"),
        (another('"external_id": "txn_2", "settled_currency": "USD"'), "exchanges_between_two_currencies"),
    ],
    ids=["changed", "deleted", "without its entry", "of other books", "both ways", "of one currency"],
)
def test_postgres_refuses_an_exchange_that_is_none(
    abroad: Town, databases_owner: Engine, statement: str, refusal: str
) -> None:
    do.paid(abroad, "acme", "100")
    with pytest.raises(IntegrityError, match=refusal), databases_owner.begin() as connection:
        connection.exec_driver_sql(statement)
    assert len(rows(abroad)) == 1


def test_postgres_refuses_that_two_customers_have_the_same_exchange(abroad: Town, databases_owner: Engine) -> None:
    do.paid(abroad, "acme", "100")
    do.paid(abroad, "bert", "100")
    taken = (
        "INSERT INTO exchanges SELECT (json_populate_record(x, json_build_object('external_id', y.external_id))).*"
        " FROM exchanges x JOIN exchanges y ON y.customer_id < x.customer_id"
    )
    with pytest.raises(IntegrityError, match="another customer's"), databases_owner.begin() as connection:
        connection.exec_driver_sql(taken)
    assert len(rows(abroad)) == 2
