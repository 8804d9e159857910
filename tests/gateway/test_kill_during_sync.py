"""`kill -9` at random moments of a sync: every invoice stands at Stripe once, and the books are clean."""

import random
import time

import pytest
from sqlalchemy import text

from app.database import create_engine
from stripe_gateway.gateway import StripeGateway
from tests.gateway.conftest import WRITES, Town, now, settings_for
from tests.processes.forks import FORKS
from tests.processes.sandbox import SandboxProcess

SEED = 20250601


def sync_until_killed(database_url: str, sandbox: SandboxProcess) -> None:
    """What `billing invoices sync` does, in a process of its own."""
    engine = create_engine(database_url)
    StripeGateway(engine, settings_for(sandbox)).sync_due(now=now())
    engine.dispose()


@pytest.mark.parametrize(
    ("wanted", "invoices"),
    [pytest.param(8, 80, id="slice"), pytest.param(20, 200, id="full", marks=pytest.mark.soak)],
)
def test_kill_9_at_any_moment_leaves_one_finalized_invoice_each(
    town: Town, database_url: str, wanted: int, invoices: int
) -> None:
    town.invoices(invoices)
    dice = random.Random(SEED)
    # Forked, so that a process begins its work at once.
    handle = SandboxProcess(town.sandbox.folder, api_key=town.sandbox.api_key)
    handle._port = town.sandbox._port
    kills, left = 0, invoices
    while kills < wanted:
        process = FORKS.Process(target=sync_until_killed, args=(database_url, handle))
        process.start()
        # The moment is drawn from what is left, so that kills are spread over the whole sync.
        goal = left - dice.randint(1, max(1, left // (wanted - kills + 1)))
        while process.is_alive() and unfinished(town) > goal:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.03)
        assert process.is_alive(), "a run ended before it was killed"
        process.kill()
        process.join()
        kills += 1
        left = unfinished(town)
    assert left > 0, "the last kill came too late to matter"
    town.outlive_leases()
    summary = town.sync(patience_s=60)
    assert (summary.waiting, summary.parked, summary.unknown) == (0, 0, 0)
    town.assert_each_stands_once()
    counts = town.sandbox.counts()
    assert counts["customers.create"] >= invoices
    customers = list(town.gateway.client.list_customers(created_from=0, email=None))
    assert len(customers) == invoices
    assert len(town.drafts()) == 0
    keys = {line["idempotency_key"] for name in WRITES for line in town.sandbox.requests(name)}
    assert len(keys) == 3 * invoices, "every repetition was under the same key"
    town.company.check()


def unfinished(town: Town) -> int:
    with town.engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM stripe_syncs WHERE state <> 'done'")) or 0)
