"""Plans whose fee includes its tax: nobody pays a cent more than the plan says, and the tax is owed all the same."""

from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.plans.catalogue import PlanRefused, plans_from_file, publish_plans
from invoicing.statements import current_period
from invoicing.tax.preview import tax_so_far
from ledger.balances import balances
from tests.invoicing.conftest import Company, at
from tests.invoicing.taxed import load, profile, rates_file
from tests.invoicing.test_plans import LAUNCH, take, use

GROSS = {**LAUNCH, "fee": 119, "included_usage": Decimal("11.90"), "tax_inclusive": True}
NET = {**GROSS, "code": "net", "tax_inclusive": False}


@pytest.fixture
def taxed(company: Company) -> Company:
    """A customer in Germany, at 19 %."""
    with Session(company.engine) as session, session.begin():
        publish_plans(session, plans_from_file({"plans": [GROSS, NET]}), actor="test", now=at("2025-01-01"))
    load(company.engine, rates_file(("DE", "VAT", "19")))
    company.customer("acme")
    profile(company.engine, "acme", "DE")
    return company


def test_a_fee_that_includes_its_tax_is_paid_as_it_stands(taxed: Company) -> None:
    """119 for June and 119 for July, 38 of it tax; the page says the same before there is an invoice."""
    take(taxed, "launch", "2025-06-01")
    with Session(taxed.engine) as session:
        statement = current_period(session, customer_id=customer_id_for("acme"), now=at("2025-06-05"))
        so_far = tax_so_far(session, statement)
    assert (statement.total, so_far.on_top, so_far.included) == (Decimal(119), Decimal(0), Decimal(19))
    taxed.close("2025-07-01")
    invoice = taxed.finalize("acme", "2025-06", on="2025-07-03").invoice
    assert (invoice.total, invoice.tax, invoice.tax_included) == (Decimal(238), Decimal(0), Decimal(38))
    with Session(taxed.engine) as session:
        held = balances(session, customer_id=customer_id_for("acme"))
    assert held["liabilities:tax"] == 38
    assert held["income:tax_included"] == -38
    taxed.check()


def test_what_the_plan_gives_back_of_usage_has_its_tax_inside_as_well(taxed: Company) -> None:
    """Usage of 20 bears 3.80 on top; the plan gives 11.90 back, 1.90 of it tax."""
    take(taxed, "launch", "2025-06-01")
    use(taxed, "2025-06-02", "20")
    taxed.close("2025-07-01")
    view = taxed.finalize("acme", "2025-06", on="2025-07-03")
    assert {line.item: line.tax_inclusive for line in view.lines} == {
        "plan:launch": True, "machine": False, "plan:launch:included": True,
    }  # fmt: skip
    invoice = view.invoice
    assert (invoice.total, invoice.tax, invoice.tax_included) == (
        Decimal("238") + Decimal("23.80") - Decimal("11.90"), Decimal("3.80"), Decimal("36.10"),
    )  # fmt: skip
    taxed.check()


def test_without_a_word_the_tax_comes_on_top_of_a_fee(taxed: Company) -> None:
    take(taxed, "net", "2025-06-01")
    taxed.close("2025-07-01")
    invoice = taxed.finalize("acme", "2025-06", on="2025-07-03").invoice
    assert (invoice.total, invoice.tax, invoice.tax_included) == (Decimal("283.22"), Decimal("45.22"), Decimal(0))
    taxed.check()


def test_a_version_never_changes_from_one_to_the_other_and_a_word_for_it_is_refused(taxed: Company) -> None:
    changed = plans_from_file({"plans": [{**GROSS, "tax_inclusive": False}]})
    with pytest.raises(PlanRefused, match="119 USD with its tax a month"), Session(taxed.engine) as session:
        publish_plans(session, changed, actor="test", now=at("2025-01-02"))
    with pytest.raises(PlanRefused, match="true or false"):
        plans_from_file({"plans": [{**GROSS, "tax_inclusive": "yes"}]})
