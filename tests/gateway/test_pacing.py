"""Calls stay below Stripe's limits, in one process and over all that share a Redis."""

import time

from stripe_gateway.pacing import LocalPacer, Rates, SharedPacer
from stripe_gateway.sync_runs import sync_due
from tests.gateway.conftest import Town, at_once, client_for, now

RATES = Rates(total=100.0, per_operation=20.0, burst_s=0.1)


def test_an_operation_goes_at_its_own_rate_and_all_together_at_the_total() -> None:
    pacer = LocalPacer(RATES)
    waits = [pacer.reserve("invoices.create", now=1000.0) for _ in range(42)]
    assert waits[0] == 0
    assert abs(waits[-1] - (41 / 20 - 0.1)) < 0.06
    waits = [pacer.reserve(f"operation-{n}", now=2000.0) for n in range(101)]
    assert abs(waits[-1] - (100 / 100 - 0.1)) < 0.02


def test_time_that_nobody_used_is_caught_up_only_as_far_as_the_burst() -> None:
    pacer = LocalPacer(RATES)
    pacer.reserve("a", now=1000.0)
    free = [pacer.reserve("a", now=2000.0) for _ in range(10)]
    assert sum(1 for wait in free if wait == 0) <= 3


def test_a_429_rests_the_operation() -> None:
    pacer = LocalPacer(RATES)
    pacer.slow_down("a", 0.5)
    assert pacer.reserve("a", now=time.monotonic()) > 0.4
    assert pacer.reserve("b", now=time.monotonic()) < 0.1


def test_processes_that_share_a_redis_share_the_rate(redis_url: str) -> None:
    pacers = [SharedPacer(redis_url, RATES, account="test") for _ in range(3)]

    def go(pacer: SharedPacer) -> None:
        for _ in range(10):
            pacer.wait("invoices.create")

    begun = time.monotonic()
    at_once(*[lambda pacer=pacer: go(pacer) for pacer in pacers])
    took = time.monotonic() - begun
    assert took >= (30 - 1) / 20 - 0.1 - 0.02, "thirty calls at twenty a second"
    pacers[0].slow_down("invoices.create", 0.3)
    begun = time.monotonic()
    pacers[1].wait("invoices.create")
    assert time.monotonic() - begun > 0.2


def test_without_redis_a_process_paces_itself() -> None:
    pacer = SharedPacer("redis://127.0.0.1:1/0", RATES, account="test")
    begun = time.monotonic()
    for _ in range(7):
        pacer.wait("a")
    assert 0.1 < time.monotonic() - begun < 5


def test_a_paced_sync_meets_no_429_at_a_limit_that_is_enforced(town: Town) -> None:
    town.sandbox.set(limits_enabled=True)
    town.invoices(15)
    client = client_for(town, rates=None)
    assert sync_due(town.engine, client, now=now()).synced == 15
    assert {line["status"] for line in town.sandbox.requests()} == {200}
