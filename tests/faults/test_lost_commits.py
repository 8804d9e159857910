"""The connection is cut at COMMIT, so that nobody knows whether it counted: everything counts once."""

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ledger.posting import post
from tests import soak_report
from tests.faults import driver, flows, invariants
from tests.faults.flows import NotTaken, Run, usage
from tests.faults.place import Place
from tests.faults.stages import Stages
from tests.processes.postgres_proxy import PostgresProxy

PROBABILITY = 0.3
TRIES = 200
"""So often something is begun again before we believe that it never ends."""


def until_told(place: Place, work: Callable[[], object]) -> None:
    """Do it again until no answer is lost, as clients, cron and Stripe do."""
    for _ in range(TRIES):
        try:
            work()
        except (OperationalError, NotTaken):
            driver.expire_leases(place.billing)  # half a minute later
        else:
            return
    raise AssertionError("it never came to its end")


def live(stages: Stages, *, charges: int, probability: float, seed: int) -> tuple[dict[str, Any], PostgresProxy]:
    """A month of the company, over a line that loses so many of the COMMITs; returns the verdict and the line."""
    with stages.place("open") as (place, _), PostgresProxy(place.database_url, seed=seed) as proxy:
        hindered = dataclasses.replace(place, database_url=proxy.url)
        proxy.lose(probability)
        for number in range(charges):
            until_told(place, lambda number=number: charge(hindered, number))  # type: ignore[misc]
        for act in (flows.close, flows.finalize):
            until_told(place, lambda act=act: act(Run(hindered, datetime.now(UTC))))  # type: ignore[misc]
        for minutes in range(60):
            now = datetime.now(UTC) + timedelta(minutes=5 * minutes)
            until_told(place, lambda now=now: flows.work_off(Run(hindered, now)))  # type: ignore[misc]
            place.stripe().control("clock", advance_s=0)
            until_told(place, lambda now=now: flows.webhook(Run(hindered, now)))  # type: ignore[misc]
            if not driver.unfinished(place.billing):
                break
        verdict = driver.judge(place, before=invariants.journal_rows(place.billing.engine), now=now)
        hindered.billing.dispose()
        place.billing.dispose()
        return verdict, proxy


def charge(place: Place, number: int) -> None:
    with Session(place.billing.engine) as session, session.begin():
        post(session, [usage("alice", f"machine-{number}", f"0.{number + 1:04}")], now=datetime.now(UTC))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("charges", "wanted"),
    [
        pytest.param(40, 30, id="slice"),
        pytest.param(250, 1000, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_an_answer_to_commit_that_is_lost_loses_and_doubles_nothing(stages: Stages, charges: int, wanted: int) -> None:
    whole, _ = live(stages, charges=charges, probability=0.0, seed=0)
    assert not whole["violations"]
    answers = commits = seed = 0
    while answers < wanted:
        seed += 1
        verdict, proxy = live(stages, charges=charges, probability=PROBABILITY, seed=seed)
        assert not verdict["violations"], f"seed {seed}: " + "\n".join(verdict["violations"])
        assert verdict["books"] == whole["books"], f"seed {seed}"
        answers += proxy.answers_lost
        commits += proxy.commits_lost
    soak_report.add("commit", "a month", answers_lost=answers, commits_lost=commits, violations=0)
