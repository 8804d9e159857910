"""The server with the books is lost for good and its standby takes over: nothing acknowledged is lost."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from app.database import upgrade
from app.embedded import home as homes
from app.embedded.postgres import DATABASE, OWNER, SUPERUSER, Postgres
from tests import soak_report
from tests.faults.load import Load, open_customers
from tests.faults.place import Place
from tests.processes.servers import own_postgres

BETWEEN = 40
RECOVERS_WITHIN_S = 30


class Standby(Postgres):
    """A copy that follows another server."""

    def complete(self) -> None:
        """Nothing: it can only be read until it is promoted, and has everything already."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "failovers",
    [pytest.param(1, id="slice"), pytest.param(20, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_a_standby_that_takes_over_has_everything_that_was_acknowledged(tmp_path: Path, failovers: int) -> None:
    """The address names both servers; whoever can write is spoken to, as docs/operations.md says."""
    with own_postgres(tmp_path / "first") as (first, url), own_postgres(tmp_path / "second") as (second, _):
        second.stop()
        upgrade(url)
        place = Place(address(first, second), "redis://127.0.0.1:1/0", "http://127.0.0.1:1", str(tmp_path))
        open_customers(place)
        load = Load(place, expected=("read-only", "shutting down", "starting up"))
        slowest = 0.0
        primary, spare = first, second
        try:
            for _ in range(failovers):
                standby = follow(primary, spare)
                load.wait_for(BETWEEN)
                primary.stop(force=True)
                began = time.monotonic()
                with standby.connect(SUPERUSER, database="postgres") as connection:
                    connection.execute("SELECT pg_promote()")
                load.wait_for(1)
                slowest = max(slowest, time.monotonic() - began)
                primary, spare = standby, primary
            load.wait_for(BETWEEN)
        finally:
            load.end()
        load.judge()
        place.billing.dispose()
        primary.stop(force=True)
    assert slowest < RECOVERS_WITHIN_S
    soak_report.add("failover", "posting", promotions=failovers, acknowledged=load.acknowledged, lost=0)


def address(*servers: Postgres) -> str:
    """Both servers; libpq takes the one that can write. Source: PostgreSQL, 32.1.1.3 Specifying Multiple Hosts."""
    query = {"host": [f"127.0.0.1:{server.port}" for server in servers], "target_session_attrs": "read-write"}
    url = URL.create("postgresql+psycopg", OWNER, servers[0].owner_password, database=DATABASE, query=query)
    return url.render_as_string(hide_password=False)


def follow(primary: Postgres, spare: Postgres) -> Standby:
    """Copy the primary into the spare's place and let it follow; a COMMIT waits for it from now on."""
    shutil.rmtree(spare.data)
    words = [str(spare.programs / "pg_basebackup"), "-D", str(spare.data), "-X", "stream", "-R", "-c", "fast"]
    words += ["-d", f"host=127.0.0.1 port={primary.port} user={SUPERUSER}"]
    environment = os.environ | {"PGPASSWORD": primary.superuser_password}
    subprocess.run(words, check=True, capture_output=True, env=environment, timeout=120)
    for path in (spare.data, *spare.data.rglob("*")):
        homes.give(path, spare.home.account)
    standby = Standby(
        spare.home,
        spare.port,
        superuser_password=primary.superuser_password,
        owner_password=primary.owner_password,
    )
    standby.start(attached=True)
    with primary.connect(SUPERUSER, database="postgres") as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        connection.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 60
        while not connection.execute("SELECT FROM pg_stat_replication WHERE sync_state = 'sync'").rowcount:
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.05)
    return standby
