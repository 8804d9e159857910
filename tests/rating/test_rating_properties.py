"""Whatever the prices, the usage, its order and its batches: the books say what an independent rater says, at once."""

import itertools
import os
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing import checks as invoicing_checks
from invoicing.drafts import get_invoice
from invoicing.statements import PeriodStatement, unbilled_periods
from invoicing.tables import Invoice
from ledger.checks import CHECKS, run_checks
from tests.rating import rater
from tests.rating.company import NOW, RatedCompany
from tests.rating.worlds import World, so_many, worlds

SOAK = int(os.environ.get("RATING_EXAMPLES", "1500"))
"""How many worlds `make soak` lives through."""


@pytest.mark.parametrize(
    ("examples", "events"),
    [(12, 36), pytest.param(SOAK, 60, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])],
)
def test_the_books_say_after_every_batch_what_an_independent_rater_says(
    engine: Engine, examples: int, events: int
) -> None:
    numbers = itertools.count()

    @so_many(examples)
    @given(world=worlds(most=events))
    def hold(world: World) -> None:
        live_through(RatedCompany(engine, world.book, number=next(numbers)), world)

    hold()
    with Session(engine) as session:
        for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS}):
            assert result.holds, f"{result.name}: {result.offenders}"


def live_through(company: RatedCompany, world: World) -> None:
    for step in world.steps:
        company.take(world, step)
        agree(company)
    preview_is_the_draft(company)


def agree(company: RatedCompany) -> None:
    """The books and the rater say the same, to the last digit."""
    amounts, quantities = rater.rate(company.book, company.sent)
    with Session(company.engine) as session:
        assert company.sums(session) == (amounts, quantities)
        assert company.given_back(session) == company.expected_back(amounts)


def preview_is_the_draft(company: RatedCompany) -> None:
    """What customers see as unbilled is what the drafts compiled at this moment bill, line by line."""
    with Session(company.engine) as session:
        previews = [
            preview
            for customer_id in company.customers()
            for preview in unbilled_periods(session, customer_id=customer_id)
        ]
    company.close(NOW + timedelta(days=40))
    with Session(company.engine) as session:
        for preview in previews:
            for breakdown in (preview.by_app, preview.by_region, preview.by_day):
                assert sum((row.amount for row in breakdown), Decimal(0)) == preview.total
            assert lines_of_draft(session, preview) == {
                (row.contra_account, row.item, row.price_id, row.usage_period_start): (row.amount, row.quantity)
                for row in preview.items
            }


def lines_of_draft(session: Session, preview: PeriodStatement) -> dict[object, object]:
    invoice_id = session.scalars(
        select(Invoice.id).where(Invoice.customer_id == preview.customer_id, Invoice.period_start == preview.start)
    ).one()
    view = get_invoice(session, customer_id=preview.customer_id, invoice_id=invoice_id)
    return {
        (line.contra_account, line.item, line.price_id, line.usage_period_start): (line.amount, line.quantity)
        for line in view.lines
    }
