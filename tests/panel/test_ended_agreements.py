"""What was ended is not said to hold: the list's price is shown again, and no discount that is over."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from invoicing.prices.agreements import give_discount
from invoicing.prices.changes import load_content
from invoicing.prices.endings import end_discount, end_own_price, own_prices_of
from invoicing.prices.files import parse_document, read_prices
from tests.panel.conftest import Site

BOOK = """
    currency = "USD"
    valid_from = 2020-01-01T00:00:00Z
    [[items]]
    code = "backup"
    name = "Backup"
    unit = "GB"
    [[items.prices]]
    unit_amount = 3
    [[items.prices]]
    customer = "acme"
    unit_amount = 2
"""


def test_the_prices_page_follows_what_staff_ended(site: Site) -> None:
    acme = site.customer("acme")
    yesterday = site.now - timedelta(days=1)
    with Session(site.engine) as session, session.begin():
        book = read_prices(parse_document(BOOK.encode()))
        load_content(session, content=book, title="b", publish=True, actor="t", now=site.now)
        given = give_discount(
            session, customer_id=acme, percent=Decimal("12.5"), valid_from=yesterday, valid_until=None, reason="x",
            actor="t", now=site.now,
        )  # fmt: skip
    site.open("acme")
    before = site.text("/billing/prices")
    assert "2 USD per GB" in before
    assert "12.5 % off everything" in before
    with Session(site.engine) as session, session.begin():
        [own] = own_prices_of(session, customer_id=acme)
        why: dict[str, Any] = {"reason": "over", "actor": "secret", "now": site.now}
        end_discount(session, customer_id=acme, discount_id=given.id, ends_at=yesterday, **why)
        end_own_price(session, customer_id=acme, price_id=own.id, ends_at=yesterday, **why)
    after = site.text("/billing/prices")
    assert "3 USD per GB" in after
    assert "2 USD per GB" not in after
    assert "12.5 % off everything" not in after
    assert "secret" not in after
