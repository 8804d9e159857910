"""How much of Stripe's limit is used: several processes sync to a sandbox that limits as Stripe does.

`python -m tests.benchmarks.collection` runs it alone, against servers of its own.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from app.database import create_engine, upgrade
from stripe_gateway.client import ClientSettings
from stripe_gateway.gateway import StripeGateway
from tests.gateway.conftest import make_town
from tests.processes.sandbox import REPOSITORY, SandboxProcess

INVOICES = 1_500  # a minute at 25 a second
PROCESSES = 2
DATABASE = "billing_collection"
WRITES = ("invoices.create", "invoices.add_lines", "invoices.finalize")


@dataclass(frozen=True)
class Collected:
    """What came of a run. `share` is of the limit of the operation that is called most, after the first second."""

    invoices: int
    calls: int
    refused: int
    seconds: float
    share: float
    answer_s: float

    @property
    def calls_per_invoice(self) -> float:
        return (self.calls - self.refused) / self.invoices

    @property
    def refused_share(self) -> float:
        return self.refused / self.calls


def run(url: str, redis_url: str, folder: Path, *, answer_s: float = 0.1, endpoint_limit: float = 25.0) -> Collected:
    """Sync `INVOICES` from `PROCESSES` processes, in a database beside that of `url`.

    The sandbox takes `answer_s` for each answer, as a network would, and allows `endpoint_limit` calls a second for
    each operation; the processes believe in Stripe's 25.
    """
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    database_url = make_url(url).set(database=DATABASE).render_as_string(hide_password=False)
    upgrade(database_url)
    engine = create_engine(database_url, pool_size=10)
    sandbox = SandboxProcess(folder, api_key="sk_test_sandbox_bench").start()
    try:
        town = make_town(engine, sandbox)
        town.invoices(INVOICES, name="collected")
        with engine.connect() as connection:
            ids = connection.exec_driver_sql("SELECT customer_id FROM stripe_customers WHERE state <> 'done'").scalars()
            for customer_id in ids.all():
                town.gateway.ensure_customer(customer_id=customer_id, now=datetime.now(UTC))
        sandbox.set(limits_enabled=True, rate_per_endpoint=endpoint_limit)
        sandbox.fault("*", "delay_before", delay_s=answer_s, count=None)
        sandbox.clear_requests()
        words = [sys.executable, "-m", "tests.benchmarks.collection", "--work", database_url, redis_url]
        workers = [subprocess.Popen([*words, sandbox.url, sandbox.api_key], cwd=REPOSITORY) for _ in range(PROCESSES)]
        for worker in workers:
            if worker.wait(timeout=600):
                raise RuntimeError(f"a worker ended with status {worker.returncode}")
        lines = sandbox.requests()
        sandbox.clear_faults()
        sandbox.set(limits_enabled=False)
        town.assert_each_stands_once()
    finally:
        sandbox.kill9()
        engine.dispose()
    moments = sorted(_moment(line["at"]) for line in lines if line["endpoint"] == WRITES[0] and line["status"] == 200)
    steady = [moment for moment in moments if moment >= moments[0] + 1]
    seconds = steady[-1] - steady[0]
    return Collected(
        invoices=INVOICES,
        calls=len(lines),
        refused=sum(1 for line in lines if line["status"] == 429),
        seconds=moments[-1] - moments[0],
        share=(len(steady) - 1) / seconds / endpoint_limit,
        answer_s=answer_s,
    )


def _moment(at: str | float) -> float:
    return at if isinstance(at, (int, float)) else datetime.fromisoformat(at).timestamp()


def work(database_url: str, redis_url: str, api_base: str, api_key: str) -> None:
    """One process: sync all that is due, paced as in production."""
    engine = create_engine(database_url, pool_size=10)
    gateway = StripeGateway(engine, ClientSettings(api_key=api_key, api_base=api_base, redis_url=redis_url))
    gateway.sync_due(now=datetime.now(UTC))
    engine.dispose()


def section(found: Collected) -> str:
    """The report's part about collecting."""
    return f"""
## Collecting

{found.invoices:,} invoices to a sandbox that limits as Stripe does (25 calls a second for each operation, 100 over all)
and answers after {found.answer_s * 1000:.0f} ms, from {PROCESSES} processes that share one Redis:

| figure | goal | reached |
|---|---|---|
| calls per invoice | 3 | {found.calls_per_invoice:.2f} |
| share of the limit used | 95 % | {found.share:.1%} |
| answers of 429 | under 1 % | {found.refused_share:.2%} |
| time | | {found.seconds:.0f} s |

The share is that of the first write's limit, from a second after the first call to the last one.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.collection", description=__doc__)
    parser.add_argument("--work", nargs=4, metavar=("DATABASE", "REDIS", "BASE", "KEY"), help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=25.0, help="calls a second that the sandbox allows (default 25)")
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    from tests.benchmarks.__main__ import servers  # which imports this module

    folder = Path(tempfile.mkdtemp(prefix="billing-bench-"))
    folder.chmod(0o711)
    try:
        with servers(folder) as (database_url, redis_url):
            print(section(run(database_url, redis_url, folder, endpoint_limit=options.limit)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
