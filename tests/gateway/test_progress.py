"""What people see of the collection's progress: honest about the time left, about speed, and about outages."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from invoicing.tables import Invoice
from stripe_gateway.breaker import Breaker, BreakerRules
from stripe_gateway.errors import NoAnswer
from stripe_gateway.gateway import StripeGateway
from stripe_gateway.pacing import OperationPace, Pace, Rates
from stripe_gateway.progress import Progress
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now, settings_for
from tests.gateway.test_background import environment
from tests.gateway.test_commands import billing

NOON = datetime(2025, 7, 11, 12, tzinfo=UTC)


def progress(town: Town, *, at: datetime | None = None, gateway: StripeGateway | None = None) -> Progress:
    with Session(town.engine) as session:
        return (gateway or town.gateway).progress(session, now=at or now())


def go_away(town: Town) -> None:
    rules = BreakerRules(subjects=1, lasting_s=0.0, first_pause_s=3600.0)
    Breaker(town.engine, rules).failed("inv:1", NoAnswer("The connection was cut."))


def figures(**changes: Any) -> Progress:
    """A collection under way: 420 invoices left, one a second."""
    pace = Pace(
        calls_per_s=30.0,
        allowed_per_s=95.0,
        limit_per_s=100.0,
        limit_per_operation=25.0,
        refused=2,
        seconds=300,
        operations=[OperationPace("invoices.create", 900, 3, 2, 24.0, 24.5)],
    )
    known = Progress(
        at=NOON,
        due=400,
        running=20,
        waiting=0,
        unknown=0,
        parked=3,
        done_today=60,
        oldest_due_at=NOON,
        invoices_per_s=1.0,
        seconds_left=420,
        outage=None,
        pace=pace,
    )
    return replace(known, **changes)


def test_every_invoice_is_counted_where_it_stands(town: Town) -> None:
    town.invoices(7)
    states = ["due", "due", "waiting", "unknown", "parked", "running", "due"]
    with town.engine.begin() as connection:
        ids = connection.scalars(text("SELECT invoice_id FROM stripe_syncs ORDER BY number")).all()
        for invoice, state in zip(ids, states, strict=True):
            lease = "clock_timestamp() + interval '1 hour'" if state == "running" else "NULL"
            kept = "due" if state == "running" else state
            connection.execute(
                text(f"UPDATE stripe_syncs SET state = :state, lease_until = {lease} WHERE invoice_id = :id"),  # noqa: S608 - two words of ours
                {"state": kept, "id": invoice},
            )
    found = progress(town)
    assert (found.due, found.running, found.waiting, found.unknown, found.parked) == (3, 1, 1, 1, 1)
    assert found.left == 6, "what is parked does not go on by itself"
    assert found.oldest_due_at is not None
    assert found.seconds_left is None
    assert found.left_in_words == "unknown: too little was done in the last minute"


def test_the_time_left_follows_from_what_was_done_in_the_last_minute(town: Town) -> None:
    town.invoices(16)
    with Session(town.engine) as session:
        numbers = session.execute(text("SELECT customer_id, invoice_id FROM stripe_syncs LIMIT 10")).all()
    for customer_id, invoice_id in numbers:
        assert town.gateway.sync_one(customer_id=customer_id, invoice_id=invoice_id, now=now()) == "done"
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_syncs SET done_at = :at WHERE state = 'done'"), {"at": NOON})
    found = progress(town, at=NOON + timedelta(seconds=20))
    assert (found.left, found.done_today) == (6, 10)
    assert found.invoices_per_s == pytest.approx(0.5)
    assert found.seconds_left == 12
    tomorrow = progress(town, at=NOON + timedelta(hours=12))
    assert (tomorrow.done_today, tomorrow.seconds_left) == (0, None)


def test_refunds_voids_and_the_like_are_left_too_and_take_their_time(town: Town) -> None:
    town.invoices(8)
    with Session(town.engine, expire_on_commit=False) as session:
        standing = session.scalars(select(Invoice).order_by(Invoice.number).limit(5)).all()
    for invoice in standing:
        assert town.gateway.sync_one(customer_id=invoice.customer_id, invoice_id=invoice.id, now=now()) == "done"
        do.begin(town, invoice, "write_off")
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_syncs SET done_at = :at WHERE state = 'done'"), {"at": NOON})
    found = progress(town, at=NOON + timedelta(seconds=10))
    assert (found.left, found.invoices_left, found.operations.left) == (8, 3, 5)
    assert found.seconds_left == 13, "5 invoices in 10 s were 1.5 calls a second; 3 more and 5 operations are 19 calls"
    town.sync()
    later = progress(town)
    assert (later.left, later.operations.left, later.operations.done_today) == (0, 0, 5)
    assert (later.seconds_left, later.left_in_words) == (0, "nothing is left")


def test_nobody_says_how_long_it_takes_while_stripe_is_away(town: Town) -> None:
    town.invoices(1)
    go_away(town)
    found = progress(town)
    assert found.outage is not None
    assert (found.seconds_left, found.left_in_words) == (None, "unknown while Stripe is away")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "about 7 minutes"),
        ({"seconds_left": 59}, "less than a minute"),
        ({"seconds_left": 61}, "about 1 minute"),
        ({"seconds_left": 3 * 3600}, "about 3 hours"),
        ({"seconds_left": None}, "unknown: too little was done in the last minute"),
        ({"due": 0, "running": 0, "seconds_left": 0}, "nothing is left"),
    ],
    ids=["minutes", "seconds", "one", "hours", "unknown", "none"],
)
def test_the_time_left_is_never_more_exact_than_it_is(changes: dict[str, Any], words: str) -> None:
    assert figures(**changes).left_in_words == words


def test_the_share_is_that_of_the_limit_which_is_reached_first() -> None:
    assert figures().share == pytest.approx(0.96)
    assert figures(pace=None).share is None


def test_all_processes_calls_are_seen_with_redis_and_said_to_be_unknown_without(town: Town, redis_url: str) -> None:
    town.invoices(2)
    shared = StripeGateway(town.engine, settings_for(town.sandbox, redis_url=redis_url, rates=Rates()))
    shared.sync_due(now=now())
    watching = StripeGateway(town.engine, settings_for(town.sandbox, redis_url=redis_url, rates=Rates()))
    found = progress(town, gateway=watching)
    assert {one.operation: one.calls for one in found.calls} == {
        "customers.create": 2,
        "invoices.create": 2,
        "invoices.add_lines": 2,
        "invoices.finalize": 2,
    }
    away = StripeGateway(town.engine, settings_for(town.sandbox, redis_url="redis://127.0.0.1:1/0"))
    assert progress(town, gateway=away).pace is None


def test_the_command_says_it_in_a_line_and_in_json(
    town: Town, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    env = environment(town, database_url, redis_url, tmp_path)
    town.invoices(2)
    shown = billing("stripe", "progress", env=env)
    assert (shown.returncode, shown.stdout.count("\n")) == (0, 1), shown.stderr
    assert shown.stdout.startswith(
        "Progress: 2 due, 0 running, 0 waiting, 0 unknown, 0 parked, 0 done today, 0.0 calls/s"
    )
    go_away(town)
    away = billing("stripe", "progress", "--json", env=env)
    assert away.returncode == 1
    values = json.loads(away.stdout)
    assert (values["due"], values["left"], values["seconds_left"]) == (2, 2, None)
    assert values["outage"]["last_error"] == "The connection was cut."
    town.sync(patience_s=0)
    assert billing("stripe", "progress", "--watch", "--help", env=env).returncode == 0
