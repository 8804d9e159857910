"""Prepaid credit whose payment the bank takes back through Stripe: it waits, it goes, and it comes back if we win."""

from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing.credit.lots import lots_of
from invoicing.credit.top_ups import top_up
from invoicing.customers import customer_id_for
from invoicing.tables import Invoice
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now, shuffled

TOP_UP = UUID(int=77)


@pytest.fixture
def bought(hooked: Town) -> Invoice:
    """50 of prepaid credit, charged and paid."""
    customer_id = hooked.company.customer("acme")
    hooked.gateway.set_payment_method(customer_id=customer_id, payment_method="pm_card_visa", now=now())
    with Session(hooked.engine, expire_on_commit=False) as session, session.begin():
        invoice = top_up(
            session,
            customer_id=customer_id,
            top_up_id=TOP_UP,
            amount=Decimal(50),
            provider=hooked.gateway,
            actor="customer",
            now=now(),
        )
    hooked.sync()
    do.pump(hooked)
    return invoice


def credit(town: Town) -> list[tuple[Decimal, bool]]:
    """What is left of the lots, and whether it can be used."""
    with Session(town.engine) as session:
        lots = lots_of(session, customer_id=customer_id_for("acme"))
    return [(lot.remaining, lot.is_usable) for lot in lots]


def test_disputed_credit_waits_and_is_gone_once_the_dispute_is_lost(hooked: Town, bought: Invoice) -> None:
    dispute = hooked.sandbox.post("disputes", charge=do.charge_of(hooked, bought))
    do.pump(hooked)
    assert credit(hooked) == [(Decimal(50), False)]
    hooked.sandbox.post(f"disputes/{dispute['id']}", status="lost")
    do.pump(hooked)
    assert credit(hooked) == []
    assert do.held(hooked, "acme", "expenses:chargebacks") == 0
    hooked.sandbox.post(f"disputes/{dispute['id']}", status="won")
    do.pump(hooked)
    assert credit(hooked) == [(Decimal(50), True)]
    assert not hooked.events("parked")
    do.check(hooked)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_lost_dispute_whose_news_come_in_any_order_and_twice_takes_the_credit_once(
    hooked: Town, bought: Invoice, seed: int
) -> None:
    dispute = hooked.sandbox.post("disputes", charge=do.charge_of(hooked, bought))
    hooked.sandbox.post(f"disputes/{dispute['id']}", status="lost")
    hooked.settle()
    hooked.deliver(shuffled(hooked.fetch(), times=2, seed=seed))
    hooked.handle(tries=3)
    assert credit(hooked) == []
    assert do.held(hooked, "acme", "expenses:chargebacks") == 0
    do.check(hooked)
