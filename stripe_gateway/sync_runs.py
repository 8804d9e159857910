"""One run over every sync that is due, by as many threads as keep Stripe's limit busy, to its end."""

import math
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic

from sqlalchemy import Engine

from stripe_gateway import operations, outbox
from stripe_gateway.client import Client
from stripe_gateway.clock import RunClock
from stripe_gateway.errands import Errand
from stripe_gateway.errors import LeaseLost
from stripe_gateway.operating import Operator
from stripe_gateway.sync import Syncer
from stripe_gateway.tables import StripeOperation, StripeSync

FEWEST_THREADS = 4
MOST_THREADS = 48
ALLOWANCE = 1.25  # more in flight than the average call needs: what we do between two calls takes time as well
GROW_EVERY_S = 0.25
PATIENCE_S = 40.0  # a run waits so long for what is to be tried again soon, or was held by a process that died
POLL_S = 0.5


@dataclass(slots=True)
class SyncSummary:
    """What one run did. `synced` counts invoices; what is left (`waiting`, `parked`, `unknown`) counts operations too.

    `already`: another process finished or took over what this run had begun.
    """

    synced: int = 0
    already: int = 0
    waiting: int = 0
    parked: int = 0
    unknown: int = 0
    operations: int = 0
    """Refunds, credit notes, voids and the like that Stripe has carried out."""
    refused: int = 0
    """Those that Stripe refused for good; the books know of it."""
    problems: list[str] = field(default_factory=list)


def sync_due(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    limit: int | None = None,
    progress: Callable[[SyncSummary], None] | None = None,
    threads: int | None = None,
    patience_s: float = PATIENCE_S,
) -> SyncSummary:
    """Sync everything that is due, to its end, needing no worker. Safe to run twice, at once, and to be killed.

    What must be tried again is waited for while the next attempt is less than `patience_s` away; the rest is counted
    as waiting or unknown and found by the next run. `limit` is the most invoices to begin. `threads` None: as many as
    it takes to reach Stripe's limit, which depends on how long calls take.

    While Stripe is away nothing is claimed; the run asks whether it is back, and goes on if that is soon enough.

    Raises:
        StripeClosed: Stripe does not take our key: the run stops, what was begun stays due.
    """
    summary = SyncSummary()
    people = client.for_people()
    clock = RunClock(now)
    # Before the bulk, what people asked for; after it, what had waited for an invoice to stand there.
    _operate(_Operations(engine, people, clock, summary, patience_s=0))
    run = _Syncs(engine, client, clock, summary, limit=limit, progress=progress, patience_s=patience_s)
    _sync(run, client, threads=threads)
    _operate(_Operations(engine, people, clock, summary, progress=progress, patience_s=patience_s))
    left = Counter(outbox.counts(engine)) + Counter(operations.counts(engine))
    summary.waiting = left["waiting"] + left["due"]
    summary.unknown = left["unknown"]
    summary.parked = left["parked"]
    return summary


def _sync(run: "_Syncs", client: Client, *, threads: int | None) -> None:
    workers: list[threading.Thread] = []
    while True:
        alive = [worker for worker in workers if worker.is_alive()]
        if workers and not alive:
            break
        for _ in range((threads or threads_wanted(client, now_running=len(alive))) - len(workers)):
            workers.append(threading.Thread(target=run.work, name=f"sync-{len(workers)}", daemon=True))
            workers[-1].start()
        if alive:
            alive[0].join(GROW_EVERY_S)
    if run.error is not None:
        raise run.error


def _operate(run: "_Operations") -> None:
    """Carry out what is due of what was asked about invoices that stand at Stripe, in this thread."""
    run.work()
    if run.error is not None:
        raise run.error


def threads_wanted(client: Client, *, now_running: int) -> int:
    """How many threads keep the limit busy: calls a second times seconds a call (Little's law), with some allowance.

    Grows by half at a time, and not while calls wait for their turn: then the limit is reached, by us or by others.
    """
    traffic = client.traffic
    if now_running < FEWEST_THREADS or traffic.calls < now_running or traffic.waited_s > traffic.took_s:
        return max(FEWEST_THREADS, now_running)
    wanted = math.ceil(client.paced_at.total * traffic.took_s * ALLOWANCE) + FEWEST_THREADS
    return max(now_running, min(wanted, MOST_THREADS, now_running + now_running // 2))


class _Run(ABC, Generic[Errand]):
    """One run over what is due, shared by its threads."""

    def __init__(
        self,
        engine: Engine,
        client: Client,
        clock: RunClock,
        summary: SyncSummary,
        *,
        limit: int | None = None,
        progress: Callable[[SyncSummary], None] | None = None,
        patience_s: float,
    ) -> None:
        self.summary = summary
        self.error: BaseException | None = None
        self._engine = engine
        self._clock = clock
        self._client = client
        self._left = limit
        self._progress = progress
        self._patience = timedelta(seconds=patience_s)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    @abstractmethod
    def claim_next(self) -> Errand | None:
        """What is due longest, claimed."""

    @abstractmethod
    def next_due_at(self) -> datetime | None:
        """When the next one is due, None if none is left."""

    @abstractmethod
    def carry(self, claimed: Errand) -> Errand:
        """Take one as far as it goes."""

    @abstractmethod
    def count(self, ended: Errand) -> None:
        """Count one that was taken as far as it goes."""

    def work(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._client.stripe_is_there():
                    if not self._wait_for_stripe():
                        return
                    continue
                if not self._may_begin():
                    return
                claimed = self.claim_next()
                if claimed is not None:
                    self._finish(claimed)
                elif not self._wait():
                    return
        except Exception as error:  # noqa: BLE001 - raised again in the thread that started the run
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self.error = self.error or error
        self._stop.set()

    def _may_begin(self) -> bool:
        with self._lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0

    def _finish(self, claimed: Errand) -> None:
        try:
            ended = self.carry(claimed)
        except LeaseLost:
            ended = None
        with self._lock:
            if ended is None:
                self.summary.already += 1
            else:
                self.count(ended)
            if self._progress:
                self._progress(self.summary)

    def _wait_for_stripe(self) -> bool:
        """Wait until it may be asked whether it is back; False if that is too long."""
        seconds = self._client.until_probe_s()
        if seconds is not None and seconds > self._patience.total_seconds():
            return False
        return not self._stop.wait(min(POLL_S, max(0.02, seconds or 0.0)))

    def _wait(self) -> bool:
        """Wait for the next attempt, if it is near; False if there is nothing to wait for."""
        with self._lock:
            if self._left is not None:
                self._left += 1
        due_at = self.next_due_at()
        if due_at is None or due_at > self._clock.now() + self._patience:
            return False
        return not self._stop.wait(min(POLL_S, max(0.02, (due_at - self._clock.now()).total_seconds())))


class _Syncs(_Run[StripeSync]):
    """Final invoices on their way to Stripe."""

    def claim_next(self) -> StripeSync | None:
        return outbox.claim_next(self._engine, now=self._clock.now())

    def next_due_at(self) -> datetime | None:
        return outbox.next_due_at(self._engine)

    def carry(self, claimed: StripeSync) -> StripeSync:
        return Syncer(self._engine, self._client, self._clock).run(claimed)

    def count(self, ended: StripeSync) -> None:
        if ended.state == "done":
            self.summary.synced += 1
        elif ended.state == "parked":
            self.summary.parked += 1
            self.summary.problems.append(f"invoice {ended.number}: {ended.last_error}")


class _Operations(_Run[StripeOperation]):
    """What was asked about invoices that stand at Stripe."""

    def claim_next(self) -> StripeOperation | None:
        return operations.claim_next(self._engine, now=self._clock.now())

    def next_due_at(self) -> datetime | None:
        return operations.next_due_at(self._engine)

    def carry(self, claimed: StripeOperation) -> StripeOperation:
        return Operator(self._engine, self._client, self._clock).run(claimed)

    def count(self, ended: StripeOperation) -> None:
        if ended.state == "done":
            self.summary.operations += 1
        elif ended.state == "refused":
            self.summary.refused += 1
        elif ended.state == "parked":
            self.summary.problems.append(f"{ended.kind} {ended.id}: {ended.last_error}")
