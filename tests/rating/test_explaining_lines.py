"""Whatever the prices and the usage: the explanation of every line, and of every row so far, comes to it exactly."""

import itertools
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing.drafts import get_invoice
from invoicing.explaining.of_charge import ChargeExplanation, explain_charge
from invoicing.explaining.of_line import charge_of_row, explain_line
from invoicing.statements import unbilled_periods
from invoicing.tables import Invoice
from tests.rating.company import NOW, RatedCompany
from tests.rating.worlds import World, so_many, worlds


@pytest.mark.parametrize(
    ("examples", "events"),
    [(5, 30), pytest.param(600, 50, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
)
def test_every_explanation_comes_to_its_line_to_the_last_digit(engine: Engine, examples: int, events: int) -> None:
    numbers = itertools.count()

    @so_many(examples)
    @given(world=worlds(most=events))
    def hold(world: World) -> None:
        live_through(RatedCompany(engine, world.book, number=next(numbers)), world)

    hold()


def live_through(company: RatedCompany, world: World) -> None:
    for number, step in enumerate(world.steps):
        company.take(world, step)
        if number % 3 == 0:
            explain_rows(company)
    explain_rows(company)
    company.close(NOW + timedelta(days=40))
    explain_drafts(company)


def explain_rows(company: RatedCompany) -> None:
    """Every row of every open period, as a customer would open it now."""
    with Session(company.engine) as session:
        for customer_id in company.customers():
            for statement in unbilled_periods(session, customer_id=customer_id):
                for row in statement.items:
                    come_to_it(explain_charge(session, charge_of_row(statement, row)))


def explain_drafts(company: RatedCompany) -> None:
    """Every line of every draft, those whose periods got more charges later included."""
    with Session(company.engine) as session:
        for invoice in session.scalars(select(Invoice).where(Invoice.customer_id.in_(list(company.customers())))):
            view = get_invoice(session, customer_id=invoice.customer_id, invoice_id=invoice.id)
            shares = Decimal(0)
            for line in view.lines:
                found = explain_line(session, customer_id=invoice.customer_id, invoice_id=invoice.id, line_id=line.id)
                assert found.adds_up
                assert found.charge is not None
                come_to_it(found.charge)
                assert found.rounding is not None
                shares += found.rounding.share
                assert found.rounding.share - found.rounding.floor in (0, found.rounding.unit)
            assert shares == view.rounded_total


def come_to_it(found: ChargeExplanation) -> None:
    charge = found.charge
    assert found.adds_up, (charge, found.steps, found.elsewhere)
    assert found.first is not None
    assert found.last is not None
    assert found.first.seq <= found.last.seq
    for step in found.steps:
        if step.unit_amount is not None:
            assert (step.quantity or 0) * step.unit_amount + step.flat_amount == step.amount
    if found.terms is not None:
        used = found.counted if found.counted is not None else charge.quantity
        assert sum((step.quantity or Decimal(0) for step in found.steps), Decimal(0)) == used
        assert used == charge.quantity + sum(part.quantity for part in found.elsewhere)
