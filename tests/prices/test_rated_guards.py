"""Usage is rated once, by one price: Postgres refuses what would have rated it, whoever publishes it."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.prices.changes import publish_change
from tests.prices.conftest import BOB, NOW, Desk, at, flat
from tests.prices.test_guards import insert

ZONED = '[zones]\neurope = ["fra", "ams"]\n'


@pytest.fixture
def rated(desk: Desk) -> Desk:
    """Acme used 10 GB in Frankfurt on the 5th of July, by the public price of 1 USD; bolt used nothing."""
    desk.customer("acme")
    desk.customer("bolt")
    desk.load(ZONED + flat("egress", "1"))
    desk.use("acme", "2025-07-05", "10", region="fra")
    return desk


def a_change(session: Session) -> UUID:
    """A change that two people made, as far as Postgres can tell."""
    key = uuid4()
    insert(session, "price_changes", id=key, title="t", content="{}", created_at=NOW, created_by="ann")
    session.execute(
        text("UPDATE price_changes SET state = 'published', decided_at = :now, decided_by = 'bob' WHERE id = :id"),
        {"now": NOW, "id": key},
    )
    return key


def put(session: Session, begins: str, **changed: Any) -> None:
    usual: dict[str, Any] = {
        "item": "egress", "currency": "USD", "unit_amount": 2, "valid_from": at(begins),
        "created_at": NOW, "created_by": "test", "change_id": a_change(session),
    }  # fmt: skip
    insert(session, "prices", id=uuid4(), **(usual | changed))


OWN = {"price_list": "own", "customer_id": customer_id_for("acme")}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "another public price": ("2025-07-05", {}),
    "one that ends after it": ("2025-07-01", {"valid_until": at("2025-07-06")}),
    "one of the region": ("2025-07-01", {"region": "fra"}),
    "one of the region's zone": ("2025-07-01", {"region": "europe"}),
    "one of the customer's own": ("2025-07-01", OWN),
    "one of their own in the region": ("2025-07-01", OWN | {"region": "fra"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_price_that_would_have_rated_what_is_rated_is_refused(rated: Desk, case: str) -> None:
    begins, changed = REFUSED[case]
    with pytest.raises(IntegrityError, match="was rated by another one already"):
        put(rated.session, begins, **changed)
    rated.session.rollback()


ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "one that begins after it": ("2025-07-05 00:00:00.000001", {}),
    "one of another region": ("2025-07-01", {"region": "ams"}),
    "one of another zone": ("2025-07-01", {"region": "asia"}),
    "another customer's own": ("2025-07-01", OWN | {"customer_id": customer_id_for("bolt")}),
    "one of a list nobody agreed on": ("2025-07-01", {"price_list": "partners"}),
    "one in another currency": ("2025-07-01", {"currency": "EUR"}),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_price_that_would_have_rated_nothing_passes(rated: Desk, case: str) -> None:
    begins, changed = ACCEPTED[case]
    insert(rated.session, "price_lists", code="partners", name="Partners", created_at=NOW, created_by="ann")
    put(rated.session, begins, **changed)


def test_a_price_under_an_agreed_list_never_meets_what_the_list_rates(rated: Desk) -> None:
    """Acme pays by the partners' list from the 6th on: the public price may change for the time after that."""
    partners = '[[lists]]\ncode = "partners"\n' + flat("egress", "3", 'price_list = "partners"')
    change = rated.load(partners).change_id
    assert change is not None
    publish_change(rated.session, change_id=change, actor=BOB, now=NOW)
    agreed = {"customer_id": customer_id_for("acme"), "price_list": "partners", "reason": "r"}
    insert(
        rated.session, "customer_price_lists", valid_from=at("2025-07-06"), created_at=NOW, created_by="ann", **agreed
    )
    rated.session.commit()
    rated.use("acme", "2025-07-07", "10", region="fra")
    put(rated.session, "2025-07-06")
    with pytest.raises(IntegrityError, match="was rated by another one already"):
        put(rated.session, "2025-07-06", price_list="partners")


def agree(session: Session, table: str, begins: datetime, **more: Any) -> None:
    common = {"customer_id": customer_id_for("acme"), "valid_from": begins, "reason": "r"}
    insert(session, table, created_at=NOW, created_by="ann", **common, **more)


def test_a_list_and_a_discount_begin_after_what_is_rated(rated: Desk) -> None:
    session = rated.session
    for table, more in (
        ("customer_price_lists", {"price_list": "public"}),
        ("discounts", {"id": uuid4(), "percent": 5}),
        ("discounts", {"id": uuid4(), "percent": 5, "item": "egress", "valid_until": at("2025-07-06")}),
    ):
        with pytest.raises(IntegrityError, match="was rated without it already"):
            agree(session, table, at("2025-07-05"), **more)
        session.rollback()
    agree(session, "discounts", at("2025-07-01"), id=uuid4(), percent=5, valid_until=at("2025-07-05"))
    agree(session, "discounts", at("2025-07-05 00:00:01"), id=uuid4(), percent=5)
    agree(session, "customer_price_lists", at("2025-07-05 00:00:01"), price_list="public")


def test_a_region_joins_no_zone_whose_prices_would_have_rated_its_usage(rated: Desk) -> None:
    session = rated.session
    rated.use("acme", "2025-07-06", "10", region="gru")
    put(session, "2025-07-08", region="america")
    who = {"created_at": NOW, "created_by": "ann"}
    with pytest.raises(IntegrityError, match="rated without the prices of the zone"):
        insert(session, "region_zones", region="gru", zone="america", **who)
    session.rollback()
    insert(session, "region_zones", region="gru", zone="america", **who)  # it has no prices: nothing would differ


def test_a_zone_whose_prices_rated_its_usage_can_stand_in_the_next_file_too(rated: Desk) -> None:
    file = ZONED + flat("volume", "1", 'region = "europe"')
    rated.load(file)
    rated.use("acme", "2025-07-06", "10", item="volume", region="fra")
    assert rated.load(file).known == 1
    assert rated.load(file + flat("gpu", "1")).published == 1
