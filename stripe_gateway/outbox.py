"""The outbox: what is to be collected, how far each invoice is, and the requests frozen on the way.

Every function here is a short transaction and makes no call to Stripe.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.provider import CollectionOrder
from stripe_gateway import bodies, leases
from stripe_gateway.client import Json
from stripe_gateway.errors import GatewayError, NotYet
from stripe_gateway.recovery import final_problems
from stripe_gateway.tables import StripeCustomer, StripeObject, StripeOperation, StripeRequest, StripeSync

KEYS = leases.KEYS[StripeSync]
UNFINISHED = ("due", "waiting", "unknown")

Errand = TypeVar("Errand", StripeSync, StripeOperation)


class ObjectIsAnothers(GatewayError):
    """This object of Stripe's was recorded for another customer or invoice before. Nothing was written."""

    code = "stripe_object_of_another"


class InvoiceDiffers(GatewayError):
    """The invoice at Stripe is not what we asked for. A person must compare the two."""

    code = "stripe_invoice_differs"


@dataclass(frozen=True, slots=True)
class Freeze:
    """A request to be written down before it is first sent."""

    step: str
    body: str
    key: str


def submit(session: Session, order: CollectionOrder, *, now: datetime) -> None:
    """Write the intent to collect, frozen. A second call for the invoice changes nothing. The caller commits.

    Raises:
        OrderDoesNotAddUp, AmountNotExpressible: nothing is written.
    """
    intent = bodies.intent_of(order)
    enlist(
        session,
        customer_id=order.customer_id,
        external_id=order.customer_external_id,
        name=order.customer_name,
        email=order.customer_email,
        now=now,
    )
    session.execute(
        insert(StripeSync)
        .values(
            customer_id=order.customer_id,
            invoice_id=order.invoice_id,
            number=order.number,
            currency=order.currency,
            amount_due_minor=intent.amount_due_minor,
            intent=intent.text,
            lines_sha=intent.lines_sha,
            next_attempt_at=now,
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=KEYS)
    )


def enlist(
    session: Session, *, customer_id: UUID, external_id: str, name: str, email: str | None, now: datetime
) -> None:
    """Write the intent to have a counterpart at Stripe; one that is there already stays. The caller commits."""
    body = bodies.customer_body(customer_id=customer_id, external_id=external_id, name=name, email=email)
    session.execute(
        insert(StripeCustomer)
        .values(customer_id=customer_id, intent=bodies.frozen(body), next_attempt_at=now, created_at=now)
        .on_conflict_do_nothing()
    )


def claim_next(engine: Engine, *, now: datetime) -> StripeSync | None:
    """Claim the sync that is due longest; None if none is."""
    return _claim(engine, leases.CLAIM_SYNC, now=now)


def claim(engine: Engine, *, customer_id: UUID, invoice_id: UUID, now: datetime) -> StripeSync | None:
    """Claim one invoice's sync; None if it is not due, or in work elsewhere."""
    return _claim(engine, leases.CLAIM_ONE_SYNC, now=now, customer_id=customer_id, invoice_id=invoice_id)


def claim_to_cancel(engine: Engine, *, customer_id: UUID, invoice_id: UUID, now: datetime) -> StripeSync | None:
    """Claim a sync that is not done, parked or not, to take its invoice back; None if it is in work or has ended."""
    return _claim(engine, leases.CLAIM_SYNC_TO_CANCEL, now=now, customer_id=customer_id, invoice_id=invoice_id)


def _claim(engine: Engine, statement: Any, **values: Any) -> StripeSync | None:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        query = select(StripeSync).from_statement(statement.bindparams(lease_s=leases.LEASE_S, **values))
        return session.scalars(query).one_or_none()


def advance(
    engine: Engine,
    sync: StripeSync,
    *,
    now: datetime,
    freeze: Freeze | None = None,
    objects: Sequence[tuple[str, str]] = (),
    **values: Any,
) -> StripeSync:
    """Store a step's result and go on: keeps the lease, forgets earlier troubles, freezes the next request.

    `objects` are `(kind, external id)` that belong to this invoice from now on.

    Raises:
        LeaseLost: another process went on with it.
        ObjectIsAnothers: an object was recorded elsewhere.
    """
    calm = {"state": "due", "attempts": 1, "unsure_at": None, "last_code": None, "last_error": None}
    with Session(engine, expire_on_commit=False) as session, session.begin():
        written = leases.write(session, sync, keys=KEYS, keep_lease=True, values=calm | values)
        for kind, external_id in objects:
            own(session, external_id, kind=kind, customer_id=sync.customer_id, invoice_id=sync.invoice_id, now=now)
        if freeze is not None:
            write_request(
                session, sync.customer_id, sync.invoice_id, generation=written.generation, freeze=freeze, now=now
            )
        return written


def release(engine: Engine, errand: Errand, **values: Any) -> Errand:
    """Store how an attempt ended, and let the row go.

    Raises:
        LeaseLost: another process went on with it.
    """
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return leases.write(session, errand, keys=leases.KEYS[type(errand)], keep_lease=False, values=values)


def keep(engine: Engine, errand: Errand, **values: Any) -> Errand:
    """Store something on the way, and keep the lease.

    Raises:
        LeaseLost: another process went on with it.
    """
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return leases.write(session, errand, keys=leases.KEYS[type(errand)], keep_lease=True, values=values)


def again(engine: Engine, errand: Errand) -> Errand:
    """The row as it is stored now, whoever wrote it."""
    table = type(errand)
    with Session(engine, expire_on_commit=False) as session:
        return session.get_one(table, tuple(getattr(errand, key) for key in leases.KEYS[table]))


def finish(engine: Engine, sync: StripeSync, invoice: Json, *, now: datetime) -> StripeSync:
    """Store that the invoice stands at Stripe.

    Raises:
        LeaseLost: another process went on with it; a webhook may have been faster.
        ObjectIsAnothers: Stripe's invoice was recorded for another one of ours.
    """
    with Session(engine, expire_on_commit=False) as session, session.begin():
        own(
            session,
            invoice["id"],
            kind="invoice",
            customer_id=sync.customer_id,
            invoice_id=sync.invoice_id,
            now=now,
        )
        wake(session, customer_id=sync.customer_id, invoice_id=sync.invoice_id, now=now)
        return leases.write(session, sync, keys=KEYS, keep_lease=False, values=standing_values(sync, invoice, now=now))


def wake(session: Session, *, customer_id: UUID, invoice_id: UUID | None, now: datetime) -> None:
    """Make what waited for something of this invoice due now. The caller commits."""
    session.execute(
        update(StripeOperation)
        .where(
            StripeOperation.customer_id == customer_id,
            StripeOperation.invoice_id == invoice_id,
            StripeOperation.state == "waiting",
            StripeOperation.last_code == NotYet.code,
        )
        .values(next_attempt_at=func.least(StripeOperation.next_attempt_at, now))
    )


def confirm(session: Session, customer_id: UUID, invoice_id: UUID, invoice: Json, *, now: datetime) -> None:
    """Store what an event or a list says about a finalized invoice of ours. The caller commits.

    A sync that is still waiting for its answer is done by this: its worker loses the lease and stops. A status that
    is known already, or older than the one known, changes nothing.

    Raises:
        InvoiceDiffers: it is not what we asked for, so that confirming it would hide a fault.
    """
    sync = session.get_one(StripeSync, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
    own(session, invoice["id"], kind="invoice", customer_id=customer_id, invoice_id=invoice_id, now=now)
    if sync.state == "done":
        _note_status(sync, invoice)
        return
    if sync.state == "canceled":
        if invoice["status"] == "void":
            return
        raise InvoiceDiffers(
            f"Invoice {sync.number} was voided here, and {invoice['id']} stands at Stripe. Void it there."
        )
    if invoice["status"] == "void":
        raise InvoiceDiffers(f"{invoice['id']} was voided at Stripe before its sync was done.")
    problems = final_problems(sync, invoice, customer=invoice["customer"])
    if problems or sync.external_id not in (None, invoice["id"]):
        raise InvoiceDiffers(f"{invoice['id']} is not what was asked for. {' '.join(problems)}".strip())
    for name, value in standing_values(sync, invoice, now=now).items():
        setattr(sync, name, value)
    sync.fence += 1
    sync.lease_until = None
    wake(session, customer_id=customer_id, invoice_id=invoice_id, now=now)


def note_status(session: Session, customer_id: UUID, invoice_id: UUID, invoice: Json) -> None:
    """Store the status that an operation of ours gave the invoice. The caller commits."""
    sync = session.get(StripeSync, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
    if sync is None or sync.state != "done":
        return
    _note_status(sync, invoice)
    if sync.last_code == f"stripe_{sync.external_status}":
        sync.last_code = sync.last_error = None


def _note_status(sync: StripeSync, invoice: Json) -> None:
    """Statuses only go forward: an event that is late says nothing new."""
    status = invoice["status"]
    if sync.external_id != invoice["id"] or _RANK.get(status, 0) <= _RANK.get(sync.external_status or "", 0):
        return
    sync.external_status = status
    if status in ("void", "uncollectible"):
        sync.last_code = f"stripe_{status}"
        sync.last_error = f"At Stripe this invoice is {status}: nothing more is collected there. Do the same here."


_RANK = {"draft": 1, "open": 2, "uncollectible": 3, "paid": 4, "void": 4}


def set_aside(
    session: Session, customer_id: UUID, invoice_id: UUID, external_id: str, *, code: str, reason: str
) -> bool:
    """Park a sync that stands on this draft, since Stripe will not go on with it; False if it does not (any more).

    Whoever works on it loses the lease. The caller commits.
    """
    sync = session.get_one(StripeSync, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
    if sync.state not in UNFINISHED or sync.external_id not in (None, external_id):
        return False
    sync.state, sync.last_code, sync.last_error = "parked", code, reason
    sync.fence += 1
    sync.lease_until = None
    return True


def doubt_draft(session: Session, customer_id: UUID, invoice_id: UUID, external_id: str, *, now: datetime) -> None:
    """Let a sync that stands on this draft ask Stripe before it goes on: the draft is gone. The caller commits."""
    sync = session.get_one(StripeSync, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
    # One that is in work finds out by itself; it may be the one that deleted the draft.
    if sync.state in UNFINISHED and sync.external_id == external_id and sync.lease_until is None:
        sync.state = "unknown"
        sync.next_attempt_at = min(sync.next_attempt_at, now)


def note_url(session: Session, *, customer_id: UUID, invoice_id: UUID, url: str | None, now: datetime) -> None:
    """Store a freshly read address of the hosted page. The caller commits."""
    sync = session.get_one(StripeSync, (customer_id, invoice_id), with_for_update=True)
    sync.hosted_url, sync.hosted_url_at = url, now


def standing_values(sync: StripeSync, invoice: Json, *, now: datetime) -> dict[str, Any]:
    """The columns of a sync whose invoice stands at Stripe."""
    values: dict[str, Any] = {
        "state": "done",
        "step": "done",
        "done_at": now,
        "external_id": invoice["id"],
        "external_status": invoice["status"],
        "hosted_url": invoice.get("hosted_invoice_url"),
        "hosted_url_at": now,
        "attempts": 0,
        "unsure_at": None,
        "last_code": None,
        "last_error": None,
    }
    if invoice["amount_due"] != sync.amount_due_minor:
        # Only a customer balance that appeared after our check can do this. It is collected wrongly: say so.
        values["last_code"] = "stripe_amount_due_differs"
        values["last_error"] = (
            f"Stripe collects {invoice['amount_due']}, ours is {sync.amount_due_minor} (minor units): a balance at "
            "Stripe was applied. Correct it there and set the balance to 0."
        )
    return values


def write_request(
    session: Session, customer_id: UUID, subject_id: UUID, *, generation: int, freeze: Freeze, now: datetime
) -> None:
    """Freeze a request; if it was frozen before, that one stands."""
    session.execute(
        insert(StripeRequest)
        .values(
            customer_id=customer_id,
            subject_id=subject_id,
            step=freeze.step,
            generation=generation,
            idempotency_key=freeze.key,
            body=freeze.body,
            frozen_at=now,
        )
        .on_conflict_do_nothing()
    )


def request_of(
    engine: Engine, *, customer_id: UUID, subject_id: UUID, step: str, generation: int
) -> StripeRequest | None:
    """The frozen request of a step."""
    with Session(engine, expire_on_commit=False) as session:
        return session.get(StripeRequest, (customer_id, subject_id, step, generation))


def own(
    session: Session,
    external_id: str,
    *,
    kind: str,
    customer_id: UUID,
    invoice_id: UUID | None,
    now: datetime,
    part_of: str | None = None,
) -> None:
    """Record whose a Stripe object is. The first record stands. The caller commits.

    `part_of` is the invoice payment that an intent, charge, refund or dispute belongs to.

    Raises:
        ObjectIsAnothers: it stands for somebody else.
    """
    session.execute(
        insert(StripeObject)
        .values(
            external_id=external_id,
            kind=kind,
            customer_id=customer_id,
            invoice_id=invoice_id,
            part_of=part_of,
            seen_at=now,
        )
        .on_conflict_do_nothing()
    )
    owner = owner_of(session, external_id)
    if owner is None or (owner.customer_id, owner.invoice_id) != (customer_id, invoice_id):
        raise ObjectIsAnothers(
            f"{external_id} was recorded for another customer or invoice before. Nothing was written; a person must "
            "find out which of the two is right."
        )


def owner_of(session: Session, external_id: str) -> StripeObject | None:
    """Whose a Stripe object is, as far as we know."""
    return session.scalars(select(StripeObject).where(StripeObject.external_id == external_id)).one_or_none()


def retry_at(attempts: int, *, now: datetime) -> datetime:
    """When to try again after so many attempts in a row."""
    dice = random.random()  # noqa: S311 - spreads retries, guards nothing
    return now + timedelta(seconds=leases.back_off_s(attempts, dice=dice))


def counts(engine: Engine) -> dict[str, int]:
    """How many syncs are in each state, finished ones left out."""
    with Session(engine) as session:
        rows = session.execute(
            select(StripeSync.state, func.count()).where(StripeSync.state != "done").group_by(StripeSync.state)
        )
        return {str(state): int(number) for state, number in rows}


def next_due_at(engine: Engine) -> datetime | None:
    """When the next unfinished sync can be claimed: when it is due and its lease is over. None if none is left."""
    free_at = func.greatest(StripeSync.next_attempt_at, StripeSync.lease_until)
    with Session(engine) as session:
        found: datetime | None = session.scalar(select(func.min(free_at)).where(StripeSync.state.in_(UNFINISHED)))
        return found
