"""Cash: each paid invoice payment at Stripe becomes one payment in the books, whoever tells us of it and how often."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.payments import record_payment
from ledger import accounts
from stripe_gateway import amounts, operations, outbox
from stripe_gateway.client import Json
from stripe_gateway.errors import GatewayError
from stripe_gateway.ownership import Owner, Paid, id_of
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
    if is_our_outside_payment(session, payment, owner=owner):
        # Our books have it from where it really arrived; Stripe only repeats what we told it.
        note_effect(session, owner, f"ipo:{payment['id']}", cause=cause, now=now)
        return False
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


def is_our_outside_payment(session: Session, payment: Json, *, owner: Owner) -> bool:
    """Whether Stripe tells us of money that came past Stripe, which we had told Stripe of."""
    record = id_of(payment["payment"].get("payment_record"))
    if record is None:
        return False
    key = {"customer_id": owner.customer_id, "invoice_id": owner.invoice_id}
    whole = operations.about(session, **key, kind="pay_outside")
    if any(operation.amount_minor == payment["amount_paid"] for operation in whole):
        return True
    parts = operations.about(session, **key, kind="pay_part")
    # Once Stripe's answer is stored its record is known by name; a webhook may be faster than that answer.
    return any(
        operation.external_id == record
        if operation.state == "done"
        else operation.amount_minor == payment["amount_paid"]
        for operation in parts
    )


def ensure(session: Session, paid: Paid, *, livemode: bool, cause: str, now: datetime) -> None:
    """See to it that a payment is in the books before what follows from it. The caller commits.

    Raises:
        EventRefused, PaymentConflict, PaymentRefused: as `record`.
    """
    if paid.fresh is not None and paid.fresh["status"] == "paid":
        record(session, paid.fresh, owner=paid.owner, livemode=livemode, cause=cause, now=now)


def _own_objects(session: Session, payment: Json, *, owner: Owner, now: datetime) -> None:
    """Remember the invoice behind the payment intent and the charge: neither carries our metadata."""
    found = {"invoice_payment": payment["id"]}
    for kind in ("payment_intent", "charge"):
        external_id = id_of(payment["payment"].get(kind))
        if external_id is not None:
            found[kind] = external_id
    for kind, external_id in found.items():
        own(session, external_id, kind=kind, owner=owner, part_of=payment["id"], now=now)


def own(
    session: Session, external_id: str | None, *, kind: str, owner: Owner, part_of: str | None, now: datetime
) -> None:
    """Remember whose an object is, if there is one. The caller commits.

    Raises:
        ObjectIsAnothers: it stands for somebody else.
    """
    if external_id is not None:
        outbox.own(
            session,
            external_id,
            kind=kind,
            customer_id=owner.customer_id,
            invoice_id=owner.invoice_id,
            part_of=part_of,
            now=now,
        )


def note_effect(session: Session, owner: Owner | UUID, key: str, *, cause: str, now: datetime) -> bool:
    """Write down that this is done now; False if it was before. The caller commits it with what it stands for.

    `owner` is an invoice's, or the id of the books where it is about no invoice.
    """
    customer_id = owner if isinstance(owner, UUID) else owner.customer_id
    written = session.execute(
        insert(StripeEffect)
        .values(customer_id=customer_id, key=key, cause=cause, at=now)
        .on_conflict_do_nothing()
        .returning(StripeEffect.key)
    ).first()
    return written is not None
