"""Cash: each paid invoice payment at Stripe becomes one payment in the books, whoever tells us of it and how often."""

from datetime import UTC, datetime

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.payments import record_payment
from ledger import accounts
from stripe_gateway import amounts, outbox
from stripe_gateway.client import Json
from stripe_gateway.errors import GatewayError
from stripe_gateway.ownership import Owner
from stripe_gateway.tables import StripeEffect, StripeSync

PROVIDER = "stripe"
ACTOR = "stripe"


class EventRefused(GatewayError):
    """What Stripe says does not fit our record. Nothing was posted; a person must look."""

    code = "event_refused"


def record(session: Session, payment: Json, *, owner: Owner, livemode: bool, cause: str, now: datetime) -> bool:
    """Post a paid invoice payment; False if it was posted before. The caller commits.

    `payment` is Stripe's invoice payment (`inpay_...`), from an event or a list; `cause` is where it comes from.

    Raises:
        EventRefused: mode, currency or amount do not fit the invoice.
        PaymentConflict, PaymentRefused: the books refuse it.
    """
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    amount_minor = payment["amount_paid"]
    if payment["status"] != "paid" or not isinstance(amount_minor, int) or amount_minor <= 0:
        raise EventRefused(f"{payment['id']} is {payment['status']} with {amount_minor} paid: that is no payment.")
    if bool(payment["livemode"]) is not livemode:
        raise EventRefused(f"{payment['id']} has livemode {payment['livemode']}, our key says {livemode}.")
    if payment["currency"].upper() != sync.currency:
        raise EventRefused(
            f"{payment['id']} paid {payment['currency'].upper()}, but invoice {sync.number} is in {sync.currency}."
        )
    if not note_effect(session, owner, f"ip:{payment['id']}", cause=cause, now=now):
        return False
    paid_at = (payment.get("status_transitions") or {}).get("paid_at") or payment["created"]
    record_payment(
        session,
        customer_id=owner.customer_id,
        invoice_id=owner.invoice_id,
        provider=PROVIDER,
        external_id=payment["id"],
        amount=amounts.from_minor(amount_minor, sync.currency),
        received_at=datetime.fromtimestamp(paid_at, tz=UTC),
        actor=ACTOR,
        now=now,
        # A payment record is money that came past Stripe, so it never stands on the balance there.
        account=accounts.BANK if payment["payment"]["type"] == "payment_record" else accounts.STRIPE,
    )
    _own_objects(session, payment, owner=owner, now=now)
    return True


def _own_objects(session: Session, payment: Json, *, owner: Owner, now: datetime) -> None:
    """Remember the invoice behind the payment intent and the charge: neither carries our metadata."""
    source = payment["payment"]
    found = {"invoice_payment": payment["id"]}
    for kind in ("payment_intent", "charge"):
        value = source.get(kind)
        if value:
            found[kind] = value["id"] if isinstance(value, dict) else value
    for kind, external_id in found.items():
        outbox.own(session, external_id, kind=kind, customer_id=owner.customer_id, invoice_id=owner.invoice_id, now=now)


def note_effect(session: Session, owner: Owner, key: str, *, cause: str, now: datetime) -> bool:
    """Write down that this is done now; False if it was before. The caller commits it with what it stands for."""
    written = session.execute(
        insert(StripeEffect)
        .values(customer_id=owner.customer_id, key=key, cause=cause, at=now)
        .on_conflict_do_nothing()
        .returning(StripeEffect.key)
    ).first()
    return written is not None
