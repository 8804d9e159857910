"""Periods: where they are cut, and which one bills a charge."""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast
from zoneinfo import available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.periods import Period, PeriodBook, calendar_period
from ledger.tables import PeriodRow
from ledger.zones import UnknownTimeZone, zone

ODD_ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # summer time began at midnight
    "Asia/Beirut",  # still does
    "Africa/Cairo",  # begins at midnight, ends at 24:00
    "America/Havana",  # midnight happens twice
    "Pacific/Apia",  # had no 30 December 2011
    "Pacific/Kwajalein",  # had no 21 August 1993; the farthest east
    "Asia/Kathmandu",  # a quarter of an hour off
    "Australia/Lord_Howe",  # summer time of half an hour
    "Pacific/Kiritimati",
    "America/Nuuk",
    "Antarctica/Troll",  # summer time of two hours
)

instants = st.integers(0, 32 * 365 * 86_400).map(lambda s: datetime(2005, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
anchors = st.integers(1, 31)
zones = st.sampled_from(ODD_ZONES)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def start_of(instant: str, time_zone: str, anchor_day: int) -> datetime:
    return calendar_period(at(instant), time_zone=time_zone, anchor_day=anchor_day).start


@pytest.mark.parametrize(
    ("time_zone", "anchor_day", "instant", "start", "end"),
    [
        ("UTC", 1, "2025-06-30T23:59:59.999999", "2025-06-01T00:00", "2025-07-01T00:00"),
        ("UTC", 1, "2025-07-01T00:00", "2025-07-01T00:00", "2025-08-01T00:00"),
        ("UTC", 15, "2025-01-14T23:00", "2024-12-15T00:00", "2025-01-15T00:00"),
        ("Europe/Berlin", 1, "2025-03-31T22:30", "2025-03-31T22:00", "2025-04-30T22:00"),
        ("Europe/Berlin", 1, "2025-03-31T21:30", "2025-02-28T23:00", "2025-03-31T22:00"),
        ("America/New_York", 1, "2025-11-02T03:59", "2025-11-01T04:00", "2025-12-01T05:00"),
        # 4 November 2018 began at 01:00 in São Paulo: the period begins with the jump.
        ("America/Sao_Paulo", 4, "2018-11-04T03:00", "2018-11-04T03:00", "2018-12-04T02:00"),
        ("America/Sao_Paulo", 4, "2018-11-04T02:59", "2018-10-04T03:00", "2018-11-04T03:00"),
        # 30 March 2025 began at 01:00 in Beirut.
        ("Asia/Beirut", 30, "2025-03-29T22:00", "2025-03-29T22:00", "2025-04-29T21:00"),
        # 26 April 2024 began at 01:00 in Cairo; 31 October 2024 had 25 hours, the last of them twice.
        ("Africa/Cairo", 26, "2024-04-25T22:00", "2024-04-25T22:00", "2024-05-25T21:00"),
        ("Africa/Cairo", 1, "2024-10-31T21:30", "2024-09-30T21:00", "2024-10-31T22:00"),
        # 1 November 2020 began twice in Havana: the first midnight counts.
        ("America/Havana", 1, "2020-11-01T04:00", "2020-11-01T04:00", "2020-12-01T05:00"),
        ("America/Havana", 1, "2020-11-01T05:30", "2020-11-01T04:00", "2020-12-01T05:00"),
        # Samoa went from the 29th to the 31st of December 2011.
        ("Pacific/Apia", 30, "2011-12-30T10:00", "2011-12-30T10:00", "2012-01-29T10:00"),
        ("Pacific/Apia", 31, "2011-12-30T10:00", "2011-12-30T10:00", "2012-01-30T10:00"),
        ("Pacific/Apia", 30, "2011-12-30T09:59", "2011-11-30T10:00", "2011-12-30T10:00"),
    ],
)
def test_periods_begin_at_the_first_moment_of_the_local_anchor_day(
    time_zone: str, anchor_day: int, instant: str, start: str, end: str
) -> None:
    found = calendar_period(at(instant), time_zone=time_zone, anchor_day=anchor_day)
    assert found == Period(at(start), at(end))


def test_an_anchor_on_the_31st_bills_on_the_last_day_and_returns_to_the_31st() -> None:
    period = calendar_period(at("2025-01-31"), time_zone="UTC", anchor_day=31)
    days = []
    for _ in range(13):
        days.append(period.start.day)
        period = calendar_period(period.end, time_zone="UTC", anchor_day=31)
    assert days == [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31]
    assert start_of("2028-03-01", "UTC", 30) == at("2028-02-29")
    assert start_of("2028-03-01", "UTC", 29) == at("2028-02-29")
    assert start_of("2027-03-01", "UTC", 29) == at("2027-02-28")


@given(instants, zones, anchors)
@example(datetime(2011, 12, 30, 9, 59, tzinfo=UTC), "Pacific/Apia", 30)
@example(datetime(2018, 11, 4, 3, tzinfo=UTC), "America/Sao_Paulo", 4)
def test_no_gap_no_overlap_and_every_instant_lies_in_its_own_period(
    instant: datetime, time_zone: str, anchor_day: int
) -> None:
    period = calendar_period(instant, time_zone=time_zone, anchor_day=anchor_day)
    assert instant in period
    assert timedelta(days=26) < period.end - period.start < timedelta(days=33)
    for inside in (period.start, period.end - timedelta(microseconds=1)):
        assert calendar_period(inside, time_zone=time_zone, anchor_day=anchor_day) == period
    before = calendar_period(period.start - timedelta(microseconds=1), time_zone=time_zone, anchor_day=anchor_day)
    assert before.end == period.start
    assert calendar_period(period.end, time_zone=time_zone, anchor_day=anchor_day).start == period.end


@given(instants, zones, anchors)
def test_the_anchor_is_never_forgotten(instant: datetime, time_zone: str, anchor_day: int) -> None:
    period = calendar_period(instant, time_zone=time_zone, anchor_day=anchor_day)
    for _ in range(14):
        local = period.start.astimezone(zone(time_zone))
        wanted = min(anchor_day, monthrange(local.year, local.month)[1])
        if (time_zone, local.year, local.month, wanted) == ("Pacific/Apia", 2011, 12, 30):
            wanted = 31  # the day that Samoa skipped
        assert local.day == wanted
        period = calendar_period(period.end, time_zone=time_zone, anchor_day=anchor_day)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "europe/berlin", "../etc/passwd", "localtime", "UTC+3", "EST5EDT4", "Europe", "\x00"]
)
def test_an_unknown_time_zone_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnknownTimeZone, match="IANA"):
        zone(name)


@dataclass
class Known:
    """What a PeriodBook reads of a row."""

    start_at: datetime
    end_at: datetime
    state: str = "open"


def book(*known: tuple[str, str, str], time_zone: str = "UTC", anchor_day: int = 1) -> PeriodBook:
    rows = [cast(PeriodRow, Known(at(start), at(end), state)) for start, end, state in known]
    return PeriodBook(rows, time_zone=time_zone, anchor_day=anchor_day)


JUNE = ("2025-06-01", "2025-07-01")
JULY = ("2025-07-01", "2025-08-01")


def billed(periods: PeriodBook, used: str, *, now: str) -> tuple[str, str]:
    period = periods.billing(periods.holding(at(used)), now=at(now))
    return period.start.date().isoformat(), period.end.date().isoformat()


def test_a_charge_is_billed_by_its_own_period_while_that_is_open() -> None:
    assert billed(book((*JUNE, "open"), (*JULY, "open")), "2025-06-30T23:59", now="2025-07-20") == JUNE


def test_late_usage_goes_to_the_earliest_open_period_after_its_own() -> None:
    august = ("2025-08-01", "2025-09-01")
    periods = book((*JUNE, "closed"), (*JULY, "closed"), (*august, "open"), ("2025-09-01", "2025-10-01", "open"))
    assert billed(periods, "2025-06-03", now="2025-09-15") == august
    assert periods.opened == []


def test_late_usage_never_goes_to_an_earlier_period_that_happens_to_be_open() -> None:
    periods = book((*JUNE, "open"), (*JULY, "closed"))
    assert billed(periods, "2025-07-03", now="2025-08-02") == ("2025-08-01", "2025-09-01")


def test_when_no_period_is_open_the_one_of_now_is_opened() -> None:
    periods = book((*JUNE, "closed"))
    assert billed(periods, "2025-06-03", now="2025-10-15") == ("2025-10-01", "2025-11-01")
    assert [period.start for period in periods.opened] == [at("2025-10-01")]


def test_late_usage_within_a_period_that_was_closed_early_goes_to_what_follows() -> None:
    """ "Bill now" on 10 June closes [1 June, 10 June); [10 June, 1 July) follows."""
    periods = book(("2025-06-01", "2025-06-10", "closed"))
    assert billed(periods, "2025-06-09", now="2025-06-09T12:00") == ("2025-06-10", "2025-07-01")
    assert billed(periods, "2025-06-15", now="2025-06-15") == ("2025-06-10", "2025-07-01")


def test_now_inside_a_period_that_was_closed_before_its_end_opens_the_next() -> None:
    periods = book((*JUNE, "closed"), (*JULY, "closed"))
    assert billed(periods, "2025-06-09", now="2025-07-04") == ("2025-08-01", "2025-09-01")


def test_a_changed_anchor_cuts_the_next_period_short_and_leaves_no_gap() -> None:
    periods = book((*JUNE, "closed"), anchor_day=15)
    assert periods.holding(at("2025-07-03")) == Period(at("2025-07-01"), at("2025-07-15"))
    assert periods.holding(at("2025-07-15")) == Period(at("2025-07-15"), at("2025-08-15"))


def test_a_period_before_a_known_one_ends_where_that_begins() -> None:
    periods = book((*JUNE, "open"), anchor_day=15)
    assert periods.holding(at("2025-05-20")) == Period(at("2025-05-15"), at("2025-06-01"))


@given(
    st.lists(st.tuples(instants, anchors, zones, st.booleans()), min_size=1, max_size=12),
    instants,
)
def test_whatever_the_calendar_becomes_periods_never_overlap(
    steps: list[tuple[datetime, int, str, bool]], now: datetime
) -> None:
    """Each step posts one charge, after the customer may have moved; some periods are closed in between."""
    rows: dict[Period, str] = {}
    for instant, anchor_day, time_zone, close_first in steps:
        if close_first and rows:
            rows[min(rows)] = "closed"
        known = [cast(PeriodRow, Known(period.start, period.end, state)) for period, state in rows.items()]
        periods = PeriodBook(known, time_zone=time_zone, anchor_day=anchor_day)
        used = periods.holding(instant)
        target = periods.billing(used, now=now)
        assert instant in used
        assert periods.is_open(target)
        assert target.start >= used.start
        assert target == used or rows.get(used) == "closed"
        rows.update(dict.fromkeys(periods.opened, "open"))
        in_order = sorted(rows)
        for earlier, later in pairwise(in_order):
            assert earlier.start < earlier.end <= later.start


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_all_zones_anchors_and_months_follow_one_another_without_gap_or_overlap() -> None:
    """60 zones x 31 anchors x 800 months: 1.49 million periods, each beginning where the one before ends."""
    names = sorted(available_timezones() - {"localtime"})
    chosen = [*ODD_ZONES, *names[:: len(names) // 60]][:60]
    assert len(set(chosen)) >= 55
    for name in chosen:
        for anchor_day in range(1, 32):
            period = calendar_period(at("1999-12-15"), time_zone=name, anchor_day=anchor_day)
            for _ in range(800):
                following = calendar_period(period.end, time_zone=name, anchor_day=anchor_day)
                assert following.start == period.end, (name, anchor_day, period)
                assert timedelta(days=26) < following.end - following.start < timedelta(days=33)
                period = following
