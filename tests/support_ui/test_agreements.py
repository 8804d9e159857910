"""Agreements on a customer's page: what the customer pays by beside the public list, and the button that ends it."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing.prices.agreements import agree_price_list, agreements_of, discounts_of, give_discount
from invoicing.prices.changes import load_content, publish_change
from invoicing.prices.endings import ends_of
from tests.prices.conftest import content, flat
from tests.support_ui.conftest import Site, at

NOW = at("2025-07-10")
FILE = (
    '[[lists]]\ncode = "partners"\n'
    + flat("volume", "0.10", 'price_list = "partners"')
    + '[[items]]\ncode = "egress"\nname = "Egress"\nunit = "GB"\nunit_amount = 0.05\ncustomer = "org-Northwind"\n'
)


@pytest.fixture
def customer(site: Site) -> UUID:
    """A customer with 15 % off everything, a list that was agreed, and a price of their own."""
    key = site.customer("Northwind")
    when: dict[str, Any] = {"customer_id": key, "reason": "contract 17", "actor": "ann", "now": NOW}
    with Session(site.engine) as session, session.begin():
        loaded = load_content(session, content=content(FILE), title="t", publish=True, actor="ann", now=NOW)
        if loaded.change_id:
            publish_change(session, change_id=loaded.change_id, actor="bob", now=NOW)
        give_discount(session, percent=Decimal(15), valid_from=at("2025-07-01"), valid_until=None, **when)
        agree_price_list(session, price_list="partners", valid_from=at("2025-07-01"), **when)
    return key


def test_staff_see_what_was_agreed_and_end_each_of_it_with_a_reason(site: Site, customer: UUID) -> None:
    agent = site.desk()
    page = agent.page(f"/support/customers/{customer}")
    for words in ("15 % off everything", "Pays by the list partners", "Egress: 0.05 USD per GB", "contract 17"):
        assert words in page.text, words
    ends = [form for form in page.forms if form.action.endswith("/end") and "/agreements/" in form.action]
    assert len(ends) == 3
    for form in ends:
        assert agent.send(form, reason="the year is over").status_code == 303
    after = agent.page(f"/support/customers/{customer}")
    assert "ended by agent@demo.test: the year is over" in after.text
    assert not [form for form in after.forms if "/agreements/" in form.action]
    with Session(site.engine) as session:
        assert len(ends_of(session, customer_id=customer)) == 2
        assert [found.price_list for found in agreements_of(session, customer_id=customer)] == ["partners", "public"]


def test_a_last_day_ends_it_when_that_day_is_over_and_a_wrong_one_is_refused(site: Site, customer: UUID) -> None:
    agent = site.desk()
    page = agent.page(f"/support/customers/{customer}")
    form = next(form for form in page.forms if "/discounts/" in form.action)
    agent.send(form, last_day="tomorrow", reason="x")
    assert "Write the day like 2025-06-30." in agent.page(f"/support/customers/{customer}").text
    agent.send(form, last_day="2030-06-30", reason="")
    agent.send(form, last_day="2030-06-30", reason="the year is over")
    with Session(site.engine) as session:
        assert [found.valid_until for found in discounts_of(session, customer_id=customer)] == [at("2030-07-01")]


def test_a_viewer_ends_nothing(site: Site, customer: UUID) -> None:
    form = next(
        form for form in site.desk().page(f"/support/customers/{customer}").forms if "/discounts/" in form.action
    )
    viewer = site.desk("viewer@demo.test")
    page = viewer.page(f"/support/customers/{customer}")
    assert not [found for found in page.forms if "/agreements/" in found.action]
    form.fields["csrf_token"] = next(found.fields["csrf_token"] for found in page.forms)
    assert viewer.send(form, reason="x").status_code == 403
