"""Lines explained, in small books that a reader can add up; and the command that tells it."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.cli import main
from invoicing.explaining.of_charge import ChargeExplanation, explain_charge
from invoicing.explaining.of_line import charge_of_row
from invoicing.explaining.words import facts_of_charge, place_of
from invoicing.statements import unbilled_periods
from invoicing.tables import Invoice
from tests.rating.company import RatedCompany
from tests.rating.conftest import Opener, price
from tests.rating.test_rating import GRADUATED, JULY, JUNE, event
from tests.rating.worlds import ALWAYS

DISCOUNT = {"customer": "ant", "item": "egress", "percent": Decimal(10), "from": ALWAYS, "until": None}


def rows(company: RatedCompany) -> list[ChargeExplanation]:
    """Everything that is not on a draft yet, the largest first."""
    with Session(company.engine) as session:
        return [
            explain_charge(session, charge_of_row(statement, row))
            for statement in unbilled_periods(session, customer_id=company.customer_id("ant"))
            for row in statement.items
        ]


def steps(found: ChargeExplanation) -> list[tuple[Any, Any, Any]]:
    return [(step.quantity, step.unit_amount, step.amount) for step in found.steps]


def words(found: ChargeExplanation) -> str:
    return "\n".join(f"{title}: {text}" for title, text in facts_of_charge(found, time_zone="UTC"))


@pytest.fixture
def late(opened: Opener) -> RatedCompany:
    """15 units in June at 2 each up to 10 and 1 beyond, less 10 %; June is billed; then 5 more of June arrive."""
    company = opened(price("egress", **GRADUATED), discounts=(dict(DISCOUNT),))
    company.post([event("1", "12"), event("2", "3")])
    company.close(datetime(2025, 7, 1, tzinfo=UTC))
    company.post([event("late", "5"), event("3", "1", at=JULY)])
    return company


def test_each_tier_stands_with_its_quantity_and_price(opened: Opener) -> None:
    company = opened(price("egress", **GRADUATED))
    company.post([event("1", "12"), event("2", "3")])
    (found,) = rows(company)
    assert steps(found) == [(10, 2, 20), (5, 1, 5)]
    assert found.elsewhere == []
    assert (found.entries, found.charge.amount) == (2, Decimal(25))
    assert "public price, valid from 2025-01-01 00:00 UTC, published by test" in words(found)
    assert "The price counts everything from 2025-06-01 00:00 UTC on: 15 came to 25 USD, all on this line." in words(
        found
    )


def test_a_late_line_says_what_the_period_came_to_and_what_was_billed_before(late: RatedCompany) -> None:
    (found,) = (row for row in rows(late) if row.is_late and row.terms)
    assert steps(found) == [(10, 2, 20), (10, 1, 10)]
    assert [(part.quantity, part.amount) for part in found.elsewhere] == [(Decimal(15), Decimal(25))]
    assert found.charge.amount == 5
    assert "20 came to 30 USD, of which other lines bill 25 and this one 5." in words(found)
    assert place_of(found.elsewhere[0], time_zone="UTC") == "the draft for the period from 2025-06-01 00:00 UTC"


def test_what_is_said_of_an_invoice_does_not_change_when_more_arrives_late(late: RatedCompany) -> None:
    with Session(late.engine) as session:
        invoice_id = session.scalars(select(Invoice.id)).one()
    (answer,) = told_lines(late, str(invoice_id), "1")
    assert [step["amount"] for step in answer["charge"]["steps"]] == ["20", "5"]
    assert answer["charge"]["elsewhere"] == []
    assert answer["adds_up"] is True


def test_a_late_line_counts_what_came_before_it_though_a_later_period_bills_that(opened: Opener) -> None:
    """July was not opened yet when the first late usage came, so September took it; the next one went to July."""
    company = opened(price("egress", **GRADUATED))
    company.post([event("1", "8")])
    company.close(datetime(2025, 7, 1, tzinfo=UTC))
    company.post([event("2", "1", at=datetime(2025, 9, 3, tzinfo=UTC))])
    company.post([event("late", "7")])
    company.post([event("3", "1", at=JULY)])
    company.post([event("later", "5")])
    in_july, in_september = (row for row in rows(company) if row.is_late)
    assert [in_july.charge.amount, in_september.charge.amount] == [Decimal(5), Decimal(9)]
    assert all(row.adds_up for row in rows(company))
    assert sorted((part.period_start.month, part.amount) for part in in_july.elsewhere) == [
        (6, Decimal(16)),
        (9, Decimal(9)),
    ]
    assert "20 came to 30 USD, of which other lines bill 25 and this one 5." in words(in_july)


def test_a_discount_says_of_what_it_was_taken(late: RatedCompany) -> None:
    found = [row for row in rows(late) if row.discount is not None]
    assert sorted((row.steps[0].words, row.charge.amount) for row in found) == [
        (f"10 % off 2: 1 charge at {TIERS}", Decimal("-0.2")),
        (f"10 % off 5: 1 charge at {TIERS}", Decimal("-0.5")),
    ]


TIERS = "0 to 10: 2 USD each, above 10: 1 USD each"


def test_the_rest_of_a_cut_period_says_where_its_tiers_began(opened: Opener) -> None:
    company = opened(price("egress", **GRADUATED))
    company.post([event("1", "12")])
    assert company.bill_early("ant", JUNE.replace(day=20))
    company.post([event("2", "3", at=JUNE.replace(day=25))])
    (found,) = rows(company)
    assert (found.total, found.on_other_lines, found.charge.amount) == (Decimal(25), Decimal(22), Decimal(3))
    assert found.counted_from == datetime(2025, 6, 1, tzinfo=UTC)


def test_an_allowance_names_what_it_grew_with(opened: Opener) -> None:
    company = opened(price("machine", "1"), price("egress", "2", included_item="machine", included_per_unit=Decimal(3)))
    company.post([event("1", "4", item="machine"), event("2", "20")])
    (found,) = (row for row in rows(company) if row.other is not None)
    assert steps(found) == [(12, 0, 0), (8, 2, 16)]
    assert found.other == 4
    assert found.steps[0].words.startswith("included: 12 (3 for each of 4 of machine")


def test_what_a_plan_gives_back_is_what_usage_came_to_up_to_what_it_includes(opened: Opener) -> None:
    company = opened(price("egress", "2"))
    company.include("ant", JUNE, Decimal(9))
    company.post([event("1", "3")])
    (within,) = (row for row in rows(company) if row.charge.contra_account == "income:plans")
    assert within.charge.amount == -6
    assert within.steps[0].words.startswith("usage came to 6, all of it within what the plan includes")
    company.post([event("2", "7")])
    (beyond,) = (row for row in rows(company) if row.charge.contra_account == "income:plans")
    assert beyond.steps[0].words == "usage came to 20, of which 9 is included"


Billing = Callable[..., Result]


@pytest.fixture(autouse=True)
def _environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STRIPE_API_KEY": "sk_test_sandbox_explain",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": "whsec_explain",
        "SECRET_KEY": "x" * 40,
    }.items():
        monkeypatch.setenv(name, value)


def told_lines(company: RatedCompany, *args: str) -> list[dict[str, Any]]:
    answer = CliRunner().invoke(main, ["explain", *args, "--json"])
    assert answer.exit_code == 0, answer.output
    return [json.loads(line) for line in answer.output.splitlines()]


def test_the_command_tells_every_line_of_an_invoice(late: RatedCompany) -> None:
    with Session(late.engine) as session:
        invoice_id = session.scalars(select(Invoice.id)).one()
    answer = CliRunner().invoke(main, ["explain", str(invoice_id)])
    assert answer.exit_code == 0, answer.output
    for text in (
        "up to 10: at 2 each",
        "10 x 2",
        "above 10: at 1 each",
        "5 x 1",
        "10 % off 25",
        "Rounding",
        "No place",
    ):
        assert text in answer.output, answer.output
    assert len(told_lines(late, str(invoice_id))) == 2


@pytest.mark.parametrize(
    ("args", "code"),
    [([], 2), (["nothing"], 2), (["--customer", "nobody"], 2), (["x", "--customer", "y"], 2)],
    ids=["nothing", "unknown invoice", "unknown customer", "both"],
)
def test_the_command_refuses_what_it_cannot_find(late: RatedCompany, args: list[str], code: int) -> None:
    assert CliRunner().invoke(main, ["explain", *args]).exit_code == code


def test_the_command_names_the_lines_that_there_are(late: RatedCompany) -> None:
    with Session(late.engine) as session:
        invoice_id = session.scalars(select(Invoice.id)).one()
    answer = CliRunner().invoke(main, ["explain", str(invoice_id), "9"])
    assert answer.exit_code == 2
    assert "has no line 9. Its lines are 1 to 2." in answer.stderr
