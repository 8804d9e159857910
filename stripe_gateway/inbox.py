"""Handling stored events: one at a time under a lease, tried again with back-off, parked when that does not help."""

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Engine, func, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from stripe_gateway import handlers, leases
from stripe_gateway.cash import EventRefused
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import RunClock
from stripe_gateway.errors import LeaseLost, NoAnswer, NotNow, ServerFailed, StripeAway, StripeClosed
from stripe_gateway.handlers import Context
from stripe_gateway.ownership import ForeignInvoice
from stripe_gateway.tables import StripeEvent

_LOG = structlog.get_logger(__name__)


class OtherMode(EventRefused):
    """The event is of test mode and our key of live mode, or the other way round: the endpoint is set up wrongly."""

    code = "other_mode"


class OtherAccount(EventRefused):
    """The event is about another account than ours: the endpoint listens to connected accounts, or is another's."""

    code = "other_account"


KEYS = ("id",)
TRIES = 5  # of an event that fails for a reason of its own; an outage of Stripe's or of the database is not one
THREADS = 4
FIRST_WAIT_S = 1.0


@dataclass(slots=True)
class InboxSummary:
    """What one run did, in events. `waiting`: tried, and due again later."""

    done: int = 0
    ignored: int = 0
    waiting: int = 0
    parked: int = 0
    problems: list[str] = field(default_factory=list)


def handle_event(engine: Engine, client: Client, *, event_id: str, now: datetime) -> str | None:
    """Handle one stored event, if it is due; returns its state then, None if there was nothing to do.

    Raises:
        StripeClosed: Stripe does not take our key.
    """
    claimed = _claim(engine, now=now, event_id=event_id)
    return None if claimed is None else _handle(engine, client, claimed, now=now)


def handle_due(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    limit: int | None = None,
    progress: Callable[[InboxSummary], None] | None = None,
    threads: int = THREADS,
) -> InboxSummary:
    """Handle every stored event that is due. Safe to run twice, at once, and to be killed.

    Raises:
        StripeClosed: Stripe does not take our key: the run stops, events stay due.
    """
    summary, lock, stop = InboxSummary(), threading.Lock(), threading.Event()
    errors: list[BaseException] = []
    clock = RunClock(now)
    left = [limit]

    def may_begin() -> bool:
        with lock:
            if left[0] is None:
                return True
            left[0] -= 1
            return left[0] >= 0

    def work() -> None:
        try:
            while not stop.is_set() and may_begin():
                claimed = _claim(engine, now=clock.now())
                if claimed is None:
                    return
                state = _handle(engine, client, claimed, now=clock.now())
                with lock:
                    _count(summary, claimed, state)
                    if progress:
                        progress(summary)
        except Exception as error:  # noqa: BLE001 - raised again in the thread that started the run
            errors.append(error)
            stop.set()

    workers = [threading.Thread(target=work, name=f"inbox-{number}", daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return summary


def _count(summary: InboxSummary, event: StripeEvent, state: str | None) -> None:
    if state == "done":
        summary.done += 1
    elif state == "ignored":
        summary.ignored += 1
    elif state == "parked":
        summary.parked += 1
        summary.problems.append(f"event {event.id} ({event.type}) is parked")
    else:
        summary.waiting += 1


def _claim(engine: Engine, *, now: datetime, event_id: str | None = None) -> StripeEvent | None:
    statement = leases.CLAIM_EVENT.bindparams(lease_s=leases.LEASE_S, now=now, id=event_id)
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return session.scalars(select(StripeEvent).from_statement(statement)).one_or_none()


def _handle(engine: Engine, client: Client, event: StripeEvent, *, now: datetime) -> str | None:
    try:
        context = Context(engine, client, now, lambda: _renew(engine, event))
        effect = handlers.prepare(context, ours(json.loads(event.payload), client))
        with Session(engine, expire_on_commit=False) as session, session.begin():
            handled = effect(session)
            values = {"state": handled.state, "handled_at": now, "customer_id": handled.customer_id}
            values |= {"code": None, "error": handled.note}
            leases.write(session, event, keys=KEYS, keep_lease=False, values=values)
    except LeaseLost:
        return None
    except StripeClosed as failure:
        _put_back(engine, event, failure, now=now, park=False)
        raise
    except (NotNow, NoAnswer, ServerFailed, OperationalError) as failure:
        return _put_back(engine, event, failure, now=now, park=False)
    except (EventRefused, ForeignInvoice) as refusal:
        return _put_back(engine, event, refusal, now=now, park=True)
    except Exception as error:  # noqa: BLE001 - one event's trouble must not keep the others waiting
        if event.attempts >= TRIES:
            _LOG.exception("event parked", event_id=event.id, type=event.type)
        return _put_back(engine, event, error, now=now, park=event.attempts >= TRIES)
    return handled.state


def ours(event: Json, client: Client) -> Json:
    """The event, once it is clear that it speaks of our account in our mode. It may name our own account or none.

    Raises:
        OtherMode, OtherAccount: it does not; the event is parked.
    """
    if event.get("livemode") is not client.livemode:
        raise OtherMode(
            f"The event has livemode {event.get('livemode')}, our key says {client.livemode}: the webhook endpoint "
            "belongs to another mode or account."
        )
    for named in (event.get("account"), event["data"]["object"].get("account")):
        foreign = isinstance(named, str) and named.startswith("acct_") and named != client.account_id
        if foreign and (client.account_id is not None or named == event.get("account")):
            known = client.account_id or "not set (STRIPE_ACCOUNT_ID)"
            raise OtherAccount(f"The event is about the account {named}, we bill on our own alone; ours is {known}.")
    return {**event, "account": None}


def rerun_kind(session: Session, *, code: str, kind: str, now: datetime) -> list[str]:
    """Make every parked event of this type with this reason due again; returns their ids. The caller commits."""
    statement = (
        update(StripeEvent)
        .where(
            StripeEvent.state == "parked",
            StripeEvent.type == kind,
            func.coalesce(StripeEvent.code, "unexpected") == code,
        )
        .values(state="pending", attempts=0, next_attempt_at=now)
        .returning(StripeEvent.id)
    )
    return sorted(session.scalars(statement))


def _renew(engine: Engine, event: StripeEvent) -> None:
    """Keep the lease while many things are asked of Stripe for one event.

    Raises:
        LeaseLost: another process went on with it.
    """
    with Session(engine, expire_on_commit=False) as session, session.begin():
        leases.write(session, event, keys=KEYS, keep_lease=True, values={})


def _put_back(engine: Engine, event: StripeEvent, error: Exception, *, now: datetime, park: bool) -> str | None:
    """Store why it failed; due again later, or parked for a person."""
    dice = random.random()  # noqa: S311 - spreads retries, guards nothing
    wait_s = leases.back_off_s(event.attempts, dice=dice, first_s=FIRST_WAIT_S)
    values: dict[str, Any] = {
        "state": "parked" if park else "pending",
        "next_attempt_at": now + timedelta(seconds=wait_s),
        "code": getattr(error, "code", None) or "unexpected",
        "error": str(error) or type(error).__name__,
    }
    if isinstance(error, StripeAway):
        values["attempts"] = max(0, event.attempts - 1)  # Stripe was not asked, so this was no attempt
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            leases.write(session, event, keys=KEYS, keep_lease=False, values=values)
    except LeaseLost:
        return None
    return str(values["state"])
