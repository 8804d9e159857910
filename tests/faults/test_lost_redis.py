"""Redis forgets everything, again and again, and then is gone: what is due stands in Postgres."""

import dataclasses
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from sqlalchemy.orm import Session

from app.scheduler import sweep
from invoicing.customers import create_customer
from ledger.posting import post
from tests.faults import driver, flows, invariants
from tests.faults.flows import Run, usage
from tests.faults.place import Place
from tests.faults.stages import Stages
from tests.processes.sandbox import REPOSITORY
from tests.processes.servers import own_valkey

OPENED = datetime(2025, 1, 1, tzinfo=UTC)
WORKERS = 2
PAUSE_S = 0.1
LIMIT_S = 600.0


def crowd(place: Place, count: int) -> None:
    """So many more customers, each with a final invoice that is not yet at Stripe."""
    for number in range(count):
        with Session(place.billing.engine) as session, session.begin():
            create_customer(
                session,
                external_id=f"crowd-{number}",
                name=f"Crowd {number}",
                email=f"crowd-{number}@example.com",
                currency="USD",
                time_zone="UTC",
                anchor_day=1,
                actor="test",
                now=OPENED,
            )
            post(session, [usage(f"crowd-{number}", "machine", f"{number + 1}.07")], now=datetime.now(UTC))
    run = Run(place, datetime.now(UTC))
    flows.close(run)
    flows.finalize(run)
    with place.billing.engine.begin() as connection:
        # Due since this moment: what waits for minutes the sweep would do itself.
        connection.exec_driver_sql("UPDATE stripe_syncs SET next_attempt_at = now()")


def left(place: Place) -> int:
    with place.billing.engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM stripe_syncs WHERE state <> 'done'").scalar() or 0)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "customers",
    [
        pytest.param(16, id="slice"),
        pytest.param(300, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    ],
)
def test_a_redis_that_forgets_and_then_is_gone_loses_no_work(stages: Stages, tmp_path: Path, customers: int) -> None:
    with stages.place("open") as (made, _), own_valkey(tmp_path) as (valkey, redis_url):
        place = dataclasses.replace(made, redis_url=redis_url)
        crowd(place, customers)
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "app.cli", "worker"],
                env=place.environment,
                cwd=REPOSITORY,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(WORKERS)
        ]
        try:
            end = time.monotonic() + LIMIT_S
            with redis.Redis.from_url(redis_url) as client:
                while left(place) > customers // 2:
                    assert time.monotonic() < end, "it never got half through"
                    sweep(place.billing, datetime.now(UTC))
                    time.sleep(PAUSE_S)
                    client.flushall()
            valkey.stop(force=True)
            while left(place):
                assert time.monotonic() < end, "it never came to its end"
                sweep(place.billing, datetime.now(UTC))
                time.sleep(PAUSE_S)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        driver.expire_leases(place.billing)
        now = driver.bring_to_rest(place, place.billing, seed=1, now=datetime.now(UTC))
        verdict = driver.judge(place, before=invariants.journal_rows(place.billing.engine), now=now)
        place.billing.dispose()
    assert not verdict["violations"], "\n".join(verdict["violations"])
    assert len(verdict["books"]["outbox"]) == customers + 2  # alice's and bob's
