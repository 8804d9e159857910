"""How amounts, quantities and times are written, and that every word and file is where pages expect it."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

import support_ui
from ledger.accounts import CUSTOMER_ACCOUNTS, HOUSE_ACCOUNTS
from ledger.entries import KINDS
from support_ui import figures, wording
from tests.support_ui.conftest import at

ROOM = Path(support_ui.__file__).parent
VENDOR = ROOM / "static" / "vendor"


def plain(markup: str) -> str:
    return re.sub(r"<[^>]*>", "", markup)


@pytest.mark.parametrize(
    ("amount", "currency", "exact", "rounded"),
    [
        ("20.52022672899", "USD", "20.52022672899 USD", "20.52 USD"),
        ("0.0000008", "USD", "0.0000008 USD", "0.00 USD"),
        ("-1234567.5", "EUR", "−1,234,567.50 EUR", "−1,234,567.50 EUR"),
        ("0.005", "USD", "0.005 USD", "0.00 USD"),
        ("0.015", "USD", "0.015 USD", "0.02 USD"),
        ("1E+3", "USD", "1,000.00 USD", "1,000.00 USD"),
        ("1234.4", "JPY", "1,234.4 JPY", "1,234 JPY"),
        ("5000", "JPY", "5,000 JPY", "5,000 JPY"),
        ("0", "USD", "0.00 USD", "0.00 USD"),
    ],
)
def test_amounts_show_every_digit_or_what_an_invoice_says(amount: str, currency: str, exact: str, rounded: str) -> None:
    assert plain(figures.exact(Decimal(amount), currency)) == exact
    assert plain(figures.money(Decimal(amount), currency)) == rounded
    assert figures.words_money(Decimal(amount), currency) == rounded


def test_a_period_is_called_by_its_month_where_the_customer_lives() -> None:
    start, end = datetime(2026, 9, 30, 22, tzinfo=UTC), datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert figures.period(start, end, "Europe/Berlin") == "October 2026"
    assert figures.period(start, end, "UTC") == "30 Sep – 31 Oct 2026"
    assert figures.period(at("2026-12-15"), at("2027-01-15")) == "15 Dec 2026 – 14 Jan 2027"
    assert figures.period(at("2026-12-15"), at("2026-12-16")) == "15 Dec 2026"


def test_moments_say_their_zone_and_how_far_away_they_are() -> None:
    moment = at("2026-11-03T14:05")
    assert plain(figures.instant(moment)) == "3 Nov 2026, 14:05 UTC"
    assert plain(figures.instant(None)) == "–"
    assert figures.until(moment + timedelta(minutes=5), moment) == "in 5 min"
    assert figures.until(moment - timedelta(hours=30), moment) == "30 h ago"
    assert figures.until(moment + timedelta(days=3), moment) == "in 3 days"
    assert figures.until(moment, moment) == "now"


def test_units_are_words() -> None:
    assert figures.units("second", Decimal(2)) == "seconds"
    assert figures.units("second", Decimal(1)) == "second"
    assert figures.units("GB-month", Decimal("0.5")) == "GB-months"
    assert [figures.units(unit, Decimal(2)) for unit in ("GB", "s", "hours", "")] == ["GB", "s", "hours", ""]


def test_every_account_and_kind_of_entry_has_words() -> None:
    assert set(wording.ACCOUNTS) == CUSTOMER_ACCOUNTS | HOUSE_ACCOUNTS
    assert set(wording.ENTRY_KINDS) == KINDS


def test_vendored_files_are_what_their_list_says() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|.*`([0-9a-f]{64})` \|$", (VENDOR / "VENDORED.md").read_text(), re.MULTILINE)
    listed = {name for name, _ in rows}
    assert listed == {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.suffix in (".js", ".css")}
    for name, checksum in rows:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == checksum, name
        assert (VENDOR / name).parent.joinpath("LICENSE").exists()


def test_pages_ask_no_other_host_for_anything() -> None:
    ours = [*ROOM.rglob("*.html"), *(ROOM / "static" / "css").iterdir(), *(ROOM / "static" / "js").iterdir()]
    assert len(ours) > 20
    for path in ours:
        assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//""", path.read_text()), path
