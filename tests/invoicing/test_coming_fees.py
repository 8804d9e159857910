"""Fees that are known to come: what is said in the middle of a period is what its invoice has in the end."""

from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for, get_customer
from invoicing.statements import current_period
from invoicing.subscriptions import change_at_end, coming_fees, keep
from tests.invoicing.conftest import Company, at
from tests.invoicing.test_plans import booked, lines, offering, take

__all__ = ["offering"]

NOON = at("2025-06-20 12:00")


def said(company: Company) -> tuple[Decimal, list[tuple[str, Decimal]]]:
    """The fees charged so far, and those that are said to come, on the 20th of June."""
    key = customer_id_for("acme")
    with Session(company.engine) as session:
        period = current_period(session, customer_id=key, now=NOON)
        coming = coming_fees(session, customer=get_customer(session, customer_id=key), until=period.end, now=NOON)
        charged = sum((row.amount for row in period.items if (row.item or "").startswith("plan:")), Decimal(0))
    return charged, [(fee.terms.plan, fee.amount) for fee in coming]


def planned(company: Company, plan: str | None) -> None:
    with booked(company) as session:
        change_at_end(
            session, customer_id=customer_id_for("acme"), plan=plan, reason="x", actor="ada", now=at("2025-06-18")
        )


# The month's fee is 30; half of June is 15. A year of Launch is 365, taken on the 16th for what is left of it.
STORIES: dict[str, tuple[str, list[tuple[str, Decimal]]]] = {
    "in advance": ("launch", [("launch", Decimal(30))]),
    "in arrears": ("support", []),
    "a trial that ends within the month": ("trial", [("trial", Decimal(5)), ("trial", Decimal(30))]),
    "a year": ("launch year", []),
}


@pytest.mark.parametrize("story", STORIES)
def test_what_is_said_to_come_is_what_the_invoice_has(offering: Company, story: str) -> None:
    plan, expected = STORIES[story]
    code, _, interval = plan.partition(" ")
    take(offering, code, "2025-06-16", interval=interval or "month")
    charged, coming = said(offering)
    assert coming == expected
    offering.close("2025-07-01")
    billed = sum(lines(offering, "2025-06").values(), Decimal(0))
    assert billed == charged + sum((amount for _, amount in coming), Decimal(0))


def test_a_plan_that_changes_with_the_month_brings_the_fee_of_the_next_one(offering: Company) -> None:
    take(offering, "launch", "2025-06-16")
    planned(offering, "scale")
    charged, coming = said(offering)
    assert (charged, coming) == (Decimal(15), [("scale", Decimal(300))])
    offering.close("2025-07-01")
    assert lines(offering, "2025-06") == {"plan:launch": Decimal(15), "plan:scale": Decimal(300)}


def test_a_trial_that_is_given_up_brings_no_fee_and_one_that_is_kept_does(offering: Company) -> None:
    take(offering, "trial", "2025-06-16")
    planned(offering, None)
    assert said(offering)[1] == []
    with booked(offering) as session:
        keep(session, customer_id=customer_id_for("acme"), actor="ada", now=at("2025-06-19"))
    assert [amount for _, amount in said(offering)[1]] == [5, 30]


def test_a_trial_that_turns_into_another_plan_brings_that_ones_fees(offering: Company) -> None:
    """The trial ends on the 26th: Scale costs 5 of 30 days, 50, and July's 300 come with the month."""
    take(offering, "trial", "2025-06-16")
    planned(offering, "scale")
    assert said(offering)[1] == [("scale", Decimal(50)), ("scale", Decimal(300))]
    offering.close("2025-07-01")
    assert lines(offering, "2025-06") == {"plan:scale": Decimal(350)}
