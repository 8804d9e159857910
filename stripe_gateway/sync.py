"""Sync: each final invoice is created at Stripe once, by three writes and no read.

create (a draft that Stripe leaves alone) -> add_lines -> our own check of what came out -> finalize. Before each first
attempt the request is frozen; after each answer the result is stored; between the two no database transaction is open.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from stripe_gateway import bodies, customers, outbox, recovery
from stripe_gateway.client import Client, Json
from stripe_gateway.errors import (
    CallFailed,
    GatewayError,
    KeyMisused,
    LeaseLost,
    NoAnswer,
    Refused,
    ServerFailed,
    StripeClosed,
)
from stripe_gateway.outbox import Freeze
from stripe_gateway.recovery import MAX_GENERATIONS, SAME_KEY_TRIES, Finding, StillUnsure
from stripe_gateway.tables import StripeRequest, StripeSync

_LOG = structlog.get_logger(__name__)

THREADS = 4
PATIENCE_S = 40.0  # a run waits so long for what is to be tried again soon, or was held by a process that died
POLL_S = 0.5
SURPRISES = 5  # attempts that may fail in an unforeseen way before a person is asked
CREATE, LINES, FINALIZE = "create", "lines", "finalize"


@dataclass(slots=True)
class SyncSummary:
    """What one run did, in invoices. `already`: another process finished or took over what this run had begun."""

    synced: int = 0
    already: int = 0
    waiting: int = 0
    parked: int = 0
    unknown: int = 0
    problems: list[str] = field(default_factory=list)


class RunClock:
    """The clock of one run: the `now` it was given, moving on by the monotonic clock."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._mono = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=time.monotonic() - self._mono)


class Syncer:
    """Takes one claimed invoice as far as it goes."""

    def __init__(self, engine: Engine, client: Client, clock: RunClock) -> None:
        self._engine = engine
        self._client = client
        self._clock = clock

    def run(self, sync: StripeSync) -> StripeSync:
        """Work on a claimed sync until it is done, parked, or must wait; returns its row as it is then.

        Raises:
            LeaseLost: another process went on with it.
            StripeClosed: Stripe does not take our key; the row was let go as it stood.
        """
        steps = {"customer": self._customer, CREATE: self._create, LINES: self._lines, FINALIZE: self._finalize}
        while sync.lease_until is not None and sync.state != "done":
            try:
                sync = steps[sync.step](sync)
            except CallFailed as failure:
                sync = self._note(sync, failure)
                if isinstance(failure, StripeClosed):
                    raise
            except (LeaseLost, SQLAlchemyError):
                raise
            except GatewayError as refusal:
                sync = self._park(sync, refusal.code, str(refusal))
            except Exception as error:  # noqa: BLE001 - one customer's surprise must not keep the others waiting
                sync = self._note_surprise(sync, error)
        return sync

    def _customer(self, sync: StripeSync) -> StripeSync:
        customer = customers.ensure(self._engine, self._client, customer_id=sync.customer_id, now=self._clock.now())
        assert customer.external_id is not None, "a done customer has an id"  # noqa: S101 - a constraint says so too
        body = bodies.create_body(
            sync.intent, customer=customer.external_id, payment_method=customer.default_payment_method
        )
        return self._advance(sync, CREATE, body=body)

    def _create(self, sync: StripeSync) -> StripeSync:
        request = self._request(sync, CREATE)
        if self._must_look(sync, request):
            return self._resolve_create(self._doubt(sync), None)
        try:
            answer = self._client.create_invoice(json.loads(request.body), key=request.idempotency_key)
        except Refused as refusal:
            return self._resolve_create(self._doubt(sync, unsure_at=None), refusal)
        return self._adopt(sync, LINES, answer)

    def _lines(self, sync: StripeSync) -> StripeSync:
        request = self._request(sync, LINES)
        if self._must_look(sync, request):
            return self._resolve_lines(self._doubt(sync), None)
        invoice = _id_of(sync)
        try:
            answer = self._client.add_lines(invoice, json.loads(request.body), key=request.idempotency_key)
        except Refused as refusal:
            return self._resolve_lines(self._doubt(sync, unsure_at=None), refusal)
        problems = recovery.draft_problems(sync, answer, customer=self._customer_of(sync))
        if problems:
            # Nothing was charged: a draft that we delete never will be. A person sets right what is wrong.
            self._client.delete_draft(invoice)
            return self._start_anew(sync, parked_for=" ".join(problems))
        return self._advance(sync, FINALIZE, body=bodies.part_of(sync.intent, FINALIZE))

    def _finalize(self, sync: StripeSync) -> StripeSync:
        request = self._request(sync, FINALIZE)
        if self._must_look(sync, request):
            return self._resolve_finalize(self._doubt(sync), None)
        try:
            answer = self._client.finalize_invoice(_id_of(sync), json.loads(request.body), key=request.idempotency_key)
        except Refused as refusal:
            return self._resolve_finalize(self._doubt(sync, unsure_at=None), refusal)
        finding = recovery.judge(sync, answer, customer=self._customer_of(sync))
        if finding.kind != "standing":
            return self._park(sync, "stripe_invoice_differs", finding.reason or f"It is {answer['status']}.")
        return self._finish(sync, answer)

    def _resolve_create(self, sync: StripeSync, refusal: Refused | None) -> StripeSync:
        finding = recovery.find(self._client, sync, customer=self._customer_of(sync))
        for draft in finding.drafts:
            self._client.delete_draft(draft)
        if finding.kind == "absent":
            if refusal is not None:
                return self._park(sync, refusal.stripe_code or refusal.code, str(refusal))
            recovery.refuse_while_unsure(sync.unsure_at, now=self._clock.now())
            return self._start_anew(sync)
        if finding.kind == "empty" and finding.invoice is not None and not finding.invoice["lines"]["data"]:
            return self._adopt(sync, LINES, finding.invoice)
        return self._resolve(sync, finding, refusal)

    def _resolve_lines(self, sync: StripeSync, refusal: Refused | None) -> StripeSync:
        return self._resolve(sync, recovery.look(self._client, sync, customer=self._customer_of(sync)), refusal)

    def _resolve_finalize(self, sync: StripeSync, refusal: Refused | None) -> StripeSync:
        finding = recovery.look(self._client, sync, customer=self._customer_of(sync))
        if finding.kind == "complete" and refusal is not None:
            return self._park(sync, refusal.stripe_code or refusal.code, str(refusal))
        return self._resolve(sync, finding, refusal)

    def _resolve(self, sync: StripeSync, finding: Finding, refusal: Refused | None) -> StripeSync:
        """Go on from what Stripe has. Nothing is sent twice: what is not complete is deleted and begun anew."""
        invoice = finding.invoice
        if finding.kind == "odd" or invoice is None:
            if finding.kind == "odd":
                return self._park(sync, "stripe_invoice_differs", finding.reason)
            return self._start_anew(sync)
        if finding.kind == "standing":
            return self._finish(sync, invoice)
        if finding.kind == "complete":
            # Finalizing twice is refused by Stripe, so a new key is safe here, and the old one may be worn out.
            return self._adopt(sync, FINALIZE, invoice, generation=sync.generation + 1)
        if refusal is not None:
            return self._park(sync, refusal.stripe_code or refusal.code, str(refusal))
        self._client.delete_draft(invoice["id"])
        return self._start_anew(sync)

    def _must_look(self, sync: StripeSync, request: StripeRequest) -> bool:
        return sync.state == "unknown" or not recovery.is_trusted(request, now=self._clock.now())

    def _request(self, sync: StripeSync, step: str) -> StripeRequest:
        request = outbox.request_of(
            self._engine,
            customer_id=sync.customer_id,
            subject_id=sync.invoice_id,
            step=step,
            generation=sync.generation,
        )
        assert request is not None, "a step is entered together with its request"  # noqa: S101 - one transaction
        return request

    def _customer_of(self, sync: StripeSync) -> str:
        customer = customers.load(self._engine, sync.customer_id)
        assert customer.external_id is not None, "later steps have a customer"  # noqa: S101 - ids are never taken away
        return customer.external_id

    def _advance(self, sync: StripeSync, step: str, *, body: Json, **values: Any) -> StripeSync:
        generation = values.get("generation", sync.generation)
        key = bodies.invoice_key(sync.invoice_id, step, generation)
        invoice = values.get("external_id")
        return outbox.advance(
            self._engine,
            sync,
            now=self._clock.now(),
            freeze=Freeze(step, bodies.frozen(body), key),
            objects=[("invoice", invoice)] if invoice else [],
            step=step,
            **values,
        )

    def _adopt(self, sync: StripeSync, step: str, invoice: Json, **values: Any) -> StripeSync:
        """Go on with this draft."""
        body = bodies.part_of(sync.intent, step)
        return self._advance(
            sync, step, body=body, external_id=invoice["id"], external_status=invoice["status"], **values
        )

    def _doubt(self, sync: StripeSync, **values: Any) -> StripeSync:
        """Remember that Stripe must be asked before anything is sent, so that a failure to ask changes nothing."""
        return outbox.keep(self._engine, sync, state="unknown", **values)

    def _start_anew(self, sync: StripeSync, *, parked_for: str | None = None) -> StripeSync:
        """Begin again with the next generation; the draft of this one is gone. Or let a person decide first."""
        anew: dict[str, Any] = {
            "step": "customer",
            "generation": sync.generation + 1,
            "external_id": None,
            "external_status": None,
        }
        if parked_for is None and sync.generation >= MAX_GENERATIONS:
            parked_for = f"It was started anew {MAX_GENERATIONS} times without success: {sync.last_error}"
        if parked_for is not None:
            return self._park(sync, "stripe_draft_differs", parked_for, **anew)
        return outbox.advance(self._engine, sync, now=self._clock.now(), **anew)

    def _park(self, sync: StripeSync, code: str, reason: str, **values: Any) -> StripeSync:
        _LOG.error("sync parked", invoice_id=str(sync.invoice_id), number=sync.number, code=code, reason=reason)
        return outbox.release(
            self._engine, sync, state="parked", unsure_at=None, last_code=code, last_error=reason, **values
        )

    def _finish(self, sync: StripeSync, invoice: Json) -> StripeSync:
        return outbox.finish(self._engine, sync, invoice, now=self._clock.now())

    def _note(self, sync: StripeSync, failure: CallFailed) -> StripeSync:
        """Store how an attempt failed, and let the row go."""
        now = self._clock.now()
        code = failure.stripe_code or failure.code
        if isinstance(failure, Refused | KeyMisused):
            return self._park(sync, code, str(failure))
        doubtful = sync.state == "unknown"
        values: dict[str, Any] = {
            "state": "unknown" if doubtful else "waiting",
            "next_attempt_at": outbox.retry_at(sync.attempts, now=now),
            "last_code": code,
            "last_error": str(failure),
        }
        if isinstance(failure, StillUnsure):
            values |= {"state": "unknown", "next_attempt_at": failure.until}
        elif isinstance(failure, NoAnswer | ServerFailed) and not doubtful:
            values["unsure_at"] = now
            if isinstance(failure, ServerFailed) and sync.attempts >= SAME_KEY_TRIES:
                values["state"] = "unknown"
        return outbox.release(self._engine, sync, **values)

    def _note_surprise(self, sync: StripeSync, error: Exception) -> StripeSync:
        """Something nobody foresaw, such as an answer of another shape: try again a few times, then park."""
        _LOG.exception("sync failed", invoice_id=str(sync.invoice_id), number=sync.number)
        reason = f"{type(error).__name__}: {error}"
        if sync.attempts >= SURPRISES:
            return self._park(sync, "unexpected", reason)
        retry_at = outbox.retry_at(sync.attempts, now=self._clock.now())
        return outbox.release(
            self._engine, sync, state="unknown", next_attempt_at=retry_at, last_code="unexpected", last_error=reason
        )


def _id_of(sync: StripeSync) -> str:
    assert sync.external_id is not None, "steps after create have an id"  # noqa: S101 - a constraint says so too
    return sync.external_id


def sync_one(engine: Engine, client: Client, *, customer_id: UUID, invoice_id: UUID, now: datetime) -> str | None:
    """Take one invoice as far as it goes, if it is due; returns its state then, None if there was nothing to do.

    Raises:
        StripeClosed: Stripe does not take our key.
    """
    sync = outbox.claim(engine, customer_id=customer_id, invoice_id=invoice_id, now=now)
    if sync is None:
        return None
    try:
        return Syncer(engine, client, RunClock(now)).run(sync).state
    except LeaseLost:
        return None


def sync_due(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    limit: int | None = None,
    progress: Callable[[SyncSummary], None] | None = None,
    threads: int = THREADS,
    patience_s: float = PATIENCE_S,
) -> SyncSummary:
    """Sync everything that is due, to its end, needing no worker. Safe to run twice, at once, and to be killed.

    What must be tried again is waited for while the next attempt is less than `patience_s` away; the rest is counted
    as waiting or unknown and found by the next run. `limit` is the most invoices to begin.

    Raises:
        StripeClosed: Stripe does not take our key: the run stops, what was begun stays due.
    """
    run = _Run(engine, client, now=now, limit=limit, progress=progress, patience_s=patience_s)
    workers = [threading.Thread(target=run.work, name=f"sync-{number}", daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if run.error is not None:
        raise run.error
    left = outbox.counts(engine)
    run.summary.waiting = left.get("waiting", 0) + left.get("due", 0)
    run.summary.unknown = left.get("unknown", 0)
    run.summary.parked = left.get("parked", 0)
    return run.summary


class _Run:
    """One run over what is due, shared by its threads."""

    def __init__(
        self,
        engine: Engine,
        client: Client,
        *,
        now: datetime,
        limit: int | None,
        progress: Callable[[SyncSummary], None] | None,
        patience_s: float,
    ) -> None:
        self.summary = SyncSummary()
        self.error: BaseException | None = None
        self._engine = engine
        self._clock = RunClock(now)
        self._syncer = Syncer(engine, client, self._clock)
        self._left = limit
        self._progress = progress
        self._patience = timedelta(seconds=patience_s)
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def work(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._may_begin():
                    return
                claimed = outbox.claim_next(self._engine, now=self._clock.now())
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

    def _finish(self, claimed: StripeSync) -> None:
        try:
            ended = self._syncer.run(claimed)
        except LeaseLost:
            ended = None
        with self._lock:
            if ended is None:
                self.summary.already += 1
            elif ended.state == "done":
                self.summary.synced += 1
            elif ended.state == "parked":
                self.summary.parked += 1
                self.summary.problems.append(f"invoice {ended.number}: {ended.last_error}")
            if self._progress:
                self._progress(self.summary)

    def _wait(self) -> bool:
        """Wait for the next attempt, if it is near; False if there is nothing to wait for."""
        with self._lock:
            if self._left is not None:
                self._left += 1
        due_at = outbox.next_due_at(self._engine)
        if due_at is None or due_at > self._clock.now() + self._patience:
            return False
        return not self._stop.wait(min(POLL_S, max(0.02, (due_at - self._clock.now()).total_seconds())))
