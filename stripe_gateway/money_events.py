"""Events about what follows a payment: fees, refunds, credit notes, disputes, payouts, warnings of fraud.

An event only says that something happened to an object; what it is now is read. So late, doubled and shuffled events
all end in the same books.
"""

from sqlalchemy.orm import Session

from invoicing.movements.tasks import open_task
from stripe_gateway import credit_notes, disputes, exchanges, fees, payouts, refunds
from stripe_gateway.cash import note_effect
from stripe_gateway.client import Json
from stripe_gateway.event_effects import Context, Effect, Handled, done, ignored
from stripe_gateway.house import house_of
from stripe_gateway.ownership import Owner, Paid, id_of, owner_of_invoice, owner_of_payment
from stripe_gateway.tables import StripeEffect

NOT_OURS = "no payment of an invoice of ours"


def charge_settled(context: Context, event: Json) -> Effect:
    """A charge has met the balance: its fee is known now."""
    charge = event["data"]["object"]
    transaction = id_of(charge.get("balance_transaction"))
    if transaction is None:
        return ignored("not settled yet")
    if charge["status"] == "pending":
        return ignored("the bank has not answered yet")
    paid = _paid_by(context, charge, charge_id=charge["id"])
    if paid is None:
        return ignored(NOT_OURS)
    if _is_noted(context, paid.owner, exchanges.effect(transaction)):
        return done(paid.owner.customer_id, "the fee is known")
    settled = context.client.retrieve_balance_transaction(transaction)

    def write(session: Session) -> Handled:
        house = house_of(context.client)
        fees.record(session, settled, charge=charge, paid=paid, house=house, cause=event["id"], now=context.now)
        return Handled(customer_id=paid.owner.customer_id)

    return write


def _is_noted(context: Context, owner: Owner, key: str) -> bool:
    with Session(context.engine) as session:
        return session.get(StripeEffect, (owner.customer_id, key)) is not None


def _paid_by(context: Context, obj: Json, *, charge_id: str | None) -> Paid | None:
    return owner_of_payment(
        context.engine, context.client, payment_intent=id_of(obj.get("payment_intent")), charge=charge_id
    )


def refund_moved(context: Context, event: Json) -> Effect:
    """The refund as it is now, with its movements: only they tell that it was exchanged."""
    refund = context.client.retrieve_refund(event["data"]["object"]["id"])
    paid = _paid_by(context, refund, charge_id=id_of(refund.get("charge")))
    if paid is None:
        return ignored(NOT_OURS)

    def write(session: Session) -> Handled:
        house = house_of(context.client)
        refunds.record(session, refund, paid=paid, livemode=house.livemode, cause=event["id"], now=context.now)
        for moved in exchanges.movements_of(refund):
            exchanges.record_refund(
                session, moved, refund=refund, paid=paid, house=house, cause=event["id"], now=context.now
            )
        return Handled(customer_id=paid.owner.customer_id)

    return write


def credit_note_moved(context: Context, event: Json) -> Effect:
    note = context.client.retrieve_credit_note(event["data"]["object"]["id"])
    invoice = id_of(note["invoice"]) or ""
    owner = owner_of_invoice(context.engine, context.client, invoice, snapshot=None)
    if owner is None:
        return ignored("no invoice of ours")

    def write(session: Session) -> Handled:
        credit_notes.record(
            session, note, owner=owner, livemode=context.client.livemode, cause=event["id"], now=context.now
        )
        return Handled(customer_id=owner.customer_id)

    return write


def dispute_moved(context: Context, event: Json) -> Effect:
    """All five kinds of event: the case and the money are read as they are now."""
    dispute = context.client.retrieve_dispute(event["data"]["object"]["id"])
    paid = _paid_by(context, dispute, charge_id=id_of(dispute.get("charge")))
    if paid is None:
        return ignored(NOT_OURS)

    def write(session: Session) -> Handled:
        house = house_of(context.client)
        disputes.record(
            session, dispute, paid=paid, livemode=house.livemode, house=house, cause=event["id"], now=context.now
        )
        if event["type"] == "charge.dispute.closed":
            key = f"dpc:{dispute['id']}:{dispute['status']}"
            note_effect(session, paid.owner, key, cause=event["id"], now=context.now)
        return Handled(customer_id=paid.owner.customer_id)

    return write


def payout_moved(context: Context, event: Json) -> Effect:
    """The payout as it is now; once Stripe says what it was made of, each part of it is cleared."""
    payout = context.client.retrieve_payout(event["data"]["object"]["id"])
    house = house_of(context.client)
    with Session(context.engine) as session, session.begin():
        # Stored first: what it was made of is cleared against it.
        payouts.record(session, payout, house=house, cause=event["id"], now=context.now)
        payouts.arrived(session, payout, now=context.now)
    if payout.get("reconciliation_status") == "completed":
        payouts.clear(context.engine, context.client, payout, cause=event["id"], now=context.now, renew=context.renew)
    return done(None)


def fraud_warned(context: Context, event: Json) -> Effect:
    """A bank believes that a payment is fraud; refunding it at once usually avoids the dispute."""
    warning = event["data"]["object"]
    paid = _paid_by(context, warning, charge_id=id_of(warning.get("charge")))
    if paid is None:
        return ignored(NOT_OURS)

    def write(session: Session) -> Handled:
        key = f"radar.early_fraud_warning.created:{warning['id']}"
        if note_effect(session, paid.owner, key, cause=event["id"], now=context.now):
            open_task(
                session,
                kind="early_fraud_warning",
                subject=warning["id"],
                title="A bank believes that a payment was fraud",
                text=f"The bank behind {id_of(warning.get('charge'))} says: {warning.get('fraud_type')}. A refund now "
                "usually avoids a dispute and its fee. Decide on the invoice's page.",
                cause=event["id"],
                now=context.now,
                customer_id=paid.owner.customer_id,
                invoice_id=paid.owner.invoice_id,
                details={"charge": id_of(warning.get("charge"))},
            )
        return Handled(customer_id=paid.owner.customer_id)

    return write
