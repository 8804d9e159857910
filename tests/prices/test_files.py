"""Price files: loaded twice they change nothing, and everything that is wrong in one is named at once."""

from decimal import Decimal

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.prices.catalogue import PriceRefused, price_id
from invoicing.prices.files import fly_document, fly_prices, parse_document, read_prices, seed_prices
from invoicing.tables import Price
from tests.prices.conftest import ANN, HEAD, NOW, Desk, at, content, flat

OLD = {
    "machine:shared-cpu-1x:256mb": "0.0000008",
    "machine:shared-cpu-1x:1gb": "0.0000022",
    "machine:shared-cpu-1x:2gb": "0.0000041",
    "machine:dedicated-cpu-1x:2gb": "0.0000120",
    "volume": "0.15",
    "rootfs:stopped": "0.15",
    "ipv4:dedicated": "2",
}


def test_the_list_that_comes_along_is_loaded_once_and_keeps_its_ids(session: Session) -> None:
    """The ids of flat public prices are those of before there were files, so that nothing is published twice."""
    assert seed_prices(session, actor=ANN, now=NOW) == len(fly_prices().prices) == 51
    session.commit()
    assert seed_prices(session, actor=ANN, now=at("2025-08-01")) == 0
    for item, amount in OLD.items():
        key = price_id(item=item, currency="USD", valid_from=at("2020-01-01"))
        found = session.get_one(Price, key)
        assert (found.item, found.unit_amount) == (item, Decimal(amount))
    assert str(price_id(item="volume", currency="USD", valid_from=at("2020-01-01"))) == (
        "daa5489a-8ac5-5da1-8f45-8a2512962ea4"
    )


def test_the_plans_of_the_list_are_tables_for_others() -> None:
    plans = {plan["code"]: (plan["fee"], plan["included_usage"]) for plan in fly_document()["plans"]}
    assert plans == {"payg": (0, 0), "launch": (29, 29), "scale": (199, 0), "enterprise": (2500, 0)}


BAD: dict[str, tuple[str, str, str]] = {
    "no toml": ("[[items", "not_toml", "file"),
    "no items": ("", "no_items", "file"),
    "an unknown entry": (flat("egress", "1", "prise = 2"), "unknown_entry", "item 1 'egress': prise"),
    "no amount": ('[[items]]\ncode = "egress"\nincluded = 1', "missing", "item 1 'egress': unit_amount"),
    "no price": ('[[items]]\ncode = "egress"', "item_without_price", "item 'egress'"),
    "an amount below zero": (flat("egress", "-1"), "negative", "item 1 'egress': unit_amount"),
    "an amount that is none": (flat("egress", '"ten"'), "not_a_number", "item 1 'egress': unit_amount"),
    "an infinite amount": (flat("egress", "inf"), "not_finite", "item 1 'egress': unit_amount"),
    "too many decimals": (flat("egress", "0.0000000000001"), "too_many_decimals", "item 1 'egress': unit_amount"),
    "a currency nobody knows": (flat("egress", "1", 'currency = "XXX"'), "unknown_currency", "item 1"),
    "a model nobody knows": (flat("egress", "1", 'model = "auction"'), "bad_model", "item 1 'egress': model"),
    "a start without a zone": (flat("egress", "1", "valid_from = 2025-01-01T00:00:00"), "no_time_zone", "item 1"),
    "an end before the start": (
        flat("egress", "1", "valid_until = 2024-01-01T00:00:00Z"), "ends_before_it_begins", "item 1",
    ),
    "the same price twice": (
        flat("egress", "1") + "[[items.prices]]\n[[items.prices]]", "duplicate_price", "item 1 'egress', price 2",
    ),
    "the same item twice": (flat("egress", "1") + flat("egress", "2"), "duplicate_item", "item 2 'egress'"),
    "tiers from above zero": (
        '[[items]]\ncode = "e"\nmodel = "graduated"\ntiers = [{ first = 1, unit_amount = 1 }]',
        "tiers_start_above_zero", "item 1 'e': tier 1, first",
    ),
    "tiers that do not rise": (
        '[[items]]\ncode = "e"\nmodel = "volume"\n'
        "tiers = [{ first = 0, unit_amount = 1 }, { first = 0, unit_amount = 1 }]",
        "tiers_do_not_rise", "item 1 'e': tier 2, first",
    ),
    "an allowance by itself": (
        flat("egress", "1", 'included_item = "egress"\nincluded_per_unit = 1'),
        "allowance_in_a_circle", "item 1 'egress': included_item",
    ),
    "half an allowance": (flat("egress", "1", 'included_item = "m"'), "bad_allowance", "item 1"),
    "a package without a size": (flat("egress", "1", 'model = "package"'), "bad_package", "item 1"),
    "a minimum above the maximum": (flat("egress", "1", "minimum = 2\nmaximum = 1"), "minimum_above_maximum", "item 1"),
    "a region in two zones": (flat("egress", "1") + '[zones]\na = ["x"]\nb = ["x"]', "region_in_two_zones", "zones: b"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_file_is_named_with_its_place(name: str) -> None:
    written, code, place = BAD[name]
    with pytest.raises(PriceRefused) as refused:
        content(written)
    found = [(where, why) for where, why, _ in refused.value.problems]
    assert any(why == code and where.startswith(place) for where, why in found), found
    assert all(sentence.strip() for _, _, sentence in refused.value.problems)


def test_all_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(PriceRefused) as refused:
        content(flat("a", "-1") + flat("b", "1", "minimum = 3\nmaximum = 2") + flat("c", '"x"'))
    assert {code for _, code, _ in refused.value.problems} == {"negative", "minimum_above_maximum", "not_a_number"}


AGAINST_THE_BOOK: dict[str, tuple[str, str]] = {
    "another amount from the same start": (flat("egress", "0.03"), "price_conflict"),
    "a start inside a version that ends": (
        flat("volume", "1", "valid_from = 2025-06-01T00:00:00Z"), "versions_overlap",
    ),
    "a start after a version that ended": (
        flat("volume", "1", "valid_from = 2026-06-01T00:00:00Z"), "gap_between_versions",
    ),
    "an allowance by an item nobody has": (
        flat("new", "1", 'included_item = "ghost"\nincluded_per_unit = 1'), "unknown_item",
    ),
    "a circle over the book": (
        flat("machine", "1", 'included_item = "snapshot"\nincluded_per_unit = 1'), "allowance_in_a_circle",
    ),
    "a list nobody made": (flat("egress", "1", 'price_list = "ghosts"'), "unknown_price_list"),
    "a customer nobody knows": (flat("egress", "1", 'customer = "ghost"'), "unknown_customer"),
    "a customer of another currency": (flat("egress", "1", 'customer = "acme"'), "currency_mismatch"),
    "a region nobody named": (flat("egress", "1", 'region = "nowhere"'), "unknown_region"),
}  # fmt: skip


@pytest.mark.parametrize("name", AGAINST_THE_BOOK)
def test_what_does_not_fit_the_book_is_refused(desk: Desk, name: str) -> None:
    written, code = AGAINST_THE_BOOK[name]
    desk.customer("acme", currency="EUR")
    desk.load(
        flat("egress", "0.02")
        + flat("volume", "0.15", "valid_until = 2026-01-01T00:00:00Z")
        + flat("snapshot", "0.08", 'included_item = "machine"\nincluded_per_unit = 1')
        + flat("machine", "1", 'currency = "EUR"')
        + '[zones]\neu = ["fra"]\n'
    )
    with pytest.raises(PriceRefused) as refused:
        desk.load(written)
    desk.session.rollback()
    assert code in [problem[1] for problem in refused.value.problems], refused.value.problems


def test_a_file_with_everything_survives_the_way_into_the_book_and_back(desk: Desk) -> None:
    written = flat("machine", "0.01") + (
        '[[items]]\ncode = "egress"\n'
        "[[items.prices]]\nby_region = { fra = 0.02, eu = 0.03 }\n"
        '[[items.prices]]\nmodel = "graduated"\nincluded = 5\nincluded_item = "machine"\nincluded_per_unit = 0.5\n'
        "minimum = 1\nmaximum = 90\ntax_inclusive = true\n"
        "tiers = [{ first = 0, unit_amount = 0.1, flat_amount = 2 }, { first = 10.5, unit_amount = 0.05 }]\n"
        '[[items.prices]]\nprice_list = "partner"\nmodel = "package"\nunit_amount = 5\npackage_size = 1000\n'
        '[zones]\neu = ["fra", "ams"]\n[[lists]]\ncode = "partner"\nname = "Partners"\n'
    )
    assert desk.load(written).published == 5
    again = desk.load(written, now=at("2025-09-01"))
    assert (again.published, again.drafted, again.known) == (0, 0, 5)
    assert desk.session.scalar(select(func.count()).select_from(Price)) == 5


def test_numbers_are_read_to_their_last_digit() -> None:
    document = parse_document((HEAD + flat("egress", "0.000000000001")).encode())
    assert read_prices(document).prices[0].unit_amount == Decimal("0.000000000001")
