"""Killed before and after each COMMIT, each call to Stripe, each word to Redis: nothing is lost or doubled."""

import random

import pytest

from tests import soak_report
from tests.faults.boundaries import deaths_at
from tests.faults.conftest import AT_ONCE
from tests.faults.flows import SWEPT
from tests.faults.stages import Stages
from tests.faults.sweep import die, refer, strike_all

MORE = {"sync": 3, "webhook": 3, "credit note and refund": 3, "dispute": 3}
"""Points that every run of the tests strikes, of flows where it is more than one."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("flow", list(SWEPT))
def test_a_process_killed_at_a_boundary_loses_and_doubles_nothing(stages: Stages, flow: str) -> None:
    reference = refer(stages, flow)
    chosen = random.Random(f"crash {flow}").sample(deaths_at(reference.boundaries), MORE.get(flow, 1))
    wrong = strike_all(chosen, lambda death: die(stages, reference, death), at_once=AT_ONCE)
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("flow", list(SWEPT))
def test_every_boundary_of_every_flow_survives_a_kill_before_and_after(stages: Stages, flow: str) -> None:
    reference = refer(stages, flow)
    points = deaths_at(reference.boundaries)
    wrong = strike_all(points, lambda death: die(stages, reference, death), at_once=AT_ONCE)
    soak_report.add("crash", flow, boundaries=len(reference.boundaries), points=len(points), violations=len(wrong))
    assert not wrong, "\n".join(wrong)
