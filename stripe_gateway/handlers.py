"""What each kind of event means to us.

A handler first asks Stripe what it must, with no transaction open, and then returns what is to be written. Order means
nothing and repetition does nothing: effects have business keys, states only go forward, and where an event's snapshot
could be stale the object itself is read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing.payments import record_payment_failure
from invoicing.tables import Invoice
from stripe_gateway import cash, customers, outbox
from stripe_gateway.cash import PROVIDER, EventRefused, note_effect
from stripe_gateway.client import Client, Json
from stripe_gateway.ownership import Owner, owner_of_invoice
from stripe_gateway.tables import StripeCustomer


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler may use."""

    engine: Engine
    client: Client
    now: datetime


@dataclass(frozen=True, slots=True)
class Handled:
    """How an event ended: `state` is done or ignored."""

    state: str = "done"
    customer_id: UUID | None = None
    note: str | None = None


Effect = Callable[[Session], Handled]
Handler = Callable[[Context, Json], Effect]


def prepare(context: Context, event: Json) -> Effect:
    """Ask Stripe what this event needs; returns what is to be written, in one transaction.

    Raises:
        CallFailed: Stripe could not be asked.
        GatewayError: the event does not fit our record.
    """
    if bool(event.get("livemode")) is not context.client.livemode:
        raise EventRefused(
            f"The event has livemode {event.get('livemode')}, our key says {context.client.livemode}: the webhook "
            "endpoint belongs to another mode or account."
        )
    if event.get("account"):
        raise EventRefused(f"The event is about the connected account {event['account']}; we bill on our own.")
    handler = HANDLERS.get(event["type"])
    return _ignored("no event that we act on") if handler is None else handler(context, event)


def _ignored(note: str) -> Effect:
    return lambda session: Handled("ignored", note=note)  # noqa: ARG005 - nothing is written


def _invoice_changed(context: Context, event: Json) -> Effect:
    """The invoice's status at Stripe; a sync that has not got its answer yet is confirmed by it."""
    invoice = event["data"]["object"]
    if invoice["status"] == "draft":
        return _ignored("a draft")
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return _ignored("no invoice of ours")

    def write(session: Session) -> Handled:
        outbox.confirm(session, owner.customer_id, owner.invoice_id, invoice, now=context.now)
        key = _INVOICE_KEYS.get(event["type"])
        if key is not None:
            note_effect(session, owner, f"{key}:{invoice['id']}", cause=event["id"], now=context.now)
        return Handled(customer_id=owner.customer_id)

    return write


_INVOICE_KEYS = {
    "invoice.finalized": "fin",
    "invoice.paid": "paid",
    "invoice.voided": "void",
    "invoice.marked_uncollectible": "unc",
}


def _cash_arrived(context: Context, event: Json) -> Effect:
    payment = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, payment["invoice"], snapshot=None)
    if owner is None:
        return _ignored("no invoice of ours")

    def write(session: Session) -> Handled:
        cash.record(session, payment, owner=owner, livemode=context.client.livemode, cause=event["id"], now=context.now)
        return Handled(customer_id=owner.customer_id)

    return write


def _payment_failed(context: Context, event: Json) -> Effect:
    """An attempt to collect failed. The reason stands on the payment intent, which the invoice no longer names."""
    invoice = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return _ignored("no invoice of ours")
    if _is_paid(context.engine, owner):
        return lambda session: Handled(customer_id=owner.customer_id, note="paid since")  # noqa: ARG005 - nothing is written
    error = _last_error(context.client, invoice["id"])

    def write(session: Session) -> Handled:
        outbox.confirm(session, owner.customer_id, owner.invoice_id, invoice, now=context.now)
        next_attempt = invoice.get("next_payment_attempt")
        record_payment_failure(
            session,
            customer_id=owner.customer_id,
            invoice_id=owner.invoice_id,
            provider=PROVIDER,
            external_id=f"fail:{invoice['id']}:{invoice['attempt_count']}",
            attempt=invoice["attempt_count"],
            code=error.get("decline_code") or error.get("code"),
            message=error.get("message"),
            failed_at=datetime.fromtimestamp(event["created"], tz=UTC),
            next_attempt_at=datetime.fromtimestamp(next_attempt, tz=UTC) if next_attempt else None,
        )
        return Handled(customer_id=owner.customer_id)

    return write


def _is_paid(engine: Engine, owner: Owner) -> bool:
    with Session(engine) as session:
        return session.get_one(Invoice, (owner.customer_id, owner.invoice_id)).state == "paid"


def _last_error(client: Client, invoice: str) -> Json:
    for payment in client.list_invoice_payments(invoice=invoice, with_intents=True):
        intent = payment["payment"].get("payment_intent")
        if isinstance(intent, dict) and intent.get("last_payment_error"):
            found: dict[str, Any] = intent["last_payment_error"]
            return found
    return {}


def _customer_changed(context: Context, event: Json) -> Effect:
    """The default payment method may have changed: what it is now is read, since older events may come later."""
    customer = event["data"]["object"]
    changed = event["data"].get("previous_attributes") or {}
    if event["type"] == "customer.updated" and "invoice_settings" not in changed:
        return _ignored("nothing that we use changed")
    return _refresh(context, customer["id"])


def _method_detached(context: Context, event: Json) -> Effect:
    before = (event["data"].get("previous_attributes") or {}).get("customer")
    if before is None:
        with Session(context.engine) as session:
            before = session.scalars(
                select(StripeCustomer.external_id).where(
                    StripeCustomer.default_payment_method == event["data"]["object"]["id"]
                )
            ).first()
    return _ignored("no customer of ours") if before is None else _refresh(context, before)


def _refresh(context: Context, external_id: str) -> Effect:
    with Session(context.engine) as session:
        owner = outbox.owner_of(session, external_id)
    if owner is None:
        return _ignored("no customer of ours")
    customer_id = owner.customer_id
    customers.refresh(context.engine, context.client, customer_id=customer_id, now=context.now)
    return lambda session: Handled(customer_id=customer_id)  # noqa: ARG005 - it is written already


def _needs_a_person(context: Context, event: Json) -> Effect:
    """Nothing that we do on purpose causes this, and it concerns money."""
    invoice = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return _ignored("no invoice of ours")
    detail = (invoice.get("last_finalization_error") or {}).get("message") or ""
    raise EventRefused(f"Stripe says {event['type']} of {invoice['id']}. {detail}".strip())


HANDLERS: dict[str, Handler] = {
    "invoice_payment.paid": _cash_arrived,
    "invoice.finalized": _invoice_changed,
    "invoice.paid": _invoice_changed,
    "invoice.updated": _invoice_changed,
    "invoice.voided": _invoice_changed,
    "invoice.marked_uncollectible": _invoice_changed,
    "invoice.payment_failed": _payment_failed,
    "invoice.finalization_failed": _needs_a_person,
    "invoice.overpaid": _needs_a_person,
    "customer.updated": _customer_changed,
    "customer.deleted": _customer_changed,
    "payment_method.detached": _method_detached,
}
