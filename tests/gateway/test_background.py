"""Bell, worker and clock: work is done with them, without them, and while they die."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import text

from app.composition import Billing, build
from app.config import Config, ConfigError
from app.doorbell import Doorbell, ring
from app.scheduler import Scheduler, sweep
from app.timetable import Times, read_timetable
from tests.gateway.conftest import Town, now
from tests.processes.sandbox import WEBHOOK_SECRET

REPOSITORY = Path(__file__).resolve().parents[2]
AWAY = "redis://127.0.0.1:1/0"


def environment(town: Town, database_url: str, redis_url: str, var: Path) -> dict[str, str]:
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": town.sandbox.api_key,
        "STRIPE_API_BASE": town.sandbox.url,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "SECRET_KEY": "a secret of the tests, long enough to be one",
        "BILLING_VAR": str(var),
        "BILLING_AUTOSTART": "0",
    }


@pytest.fixture
def billing(town: Town, database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Billing]:
    made = build(Config.from_env(environment(town, database_url, redis_url, tmp_path)))
    yield made
    made.dispose()


@contextmanager
def process(command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "app.cli", command], env=os.environ | env, cwd=REPOSITORY, stdout=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 45.0) -> None:
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def unfinished(town: Town) -> int:
    with town.engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM stripe_syncs WHERE state <> 'done'")) or 0)


def is_down_to(town: Town, goal: int) -> bool:
    return unfinished(town) <= goal


def queued(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.llen("rq:queue:billing"))


# The bell


def test_the_same_work_is_queued_once(redis_url: str) -> None:
    bell = Doorbell(redis_url)
    assert all(bell.ring("event", "evt_1") for _ in range(3))
    assert bell.ring("event", "evt_2")
    assert queued(redis_url) == 2


def test_the_bell_never_raises_without_redis_and_does_not_hold_anybody_up() -> None:
    bell = Doorbell(AWAY)
    begun = time.monotonic()
    assert not any(bell.ring("event", f"evt_{n}") for n in range(50))
    assert time.monotonic() - begun < 2


# The worker


def test_the_worker_does_what_the_bell_rings_for_and_survives_losing_its_connection(
    town: Town, billing: Billing, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    first = town.invoice("first")
    with process("worker", environment(town, database_url, redis_url, tmp_path)) as worker:
        assert ring(billing.config, "sync", first.customer_id, first.id)
        wait_until(lambda: town.row(first).state == "done")
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
            # Those of this test's database: other tests have theirs on the same server.
            mine, database = client.client_id(), client.connection_pool.connection_kwargs["db"]
            lines = [one for one in client.client_list() if int(one["db"]) == database and int(one["id"]) != mine]
            assert [client.client_kill_filter(_id=one["id"]) for one in lines] != []
        second = town.invoice("second")
        ring(billing.config, "sync", second.customer_id, second.id)
        wait_until(lambda: town.row(second).state == "done")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=20) == 0
    town.assert_each_stands_once()


def test_kill_9_of_workers_loses_and_doubles_nothing(
    town: Town, billing: Billing, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    town.invoices(24)
    for work in billing.provider.due_work(now=now(), limit=100):
        ring(billing.config, work.kind, *work.ids)
    env = environment(town, database_url, redis_url, tmp_path)
    for goal in (18, 10):
        with process("worker", env):
            wait_until(partial(is_down_to, town, goal))
    town.outlive_leases()
    with process("worker", env):
        # What the dead worker held is free now; the sweep rings for it again.
        def swept() -> bool:
            sweep(billing, now())
            return unfinished(town) == 0

        wait_until(swept, timeout_s=90)
    town.assert_each_stands_once()
    assert not town.drafts()


# The clock


def test_without_redis_the_sweep_does_the_work_itself(town: Town, database_url: str, tmp_path: Path) -> None:
    town.invoices(3)
    billing = build(Config.from_env(environment(town, database_url, AWAY, tmp_path)))
    assert sweep(billing, now())["synced"] == 3
    assert sweep(billing, now()) == {}
    billing.dispose()
    town.assert_each_stands_once()


def test_with_a_bell_the_sweep_only_rings_until_nobody_has_answered_for_a_minute(
    town: Town, billing: Billing, redis_url: str
) -> None:
    town.invoices(3)
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_syncs SET next_attempt_at = now()"))
    assert sweep(billing, now()) == {}
    assert queued(redis_url) == 3
    assert sweep(billing, now() + timedelta(minutes=2))["synced"] == 3


def test_the_clock_runs_the_whole_cycle(town: Town, billing: Billing) -> None:
    town.company.customer("acme")
    town.company.use("acme", "2025-06-03", "12.34")
    stop = threading.Event()
    soon = Times(every=timedelta(seconds=0.2))
    clock = Scheduler(billing, dict.fromkeys(("close", "finalize", "sync"), soon), stop)
    with town.engine.connect() as connection:
        thread = threading.Thread(target=clock.run)
        thread.start()
        try:
            wait_until(lambda: drafts(connection) == 1)
            connection.execute(text("UPDATE invoices SET finalize_after = now() - interval '1 hour'"))
            connection.commit()
            wait_until(lambda: bool(town.standing()))
        finally:
            stop.set()
            thread.join(20)
    assert not thread.is_alive()
    town.assert_each_stands_once()


def drafts(connection: Any) -> int:
    found = int(connection.scalar(text("SELECT count(*) FROM invoices")) or 0)
    connection.commit()
    return found


def test_two_clocks_take_turns(billing: Billing) -> None:
    ran: list[str] = []

    def remember(_billing: Billing, _now: datetime) -> dict[str, Any]:
        ran.append(threading.current_thread().name)
        return {}

    stops = [threading.Event(), threading.Event()]
    times = {"sync": Times(every=timedelta(seconds=0.1))}
    clocks = [Scheduler(billing, times, stop, jobs={"sync": remember}, stand_by_s=0.1) for stop in stops]
    threads = [threading.Thread(target=clock.run) for clock in clocks]
    threads[0].start()
    wait_until(lambda: bool(clocks[0]._next))
    threads[1].start()
    wait_until(lambda: len(ran) > 3)
    assert not clocks[1]._next, "the second one stands by"
    stops[0].set()
    threads[0].join(20)
    wait_until(lambda: bool(clocks[1]._next))
    stops[1].set()
    threads[1].join(20)


def test_a_timetable_is_read_from_the_environment() -> None:
    table = read_timetable({"BILLING_CRON_CLOSE": "1h", "BILLING_CRON_SWEEP": "off", "BILLING_CRON_SYNC": "04:05"})
    assert table["close"] == Times(every=timedelta(hours=1))
    assert "sweep" not in table
    noon = datetime(2025, 6, 3, 12, tzinfo=UTC)
    assert table["sync"].after(noon) == datetime(2025, 6, 4, 4, 5, tzinfo=UTC)
    assert table["sync"].after(datetime(2025, 6, 3, 4, 5, tzinfo=UTC)).day == 4
    assert table["close"].first(noon) == noon
    for wrong in ("soon", "0s", "25:00", "10", "-1m"):
        with pytest.raises(ConfigError, match="BILLING_CRON_CLOSE"):
            read_timetable({"BILLING_CRON_CLOSE": wrong})
