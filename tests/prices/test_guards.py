"""What Postgres refuses, whatever a program with the application's role sends it."""

from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.database import normalise_url
from tests.invoicing.waiting import second
from tests.prices.conftest import NOW, Desk, flat

PRICE: dict[str, Any] = {
    "item": "egress",
    "currency": "USD",
    "unit_amount": 1,
    "valid_from": "2025-06-01T00:00:00Z",
    "created_at": "2025-06-01T00:00:00Z",
    "created_by": "test",
}


def insert(session: Session, table: str, **values: Any) -> None:
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    session.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), values)  # noqa: S608 - our own names


def put(session: Session, *, tiers: tuple[tuple[int, int], ...] = (), **changed: Any) -> None:
    """A price as SQL, with its tiers (position, first) before it."""
    key = uuid4()
    for position, first in tiers:
        insert(session, "price_tiers", price_id=key, position=position, first=first, unit_amount=1)
    insert(session, "prices", id=key, **(PRICE | changed))


@pytest.fixture
def items(session: Session) -> Session:
    """Two items without prices."""
    for code in ("egress", "machine"):
        insert(session, "items", code=code, name=code, created_at=NOW)
    session.commit()
    return session


def refused(session: Session, **changed: Any) -> str:
    with pytest.raises((IntegrityError, DBAPIError)) as error:
        put(session, **changed)
    session.rollback()
    return str(error.value.orig)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an amount below zero": ({"unit_amount": -1}, "prices_unit_amount_check"),
    "a model nobody knows": ({"model": "auction"}, "prices_model_check"),
    "a package of nothing": ({"model": "package", "package_size": 0}, "prices_package_size_check"),
    "a package without a size": ({"model": "package"}, "prices_package_has_a_size"),
    "a size without a package": ({"package_size": 5}, "prices_package_has_a_size"),
    "an end before the start": ({"valid_until": "2025-05-01T00:00:00Z"}, "prices_check"),
    "a minimum above the maximum": ({"minimum": 5, "maximum": 4}, "prices_minimum_below_maximum"),
    "an allowance for each of nothing": ({"included_per_unit": 1}, "prices_allowance_names_its_item"),
    "an allowance by an unknown item": (
        {"included_item": "ghost", "included_per_unit": 1},
        "prices_included_item_fkey",
    ),
    "an allowance by itself": ({"included_item": "egress", "included_per_unit": 1}, "depends on itself"),
    "an own price of nobody": ({"price_list": "own"}, "prices_own_names_its_customer"),
    "a list nobody made": ({"price_list": "ghosts"}, "prices_price_list_fkey"),
    "tiers that begin above zero": (
        {"model": "graduated", "unit_amount": 0, "tiers": ((1, 5),)},
        "start at 0 and rise",
    ),
    "tiers that do not rise": ({"model": "volume", "unit_amount": 0, "tiers": ((1, 0), (2, 0))}, "start at 0 and rise"),
    "tiers with a place missing": ({"model": "volume", "unit_amount": 0, "tiers": ((1, 0), (3, 9))}, "start at 0"),
    "no tiers where they are needed": ({"model": "graduated", "unit_amount": 0}, "exactly the tiered models"),
    "tiers where none are used": ({"tiers": ((1, 0),)}, "exactly the tiered models"),
    "an amount beside the tiers": ({"model": "graduated", "tiers": ((1, 0),)}, "prices_tiers_have_the_amounts"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_price_is_refused(items: Session, name: str) -> None:
    changed, why = WRONG[name]
    assert why in refused(items, **changed)


def test_versions_follow_one_another_without_gap_or_overlap(items: Session) -> None:
    put(items, valid_until="2025-07-01T00:00:00Z")
    items.commit()
    assert "a gap" in refused(items, valid_from="2025-07-02T00:00:00Z")
    assert "an overlap" in refused(items, valid_from="2025-06-15T00:00:00Z")
    assert "the version after it" in refused(items, valid_from="2025-01-01", valid_until="2025-05-01T00:00:00Z")
    put(items, valid_from="2025-07-01T00:00:00Z")
    put(items, valid_from="2025-01-01T00:00:00Z", valid_until="2025-06-01T00:00:00Z")
    put(items, valid_from="2025-09-01T00:00:00Z", region="fra")
    items.commit()


def test_an_allowance_in_a_circle_over_two_items_is_refused(items: Session) -> None:
    put(items, included_item="machine", included_per_unit=1)
    items.commit()
    assert "depends on itself" in refused(items, item="machine", included_item="egress", included_per_unit=1)


def test_what_changes_prices_needs_a_published_change_by_a_second_person(items: Session) -> None:
    put(items)
    items.commit()
    later: dict[str, Any] = {"valid_from": "2025-08-01T00:00:00Z", "created_at": "2025-07-01T00:00:00Z"}
    assert "a second person publishes" in refused(items, **later)
    change = {"id": uuid4(), "title": "t", "content": "{}", "created_at": NOW, "created_by": "ann"}
    insert(items, "price_changes", **change)
    items.commit()
    assert "a second person publishes" in refused(items, **later, change_id=change["id"])
    decide = text("UPDATE price_changes SET state = 'published', decided_at = now(), decided_by = :who WHERE id = :id")
    with pytest.raises(IntegrityError, match="price_changes_second_person"):
        items.execute(decide, {"id": change["id"], "who": "ann"})
    items.rollback()
    items.execute(decide, {"id": change["id"], "who": "bob"})
    put(items, **later, change_id=change["id"])
    items.commit()
    with pytest.raises(IntegrityError, match="what is decided stays decided"):
        items.execute(decide, {"id": change["id"], "who": "carol"})
    items.rollback()
    with pytest.raises(IntegrityError, match="starts as a draft"):
        insert(
            items,
            "price_changes",
            **(change | {"id": uuid4(), "state": "withdrawn", "decided_at": NOW, "decided_by": "x"}),
        )


def test_a_published_price_takes_no_more_tiers(items: Session) -> None:
    put(items, model="graduated", unit_amount=0, tiers=((1, 0),))
    items.commit()
    key = items.scalar(text("SELECT id FROM prices"))
    with pytest.raises(IntegrityError, match="takes no more tiers"):
        insert(items, "price_tiers", price_id=key, position=2, first=10, unit_amount=0)


@pytest.mark.parametrize("percent", ["0", "-1", "100.01", "5.555"])
def test_a_discount_is_above_0_and_at_most_100_percent(items: Session, desk: Desk, percent: str) -> None:
    customer = desk.customer("acme")
    given = {"customer_id": customer, "valid_from": NOW, "reason": "r", "created_at": NOW, "created_by": "ann"}
    with pytest.raises(IntegrityError, match="discounts_percent_check"):
        insert(items, "discounts", id=uuid4(), percent=percent, **given)
    items.rollback()
    insert(items, "discounts", id=uuid4(), percent=100, **given)
    with pytest.raises(IntegrityError, match="at the same time"):
        insert(items, "discounts", id=uuid4(), percent=5, **given)


def test_a_customers_own_price_is_in_the_customers_currency(items: Session, desk: Desk) -> None:
    customer = desk.customer("acme", currency="EUR")
    assert "is not billed in USD" in refused(items, price_list="own", customer_id=customer)
    put(items, price_list="own", customer_id=customer, currency="EUR")


TABLES = {
    "prices": "item",
    "price_lists": "name",
    "region_zones": "zone",
    "customer_price_lists": "reason",
    "discounts": "reason",
    "price_tiers": "position",
    "price_changes": "title",
}
"""Each with a column; what is decided about a change may change, its content may not."""


@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
@pytest.mark.parametrize("table", TABLES)
def test_nothing_of_the_book_is_changed_or_removed(
    database_url: str, items: Session, desk: Desk, table: str, statement: str
) -> None:
    """Not even by the owner, who passes every other wall."""
    put(items, model="graduated", unit_amount=0, tiers=((1, 0),))
    who = {"created_at": NOW, "created_by": "ann"}
    agreed = {"customer_id": desk.customer("acme"), "valid_from": NOW, "reason": "r", **who}
    insert(items, "discounts", id=uuid4(), percent=5, **agreed)
    insert(items, "customer_price_lists", price_list="public", **agreed)
    insert(items, "region_zones", region="fra", zone="eu", **who)
    insert(items, "price_changes", id=uuid4(), title="t", content="{}", **who)
    items.commit()
    engine = sqlalchemy.create_engine(normalise_url(database_url), poolclass=sqlalchemy.NullPool)
    column = TABLES[table]
    attack = text(statement.format(table, column, column if column == "position" else f"{column} || 'x'"))
    with engine.connect() as owner, pytest.raises(IntegrityError, match="refused"):
        owner.execute(attack)


def test_a_name_is_a_region_or_a_zone(session: Session) -> None:
    row = {"created_at": NOW, "created_by": "test"}
    insert(session, "region_zones", region="fra", zone="eu", **row)
    with pytest.raises(IntegrityError, match="both a region and a zone"):
        insert(session, "region_zones", region="eu", zone="world", **row)


def test_a_price_that_was_published_by_code_passes_every_guard(desk: Desk) -> None:
    done = desk.load(flat("egress", "0.02"))
    assert (done.published, done.drafted) == (1, 0)


def discount(customer: UUID, *, ends: str | None = None) -> dict[str, Any]:
    return {
        "id": uuid4(), "customer_id": customer, "percent": 5, "valid_from": NOW, "valid_until": ends, "reason": "r",
        "created_at": NOW, "created_by": "ann",
    }  # fmt: skip


def test_of_two_discounts_given_at_once_one_is_refused(desk: Desk, engine: Engine) -> None:
    customer = desk.customer("acme")
    refusal = second(
        engine,
        lambda one: insert(one, "discounts", **discount(customer)),
        lambda two: insert(two, "discounts", **discount(customer, ends="2026-01-01T00:00:00Z")),
    )
    assert isinstance(refusal, IntegrityError)
    assert "at the same time" in str(refusal)


def test_of_two_first_prices_published_at_once_one_is_refused(items: Session, engine: Engine) -> None:
    """Neither sees the other's version: one from June to July, one from the middle of June on."""
    refusal = second(
        engine,
        lambda one: put(one, valid_until="2025-07-01T00:00:00Z"),
        lambda two: put(two, valid_from="2025-06-15T00:00:00Z"),
    )
    assert isinstance(refusal, IntegrityError)
    assert "an overlap" in str(refusal)
