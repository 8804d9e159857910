"""Staff read that a bank is being asked, and are not offered what would collect the money twice."""

from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from invoicing.delayed_payments import note_debit
from tests.support_ui.conftest import Desk, Site, at
from tests.support_ui.final import Final, final


@pytest.fixture
def agent(site: Site) -> Desk:
    return site.desk("agent@demo.test")


def _debit(invoice: Final, state: str) -> None:
    with Session(invoice.site.engine) as session, session.begin():
        note_debit(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.invoice_id,
            provider="stripe",
            external_id="py_1",
            amount=Decimal(22),
            method="us_bank_account",
            state=state,
            began_at=at("2025-07-03"),
            actor="test",
            now=at("2025-07-03"),
        )


def test_a_payment_under_way_is_said_with_its_amount_and_day(site: Site, agent: Desk) -> None:
    invoice = final(site)
    assert "under way since" not in agent.page(invoice.url).text
    _debit(invoice, "under_way")
    text = agent.page(invoice.url).text
    assert "A payment of 22.00 USD is under way since 3 Jul 2025" in text
    assert "neither voided nor given up meanwhile" in text
    assert "Void it and bill again" not in text
    _debit(invoice, "failed")
    assert "under way since" not in agent.page(invoice.url).text
