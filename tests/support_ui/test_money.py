"""Disputes and payouts over all customers: what is urgent first, what it cost, what is not understood."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from invoicing.movements.disputes import move_dispute_funds, record_dispute
from invoicing.movements.payouts import clear_transaction, record_payout
from tests.support_ui.conftest import Desk, Site, at
from tests.support_ui.final import Final, final


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def dispute(invoice: Final, external_id: str, status: str, due: datetime | None) -> None:
    with Session(invoice.site.engine) as session, session.begin():
        record_dispute(
            session,
            customer_id=invoice.customer_id,
            provider="stripe",
            external_id=external_id,
            invoice_id=invoice.invoice_id,
            payment_external_id="inpay_1",
            amount=Decimal(5),
            currency="USD",
            reason="product_not_received",
            status=status,
            evidence_due_at=due,
            opened_at=at("2025-07-10"),
            actor="test",
            now=at("2025-07-10"),
        )
        move_dispute_funds(
            session,
            customer_id=invoice.customer_id,
            provider="stripe",
            external_id=external_id,
            transaction=f"txn_{external_id}",
            amount=Decimal(-5),
            fee=Decimal(15),
            at=at("2025-07-10"),
            actor="test",
            now=at("2025-07-10"),
        )


def payout(site: Site, external_id: str, day: str, status: str = "paid") -> None:
    with Session(site.engine) as session, session.begin():
        record_payout(
            session,
            provider="stripe",
            account="acct_1",
            currency="USD",
            external_id=external_id,
            amount=Decimal("1234.56"),
            status=status,
            arrival_at=at(day),
            at=at(day),
            actor="test",
            now=at(day),
        )


def test_with_nothing_there_the_pages_say_so(agent: Desk) -> None:
    assert "No payment is disputed." in agent.page("/support/disputes").text
    assert "No dispute was decided yet." in agent.page("/support/disputes?state=closed").text
    assert "Nothing was paid out yet." in agent.page("/support/payouts").text


def test_the_most_urgent_dispute_comes_first_and_decided_ones_say_what_they_cost(site: Site, agent: Desk) -> None:
    invoice = final(site)
    invoice.pay("22")
    dispute(invoice, "dp_late", "needs_response", at("2025-08-20"))
    dispute(invoice, "dp_soon", "needs_response", at("2025-08-01"))
    dispute(invoice, "dp_review", "under_review", at("2025-07-20"))
    dispute(invoice, "dp_lost", "lost", None)
    page = agent.page("/support/disputes")
    text = page.text
    assert text.index("dp_soon") < text.index("dp_late") < text.index("dp_review")
    assert "dp_lost" not in text
    assert "Open 3" in text
    assert "product not received" in text
    assert f"{invoice.url}#disputes" in page.links
    closed = agent.page("/support/disputes?state=closed").text
    assert "dp_lost" in closed
    assert "5.00 USD" in closed
    assert "20.00 USD" in closed, "five lost, and a fee of fifteen"


def test_payouts_are_newest_first_with_what_is_not_understood(site: Site, agent: Desk) -> None:
    payout(site, "po_old", "2025-07-01")
    payout(site, "po_new", "2025-07-08")
    payout(site, "po_bad", "2025-07-05")
    payout(site, "po_bad", "2025-07-05", "failed")
    with Session(site.engine) as session, session.begin():
        clear_transaction(
            session,
            provider="stripe",
            account="acct_1",
            currency="USD",
            payout="po_new",
            transaction="txn_odd",
            customer_id=None,
            net=Decimal("7.77"),
            category="other_adjustment",
            at=at("2025-07-08"),
            actor="test",
            now=at("2025-07-08"),
        )
    page = agent.page("/support/payouts")
    text = page.text
    assert text.index("po_new") < text.index("po_bad") < text.index("po_old")
    assert "The house, USD Not all understood" in text
    assert "7.77 USD more came in than is explained The tasks about it" in text
    assert "1,234.56 USD" in text
    assert "after it was paid" in text
    assert "/support/tasks?kind=unknown_money" in page.links
    assert "unknown" not in text.split("po_old")[0].split("Payouts")[0]


def test_older_payouts_are_on_the_next_page_each_once(site: Site, agent: Desk) -> None:
    first = at("2025-01-01")
    for number in range(52):
        payout(site, f"po_{number:02}", (first + timedelta(days=number // 3)).date().isoformat())
    page = agent.page("/support/payouts")
    older = agent.page(next(link for link in page.links if "before=" in link))
    shown = [f"po_{number:02}" for number in range(52) if f"po_{number:02}" in page.text]
    rest = [f"po_{number:02}" for number in range(52) if f"po_{number:02}" in older.text]
    assert (len(shown), len(rest)) == (50, 2)
    assert sorted(shown + rest) == [f"po_{number:02}" for number in range(52)]
    assert "Older payouts" not in older.text
    assert agent.page("/support/payouts?before=nonsense").text.count("po_51") == 1
