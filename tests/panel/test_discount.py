"""A discount is called one, and stands below what it is taken off: so far, on the draft and on the invoice."""

import re
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.prices.agreements import give_discount
from invoicing.prices.changes import load_content
from invoicing.prices.files import parse_document, read_prices
from invoicing.usage.intake import UsageRecord, post_usage
from tests.panel.conftest import Site, at

PRICES = """
currency = "USD"
valid_from = 2020-01-01T00:00:00Z
[[items]]
code = "volume"
name = "Volume"
unit = "GB"
unit_amount = 2
"""


def use(site: Site, when: str) -> None:
    record = UsageRecord(
        row=1, event_id=when, customer="acme", item="volume", quantity=Decimal(10), effective_at=at(when)
    )
    with Session(site.engine) as session, session.begin():
        post_usage(session, [record], source="test", actor="grace", now=at(when))


def test_a_discount_says_how_much_of_what_it_takes_off(site: Site) -> None:
    site.customer("acme")
    with Session(site.engine) as session, session.begin():
        content = read_prices(parse_document(PRICES.encode()))
        load_content(session, content=content, title="prices", publish=True, actor="ada", now=at("2026-01-01"))
        give_discount(
            session, customer_id=customer_id_for("acme"), percent=Decimal("12.50"), item="volume",
            valid_from=at("2026-02-01"), valid_until=None, reason="secret", actor="ada", now=at("2026-02-01"),
        )  # fmt: skip
    use(site, "2026-10-05")
    use(site, "2026-11-05")
    site.close("2026-11-01")
    site.open("acme")
    invoice_id: UUID = site.invoice_id("acme", "2026-10")
    for path in ("/billing/", f"/billing/invoices/{invoice_id}"):
        names = re.findall(r">(Volume[^<]*)</a>", site.get(path))
        assert names == ["Volume", "Volume, 12.5 % off"], path
    site.finalize("acme", "2026-10", on="2026-11-02")
    assert "Volume, 12.5 % off −$2.50" in site.text(f"/billing/invoices/{invoice_id}")
