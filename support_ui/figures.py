"""How the pages write amounts, quantities and times. Display only: nothing here is calculated with again."""

from datetime import UTC, datetime, timedelta
from datetime import date as Date  # noqa: N812 - `date` is what pages call
from decimal import Decimal, InvalidOperation

from markupsafe import Markup

from ledger.money import invoice_exponent, plain, round_half_even
from ledger.zones import zone

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"


def grouped(amount: Decimal, *, decimals: int = 0) -> str:
    """All digits, thousands grouped, at least `decimals` of them behind the point: 1,234.50."""
    text = plain(abs(amount))
    whole, _, fraction = text.partition(".")
    fraction = fraction.ljust(decimals, "0")
    return (MINUS if amount < 0 else "") + f"{int(whole):,}" + (f".{fraction}" if fraction else "")


def exact(amount: Decimal, currency: str) -> Markup:
    """An amount to its last digit, with the currency; what an invoice would round away is set smaller."""
    decimals = invoice_exponent(currency)
    text = grouped(amount, decimals=decimals)
    head, point, fraction = text.partition(".")
    shown, rest = fraction[:decimals], fraction[decimals:]
    # Where the currency has no decimals, the point belongs to the digits that will be rounded away.
    return Markup('<span class="money">{}{}<span class="tail">{}</span> <span class="cur">{}</span></span>').format(
        head, point + shown if shown else "", rest if shown else point + rest, currency
    )


def money(amount: Decimal, currency: str) -> Markup:
    """An amount rounded as invoices are, with the currency: 1,234.50 USD."""
    decimals = invoice_exponent(currency)
    text = grouped(round_half_even(amount, decimals), decimals=decimals)
    return Markup('<span class="money">{} <span class="cur">{}</span></span>').format(text, currency)


def unit_price(amount: Decimal, currency: str) -> Markup:
    """The price of one unit: all its digits count alike."""
    text = grouped(amount, decimals=invoice_exponent(currency))
    return Markup('<span class="money">{} <span class="cur">{}</span></span>').format(text, currency)


def units(unit: str, amount: Decimal) -> str:
    """The unit's name behind a quantity: seconds, GB-months; as it is where it cannot be told."""
    is_word = bool(unit) and unit[-1].isalpha() and unit[-1].islower() and not unit.endswith("s")
    return unit + "s" if is_word and len(unit) > 2 and abs(amount) != 1 else unit


def noted(text: object, currency: str) -> Markup | str:
    """An amount from a history row, where it stands as text; as it is if it is none."""
    try:
        return exact(Decimal(str(text)), currency)
    except InvalidOperation:
        return str(text)


def words_money(amount: Decimal, currency: str) -> str:
    """As `money`, as plain text for sentences."""
    decimals = invoice_exponent(currency)
    return f"{grouped(round_half_even(amount, decimals), decimals=decimals)} {currency}"


def quantity(amount: Decimal | None) -> str:
    """A quantity with all its digits; a dash where there is none."""
    return DASH if amount is None else grouped(amount)


def instant(at: datetime | None) -> Markup:
    """A moment in UTC, to the minute, with the full time for machines."""
    if at is None:
        return Markup('<span class="faint">{}</span>').format(DASH)
    utc = at.astimezone(UTC)
    text = f"{utc.day} {utc:%b %Y, %H:%M} UTC"
    return Markup('<time class="nowrap" datetime="{}">{}</time>').format(utc.isoformat(), text)


def second(at: datetime) -> Markup:
    """A moment in UTC, to the second, for pages on which the very moment matters."""
    utc = at.astimezone(UTC)
    text = f"{utc.day} {utc:%b %Y, %H:%M:%S} UTC"
    return Markup('<time class="nowrap" datetime="{}">{}</time>').format(utc.isoformat(), text)


def day(at: datetime, time_zone: str = "UTC") -> str:
    """The local day on which a moment falls: 3 Nov 2026."""
    local = at.astimezone(zone(time_zone))
    return f"{local.day} {local:%b %Y}"


def date(on: Date) -> str:
    """A day that a bank or a person named: 3 Nov 2026."""
    return f"{on.day} {on:%b %Y}"


def period(start: datetime, end: datetime, time_zone: str = "UTC") -> str:
    """What people call a period: October 2026 if it is that month in the billing time zone, else its days."""
    first = start.astimezone(zone(time_zone))
    # The end is exclusive: the last day is the one that holds the moment before.
    last = (end - timedelta(microseconds=1)).astimezone(zone(time_zone))
    after = end.astimezone(zone(time_zone))
    if first.day == 1 and after.day == 1 and (first.year, first.month) == (last.year, last.month):
        return f"{first:%B %Y}"
    if first.date() == last.date():
        return f"{last.day} {last:%b %Y}"
    if first.year != last.year:
        return f"{first.day} {first:%b %Y} {DASH} {last.day} {last:%b %Y}"
    return f"{first.day} {first:%b} {DASH} {last.day} {last:%b %Y}"


def until(at: datetime, now: datetime) -> str:
    """How far away a moment is, in one unit: in 3 h, 2 days ago."""
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    if size < 60:
        return "now"
    if size < 3600:
        text = f"{size // 60:.0f} min"
    elif size < 2 * 86400:
        text = f"{size // 3600:.0f} h"
    else:
        text = f"{size // 86400:.0f} days"
    return f"in {text}" if seconds > 0 else f"{text} ago"
