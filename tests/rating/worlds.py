"""Random price books, customers and usage, as plain dicts that the independent rater reads as well."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Row = dict[str, Any]

MACHINE, EGRESS, VOLUME = "machine", "egress", "volume"
ITEMS = (MACHINE, EGRESS, VOLUME)
CUSTOMERS = ("ant", "bee", "cat")
AGREED = "agreed"
ZONES = {"ams": "europe", "fra": "europe", "iad": "america"}
REGIONS = (None, "ams", "fra", "iad", "syd")
ALWAYS = datetime(2025, 1, 1, tzinfo=UTC)
CHANGES = [
    datetime(2025, 5, 31, 22, tzinfo=UTC),
    datetime(2025, 6, 11, 7, tzinfo=UTC),
    datetime(2025, 7, 4, tzinfo=UTC),
]
"""When prices, agreements and discounts may begin or end: within periods, and near where they are cut."""
FIRST, DAYS = datetime(2025, 5, 30, tzinfo=UTC), 70


def so_many(examples: int) -> settings:
    """A slice for every run of the tests, always the same; at full size other worlds each time, and the smallest that
    goes wrong."""
    is_slice = examples < 100
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=is_slice,
        phases=(Phase.generate,) if is_slice else (Phase.generate, Phase.shrink),
    )


@dataclass(frozen=True)
class World:
    """What is agreed, what happens, and in which steps we hear of it."""

    book: Row
    events: list[Row]
    steps: list[Row]


def decimals(low: str, high: str, places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(Decimal(low), Decimal(high), places=places, allow_nan=False, allow_infinity=False)


amounts = decimals("0", "3", 3)


@st.composite
def versions(draw: st.DrawFn, *, item: str, price_list: str = "public", owner: str | None = None) -> list[Row]:
    """The versions of one price: from always on in the public list without a region, else from some time on."""
    basic = price_list == "public"
    region = None if basic else draw(st.sampled_from((None, "ams", "europe", "america", "syd")))
    starts = draw(st.lists(st.sampled_from(CHANGES), unique=True, max_size=2))
    starts = sorted([ALWAYS, *starts] if basic or not starts else starts)
    last = None if basic else draw(st.sampled_from((None, CHANGES[-1] + timedelta(days=3))))
    return [
        draw(terms(item=item))
        | {"list": price_list, "customer": owner, "region": region, "from": start, "until": until}
        for start, until in zip(starts, [*starts[1:], last], strict=True)
    ]


@st.composite
def terms(draw: st.DrawFn, *, item: str) -> Row:
    model = draw(st.sampled_from(("per_unit", "per_unit", "graduated", "volume", "package")))
    tiered = model in ("graduated", "volume")
    minimum = draw(st.none() | decimals("0", "20", 1))
    maximum = draw(st.none() | decimals("20", "90", 1))
    depends = item == EGRESS and draw(st.sampled_from((True, True, True, False)))
    bounds = draw(st.lists(decimals("0.5", "80", 1), unique=True, max_size=2))
    return {
        "item": item,
        "model": model,
        "unit_amount": Decimal(0) if tiered else draw(amounts),
        "package_size": draw(decimals("0.1", "9", 1)) if model == "package" else None,
        "tiers": [
            (first, draw(amounts), draw(st.sampled_from((Decimal(0), Decimal("1.5")))))
            for first in ([Decimal(0), *sorted(bounds)] if tiered else [])
        ],
        "included": draw(st.sampled_from((Decimal(0), Decimal(0), Decimal(7), Decimal("30.5")))),
        "included_item": MACHINE if depends else None,
        "included_per_unit": draw(decimals("0.1", "4", 2)) if depends else Decimal(0),
        "minimum": draw(st.sampled_from((None, None, minimum))),
        "maximum": draw(st.sampled_from((None, None, maximum))),
    }


@st.composite
def books(draw: st.DrawFn) -> Row:
    prices = [price for item in ITEMS for price in draw(versions(item=item))]
    for item, price_list, owner in draw(
        st.lists(
            st.tuples(
                st.sampled_from(ITEMS),
                st.sampled_from((("region", None), (AGREED, None), *(("own", name) for name in CUSTOMERS))),
            ).map(lambda found: (found[0], *found[1])),
            unique=True,
            max_size=4,
        )
    ):
        found = draw(versions(item=item, price_list=price_list, owner=owner))
        if price_list == "region":  # a public price of a region, beside the one of no region
            place = draw(st.sampled_from(("ams", "europe", "america")))
            found = [price | {"list": "public", "region": place} for price in found]
        prices += found
    return {
        "prices": [price | {"id": number} for number, price in enumerate(prices)],
        "zones": ZONES,
        "agreements": draw(
            st.lists(
                st.tuples(
                    st.sampled_from(CUSTOMERS), st.sampled_from([ALWAYS, *CHANGES]), st.sampled_from((AGREED, "public"))
                ),
                unique_by=lambda agreement: agreement[:2],
                max_size=3,
            )
        ),
        "discounts": draw(
            st.lists(
                st.fixed_dictionaries(
                    {
                        "customer": st.sampled_from(("ant", *CUSTOMERS)),
                        "item": st.sampled_from((None, EGRESS, *ITEMS)),
                        "percent": decimals("0.01", "100", 2),
                        "from": st.sampled_from([ALWAYS, CHANGES[1]]),
                        "until": st.sampled_from((None, CHANGES[2])),
                    }
                ),
                unique_by=lambda discount: (discount["customer"], discount["item"]),
                max_size=3,
            )
        ),
        "customers": {
            name: {
                "time_zone": draw(st.sampled_from(("UTC", "America/New_York", "Pacific/Auckland", "Asia/Kolkata"))),
                "anchor_day": draw(st.sampled_from((1, 11, 31))),
            }
            for name in CUSTOMERS
        },
    }


instants = st.one_of(
    st.integers(0, DAYS * 24 * 60).map(lambda minutes: FIRST + timedelta(minutes=minutes)),
    st.sampled_from([start + timedelta(microseconds=by) for start in CHANGES for by in (-1, 0, 1)]),
    # Most of it in one month, where it meets in the same tiers and allowances.
    st.integers(0, 9 * 24).map(lambda hours: CHANGES[1] + timedelta(hours=hours)),
    st.integers(0, 9 * 24).map(lambda hours: CHANGES[1] + timedelta(hours=hours)),
)
usage = st.fixed_dictionaries(
    {
        "customer": st.sampled_from((*["ant"] * 4, *CUSTOMERS)),
        "item": st.sampled_from((MACHINE, EGRESS, EGRESS, *ITEMS)),
        "region": st.sampled_from((None, *REGIONS)),
        "quantity": decimals("0", "60", 1) | decimals("-40", "90", 3),
        "amount": st.none() | st.none() | st.none() | decimals("-5", "20", 2),
        "at": instants,
        "app": st.sampled_from(("web", "db", None)),
    }
)


@st.composite
def worlds(draw: st.DrawFn, *, most: int) -> World:
    """A world with up to `most` events. A step brings events, closes or cuts periods, or changes a plan."""
    count = draw(st.integers(most // 2, most))
    events = [draw(usage) | {"id": f"e{number}"} for number in range(count)]
    order = draw(st.permutations(range(count)))
    steps: list[Row] = []
    at = 0
    while at < count:
        size = draw(st.integers(1, max(1, most // 3)))
        again = draw(st.lists(st.sampled_from(order[: at + size]), max_size=2))
        steps.append({"post": [*order[at : at + size], *again]})
        at += size
        if draw(st.integers(0, 3)) == 0:
            steps.append({"close": draw(st.sampled_from([*CHANGES, FIRST + timedelta(days=DAYS + 40)]))})
        if draw(st.integers(0, 2)) == 0:
            steps.append({"bill": draw(st.sampled_from(("ant", *CUSTOMERS))), "at": draw(instants)})
        if draw(st.integers(0, 3)) == 0:
            steps.append(
                {
                    "plan": draw(st.sampled_from(("ant", *CUSTOMERS))),
                    "at": draw(instants),
                    "included": draw(st.sampled_from((Decimal(0), Decimal(5), Decimal("29"), Decimal(500)))),
                }
            )
    return World(draw(books()), events, steps)
