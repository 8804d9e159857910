"""The tasks' pages: what waits for a person, what happened, what to do, and who settled it how."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing.movements.tables import Task
from invoicing.movements.tasks import get_task, open_task
from tests.support_ui.conftest import Desk, Draft, Page, Site, at


def add(site: Site, subject: str = "in_1", *, day: str = "2025-07-03", **changes: object) -> Task:
    values: dict[str, object] = {
        "kind": "drift:void_at_stripe_only",
        "title": "An invoice was voided at Stripe alone",
        "text": f"{subject} is void at Stripe and open here.",
        "cause": "reconciliation",
        "details": {"cure": "Void it here as well.", "url": f"https://dashboard.stripe.com/invoices/{subject}"},
        **changes,
    }
    with Session(site.engine, expire_on_commit=False) as session, session.begin():
        return open_task(session, subject=subject, now=at(day), **values)  # type: ignore[arg-type]  # text, mostly


def stored(site: Site, task_id: UUID) -> Task:
    with Session(site.engine, expire_on_commit=False) as session:
        return get_task(session, task_id=task_id)


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def test_with_nothing_to_do_the_pages_say_so(agent: Desk) -> None:
    assert "Nothing waits for a person." in agent.page("/support/tasks").text
    assert "No task was resolved yet." in agent.page("/support/tasks?state=resolved").text
    assert "No open task is of this kind." in agent.page("/support/tasks?kind=drift:none").text
    assert "0 open tasks" in agent.page("/support/").text


def test_a_task_says_what_happened_what_to_do_and_where(site: Site, agent: Desk) -> None:
    draft = site.draft()
    task = add(site, customer_id=draft.customer_id, invoice_id=draft.invoice_id)
    page = agent.page(f"/support/tasks/{task.id}")
    assert "in_1 is void at Stripe and open here." in page.text
    assert "What to do Void it here as well." in page.text
    assert "by reconciliation" in page.text
    assert {f"/support/customers/{draft.customer_id}", draft.url} <= set(page.links)
    assert "https://dashboard.stripe.com/invoices/in_1" in page.links
    assert "1 open" in agent.page("/support/drafts").text, "the count stands in the navigation"


def test_the_list_is_newest_first_and_narrowed_by_kind_and_state(site: Site, agent: Desk) -> None:
    add(site, "in_1", day="2025-07-01", title="The first")
    add(site, "re_2", day="2025-07-02", title="The second", kind="refund_failed")
    text = agent.page("/support/tasks").text
    assert text.index("The second") < text.index("The first")
    narrowed = agent.page("/support/tasks?kind=refund_failed").text
    assert "The second" in narrowed
    assert "The first" not in narrowed
    assert "Refund failed (1)" in narrowed
    assert "The first" not in agent.page("/support/tasks?state=resolved").text


def test_more_than_a_page_is_paged_without_a_gap(site: Site, agent: Desk) -> None:
    for number in range(53):
        # Several at the same moment: the cursor must not lose those that share it.
        add(site, f"in_{number}", day=f"2025-07-{1 + number // 10:02}", title=f"Task number {number}.")
    first = agent.page("/support/tasks")
    [older] = [link for link in first.links if "before=" in link]
    second = agent.page(older)
    seen = [number for number in range(53) for page in (first, second) if f"Task number {number}." in page.text]
    assert seen == list(range(53))


def test_resolving_needs_a_reason_and_names_who_did_it(site: Site, agent: Desk) -> None:
    task = add(site)
    url = f"/support/tasks/{task.id}"
    empty = agent.submit(url, f"{url}/resolution", reason="  ")
    assert empty.status_code == 422
    assert "Say what you found and did" in Page(empty.text).text
    assert stored(site, task.id).resolved_at is None
    page = agent.follow(agent.submit(url, f"{url}/resolution", reason="Voided here too, ticket 12"))
    assert "The task is resolved." in page.text
    assert "agent@demo.test Voided here too, ticket 12" in page.text
    assert stored(site, task.id).resolved_by == "agent@demo.test"
    assert "Voided here too" not in agent.page("/support/tasks").text
    assert "agent@demo.test" in agent.page("/support/tasks?state=resolved").text


def test_of_two_people_who_resolve_the_second_is_told(site: Site, agent: Desk) -> None:
    task = add(site)
    url = f"/support/tasks/{task.id}"
    form = agent.page(url).form(f"{url}/resolution")
    site_approver = site.desk("approver@demo.test")
    site_approver.submit(url, f"{url}/resolution", reason="Mine")
    late = agent.send(form, True, reason="Also mine")
    assert late.status_code == 422
    assert "approver@demo.test resolved this task already: Mine" in Page(late.text).text
    assert stored(site, task.id).resolution == "Mine"


def test_a_viewer_reads_and_resolves_nothing(site: Site, agent: Desk) -> None:
    task = add(site)
    url = f"/support/tasks/{task.id}"
    form = agent.page(url).form(f"{url}/resolution")
    viewer = site.desk("viewer@demo.test")
    page = viewer.page(url)
    assert "Resolving needs the role agent." in page.text
    token = viewer.page("/support/account").forms[0].fields["csrf_token"]
    assert viewer.send(form, csrf_token=token, reason="No").status_code == 403
    assert stored(site, task.id).resolved_at is None


def test_what_came_back_shows_how_it_was_settled_before(site: Site, agent: Desk) -> None:
    first = add(site, day="2025-07-03")
    url = f"/support/tasks/{first.id}"
    agent.submit(url, f"{url}/resolution", reason="Voided here too")
    again = add(site, day="2025-08-03")
    assert again.id != first.id
    page = agent.page(f"/support/tasks/{again.id}")
    assert "Voided here too" in page.text
    assert "Open" in page.text


def test_what_others_wrote_is_text_and_never_markup(site: Site, agent: Desk) -> None:
    task = add(site, title="<script>x</script> & co", text="<b>bold</b> " + "long" * 900)
    for path in ("/support/tasks", f"/support/tasks/{task.id}", "/support/"):
        page = agent.page(path)
        assert "<script>x</script> & co" in page.text
        assert "<b>bold</b>" not in page.html


@pytest.mark.parametrize("path", ["/support/tasks?before=2025", "/support/tasks?before=%20x", "/support/tasks?state=x"])
def test_a_mangled_address_shows_the_list(agent: Desk, path: str) -> None:
    assert "Nothing waits for a person." in agent.page(path).text


def test_an_unknown_task_is_not_found(agent: Desk, site: Site) -> None:
    assert agent.get("/support/tasks/00000000-0000-0000-0000-000000000000").status_code == 404
    assert agent.get("/support/tasks/none").status_code == 404


def test_a_task_of_the_house_names_no_customer(site: Site, agent: Desk) -> None:
    task = add(site, "txn_1", kind="unknown_money", details={})
    draft: Draft = site.draft()
    assert str(draft.customer_id) not in agent.page(f"/support/tasks/{task.id}").html
    assert "no customer" in agent.page("/support/tasks").text
    assert task.opened_at + timedelta(0) == at("2025-07-03")
