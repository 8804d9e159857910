"""What staff begin with a final invoice: told before, done once, approved by a second person, followed to its end."""

from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements.requests import movement_refused
from invoicing.movements.tables import CreditNote, Refund, Task
from invoicing.movements.tasks import open_tasks
from stripe_gateway.tables import StripeOperation
from tests.support_ui.conftest import Desk, Page, PageForm, Site, at
from tests.support_ui.final import agreed, final


def tasks_of(site: Site) -> list[Task]:
    with Session(site.engine, expire_on_commit=False) as session:
        return open_tasks(session)


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def test_a_draft_offers_nothing_of_it(site: Site, agent: Desk) -> None:
    draft = site.draft()
    assert "After it was final" not in agent.page(draft.url).text


def test_a_viewer_follows_what_happens_and_begins_nothing(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("22")
    agreed(agent, invoice, "credit_note", {"amount": "5", "paid_part": "keep", "reason": "Outage"})
    viewer = site.desk("viewer@demo.test")
    page = viewer.page(invoice.url)
    assert "Since it was final" in page.text
    assert "After it was final" not in page.text
    assert [form for form in page.forms if form.action.startswith(invoice.url)] == []
    forged = agent.page(invoice.url).form(invoice.target, kind="credit_note")
    csrf = page.forms[0].fields.get("csrf_token") or page.forms[-1].fields["csrf_token"]
    refused = viewer.send(forged, False, csrf_token=csrf, amount="1", reason="x")
    assert refused.status_code in (400, 403)
    assert invoice.count(CreditNote) == 1


def test_a_credit_note_says_first_what_becomes_of_every_cent(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("10")
    form = invoice.form(agent, "credit_note")
    announced = agent.send(form, False, amount="15.50", paid_part="refund", reason="Outage in June")
    page = Page(announced.text)
    assert announced.status_code == 200
    assert "12.00 USD that are open are not owed any more. Nothing stays open: the invoice is paid." in page.text
    assert "3.50 USD go back through Stripe, to where the payment of 5 Jul 2025 came from." in page.text
    assert "The processing fee that Stripe kept does not come back." in page.text
    assert "Nothing was done yet." in page.text
    assert invoice.movements == []
    agree = page.form(invoice.target, kind="credit_note")
    assert (agree.fields["amount"], agree.fields["reason"]) == ("15.50", "Outage in June")
    done = agent.follow(agent.send(agree))
    assert "Begun. How far it is stands below." in done.text
    assert f"{invoice.invoice.number}-C1" in done.text
    assert "12.00 USD not owed any more" in done.text
    assert "3.50 USD to be sent back" in done.text
    assert (invoice.invoice.state, invoice.invoice.amount_credited) == ("paid", Decimal(12))
    with Session(site.engine) as session:
        kinds = session.scalars(select(StripeOperation.kind).order_by(StripeOperation.kind)).all()
    assert kinds == ["credit_note", "refund"], "both are asked of Stripe"


def test_another_amount_than_was_announced_is_announced_again(site: Site, agent: Desk) -> None:
    invoice = final(site)
    first = Page(agent.send(invoice.form(agent, "credit_note"), False, amount="2", reason="Outage").text)
    again = agent.send(first.form(invoice.target, kind="credit_note"), False, amount="20")
    assert again.status_code == 200
    assert "20.00 USD that are open are not owed any more. 2.00 USD stay open." in Page(again.text).text
    assert invoice.movements == []


def test_a_double_click_does_it_once(site: Site, agent: Desk) -> None:
    invoice = final(site)
    page = Page(agent.send(invoice.form(agent, "credit_note"), False, amount="2", reason="Outage").text)
    form = page.form(invoice.target, kind="credit_note")
    assert "Begun" in agent.follow(agent.send(form)).text
    assert "it was not done twice" in agent.follow(agent.send(form)).text
    assert (invoice.count(CreditNote), invoice.invoice.amount_credited) == (1, Decimal(2))
    other = agent.send(form, False, amount="3")
    assert other.status_code == 409
    assert "was asked for before with other content" in Page(other.text).text


def test_what_changed_meanwhile_is_told_and_nothing_is_done(site: Site, agent: Desk) -> None:
    invoice = final(site)
    page = Page(agent.send(invoice.form(agent, "credit_note"), False, amount="2", reason="Outage").text)
    invoice.pay("22")
    refused = agent.send(page.form(invoice.target, kind="credit_note"))
    text = Page(refused.text).text
    assert refused.status_code == 409
    assert "The invoice changed after you opened it" in text
    assert "test: paid 22.00 USD" in text
    kept = Page(refused.text).form(invoice.target, kind="credit_note")
    assert (kept.fields["amount"], kept.fields["reason"]) == ("2", "Outage")
    assert invoice.movements == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"amount": "", "reason": "x"}, "Write the amount as a number above 0"),
        ({"amount": "1.234", "reason": "x"}, "at most 2 decimals in USD"),
        ({"amount": "23", "reason": "x"}, "to credit; 23 are too much."),
        ({"amount": "1", "reason": " "}, "Say why"),
        ({"amount": "1", "reason": "x", "movement_id": "mine"}, "Not a valid UUID"),
    ],
    ids=["no amount", "a third of a cent", "too much", "no reason", "no id"],
)
def test_what_cannot_be_is_refused_with_the_form_filled_in(
    site: Site, agent: Desk, typed: dict[str, str], said: str
) -> None:
    invoice = final(site)
    for fragment in (False, True):
        answer = agent.send(invoice.form(agent, "credit_note"), fragment, **typed)
        assert answer.status_code == 422
        assert said in Page(answer.text).text
        form = Page(answer.text).form(invoice.target, kind="credit_note")
        assert form.fields["amount"] == typed["amount"].strip()
    assert invoice.movements == []


def test_htmx_gets_the_same_form_as_a_fragment(site: Site, agent: Desk) -> None:
    invoice = final(site)
    answer = agent.send(invoice.form(agent, "write_off"), True, reason="Bankrupt")
    assert (answer.status_code, answer.headers["X-Fragment"]) == (200, "1")
    assert "<html" not in answer.text
    assert "Begun" in Page(answer.text).text
    assert [movement.kind for movement in invoice.movements] == ["write_off"]


def test_a_large_one_waits_for_somebody_else(site: Site, agent: Desk) -> None:
    invoice = final(site, quantity="100000000")
    form = invoice.form(agent, "write_off")
    assert form.fields["announced"]
    page = agent.page(invoice.url)
    assert "It is more than 100.00 USD: nothing of this happens before a second person approves it." in page.text
    asked = agent.follow(agent.send(form, False, reason="Bankrupt"))
    assert "Asked for. Nothing happens before a second person approves it." in asked.text
    [movement] = invoice.movements
    approval = f"{invoice.target}/{movement.id}/approval"
    assert not [one for one in asked.forms if one.action == approval], "an agent approves nothing"
    approver = site.desk("approver@demo.test")
    home = approver.page("/support/")
    assert "1 awaiting approval" in home.text
    assert f"{invoice.url}#since" in home.links
    assert "Bankrupt" in home.text
    done = approver.follow(approver.submit(invoice.url, approval))
    assert "Approved." in done.text
    assert [(one.state, one.approved_by) for one in invoice.movements] == [("working", "approver@demo.test")]
    assert "0 awaiting approval" in approver.page("/support/").text


def test_nobody_approves_what_they_asked_for(site: Site) -> None:
    invoice = final(site, quantity="100000000")
    approver = site.desk("approver@demo.test")
    approver.follow(approver.send(invoice.form(approver, "write_off"), False, reason="Bankrupt"))
    [movement] = invoice.movements
    page = approver.page(invoice.url)
    assert "Somebody else must approve it." in page.text
    withdrawal = page.form(f"{invoice.target}/{movement.id}/withdrawal")
    forged = PageForm("post", f"{invoice.target}/{movement.id}/approval", withdrawal.fields)
    assert approver.send(forged).status_code == 403
    assert invoice.movements[0].state == "awaiting_approval"


def test_what_waits_can_be_withdrawn_with_a_reason(site: Site, agent: Desk) -> None:
    invoice = final(site, quantity="100000000")
    agent.follow(agent.send(invoice.form(agent, "write_off"), False, reason="Bankrupt"))
    [movement] = invoice.movements
    target = f"{invoice.target}/{movement.id}/withdrawal"
    refused = agent.submit(invoice.url, target, reason=" ")
    assert refused.status_code == 422
    assert "Say why" in Page(refused.text).text or "reason" in Page(refused.text).text
    done = agent.follow(agent.submit(invoice.url, target, reason="They paid after all"))
    assert "Withdrawn: nothing happened." in done.text
    assert "They paid after all" in done.text
    assert invoice.movements[0].state == "withdrawn"


def test_a_credit_note_that_became_void_is_struck_and_says_why(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("22")
    invoice.refunded_at_stripe("5", "succeeded")
    stands = agent.page(invoice.url)
    assert "5.00 USD to be sent back" in stands.text
    invoice.refunded_at_stripe("5", "failed")
    page = agent.page(invoice.url)
    assert f"{invoice.invoice.number}-C1" in page.text
    assert "The refund re_dashboard that it was issued for did not arrive" in page.text
    assert "to be sent back" not in page.text
    assert '<s><span class="money">5.00 ' in agent.get(invoice.url).text
    [task] = [one for one in tasks_of(site) if one.kind == "refund_failed"]
    assert f"Credit note {invoice.invoice.number}-C1 over 5, which had been issued for it, is void." in task.text


def test_while_an_ending_is_under_way_nothing_else_is_offered(site: Site, agent: Desk) -> None:
    invoice = final(site)
    stale = invoice.form(agent, "credit_note")
    agent.follow(agent.send(invoice.form(agent, "void", then="rebill"), False, reason="Wrong customer"))
    page = agent.page(invoice.url)
    assert "Nothing else can begin while this is under way: void, asked for by agent@demo.test." in page.text
    refused = agent.send(stale, False, amount="1", reason="x", version=str(invoice.invoice.version))
    assert refused.status_code in (409, 200)
    assert len(invoice.movements) == 1


def test_voiding_says_what_becomes_of_the_charges(site: Site, agent: Desk) -> None:
    invoice = final(site)
    text = agent.page(invoice.url).text
    assert f"Invoice {invoice.invoice.number} over 22.00 USD becomes void, once Stripe has confirmed it" in text
    assert "Its charges go on a new draft" in text
    assert "Its charges are given up: 22.00 USD are never billed." in text
    invoice.pay("1")
    assert "Void it" not in agent.page(invoice.url).text, "money came: only a credit note is left"


def test_money_beyond_what_was_due_goes_back_or_is_kept(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("30")
    text = agent.page(invoice.url).text
    assert "The customer's, unused 8.00 USD" in text
    agent.follow(agent.send(invoice.form(agent, "refund_unapplied"), False, reason="Asked for it", amount="8.00"))
    assert invoice.count(Refund) == 1
    page = agent.page(invoice.url)
    assert "Through Stripe" in page.text
    assert "8.00 USD of it sent back, or about to be" in page.text
    assert not [form for form in page.forms if form.fields.get("kind") == "keep_unapplied"]


def test_kept_money_becomes_prepaid_credit_at_once(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("30")
    page = agent.follow(agent.send(invoice.form(agent, "keep_unapplied"), False, reason="As agreed"))
    assert "Done." in page.text
    assert invoice.balance("liabilities:credits:prepaid") == 8
    movement = invoice.movements[0]
    entry = next(link for link in page.links if "/entries/" in link)
    assert "Unused money kept as credit" in page.text
    assert movement.state == "done"
    assert agent.page(entry).text


def test_money_that_a_dispute_may_take_is_not_offered_and_the_page_says_where_to_look(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("30")
    typed = {"amount": "5.00", "paid_part": "keep", "reason": "Outage in June"}
    assert {"refund_unapplied", "keep_unapplied"} <= {form.fields.get("kind") for form in agent.page(invoice.url).forms}
    invoice.dispute()
    page = agent.page(invoice.url)
    assert "The customer's, unused 8.00 USD 0.00 USD of it can be moved; see the disputes" in page.text
    assert not {"refund_unapplied", "keep_unapplied"} & {form.fields.get("kind") for form in page.forms}
    answer = agent.send(invoice.form(agent, "credit_note"), False, **typed)
    assert "0 USD of what was paid for invoice" in Page(answer.text).text
    assert "Dispute dp_1 has to be decided first." in Page(answer.text).text
    assert invoice.movements == []


def test_a_payment_that_came_another_way_is_in_the_books_at_once(site: Site, agent: Desk) -> None:
    invoice = final(site)
    typed = {"amount": "22.00", "received_on": "2025-07-09", "reference": "NTRF 4711", "reason": "On the statement"}
    page = agent.send(invoice.form(agent, "outside_payment"), False, **typed)
    told = Page(page.text).text
    assert "22.00 USD are booked as received in our bank account on 9 Jul 2025 (UTC): the invoice is paid." in told
    assert "marked there as paid outside Stripe" in told
    agent.follow(agent.send(Page(page.text).form(invoice.target, kind="outside_payment")))
    assert invoice.invoice.state == "paid"
    assert invoice.balance("assets:bank") == 22


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"received_on": "2125-07-09"}, "That day has not come yet."),
        ({"received_on": "2024-07-09"}, "before the time that the invoice is about"),
        ({"received_on": "9.7.2025"}, "Give the day as in 2025-07-31."),
        ({"reference": ""}, "Give the bank's reference"),
        ({"amount": "21.99"}, "too little"),
    ],
    ids=["tomorrow", "long ago", "no day", "no reference", "too little"],
)
def test_an_outside_payment_that_cannot_be_is_refused(
    site: Site, agent: Desk, typed: dict[str, str], said: str
) -> None:
    invoice = final(site)
    right = {"amount": "22.00", "received_on": "2025-07-09", "reference": "NTRF 4711", "reason": "On the statement"}
    answer = agent.send(invoice.form(agent, "outside_payment"), False, **{**right, **typed})
    assert answer.status_code == 422
    assert said in Page(answer.text).text
    assert invoice.movements == []


def test_a_dispute_is_shown_and_can_be_accepted(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("22")
    invoice.dispute()
    text = agent.page(invoice.url).text
    assert "Needs a response in dispute" in text
    assert "It is lost at once: neither the money nor the dispute fee comes back. This cannot be undone." in text
    agent.follow(agent.send(invoice.form(agent, "accept_dispute", dispute="dp_1"), False, reason="They are right"))
    assert [(one.kind, one.options) for one in invoice.movements] == [("accept_dispute", {"dispute": "dp_1"})]


def test_a_refund_that_waits_for_a_dispute_says_so(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("22")
    invoice.dispute()
    answer = agent.send(invoice.form(agent, "credit_note"), False, amount="5", paid_part="refund", reason="x")
    assert answer.status_code == 422
    assert "Dispute dp_1 has to be decided first." in Page(answer.text).text


def test_how_far_stripe_is_stands_beside_it_and_can_be_tried_again(site: Site, agent: Desk) -> None:
    invoice = final(site)
    agent.follow(agent.send(invoice.form(agent, "write_off"), False, reason="Bankrupt"))
    [movement] = invoice.movements
    assert "Waiting to be sent" in agent.page(invoice.url).text
    with Session(site.engine) as session, session.begin():
        operation = session.get_one(StripeOperation, (invoice.customer_id, movement.id))
        operation.state, operation.last_error = "parked", "Stripe says that this invoice is another account's."
    page = agent.page(invoice.url)
    assert "Needs a person" in page.text
    assert "this invoice is another account's" in page.text
    retry = f"{invoice.url}/operations/{movement.id}/retry"
    assert "It is due now." in agent.follow(agent.submit(invoice.url, retry)).text
    with Session(site.engine) as session:
        assert session.get_one(StripeOperation, (invoice.customer_id, movement.id)).state == "due"
    gone = PageForm("post", f"{invoice.url}/operations/{uuid4()}/retry", page.form(retry).fields)
    assert agent.send(gone).status_code == 409


def test_what_was_refused_stays_in_sight_with_its_reason(site: Site, agent: Desk) -> None:
    invoice = final(site)
    agent.follow(agent.send(invoice.form(agent, "write_off"), False, reason="Bankrupt"))
    with Session(site.engine) as session, session.begin():
        movement_refused(
            session,
            customer_id=invoice.customer_id,
            movement_id=invoice.movements[0].id,
            code="invoice_paid",
            reason="It is paid at Stripe.",
            now=at("2025-07-20"),
        )
        assert len(open_tasks(session, limit=5)) == 1
    text = agent.page(invoice.url).text
    assert "Refused It is paid at Stripe." in text.replace("  ", " ")
    assert invoice.form(agent, "write_off").fields["announced"], "it can be begun anew"
