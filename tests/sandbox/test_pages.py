"""The pages for people: lists with buttons for what banks do, the hosted invoice and the customer portal."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.stories import charge_of

Make = Callable[..., Any]
_FORM = re.compile(r'<form[^>]*action="([^"]+)"[^>]*>(.*?)</form>', re.DOTALL)


def _press(sandbox: SandboxProcess, page: str, button: str) -> str:
    """Press the first button of that text on a page; returns the page that comes after."""
    html = requests.get(f"{sandbox.url}{page}", timeout=10).text
    for address, inside in _FORM.findall(html):
        found = re.search(r"<button([^>]*)>" + re.escape(button) + "</button>", inside)
        if found:
            fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', inside))
            fields.update(re.findall(r'name="([^"]+)" value="([^"]*)"', found[1]))
            answer = requests.post(f"{sandbox.url}{unescape(address)}", data=fields, timeout=10)
            assert answer.ok, answer.text
            return answer.text
    raise AssertionError(f"no button {button!r} on {page}")


@pytest.fixture
def charge(sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make) -> stripe.Charge:
    someone = customer()
    final(someone.id, 1500)
    return charge_of(sandbox, client, someone.id)


def test_the_banks_buttons_move_disputes_refunds_and_payouts(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: stripe.Charge
) -> None:
    refund = client.v1.refunds.create({"charge": charge.id, "amount": 100})
    assert "failed" in _press(sandbox, "/refunds", "Fails")
    assert client.v1.refunds.retrieve(refund.id).status == "failed"
    assert "needs response" in _press(sandbox, "/payments", "Dispute")
    assert _press(sandbox, "/disputes", "Lost").count("Won after all") == 1
    _press(sandbox, "/disputes", "Won after all")
    assert [dispute.status for dispute in client.v1.disputes.list().data] == ["won"]
    _press(sandbox, "/payments", "Ask")
    assert client.v1.disputes.list().data[0].status == "warning_needs_response"
    _press(sandbox, "/disputes", "Escalate")
    _press(sandbox, "/payments", "Suspect fraud")
    sandbox.set(dispute_fee_minor=0)
    sandbox.post("disputes", charge=charge.id, status="prevented")
    dispute = client.v1.disputes.list().data[1]
    sandbox.post(f"disputes/{dispute.id}", status="won")
    sandbox.advance(3 * 86400)
    refused = requests.post(f"{sandbox.url}/act/payouts", timeout=10)
    assert (refused.status_code, "Nothing is available" in refused.text) == (400, True)
    client.v1.payment_intents.create(
        {"amount": 5000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    )
    sandbox.advance(3 * 86400)
    assert "paid" in _press(sandbox, "/payouts", "Pay out what is available")
    assert "account closed" in _press(sandbox, "/payouts", "Fails")


def test_a_customer_pays_on_the_hosted_page_and_sees_it_in_the_portal(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    someone = customer("pm_card_mastercard")
    invoice = final(someone.id, 1200, auto_advance=False)
    hosted = str(invoice.hosted_invoice_url).removeprefix(sandbox.url)
    assert "the last payment failed" in _press(sandbox, hosted, "Pay with a declining card")
    assert "Paid on" in _press(sandbox, hosted, "Pay with a working card")
    session = client.v1.billing_portal.sessions.create(
        {"customer": someone.id, "return_url": "https://demo.test/billing"}
    )
    portal = session.url.removeprefix(sandbox.url)
    assert "Visa ending in 4242" in _press(sandbox, portal, "Add a working card")
    changed = _press(sandbox, portal, "Make it the default")
    assert (str(invoice.number) in changed, "paid" in changed) == (True, True)
    default = client.v1.customers.retrieve(someone.id).invoice_settings
    assert default is not None
    assert default.default_payment_method == someone.invoice_settings.default_payment_method


def test_every_list_shows_what_there_is(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: stripe.Charge, final: Make
) -> None:
    invoice = final(str(charge.customer), 900, auto_advance=False)
    note = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 100})
    assert str(note.number) in requests.get(f"{sandbox.url}/credit_notes", timeout=10).text
    assert note.id in requests.get(note.pdf, timeout=10).text
    for page in ("/", "/invoices", "/customers", "/payments", "/refunds", "/disputes", "/payouts", "/events"):
        answer = requests.get(f"{sandbox.url}{page}", timeout=10)
        assert answer.ok, page
        assert "width=device-width" in answer.text
    assert requests.post(f"{sandbox.url}/act/nonsense/x/y", timeout=10).status_code == 404
