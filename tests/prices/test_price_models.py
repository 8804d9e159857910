"""What a quantity costs, against a rater that counts unit by unit and knows nothing of ours."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicing.prices.models import Model, PriceTerms, Tier, allowance, amount_for, segments

ZERO = Decimal(0)
ID = UUID(int=1)
START = datetime(2025, 1, 1, tzinfo=UTC)


def price(
    model: Model = "per_unit",
    unit_amount: str = "0",
    *,
    tiers: tuple[tuple[str, str, str], ...] = (),
    package_size: str | None = None,
    included: str = "0",
    per_other: str | None = None,
    minimum: str | None = None,
    maximum: str | None = None,
) -> PriceTerms:
    return PriceTerms(
        id=ID,
        item="egress",
        currency="USD",
        region=None,
        price_list="public",
        model=model,
        unit_amount=Decimal(unit_amount),
        package_size=None if package_size is None else Decimal(package_size),
        tiers=tuple(Tier(*map(Decimal, tier)) for tier in tiers),
        included=Decimal(included),
        included_item=None if per_other is None else "machine",
        included_per_unit=Decimal(per_other or 0),
        minimum=None if minimum is None else Decimal(minimum),
        maximum=None if maximum is None else Decimal(maximum),
        valid_from=START,
        valid_until=None,
    )


def count_by_hand(terms: PriceTerms, quantity: int, other: int) -> Fraction:
    """The same amount, unit after unit: each is looked at alone, with its number in the period."""
    if quantity <= 0:
        has_free = terms.included > 0 or (terms.included_per_unit > 0 and other > 0)
        first = terms.tiers[0].unit_amount if terms.tiers else terms.unit_amount
        return Fraction(0) if has_free or terms.model == "package" else Fraction(first) * quantity
    free = int(terms.included) + int(terms.included_per_unit) * max(0, other)
    charged = [number - free for number in range(1, quantity + 1) if number > free]
    amount = Fraction(0)
    entered: set[int] = set()
    for number in charged:
        if terms.model == "per_unit":
            amount += Fraction(terms.unit_amount)
        elif terms.model == "package":
            if (number - 1) % int(terms.package_size or 1) == 0:
                amount += Fraction(terms.unit_amount)
        else:
            counted = number if terms.model == "graduated" else len(charged)
            place = max(place for place, tier in enumerate(terms.tiers) if counted > tier.first)
            amount += Fraction(terms.tiers[place].unit_amount)
            if place not in entered:
                amount += Fraction(terms.tiers[place].flat_amount)
                entered.add(place)
    if terms.minimum is not None:
        amount = max(amount, Fraction(terms.minimum))
    if terms.maximum is not None:
        amount = min(amount, Fraction(terms.maximum))
    return amount


amounts = st.decimals(min_value=0, max_value=20, places=3)
small = st.integers(min_value=0, max_value=12)


@st.composite
def prices(draw: st.DrawFn) -> PriceTerms:
    """Prices of all models with whole allowances and steps, so that a hand can count them."""
    model: Model = draw(st.sampled_from(["per_unit", "graduated", "volume", "package"]))
    steps = sorted(draw(st.sets(st.integers(min_value=1, max_value=25), max_size=4)))
    tiers = tuple((str(first), str(draw(amounts)), str(draw(amounts))) for first in (0, *steps))
    low, high = sorted((draw(amounts), draw(amounts)))
    depends = draw(st.integers(min_value=1, max_value=3)) if draw(st.booleans()) else None
    return price(
        model,
        str(draw(amounts)) if model in ("per_unit", "package") else "0",
        tiers=tiers if model in ("graduated", "volume") else (),
        package_size=str(draw(st.integers(min_value=1, max_value=7))) if model == "package" else None,
        included=str(draw(small)) if draw(st.booleans()) else "0",
        per_other=None if depends is None else str(depends),
        minimum=str(low) if draw(st.booleans()) else None,
        maximum=str(high) if draw(st.booleans()) else None,
    )


@given(terms=prices(), quantity=st.integers(min_value=-20, max_value=60), other=st.integers(min_value=-3, max_value=12))
@settings(max_examples=300, deadline=None)
def test_a_price_is_what_counting_unit_by_unit_makes(terms: PriceTerms, quantity: int, other: int) -> None:
    assert Fraction(amount_for(terms, Decimal(quantity), Decimal(other))) == count_by_hand(terms, quantity, other)


@given(
    terms=prices(),
    quantity=st.decimals(min_value=-1000, max_value=1000, places=18),
    other=st.decimals(min_value=-10, max_value=100, places=18),
)
@settings(max_examples=300, deadline=None)
def test_the_parts_of_an_amount_add_up_to_it(terms: PriceTerms, quantity: Decimal, other: Decimal) -> None:
    """Quantities to the quantity, amounts to the amount, and each part is quantity times price plus what is once."""
    parts = segments(terms, quantity, other)
    assert sum((Fraction(part.quantity) for part in parts), Fraction(0)) == Fraction(quantity)
    assert sum((Fraction(part.amount) for part in parts), Fraction(0)) == Fraction(amount_for(terms, quantity, other))
    for part in parts:
        assert Fraction(part.amount) == Fraction(part.quantity) * Fraction(part.unit_amount) + Fraction(
            part.flat_amount
        )
        assert part.words


@given(
    terms=prices(),
    pieces=st.lists(st.decimals(min_value=-30, max_value=60, places=6), min_size=1, max_size=12),
    seed=st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_charges_in_any_order_come_to_the_same_sum(terms: PriceTerms, pieces: list[Decimal], seed: object) -> None:
    """Each event is charged f(after) - f(before): however they are shuffled, the sum is f(all)."""
    shuffled = list(pieces)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    for order in (pieces, shuffled):
        so_far, charged = ZERO, ZERO
        for piece in order:
            charged += amount_for(terms, so_far + piece) - amount_for(terms, so_far)
            so_far += piece
        assert charged == amount_for(terms, sum(pieces, ZERO))


@given(terms=prices(), quantity=st.decimals(min_value=-1000, max_value=1000, places=18))
@settings(max_examples=200, deadline=None)
def test_every_amount_fits_an_entry_to_its_last_digit(terms: PriceTerms, quantity: Decimal) -> None:
    amount = amount_for(terms, quantity, Decimal("0.333333333333333333"))
    assert amount == round(amount, 30)


def test_nothing_used_costs_nothing_not_even_the_minimum() -> None:
    assert amount_for(price("per_unit", "1", minimum="5"), ZERO) == 0
    assert amount_for(price("per_unit", "1", minimum="5"), Decimal("0.001")) == 5


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [
        ("-1", "-2"),
        ("0", "0"),
        ("0.5", "1"),
        ("10", "20"),
        ("10.000000000000000001", "20.000000000000000001"),
        ("15", "25"),
    ],
)
def test_a_tier_holds_up_to_and_including_its_end(quantity: str, amount: str) -> None:
    terms = price("graduated", tiers=(("0", "2", "0"), ("10", "1", "0")))
    assert amount_for(terms, Decimal(quantity)) == Decimal(amount)


@pytest.mark.parametrize(("quantity", "amount"), [("10", "20"), ("10.1", "10.1"), ("11", "11")])
def test_volume_tiers_price_the_whole_quantity(quantity: str, amount: str) -> None:
    """The eleventh unit makes all eleven cheaper: the sum falls from 20 to 11."""
    terms = price("volume", tiers=(("0", "2", "0"), ("10", "1", "0")))
    assert amount_for(terms, Decimal(quantity)) == Decimal(amount)


@pytest.mark.parametrize(("quantity", "packages"), [("0.1", 1), ("1000", 1), ("1000.1", 2), ("2999", 3), ("3000", 3)])
def test_a_package_that_was_opened_is_paid(quantity: str, packages: int) -> None:
    assert amount_for(price("package", "5", package_size="1000"), Decimal(quantity)) == 5 * packages
    assert packages == ceil(Decimal(quantity) / 1000)


def test_160_gb_for_each_machine_are_free() -> None:
    """Two machines: 320 GB are free, the 321st costs 0.02."""
    terms = price("per_unit", "0.02", per_other="160")
    assert allowance(terms, Decimal(2)) == 320
    assert amount_for(terms, Decimal(320), Decimal(2)) == 0
    assert amount_for(terms, Decimal(321), Decimal(2)) == Decimal("0.02")
    assert amount_for(terms, Decimal(321), Decimal(3)) == 0


def test_an_allowance_of_a_third_is_rounded_in_the_customers_favour() -> None:
    terms = price("per_unit", "1", per_other="0.333333333333333333")
    free = allowance(terms, Decimal("0.333333333333333333"))
    assert free == Decimal("0.111111111111111111")
    assert allowance(terms, Decimal("0.1")) == Decimal("0.033333333333333334")


@pytest.mark.parametrize(
    ("terms", "flat"),
    [
        (price("per_unit", "1"), True),
        (price("per_unit", "1", included="1"), False),
        (price("per_unit", "1", per_other="1"), False),
        (price("per_unit", "1", minimum="1"), False),
        (price("per_unit", "1", maximum="1"), False),
        (price("package", "1", package_size="1"), False),
        (price("graduated", tiers=(("0", "1", "0"),)), False),
        (price("volume", tiers=(("0", "1", "0"),)), False),
    ],
    ids=["per unit", "allowance", "per other", "minimum", "maximum", "package", "graduated", "volume"],
)
def test_only_a_price_that_counts_nothing_is_flat(terms: PriceTerms, flat: bool) -> None:
    assert terms.flat is flat
