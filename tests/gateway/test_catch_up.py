"""Events whose delivery was lost are found in Stripe's list; after a month of silence the objects are compared."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from stripe_gateway import catch_up as catching_up
from stripe_gateway.catch_up import GONE_AFTER, OVERLAP, TYPES_AT_ONCE, CatchUpReport, groups
from stripe_gateway.errors import ServerFailed
from stripe_gateway.handlers import HANDLERS
from stripe_gateway.tables import StripeCursor, StripeEvent
from tests.gateway.conftest import Town, at_once, client_for, now

MONTH_AND_A_HALF = timedelta(days=45)


class Killed(Exception):
    """The process ended here."""


def catch_up(
    town: Town, *, at: datetime | None = None, page: int = 100, progress: Callable[[CatchUpReport], None] | None = None
) -> CatchUpReport:
    at = at or now()
    return catching_up.catch_up(
        town.engine,
        town.gateway.client,
        now=at,
        reconcile=lambda: town.gateway.reconcile(now=at),
        progress=progress,
        page=page,
    )


def cursors(town: Town) -> list[StripeCursor]:
    with Session(town.engine, expire_on_commit=False) as session:
        return sorted(session.query(StripeCursor), key=lambda row: row.name)


def run_sql(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def paid_invoices(town: Town, count: int) -> None:
    """As many invoices, charged at Stripe; of none of it were we told."""
    for number in range(count):
        town.invoice(f"customer-{number}", f"{number + 3}.50", card="pm_card_visa")
    town.sync()
    town.sandbox.advance(60)


def states(town: Town) -> list[str]:
    return [state for _, state, *_ in town.books()["invoices"]]


def test_the_groups_hold_every_event_that_we_act_on_and_fit_into_one_call() -> None:
    found = groups()
    assert sorted(kind for types in found.values() for kind in types) == sorted(HANDLERS)
    assert max(map(len, found.values())) <= TYPES_AT_ONCE


def test_what_nobody_delivered_is_found_in_the_list_and_booked(town: Town) -> None:
    """
    receivable  12.34 ->  0.00
    stripe       0.00 -> 12.34
    """
    town.invoice("acme", card="pm_card_visa")
    town.sync()
    town.sandbox.advance(60)
    first = catch_up(town)
    assert (first.missed > 3, first.known, first.problems, first.gone_since) == (True, 0, [], None)
    town.handle()
    fee = town.balance("acme", "expenses:payment_fees")
    assert town.balance("acme", "assets:stripe") == Decimal("12.34") - fee
    assert {(event.source, event.deliveries) for event in town.events()} == {("list", 0)}
    assert not town.events("parked")
    second = catch_up(town)
    assert (second.missed, second.known) == (0, first.missed)
    town.company.check()


def test_what_was_delivered_is_known_and_no_second_delivery(hooked: Town) -> None:
    hooked.invoice("acme", card="pm_card_visa")
    hooked.sync()
    hooked.settle()
    hooked.deliver(hooked.fetch())
    hooked.handle()
    before = {event.id: (event.source, event.deliveries, event.state) for event in hooked.events()}
    report = catch_up(hooked)
    assert report.missed == 0
    assert report.known > 3
    assert {event.id: (event.source, event.deliveries, event.state) for event in hooked.events()} == before


def test_a_delivery_that_comes_after_the_list_counts_and_does_nothing_twice(hooked: Town) -> None:
    hooked.invoice("acme", card="pm_card_visa")
    hooked.sync()
    hooked.settle()
    catch_up(hooked)
    hooked.handle()
    books = hooked.books()
    assert states(hooked) == ["paid"]
    hooked.deliver(hooked.fetch())
    hooked.handle()
    assert hooked.books() == books
    listed = [event for event in hooked.events() if event.source == "list"]
    assert listed
    assert {event.deliveries for event in listed} == {1}
    assert {event.state for event in listed} <= {"done", "ignored"}


@pytest.mark.parametrize("seed", range(2))
def test_thirty_percent_of_the_deliveries_are_lost_and_the_books_are_whole(hooked: Town, seed: int) -> None:
    hooked.sandbox.webhook_mode(drop_probability=0.3, duplicate=1, seed=seed)
    paid_invoices(hooked, 6)
    hooked.settle()
    hooked.deliver(hooked.fetch())
    hooked.handle()
    report = catch_up(hooked, page=7)
    assert report.missed > 0
    assert report.known > 0
    hooked.handle()
    assert states(hooked) == ["paid"] * 6
    reconciled = hooked.gateway.reconcile(now=now())
    assert (reconciled.repaired, reconciled.unexplained) == ([], []), "nothing was left to mend"
    hooked.company.check()


def test_after_45_days_of_silence_the_objects_are_compared_and_the_cursor_stands_anew(town: Town) -> None:
    catch_up(town)
    paid_invoices(town, 3)
    town.sandbox.advance(MONTH_AND_A_HALF.total_seconds())
    later = now() + MONTH_AND_A_HALF
    report = catch_up(town, at=later)
    assert report.gone_since is not None
    assert abs(report.gone_since - now()) < timedelta(minutes=10)
    assert report.missed == 0, "Stripe lists nothing that old"
    assert report.repaired >= 6, "each payment and each status, and whatever else nobody told us of"
    assert report.unexplained == 0
    town.gateway.handle_due(now=later)
    assert states(town) == ["paid"] * 3
    again = catch_up(town, at=later + timedelta(minutes=10))
    assert (again.gone_since, again.missed, again.repaired) == (None, 0, 0)
    town.company.check()


def test_who_never_caught_up_for_a_month_is_told_so(town: Town) -> None:
    """No cursor yet, and our first customer at Stripe was made long ago: an upgrade from before the catch-up."""
    paid_invoices(town, 1)
    report = catch_up(town, at=now() + GONE_AFTER + timedelta(minutes=1))
    assert report.gone_since is not None
    assert catch_up(town, at=now() + GONE_AFTER + timedelta(minutes=2)).gone_since is None


def test_a_quiet_month_is_no_gap(town: Town) -> None:
    """Nothing happened at Stripe for 29 days, and again for 29 days; we looked in between."""
    paid_invoices(town, 1)
    catch_up(town)
    for days in (29, 58):
        town.sandbox.advance(timedelta(days=29).total_seconds())
        report = catch_up(town, at=now() + timedelta(days=days))
        assert report.gone_since is None
    assert [row.read_to for row in cursors(town)] != [None] * len(cursors(town))


@pytest.mark.parametrize("pages", [1, 2, 4])
def test_a_run_that_dies_after_any_page_is_carried_on_and_reads_no_page_twice(town: Town, pages: int) -> None:
    paid_invoices(town, 2)
    left = [pages]

    def die(_: CatchUpReport) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    with pytest.raises(Killed):
        catch_up(town, page=2, progress=die)
    stored = len(town.events())
    town.sandbox.clear_requests()
    rest = catch_up(town, page=3)
    assert rest.known == 0, "it goes on below the page that was stored last"
    assert len(town.events()) == stored + rest.missed
    town.handle()
    assert states(town) == ["paid"] * 2
    catch_up(town)
    assert len(town.events()) == stored + rest.missed


def test_an_answer_that_never_comes_leaves_the_cursor_where_it_stood(town: Town) -> None:
    paid_invoices(town, 1)
    town.sandbox.fault("events.list", "500_before", count=None, skip=1, stored=False)
    with pytest.raises(ServerFailed):
        catch_up(town, page=3)
    assert all(row.read_to is None for row in cursors(town)[:1])
    assert cursors(town)[0].page_after is not None
    town.sandbox.clear_faults()
    catch_up(town, page=3)
    assert all(row.checked_at is not None and row.window_began_at is None for row in cursors(town))
    town.handle()
    assert states(town) == ["paid"]


def test_several_at_once_store_each_event_once(town: Town) -> None:
    paid_invoices(town, 3)
    reports = at_once(*[lambda: catch_up(town, page=5) for _ in range(4)])
    assert all(isinstance(report, CatchUpReport) for report in reports), reports
    catch_up(town)
    town.handle()
    assert sum(report.missed for report in reports) <= len(town.events())
    assert states(town) == ["paid"] * 3
    assert town.books()["cash entries"] == 3


def test_a_run_that_was_overtaken_moves_no_cursor(town: Town) -> None:
    paid_invoices(town, 2)
    seen: list[list[Any]] = []

    def overtake(_: CatchUpReport) -> None:
        if not seen:
            seen.append([])
            catch_up(town, page=100)
            seen[0] = [(row.name, row.read_to, row.checked_at, row.page_after) for row in cursors(town)[:1]]

    catch_up(town, page=3, progress=overtake)
    assert [(row.name, row.read_to, row.checked_at, row.page_after) for row in cursors(town)[:1]] == seen[0]


def test_events_of_a_type_that_we_act_on_since_today_are_read_from_the_beginning(
    town: Town, databases_owner: Engine
) -> None:
    paid_invoices(town, 1)
    catch_up(town)
    town.sandbox.advance(timedelta(days=3).total_seconds())
    run_sql(town.engine, "UPDATE stripe_cursors SET types = types[2:]")
    run_sql(databases_owner, "ALTER TABLE stripe_events DISABLE TRIGGER kept_400_days")
    run_sql(databases_owner, "DELETE FROM stripe_events")
    report = catch_up(town)
    assert (report.missed > 3, report.known) == (True, 0)


def test_a_window_whose_page_left_the_list_is_begun_again(town: Town) -> None:
    paid_invoices(town, 1)
    with pytest.raises(Killed):
        catch_up(town, page=3, progress=lambda _: (_ for _ in ()).throw(Killed()))
    run_sql(town.engine, "UPDATE stripe_cursors SET page_after = 'evt_left' WHERE page_after IS NOT NULL")
    report = catch_up(town, page=3)
    assert report.known == 3
    town.handle()
    assert states(town) == ["paid"]


def test_the_window_begins_an_hour_before_the_newest_event_by_stripes_own_clock(town: Town) -> None:
    """Stripe's clock is a week ahead of ours: what it says of an event's time is compared with what it said before."""
    town.sandbox.advance(timedelta(days=7).total_seconds())
    paid_invoices(town, 1)
    catch_up(town)
    newest = max(event.created_at for event in town.events())
    town.sandbox.clear_requests()
    catch_up(town)
    asked = town.sandbox.requests("events.list")
    froms = {int(line["params"]["created"]["gte"]) for line in asked if "created" in line["params"]}
    assert int((newest - OVERLAP).timestamp()) in froms


def test_what_is_listed_in_a_shape_that_nobody_can_read_is_named_and_holds_nothing_up(town: Town) -> None:
    with Session(town.engine) as session, session.begin():
        tally = catching_up._store(session, [{"id": "in_1", "object": "event"}], now=now())
    assert tally.missed == 0
    assert "in_1" in tally.problems[0]


def test_a_cursor_never_goes_back_and_no_event_is_deleted_for_400_days(town: Town, databases_owner: Engine) -> None:
    paid_invoices(town, 1)
    catch_up(town)
    town.handle()
    for statement in (
        "UPDATE stripe_cursors SET checked_at = checked_at - interval '1 second'",
        "UPDATE stripe_cursors SET read_to = NULL WHERE read_to IS NOT NULL",
        "UPDATE stripe_cursors SET fence = fence - 1",
        "TRUNCATE stripe_cursors",
        "DELETE FROM stripe_events",
        "TRUNCATE stripe_events",
    ):
        with pytest.raises(DBAPIError, match="refused"):
            run_sql(databases_owner, statement)
    with Session(town.engine) as session, session.begin():
        event = session.query(StripeEvent).filter(StripeEvent.state != "pending").first()
        assert event is not None
        kept = event.id
    delete = "DELETE FROM stripe_events WHERE id"
    age = "ALTER TABLE stripe_events DISABLE TRIGGER as_it_came; UPDATE stripe_events SET received_at = received_at - "
    run_sql(databases_owner, f"{age} interval '399 days' WHERE id = '{kept}'")
    with pytest.raises(DBAPIError, match="400 days"):
        run_sql(databases_owner, f"{delete} = '{kept}'")
    run_sql(databases_owner, f"{age} interval '2 days' WHERE id = '{kept}'")
    run_sql(databases_owner, f"{delete} = '{kept}'")
    with pytest.raises(DBAPIError):
        run_sql(town.engine, "DELETE FROM stripe_events")


def test_the_breath_between_two_calls_keeps_to_the_pace(town: Town) -> None:
    """Each page is one call of its own operation, which the pacer knows by name."""
    paid_invoices(town, 1)
    town.sandbox.clear_requests()
    report = catch_up(town, page=3)
    assert town.sandbox.counts()["events.list"] == report.pages
    assert client_for(town).livemode is False
