"""Stripe's minor units, exact both ways."""

from decimal import Decimal

import pytest

from ledger.money import MINOR_UNITS, UnknownCurrency, invoice_exponent
from stripe_gateway import amounts
from stripe_gateway.errors import AmountNotExpressible
from stripe_gateway.sandbox import currencies as sandbox_currencies


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.34", "USD", 1234),
        ("-0.01", "USD", -1),
        ("0", "USD", 0),
        ("1234", "JPY", 1234),
        ("1200", "ISK", 120_000),
        ("5000", "UGX", 500_000),
        ("1.230", "KWD", 1230),
        ("99999999999999.99", "USD", 9_999_999_999_999_999),
    ],
)
def test_amounts_go_there_and_back_exactly(amount: str, currency: str, minor: int) -> None:
    assert amounts.to_minor(Decimal(amount), currency) == minor
    assert amounts.from_minor(minor, currency.lower()) == Decimal(amount)


@pytest.mark.parametrize(
    ("amount", "currency"), [("0.001", "USD"), ("0.5", "JPY"), ("1200.5", "ISK"), ("1.234", "KWD"), ("1E-30", "USD")]
)
def test_what_stripe_cannot_charge_is_refused_and_never_rounded(amount: str, currency: str) -> None:
    with pytest.raises(AmountNotExpressible):
        amounts.to_minor(Decimal(amount), currency)


@pytest.mark.parametrize("currency", sorted(MINOR_UNITS))
def test_whatever_an_invoice_is_rounded_to_can_be_charged(currency: str) -> None:
    unit = Decimal(1).scaleb(-invoice_exponent(currency))
    assert amounts.from_minor(amounts.to_minor(unit * 7, currency), currency) == unit * 7
    minimum = amounts.minimum(currency)
    assert minimum > 0
    assert amounts.from_minor(amounts.to_minor(minimum, currency), currency) == minimum


@pytest.mark.parametrize("currency", sorted(MINOR_UNITS))
def test_what_is_above_our_minimum_is_above_the_sandboxs(currency: str) -> None:
    minor = amounts.to_minor(amounts.minimum(currency), currency)
    assert minor >= sandbox_currencies.minimum_charge(currency.lower())


def test_a_currency_that_we_do_not_bill_in_is_refused() -> None:
    with pytest.raises(UnknownCurrency):
        amounts.to_minor(Decimal(1), "XXX")
