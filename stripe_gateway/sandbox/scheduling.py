"""Work that time does: due jobs in the order in which they are due, driven by the sandbox's clock."""

from __future__ import annotations

import threading
from collections.abc import Callable

from . import debits, disputes, fraud_warnings, payouts, refunds
from .charges import settle_when_due
from .collection import charge_when_due, send_when_due
from .idempotency import Keys
from .invoices import finalize_when_due
from .world import Origin, World

_JOBS: dict[str, Callable[[World, str], None]] = {
    "charge": charge_when_due,
    "debit_balance": debits.settle_balance_when_due,
    "debit_ends": debits.end_when_due,
    "decide_dispute": disputes.decide_when_due,
    "dispute": disputes.dispute_when_due,
    "fail_refund": refunds.fail_when_due,
    "finalize": finalize_when_due,
    "fraud_warning": fraud_warnings.warn_when_due,
    "payout_arrive": payouts.arrive_when_due,
    "payout_reconciled": payouts.reconciled_when_due,
    "send": send_when_due,
    "settle": settle_when_due,
    "settle_refund": refunds.settle_when_due,
}
# The longest nap between two looks at the clock; new work wakes the thread earlier.
_NAP_S = 0.5
_PRUNE_EVERY_S = 3600.0


def run_due(world: World, *, until: float) -> int:
    """Do every job due by `until` (inclusive), each in a transaction of its own; returns how many.

    Jobs that a job schedules are done too, if they are due by then.
    """
    done = 0
    while _run_next(world, until=until) is not None:
        done += 1
    return done


def advance(world: World, instant: float) -> int:
    """Move the clock to `instant`, stopping at each due job on the way so that it sees its own time."""
    done = 0
    while True:
        with world.store.transaction():
            due = _next_due(world)
            if due is None or due > instant:
                world.clock.set(instant)
                return done
            if due > world.clock.now():
                world.clock.set(due)
            _run_next(world, until=due)
            done += 1


def _next_due(world: World) -> float | None:
    found = world.store.rows("SELECT due_at FROM jobs ORDER BY due_at, seq LIMIT 1")
    return float(found[0][0]) if found else None


def _run_next(world: World, *, until: float) -> str | None:
    due = _next_due(world)
    if due is None or due > until:
        return None
    with world.store.transaction():
        found = world.store.rows(
            "SELECT seq, kind, object_id FROM jobs WHERE due_at <= ? ORDER BY due_at, seq LIMIT 1", until
        )
        if not found:
            return None
        seq, kind, object_id = found[0]
        world.store.execute("DELETE FROM jobs WHERE seq = ?", seq)
        with world.acting_for(Origin()):
            _JOBS[kind](world, object_id)
        return str(kind)


class Scheduler(threading.Thread):
    """The thread that does due jobs as time flows, and forgets old idempotency keys."""

    def __init__(self, world: World, keys: Keys) -> None:
        super().__init__(name="scheduler", daemon=True)
        self._world = world
        self._keys = keys
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._pruned_at = 0.0

    def wake(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self.join(timeout=5)

    def run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            now = self._world.clock.now()
            run_due(self._world, until=now)
            self._prune(now)
            with self._world.store.lock:
                due = _next_due(self._world)
            nap = _NAP_S if due is None else min(_NAP_S, max(0.0, due - self._world.clock.now()))
            # A frozen clock never reaches what is due: sleep until something changes.
            self._wake.wait(_NAP_S if self._world.clock.frozen else nap)

    def _prune(self, now: float) -> None:
        if abs(now - self._pruned_at) >= _PRUNE_EVERY_S:
            self._pruned_at = now
            with self._world.store.transaction():
                self._keys.prune()
