"""What a run in a copy tells the gate: where its code came from, and how each test ended. A plugin of pytest.

`-p tests.mutations.verdict`, with the file to write named by GUARD_VERDICT.
"""

import importlib
import json
import os
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

VERDICT_VARIABLE = "GUARD_VERDICT"
PACKAGES = ("app", "ledger", "invoicing", "stripe_gateway", "support_ui", "migrations", "tests")


@dataclass(frozen=True, slots=True)
class Failure:
    """One phase of one test that failed; `phase` is collect, setup, call or teardown."""

    test: str
    phase: str
    kind: str
    text: str


_failures: list[Failure] = []
_passed: list[str] = []


def strangers(tree: Path) -> list[str]:
    """Packages of ours that come from elsewhere than `tree`: a guard taken away there would be missed by nobody."""
    files = {name: Path(str(importlib.import_module(name).__file__)).resolve() for name in PACKAGES}
    return [f"{name} from {file}" for name, file in files.items() if not file.is_relative_to(tree.resolve())]


def pytest_configure(config: pytest.Config) -> None:
    if found := strangers(Path.cwd()):
        pytest.exit(f"not the copy's code: {', '.join(found)}", returncode=4)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        kind = call.excinfo.typename if call.excinfo is not None else "unknown"
        text = str(call.excinfo.value) if call.excinfo is not None else ""
        _failures.append(Failure(item.nodeid, str(report.when), kind, text[:2000]))
    elif report.when == "call" and report.passed:
        _passed.append(item.nodeid)
    return report


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _failures.append(Failure(report.nodeid, "collect", "collect", report.longreprtext[-2000:]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    written = {"passed": _passed, "failures": [asdict(failure) for failure in _failures]}
    Path(os.environ[VERDICT_VARIABLE]).write_text(json.dumps(written))
