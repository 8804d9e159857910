"""Sixteen processes strike the books of ten customers, some are killed and some lose their connections: not a digit
may be off in the end."""

import os
import random
import secrets
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from invoicing import checks as invoicing_checks
from invoicing.customers import create_customer, customer_id_for
from ledger.checks import CHECKS, run_checks
from tests.hammer.events import CALENDARS, FIRST_DAY
from tests.hammer.evidence import Logs, read_customer, read_logs
from tests.hammer.forge import Forge
from tests.hammer.verdict import POSTS, Judge
from tests.hammer.worker import Orders, Worker
from tests.processes.services import TestServers

PROCESSES = 16
EVENTS_A_SECOND = 150
"""Of each customer: few enough that processes send the same ones all the time."""
CHAOS = "hammer: chaos"
"""The name of the connection that cuts the others."""


class Anvil:
    """The database under the hammer, and everybody who strikes it."""

    def __init__(self, engine: Engine, url: str, admin_url: str, folder: Path, *, seed: int, seconds: float) -> None:
        self.engine, self.url, self.folder = engine, url, folder
        self.database = make_url(url).database
        admin = make_url(admin_url).set(drivername="postgresql", database=self.database)
        self.admin = psycopg.connect(
            admin.render_as_string(hide_password=False), autocommit=True, application_name=CHAOS
        )
        self.seed, self.seconds = seed, seconds
        self.random = random.Random(seed)
        self.calendars = self._open_books()
        self.began = 0.0
        self.kills = self.cuts = 0

    def _open_books(self) -> dict[UUID, tuple[str, int]]:
        calendars = {}
        for number, (time_zone, anchor_day) in enumerate(CALENDARS):
            name = f"hammer-{number}"
            with Session(self.engine) as session, session.begin():
                create_customer(
                    session,
                    external_id=name,
                    name=name,
                    currency="USD",
                    time_zone=time_zone,
                    anchor_day=anchor_day,
                    actor="test",
                    now=FIRST_DAY,
                )
            calendars[customer_id_for(name)] = (time_zone, anchor_day)
        return calendars

    def orders(self, slot: int, generation: int) -> Orders:
        return Orders(
            slot=slot,
            generation=generation,
            seed=self.seed,
            url=self.url,
            log=str(self.folder / f"{slot:02}.{generation:04}.jsonl"),
            customers=tuple(map(str, self.calendars)),
            events=int(EVENTS_A_SECOND * self.seconds),
            began=self.began,
            seconds=self.seconds,
            holds_books=slot < 2,
            longest_hold_s=min(3.0, 0.6 + self.seconds / 20),
        )

    def strike(self) -> None:
        """Start the processes, kill and cut at random, and wait for the end."""
        with Forge() as forge:
            forge.ready()
            self.began = time.monotonic()
            generations = [0] * PROCESSES
            for slot in range(PROCESSES):
                forge.start(asdict(self.orders(slot, 0)))
            while self._left() > 1:
                time.sleep(self.random.uniform(0.05, 0.5))
                if self.random.random() < 0.5:
                    self._cut()
                    continue
                slot = self.random.randrange(PROCESSES)
                self.kills += forge.kill(slot)
                generations[slot] += 1
                forge.start(asdict(self.orders(slot, generations[slot])))
            forge.wait()
        while self._connections():
            time.sleep(0.05)  # a server process notices its client's death when it next speaks to it

    def _left(self) -> float:
        return self.began + self.seconds - time.monotonic()

    def _cut(self) -> None:
        """Cut one connection in the middle of something; every other time, wait until one is writing invoices."""
        patience_s = 0.2 if self.random.random() < 0.5 else 0.0
        until = time.monotonic() + patience_s
        while True:
            found = self.admin.execute(
                "SELECT pid, query ~ 'INTO (invoice|ledger_documents)' AND state <> 'idle' FROM pg_stat_activity"
                " WHERE datname = %s AND application_name <> %s AND backend_type = %s"
                " ORDER BY 2 DESC, state = 'idle', random() LIMIT 1",
                [self.database, CHAOS, "client backend"],
            ).fetchone()
            if found and (found[1] or time.monotonic() >= until):
                done = self.admin.execute("SELECT pg_terminate_backend(%s)", [found[0]]).fetchone()
                self.cuts += bool(done and done[0])
            if found is None or found[1] or time.monotonic() >= until:
                return

    def _connections(self) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name <> %s"
        row = self.admin.execute(query, [self.database, CHAOS]).fetchone()
        return row[0] if row else 0

    def deadlocks(self) -> int:
        """How many the server had to break in this database: some callers would only see that they are to try again."""
        row = self.admin.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = %s", [self.database]
        ).fetchone()
        return row[0] if row else 0

    def send_unknown_again(self, logs: Logs) -> int:
        """Send every posting again whose outcome nobody was told: each must be replayed, posted, or refused as ever."""
        sender = Worker(self.orders(PROCESSES, 0))
        unknown = [step for step in logs.steps.values() if step.kind in POSTS and step.outcome == "unknown"]
        for step in unknown:
            told = sender.perform_post(step.batch())
            assert told["outcome"] in ("done", "refused"), f"step {step.name}, sent again: {told}"
        sender.engine.dispose()
        return len(unknown)


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> float:
    return float(os.environ.get("HAMMER_SECONDS") or request.param)


@pytest.mark.parametrize(
    "seconds",
    [pytest.param(20, id="slice"), pytest.param(300, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(1800)])],
    indirect=True,
)
def test_model_and_books_agree_to_the_last_digit_after_a_hammering(
    engine: Engine, database_url: str, servers: TestServers, tmp_path: Path, seconds: float
) -> None:
    """Nothing lost, doubled, out of order or in a closed period, no gap, no deadlock, each charge on one invoice."""
    seed = int(os.environ.get("HAMMER_SEED") or secrets.randbelow(10**6))
    print(f"\nrepeat with: HAMMER_SEED={seed} HAMMER_SECONDS={seconds:g} pytest -s tests/hammer")
    engine.dispose()
    anvil = Anvil(engine, database_url, servers.admin_url, tmp_path, seed=seed, seconds=seconds)
    engine.dispose()
    anvil.strike()
    logs = read_logs(tmp_path)
    if logs.broken:
        kinds = Counter(message.splitlines()[0][:300] for message in logs.broken)
        pytest.fail(f"seed {seed}: {len(logs.broken)} processes broke: {dict(kinds)}\n{logs.broken[0]}", pytrace=False)
    assert anvil.deadlocks() == 0
    assert logs.cuts_seen <= anvil.cuts, "connections broke that nobody cut"
    sent_again = anvil.send_unknown_again(logs)

    logs = read_logs(tmp_path)
    with Session(engine) as session:
        found = {customer_id: read_customer(session, customer_id) for customer_id in anvil.calendars}
    places = Judge(logs.steps, anvil.calendars, found).judge()
    with Session(engine) as session:
        for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS}):
            assert result.holds, f"{result.name}: {result.offenders}"

    outcomes = Counter((step.kind, step.outcome) for step in logs.steps.values())
    entries = sum(customer.last_seq for customer in found.values())
    print(
        f"{len(logs.steps)} steps, {anvil.kills} kills, {anvil.cuts} cuts, {sent_again} unknown outcomes sent again; "
        f"{entries} entries; charges: {dict(places)}\n{dict(sorted(outcomes.items()))}"
    )
    # A hammer that does not hit proves nothing.
    expected = {("post", "done"), ("post", "refused"), ("close", "done"), ("adjust", "done")}
    assert not expected - outcomes.keys(), f"the hammer did not hit: {expected - outcomes.keys()}"
    assert anvil.kills > 0
    assert logs.cuts_seen > 0
