"""Postgres is stopped in the middle of everything, without a goodbye, and comes back: nothing acknowledged is lost."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.database import upgrade
from app.factory import create_app
from invoicing.customers import create_customer
from ledger.checks import run_checks
from ledger.posting import post
from tests.faults import invariants, report
from tests.faults.flows import usage
from tests.faults.place import Place
from tests.processes.servers import own_postgres

WRITERS = 3
BETWEEN = 40
"""Entries that are acknowledged between two stops."""


class Load:
    """Threads that post entry after entry, each until it is acknowledged."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self.acknowledged = 0
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._write, args=(f"writer-{n}",)) for n in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def _write(self, name: str) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with Session(self._place.billing.engine) as session, session.begin():
                    post(session, [usage(name, f"item-{number}", "0.01")], now=datetime.now(UTC))
            except DBAPIError as error:
                if not error.connection_invalidated and "connection" not in str(error.orig):
                    self.errors.append(error)
                    return
                self._stop.wait(0.02)
                continue
            number += 1
            with self._progress:
                self.acknowledged += 1
                self._progress.notify_all()

    def wait_for(self, more: int) -> None:
        """Until so many more were acknowledged."""
        with self._progress:
            goal = self.acknowledged + more
            assert self._progress.wait_for(lambda: self.acknowledged >= goal, timeout=120), self.errors

    def end(self) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "stops",
    [pytest.param(3, id="slice"), pytest.param(50, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_an_immediate_stop_of_postgres_loses_nothing_that_was_acknowledged(tmp_path: Path, stops: int) -> None:
    with own_postgres(tmp_path) as (postgres, url):
        upgrade(url)
        place = Place(url, "redis://127.0.0.1:1/0", "http://127.0.0.1:1", str(tmp_path))
        for number in range(WRITERS):
            with Session(place.billing.engine) as session, session.begin():
                create_customer(
                    session,
                    external_id=f"writer-{number}",
                    name=f"Writer {number}",
                    currency="USD",
                    time_zone="UTC",
                    anchor_day=1,
                    actor="test",
                    now=datetime(2025, 1, 1, tzinfo=UTC),
                )
        web = create_app(place.billing.config, billing=place.billing).test_client()
        load = Load(place)
        try:
            for _ in range(stops):
                load.wait_for(BETWEEN)
                postgres.stop(force=True)
                assert web.get("/readyz").status_code == 503, "it says so while Postgres is away"
                assert web.get("/healthz").status_code == 200
                postgres.start(attached=True)
                assert web.get("/readyz").status_code == 200, "the first request after it is back is served"
            load.wait_for(BETWEEN)
        finally:
            load.end()
        assert not load.errors
        with Session(place.billing.engine) as session:
            kept = session.scalar(text("SELECT count(*) FROM ledger_entries"))
            broken = [result for result in run_checks(session, invariants.CHECKS) if not result.holds]
        place.billing.dispose()
    # What was committed and not acknowledged was sent again, and counts once: each item has one entry.
    assert kept is not None
    assert load.acknowledged <= kept <= load.acknowledged + WRITERS
    assert not broken
    report.add("restart", "posting", stops=stops, acknowledged=load.acknowledged, lost=0)
