"""Run the benchmarks, print the figures, and write them to docs/benchmarks.md."""

import argparse
import os
import platform
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL, make_url

from app.database import create_engine, upgrade
from app.embedded import home as homes
from app.embedded import state as states
from app.embedded.postgres import DATABASE, OWNER, Postgres
from app.embedded.valkey import Valkey
from tests.benchmarks import collection, ledger, main_job, rating, singles, volume, webhooks
from tests.benchmarks import compile as compiling
from tests.benchmarks.report import Machine, render
from tests.benchmarks.rounds import measure

REPORT = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"


@contextmanager
def servers(folder: Path) -> Iterator[tuple[str, str]]:
    """The embedded Postgres as `make run` has it, with fsync, and a Redis; ours alone, gone at the end."""
    home = homes.open_home(folder)
    passwords = [secrets.token_urlsafe(16) for _ in range(3)]
    port = states.choose_port()
    postgres = Postgres(home, port, superuser_password=passwords[0], owner_password=passwords[1], durable=True)
    valkey = Valkey(home, states.choose_port((port,)), password=passwords[2], durable=False)
    try:
        postgres.start(attached=True)
        valkey.start(attached=True)
        url = URL.create(
            "postgresql+psycopg", OWNER, passwords[1], host="127.0.0.1", port=port, database=DATABASE
        ).render_as_string(hide_password=False)
        yield url, f"redis://:{passwords[2]}@127.0.0.1:{valkey.port}"
    finally:
        valkey.stop()
        postgres.stop()
        if home.data != home.var:
            shutil.rmtree(home.data, ignore_errors=True)


def describe(owner: psycopg.Connection) -> Machine:
    version, fsync = owner.execute(
        "SELECT split_part(version(), ' ', 2), current_setting('fsync') || ', synchronous_commit ' || "
        "current_setting('synchronous_commit') || ', shared_buffers ' || current_setting('shared_buffers')"
    ).fetchone() or ("?", "?")
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return Machine(
        cpus=f"{os.cpu_count()} x {model}",
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        postgres=f"{version}, fsync {fsync}",
        load=os.getloadavg()[0],
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds; the median counts (default 5)")
    parser.add_argument("--entries", type=int, default=10_000_000, help="in the filled journal (default 10,000,000)")
    parser.add_argument("--of-one", type=int, default=1_000_000, help="of its big customer (default 1,000,000)")
    parser.add_argument("--no-report", action="store_true", help=f"leave {REPORT.name} as it is")
    options = parser.parse_args()
    if min(options.rounds, options.entries, options.of_one) < 1:
        parser.error("--rounds, --entries and --of-one are at least 1")
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="billing-bench-"))
    folder.chmod(0o711)
    try:
        with servers(folder) as (database_url, redis_url):
            upgrade(database_url)
            plain = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
            engine = create_engine(database_url)
            with psycopg.connect(plain, autocommit=True) as owner:
                machine = describe(owner)
                customers = ledger.open_customers(engine)
                with (
                    volume.filled(database_url, count=options.entries, of_one=options.of_one) as filled,
                    singles.clients(database_url, customers) as clients,
                ):
                    ways = [
                        *ledger.ways(engine, owner, customers),
                        *volume.ways(filled),
                        *singles.ways(clients),
                        *rating.ways(engine),
                        *main_job.ways(engine, database_url, redis_url, folder),
                        *compiling.ways(engine, owner),
                    ]
                    figures = measure(ways, rounds=options.rounds)
            engine.dispose()
            collected = collection.run(database_url, redis_url, folder)
            accepted = webhooks.run(database_url, redis_url, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = (
        render(
            figures,
            machine,
            rounds=options.rounds,
            taken_s=time.monotonic() - began,
            today=datetime.now(UTC).date(),
            entries=options.entries,
            of_one=options.of_one,
        )
        + collection.section(collected)
        + webhooks.section(accepted)
    )
    if not options.no_report:
        REPORT.write_text(text, encoding="utf-8")
        print(f"Wrote {REPORT.relative_to(REPORT.parent.parent)}", file=sys.stderr)
    print(text)


if __name__ == "__main__":
    main()
