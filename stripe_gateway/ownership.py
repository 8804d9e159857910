"""Whose an object of Stripe's is. What we know already decides; else our own ids in an invoice's metadata, checked.

Payment intents, charges, refunds and disputes carry no ids of ours: the invoice payment ties them to an invoice.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from stripe_gateway import outbox
from stripe_gateway.client import Client, Json
from stripe_gateway.errors import GatewayError, NotThere
from stripe_gateway.tables import StripeCustomer, StripeSync


class ForeignInvoice(GatewayError):
    """An invoice at Stripe carries our ids, but does not fit our record. A person must look at both."""

    code = "stripe_foreign_invoice"


@dataclass(frozen=True, slots=True)
class Owner:
    """The invoice of ours that an invoice at Stripe belongs to."""

    customer_id: UUID
    invoice_id: UUID


def owner_of_invoice(engine: Engine, client: Client, external_id: str, *, snapshot: Json | None) -> Owner | None:
    """Our invoice behind `external_id`; None if it is none of ours.

    `snapshot` is the invoice as an event showed it. Without one, an id that we do not know yet costs one read.

    Raises:
        ForeignInvoice: it names an invoice of ours that it does not fit.
        CallFailed: Stripe could not be asked.
    """
    with Session(engine) as session:
        known = outbox.owner_of(session, external_id)
    if known is not None and known.invoice_id is not None:
        return Owner(known.customer_id, known.invoice_id)
    if snapshot is None:
        try:
            snapshot = client.retrieve_invoice(external_id)
        except NotThere:
            return None
    with Session(engine) as session:
        return by_metadata(session, snapshot)


def by_metadata(session: Session, invoice: Json) -> Owner | None:
    """Our invoice that this one names in its metadata; None if it names none.

    Raises:
        ForeignInvoice: what it names is not there, or its customer or number is another.
    """
    metadata = invoice.get("metadata") or {}
    try:
        customer_id, invoice_id = UUID(metadata["ledger_customer_id"]), UUID(metadata["ledger_invoice_id"])
    except (KeyError, ValueError):
        return None
    sync = session.get(StripeSync, (customer_id, invoice_id))
    if sync is None:
        raise ForeignInvoice(
            f"{invoice['id']} says it is our invoice {invoice_id}, which was never submitted. Does another system of "
            "ours use the same Stripe account?"
        )
    customer = session.get_one(StripeCustomer, customer_id)
    if customer.external_id not in (None, invoice["customer"]):
        raise ForeignInvoice(
            f"{invoice['id']} says it is our invoice {sync.number}, but its customer is {invoice['customer']}, "
            f"ours is {customer.external_id}."
        )
    if invoice.get("number") not in (None, sync.number):
        raise ForeignInvoice(
            f"{invoice['id']} says it is our invoice {sync.number}, but its number is {invoice['number']}."
        )
    return Owner(customer_id, invoice_id)


@dataclass(frozen=True, slots=True)
class Paid:
    """The invoice that a payment intent or charge paid, and through which invoice payment (`inpay_...`).

    `fresh` is that invoice payment as Stripe shows it, if we had to ask: then it may not be in the books yet.
    """

    owner: Owner
    payment: str
    fresh: Json | None = None


def owner_of_payment(engine: Engine, client: Client, *, payment_intent: str | None, charge: str | None) -> Paid | None:
    """Whose this payment is; None if it paid no invoice of ours. Asks Stripe for what we do not know yet.

    Raises:
        ForeignInvoice: it paid an invoice that claims to be ours and does not fit.
        CallFailed: Stripe could not be asked.
    """
    known = _known_payment(engine, payment_intent, charge)
    if known is not None:
        return known
    if payment_intent is None and charge is not None:
        try:
            payment_intent = id_of(client.retrieve_charge(charge).get("payment_intent"))
        except NotThere:
            return None
        known = _known_payment(engine, payment_intent, None)
        if known is not None:
            return known
    if payment_intent is None:
        return None
    for payment in client.payments_by_intent(payment_intent):
        owner = owner_of_invoice(engine, client, payment["invoice"], snapshot=None)
        if owner is not None:
            return Paid(owner, payment["id"], payment)
    return None


def _known_payment(engine: Engine, *external_ids: str | None) -> Paid | None:
    with Session(engine) as session:
        for external_id in external_ids:
            known = outbox.owner_of(session, external_id) if external_id else None
            if known is not None and known.invoice_id is not None and known.part_of is not None:
                return Paid(Owner(known.customer_id, known.invoice_id), known.part_of)
    return None


def id_of(reference: object) -> str | None:
    """The id in a field that holds an id, the object itself where it was expanded, or nothing."""
    if isinstance(reference, dict):
        reference = reference.get("id")
    return reference if isinstance(reference, str) else None
