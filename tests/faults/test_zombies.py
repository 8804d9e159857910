"""A process falls asleep at a boundary, others do its work, it wakes: what it writes then touches nothing."""

import random
import signal

import pytest

from tests import soak_report
from tests.faults.boundaries import Death, deaths_at
from tests.faults.conftest import AT_ONCE
from tests.faults.stages import Stages
from tests.faults.sweep import Reference, refer, sleep_on, strike_all

SLICE = 2
SLEPT = ("close", "finalize", "sync", "webhook", "credit note and refund", "void and bill again", "reconcile")


def sleeps(reference: Reference) -> list[Death]:
    return deaths_at(reference.boundaries, by=signal.SIGSTOP)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("flow", ["sync"])
def test_a_process_that_wakes_after_its_lease_changes_nothing(stages: Stages, flow: str) -> None:
    reference = refer(stages, flow)
    chosen = random.Random(f"zombie {flow}").sample(sleeps(reference), SLICE)
    wrong = strike_all(chosen, lambda asleep: sleep_on(stages, reference, asleep), at_once=AT_ONCE)
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("flow", SLEPT)
def test_a_process_that_sleeps_at_any_boundary_changes_nothing_when_it_wakes(stages: Stages, flow: str) -> None:
    reference = refer(stages, flow)
    every = sleeps(reference)
    wrong = strike_all(every, lambda asleep: sleep_on(stages, reference, asleep), at_once=AT_ONCE)
    soak_report.add("zombie", flow, boundaries=len(reference.boundaries), points=len(every), violations=len(wrong))
    assert not wrong, "\n".join(wrong)
