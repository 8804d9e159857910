"""One point of a sweep: a fresh copy of the stage, one death or one fault in it, the way back, and the judgement."""

import fnmatch
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stripe_gateway.sandbox.faults import KINDS, REASONS
from tests.faults import driver
from tests.faults.boundaries import Boundary, Death, read_boundaries
from tests.faults.flows import FLOWS
from tests.faults.place import Place
from tests.faults.stages import RunFailed, Stages, begin, end, run
from tests.processes import forks

PATIENCE_S = 1.5
"""How long a call waits whose answer is to come too late; it comes after twice that."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What a flow does when nothing happens to it: its boundaries, and the books in the end."""

    flow: str
    boundaries: tuple[Boundary, ...]
    books: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that befalls one call to Stripe. `fields` are the sandbox's."""

    name: str
    kind: str
    fields: dict[str, Any] = field(default_factory=dict)


def faults() -> list[Fault]:
    """Every fault that the sandbox can inject into a call, in every variant.

    Stripe says that a 500 is kept under its key. One that is not, after the work was done, is among them all the same:
    what is there is read before anything is sent again.

    Source: https://docs.stripe.com/api/idempotent_requests
    """
    found = []
    for kind in KINDS:
        if kind == "429":
            found += [Fault(f"429 {reason}", kind, {"reason": reason}) for reason in REASONS]
        elif kind.startswith("500"):
            found += [
                Fault(f"{kind} {'stored' if stored else 'not stored'}", kind, {"stored": stored})
                for stored in (True, False)
            ]
        elif kind.startswith("delay"):
            found.append(Fault(kind, kind, {"delay_s": 2 * PATIENCE_S}))
        else:
            found.append(Fault(kind, kind))
    return found


def refer(stages: Stages, flow: str) -> Reference:
    """Run the flow without a fault; twice, if it was the first at its Redis and loaded the script that stays there."""
    found = _refer(stages, flow)
    return _refer(stages, flow) if any(boundary.what == "SCRIPT" for boundary in found.boundaries) else found


def _refer(stages: Stages, flow: str) -> Reference:
    with stages.place(FLOWS[flow].stage) as (place, _):
        run(driver.act, place, flow, None, name=flow)
        boundaries = tuple(read_boundaries(Path(place.folder, driver.TRACE)))
        verdict = _settle(place, flow, seed=0)
    assert not verdict["violations"], f"{flow}, with nothing done to it:\n" + "\n".join(verdict["violations"])
    return Reference(flow, boundaries, verdict["books"])


def die(stages: Stages, reference: Reference, death: Death) -> list[str]:
    """Kill the process at this boundary, start it again, and say what is wrong in the end."""
    flow, wanted = reference.flow, reference.boundaries[death.index]
    with stages.place(FLOWS[flow].stage) as (place, _):
        run(driver.act, place, flow, death, name=f"{flow}, killed {death.when} {wanted}", dies=True)
        reached = read_boundaries(Path(place.folder, driver.TRACE))[-1]
        if (reached.kind, reached.what) != (wanted.kind, wanted.what):
            return [f"it died at {reached}"]
        return _wrong(_settle(place, flow, seed=death.index), reference)


def sleep_on(stages: Stages, reference: Reference, asleep: Death) -> list[str]:
    """Stop the process at this boundary, let others do its work, wake it, and say what is wrong in the end."""
    flow, wanted = reference.flow, reference.boundaries[asleep.index]
    with stages.place(FLOWS[flow].stage) as (place, _):
        process = begin(driver.act, place, flow, asleep)
        try:
            _wait_until_stopped(process, name=f"{flow}, asleep {asleep.when} {wanted}")
            driver.end_idle_transactions(place)
            wrong = _wrong(_settle(place, flow, seed=asleep.index), reference)
        finally:
            os.kill(process.pid, signal.SIGCONT)
            code = end(process)
        if code is None:
            return [*wrong, f"it hung when it woke:\n{Path(place.folder, 'act.log').read_text()[-6000:]}"]
        run(driver.look_again, place, name=f"{flow}, looked at again")
        return wrong + _wrong(_verdict(place), reference)


def _wait_until_stopped(process: Any, *, name: str) -> None:
    deadline = time.monotonic() + driver.LIMIT_S
    while _state(process.pid) != "T":
        if forks.wait_for(process, 0) is not None or time.monotonic() > deadline:
            raise RunFailed(f"{name}: it never fell asleep")
        time.sleep(0.005)


def suffer(stages: Stages, reference: Reference, boundary: Boundary, fault: Fault) -> list[str]:
    """Let the fault befall exactly this call, and say what is wrong in the end."""
    flow = reference.flow
    pattern = boundary.what.replace("{id}", "*")
    earlier = [
        one
        for one in reference.boundaries[: boundary.index]
        if one.kind == "http" and fnmatch.fnmatchcase(one.what, pattern)
    ]
    with stages.place(FLOWS[flow].stage) as (place, sandbox):
        sandbox.fault(pattern, fault.kind, skip=len(earlier), **fault.fields)
        is_late = fault.kind.startswith("delay")
        patience_s = PATIENCE_S if is_late else None
        run(driver.act_hindered, place, flow, patience_s, name=f"{flow} with {fault.name} at {boundary}")
        # No request is under way at Stripe for hours: before those pass, it has arrived.
        arrived_at = time.time() + 2 * PATIENCE_S if is_late else 0.0
        wrong = _wrong(_settle(place, flow, seed=boundary.index, arrived_at=arrived_at), reference)
        hits = sandbox.get("faults")["faults"][0]["hits"]
        return wrong if hits == 1 else [*wrong, f"the fault struck {hits} times"]


def _state(pid: int) -> str:
    """The letter by which the kernel names a process's state; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _settle(place: Place, flow: str, *, seed: int, arrived_at: float = 0.0) -> dict[str, Any]:
    run(driver.settle, place, flow, seed, arrived_at, name=f"{flow}, afterwards")
    return _verdict(place)


def _verdict(place: Place) -> dict[str, Any]:
    verdict: dict[str, Any] = json.loads(Path(place.folder, driver.VERDICT).read_text())
    return verdict


def _wrong(verdict: dict[str, Any], reference: Reference) -> list[str]:
    found: list[str] = verdict["violations"]
    for name, rows in reference.books.items():
        if verdict["books"][name] != rows:
            lost = [row for row in rows if row not in verdict["books"][name]]
            gained = [row for row in verdict["books"][name] if row not in rows]
            found.append(f"{name} are not as without the fault: missing {lost}, too many {gained}")
    return found


def strike_all(points: Sequence[Any], strike: Callable[[Any], list[str]], *, at_once: int) -> list[str]:
    """Strike every point, several at a time; what is wrong, a point a line."""
    with ThreadPoolExecutor(at_once) as pool:
        return [
            f"{point}: " + "\n    ".join(wrong)
            for point, wrong in zip(points, pool.map(strike, points), strict=True)
            if wrong
        ]
