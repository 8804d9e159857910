"""How the panel writes what people read."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.panel import format as formats
from app.panel.charts import HEIGHT, chart_days
from app.panel.estimate import estimate_total

AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=12)


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("20.52022672899", "USD", "$20.52"),
        ("1234567.885", "USD", "$1,234,567.88"),  # a tie goes to the even cent, as on the invoice
        ("-0.5", "USD", "−$0.50"),
        ("1234.5", "JPY", "¥1,234"),
        ("0", "EUR", "€0.00"),
        ("12.345", "KWD", "KWD12.34"),
    ],
)
def test_money_is_rounded_as_the_invoice_rounds(amount: str, currency: str, text: str) -> None:
    assert formats.money(Decimal(amount), currency).replace("\xa0", "") == text


def test_what_rounds_to_nothing_is_not_called_nothing() -> None:
    assert formats.small_money(Decimal("0.0000008"), "USD") == "<$0.01"
    assert formats.small_money(Decimal("-0.001"), "USD") == "−<$0.01"
    assert formats.small_money(Decimal(0), "USD") == "$0.00"
    assert formats.shown_money(Decimal("0.00"), Decimal("0.004"), "USD") == "<$0.01"


def test_unit_prices_keep_every_digit() -> None:
    assert formats.unit_price(Decimal("8E-7"), "USD") == "$0.0000008"
    assert formats.unit_price(Decimal("2"), "USD") == "$2.00"
    assert formats.unit_price(Decimal("0.150"), "USD") == "$0.15"


def test_seconds_read_as_hours() -> None:
    assert formats.quantity(Decimal(2_592_000), "second") == "720 h"
    assert formats.quantity(Decimal(90), "second") == "90 s"
    assert formats.quantity(Decimal("0.0004"), "GB-month") == "0.0004 GB-months"
    assert formats.quantity(Decimal("-7200"), "second") == "−2 h"
    assert formats.exact_quantity(Decimal("2592000.50"), "second") == "2,592,000.5 seconds"
    assert formats.quantity(Decimal("3"), "") == "3"


@given(AMOUNTS)
def test_an_exact_amount_reads_back_exactly(amount: Decimal) -> None:
    text = formats.exact_money(amount, "USD").removesuffix(" USD").replace(",", "").replace("−", "-")
    assert Decimal(text) == amount


def test_periods_are_named_as_people_name_them() -> None:
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    assert formats.month(start, end, "UTC") == "November 2026"
    assert formats.days(start, end, "UTC") == "Nov 1 – Nov 30, 2026"
    half = datetime(2026, 11, 15, tzinfo=UTC)
    assert formats.month(half, half + timedelta(days=31), "UTC") == "Nov 15 – Dec 15, 2026"
    assert formats.days(half, half + timedelta(days=60), "UTC") == "Nov 15, 2026 – Jan 13, 2027"
    assert formats.days(half, half + timedelta(hours=3), "UTC") == "Nov 15, 2026"


def test_shares_are_honest_about_little_and_nothing() -> None:
    assert formats.percent(Decimal(1), Decimal(3)) == "33%"
    assert formats.percent(Decimal("0.001"), Decimal(3)) == "<1%"
    assert formats.percent(Decimal(0), Decimal(3)) == "0%"
    assert formats.percent(Decimal(1), Decimal(-3)) == ""


@given(st.dictionaries(st.integers(0, 30), AMOUNTS, max_size=31))
def test_every_bar_stays_in_the_picture(amounts: dict[int, Decimal]) -> None:
    first = date(2026, 11, 1)
    by_day = {first + timedelta(days=offset): amount for offset, amount in amounts.items()}
    chart = chart_days(by_day, first=first, last=first + timedelta(days=30), today=first)
    if chart is None:
        assert not any(amounts.values())
        return
    assert len(chart.bars) == 31
    for bar in chart.bars:
        assert bar.height >= 0
        # A day of next to nothing is drawn one unit high, which may stand out by that unit.
        assert -1.01 <= bar.y <= HEIGHT + 0.01
        assert bar.y + bar.height <= HEIGHT + 1.01
        assert bar.x >= 0
        assert bar.x + bar.width <= chart.width


def test_a_very_long_period_shows_its_last_days() -> None:
    first = date(2020, 1, 1)
    chart = chart_days({date(2026, 1, 1): Decimal(1)}, first=first, last=date(2026, 1, 1), today=first)
    assert chart is not None
    assert (len(chart.bars), chart.bars[-1].day) == (100, date(2026, 1, 1))


def test_an_estimate_needs_usage_time_and_an_open_end() -> None:
    start = datetime(2026, 11, 1, tzinfo=UTC)
    end = start + timedelta(days=30)

    def estimate(usage: str, *, at: timedelta, fixed: str = "0") -> Decimal | None:
        found = estimate_total(
            usage=Decimal(usage), fixed=Decimal(fixed), start=start, end=end, usage_since=start, now=start + at
        )
        return found.amount if found else None

    assert estimate("3", at=timedelta(days=10)) == Decimal(9)
    assert estimate("3", at=timedelta(days=10), fixed="1") == Decimal(10)
    assert estimate("3", at=timedelta(hours=11)) is None
    assert estimate("0", at=timedelta(days=10)) is None
    assert estimate("-3", at=timedelta(days=10)) is None
    assert estimate("3", at=timedelta(days=30)) is None
