"""What every kind of operation consists of: how its request is made, sent, found again, judged, and booked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.movements.requests import movement_done, movement_refused
from stripe_gateway.client import Client, Json
from stripe_gateway.tables import StripeOperation

ACTOR = "stripe"


@dataclass(frozen=True, slots=True)
class Ended:
    """It stands at Stripe. `external_id` is what was made or changed there; `found` is Stripe's own object."""

    external_id: str | None
    status: str | None = None
    found: Json | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """It will never stand there: Stripe's no is final. `code` is stable, `reason` is for people."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Anew:
    """It was done, and is not enough: Stripe is read and asked again, under the next generation."""

    reason: str


Outcome = Ended | Denied


@dataclass(frozen=True, slots=True)
class Desk:
    """What an act may use while no transaction is open."""

    engine: Engine
    client: Client
    now: datetime


@dataclass(frozen=True, slots=True)
class Ready:
    """A request that may be sent. `target` is the id in its address, if it has one."""

    body: Json
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """One kind of operation.

    `prepare` reads what the request depends on; `send` is the one write; `find` reads what became of it, None if there
    is no trace; `judge` says what an answer, or what was found, means; `settle` tells the books, in the transaction
    that ends the operation. `makes` is whether each execution makes a thing of its own: only then is a second one
    harmful, and is anything new kept back for an hour while an older attempt may still turn up.
    """

    prefix: str
    verb: str
    makes: bool
    prepare: Callable[[Desk, StripeOperation], Ready | Ended | Denied]
    send: Callable[[Client, StripeOperation, Json, str], Json]
    find: Callable[[Client, StripeOperation, Json], Json | None]
    judge: Callable[[StripeOperation, Json], Ended | Denied | Anew]
    settle: Callable[[Session, StripeOperation, Outcome, datetime], None]

    def key(self, operation: StripeOperation) -> str:
        """The idempotency key of this generation. It names the order: a later order is a request of its own."""
        return f"{self.prefix}:{operation.id}:{self.verb}:g{operation.generation}"


def settle_movement(session: Session, operation: StripeOperation, outcome: Outcome, *, now: datetime) -> None:
    """Tell the movement behind this operation, if there is one, how it ended at Stripe. The caller commits."""
    if operation.movement_id is None:
        return
    if isinstance(outcome, Denied):
        movement_refused(
            session,
            customer_id=operation.customer_id,
            movement_id=operation.movement_id,
            code=outcome.code,
            reason=outcome.reason,
            now=now,
        )
    else:
        movement_done(
            session,
            customer_id=operation.customer_id,
            movement_id=operation.movement_id,
            external_id=outcome.external_id,
            at=now,
            actor=ACTOR,
            now=now,
        )
