"""Events about our invoices: their status, their cash, and what stands in the way of collecting them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.movements.tasks import open_task
from invoicing.payments import record_payment_failure
from invoicing.tables import Invoice
from stripe_gateway import cash, invoice_ends, operations, outbox, overpayments
from stripe_gateway.cash import PROVIDER, note_effect
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import instant
from stripe_gateway.event_effects import Context, Effect, Handled, done, ignored
from stripe_gateway.operating import ACTS
from stripe_gateway.ownership import Owner, owner_of_invoice
from stripe_gateway.tables import StripeSync

KEYS = {
    "invoice.finalized": "fin",
    "invoice.paid": "paid",
    "invoice.voided": "void",
    "invoice.marked_uncollectible": "unc",
}
"""The business keys of the events that end something."""

ENDS = {"void": "void", "uncollectible": "uncollectible"}
"""The kind of operation that gives an invoice this status at our wish."""


def changed(context: Context, event: Json) -> Effect:
    """The invoice's status at Stripe; a sync or an operation that has not got its answer yet is confirmed by it."""
    invoice = event["data"]["object"]
    if invoice["status"] == "draft":
        return ignored("a draft")
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return ignored("no invoice of ours")

    def write(session: Session) -> Handled:
        # Our own end is confirmed first: then it is known that the status was our wish.
        confirm_operations(session, owner, invoice, now=context.now)
        outbox.confirm(session, owner.customer_id, owner.invoice_id, invoice, now=context.now)
        key = KEYS.get(event["type"])
        if key is not None:
            note_effect(session, owner, f"{key}:{invoice['id']}", cause=event["id"], now=context.now)
        tell_of_end(session, owner, invoice, cause=event["id"], now=context.now)
        return Handled(customer_id=owner.customer_id)

    return write


def confirm_operations(session: Session, owner: Owner, invoice: Json, *, now: datetime) -> None:
    """End the operations of ours that this status decides. The caller commits."""
    for kind in invoice_ends.WANTED:
        for operation in operations.about(
            session, customer_id=owner.customer_id, invoice_id=owner.invoice_id, kind=kind
        ):
            outcome = invoice_ends.judged(operation, invoice)
            if outcome is not None:
                operations.confirm(session, operation, ACTS[kind], outcome, now=now)


def tell_of_end(session: Session, owner: Owner, invoice: Json, *, cause: str, now: datetime) -> None:
    """Open a task if somebody ended the invoice at Stripe, where it has to be ended here. The caller commits."""
    kind = ENDS.get(invoice["status"])
    if kind is None or operations.about(session, customer_id=owner.customer_id, invoice_id=owner.invoice_id, kind=kind):
        return
    ours = session.get_one(Invoice, (owner.customer_id, owner.invoice_id))
    if ours.state in (invoice["status"], "void"):
        return
    what = "voided" if kind == "void" else "given up as uncollectible"
    open_task(
        session,
        kind=f"{kind}_at_stripe_only",
        subject=invoice["id"],
        title=f"Invoice {ours.number} was {what} at Stripe, not here",
        text=f"Nothing more is collected there, while the books still expect the money (here it is {ours.state}). Do "
        "the same here, on the invoice's page, or bill it again.",
        cause=cause,
        now=now,
        customer_id=owner.customer_id,
        invoice_id=owner.invoice_id,
        details={"invoice": invoice["id"], "status": invoice["status"]},
    )


def cash_arrived(context: Context, event: Json) -> Effect:
    payment = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, payment["invoice"], snapshot=None)
    if owner is None:
        return ignored("no invoice of ours")

    def write(session: Session) -> Handled:
        cash.record(session, payment, owner=owner, livemode=context.client.livemode, cause=event["id"], now=context.now)
        return Handled(customer_id=owner.customer_id)

    return write


def payment_failed(context: Context, event: Json) -> Effect:
    """An attempt to collect failed, or waits for the customer. The reason stands on the payment intent."""
    invoice = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return ignored("no invoice of ours")
    if _is_over(context.engine, owner):
        return done(owner.customer_id, "paid or ended since")
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
            failed_at=instant(event["created"]),
            next_attempt_at=instant(next_attempt) if next_attempt else None,
        )
        return Handled(customer_id=owner.customer_id)

    return write


def _is_over(engine: Engine, owner: Owner) -> bool:
    with Session(engine) as session:
        return session.get_one(Invoice, (owner.customer_id, owner.invoice_id)).state in ("paid", "void")


def _last_error(client: Client, invoice: str) -> Json:
    for payment in client.list_invoice_payments(invoice=invoice, with_intents=True):
        intent = payment["payment"].get("payment_intent")
        if isinstance(intent, dict) and intent.get("last_payment_error"):
            found: dict[str, Any] = intent["last_payment_error"]
            return found
    return {}


def overpaid(context: Context, event: Json) -> Effect:
    """More was paid than was due: our books hold the rest, so Stripe's balance of the customer goes back to 0."""
    invoice = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return ignored("no invoice of ours")

    def write(session: Session) -> Handled:
        outbox.confirm(session, owner.customer_id, owner.invoice_id, invoice, now=context.now)
        overpayments.record(session, invoice, owner=owner, cause=event["id"], now=context.now)
        return Handled(customer_id=owner.customer_id)

    return write


def finalization_failed(context: Context, event: Json) -> Effect:
    """Stripe could not finalize: its reason is shown, and the sync waits for a person."""
    invoice = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return ignored("no invoice of ours")
    why = (invoice.get("last_finalization_error") or {}).get("message") or "Stripe gives no reason."

    def write(session: Session) -> Handled:
        key = f"invoice.finalization_failed:{invoice['id']}"
        fresh = note_effect(session, owner, key, cause=event["id"], now=context.now)
        if fresh and outbox.set_aside(
            session, owner.customer_id, owner.invoice_id, invoice["id"], code="finalization_failed", reason=why
        ):
            sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
            open_task(
                session,
                kind="finalization_failed",
                subject=invoice["id"],
                title=f"Stripe could not finalize invoice {sync.number}",
                text=f"{why} Set it right, then retry the invoice: Stripe is read first, and nothing is sent twice.",
                cause=event["id"],
                now=context.now,
                customer_id=owner.customer_id,
                invoice_id=owner.invoice_id,
                details={"invoice": invoice["id"]},
            )
        return Handled(customer_id=owner.customer_id)

    return write


def deleted(context: Context, event: Json) -> Effect:
    """A draft is gone. Ours, or that of a person: a sync that needed it asks Stripe before it goes on."""
    invoice = event["data"]["object"]
    owner = owner_of_invoice(context.engine, context.client, invoice["id"], snapshot=invoice)
    if owner is None:
        return ignored("no invoice of ours")

    def write(session: Session) -> Handled:
        note_effect(session, owner, f"invoice.deleted:{invoice['id']}", cause=event["id"], now=context.now)
        outbox.doubt_draft(session, owner.customer_id, owner.invoice_id, invoice["id"], now=context.now)
        return Handled(customer_id=owner.customer_id)

    return write
