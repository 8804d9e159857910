"""The price book's pages: what everything costs, and a change that a second person publishes."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.prices.changes import load_content
from invoicing.prices.files import seed_prices
from invoicing.tables import Price
from tests.prices.conftest import content, flat
from tests.support_ui.conftest import Page, Site, at

DRAFTER = "agent@demo.test"


@pytest.fixture
def change(site: Site) -> str:
    """A customer who used a machine last month, and a draft that makes it dearer; answers the change's page."""
    site.customer("Northwind")
    site.use("Northwind", "2025-06-03", "100000", unit_amount="0.0000022")
    dearer = flat("machine", "0.0000044", "valid_from = 2199-01-01T00:00:00Z")
    with Session(site.engine) as session, session.begin():
        done = load_content(
            session,
            content=content(dearer),
            title="Machines cost twice",
            publish=True,
            actor=DRAFTER,
            now=at("2025-07-10"),
        )
    return f"/support/prices/changes/{done.change_id}"


def prices(site: Site) -> int:
    with Session(site.engine) as session:
        return session.scalar(select(func.count()).select_from(Price)) or 0


def test_every_price_is_on_the_page_with_its_regions_and_allowance(site: Site) -> None:
    viewer = site.desk("viewer@demo.test")
    assert "There is no price yet" in viewer.page("/support/prices").text
    with Session(site.engine) as session, session.begin():
        seed_prices(session, actor="test", now=at("2025-07-10"))
    page = viewer.page("/support/prices")
    for text in ("Volume storage", "0.15 USD per GB-month", "the first 10 of a period are free", "region af-in", "jnb"):
        assert text in page.text
    found = viewer.page("/support/prices?q=egress")
    assert "0.12 USD per GB" in found.text
    assert "Volume storage" not in found.text
    assert "No item's code or name has “bananas” in it." in viewer.page("/support/prices?q=bananas").text


def test_a_draft_shows_what_it_would_have_cost_and_only_a_second_person_publishes_it(site: Site, change: str) -> None:
    drafter, approver = site.desk(DRAFTER), site.desk("approver@demo.test")
    assert "Machines cost twice" in drafter.page("/support/prices").text
    mine = drafter.page(change)
    assert "a second person publishes it" in mine.text
    assert not [form for form in mine.forms if form.action.endswith("/publication")]
    page = approver.page(f"{change}?month=2025-06")
    for text in ("What June 2025 would have cost", "0.22 USD", "0.44 USD", "Northwind", "Drafted by agent@demo.test"):
        assert text in page.text
    done = approver.follow(approver.send(page.form(f"{change}/publication"), False))
    assert "Published: Machines cost twice." in done.text
    assert "published by approver@demo.test" in done.text
    assert prices(site) == 2


def test_a_draft_is_withdrawn_and_then_stays_so(site: Site, change: str) -> None:
    agent, approver = site.desk(DRAFTER), site.desk("approver@demo.test")
    kept = approver.page(change).form(f"{change}/publication")
    done = agent.follow(agent.send(agent.page(change).form(f"{change}/withdrawal"), False))
    assert "Withdrawn: Machines cost twice." in done.text
    late = approver.send(kept, False)
    assert late.status_code == 409
    assert "Nothing was published." in Page(late.text).text
    assert prices(site) == 1


def test_who_may_only_read_is_refused(site: Site, change: str) -> None:
    kept = site.desk("approver@demo.test").page(change).form(f"{change}/publication")
    viewer = site.desk("viewer@demo.test")
    assert [form.action for form in viewer.page(change).forms if form.action.startswith(change + "/")] == []
    kept.fields["csrf_token"] = viewer.page(change).form("/support/sign-out").fields["csrf_token"]
    assert viewer.send(kept, False).status_code == 403


@pytest.mark.parametrize("path", ["00000000-0000-0000-0000-000000000000", "nothing"])
def test_a_change_that_is_not_there_is_not_found(site: Site, path: str) -> None:
    assert site.desk("viewer@demo.test").get(f"/support/prices/changes/{path}").status_code == 404
