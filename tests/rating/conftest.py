"""A small company whose prices are written out in the test: one customer, usage in one line each."""

from collections.abc import Callable
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from tests.rating.company import RatedCompany
from tests.rating.worlds import ALWAYS, Row

Opener = Callable[..., RatedCompany]


def price(item: str, unit_amount: str = "0", **changed: object) -> Row:
    """A public price from always on: per unit, unless `changed` says otherwise."""
    usual: Row = {
        "item": item,
        "model": "per_unit",
        "unit_amount": Decimal(unit_amount),
        "package_size": None,
        "tiers": [],
        "included": Decimal(0),
        "included_item": None,
        "included_per_unit": Decimal(0),
        "minimum": None,
        "maximum": None,
        "list": "public",
        "customer": None,
        "region": None,
        "from": ALWAYS,
        "until": None,
    }
    return usual | changed


@pytest.fixture
def opened(engine: Engine) -> Opener:
    """Opens the company with these prices; discounts by keyword. Its one customer is "ant", in UTC."""

    def open_company(*prices: Row, discounts: tuple[Row, ...] = ()) -> RatedCompany:
        book = {
            "prices": [price | {"id": number} for number, price in enumerate(prices)],
            "zones": {},
            "agreements": [],
            "discounts": list(discounts),
            "customers": {"ant": {"time_zone": "UTC", "anchor_day": 1}},
        }
        return RatedCompany(engine, book, number=0)

    return open_company
