"""Sync: each final invoice is created at Stripe once, by three writes and no read.

create (a draft that Stripe leaves alone) -> add_lines -> our own check of what came out -> finalize. Before each first
attempt the request is frozen; after each answer the result is stored; between the two no database transaction is open.
"""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from stripe_gateway import bodies, customers, outbox, recovery
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import RunClock
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

SURPRISES = 5  # attempts that may fail in an unforeseen way before a person is asked
CREATE, LINES, FINALIZE = "create", "lines", "finalize"


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
        # The step itself may have begun to doubt before it failed: what is stored counts.
        doubtful = outbox.load(self._engine, sync.customer_id, sync.invoice_id).state == "unknown"
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
