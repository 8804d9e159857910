"""`make bench` lasts a quarter of an hour and nobody waits for it: here one small round of each of its ways is run."""

from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from tests.benchmarks import compile as compiling
from tests.benchmarks import ledger, main_job, rating, singles, volume
from tests.benchmarks.rounds import measure

SIZES = [
    (ledger, "BATCHES", 1),
    (volume, "TOTALS", 1),
    (singles, "CLIENTS", (1,)),
    (singles, "SINGLES", 10),
    (rating, "BATCHES", 1),
    (main_job, "REQUESTS", 1),
    (main_job, "CUSTOMERS", 20),
    (main_job, "FILE_ROWS", 50),
    (compiling, "BILLED", 8),
    (compiling, "MANY", 200),
]


def test_every_way_that_is_measured_does_its_work(
    engine: Engine, database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in SIZES:
        monkeypatch.setattr(module, name, value)
    beside = f"{make_url(database_url).database}_filled"
    monkeypatch.setattr(volume, "DATABASE", beside)
    plain = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    customers = ledger.open_customers(engine)
    with psycopg.connect(plain, autocommit=True) as owner:
        with (
            volume.filled(database_url, count=1_000, of_one=300) as filled,
            singles.clients(database_url, customers) as clients,
        ):
            ways = [
                *ledger.ways(engine, owner, customers),
                *volume.ways(filled),
                *singles.ways(clients),
                *rating.ways(engine),
                *main_job.ways(engine, database_url, redis_url, tmp_path),
                *compiling.ways(engine, owner),
            ]
            figures = measure(ways, rounds=1)
        owner.execute(f'DROP DATABASE "{beside}"')
    assert {name for name, found in figures.items() if found.rate <= 0} == set()
    assert {way.beside for way in ways} - {None} <= figures.keys(), "every way finds what it is compared with"
