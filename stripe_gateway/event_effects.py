"""What every handler of an event is given, and what it returns."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from stripe_gateway.client import Client, Json


def _nothing() -> None:
    """For whoever holds no lease."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use. `renew` keeps the event's lease while many things are asked of Stripe."""

    engine: Engine
    client: Client
    now: datetime
    renew: Callable[[], None] = field(default=_nothing)


@dataclass(frozen=True, slots=True)
class Handled:
    """How an event ended: `state` is done or ignored."""

    state: str = "done"
    customer_id: UUID | None = None
    note: str | None = None


Effect = Callable[[Session], Handled]
Handler = Callable[[Context, Json], Effect]


def ignored(note: str) -> Effect:
    """Keep the event, and do nothing about it."""
    return lambda session: Handled("ignored", note=note)  # noqa: ARG005 - nothing is written


def done(customer_id: UUID | None, note: str | None = None) -> Effect:
    """Everything is written already."""
    return lambda session: Handled(customer_id=customer_id, note=note)  # noqa: ARG005 - it is written already
