"""What each kind of event means to us: the table of handlers.

A handler first asks Stripe what it must, with no transaction open, and then returns what is to be written. Order means
nothing and repetition does nothing: effects have business keys, states only go forward, and where an event's snapshot
could be stale the object itself is read.
"""

from stripe_gateway import customer_events, debits, invoice_events, money_events
from stripe_gateway.cash import EventRefused
from stripe_gateway.client import Json
from stripe_gateway.event_effects import Context, Effect, Handled, Handler, ignored

__all__ = ["HANDLERS", "Context", "Effect", "Handled", "Handler", "prepare"]


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
    return ignored("no event that we act on") if handler is None else handler(context, event)


HANDLERS: dict[str, Handler] = {
    "invoice.finalized": invoice_events.changed,
    "invoice.paid": invoice_events.changed,
    "invoice.updated": invoice_events.changed,
    "invoice.voided": invoice_events.changed,
    "invoice.marked_uncollectible": invoice_events.changed,
    "invoice.payment_failed": invoice_events.payment_failed,
    "invoice.payment_action_required": invoice_events.payment_failed,
    "invoice.overpaid": invoice_events.overpaid,
    "invoice.finalization_failed": invoice_events.finalization_failed,
    "invoice.deleted": invoice_events.deleted,
    "invoice_payment.paid": invoice_events.cash_arrived,
    "charge.pending": debits.moved,
    "charge.succeeded": debits.moved,
    "charge.failed": debits.moved,
    "charge.updated": money_events.charge_settled,
    "refund.created": money_events.refund_moved,
    "refund.updated": money_events.refund_moved,
    "refund.failed": money_events.refund_moved,
    "credit_note.created": money_events.credit_note_moved,
    "credit_note.updated": money_events.credit_note_moved,
    "credit_note.voided": money_events.credit_note_moved,
    "charge.dispute.created": money_events.dispute_moved,
    "charge.dispute.updated": money_events.dispute_moved,
    "charge.dispute.funds_withdrawn": money_events.dispute_moved,
    "charge.dispute.funds_reinstated": money_events.dispute_moved,
    "charge.dispute.closed": money_events.dispute_moved,
    "payout.created": money_events.payout_moved,
    "payout.updated": money_events.payout_moved,
    "payout.paid": money_events.payout_moved,
    "payout.failed": money_events.payout_moved,
    "payout.canceled": money_events.payout_moved,
    "payout.reconciliation_completed": money_events.payout_moved,
    "radar.early_fraud_warning.created": money_events.fraud_warned,
    "customer.updated": customer_events.changed,
    "customer.deleted": customer_events.deleted,
    "payment_method.detached": customer_events.method_detached,
}
