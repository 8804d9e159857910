"""Sync: each final invoice is created at Stripe once, by three writes and no read.

create (a draft that Stripe leaves alone) -> add_lines -> our own check of what came out -> finalize. Before each first
attempt the request is frozen; after each answer the result is stored; between the two no database transaction is open.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from stripe_gateway import bodies, customers, outbox, recovery
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import RunClock
from stripe_gateway.errands import Runner
from stripe_gateway.errors import LeaseLost, Refused
from stripe_gateway.outbox import Freeze
from stripe_gateway.recovery import BEGUN_TOO_OFTEN, MAX_GENERATIONS, Finding
from stripe_gateway.tables import StripeSync

CREATE, LINES, FINALIZE = "create", "lines", "finalize"


class Syncer(Runner[StripeSync]):
    """Takes one claimed invoice as far as it goes."""

    name = "sync"

    @property
    def steps(self) -> Mapping[str, Callable[[StripeSync], StripeSync]]:
        return {"customer": self._customer, CREATE: self._create, LINES: self._lines, FINALIZE: self._finalize}

    def subject(self, errand: StripeSync) -> UUID:
        return errand.invoice_id

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
        if sync.unsure_at is not None:
            # A 5xx is kept under its key, says Stripe; were one not, repeating it would make a second draft.
            finding = recovery.find(self._client, sync, customer=self._customer_of(sync))
            if finding.kind != "absent":
                return self._take_created(self._doubt(sync), finding, None)
            sync = outbox.keep(self._engine, sync)
        try:
            answer = self._client.create_invoice(json.loads(request.body), key=request.idempotency_key)
        except Refused as refusal:
            return self._resolve_create(self._doubt(sync, unsure_at=None), refusal)
        return self._adopt(sync, LINES, answer)

    def _lines(self, sync: StripeSync) -> StripeSync:
        request = self._request(sync, LINES)
        if self._must_look(sync, request):
            return self._resolve_lines(self._doubt(sync), None)
        if sync.unsure_at is not None:
            # A repetition appends the lines once more wherever Stripe did not keep the key: so read before it.
            finding = recovery.look(self._client, sync, customer=self._customer_of(sync))
            if not finding.is_bare:
                return self._take_lines(self._doubt(sync), finding, None)
            sync = outbox.keep(self._engine, sync)
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
        return self._take_created(sync, finding, refusal)

    def _take_created(self, sync: StripeSync, finding: Finding, refusal: Refused | None) -> StripeSync:
        for draft in finding.drafts:
            self._client.delete_draft(draft)
        if finding.kind == "absent":
            if refusal is not None:
                return self._park(sync, refusal.stripe_code or refusal.code, str(refusal))
            recovery.refuse_while_unsure(sync.unsure_at, now=self._clock.now())
            return self._start_anew(sync)
        if finding.is_bare and finding.invoice is not None:
            return self._adopt(sync, LINES, finding.invoice)
        return self._resolve(sync, finding, refusal)

    def _resolve_lines(self, sync: StripeSync, refusal: Refused | None) -> StripeSync:
        return self._take_lines(sync, recovery.look(self._client, sync, customer=self._customer_of(sync)), refusal)

    def _take_lines(self, sync: StripeSync, finding: Finding, refusal: Refused | None) -> StripeSync:
        if finding.kind == "complete" and finding.invoice is not None:
            # Nothing was finalized yet, so the next key of this generation is new.
            return self._adopt(sync, FINALIZE, finding.invoice)
        return self._resolve(sync, finding, refusal)

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

    def _start_anew(self, sync: StripeSync, *, parked_for: str | None = None) -> StripeSync:
        """Begin again with the next generation; the draft of this one is gone. Or let a person decide first."""
        anew: dict[str, Any] = {
            "step": "customer",
            "generation": sync.generation + 1,
            "external_id": None,
            "external_status": None,
        }
        if parked_for is not None:
            return self._park(sync, "stripe_draft_differs", parked_for, **anew)
        if sync.generation >= MAX_GENERATIONS:
            return self._park(sync, "stripe_not_settled", BEGUN_TOO_OFTEN, **anew)
        return outbox.advance(self._engine, sync, now=self._clock.now(), **anew)

    def _finish(self, sync: StripeSync, invoice: Json) -> StripeSync:
        return outbox.finish(self._engine, sync, invoice, now=self._clock.now())


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
