"""Amounts in Stripe's minor units, which are not ISO 4217's for every currency.

Source: https://docs.stripe.com/currencies (zero-decimal, three-decimal, special cases, minimum charge amounts).
"""

from decimal import Decimal

from ledger.money import EXACT, minor_units, plain
from stripe_gateway.errors import AmountNotExpressible

_ZERO = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"
ZERO_DECIMAL = frozenset(_ZERO.split())
THREE_DECIMAL = frozenset(("BHD", "JOD", "KWD", "OMR", "TND"))

# Stripe counts these in hundredths for backward compatibility, but charges whole units only.
HUNDREDTHS_OF_WHOLE_UNITS = frozenset({"ISK", "UGX"})

# In major units, for an account that settles in the same currency.
MINIMUM = {
    **dict.fromkeys(("USD", "EUR", "CHF", "AUD", "CAD", "NZD", "SGD", "BRL", "INR"), Decimal("0.50")),
    "GBP": Decimal("0.30"),
    "JPY": Decimal(50),
    "DKK": Decimal("2.50"),
    **dict.fromkeys(("NOK", "SEK"), Decimal(3)),
    **dict.fromkeys(("PLN", "RON", "AED"), Decimal(2)),
    "CZK": Decimal(15),
    "HUF": Decimal(175),
    **dict.fromkeys(("MXN", "THB"), Decimal(10)),
    "HKD": Decimal(4),
}

# Stripe names no minimum for the others: what it charges must be worth about half a US dollar after conversion.
# A larger guess would carry invoices forward that Stripe would take; a smaller one would only be refused and parked.
DEFAULT_MINIMUM_MINOR = 50


def exponent(currency: str) -> int:
    """How many decimals Stripe's minor unit has.

    Raises:
        UnknownCurrency: it is none that we bill in.
    """
    minor_units(currency)
    if currency in ZERO_DECIMAL:
        return 0
    return 3 if currency in THREE_DECIMAL else 2


def step_minor(currency: str) -> int:
    """The smallest difference that can be charged, in Stripe's minor units: 10 for KWD, 100 for ISK, else 1."""
    if currency in THREE_DECIMAL:
        return 10
    return 100 if currency in HUNDREDTHS_OF_WHOLE_UNITS else 1


def to_minor(amount: Decimal, currency: str) -> int:
    """The exact amount in Stripe's minor units: 12.34 USD is 1234, 1200 ISK is 120000.

    Raises:
        AmountNotExpressible: it has a part finer than what can be charged; amounts are never rounded here.
    """
    scaled = amount.scaleb(exponent(currency), context=EXACT)
    minor = int(scaled)
    if minor != scaled or minor % step_minor(currency):
        raise AmountNotExpressible(
            f"{plain(amount)} {currency} has finer parts than Stripe can charge in {currency}. Round the invoice first."
        )
    return minor


def from_minor(amount_minor: int, currency: str) -> Decimal:
    """The amount in major units; `currency` may be written as Stripe writes it, in lower case."""
    return Decimal(amount_minor).scaleb(-exponent(currency.upper()), context=EXACT)


def minimum(currency: str) -> Decimal:
    """The smallest amount that Stripe collects, in major units."""
    known = MINIMUM.get(currency)
    if known is not None:
        return known
    step = step_minor(currency)
    return from_minor(-(-DEFAULT_MINIMUM_MINOR // step) * step, currency)
