"""The story of one entry: reached from wherever entries are listed, and complete."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.support_ui.conftest import Desk, Draft, Site


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk()


def entry_ids(site: Site, customer_id: UUID) -> list[UUID]:
    """In order of seq."""
    with site.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT id FROM ledger_entries WHERE customer_id = :id ORDER BY seq"), {"id": customer_id}
        )
        return [row.id for row in rows]


def entry_url(draft: Draft, entry_id: UUID) -> str:
    return f"/support/customers/{draft.customer_id}/entries/{entry_id}"


def test_an_entry_is_one_click_from_wherever_it_is_listed(site: Site, agent: Desk) -> None:
    draft = site.draft()
    [entry_id] = entry_ids(site, draft.customer_id)
    base = f"/support/customers/{draft.customer_id}"
    for page in (base, f"{base}/journal", draft.line_url):
        assert entry_url(draft, entry_id) in agent.page(page).links, page


def test_usage_tells_price_arithmetic_period_and_the_line_that_bills_it(site: Site, agent: Desk) -> None:
    draft = site.draft()
    [entry_id] = entry_ids(site, draft.customer_id)
    page = agent.page(entry_url(draft, entry_id))
    for said in (
        "Entry 1: usage",
        "Exact amount 22.00 USD",
        "Usage, rated at our price, sent by test.",
        "10,000,000 × 0.0000022 = 22.00 USD",
        "June 2025, closed",
        "app web",
        "Not sealed yet",
        "It is the only one.",
        str(entry_id),
    ):
        assert said in page.text, said
    assert draft.line_url in page.links
    assert draft.url in page.links


def test_a_correction_and_its_undoing_lead_to_each_other(site: Site, agent: Desk) -> None:
    draft = site.draft()
    answer = agent.submit(
        draft.url, f"{draft.url}/adjustments", {"kind": "charge"}, amount="5", description="Setup", reason="agreed"
    )
    agent.follow(answer)
    [adjustment] = draft.view.adjustments
    undo = next(form.action for form in agent.page(draft.url).forms if str(adjustment.id) in form.action)
    agent.follow(agent.submit(draft.url, undo, reason="wrong customer"))
    _, made, undone = entry_ids(site, draft.customer_id)
    page = agent.page(entry_url(draft, made))
    for said in ("Taken back", "agent@demo.test corrected the draft", "“Setup”", "agreed", "wrong customer"):
        assert said in page.text, said
    assert entry_url(draft, undone) in page.links
    page = agent.page(entry_url(draft, undone))
    assert "Takes another back" in page.text
    assert entry_url(draft, made) in page.links


def test_late_usage_says_why_it_is_in_the_later_period(site: Site, agent: Desk) -> None:
    draft = site.draft()
    site.use("Northwind", "2025-06-30", "1000")
    *_, late = entry_ids(site, draft.customer_id)
    page = agent.page(entry_url(draft, late))
    assert "used in June 2025" in page.text
    assert "Late: the period of its use was closed when it was recorded" in page.text


def test_from_an_entry_to_the_books_just_before_it(site: Site, agent: Desk) -> None:
    draft = site.draft()
    site.use("Northwind", "2025-06-30", "1000000")
    *_, late = entry_ids(site, draft.customer_id)
    [link] = [link for link in agent.page(entry_url(draft, late)).links if "time_machine" in link]
    page = agent.page(link)
    assert "assets:unbilled then 22.00 USD, since then 2.20 USD 22.00 USD 24.20 USD 2.20 USD" in page.text
    assert "1 entry was recorded since, 1 of them late or corrections." in page.text


def test_an_entry_that_is_not_there_is_not_found(site: Site, agent: Desk) -> None:
    draft = site.draft()
    answer = agent.get(entry_url(draft, uuid4()))
    assert answer.status_code == 404
    assert "no entry" in answer.text
    [entry_id] = entry_ids(site, draft.customer_id)
    other = site.customer("Other")
    assert agent.get(f"/support/customers/{other}/entries/{entry_id}").status_code == 404
