"""Money: rounding, sharing out, spelling."""

from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import (
    MINOR_UNITS,
    Money,
    UnknownCurrency,
    invoice_exponent,
    minor_units,
    plain,
    round_half_even,
    split_cents,
)

exact_amounts = st.decimals(min_value=-(10**9), max_value=10**9, places=12, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("exact", "rounded"),
    [
        ("0.005", "0.00"),
        ("0.015", "0.02"),
        ("0.025", "0.02"),
        ("-0.005", "0.00"),
        ("-0.015", "-0.02"),
        ("0.0050000000000000000000000000001", "0.01"),
        ("999999999999999.995", "1000000000000000.00"),
    ],
)
def test_a_tie_goes_to_the_even_neighbour_and_nothing_else_does(exact: str, rounded: str) -> None:
    assert round_half_even(Decimal(exact), 2) == Decimal(rounded)


def test_shares_go_to_the_largest_remainders_and_of_equals_to_the_earlier() -> None:
    shares = split_cents(Decimal("0.02"), [Decimal("0.003"), Decimal("0.009"), Decimal("0.009")], 2)
    assert shares == [Decimal("0.00"), Decimal("0.01"), Decimal("0.01")]
    shares = split_cents(Decimal("0.01"), [Decimal("0.005"), Decimal("0.005")], 2)
    assert shares == [Decimal("0.01"), Decimal("0.00")]


def test_a_negative_line_takes_its_share_of_the_rounding_too() -> None:
    weights = [Decimal("10.003"), Decimal("-0.006")]
    assert split_cents(Decimal("10.00"), weights, 2) == [Decimal("10.00"), Decimal("0.00")]


def test_nothing_is_shared_out_over_nothing() -> None:
    assert split_cents(Decimal("0.00"), [], 2) == []
    with pytest.raises(ValueError, match="cannot be shared out"):
        split_cents(Decimal("0.01"), [], 2)


@pytest.mark.parametrize("total", ["0.025", "0.05", "0.01", "-0.01"])
def test_a_total_that_is_not_the_rounded_sum_is_refused(total: str) -> None:
    with pytest.raises(ValueError, match="cannot be shared out"):
        split_cents(Decimal(total), [Decimal("0.02"), Decimal("0.01")], 2)


@given(st.lists(exact_amounts, max_size=40), st.sampled_from([0, 2]))
def test_sharing_out_loses_no_minor_unit_and_moves_no_line_by_one(weights: list[Decimal], exponent: int) -> None:
    total = round_half_even(sum(weights, Decimal(0)), exponent)
    shares = split_cents(total, weights, exponent)
    assert sum(shares, Decimal(0)) == total
    unit = Decimal(1).scaleb(-exponent)
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - weight) < unit
        assert share == share.quantize(unit)


@given(st.lists(exact_amounts, max_size=12), st.randoms(use_true_random=False))
def test_which_share_an_amount_gets_does_not_hang_on_the_order(weights: list[Decimal], random: Random) -> None:
    total = round_half_even(sum(weights, Decimal(0)), 2)
    shuffled = list(weights)
    random.shuffle(shuffled)
    before = sorted(zip(weights, split_cents(total, weights, 2), strict=True))
    after = sorted(zip(shuffled, split_cents(total, shuffled, 2), strict=True))
    assert before == after


@given(exact_amounts)
def test_an_amount_is_written_out_without_loss_exponent_or_idle_zeros(amount: Decimal) -> None:
    text = plain(amount)
    assert Decimal(text) == amount
    assert "E" not in text
    assert text == "0" or not (text.endswith("0") and "." in text)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("4E-7", "0.0000004"), ("20.50", "20.5"), ("100", "100"), ("1E+3", "1000"), ("-0.00", "0"), ("-0.10", "-0.1")],
)
def test_spelling_of_awkward_amounts(amount: str, text: str) -> None:
    assert plain(Decimal(amount)) == text


def test_currencies_do_not_add_up_and_floats_are_no_money() -> None:
    with pytest.raises(TypeError, match="do not add up"):
        Money(Decimal(1), "USD") + Money(Decimal(1), "EUR")
    with pytest.raises(TypeError, match="finite Decimal"):
        Money(Decimal("NaN"), "USD")
    with pytest.raises(TypeError, match="finite Decimal"):
        Money(1.5, "USD")  # type: ignore[arg-type] # the mistake that is tested


def test_adding_keeps_more_digits_than_pythons_default() -> None:
    tiny, huge = Money(Decimal("1E-30"), "USD"), Money(Decimal("999999999999999"), "USD")
    assert plain((tiny + huge).amount) == "999999999999999.000000000000000000000000000001"


@pytest.mark.parametrize("currency", ["usd", "XXX", "", "US", "BTC"])
def test_an_unknown_currency_is_refused_by_name(currency: str) -> None:
    with pytest.raises(UnknownCurrency, match="not a currency that we bill in"):
        minor_units(currency)


def test_minor_units_of_the_currencies_that_people_get_wrong() -> None:
    assert [minor_units(code) for code in ("JPY", "ISK", "HUF", "TWD", "KWD", "MGA")] == [0, 0, 2, 2, 3, 0]
    assert [invoice_exponent(code) for code in ("JPY", "USD", "KWD")] == [0, 2, 2]
    assert all(len(code) == 3 and code.isupper() for code in MINOR_UNITS)
