"""The statement of an account: it begins, moves and ends with balances that anybody can add up."""

from uuid import uuid4

import pytest

from support_ui.statements import ROWS_SHOWN
from tests.support_ui.conftest import Desk, Page, Site


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk()


@pytest.fixture
def address(site: Site) -> str:
    """
    2025-06-01  1,000,000 s   2.20
    2025-06-10  2,000,000 s   4.40
    2025-06-20  3,000,000 s   6.60
    """
    customer = site.customer("Northwind")
    for day, quantity in (("2025-06-10", "2000000"), ("2025-06-01", "1000000"), ("2025-06-20", "3000000")):
        site.use("Northwind", day, quantity)
    return f"/support/customers/{customer}/accounts"


def test_every_movement_has_the_balance_after_it(agent: Desk, address: str) -> None:
    page = agent.page(f"{address}/assets:unbilled?since=2025-06-05&until=2025-06-20")
    assert "Balance before 5 Jun 2025 2.20 USD" in page.text
    assert "4.40 USD then 6.60 USD 6.60 USD Balance before 20 Jun 2025 6.60 USD" in page.text
    assert "13.20 USD" not in page.text
    assert any("/entries/" in link for link in page.links)
    page = agent.page(f"{address}/income:usage?since=")
    assert "At the beginning 0.00 USD" in page.text
    assert "Balance now 13.20 USD" in page.text


def test_every_balance_leads_to_its_statement_which_begins_with_the_period(agent: Desk, address: str) -> None:
    page = agent.page(address.removesuffix("/accounts"))
    for account in ("assets:unbilled", "income:usage", "liabilities:credits:goodwill"):
        assert f"{address}/{account}" in page.links
    page = agent.page(f"{address}/assets:unbilled")
    assert "Nothing moved in these days." in page.text
    assert "13.20 USD" in page.text


def test_a_long_statement_is_cut_and_still_ends_with_the_whole_balance(site: Site, agent: Desk, address: str) -> None:
    for second in range(ROWS_SHOWN - 2):
        site.use("Northwind", f"2025-06-02T00:{second // 60:02}:{second % 60:02}", "1000000")
    page = agent.page(f"{address}/assets:unbilled?since=")
    assert "Balance now 448.80 USD" in page.text
    assert f"Shown are the first {ROWS_SHOWN} movements" in page.text
    assert page.html.count("/entries/") == ROWS_SHOWN


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since=2025-02-30", "“2025-02-30” is no day"),
        ("until=soon", "“soon” is no day"),
        ("since=2025-06-05&until=2025-06-05", "choose a later day"),
    ],
)
def test_bad_days_are_told_and_kept(agent: Desk, address: str, query: str, said: str) -> None:
    answer = agent.get(f"{address}/assets:unbilled?{query}")
    assert answer.status_code == 422
    page = Page(answer.text)
    assert said in page.text
    name, _, typed = query.partition("&")[0].partition("=")
    assert page.form(f"{address}/assets:unbilled").fields[name] == typed


def test_what_is_no_account_is_not_found(agent: Desk, address: str) -> None:
    for account in ("assets:gold", "assets:suspense", "%00"):
        assert agent.get(f"{address}/{account}").status_code in (400, 404)
    assert agent.get(f"/support/customers/{uuid4()}/accounts/assets:unbilled").status_code == 404
