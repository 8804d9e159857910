"""How the panel writes money, quantities and times. Display only: nothing here is calculated with again."""

from datetime import date, datetime, timedelta
from decimal import Decimal

from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal

from ledger.money import EXACT, invoice_exponent, plain, round_half_even
from ledger.zones import zone

LOCALE = "en_US"

SECONDS_PER_HOUR = Decimal(3600)
SHOWN_DECIMALS = 2
"""Decimals of a quantity in the tables; the CSV files have all of them."""

UNIT_DECIMALS = 12
"""As many as a price can have."""

_TIMES = ("second", "minute", "hour", "day", "month", "year")
SECONDS = frozenset({"s", "sec", "second", "seconds", "machine-second", "machine-seconds"})


def money(amount: Decimal, currency: str) -> str:
    """An amount rounded as an invoice rounds it, with the currency's sign: $20.52."""
    return _currency(round_half_even(amount, invoice_exponent(currency)), currency)


def small_money(amount: Decimal, currency: str) -> str:
    """Like `money`, but what would be rounded to nothing shows as less than the smallest unit: <$0.01."""
    unit = Decimal(1).scaleb(-invoice_exponent(currency))
    if amount == 0 or round_half_even(amount, invoice_exponent(currency)) != 0:
        return money(amount, currency)
    return f"<{_currency(unit, currency)}" if amount > 0 else f"−<{_currency(unit, currency)}"


def shown_money(shown: Decimal, amount: Decimal, currency: str) -> str:
    """A share of a rounded total; where nothing of a small `amount` is left in it, as `small_money` writes it."""
    return small_money(amount, currency) if shown == 0 else money(shown, currency)


def exact_money(amount: Decimal, currency: str) -> str:
    """An amount to its last digit: 20.52022672899 USD."""
    return f"{_grouped(amount)} {currency}"


def unit_price(amount: Decimal, currency: str) -> str:
    """The price of one unit, with the digits it has, at least as many as an invoice: $0.0000022, $2.00."""
    # Writing out by hand what Babel would round; a unit price is never shown rounded.
    decimals = max(invoice_exponent(currency), _decimals(amount))
    pattern = "¤#,##0" + ("." + "0" * decimals if decimals else "")
    return format_currency(amount, currency, format=pattern, locale=LOCALE, currency_digits=False)


def quantity(amount: Decimal, unit: str) -> str:
    """How much was used, short: 720 h for 2,592,000 seconds, 10.5 GB-months."""
    if unit.lower() in SECONDS:
        hours = EXACT.divide(amount, SECONDS_PER_HOUR)
        if abs(hours) >= 1:
            return f"{_short(hours)} h"
        return f"{_short(amount)} s"
    short = _short(amount)
    return f"{short} {_plural(unit, short)}".rstrip()


def exact_quantity(amount: Decimal, unit: str) -> str:
    """How much was used, to the last digit and in the price's own unit."""
    text = _grouped(amount)
    return f"{text} {_plural(unit, text)}".rstrip()


def day(value: date) -> str:
    """1 November 2026 is Nov 1, 2026."""
    return format_date(value, format="medium", locale=LOCALE)


def short_day(value: date) -> str:
    """Nov 1."""
    return format_date(value, format="MMM d", locale=LOCALE)


def moment(value: datetime, time_zone: str) -> str:
    """A time in the customer's zone, with the zone: Nov 3, 2026, 14:05 UTC."""
    local = value.astimezone(zone(time_zone))
    return format_datetime(local, format="MMM d, y, HH:mm ", locale=LOCALE) + zone_name(value, time_zone)


def zone_name(value: datetime, time_zone: str) -> str:
    """The zone's usual short name at this time (UTC, CET), or its offset where it has none."""
    return value.astimezone(zone(time_zone)).tzname() or time_zone


def last_day(end: datetime, time_zone: str) -> date:
    """The last day of a period that ends, exclusively, at `end`."""
    return (end - timedelta(microseconds=1)).astimezone(zone(time_zone)).date()


def first_day(start: datetime, time_zone: str) -> date:
    """The day on which a period begins."""
    return start.astimezone(zone(time_zone)).date()


def days(start: datetime, end: datetime, time_zone: str) -> str:
    """A period by its first and last day: Nov 1 – Nov 30, 2026."""
    first, last = first_day(start, time_zone), last_day(end, time_zone)
    if first == last:
        return day(first)
    return f"{short_day(first) if first.year == last.year else day(first)} – {day(last)}"


def month(start: datetime, end: datetime, time_zone: str) -> str:
    """What people call the period: November 2026 if it is that month, else its days."""
    first, last = first_day(start, time_zone), last_day(end, time_zone)
    is_month = first.day == 1 and (first.year, first.month) == (last.year, last.month)
    if is_month and (last + timedelta(days=1)).day == 1:
        return format_date(first, format="LLLL y", locale=LOCALE)
    return days(start, end, time_zone)


def percent(part: Decimal, whole: Decimal) -> str:
    """A share, in whole percent: 42%; <1% for what is little and not nothing. Empty where no share makes sense."""
    if whole <= 0 or part < 0:
        return ""
    share = EXACT.divide(part * 100, whole)
    return "<1%" if 0 < share < 1 else f"{share:.0f}%"


def _plural(unit: str, number: str) -> str:
    # Units come from outside in any language; only those of time are known to take an s.
    return f"{unit}s" if number not in ("1", "−1") and unit.endswith(_TIMES) else unit


def _currency(amount: Decimal, currency: str) -> str:
    decimals = invoice_exponent(currency)
    pattern = "¤#,##0" + ("." + "0" * decimals if decimals else "")
    # The sign stands before the currency's, as a true minus, so that it cannot be read as a hyphen.
    text = format_currency(abs(amount), currency, format=pattern, locale=LOCALE, currency_digits=False)
    return f"−{text}" if amount < 0 else text


def _decimals(amount: Decimal) -> int:
    return len(plain(amount).partition(".")[2])


def _short(amount: Decimal) -> str:
    rounded = round_half_even(amount, SHOWN_DECIMALS)
    if rounded == 0 and amount != 0:
        return plain(EXACT.create_decimal(f"{amount:.2g}")).replace("-", "−")
    return _grouped(rounded)


def _grouped(amount: Decimal) -> str:
    whole, _, fraction = plain(abs(amount)).partition(".")
    text = format_decimal(Decimal(whole), format="#,##0", locale=LOCALE) + (f".{fraction}" if fraction else "")
    return f"−{text}" if amount < 0 else text
