"""Events about our customers at Stripe: how they pay, and whether they are still there."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements.tasks import open_task
from stripe_gateway import customers, outbox
from stripe_gateway.cash import note_effect
from stripe_gateway.client import Json
from stripe_gateway.event_effects import Context, Effect, Handled, done, ignored
from stripe_gateway.tables import StripeCustomer


def changed(context: Context, event: Json) -> Effect:
    """The default payment method may have changed: what it is now is read, since older events may come later."""
    customer = event["data"]["object"]
    before = event["data"].get("previous_attributes") or {}
    if "invoice_settings" not in before:
        return ignored("nothing that we use changed")
    return _refresh(context, customer["id"])


def deleted(context: Context, event: Json) -> Effect:
    """Somebody deleted our customer at Stripe: the next invoice would fail, so a person is told now."""
    external_id = event["data"]["object"]["id"]
    refreshed = _refresh(context, external_id)

    def write(session: Session) -> Handled:
        handled = refreshed(session)
        if handled.customer_id is None:
            return handled
        key = f"customer.deleted:{external_id}"
        if note_effect(session, handled.customer_id, key, cause=event["id"], now=context.now):
            open_task(
                session,
                kind="customer_deleted",
                subject=external_id,
                title="A customer was deleted at Stripe",
                text="Stripe cannot collect from this customer any more, and what was open there is void. Their "
                "invoices will be parked. Find out who deleted them, and agree with the customer on how they pay.",
                cause=event["id"],
                now=context.now,
                customer_id=handled.customer_id,
                details={"customer": external_id},
            )
        return handled

    return write


def method_detached(context: Context, event: Json) -> Effect:
    before = (event["data"].get("previous_attributes") or {}).get("customer")
    if before is None:
        with Session(context.engine) as session:
            before = session.scalars(
                select(StripeCustomer.external_id).where(
                    StripeCustomer.default_payment_method == event["data"]["object"]["id"]
                )
            ).first()
    return ignored("no customer of ours") if before is None else _refresh(context, before)


def _refresh(context: Context, external_id: str) -> Effect:
    with Session(context.engine) as session:
        owner = outbox.owner_of(session, external_id)
    if owner is None:
        return ignored("no customer of ours")
    customers.refresh(context.engine, context.client, customer_id=owner.customer_id, now=context.now)
    return done(owner.customer_id)
