"""The disk with the books is full for a while: whoever posts is told so, and nothing acknowledged is lost."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app.database import upgrade
from app.embedded.errors import StartFailed
from app.embedded.postgres import Postgres
from app.factory import create_app
from tests import soak_report
from tests.faults.load import Load, open_customers
from tests.faults.place import Place
from tests.processes.servers import own_postgres

DISK_MB = 224
"""A new cluster with the schema, and two segments of its log: some 90 MB."""
BETWEEN = 40
BALLAST = "ballast"
FULL = ("No space left", "recovery mode", "starting up", "shutting down", "could not extend", "could not write")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "times",
    [pytest.param(1, id="slice"), pytest.param(10, id="full", marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path, times: int) -> None:
    with own_postgres(tmp_path) as (postgres, url), small_disk(postgres.home.data / "disk") as disk:
        move(postgres, disk)
        upgrade(url)
        place = Place(url, "redis://127.0.0.1:1/0", "http://127.0.0.1:1", str(tmp_path))
        open_customers(place)
        web = create_app(place.billing.config, billing=place.billing).test_client()
        load = Load(place, expected=FULL)
        try:
            for _ in range(times):
                load.wait_for(BETWEEN)
                fill(disk)
                load.wait_for_refusals(BETWEEN)
                (disk / BALLAST).unlink()
                restart(postgres)
                load.wait_for(BETWEEN)
                assert web.get("/readyz").status_code == 200, "nobody has to repair anything"
        finally:
            load.end()
        load.judge()
        place.billing.dispose()
        postgres.stop(force=True)
    soak_report.add("disk", "posting", times_full=times, acknowledged=load.acknowledged, refused=load.refused, lost=0)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own; needs the right to mount one."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0711", "none", str(folder)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("NO SMALL DISK: this user may not mount one, so nothing was filled")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def move(postgres: Postgres, disk: Path) -> None:
    """Let the cluster lie on this disk."""
    postgres.stop()
    subprocess.run(["cp", "-a", str(postgres.data), str(disk / "cluster")], check=True)
    shutil.rmtree(postgres.data)
    postgres.data.symlink_to(disk / "cluster")
    postgres.start(attached=True)


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / BALLAST).open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(2**20)):
            pass


def restart(postgres: Postgres) -> None:
    """As whoever supervises it does: Postgres ends when it cannot write its log, and recovers when it can."""
    if not postgres.is_healthy():
        with suppress(StartFailed):
            postgres.stop(force=True)
            postgres.start(attached=True)
