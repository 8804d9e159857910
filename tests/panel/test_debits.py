"""A customer whose bank is being asked reads that, and is not asked to pay a second time."""

from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.delayed_payments import note_debit
from tests.panel.conftest import Site, at
from tests.panel.test_aftermath import october

__all__ = ["october"]


def _debit(site: Site, invoice_id: UUID, state: str) -> None:
    with Session(site.engine) as session, session.begin():
        note_debit(
            session,
            customer_id=customer_id_for("acme"),
            invoice_id=invoice_id,
            provider="stripe",
            external_id="py_1",
            amount=Decimal(40),
            method="sepa_debit",
            state=state,
            began_at=at("2026-11-04T10:00"),
            actor="test",
            now=site.now,
        )


def test_a_payment_under_way_is_said_and_no_button_asks_for_it_again(site: Site, october: UUID) -> None:
    page = f"/billing/invoices/{october}"
    assert "Pay $40.00" in site.text(page)
    _debit(site, october, "under_way")
    text = site.text(page)
    assert "Payment under way" in text
    assert "Your bank was asked for $40.00 on Nov 4, 2026" in text
    assert "Pay $40.00" not in text
    assert "Payment under way" in site.text("/billing/invoices")
    _debit(site, october, "failed")
    assert "Pay $40.00" in site.text(page)
