"""Bank transfers: lines that a person assigns or sets aside, and money that a person transfers back."""

from datetime import date
from decimal import Decimal
from uuid import UUID

import pytest
import redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.manual.bank_files import StatementLine
from invoicing.manual.bank_lines import take_line
from invoicing.manual.tables import BankLine
from invoicing.movements.tables import Refund
from invoicing.settings import Settings
from tests.support_ui.conftest import Desk, Page, PageForm, Site, at
from tests.support_ui.final import Final, final


def line(site: Site, amount: str = "22", *, reference: str = "thank you", payer: str = "Northwind Ltd") -> UUID:
    with Session(site.engine) as session, session.begin():
        taken = take_line(
            session,
            StatementLine(f"{amount} {reference}", date(2025, 7, 9), Decimal(amount), "USD", payer, reference),
            account="main",
            provider=site.app.extensions["billing"].providers,
            settings=Settings(),
            actor="test",
            now=at("2025-07-10"),
        )
        assert taken is not None
        return taken.id


def stored(site: Site, line_id: UUID) -> BankLine:
    with Session(site.engine, expire_on_commit=False) as session:
        return session.get_one(BankLine, line_id)


def paid_by_transfer(site: Site, desk: Desk) -> tuple[Final, Refund]:
    """An invoice whose payment came by transfer, eight dollars too much, which are to go back."""
    invoice = final(site)
    invoice.pay("30", "NTRF 7", provider="manual")
    desk.follow(desk.send(invoice.form(desk, "refund_unapplied"), False, reason="Asked for it"))
    with Session(site.engine, expire_on_commit=False) as session:
        return invoice, session.scalars(select(Refund)).one()


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def test_with_nothing_to_do_the_page_says_so(agent: Desk) -> None:
    assert "No line waits for you." in agent.page("/support/bank").text
    assert "No line is in this state." in agent.page("/support/bank?state=settled").text


def test_a_line_that_names_no_invoice_is_settled_by_a_person(site: Site, agent: Desk) -> None:
    invoice = final(site)
    line_id = line(site)
    page = agent.page("/support/bank")
    assert "22.00 USD on 9 Jul 2025 from Northwind Ltd" in page.text
    assert "The reference names no invoice of ours." in page.text
    form = page.form(f"/support/bank/lines/{line_id}/settlement")
    number = invoice.invoice.number or ""
    done = agent.follow(agent.send(form, False, invoice_number=number.lower(), reason="They wrote to us"))
    assert "The payment is booked." in done.text
    assert invoice.invoice.state == "paid"
    settled = agent.page("/support/bank?state=settled")
    assert f"Paid {number} of Northwind" in settled.text
    assert "They wrote to us" in settled.text
    assert invoice.url in settled.links
    again = agent.send(form, False, invoice_number=number, reason="They wrote to us")
    assert again.status_code == 409
    assert "decided" in Page(again.text).text or "already" in Page(again.text).text
    assert invoice.balance("assets:bank") == 22


def test_stripe_is_told_at_once_that_an_invoice_of_its_own_was_paid_by_transfer(
    site: Site, agent: Desk, redis_url: str
) -> None:
    invoice = final(site)
    line_id = line(site)
    form = agent.page("/support/bank").form(f"/support/bank/lines/{line_id}/settlement")
    done = agent.follow(agent.send(form, False, invoice_number=invoice.invoice.number or "", reason="They wrote to us"))
    assert "Stripe is told to collect no more." in done.text
    with redis.Redis.from_url(redis_url) as bell:
        rung = [key.decode() for key in bell.lrange("rq:queue:billing", 0, -1)]
    assert rung == [f"operation-{invoice.customer_id}-{line_id}"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"invoice_number": "NONE-0001"}, "There is no invoice 'NONE-0001'. Check the number."),
        ({"invoice_number": ""}, "Give the invoice's number."),
        ({"reason": ""}, "Say why"),
    ],
    ids=["a wrong number", "no number", "no reason"],
)
def test_a_line_that_cannot_be_settled_so_stays_open_and_keeps_what_was_typed(
    site: Site, agent: Desk, typed: dict[str, str], said: str
) -> None:
    invoice = final(site)
    line_id = line(site)
    target = f"/support/bank/lines/{line_id}/settlement"
    right = {"invoice_number": invoice.invoice.number or "", "reason": "They wrote to us"}
    for fragment in (False, True):
        answer = agent.send(agent.page("/support/bank").form(target), fragment, **{**right, **typed})
        assert answer.status_code == 422
        page = Page(answer.text)
        assert said in page.text
        fields = page.form(target).fields
        assert {name: fields[name] for name in right} == {**right, **typed}
    assert stored(site, line_id).state == "open"


def test_a_line_is_set_aside_with_a_reason_once(site: Site, agent: Desk) -> None:
    line_id = line(site, "-9.90", reference="bank fee")
    page = agent.page("/support/bank")
    assert not [form for form in page.forms if form.action.endswith("/settlement")], "money that went out pays nothing"
    form = page.form(f"/support/bank/lines/{line_id}/setting-aside")
    assert agent.send(form, False, reason=" ").status_code == 422
    assert "The line is set aside." in agent.follow(agent.send(form, False, reason="The bank's own fee")).text
    assert agent.send(form, False, reason="Another reason").status_code == 409
    found = stored(site, line_id)
    assert (found.state, found.decided_by, found.note) == ("set_aside", "agent@demo.test", "The bank's own fee")


def test_money_to_be_transferred_back_is_listed_until_somebody_did_it(site: Site, agent: Desk) -> None:
    invoice, refund = paid_by_transfer(site, agent)
    page = agent.page("/support/bank")
    assert "To be transferred back" in page.text
    assert "8.00 USD to Northwind" in page.text
    form = page.form(f"/support/bank/transfers/{invoice.customer_id}/{refund.id}")
    refused = agent.send(form, False, reference="")
    assert refused.status_code == 422
    assert "Give the transfer's reference at the bank." in Page(refused.text).text
    done = agent.follow(agent.send(form, False, reference="OUT 11"))
    assert "The refund is booked." in done.text
    assert "To be transferred back" not in done.text
    assert invoice.balance("assets:bank") == 22
    again = agent.send(form, True, reference="OUT 12")
    assert (again.status_code, again.headers["X-Fragment"]) == (409, "1")
    assert "it was settled already" in Page(again.text).text
    assert "Sent back" in agent.page(invoice.url).text


def test_a_viewer_sees_all_of_it_and_decides_nothing(site: Site, agent: Desk) -> None:
    invoice, refund = paid_by_transfer(site, agent)
    line_id = line(site)
    viewer = site.desk("viewer@demo.test")
    page = viewer.page("/support/bank")
    assert "8.00 USD to Northwind" in page.text
    assert "from Northwind Ltd" in page.text
    token = next(form.fields["csrf_token"] for form in page.forms if "csrf_token" in form.fields)
    for path, typed in (
        (f"/support/bank/lines/{line_id}/settlement", {"invoice_number": "x", "reason": "x"}),
        (f"/support/bank/lines/{line_id}/setting-aside", {"reason": "x"}),
        (f"/support/bank/transfers/{invoice.customer_id}/{refund.id}", {"reference": "x"}),
    ):
        assert not [form for form in page.forms if form.action == path]
        assert viewer.send(PageForm("post", path, {"csrf_token": token}), False, **typed).status_code == 403
