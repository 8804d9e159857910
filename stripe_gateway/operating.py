"""Operations: one write each, asked of Stripe on record, and ended together with what the books say of it.

prepare (Stripe is read where the request depends on it; then the request is frozen) -> send. What became of a request
whose answer was lost is read before anything is sent again. Stripe's final no ends an operation just as its yes does.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from stripe_gateway import (
    credit_notes,
    customer_balances,
    disputes,
    invoice_ends,
    operations,
    outbox,
    part_payments,
    recovery,
    refunds,
)
from stripe_gateway.acts import Act, Anew, Denied, Desk, Outcome, Ready
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import RunClock
from stripe_gateway.errands import Runner
from stripe_gateway.errors import LeaseLost, Refused
from stripe_gateway.recovery import BEGUN_TOO_OFTEN, MAX_GENERATIONS
from stripe_gateway.tables import StripeOperation

ACTS: dict[str, Act] = {
    "void": invoice_ends.VOID,
    "uncollectible": invoice_ends.UNCOLLECTIBLE,
    "pay_outside": invoice_ends.PAY_OUTSIDE,
    "pay_part": part_payments.ACT,
    "refund": refunds.ACT,
    "credit_note": credit_notes.ACT,
    "balance": customer_balances.ACT,
    "close_dispute": disputes.ACT,
}
"""Every kind of operation."""


class Operator(Runner[StripeOperation]):
    """Takes one claimed operation as far as it goes."""

    name = "operation"

    @property
    def steps(self) -> Mapping[str, Callable[[StripeOperation], StripeOperation]]:
        return {"prepare": self._prepare, "send": self._send}

    def subject(self, errand: StripeOperation) -> UUID:
        return errand.id

    def _prepare(self, operation: StripeOperation) -> StripeOperation:
        act = ACTS[operation.kind]
        made = act.prepare(Desk(self._engine, self._client, self._clock.now()), operation)
        if isinstance(made, Ready):
            return operations.freeze(self._engine, operation, made, key=act.key(operation), now=self._clock.now())
        return self._end(operation, made)

    def _send(self, operation: StripeOperation) -> StripeOperation:
        act = ACTS[operation.kind]
        request = self._request(operation, operation.kind)
        body: Json = json.loads(request.body)
        if self._must_look(operation, request):
            return self._resolve(self._doubt(operation), act, body, None)
        if act.makes and operation.unsure_at is not None:
            # A 5xx is kept under its key, says Stripe; were one not, repeating it would do it twice.
            found = act.find(self._client, operation, body)
            if found is not None:
                return self._take(operation, act, found)
            operation = outbox.keep(self._engine, operation)
        try:
            answer = act.send(self._client, operation, body, request.idempotency_key)
        except Refused as refusal:
            return self._resolve(self._doubt(operation, unsure_at=None), act, body, refusal)
        return self._take(operation, act, answer)

    def _resolve(self, operation: StripeOperation, act: Act, body: Json, refusal: Refused | None) -> StripeOperation:
        """Go on from what Stripe has of it."""
        found = act.find(self._client, operation, body)
        if found is not None:
            return self._take(operation, act, found)
        if refusal is not None:
            # What the request was made from may have changed since it was frozen: then the no was not to this.
            made = act.prepare(Desk(self._engine, self._client, self._clock.now()), operation)
            if isinstance(made, Ready) and made.body != body:
                return self._start_anew(operation, reason=str(refusal))
            return self._end(operation, Denied(refusal.stripe_code or refusal.code, str(refusal)))
        if act.makes:
            recovery.refuse_while_unsure(operation.unsure_at, now=self._clock.now())
        return self._start_anew(operation)

    def _take(self, operation: StripeOperation, act: Act, found: Json) -> StripeOperation:
        outcome = act.judge(operation, found)
        return (
            self._start_anew(operation, reason=outcome.reason)
            if isinstance(outcome, Anew)
            else self._end(operation, outcome)
        )

    def _end(self, operation: StripeOperation, outcome: Outcome) -> StripeOperation:
        return operations.end(self._engine, operation, ACTS[operation.kind], outcome, now=self._clock.now())

    def _start_anew(self, operation: StripeOperation, *, reason: str = "") -> StripeOperation:
        """Begin again with the next generation; or let a person decide first."""
        anew: dict[str, Any] = {"step": "prepare", "generation": operation.generation + 1}
        if operation.generation >= MAX_GENERATIONS:
            return self._park(operation, "stripe_not_settled", f"{reason} {BEGUN_TOO_OFTEN}".strip(), **anew)
        return outbox.keep(
            self._engine, operation, state="due", unsure_at=None, last_code=None, last_error=None, **anew
        )


def operate_one(engine: Engine, client: Client, *, customer_id: UUID, operation_id: UUID, now: datetime) -> str | None:
    """Take one operation as far as it goes, if it is due; returns its state then, None if there was nothing to do.

    Raises:
        StripeClosed: Stripe does not take our key.
    """
    operation = operations.claim(engine, customer_id=customer_id, operation_id=operation_id, now=now)
    if operation is None:
        return None
    try:
        return Operator(engine, client, RunClock(now)).run(operation).state
    except LeaseLost:
        return None
