"""`kill -9` in the middle of `billing stripe catch-up`: the next run ends it, and nothing is lost or there twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from stripe_gateway.handlers import HANDLERS
from tests.gateway.conftest import Town, now
from tests.gateway.test_background import REPOSITORY, environment
from tests.gateway.test_catch_up import catch_up, paid_invoices, states
from tests.gateway.test_commands import billing

INVOICES = 4
HELD_S = 120.0
"""Longer than anybody waits for an answer: whoever asks stands there until killed."""


@pytest.fixture
def env(town: Town, database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return environment(town, database_url, redis_url, tmp_path)


def count(town: Town, query: str) -> int:
    with town.engine.connect() as connection:
        return int(connection.scalar(text(query)) or 0)


def kill_at(town: Town, env: dict[str, str], endpoint: str, *, skip: int) -> None:
    """Run the command until it asks this of Stripe, which does not answer; then kill it."""
    held = town.sandbox.fault(endpoint, "delay_before", count=None, skip=skip, delay_s=HELD_S)
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "stripe", "catch-up"],
        env=os.environ | env,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while not any(one["id"] == held["id"] and one["hits"] for one in town.sandbox.get("faults")["faults"]):
                assert process.poll() is None, f"it ended before it asked for {endpoint}"
                time.sleep(0.02)
        finally:
            process.kill()
    assert process.returncode == -9
    town.sandbox.clear_faults()
    # Half a minute passes: what it held is free.
    with town.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE stripe_events SET lease_until = clock_timestamp() - interval '1 second'"
                " WHERE lease_until IS NOT NULL"
            )
        )


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("endpoint", "skip"),
    [
        ("events.list", 0),
        ("events.list", 1),
        ("balance_transactions.retrieve", 2),
    ],
    ids=["before the first page", "between two pages", "while it handles what it read"],
)
def test_a_catch_up_killed_on_its_way_is_ended_by_the_next_one(
    town: Town, env: dict[str, str], endpoint: str, skip: int
) -> None:
    paid_invoices(town, INVOICES)
    kill_at(town, env, endpoint, skip=skip)
    assert (count(town, "SELECT count(*) FROM stripe_events") > 0) is (skip > 0), "it was killed elsewhere"
    again = billing("stripe", "catch-up", env=env)
    assert again.returncode == 0, again.stderr
    happened = town.sandbox.state()["events"]["by_type"]
    assert count(town, "SELECT count(*) FROM stripe_events") == sum(happened.get(one, 0) for one in HANDLERS)
    assert count(town, "SELECT count(*) FROM stripe_events WHERE state NOT IN ('done', 'ignored')") == 0
    assert states(town) == ["paid"] * INVOICES
    assert town.books()["cash entries"] == INVOICES
    report = catch_up(town)
    assert report.missed == 0
    reconciled = town.gateway.reconcile(now=now())
    assert (reconciled.repaired, reconciled.unexplained) == ([], [])
    town.company.check()
