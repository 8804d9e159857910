"""A bar chart of days as plain numbers, which a template writes as SVG: no script, no inline style."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

HEIGHT = 100.0  # SVG user units; the picture is stretched to its box
DAY_WIDTH = 10.0
BAR_WIDTH = 7.6
LEAST_BAR = 1.0
"""So that a day with little usage can be told from a day with none."""

MAX_DAYS = 100
"""A period is a month; whatever asks for years gets its last days only."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: its amount, exact, and its rectangle."""

    day: date
    amount: Decimal
    x: float
    y: float
    width: float
    height: float
    is_future: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """`highest` and `lowest` are the amounts at the top and the bottom edge; `zero` is the base line's height."""

    bars: list[Bar]
    width: float
    height: float
    zero: float
    highest: Decimal
    lowest: Decimal


def chart_days(amounts: Mapping[date, Decimal], *, first: date, last: date, today: date) -> Chart | None:
    """One bar for each day from `first` to `last`, both included; None if nothing was charged on any of them."""
    if not any(amounts.values()):
        return None
    first = max(first, last - timedelta(days=MAX_DAYS - 1))
    shown = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    values = [amounts.get(day, Decimal(0)) for day in shown]
    highest, lowest = max(*values, Decimal(0)), min(*values, Decimal(0))
    span = float(highest - lowest) or 1.0
    zero = HEIGHT * float(highest) / span
    bars = []
    for index, (day, amount) in enumerate(zip(shown, values, strict=True)):
        height = 0.0 if amount == 0 else max(LEAST_BAR, HEIGHT * abs(float(amount)) / span)
        top = zero - height if amount > 0 else zero
        left = index * DAY_WIDTH + (DAY_WIDTH - BAR_WIDTH) / 2
        bars.append(Bar(day, amount, round(left, 2), round(top, 2), BAR_WIDTH, round(height, 2), day > today))
    return Chart(bars, len(shown) * DAY_WIDTH, HEIGHT, round(zero, 2), highest, lowest)
