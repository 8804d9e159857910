"""Every guard is taken away, and its test turns red."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import cast

import pytest

from tests.mutations.gate import AT_ONCE, Gate, Judged, Run, verdict
from tests.mutations.guard import Guard
from tests.mutations.listed import GUARDS
from tests.mutations.verdict import Failure
from tests.processes.services import TestServers


@dataclass
class Judgement:
    """What became of every guard that this run asks about."""

    control: dict[str, str]
    judged: dict[str, Future[Judged]]


@pytest.fixture(scope="module")
def judgement(
    request: pytest.FixtureRequest, servers: TestServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Judgement]:
    """All guards that were selected, two at a time; a test then waits for its own."""
    gate = Gate(tmp_path_factory.mktemp("gate"), servers)
    pool = ThreadPoolExecutor(AT_ONCE)
    asked = [
        cast("Guard", item.callspec.params["guard"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "judgement" in item.fixturenames
    ]
    try:
        control = gate.control(asked)
        yield Judgement(control, {guard.name: pool.submit(gate.judge, guard) for guard in asked})
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        gate.close()
        pool.shutdown()


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_a_guard_its_test_turns_red(judgement: Judgement, guard: Guard) -> None:
    assert guard.noticed_by not in judgement.control, f"red with every guard in place: {judgement.control}"
    judged = judgement.judged[guard.name].result()
    assert judged.red, f"without this: {guard.protects} {judged.why}"


GUARD = Guard(name="any", protects="Nothing.", taken=(), noticed_by="tests/a.py")
CLAIM = Failure("tests/a.py::test_b", "call", "AssertionError", "assert 1 == 2")


@pytest.mark.parametrize(
    ("failures", "red"),
    [
        ([CLAIM], True),
        ([Failure("tests/a.py::test_b", "call", "Failed", "DID NOT RAISE")], True),
        ([], False),
        ([Failure("tests/a.py::test_b", "call", "ImportError", "no module")], False),
        ([Failure("tests/a.py::test_b", "call", "Failed", "Timeout (>240.0s)")], False),
        ([Failure("tests/a.py::test_b", "setup", "AssertionError", "a fixture")], False),
        ([CLAIM, Failure("tests/c.py", "collect", "collect", "SyntaxError")], False),
    ],
    ids=["claim", "no refusal", "passed", "import", "hangs", "fixture", "syntax"],
)
def test_only_a_test_that_fails_by_its_claim_has_noticed(failures: list[Failure], red: bool) -> None:
    assert verdict(GUARD, Run(["tests/a.py::test_d"], failures, 1.0, ""))[0] is red
