"""`make bench` lasts a quarter of an hour and nobody waits for it: here one small round of each of its ways is run."""

from pathlib import Path

import psycopg
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from tests.benchmarks import compile as compiling
from tests.benchmarks import ledger, main_job, rating, singles, volume
from tests.benchmarks.rounds import measure
from tests.benchmarks.sizes import Sizes

SMALL = Sizes(
    batches=1, readings=1, clients=(1,), singles=10, requests=1, platform_customers=20, file_rows=50, billed=8, many=200
)


def test_every_way_that_is_measured_does_its_work(
    engine: Engine, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    beside = f"{make_url(database_url).database}_filled"
    plain = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    customers = ledger.open_customers(engine)
    with psycopg.connect(plain, autocommit=True) as owner:
        with (
            volume.filled(database_url, count=1_000, of_one=300, database=beside) as filled,
            singles.clients(database_url, customers, sizes=SMALL) as clients,
        ):
            ways = [
                *ledger.ways(engine, owner, customers, sizes=SMALL),
                *volume.ways(filled, sizes=SMALL),
                *singles.ways(clients, sizes=SMALL),
                *rating.ways(engine, sizes=SMALL),
                *main_job.ways(engine, database_url, redis_url, tmp_path, sizes=SMALL),
                *compiling.ways(engine, owner, sizes=SMALL),
            ]
            figures = measure(ways, rounds=1)
        owner.execute(f'DROP DATABASE "{beside}"')
    assert {name for name, found in figures.items() if found.rate <= 0} == set()
    assert {way.beside for way in ways} - {None} <= figures.keys(), "every way finds what it is compared with"
