"""The gate: copies of the project, each with one guard less, and what the tests say in them.

One Postgres and one Valkey serve all copies, since what is taken away is code or one database's schema. The copies are
hard links to one base, in which the same tests ran before with every guard in its place.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.integration.ledger.books import plain_url
from tests.mutations.guard import ROOT, Guard, GuardMoved
from tests.mutations.verdict import PACKAGES, VERDICT_VARIABLE, Failure
from tests.processes import services
from tests.processes.services import Databases, TestServers

FILES = ("pyproject.toml",)
LIMIT_S = 900
"""Of one run in a copy; a test of it that hangs is ended after TEST_LIMIT_S."""
TEST_LIMIT_S = 240
AT_ONCE = 2
NICE = 3
FIRST_WORKER = 40
"""Runs call themselves xdist's workers from this number on, which gives each a Redis database of its own."""


@dataclass(frozen=True, slots=True)
class Run:
    """How the tests ended in a copy."""

    passed: list[str]
    failures: list[Failure]
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class Judged:
    """One guard's end: red says that its test noticed, `why` what was seen."""

    name: str
    red: bool
    why: str
    seconds: float


class Gate:
    """Runs tests in copies under `folder`, on these servers."""

    def __init__(self, folder: Path, servers: TestServers) -> None:
        self._folder = folder
        self._servers = servers
        self._name = f"guards-{secrets.token_hex(4)}"
        self._free = list(range(AT_ONCE))
        self._slots = threading.Semaphore(AT_ONCE)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._databases = Databases(servers, services.template_name(Path(self._name)))
        self._template_lock = threading.Lock()
        self._has_template = False
        self.base = folder / "base"
        for name in PACKAGES:
            shutil.copytree(ROOT / name, self.base / name, ignore=shutil.ignore_patterns("*.pyc.*"))
        for name in FILES:
            shutil.copy2(ROOT / name, self.base / name)

    def control(self, guards: Iterable[Guard]) -> dict[str, str]:
        """Run each named test once with nothing taken away; what is wrong with it by its name, if anything is."""
        tests = sorted({guard.noticed_by for guard in guards})
        run = self._run(self.base, tests)
        wrong = {}
        for test in tests:
            failed = [failure for failure in run.failures if _belongs(failure.test, test)]
            if failed:
                wrong[test] = f"{failed[0].phase}: {failed[0].kind}: {failed[0].text}"
            elif not any(_belongs(passed, test) for passed in run.passed):
                wrong[test] = f"it did not run: {run.output[-500:]}"
        return wrong

    def judge(self, guard: Guard) -> Judged:
        """Take the guard away in a fresh copy and run its test there."""
        tree = self._folder / re.sub(r"\W+", "-", guard.name)
        shutil.copytree(self.base, tree, copy_function=os.link)
        try:
            guard.apply(tree)
            run = self._run(tree, [guard.noticed_by], schema_of=guard)
        except GuardMoved as moved:
            return Judged(guard.name, False, str(moved), 0.0)
        finally:
            shutil.rmtree(tree)
        red, why = verdict(guard, run)
        return Judged(guard.name, red, why, run.seconds)

    def close(self) -> None:
        """End what still runs, and drop the databases."""
        for process in list(self._running):
            _end(process)
        self._databases.close()
        services.drop_databases(self._servers.admin_url, services.template_name(Path(self._name)))

    def _run(self, tree: Path, tests: Sequence[str], *, schema_of: Guard | None = None) -> Run:
        self._prepare_template()
        with self._slot() as slot:
            # The session's name is its template's: a copy with another schema has a template of its own.
            name = f"{self._name}-{slot}" if schema_of is not None and schema_of.is_in_schema else self._name
            session = self._folder / f"session-{tree.name}" / name
            if schema_of is not None and schema_of.is_in_schema:
                self._make_template(services.template_name(session), schema_of)
            session.mkdir(parents=True)
            (session / "servers.json").write_text(json.dumps(asdict(self._servers)))
            written = session.parent / "verdict.json"
            environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")} | {
                "PYTHONPATH": str(tree),
                services.SESSION_VARIABLE: str(session),
                "PYTEST_XDIST_WORKER": f"gw{FIRST_WORKER + slot}",
                VERDICT_VARIABLE: str(written),
            }
            options = ["-q", "--tb=short", "-p", "no:randomly", "-p", "no:cacheprovider", f"--timeout={TEST_LIMIT_S}"]
            command = [sys.executable, "-m", "pytest", "-p", "tests.mutations.verdict", *options, *tests]
            started = time.monotonic()
            output = self._wait(["nice", "-n", str(NICE), *command], tree, environment, len(tests) * LIMIT_S)
            seconds = time.monotonic() - started
            found = json.loads(written.read_text()) if written.exists() else {"passed": [], "failures": []}
            shutil.rmtree(session.parent)
        return Run(found["passed"], [Failure(**failure) for failure in found["failures"]], seconds, output)

    def _prepare_template(self) -> None:
        """The schema with every guard in its place, which all copies share whose guard is in the code."""
        with self._template_lock:
            if not self._has_template:
                self._databases.prepare_template()
                self._has_template = True

    def _make_template(self, name: str, guard: Guard) -> None:
        """The schema without the guard; where a migration is changed, the copy's own run makes it."""
        services.drop_databases(self._servers.admin_url, name)
        if guard.is_in_migrations:
            return
        with self._template_lock:
            clone = self._databases.clone()
        with psycopg.connect(plain_url(self._databases.url(clone)), autocommit=True) as owner:
            for statement in guard.statements:
                owner.execute(statement.encode())
        with psycopg.connect(plain_url(self._servers.admin_url), autocommit=True) as admin:
            names = sql.Identifier(clone), sql.Identifier(name)
            admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(*names))
            admin.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(names[1]))

    def _wait(self, command: list[str], tree: Path, environment: dict[str, str], limit_s: int) -> str:
        process = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that what its tests started can be ended with it
        )
        self._running.add(process)
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            _end(process)
            output, _ = process.communicate()
        finally:
            self._running.discard(process)
        return output.decode(errors="replace")

    @contextlib.contextmanager
    def _slot(self) -> Iterator[int]:
        with self._slots:
            slot = self._free.pop()
            try:
                yield slot
            finally:
                self._free.append(slot)


def verdict(guard: Guard, run: Run) -> tuple[bool, str]:
    """Whether the run failed as the guard's test should: by a claim, not because something else broke."""
    called = [failure for failure in run.failures if failure.phase == "call"]
    elsewhere = [failure for failure in run.failures if failure.phase in ("collect", "setup")]
    noticed = [
        failure for failure in called if failure.kind in guard.fails_with and not failure.text.startswith("Timeout")
    ]
    if elsewhere:
        return False, f"broke before the test: {elsewhere[0].phase}: {elsewhere[0].text}"
    if noticed:
        return True, f"{noticed[0].test}: {noticed[0].kind}: {noticed[0].text.splitlines()[:1]}"
    if called:
        return False, f"failed in another way: {called[0].test}: {called[0].kind}: {called[0].text}"
    if run.passed:
        return False, f"nobody missed it: {len(run.passed)} passed"
    return False, f"nothing ran: {run.output[-2000:]}"


def _belongs(found: str, named: str) -> bool:
    """Whether a test that ran is the one that was named, one of its cases, or one of the named file."""
    return found == named or found.startswith((f"{named}::", f"{named}["))


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
