"""Each fault that Stripe or the network can have, at each call that we make: the answer is found out, never guessed."""

import random

import pytest

from tests import soak_report
from tests.faults.boundaries import Boundary
from tests.faults.conftest import AT_ONCE
from tests.faults.flows import SWEPT
from tests.faults.stages import Stages
from tests.faults.sweep import Fault, Reference, faults, refer, strike_all, suffer

SLICE = 2


def points(reference: Reference) -> list[tuple[Boundary, Fault]]:
    calls = [boundary for boundary in reference.boundaries if boundary.kind == "http"]
    return [(call, fault) for call in calls for fault in faults()]


def strike(stages: Stages, reference: Reference, chosen: list[tuple[Boundary, Fault]]) -> list[str]:
    return strike_all(chosen, lambda point: suffer(stages, reference, *point), at_once=AT_ONCE)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("flow", ["sync"])
def test_a_fault_at_a_call_to_stripe_loses_and_doubles_nothing(stages: Stages, flow: str) -> None:
    reference = refer(stages, flow)
    every = points(reference)
    wrong = strike(stages, reference, random.Random(f"fault {flow}").sample(every, SLICE))
    assert not wrong, "\n".join(wrong)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("flow", list(SWEPT))
def test_every_fault_at_every_call_of_every_flow_loses_and_doubles_nothing(stages: Stages, flow: str) -> None:
    reference = refer(stages, flow)
    every = points(reference)
    if not every:
        pytest.skip("this flow does not speak to Stripe")
    wrong = strike(stages, reference, every)
    soak_report.add("fault", flow, boundaries=len(every) // len(faults()), points=len(every), violations=len(wrong))
    assert not wrong, "\n".join(wrong)
