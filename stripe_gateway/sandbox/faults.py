"""Faults on demand: what networks and Stripe do to a request, switched on per endpoint."""

from __future__ import annotations

import fnmatch
import itertools
import random
import threading
from dataclasses import dataclass, field
from typing import Any

from .errors import ApiError, Json, forbidden, in_use, invalid, lock_timeout, rate_limited, unauthorized

KINDS = {
    "429": "refused by a limiter, which the reason names; nothing happens",
    "lock_timeout": "429 without a reason: the object is locked; nothing happens",
    "409": "another request with the key is in flight; nothing happens",
    "401": "the key is not accepted; nothing happens",
    "403": "the key may not do this; nothing happens",
    "500_before": "500, nothing was done; stored under the idempotency key unless told otherwise",
    "500_after": "500, yet the work was done; stored under the idempotency key unless told otherwise",
    "reset_before": "connection reset before anything happens",
    "reset_after": "connection reset after the work was done and its true answer stored",
    "fin_before": "connection closed in good order, without an answer, before anything happens",
    "fin_after": "connection closed in good order, without an answer, after the work was done and its answer stored",
    "truncate": "the work is done, the answer breaks off in the middle of its body",
    "delay_before": "waits with the key in flight for the delay (real time, or until it is switched off), then works",
    "delay_after": "works, then waits for the delay (real time, or until it is switched off) before it answers",
}
REASONS = ("global-rate", "global-concurrency", "endpoint-rate", "endpoint-concurrency", "resource-specific")
CUTS = {
    "reset_before": "reset", "reset_after": "reset", "fin_before": "fin", "fin_after": "fin", "truncate": "truncate",
}  # fmt: skip
"""How the connection is mistreated, of the kinds that do."""
MAX_DELAY_S = 120.0


@dataclass
class Fault:
    """One switched-on fault. Matches an endpoint name ("invoices.*") or "METHOD /path" by shell pattern."""

    id: str
    endpoint: str
    kind: str
    count: int | None = None  # how often it strikes; None: until it is deleted
    skip: int = 0  # matching requests that pass before it may strike
    every: int = 1  # of those that come then, it strikes the first and each so-manieth after it
    probability: float = 1.0
    seed: int = 0
    reason: str = "endpoint-rate"
    delay_s: float = 0.0
    stored: bool = True
    should_retry: bool | None = None  # the Stripe-Should-Retry header of a 500; None: there is none
    hits: int = 0
    seen: int = 0
    dice: random.Random = field(default_factory=random.Random, repr=False)
    cleared: threading.Event = field(default_factory=threading.Event, repr=False)

    def pause(self) -> None:
        """Wait for the delay in real time; who switches the fault off ends the wait at once."""
        self.cleared.wait(self.delay_s)

    @property
    def over(self) -> bool:
        """Whether it has struck as often as it should."""
        return self.count is not None and self.hits >= self.count

    def as_json(self) -> Json:
        shown = {name: value for name, value in vars(self).items() if name not in ("dice", "cleared")}
        return {**shown, "over": self.over}

    def refusal(self) -> ApiError | None:
        """The answer to a request that is refused before anything is done, None for other kinds."""
        match self.kind:
            case "429":
                return rate_limited(self.reason)
            case "lock_timeout":
                return lock_timeout()
            case "409":
                return in_use()
            case "401":
                return unauthorized("Invalid API Key provided: it was revoked.")
            case "403":
                return forbidden()
        return None


class Faults:
    """The faults that are switched on. They live in memory: a restarted sandbox is healthy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._numbers = itertools.count(1)

    def add(self, asked: Json) -> Fault:
        """Switch a fault on.

        Raises:
            ApiError: 400, naming the field that is unknown or malformed.
        """
        fault = _read(asked, f"fault_{next(self._numbers)}")
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self, fault_id: str | None = None) -> int:
        """Switch one fault, or all, off; returns how many."""
        with self._lock:
            gone = [fault for fault in self._faults if fault_id is None or fault.id == fault_id]
            self._faults = [fault for fault in self._faults if fault not in gone]
        for fault in gone:
            fault.cleared.set()
        return len(gone)

    def all(self) -> list[Json]:
        with self._lock:
            return [fault.as_json() for fault in self._faults]

    def strike(self, endpoint: str, method: str, path: str) -> Fault | None:
        """The fault that this request meets, the first one switched on first; counts the hit."""
        with self._lock:
            for fault in self._faults:
                names = (endpoint, f"{method} {path}")
                if not any(fnmatch.fnmatchcase(name, fault.endpoint) for name in names):
                    continue
                if fault.over:
                    continue
                fault.seen += 1
                turn = fault.seen - fault.skip - 1
                if turn < 0 or turn % fault.every or fault.dice.random() >= fault.probability:
                    continue
                fault.hits += 1
                return fault
        return None


def _read(asked: Json, fault_id: str) -> Fault:
    types: dict[str, tuple[type, ...]] = {
        "endpoint": (str,), "kind": (str,), "count": (int, type(None)), "skip": (int,), "every": (int,),
        "probability": (int, float), "seed": (int,), "reason": (str,), "delay_s": (int, float), "stored": (bool,),
        "should_retry": (bool, type(None)),
    }  # fmt: skip
    values: dict[str, Any] = {"endpoint": "*"}
    for name, value in asked.items():
        if name not in types:
            raise invalid(f"No such field of a fault: {name}. Fields: {', '.join(types)}", param=name)
        if not isinstance(value, types[name]) or (isinstance(value, bool) and bool not in types[name]):
            raise invalid(f"Invalid {name}: {value!r}", param=name)
        values[name] = value
    if values.get("kind") not in KINDS:
        raise invalid(f"Unknown kind of fault: {values.get('kind')!r}. Kinds: {', '.join(KINDS)}", param="kind")
    if values.get("reason", REASONS[0]) not in REASONS:
        raise invalid(f"Unknown reason: {values['reason']}. Reasons: {', '.join(REASONS)}", param="reason")
    if not 0 <= values.get("delay_s", 0) <= MAX_DELAY_S:
        raise invalid(f"delay_s must be between 0 and {MAX_DELAY_S:.0f}", param="delay_s")
    if values.get("every", 1) < 1:
        raise invalid("every must be 1 or more", param="every")
    fault = Fault(id=fault_id, **values)
    fault.dice.seed(fault.seed)
    return fault
