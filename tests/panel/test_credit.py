"""What customers see of their credit, and buying more of it."""

import re
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from invoicing.tables import Invoice
from ledger import accounts
from tests.panel.conftest import Site


def test_each_credit_is_shown_with_its_end_and_without_the_reason_of_staff(site: Site) -> None:
    customer_id = site.customer("acme")
    with Session(site.engine) as session, session.begin():
        for account, amount, days in ((accounts.CREDITS_GOODWILL, "25", 30), (accounts.CREDITS_PROMOTIONAL, "5", None)):
            grant_credit(
                session,
                customer_id=customer_id,
                grant_id=uuid4(),
                account=account,
                amount=Decimal(amount),
                reason="complained twice",
                actor="agent@demo.test",
                expires_at=site.now + timedelta(days=days) if days else None,
                now=site.now,
            )
    site.open("acme")
    text = site.text("/billing/credit")
    assert text.index("Goodwill credit") < text.index("Promotional credit")
    assert "$25.00" in text
    assert "no end everything" in text
    assert "complained" not in text
    assert "agent@demo.test" not in text


def test_two_clicks_buy_once_and_the_credit_waits_for_its_payment(site: Site) -> None:
    site.customer("acme")
    client = site.open("acme")
    page = site.get("/billing/credit")
    fields = dict(re.findall(r'name="(csrf_token|top_up_id)" value="([^"]+)"', page[page.index("Top up") :]))
    answers = [client.post("/billing/credit", data={**fields, "amount": "50"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303]
    with Session(site.engine) as session:
        invoice = session.scalars(select(Invoice)).one()
    assert (invoice.kind, invoice.state) == ("top_up", "final")
    assert invoice.amount_due == 50
    assert list(site.provider.orders) == [invoice.id]
    assert "usable once its invoice is paid" in site.text("/billing/credit")
    assert "Prepaid credit" in site.text(f"/billing/invoices/{invoice.id}")
    assert "Credits available $0.00" in site.text("/billing/")
    refused = client.post("/billing/credit", data={**fields, "top_up_id": str(uuid4()), "amount": "0.001"})
    assert refused.status_code == 422
    assert "at most 2 decimals in USD" in refused.text
