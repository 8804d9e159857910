"""Refunds: ours asked of Stripe, and every refund that Stripe tells of brought into the books, whoever made it."""

import json
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements.foreign_refunds import record_foreign_refund
from invoicing.movements.refunds import refund_by_external_id, settle_refund
from stripe_gateway import amounts, cash, operations
from stripe_gateway.acts import ACTOR, Act, Denied, Desk, Ended, Outcome, Ready
from stripe_gateway.cash import PROVIDER, EventRefused, note_effect
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import instant
from stripe_gateway.ownership import Owner, Paid, id_of
from stripe_gateway.tables import StripeObject, StripeOperation, StripeSync

STATUS = {"requires_action": "pending"}
"""Stripe's statuses that have another name here; the others are pending, succeeded, failed, canceled."""


def _prepare(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    payment = json.loads(operation.intent)["payment"]
    source = _known_source(desk, operation, payment) or _source(desk.client, payment)
    if source is None:
        return Denied("paid_outside", f"{payment} did not pass through Stripe, so Stripe cannot give it back.")
    metadata = {
        "ledger_refund_id": str(operation.id),
        "ledger_invoice_id": str(operation.invoice_id),
        "ledger_customer_id": str(operation.customer_id),
    }
    return Ready({**source, "amount": operation.amount_minor, "metadata": metadata})


def _known_source(desk: Desk, operation: StripeOperation, payment: str) -> Json | None:
    with Session(desk.engine) as session:
        rows = session.execute(
            select(StripeObject.kind, StripeObject.external_id).where(
                StripeObject.customer_id == operation.customer_id,
                StripeObject.invoice_id == operation.invoice_id,
                StripeObject.part_of == payment,
                StripeObject.kind.in_(("payment_intent", "charge")),
            )
        ).all()
    known = {str(kind): str(external_id) for kind, external_id in rows}
    return _one_of(known.get("payment_intent"), known.get("charge"))


def _source(client: Client, payment: str) -> Json | None:
    parts = client.retrieve_invoice_payment(payment)["payment"]
    return _one_of(id_of(parts.get("payment_intent")), id_of(parts.get("charge")))


def _one_of(intent: str | None, charge: str | None) -> Json | None:
    if intent is not None:
        return {"payment_intent": intent}
    return None if charge is None else {"charge": charge}


def _send(client: Client, _operation: StripeOperation, body: Json, key: str) -> Json:
    return client.create_refund(body, key=key)


def _find(client: Client, operation: StripeOperation, body: Json) -> Json | None:
    """Our refund among those of the payment, by our id in its metadata."""
    for refund in client.list_refunds(payment_intent=body.get("payment_intent"), charge=body.get("charge")):
        if (refund.get("metadata") or {}).get("ledger_refund_id") == str(operation.id):
            return refund
    return None


def _judge(operation: StripeOperation, refund: Json) -> Ended | Denied:
    _check(refund, currency=operation.currency or "", amount_minor=operation.amount_minor)
    return Ended(refund["id"], refund["status"], refund)


def _settle(session: Session, operation: StripeOperation, outcome: Outcome, now: datetime) -> None:
    assert operation.invoice_id is not None  # noqa: S101 - a constraint says so too
    if isinstance(outcome, Denied):
        settle_refund(
            session,
            customer_id=operation.customer_id,
            refund_id=operation.id,
            status="failed",
            external_id=None,
            failure_code=outcome.code,
            failure_reason=outcome.reason,
            at=now,
            actor=ACTOR,
            now=now,
        )
    elif outcome.found is not None:
        owner = Owner(operation.customer_id, operation.invoice_id)
        _book_ours(
            session, outcome.found, owner=owner, refund_id=operation.id, cause=f"operation {operation.id}", now=now
        )


ACT = Act("refund", "create", True, _prepare, _send, _find, _judge, _settle)


def record(session: Session, refund: Json, *, paid: Paid, livemode: bool, cause: str, now: datetime) -> None:
    """Bring a refund at Stripe, as it is now, into the books. Repeating it changes nothing. The caller commits.

    Ours, known by our id in its metadata or by its own, goes on to its status; one that somebody made in the Dashboard
    books its credit note first. `refund` is Stripe's object, freshly read; `paid` is whose payment it gives back.

    Raises:
        EventRefused: currency or amount do not fit our record.
        InvoicingError, LedgerError: the books refuse it.
    """
    owner = paid.owner
    cash.ensure(session, paid, livemode=livemode, cause=cause, now=now)
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    _check(refund, currency=sync.currency)
    cash.own(session, id_of(refund.get("charge")), kind="charge", owner=owner, part_of=paid.payment, now=now)
    ours = _ours(session, refund, owner=owner)
    if ours is not None:
        operation = operations.find(session, customer_id=owner.customer_id, operation_id=ours)
        if operation is not None and operation.kind == "refund":
            operations.confirm(session, operation, ACT, _judge(operation, refund), now=now)
        _book_ours(session, refund, owner=owner, refund_id=ours, cause=cause, now=now)
        return
    _own(session, refund, owner=owner, part_of=paid.payment, now=now)
    if not note_effect(session, owner, _effect(refund), cause=cause, now=now):
        return
    record_foreign_refund(
        session,
        customer_id=owner.customer_id,
        provider=PROVIDER,
        payment_external_id=paid.payment,
        external_id=refund["id"],
        amount=amounts.from_minor(refund["amount"], refund["currency"]),
        status=_status(refund),
        reason=refund.get("reason") or "made at Stripe",
        at=instant(refund["created"]),
        actor=ACTOR,
        now=now,
    )


def _ours(session: Session, refund: Json, *, owner: Owner) -> UUID | None:
    """The refund of ours behind this one, if we asked for it or recorded it before."""
    known = refund_by_external_id(session, customer_id=owner.customer_id, provider=PROVIDER, external_id=refund["id"])
    if known is not None:
        return known.id
    named = (refund.get("metadata") or {}).get("ledger_refund_id")
    if named is None:
        return None
    try:
        refund_id = UUID(named)
    except ValueError:
        refund_id = None
    operation = operations.find(session, customer_id=owner.customer_id, operation_id=refund_id) if refund_id else None
    if operation is None or operation.kind != "refund" or operation.invoice_id != owner.invoice_id:
        raise EventRefused(f"{refund['id']} says it is our refund {named}, which we never asked for on this invoice.")
    return operation.id


def _book_ours(session: Session, refund: Json, *, owner: Owner, refund_id: UUID, cause: str, now: datetime) -> None:
    _own(session, refund, owner=owner, part_of=None, now=now)
    if not note_effect(session, owner, _effect(refund), cause=cause, now=now):
        return
    settle_refund(
        session,
        customer_id=owner.customer_id,
        refund_id=refund_id,
        status=_status(refund),
        external_id=refund["id"],
        failure_code=refund.get("failure_reason"),
        failure_reason=refund.get("failure_reason"),
        at=instant(refund["created"]),
        actor=ACTOR,
        now=now,
    )


def _own(session: Session, refund: Json, *, owner: Owner, part_of: str | None, now: datetime) -> None:
    cash.own(session, refund["id"], kind="refund", owner=owner, part_of=part_of, now=now)


def _status(refund: Json) -> str:
    return STATUS.get(refund["status"], str(refund["status"]))


def _effect(refund: Json) -> str:
    return f"re:{refund['id']}:{refund['status']}"


def _check(refund: Json, *, currency: str, amount_minor: int | None = None) -> None:
    """Hold a refund against our record."""
    if refund["currency"].upper() != currency:
        raise EventRefused(f"{refund['id']} is in {refund['currency'].upper()}, its invoice in {currency}.")
    if amount_minor is not None and refund["amount"] != amount_minor:
        raise EventRefused(f"{refund['id']} gives back {refund['amount']}, we asked for {amount_minor} (minor units).")
