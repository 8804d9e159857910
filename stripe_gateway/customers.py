"""One customer at Stripe per customer of ours, ever, however many processes need it first."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing.customers import get_customer
from stripe_gateway import bodies, leases, outbox
from stripe_gateway.client import Client, Json
from stripe_gateway.errors import CallFailed, KeyMisused, NoAnswer, NotNow, Refused, ServerFailed, StripeAway
from stripe_gateway.outbox import Freeze
from stripe_gateway.recovery import (
    LISTED_BEFORE,
    SAME_KEY_TRIES,
    StillUnsure,
    is_trusted,
    refuse_while_unsure,
)
from stripe_gateway.tables import StripeCustomer, StripeRequest

KEYS = ("customer_id",)
FACTS_TRIES = 5


class CustomerBusy(NotNow):
    """Another process is making this customer at Stripe, or waits to try again. Try again shortly."""

    code = "stripe_customer_busy"


class CustomerParked(Refused):
    """This customer could not be made at Stripe. Look at the reason, correct it, and retry the invoice."""

    code = "stripe_customer_parked"


def enlist(session: Session, *, customer_id: UUID, now: datetime) -> None:
    """Write the intent to have a counterpart at Stripe, if there is none. The caller commits.

    Raises:
        CustomerNotFound: there is no such customer.
    """
    customer = get_customer(session, customer_id=customer_id)
    outbox.enlist(
        session,
        customer_id=customer_id,
        external_id=customer.external_id,
        name=customer.name,
        email=customer.email,
        now=now,
    )


def ensure(engine: Engine, client: Client, *, customer_id: UUID, now: datetime) -> StripeCustomer:
    """The customer's counterpart at Stripe, made now if it never was; its intent must be written.

    Raises:
        CustomerBusy: somebody else is at it.
        CustomerParked: Stripe refused it for good.
        CallFailed: of any class; the customer's row remembers it.
    """
    found = load(engine, customer_id)
    if found.state == "done":
        return found
    if found.state == "parked":
        raise CustomerParked(f"Stripe refused this customer: {found.last_error} Correct it and retry the invoice.")
    claimed = _claim(engine, customer_id=customer_id, now=now)
    if claimed is None:
        again = load(engine, customer_id)
        if again.state == "done":
            return again
        raise CustomerBusy("This customer is being made at Stripe, or waits for its next attempt.")
    try:
        return _make(engine, client, claimed, now=now)
    except CallFailed as failure:
        _note(engine, claimed, failure, now=now)
        raise


def load(engine: Engine, customer_id: UUID) -> StripeCustomer:
    """The customer's row; there is one from the first order on."""
    with Session(engine, expire_on_commit=False) as session:
        return session.scalars(select(StripeCustomer).where(StripeCustomer.customer_id == customer_id)).one()


def _claim(engine: Engine, *, customer_id: UUID, now: datetime) -> StripeCustomer | None:
    """Claim the row and freeze its request, in one transaction."""
    statement = leases.CLAIM_CUSTOMER.bindparams(lease_s=leases.LEASE_S, now=now, customer_id=customer_id)
    with Session(engine, expire_on_commit=False) as session, session.begin():
        claimed = session.scalars(select(StripeCustomer).from_statement(statement)).one_or_none()
        if claimed is not None:
            _freeze(session, claimed, now=now)
        return claimed


def _freeze(session: Session, customer: StripeCustomer, *, now: datetime) -> None:
    key = bodies.customer_key(customer.customer_id, customer.generation)
    freeze = Freeze("customer", customer.intent, key)
    outbox.write_request(
        session, customer.customer_id, customer.customer_id, generation=customer.generation, freeze=freeze, now=now
    )


def _make(engine: Engine, client: Client, claimed: StripeCustomer, *, now: datetime) -> StripeCustomer:
    request = _request(engine, claimed)
    if claimed.state == "unknown" or not is_trusted(request, now=now):
        claimed = _doubt(engine, claimed)
        found = _find(client, claimed)
        if found is not None:
            return _done(engine, claimed, found, now=now)
        refuse_while_unsure(claimed.unsure_at, now=now)
        claimed = _next_generation(engine, claimed, now=now)
        request = _request(engine, claimed)
    elif claimed.unsure_at is not None:
        # A 5xx is kept under its key, says Stripe; were one not, repeating it would make a second customer.
        found = _find(client, claimed)
        if found is not None:
            return _done(engine, claimed, found, now=now)
        claimed = _keep(engine, claimed)
    answer = client.create_customer(json.loads(request.body), key=request.idempotency_key)
    return _done(engine, claimed, answer, now=now)


def _request(engine: Engine, customer: StripeCustomer) -> StripeRequest:
    request = outbox.request_of(
        engine,
        customer_id=customer.customer_id,
        subject_id=customer.customer_id,
        step="customer",
        generation=customer.generation,
    )
    assert request is not None, "a claim freezes the request"  # noqa: S101 - the same transaction wrote it
    return request


def _doubt(engine: Engine, customer: StripeCustomer) -> StripeCustomer:
    """Remember that Stripe must be asked before anything is sent, so that a failure to ask changes nothing."""
    return _keep(engine, customer, state="unknown")


def _keep(engine: Engine, customer: StripeCustomer, **values: Any) -> StripeCustomer:
    """Store something on the way, and renew the lease."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return leases.write(session, customer, keys=KEYS, keep_lease=True, values=values)


def _find(client: Client, customer: StripeCustomer) -> Json | None:
    """Our customer at Stripe, found by our id in its metadata: lists tell the truth at once, search does not."""
    since = int((customer.created_at - LISTED_BEFORE).timestamp())
    email = json.loads(customer.intent).get("email")
    wanted = str(customer.customer_id)
    found = [
        candidate
        for candidate in client.list_customers(created_from=since, email=email)
        if (candidate.get("metadata") or {}).get("ledger_customer_id") == wanted
    ]
    # Of two the older one stands: the other can have no invoices, since we never told anybody of it.
    return min(found, key=lambda candidate: (candidate["created"], candidate["id"]), default=None)


def _next_generation(engine: Engine, customer: StripeCustomer, *, now: datetime) -> StripeCustomer:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        facts = get_customer(session, customer_id=customer.customer_id)
        body = bodies.customer_body(
            customer_id=customer.customer_id, external_id=facts.external_id, name=facts.name, email=facts.email
        )
        values = {"generation": customer.generation + 1, "intent": bodies.frozen(body), "state": "due"}
        written = leases.write(session, customer, keys=KEYS, keep_lease=True, values=values)
        _freeze(session, written, now=now)
        return written


def _done(engine: Engine, customer: StripeCustomer, answer: Json, *, now: datetime) -> StripeCustomer:
    settings = answer.get("invoice_settings") or {}
    values: dict[str, Any] = {
        "state": "done",
        "external_id": answer["id"],
        "done_at": now,
        "attempts": 0,
        "unsure_at": None,
        "last_code": None,
        "last_error": None,
    }
    if customer.default_payment_method is None:
        values["default_payment_method"] = settings.get("default_payment_method")
    with Session(engine, expire_on_commit=False) as session, session.begin():
        written = leases.write(session, customer, keys=KEYS, keep_lease=False, values=values)
        outbox.own(session, answer["id"], kind="customer", customer_id=customer.customer_id, invoice_id=None, now=now)
        return written


def _note(engine: Engine, claimed: StripeCustomer, failure: CallFailed, *, now: datetime) -> None:
    """Store how the attempt failed."""
    values: dict[str, Any] = {"last_code": failure.stripe_code or failure.code, "last_error": str(failure)}
    with Session(engine, expire_on_commit=False) as session, session.begin():
        customer = session.get_one(StripeCustomer, claimed.customer_id)  # the attempt may have begun a new generation
        values["next_attempt_at"] = outbox.retry_at(claimed.attempts, now=now)
        if isinstance(failure, StripeAway):
            values = {"attempts": max(0, claimed.attempts - 1)}  # nothing was sent: its turn comes when Stripe is back
        elif isinstance(failure, Refused | KeyMisused):
            values |= {"state": "parked", "unsure_at": None}
        elif isinstance(failure, StillUnsure):
            values["state"] = "unknown"
            values["next_attempt_at"] = failure.until
        elif isinstance(failure, NoAnswer | ServerFailed) and customer.state != "unknown":
            stored = isinstance(failure, ServerFailed) and claimed.attempts >= SAME_KEY_TRIES
            values |= {"state": "unknown" if stored else "waiting", "unsure_at": now}
        elif customer.state != "unknown":
            values["state"] = "waiting"
        session.expunge(customer)
        leases.write(session, claimed, keys=KEYS, keep_lease=False, values=values)


def unpark(session: Session, *, customer_id: UUID, now: datetime) -> None:
    """Let a refused customer be tried again: Stripe is asked first, then it is sent anew with today's name and e-mail.

    The caller commits.
    """
    row = session.get(StripeCustomer, customer_id, with_for_update=True)
    if row is not None and row.state == "parked":
        row.state = "unknown"
        row.attempts = 0
        row.next_attempt_at = now


def set_facts(session: Session, *, customer_id: UUID, version: int, facts: Json, now: datetime) -> bool:
    """Store what Stripe says about a customer, unless something newer was stored since `version` was read.

    `facts` is Stripe's customer, freshly retrieved. The caller commits. Returns whether it was stored.
    """
    row = session.get(StripeCustomer, customer_id, with_for_update=True, populate_existing=True)
    if row is None or row.facts_version != version:
        return False
    settings = facts.get("invoice_settings") or {}
    row.default_payment_method = settings.get("default_payment_method")
    row.facts_version = version + 1
    if facts.get("deleted") and row.deleted_at is None:
        row.deleted_at = now
    return True


def refresh(engine: Engine, client: Client, *, customer_id: UUID, now: datetime) -> None:
    """Read the customer at Stripe and store what we use of it. Of several at once, the one that read last wins.

    Raises:
        CallFailed: Stripe could not be asked.
        CustomerBusy: others kept storing something newer; try again.
    """
    for _ in range(FACTS_TRIES):
        known = load(engine, customer_id)
        if known.external_id is None:
            return
        facts = client.retrieve_customer(known.external_id)
        with Session(engine) as session, session.begin():
            if set_facts(session, customer_id=customer_id, version=known.facts_version, facts=facts, now=now):
                return
    raise CustomerBusy("This customer keeps changing at Stripe. Try again shortly.")
