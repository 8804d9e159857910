"""Correcting a draft through its page: what happens, what is refused, and what two tabs do to each other."""

from decimal import Decimal

import pytest
import redis
from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from invoicing.drafts import list_invoices
from ledger.accounts import CREDITS_PROMOTIONAL
from ledger.checks import CHECKS, run_checks
from stripe_gateway.tables import StripeSync
from tests.support_ui.conftest import Desk, Draft, Page, PageForm, Site, at


@pytest.fixture
def draft(site: Site) -> Draft:
    """22 USD for June 2025."""
    return site.draft()


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def charge_form(desk: Desk, draft: Draft) -> PageForm:
    return desk.page(draft.url).form(f"{draft.url}/adjustments", kind="charge")


def charge(desk: Desk, draft: Draft, amount: str, *, reason: str = "Agreed on the telephone") -> Page:
    return desk.follow(
        desk.send(charge_form(desk, draft), amount=amount, description="Migration support", reason=reason)
    )


def test_a_charge_is_added_and_stands_on_page_and_books(draft: Draft, agent: Desk) -> None:
    page = charge(agent, draft, "1,012.50")
    assert "The charge is on the draft." in page.text
    assert "Migration support Correction" in page.text
    assert "Awaits approval" in page.text
    assert "agent@demo.test" in page.text
    assert draft.view.exact_total == Decimal("1034.50")
    assert draft.view.history[-1].reason == "Agreed on the telephone"


@pytest.mark.parametrize(
    ("amount", "complaint"),
    [
        ("", "Write the amount as a number above 0"),
        ("0", "Give an amount above 0"),
        ("-5", "Write the amount as a number above 0"),
        ("1e3", "Write the amount as a number above 0"),
        ("NaN", "Write the amount as a number above 0"),
        ("Infinity", "Write the amount as a number above 0"),
        ("12,50", "a point before the decimals"),
        ("1.005", "at most 2 decimals in USD"),
        ("١٢", "Write the amount as a number above 0"),
        ("9" * 41, "Write the amount as a number above 0"),
        ("1000000000", "below 1,000,000,000"),
    ],
)
def test_a_bad_amount_is_named_at_its_field_and_nothing_typed_is_lost(
    draft: Draft, agent: Desk, amount: str, complaint: str
) -> None:
    answer = agent.send(charge_form(agent, draft), amount=amount, description="Support", reason="Two\nlines <b>")
    assert answer.status_code == 422
    page = Page(answer.text)
    assert complaint in page.text
    form = page.form(f"{draft.url}/adjustments", kind="charge")
    assert (form.fields["amount"], form.fields["description"], form.fields["reason"]) == (
        amount,
        "Support",
        "Two\nlines <b>",
    )
    assert draft.view.invoice.version == 1


def test_every_missing_field_is_named_at_once(draft: Draft, agent: Desk) -> None:
    answer = agent.send(charge_form(agent, draft), amount="5", description=" ", reason="  ")
    assert answer.status_code == 422
    text = Page(answer.text).text
    assert "Describe the charge in 1 to 500 characters." in text
    assert "Say why, in 1 to 2,000 characters" in text


def test_a_line_is_explained_to_the_last_digit(site: Site, draft: Draft, agent: Desk) -> None:
    page = agent.page(draft.line_url)
    assert "10,000,000 seconds at 0.0000022 USD per second make 22.00 USD" in page.text
    assert "1 entry adds up to 22.00 USD, exactly this line." in page.text
    assert "app web" in page.text
    fragment = Page(agent.get(draft.line_url, fragment=True).text)
    assert fragment.text in page.text
    assert "<html" not in fragment.html


def test_the_entries_of_a_large_line_are_paged(site: Site, agent: Desk) -> None:
    customer = site.customer("Busy")
    for index in range(30):
        site.use("Busy", "2025-06-10", str(1000 + index), app=f"app-{index % 3}")
    site.close("2025-07-01")
    with Session(site.engine) as session:
        [invoice] = list_invoices(session, customer_id=customer)
    draft = Draft(site, customer, invoice.id)
    page = agent.page(draft.line_url)
    assert "30 entries add up to" in page.text
    assert "exactly this line" in page.text
    [older] = [link for link in page.links if "before=" in link]
    assert "exactly this line" in agent.page(older).text


def test_part_of_a_line_is_credited_and_then_the_rest_waived(draft: Draft, agent: Desk) -> None:
    adjust = f"{draft.url}/adjustments"
    answer = agent.submit(draft.line_url, adjust, {"kind": "credit"}, amount="2.50", reason="Outage")
    page = agent.follow(answer)
    assert "Credited in part" in page.text
    assert draft.view.exact_total == Decimal("19.50")
    assert "At most 19.5 USD are left of this line." in agent.page(draft.line_url).text
    answer = agent.submit(draft.line_url, adjust, {"kind": "credit"}, amount="19.51", reason="Too much")
    assert answer.status_code == 422
    page = Page(answer.text)
    assert "19.5 USD are left of this line; 19.51 cannot be credited." in page.text
    assert page.form(adjust, kind="credit").fields["amount"] == "19.51"
    page = agent.follow(agent.submit(draft.line_url, adjust, {"kind": "waive"}, reason="All of it"))
    assert "Waived" in page.text
    assert draft.view.exact_total == 0
    assert not [form for form in agent.page(draft.line_url).forms if form.action == adjust]


def test_an_adjustment_is_undone_exactly_and_stays_on_record(draft: Draft, agent: Desk) -> None:
    charge(agent, draft, "7.77")
    [adjustment] = draft.view.adjustments
    undoing = f"{draft.url}/adjustments/{adjustment.id}/undoing"
    assert agent.submit(draft.url, undoing, reason="").status_code == 422
    page = agent.follow(agent.submit(draft.url, undoing, reason="Wrong customer"))
    assert "Undone agent@demo.test: Wrong customer" in page.text
    assert draft.view.exact_total == 22
    assert not [form for form in page.forms if form.action == undoing]


def test_a_large_adjustment_is_approved_by_somebody_else(site: Site, draft: Draft) -> None:
    author, second = site.desk("approver@demo.test"), site.desk("admin@demo.test")
    page = charge(author, draft, "100.01")
    [adjustment] = draft.view.adjustments
    approval = f"{draft.url}/adjustments/{adjustment.id}/approval"
    assert not [form for form in page.forms if form.action == approval]
    assert "Somebody else must approve it." in page.text
    forged = second.page(draft.url).form(approval)
    forged.fields["csrf_token"] = author.page(draft.url).form("/support/sign-out").fields["csrf_token"]
    assert author.send(forged).status_code == 403
    assert not [form for form in page.forms if form.action.endswith("/finalization")]
    page = second.follow(second.submit(draft.url, approval))
    assert "Approved admin@demo.test" in page.text
    assert not draft.view.needs_approval


def test_an_agent_cannot_approve(site: Site, draft: Draft) -> None:
    charge(site.desk("approver@demo.test"), draft, "500")
    agent = site.desk("agent@demo.test")
    [adjustment] = draft.view.adjustments
    form = agent.page(draft.url).form(f"{draft.url}/adjustments/{adjustment.id}/undoing")
    form.action = f"{draft.url}/adjustments/{adjustment.id}/approval"
    assert agent.send(form).status_code == 403


def test_a_draft_is_held_and_released_with_reasons(draft: Draft, agent: Desk) -> None:
    page = agent.follow(agent.submit(draft.url, f"{draft.url}/hold", reason="Disputed by telephone"))
    assert "Disputed by telephone" in page.text
    assert not [form for form in page.forms if form.action.endswith(("/finalization", "/hold"))]
    page = agent.follow(agent.submit(draft.url, f"{draft.url}/release", reason="Settled"))
    assert "The draft is released." in page.text
    assert [row.reason for row in draft.view.history[-2:]] == ["Disputed by telephone", "Settled"]


def test_of_two_tabs_the_second_is_told_what_changed_and_keeps_its_words(site: Site, draft: Draft, agent: Desk) -> None:
    stale = charge_form(agent, draft)
    other = site.desk("admin@demo.test")
    other.follow(other.submit(draft.url, f"{draft.url}/hold", reason="Looking into it"))
    charge(other, draft, "3")
    answer = agent.send(stale, amount="5", description="Support", reason="Agreed")
    assert answer.status_code == 409
    page = Page(answer.text)
    assert "You saw version 1, it is now version 3." in page.text
    assert "admin@demo.test: held, “Looking into it”" in page.text
    assert "admin@demo.test: charge added 3.00 USD" in page.text
    form = page.form(f"{draft.url}/adjustments", kind="charge")
    assert (form.fields["version"], form.fields["amount"], form.fields["reason"]) == ("3", "5", "Agreed")
    assert draft.view.exact_total == 25
    agent.follow(agent.send(form))
    assert draft.view.exact_total == 30


def test_a_double_click_adds_one_charge(draft: Draft, agent: Desk) -> None:
    form = charge_form(agent, draft)
    typed = {"amount": "5.00", "description": "Support", "reason": "Agreed"}
    agent.send(form, **typed)
    page = agent.follow(agent.send(form, **typed))
    assert "it was not done twice" in page.text
    assert draft.view.exact_total == 27
    assert agent.send(form, **{**typed, "amount": "6.00"}).status_code == 409
    assert agent.send(form, **{**typed, "reason": "Another"}).status_code == 409


def test_a_double_click_waives_undoes_and_holds_once(draft: Draft, agent: Desk) -> None:
    waive = agent.page(draft.line_url).form(f"{draft.url}/adjustments", kind="waive")
    for _ in range(2):
        assert agent.send(waive, reason="Sorry").status_code == 303
    [adjustment] = draft.view.adjustments
    undo = agent.page(draft.url).form(f"{draft.url}/adjustments/{adjustment.id}/undoing")
    hold = agent.page(draft.url).form(f"{draft.url}/hold")
    for _ in range(2):
        assert agent.send(undo, reason="Not sorry").status_code == 303
    assert agent.send(hold, reason="Stale").status_code == 409
    hold = agent.page(draft.url).form(f"{draft.url}/hold")
    for _ in range(2):
        assert agent.send(hold, reason="Wait").status_code == 303
    assert [row.action for row in draft.view.history] == ["compiled", "line waived", "adjustment undone", "held"]


def test_htmx_gets_the_same_answers_as_fragments(draft: Draft, agent: Desk) -> None:
    form = charge_form(agent, draft)
    refused = agent.send(form, True, amount="x", description="Support", reason="Agreed")
    assert (refused.status_code, refused.headers["X-Fragment"]) == (422, "1")
    done = agent.send(form, True, amount="5", description="Support", reason="Agreed")
    assert done.status_code == 200
    assert done.text.lstrip().startswith('<div id="invoice"')
    assert "The charge is on the draft." in Page(done.text).text
    assert draft.view.exact_total == 27
    assert "The charge is on the draft." not in agent.page(draft.url).text


def test_finalizing_does_what_was_announced(site: Site, draft: Draft, agent: Desk, redis_url: str) -> None:
    page = agent.page(draft.url)
    assert "This is what will happen" in page.text
    assert "22.00 USD is due." in page.text
    form = page.form(f"{draft.url}/finalization")
    page = agent.follow(agent.send(form))
    invoice = draft.view.invoice
    assert (invoice.state, invoice.amount_due) == ("final", Decimal(22))
    assert f"Invoice {invoice.number}" in page.text
    assert "Waiting to be sent" in page.text
    with redis.Redis.from_url(redis_url) as bell:
        rung = [key.decode() for key in bell.lrange("rq:queue:billing", 0, -1)]
    assert rung == [f"sync_now-{invoice.customer_id}-{invoice.id}"], "the worker hears of it at once"
    assert "it was not done twice" in agent.follow(agent.send(form)).text
    left = {form.action for form in page.forms if form.action.startswith(draft.url)}
    assert left == {f"{draft.url}/movements"}, "what comes after a final invoice, and nothing of the draft's"
    with Session(site.engine) as session:
        assert all(result.holds for result in run_checks(session, CHECKS))


def test_a_final_invoice_is_not_adjusted_from_an_old_tab(draft: Draft, agent: Desk) -> None:
    stale = charge_form(agent, draft)
    agent.submit(draft.url, f"{draft.url}/finalization")
    answer = agent.send(stale, amount="5", description="Support", reason="Agreed")
    assert answer.status_code == 409
    page = Page(answer.text)
    assert "agent@demo.test: finalized" in page.text
    assert "You had typed: “Support”, “5”, “Agreed”." in page.text
    assert draft.view.invoice.total == 22


def test_what_credits_changed_meanwhile_is_not_finalized_unseen(site: Site, draft: Draft, agent: Desk) -> None:
    form = agent.page(draft.url).form(f"{draft.url}/finalization")
    with Session(site.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=draft.customer_id,
            grant_id=draft.invoice_id,
            account=CREDITS_PROMOTIONAL,
            amount=Decimal(20),
            reason="Launch",
            actor="test",
            now=at("2025-07-02"),
        )
    answer = agent.send(form)
    assert answer.status_code == 409
    page = Page(answer.text)
    assert "something else would happen now" in page.text
    assert "20.00 USD of promotional credit is used up." in page.text
    assert draft.view.invoice.state == "draft"
    agent.follow(agent.send(page.form(f"{draft.url}/finalization")))
    assert draft.view.invoice.amount_due == 2


def test_what_is_too_small_is_announced_as_carried_forward(site: Site, agent: Desk) -> None:
    draft = site.draft("Tiny", quantity="1000")
    page = agent.page(draft.url)
    assert "carried forward to the customer's next period" in page.text
    assert "0.0022 USD" in page.text
    page = agent.follow(agent.submit(draft.url, f"{draft.url}/finalization"))
    assert draft.view.invoice.state == "carried_forward"
    assert "Nothing was to be collected." in page.text


def test_a_draft_with_nothing_left_is_closed_without_an_invoice(draft: Draft, agent: Desk) -> None:
    agent.submit(draft.line_url, f"{draft.url}/adjustments", {"kind": "waive"}, reason="All")
    assert "closed without an invoice" in agent.page(draft.url).text
    agent.follow(agent.submit(draft.url, f"{draft.url}/finalization"))
    assert draft.view.invoice.state == "empty"


def test_a_parked_sync_is_tried_again_under_a_name(site: Site, draft: Draft, agent: Desk) -> None:
    agent.submit(draft.url, f"{draft.url}/finalization")
    with Session(site.engine) as session, session.begin():
        row = session.get_one(StripeSync, (draft.customer_id, draft.invoice_id))
        row.state, row.last_error, row.last_code = "parked", "Stripe refused: <no e-mail>", "stripe_refused"
    assert draft.view.invoice.number
    home = agent.page("/support/")
    assert draft.view.invoice.number in home.text
    assert "Stripe refused: <no e-mail>" in home.text
    page = agent.follow(agent.submit(draft.url, f"{draft.url}/sync_retry"))
    assert "The sync is due now." in page.text
    assert draft.view.history[-1].action == "sync to be tried again"
    assert draft.view.history[-1].actor == "agent@demo.test"


def test_a_hosted_page_that_does_not_exist_yet_is_said(draft: Draft, agent: Desk) -> None:
    page = agent.follow(agent.get(f"{draft.url}/hosted_page"))
    assert "has no page at the provider" in page.text


def test_a_form_without_a_kind_or_version_is_refused(draft: Draft, agent: Desk) -> None:
    form = charge_form(agent, draft)
    assert agent.send(form, kind="gift").status_code == 422
    answer = agent.send(form, version="one", amount="5", description="Support", reason="Agreed")
    assert answer.status_code == 422
    assert "The form is incomplete: reload the page." in Page(answer.text).text
    form = agent.page(draft.line_url).form(f"{draft.url}/adjustments", kind="waive")
    answer = agent.send(form, line_id=str(draft.invoice_id), reason="Sorry")
    assert answer.status_code == 409
    assert "The draft has no such line" in Page(answer.text).text


def test_the_same_form_of_another_person_is_no_double_click(site: Site, draft: Draft, agent: Desk) -> None:
    other = site.desk("admin@demo.test")
    typed = {"amount": "5.00", "description": "Support", "reason": "Agreed"}
    theirs, ours = charge_form(other, draft), charge_form(agent, draft)
    agent.send(ours, **typed)
    assert other.send(theirs, **typed).status_code == 409
    assert draft.view.exact_total == 27


@pytest.fixture
def with_late_usage(site: Site) -> Draft:
    """
    2025-05-05  10,000,000 s  May's draft
    2025-06-10   1,000,000 s  June
    2025-05-20   2,000,000 s  late: May was closed by then
    """
    customer = site.customer("Late")
    site.use("Late", "2025-05-05", "10000000")
    site.close("2025-06-01")
    site.use("Late", "2025-06-10", "1000000")
    site.use("Late", "2025-05-20", "2000000")
    site.close("2025-07-01")
    with Session(site.engine) as session:
        june, _may = list_invoices(session, customer_id=customer)
    return Draft(site, customer, june.id)


def test_late_usage_has_a_line_and_entries_of_its_own(with_late_usage: Draft, agent: Desk) -> None:
    draft = with_late_usage
    lines = {line.description: line.id for line in draft.view.lines}
    assert set(lines) == {"Machine", "Machine (late, used in May 2025)"}
    for description, quantity, day in (
        ("Machine", "1,000,000", "10 Jun 2025"),
        ("Machine (late, used in May 2025)", "2,000,000", "20 May 2025"),
    ):
        page = agent.page(f"{draft.url}/lines/{lines[description]}")
        assert f"{quantity} seconds at" in page.text
        assert "1 entry adds up to" in page.text
        assert day in page.text
        assert page.text.count("Usage machine") == 1


def test_waiving_another_line_with_the_same_words_is_no_double_click(with_late_usage: Draft, agent: Desk) -> None:
    draft = with_late_usage
    first, second = (
        agent.page(f"{draft.url}/lines/{line.id}").form(f"{draft.url}/adjustments", kind="waive")
        for line in draft.view.lines
    )
    assert agent.send(first, reason="Sorry").status_code == 303
    assert agent.send(second, reason="Sorry").status_code == 409
    assert len(draft.view.adjustments) == 1
