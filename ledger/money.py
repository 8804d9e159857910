"""Money: exact decimals with a currency, and how a total is shared out without losing a minor unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext

from ledger import PRECISION
from ledger.errors import LedgerError

# Sums of numeric(15 integer digits, 30 decimals) stay exact far below this precision.
EXACT = Context(prec=PRECISION)

# ISO 4217 minor units. A currency that is missing here is refused everywhere, by name.
# Source: https://www.six-group.com/en/products-services/financial-information/data-standards.html (list one)
_TWO = (
    "AED ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY COP CRC CVE "
    "CZK DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD KES KGS KHR KYD KZT "
    "LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR "
    "PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TOP TRY TTD TWD TZS UAH USD UYU UZS WST "
    "XCD YER ZAR ZMW"
)
_ZERO = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE = "BHD JOD KWD OMR TND"
MINOR_UNITS: dict[str, int] = {
    **dict.fromkeys(_TWO.split(), 2),
    **dict.fromkeys(_ZERO.split(), 0),
    **dict.fromkeys(_THREE.split(), 3),
    "MGA": 0,  # the ariary is divided into fifths, which are not in use; hundredths it never had
}


class UnknownCurrency(LedgerError):
    """This currency is not one that we bill in. Use an ISO 4217 code in upper case, such as USD."""

    code = "unknown_currency"


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount in major units: Money(Decimal("0.0000008"), "USD") is one machine-second."""

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        amount: object = self.amount
        if not isinstance(amount, Decimal) or not amount.is_finite():
            raise TypeError(f"Money takes a finite Decimal, not {amount!r}.")
        minor_units(self.currency)

    def __add__(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise TypeError(f"{self.currency} and {other.currency} do not add up.")
        return Money(EXACT.add(self.amount, other.amount), self.currency)

    def __neg__(self) -> "Money":
        return Money(EXACT.minus(self.amount), self.currency)


def minor_units(currency: str) -> int:
    """How many decimals the currency's smallest unit has: USD 2, JPY 0, KWD 3."""
    try:
        return MINOR_UNITS[currency]
    except KeyError:
        raise UnknownCurrency(
            f"{currency!r} is not a currency that we bill in. Use an ISO 4217 code in upper case, such as USD."
        ) from None


def invoice_exponent(currency: str) -> int:
    """Decimals to which an invoice is rounded: never finer than hundredths.

    Three-decimal currencies are charged in steps of ten of their smallest unit.
    Source: https://docs.stripe.com/currencies#three-decimal
    """
    return min(minor_units(currency), 2)


def round_half_even(amount: Decimal, exponent: int) -> Decimal:
    """The nearest amount with `exponent` decimals; a tie goes to the even neighbour."""
    return amount.quantize(Decimal(1).scaleb(-exponent), rounding=ROUND_HALF_EVEN, context=EXACT)


def split_cents(total: Decimal, weights: Sequence[Decimal], exponent: int) -> list[Decimal]:
    """Share a rounded total out by largest remainder; the shares add up to `total` to the last minor unit.

    `weights` are the exact amounts behind the total, of any sign; `total` is their sum, rounded to `exponent`
    decimals in whichever way. Each share differs from its weight by less than one unit. Of equal remainders the
    earlier weight's is served first, so which order the weights come in decides between equals only.

    Raises:
        ValueError: `total` is no multiple of the unit, or differs from the sum of the weights by a unit or more.
    """
    unit = Decimal(1).scaleb(-exponent)
    with localcontext(EXACT):
        floors = [weight.quantize(unit, rounding=ROUND_FLOOR) for weight in weights]
        units = (total - sum(floors, Decimal(0))) / unit
        exact = sum(weights, Decimal(0))
        if units != units.to_integral_value() or abs(total - exact) >= unit:
            raise ValueError(f"{total} cannot be shared out over amounts that sum to {exact}.")
        by_remainder = sorted(range(len(weights)), key=lambda i: (floors[i] - weights[i], i))
        for i in by_remainder[: int(units)]:
            floors[i] += unit
    return floors


def plain(amount: Decimal) -> str:
    """The amount written out, without exponent and without trailing zeros: 4E-7 is 0.0000004, 20.50 is 20.5."""
    text = f"{amount:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
