"""Past invoices: their state in plain words, their lines, and the way to the provider."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing.adjustments import add_charge, approve
from invoicing.credit.grants import grant_credit
from invoicing.drafts import get_invoice, hold
from invoicing.payments import record_payment, record_payment_failure
from invoicing.settings import Settings
from ledger import accounts
from tests.panel.conftest import Site, at


@pytest.fixture
def october(site: Site) -> UUID:
    """acme's October: 40.004 on machines of two apps, 0.30 on a volume; still a draft, and the panel is open."""
    site.customer("acme")
    site.use("acme", "2026-10-03", "30.001", item="machine", app="web", region="ams", quantity="3600", unit="second")
    site.use("acme", "2026-10-20", "10.003", item="machine", app="api", region="fra", quantity="1800", unit="second")
    site.use("acme", "2026-10-20", "0.30", item="volume", app="web", region="ams", quantity="2", unit="GB-month")
    site.close("2026-11-01")
    site.open("acme")
    return site.invoice_id("acme", "2026-10")


def _pay(site: Site, invoice_id: UUID, amount: str) -> None:
    with Session(site.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=get_customer_id(site, invoice_id),
            invoice_id=invoice_id,
            provider="remembering",
            external_id=f"payment of {amount}",
            amount=Decimal(amount),
            received_at=at("2026-11-04T10:00"),
            actor="test",
            now=site.now,
        )


def get_customer_id(site: Site, invoice_id: UUID) -> UUID:
    return site.provider.orders[invoice_id].customer_id


def test_a_draft_reads_as_being_prepared(site: Site, october: UUID) -> None:
    text = site.text(f"/billing/invoices/{october}")
    assert "October 2026 Being prepared" in text
    assert "Total so far $40.30" in text
    assert "Pay" not in text.replace("Payment methods", "")


def test_a_held_draft_reads_like_any_other(site: Site, october: UUID) -> None:
    customer_id = site.customer("acme")
    before = site.text(f"/billing/invoices/{october}")
    with Session(site.engine) as session, session.begin():
        hold(
            session,
            customer_id=customer_id,
            invoice_id=october,
            expected_version=1,
            reason="suspicious",
            actor="agent@demo.test",
            now=site.now,
        )
    assert site.text(f"/billing/invoices/{october}") == before


def test_support_and_its_reasons_stay_inside(site: Site, october: UUID) -> None:
    customer_id = site.customer("acme")
    with Session(site.engine) as session, session.begin():
        add_charge(
            session,
            customer_id=customer_id,
            invoice_id=october,
            expected_version=1,
            amount=Decimal("5"),
            description="Priority support",
            reason="asked on the telephone",
            actor="agent@demo.test",
            settings=Settings(),
            now=site.now,
        )
    text = site.text(f"/billing/invoices/{october}")
    assert "Priority support Adjusted by support" in text
    assert "telephone" not in text
    assert "agent@" not in text


def test_a_charge_that_awaits_a_second_person_is_not_shown_yet(site: Site, october: UUID) -> None:
    customer_id = site.customer("acme")
    with Session(site.engine) as session, session.begin():
        charge_id = add_charge(
            session,
            customer_id=customer_id,
            invoice_id=october,
            expected_version=1,
            amount=Decimal("25000"),
            description="A slip of the keyboard",
            reason="meant 250",
            actor="agent@demo.test",
            settings=Settings(),
            now=site.now,
        ).id
    for path in ("/billing/invoices", f"/billing/invoices/{october}"):
        text = site.text(path)
        assert "$40.30" in text
        assert "keyboard" not in text
    with Session(site.engine) as session, session.begin():
        approve(
            session,
            customer_id=customer_id,
            invoice_id=october,
            expected_version=2,
            adjustment_id=charge_id,
            actor="approver@demo.test",
            now=site.now,
        )
    for path in ("/billing/invoices", f"/billing/invoices/{october}"):
        assert "$25,040.30" in site.text(path)


def test_a_final_invoice_can_be_paid(site: Site, october: UUID) -> None:
    site.finalize("acme", "2026-10", on="2026-11-02")
    site.provider.pages[october] = "https://provider.test/invoice"
    assert "You owe $40.30 now" in site.text("/billing/")
    text = site.text(f"/billing/invoices/{october}")
    assert "October 2026 Due" in text
    assert "Pay $40.30" in text
    answer = site.client.get(f"/billing/invoices/{october}/payment")
    assert (answer.status_code, answer.location) == (303, "https://provider.test/invoice")


def test_a_failed_payment_is_said_plainly(site: Site, october: UUID) -> None:
    site.finalize("acme", "2026-10", on="2026-11-02")
    with Session(site.engine) as session, session.begin():
        record_payment_failure(
            session,
            customer_id=get_customer_id(site, october),
            invoice_id=october,
            provider="remembering",
            external_id="attempt 1",
            attempt=1,
            code="card_declined",
            message="Your card has insufficient funds.",
            failed_at=at("2026-11-03T10:00"),
            next_attempt_at=at("2026-11-06T10:00"),
        )
    text = site.text(f"/billing/invoices/{october}")
    assert "Payment failed" in text
    assert "The payment on Nov 3, 2026 failed: Your card has insufficient funds." in text
    assert "The next attempt is on Nov 6, 2026." in text
    assert "Payment failed" in site.text("/billing/invoices")
    assert 'class="notice bad"' in site.get("/billing/")


def test_a_paid_invoice_says_when(site: Site, october: UUID) -> None:
    site.finalize("acme", "2026-10", on="2026-11-02")
    _pay(site, october, "50.00")
    text = site.text(f"/billing/invoices/{october}")
    assert "October 2026 Paid" in text
    assert "Received $9.70 more than was due; it stays yours $50.00" in text
    assert "View at Stripe" in text
    assert "You owe" not in site.text("/billing/")
    assert "paid in excess: $9.70" in site.text("/billing/")


def test_an_invoice_covered_by_credits_leads_to_no_payment(site: Site, october: UUID) -> None:
    customer_id = site.customer("acme")
    with Session(site.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id,
            grant_id=customer_id,
            account=accounts.CREDITS_PROMOTIONAL,
            amount=Decimal("100"),
            reason="welcome",
            actor="test",
            now=site.now,
        )
    site.finalize("acme", "2026-10", on="2026-11-02")
    text = site.text(f"/billing/invoices/{october}")
    assert "Paid by credits" in text
    assert "Credits used −$40.30" in text
    assert "To pay $0.00" in text
    assert "Stripe" not in text
    site.get(f"/billing/invoices/{october}/payment", status=404)


def test_the_lines_shown_add_up_to_the_total(site: Site, october: UUID) -> None:
    """40.004 + 0.30 = 40.304, rounded 40.30: shown 40.00 + 0.30."""
    draft = site.text(f"/billing/invoices/{october}")
    site.finalize("acme", "2026-10", on="2026-11-02")
    final = site.text(f"/billing/invoices/{october}")
    for text in (draft, final):
        assert "$40.00" in text
        assert "$0.30" in text


def test_a_line_opens_to_apps_regions_and_days(site: Site, october: UUID) -> None:
    customer_id = site.customer("acme")
    with Session(site.engine) as session:
        view = get_invoice(session, customer_id=customer_id, invoice_id=october)
        machine = next(line for line in view.lines if line.item == "machine")
    text = site.text(f"/billing/invoices/{october}/lines/{machine.id}")
    assert "web 1 h $30.00 30.001" in text
    assert "api 0.5 h" in text or "api 1,800 s" in text
    assert "fra" in text
    assert "Oct 3, 2026 $30.00 30.001" in text
    assert "0.3 " not in text  # the volume's


def test_an_unknown_line_is_not_found(site: Site, october: UUID) -> None:
    assert "Not found" in site.text(f"/billing/invoices/{october}/lines/{october}", status=404)


def test_the_lines_download_with_both_amounts(site: Site, october: UUID) -> None:
    site.finalize("acme", "2026-10", on="2026-11-02")
    answer = site.client.get(f"/billing/invoices/{october}/lines.csv")
    assert ".csv" in answer.headers["Content-Disposition"]
    header, *rows = answer.get_data(as_text=True).splitlines()
    assert header.endswith("exact_amount,amount,currency")
    assert sorted(row.split(",")[-3:] for row in rows) == [["0.3", "0.30", "USD"], ["40.004", "40.00", "USD"]]


def test_when_the_provider_does_not_answer_the_page_stays_kind(site: Site, october: UUID) -> None:
    site.finalize("acme", "2026-10", on="2026-11-02")
    site.provider.is_down = True
    for path in (f"/billing/invoices/{october}/payment", "/billing/payment-methods"):
        text = site.text(path, status=503)
        assert "Try again in a few minutes" in text
        assert "no answer" not in text


def test_an_invoice_that_has_not_reached_the_provider_yet_says_so(site: Site, october: UUID) -> None:
    site.finalize("acme", "2026-10", on="2026-11-02")
    assert "not ready" in site.text(f"/billing/invoices/{october}/payment", status=503)


def test_payment_methods_are_managed_at_the_provider(site: Site, october: UUID) -> None:
    answer = site.client.get("/billing/payment-methods")
    assert answer.status_code == 303
    assert answer.location.endswith("?back=http://billing.test/billing/")


def test_the_list_shows_every_state_once(site: Site, october: UUID) -> None:
    site.finalize("acme", "2026-10", on="2026-11-02")
    site.use("acme", "2026-11-03", "0.10")
    site.close("2026-12-01")
    site.now = at("2026-12-01") + timedelta(hours=13)
    site.open("acme")
    text = site.text("/billing/invoices")
    assert "November 2026 Being prepared $0.10" in text
    assert "October 2026" in text
