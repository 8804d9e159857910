"""Memory: however long the journal is, a report or an export holds a few thousand rows of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from app.database import create_engine
from tests.integration.ledger.books import Ledger
from tests.processes.services import Databases
from tests.reports.journal import fill, fill_openings

SHORT, LONG = 5_000, 40_000
"""Entries; the short journal is already longer than one fetch, so that buffers have the size that they keep."""
FULL = int(os.environ.get("REPORT_ENTRIES", "1000000"))
"""Entries of the longest journal, under `make soak`."""
ALLOWED_KB = 6 * 1024
"""By how much more memory may be held for the long journal: buffers that grow with a batch's size, never with all."""

# The process itself says at its end how much it ever held. What its parent could ask for, ru_maxrss, begins with the
# parent's own size, which a fork inherits.
MEASURED = """
import atexit, sys
def peak():
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")).split()[1], file=sys.stderr)
atexit.register(peak)
from app.cli import main
main()
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much was held")


class Journal:
    """A database with one customer's so many entries, or as many customers with one open receivable each."""

    def __init__(self, databases: Databases, var: Path) -> None:
        self.databases = databases
        self.name = databases.clone()
        self.url = databases.url(self.name)
        self.var = var
        self.customer_id = UUID(int=0)

    def fill(self, entries: int, *, as_openings: bool) -> None:
        engine = create_engine(self.url)
        if as_openings:
            fill_openings(engine, customers=entries)
        else:
            self.customer_id = Ledger(engine).open()
            fill(engine, self.customer_id, entries=entries)
        engine.dispose()

    def run(self, words: list[str]) -> tuple[int, int]:
        """The most memory that the command held, in kB, and how many lines it wrote."""
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.url,
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "STRIPE_API_KEY": "sk_test_sandbox_none",
            "STRIPE_API_BASE": "http://127.0.0.1:1",
            "STRIPE_WEBHOOK_SECRET": "whsec_none",
            "SECRET_KEY": "x" * 40,
            "BILLING_VAR": str(self.var),
        }
        command = [sys.executable, "-c", MEASURED, *(word.format(customer=self.customer_id) for word in words)]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            lines = sum(1 for _ in process.stdout)
            said = process.stderr.read()
        assert process.returncode == 0, said
        return int(said.split()[-1]), lines


@pytest.fixture
def journals(databases: Databases, tmp_path: Path) -> Iterator[tuple[Journal, Journal]]:
    both = (Journal(databases, tmp_path / "short"), Journal(databases, tmp_path / "long"))
    yield both
    for journal in both:
        databases.drop(journal.name)


BY_ENTRY = (
    "report statement --customer {customer} --account assets:unbilled",
    "report statement --customer {customer} --account income:usage --since 2025-01-02T00:00Z --format csv",
    "ledger export --format csv",
    "ledger export --format beancount",
    "ledger export --format hledger",
)
SUMMED = ("report trial-balance --as-of 2025-07-01T00:00Z", "report revenue --as-of 2025-12-01T00:00Z")
BY_CUSTOMER = (
    "report ageing",
    "report ageing --as-of 2025-07-01T00:00Z --format csv",
    "report deferred-credits --format csv",
)

IN_CI = (BY_ENTRY[0], BY_ENTRY[2])
"""Where a table is laid out, and where the journal is written: the slice of every run."""


def compare(journals: tuple[Journal, Journal], commands: tuple[str, ...], *, long: int, as_openings: bool) -> None:
    short_journal, long_journal = journals
    short_journal.fill(SHORT, as_openings=as_openings)
    long_journal.fill(long, as_openings=as_openings)
    for command in commands:
        few, few_lines = short_journal.run(command.split())
        many, many_lines = long_journal.run(command.split())
        print(f"{command}: {few / 1024:.0f} MB, {few_lines:,} lines; {many / 1024:.0f} MB, {many_lines:,} lines")
        if command not in SUMMED:
            assert few_lines >= 0.9 * SHORT, command
            assert many_lines >= 0.9 * long, command
        assert many - few < ALLOWED_KB, command


@needs_proc
@pytest.mark.parametrize(
    ("long", "commands"),
    [
        pytest.param(LONG, IN_CI, id="40,000 entries"),
        pytest.param(
            FULL, (*BY_ENTRY, *SUMMED), id="full size", marks=[pytest.mark.soak, pytest.mark.timeout(4 * 3600)]
        ),
    ],
)
def test_a_longer_journal_takes_no_more_memory(
    journals: tuple[Journal, Journal], long: int, commands: tuple[str, ...]
) -> None:
    compare(journals, commands, long=long, as_openings=False)


@needs_proc
@pytest.mark.parametrize(
    ("long", "commands"),
    [
        pytest.param(LONG // 2, BY_CUSTOMER[:1], id="20,000 customers"),
        pytest.param(FULL // 5, BY_CUSTOMER, id="full size", marks=[pytest.mark.soak, pytest.mark.timeout(4 * 3600)]),
    ],
)
def test_more_customers_take_no_more_memory(
    journals: tuple[Journal, Journal], long: int, commands: tuple[str, ...]
) -> None:
    compare(journals, commands, long=long, as_openings=True)
