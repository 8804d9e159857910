"""Postgres is stopped in the middle of everything, without a goodbye, and comes back: nothing acknowledged is lost."""

from pathlib import Path

import pytest

from app.database import upgrade
from app.factory import create_app
from tests import soak_report
from tests.faults.load import Load, open_customers
from tests.faults.place import Place
from tests.processes.servers import own_postgres

BETWEEN = 40
"""Entries that are acknowledged between two stops."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "stops",
    [pytest.param(3, id="slice"), pytest.param(50, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_an_immediate_stop_of_postgres_loses_nothing_that_was_acknowledged(tmp_path: Path, stops: int) -> None:
    with own_postgres(tmp_path) as (postgres, url):
        upgrade(url)
        place = Place(url, "redis://127.0.0.1:1/0", "http://127.0.0.1:1", str(tmp_path))
        open_customers(place)
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
        load.judge()
        place.billing.dispose()
    soak_report.add("restart", "posting", stops=stops, acknowledged=load.acknowledged, lost=0)
