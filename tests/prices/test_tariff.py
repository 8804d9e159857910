"""Which price holds: a function of the event and its period, whatever was loaded in which order."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import pytest

from invoicing.prices.book import OWN, Tariff
from invoicing.prices.catalogue import NoPrice, price_id
from invoicing.prices.models import PriceTerms
from tests.prices.conftest import at

ACME, BOLT = UUID(int=1), UUID(int=2)


def price(
    amount: str,
    since: str,
    *,
    until: str | None = None,
    region: str | None = None,
    price_list: str = "public",
    customer: UUID | None = None,
    included: str = "0",
    item: str = "egress",
    included_item: str | None = None,
) -> PriceTerms:
    listed = OWN if customer is not None else price_list
    begins = at(since)
    return PriceTerms(
        id=price_id(
            item=item, currency="USD", valid_from=begins, price_list=listed, customer_id=customer, region=region
        ),
        item=item,
        currency="USD",
        region=region,
        price_list=listed,
        model="per_unit",
        unit_amount=Decimal(amount),
        package_size=None,
        tiers=(),
        included=Decimal(included),
        included_item=included_item,
        included_per_unit=Decimal(1 if included_item else 0),
        minimum=None,
        maximum=None,
        valid_from=begins,
        valid_until=None if until is None else at(until),
        customer_id=customer,
    )


def tariff(*prices: PriceTerms, agreements: tuple[tuple[UUID, str, datetime], ...] = ()) -> Tariff:
    zones = {"fra": "eu", "ams": "eu", "iad": "na"}
    return Tariff(customers={ACME: "USD", BOLT: "USD"}, prices=prices, agreements=agreements, zones=zones)


def amount(found: PriceTerms | None) -> str | None:
    return None if found is None else str(found.unit_amount)


def test_own_goes_before_agreed_before_public_and_region_before_zone_before_everywhere() -> None:
    book = tariff(
        price("1", "2025-01-01"),
        price("2", "2025-01-01", region="eu"),
        price("3", "2025-01-01", region="fra"),
        price("4", "2025-01-01", price_list="partner"),
        price("5", "2025-01-01", customer=ACME, region="iad"),
        agreements=((ACME, "partner", at("2025-03-01")), (ACME, "public", at("2025-05-01"))),
    )
    cases = {
        (BOLT, None, "2025-02-01"): "1",
        (BOLT, "iad", "2025-02-01"): "1",
        (BOLT, "ams", "2025-02-01"): "2",
        (BOLT, "fra", "2025-02-01"): "3",
        (ACME, "fra", "2025-02-01"): "3",
        (ACME, "fra", "2025-03-01"): "4",
        (ACME, "iad", "2025-03-01"): "5",
        (ACME, "fra", "2025-05-01"): "3",
        (ACME, None, "2024-12-31"): None,
    }
    for (customer, region, day), expected in cases.items():
        assert amount(book.version_at(customer, item="egress", region=region, at=at(day))) == expected


def test_a_flat_price_changes_at_any_instant_and_an_aggregating_one_between_periods() -> None:
    flat_ones = tariff(price("1", "2025-01-01"), price("2", "2025-06-10"))
    aggregating = tariff(price("1", "2025-01-01"), price("2", "2025-06-10", included="5"), price("3", "2025-07-20"))
    cases = [
        (flat_ones, "2025-06-09", "2025-06-01", "1"),
        (flat_ones, "2025-06-10", "2025-06-01", "2"),
        (aggregating, "2025-06-20", "2025-06-01", "1"),
        (aggregating, "2025-07-01", "2025-07-01", "2"),
        (aggregating, "2025-07-25", "2025-07-01", "2"),
        (aggregating, "2025-08-01", "2025-08-01", "3"),
    ]
    for book, used, start, expected in cases:
        found = book.price_for(ACME, item="egress", region=None, effective_at=at(used), rating_start=at(start))
        assert amount(found) == expected, (used, start)


def test_an_aggregating_price_that_begins_within_a_period_holds_for_it_from_then_on() -> None:
    book = tariff(price("1", "2025-06-10", included="5"), price("2", "2025-06-20"))
    for day, expected in (("2025-06-10", "1"), ("2025-06-25", "1")):
        found = book.price_for(ACME, item="egress", region=None, effective_at=at(day), rating_start=at("2025-06-01"))
        assert amount(found) == expected
    with pytest.raises(NoPrice, match="first price begins at 2025-06-10"):
        book.price_for(ACME, item="egress", region=None, effective_at=at("2025-06-09"), rating_start=at("2025-06-01"))


def test_the_start_of_the_period_is_asked_for_only_where_it_matters() -> None:
    def never() -> datetime:
        raise AssertionError("asked")

    book = tariff(price("1", "2025-01-01"), price("2", "2025-06-10"))
    found = book.price_for(ACME, item="egress", region=None, effective_at=at("2025-06-10"), rating_start=never)
    assert amount(found) == "2"


def test_a_price_that_ended_gives_way_to_the_wider_one_or_to_none() -> None:
    book = tariff(price("1", "2025-01-01"), price("2", "2025-02-01", until="2025-03-01", customer=ACME))
    assert amount(book.version_at(ACME, item="egress", region=None, at=at("2025-02-28"))) == "2"
    assert amount(book.version_at(ACME, item="egress", region=None, at=at("2025-03-01"))) == "1"


def test_the_quick_path_is_left_where_something_counts_a_period() -> None:
    book = tariff(
        price("1", "2025-01-01"),
        price("2", "2025-01-01", item="volume", included_item="machine"),
        price("1", "2025-01-01", item="machine"),
        price("1", "2025-01-01", item="cpu"),
        price("1", "2025-01-01", item="cpu", customer=BOLT, included="1"),
    )
    assert [book.may_aggregate(ACME, item) for item in ("egress", "volume", "machine", "cpu")] == [
        False, True, True, False,
    ]  # fmt: skip
    assert book.may_aggregate(BOLT, "cpu")
    assert [terms.item for terms in book.dependents(ACME, "machine")] == ["volume"]


def test_a_missing_price_says_what_to_do() -> None:
    with pytest.raises(NoPrice, match="billing prices set gpu --currency USD"):
        tariff().price_for(ACME, item="gpu", region=None, effective_at=at("2025-01-01"), rating_start=at("2025-01-01"))
    regional = tariff(price("1", "2025-01-01", region="eu"))
    for region, says in ((None, "label 'region'"), ("syd", "in region 'syd'")):
        with pytest.raises(NoPrice, match=says):
            regional.price_for(
                ACME, item="egress", region=region, effective_at=at("2025-02-01"), rating_start=at("2025-02-01")
            )
