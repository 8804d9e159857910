"""Stripe's minor units and smallest charges.

Source: https://docs.stripe.com/currencies (minimum charge amounts, zero-decimal currencies).
"""

from __future__ import annotations

ZERO_DECIMAL = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
THREE_DECIMAL = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])

# In the currency's minor units, for an account that settles in the same currency.
_MINIMUM = {
    **dict.fromkeys(["usd", "eur", "chf", "aud", "cad", "nzd", "sgd", "brl", "inr"], 50),
    "gbp": 30,
    "jpy": 50,
    "dkk": 250,
    "nok": 300,
    "sek": 300,
    **dict.fromkeys(["pln", "ron", "aed"], 200),
    "czk": 1500,
    "huf": 17500,
    "mxn": 1000,
    "thb": 1000,
    "hkd": 400,
}
_DEFAULT_MINIMUM = 50


def minimum_charge(currency: str) -> int:
    """The smallest amount that can be charged, in minor units; 50 where Stripe's table has no line of its own."""
    return _MINIMUM.get(currency, _DEFAULT_MINIMUM)


def decimals(currency: str) -> int:
    """How many decimals the minor unit has."""
    return 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2


def shown_amount(amount_minor: int, currency: str) -> str:
    """An amount for people, such as ``12.34 USD``."""
    digits = decimals(currency)
    sign = "-" if amount_minor < 0 else ""
    whole, part = divmod(abs(amount_minor), 10**digits)
    figure = f"{whole:,}" + (f".{part:0{digits}d}" if digits else "")
    return f"{sign}{figure} {currency.upper()}"
