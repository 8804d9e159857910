"""Prepaid credit bought through Stripe: charged like any invoice, usable once Stripe says that it is paid."""

from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing.credit.lots import lots_of
from invoicing.credit.refills import refill_due, set_refill
from invoicing.credit.top_ups import open_top_ups, top_up
from invoicing.customers import customer_id_for
from invoicing.tables import Invoice
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now

TOP_UP = UUID(int=77)


@pytest.fixture
def buyer(hooked: Town) -> UUID:
    """A customer with a card that can be charged."""
    customer_id = hooked.company.customer("acme")
    hooked.gateway.set_payment_method(customer_id=customer_id, payment_method="pm_card_visa", now=now())
    return customer_id


def is_usable(town: Town) -> list[tuple[Decimal, bool]]:
    with Session(town.engine) as session:
        lots = lots_of(session, customer_id=customer_id_for("acme"))
    return [(lot.remaining, lot.is_paid) for lot in lots]


def test_bought_credit_is_charged_once_and_usable_when_stripe_confirms_it(hooked: Town, buyer: UUID) -> None:
    with Session(hooked.engine, expire_on_commit=False) as session, session.begin():
        bought = top_up(
            session,
            customer_id=buyer,
            top_up_id=TOP_UP,
            amount=Decimal(50),
            provider=hooked.gateway,
            actor="customer",
            now=now(),
        )
    assert is_usable(hooked) == [(Decimal(50), False)]
    hooked.sync()
    hooked.assert_each_stands_once()
    assert do.at_stripe(hooked, bought)["description"] == "Prepaid credit"
    do.pump(hooked)
    with Session(hooked.engine) as session:
        assert session.get_one(Invoice, (buyer, TOP_UP)).state == "paid"
    assert is_usable(hooked) == [(Decimal(50), True)]
    fee = hooked.balance("acme", "expenses:payment_fees")
    assert hooked.balance("acme", "assets:stripe") + fee == 50
    hooked.company.check()


def test_a_refill_is_charged_by_itself(hooked: Town, buyer: UUID) -> None:
    with Session(hooked.engine) as session, session.begin():
        set_refill(
            session,
            customer_id=buyer,
            threshold=Decimal(10),
            amount=Decimal(25),
            provider=hooked.gateway,
            actor="customer",
            now=now(),
        )
    for _ in range(2):
        assert refill_due(hooked.engine, provider=hooked.gateway, now=now()).problems == []
        hooked.sync()
        do.pump(hooked)
    assert is_usable(hooked) == [(Decimal(25), True)]
    with Session(hooked.engine) as session:
        assert open_top_ups(session, customer_id=buyer) == []
    hooked.company.check()
