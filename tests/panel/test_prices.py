"""What a customer reads about prices: the own ones, the agreed ones, and nobody else's."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from invoicing.prices.agreements import agree_price_list, give_discount
from invoicing.prices.changes import load_content
from invoicing.prices.files import parse_document, read_prices, seed_prices
from tests.panel.conftest import Site

MORE = """
    currency = "USD"
    valid_from = 2020-01-01T00:00:00Z
    [[lists]]
    code = "partner"
    [[items]]
    code = "backup"
    name = "Backup"
    unit = "GB"
    [[items.prices]]
    unit_amount = 3
    [[items.prices]]
    customer = "acme"
    model = "graduated"
    tiers = [{ first = 0, unit_amount = 2 }, { first = 10, unit_amount = 1 }]
    [[items]]
    code = "archive"
    name = "Archive"
    [[items.prices]]
    unit_amount = 9
    [[items.prices]]
    price_list = "partner"
    unit_amount = 7
"""


def test_a_customer_sees_what_this_customer_pays(site: Site) -> None:
    acme, other = site.customer("acme"), site.customer("other")
    why: dict[str, Any] = {
        "reason": "secret reason",
        "actor": "test",
        "now": site.now,
        "valid_from": site.now - timedelta(days=1),
    }
    with Session(site.engine) as session, session.begin():
        seed_prices(session, actor="test", now=site.now)
        content = read_prices(parse_document(MORE.encode()))
        load_content(session, content=content, title="more", publish=True, actor="test", now=site.now)
        agree_price_list(session, customer_id=acme, price_list="partner", **why)
        give_discount(session, customer_id=acme, percent=Decimal("12.5"), valid_until=None, **why)
        give_discount(session, customer_id=other, percent=Decimal(44), valid_until=None, **why)
    site.open("acme")
    text = site.text("/billing/prices")
    for said in (
        "12.5 % off everything",
        "0 to 10: 2 USD per GB",
        "above 10: 1 USD per GB",
        "7 USD each agreed with you",
        "the first 10 of a period are free",
        "0.15 USD per GB-month",
        "af-in",
    ):
        assert said in text, said
    for hidden in ("44 %", "3 USD per GB ", "9 USD each", "secret reason"):
        assert hidden not in text, hidden
    site.open("other")
    text = site.text("/billing/prices")
    assert "44 % off everything" in text
    for said in ("3 USD per GB", "9 USD each"):
        assert said in text, said
    assert "agreed with you" not in text


def test_without_prices_the_page_says_so(site: Site) -> None:
    site.customer("acme")
    site.open("acme")
    assert "There is no price in USD yet." in site.text("/billing/prices")
