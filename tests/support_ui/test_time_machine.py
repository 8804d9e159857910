"""The time machine: what somebody saw on a day that is over, beside what is known now."""

from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from invoicing.customers import create_customer
from tests.support_ui.conftest import Desk, Page, Site, at


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk()


def recorded(site: Site) -> datetime:
    """The database's own clock at the last posting: nobody can post into the past."""
    with site.engine.connect() as connection:
        found = connection.scalar(text("SELECT max(recorded_at) FROM ledger_entries"))
    assert isinstance(found, datetime)
    return found


def first_of_month() -> str:
    """A day of the period that is current now: what is recorded now shows it on the panel."""
    return datetime.now(UTC).date().replace(day=1).isoformat()


def url(customer_id: UUID, moment: datetime | None = None, /, **query: str) -> str:
    given = {**query, **({"at": moment.isoformat()} if moment else {})}
    words = "&".join(f"{name}={quote(value)}" for name, value in given.items())
    return f"/support/customers/{customer_id}/time_machine?{words}"


def part(page: Page, start: str, end: str = "") -> str:
    """The page's text between two headings."""
    found = page.text.partition(start)[2]
    return found.partition(end)[0] if end else found


def test_the_page_asks_for_a_day_first_and_is_linked_from_the_customer(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    link = f"/support/customers/{customer}/time_machine"
    assert link in agent.page(f"/support/customers/{customer}").links
    page = agent.page(link)
    assert "Choose a day to see" in page.text
    assert page.form(link).method == "get"


def test_then_and_now_stand_side_by_side_with_what_came_to_light_since(site: Site, agent: Desk) -> None:
    """
    known at the moment   1,000,000 s at 0.0000022    2.20
    learned later         2,000,000 s                 4.40
    """
    customer = site.customer("Northwind")
    site.use("Northwind", first_of_month(), "1000000", app="seen")
    then = recorded(site)
    site.use("Northwind", first_of_month(), "2000000", app="late")
    page = agent.page(url(customer, then))
    assert "assets:unbilled then 2.20 USD, since then 4.40 USD 2.20 USD 6.60 USD 4.40 USD" in part(
        page, "Balances", "What"
    )
    assert "1,000,000 seconds" in part(page, "panel showed", "What came")
    assert "Total 2.20 USD" in part(page, "panel showed", "What came")
    since = part(page, "What came to light since")
    assert "1 entry was recorded since, 1 of them late or corrections." in since
    assert "app late" in since
    assert "app seen" not in since


def test_what_is_known_now_is_the_same_as_now(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    site.use("Northwind", "2025-06-10", "1000000")
    page = agent.page(url(customer, recorded(site)))
    assert "assets:unbilled the same then 2.20 USD 2.20 USD same" in page.text
    assert "Nothing: the books still say the same." in page.text


def test_a_bound_leaves_out_what_took_effect_later(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    site.use("Northwind", "2025-06-10", "1000000")
    site.use("Northwind", "2025-06-12", "2000000")
    page = agent.page(url(customer, recorded(site), before="2025-06-12"))
    assert "assets:unbilled the same then 2.20 USD 2.20 USD same" in page.text
    assert "only what took effect before 12 Jun 2025, 00:00:00 UTC" in page.text


def test_before_there_was_anything_the_page_says_so(site: Site, agent: Desk) -> None:
    customer = site.customer("Northwind")
    page = agent.page(url(customer, day="2025-03-03"))
    assert "The books are empty" in page.text
    assert "no usage of this period was known then" in page.text
    site.use("Northwind", "2025-06-10", "1000000")
    page = agent.page(url(customer, day="2025-03-03", time="14:30"))
    assert "on 3 Mar 2025, 14:30:00 UTC" in page.text
    assert "assets:unbilled then 0.00 USD, since then 2.20 USD 0.00 USD 2.20 USD 2.20 USD" in page.text
    assert "panel showed: March 2025" in page.text
    assert "every later entry is about something that happened later" in page.text


def test_a_day_is_the_customers_own_and_means_its_end(site: Site, agent: Desk) -> None:
    with Session(site.engine) as session, session.begin():
        view, _ = create_customer(
            session,
            external_id="tokyo",
            name="Tokyo",
            currency="JPY",
            time_zone="Asia/Tokyo",
            actor="test",
            now=at("2025-01-01"),
        )
    page = agent.page(url(view.customer_id, day="2025-03-03"))
    assert "on 3 Mar 2025, 14:59:59 UTC" in page.text
    assert "In Asia/Tokyo, the billing time zone." in page.text
    page = agent.page(url(view.customer_id, at("2025-03-03T14:59:59")))
    form = page.form(f"/support/customers/{view.customer_id}/time_machine")
    assert (form.fields["day"], form.fields["time"]) == ("2025-03-03", "23:59:59")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"day": "2025-02-30"}, "“2025-02-30” is no day between 2000 and 2199"),
        ({"day": "yesterday"}, "“yesterday” is no day"),
        ({"day": "1999-12-31"}, "no day between 2000 and 2199"),
        ({"day": "9999-12-31"}, "no day between 2000 and 2199"),
        ({"day": "2199-12-31"}, "That is in the future"),
        ({"day": "2025-03-03", "time": "25:00"}, "“25:00” is no time of day"),
        ({"day": "2025-03-03", "time": "noon"}, "“noon” is no time of day"),
        ({"day": "2025-03-03", "time": "10:00+02:00"}, "is no time of day"),
        ({"time": "10:00"}, "Choose a day as well."),
        ({"day": "noday", "time": "25:00"}, "“25:00” is no time of day"),
        ({"day": "2025-03-03", "before": "soon"}, "“soon” is no day"),
        ({"at": "long ago"}, "is no moment"),
        ({"at": "2025-03-03T10:00:00"}, "is no moment"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "is no moment"),
        ({"day": "<script>alert(1)</script>"}, "is no day"),
    ],
)
def test_a_bad_moment_is_told_and_the_form_keeps_what_was_typed(
    site: Site, agent: Desk, query: dict[str, str], said: str
) -> None:
    customer = site.customer("Northwind")
    answer = agent.get(url(customer, None, **query))
    assert answer.status_code == 422
    page = Page(answer.text)
    assert said in page.text
    form = page.form(f"/support/customers/{customer}/time_machine")
    for name in query.keys() - {"at"}:
        assert form.fields[name] == query[name]
    assert "Balances" not in page.text


def test_nobody_unknown_has_a_past(site: Site, agent: Desk) -> None:
    assert agent.get("/support/customers/00000000-0000-0000-0000-000000000000/time_machine").status_code == 404
    answer = site.stranger().get(url(site.customer("Northwind"), day="2025-03-03"))
    assert answer.status_code == 303
