"""Disputes: each one's case and the money that moved for it, as Stripe has them now; and accepting one.

Whatever an event says, the dispute itself is read and all of its movements are taken over, so the order in which its
five kinds of event arrive changes nothing. Amounts and fees stand on its balance transactions, never in the code.
"""

import json
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from invoicing.movements.disputes import move_dispute_funds, record_dispute
from invoicing.movements.tasks import open_task, resolve_gone
from stripe_gateway import amounts, cash, exchanges, outbox
from stripe_gateway.acts import ACTOR, Act, Denied, Desk, Ended, Outcome, Ready, settle_movement
from stripe_gateway.cash import PROVIDER, EventRefused, note_effect
from stripe_gateway.client import Client, Json
from stripe_gateway.clock import instant
from stripe_gateway.house import House
from stripe_gateway.ownership import Owner, Paid, id_of
from stripe_gateway.tables import StripeOperation, StripeSync

NEEDS_RESPONSE = ("needs_response", "warning_needs_response")
OVER = ("lost", "won", "warning_closed", "prevented")
TASK = "dispute_needs_response"


def record(
    session: Session,
    dispute: Json,
    *,
    paid: Paid,
    livemode: bool,
    cause: str,
    now: datetime,
    house: House | None = None,
) -> None:
    """Bring a dispute, as it is now, into the books. Repeating it changes nothing. The caller commits.

    `dispute` is Stripe's object, freshly read; `paid` is whose payment is disputed. Without the `house`, movements in
    another currency than the invoice's wait for whoever knows it: the event, the payout or the reconciliation.

    Raises:
        EventRefused: mode or currency do not fit our record.
        InvoicingError, LedgerError: the books refuse it.
    """
    owner = paid.owner
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    _check(dispute, currency=sync.currency, livemode=livemode)
    cash.ensure(session, paid, livemode=livemode, cause=cause, now=now)
    cash.own(session, dispute["id"], kind="dispute", owner=owner, part_of=paid.payment, now=now)
    cash.own(session, id_of(dispute.get("charge")), kind="charge", owner=owner, part_of=paid.payment, now=now)
    due_by = (dispute.get("evidence_details") or {}).get("due_by")
    record_dispute(
        session,
        customer_id=owner.customer_id,
        provider=PROVIDER,
        external_id=dispute["id"],
        invoice_id=owner.invoice_id,
        payment_external_id=paid.payment,
        amount=amounts.from_minor(dispute["amount"], dispute["currency"]),
        currency=sync.currency,
        reason=dispute.get("reason") or "unknown",
        status=dispute["status"],
        evidence_due_at=instant(due_by) if due_by else None,
        opened_at=instant(dispute["created"]),
        actor=ACTOR,
        now=now,
    )
    note_effect(session, owner, f"dp:{dispute['id']}:{dispute['status']}", cause=cause, now=now)
    for transaction in dispute.get("balance_transactions") or []:
        _move(session, dispute, transaction, paid=paid, house=house, cause=cause, now=now)
    _tell(session, dispute, sync=sync, owner=owner, cause=cause, now=now)


def _move(
    session: Session,
    dispute: Json,
    transaction: Json,
    *,
    paid: Paid,
    house: House | None,
    cause: str,
    now: datetime,
) -> None:
    owner, is_exchanged = paid.owner, not exchanges.fits(session, transaction, paid.owner)
    if is_exchanged and house is None:
        return
    if not note_effect(session, owner, exchanges.effect(transaction["id"]), cause=cause, now=now):
        return
    amount_minor, fee = transaction["amount"], amounts.from_minor(transaction["fee"], transaction["currency"])
    if is_exchanged and house is not None:
        # Its fee is not in the customer's currency: it is the house's.
        amount_minor, fee = exchanges.amounts_of_dispute(dispute)[transaction["id"]], Decimal(0)
        exchanges.record(session, transaction, amount_minor=amount_minor, paid=paid, house=house, now=now)
        if amount_minor == 0:
            return
    move_dispute_funds(
        session,
        customer_id=owner.customer_id,
        provider=PROVIDER,
        external_id=dispute["id"],
        transaction=transaction["id"],
        amount=amounts.from_minor(amount_minor, dispute["currency"]),
        fee=fee,
        at=instant(transaction["created"]),
        actor=ACTOR,
        now=now,
    )


def _tell(session: Session, dispute: Json, *, sync: StripeSync, owner: Owner, cause: str, now: datetime) -> None:
    """A dispute that waits for our answer is a task with a date; once it does not, the task is gone."""
    if dispute["status"] not in NEEDS_RESPONSE:
        resolve_gone(
            session, kind=TASK, subject=dispute["id"], cause=f"The dispute is {dispute['status']} now.", now=now
        )
        return
    due_by = (dispute.get("evidence_details") or {}).get("due_by")
    until = f" Stripe takes evidence until {instant(due_by):%Y-%m-%d %H:%M} UTC." if due_by else ""
    amount = f"{amounts.from_minor(dispute['amount'], sync.currency)} {sync.currency}"
    open_task(
        session,
        kind=TASK,
        subject=dispute["id"],
        title=f"A payment of invoice {sync.number} is disputed",
        text=f"The customer's bank disputes {amount} ({dispute.get('reason')}).{until} Hand in evidence at Stripe, or "
        "accept the dispute on the invoice's page.",
        cause=cause,
        now=now,
        customer_id=owner.customer_id,
        invoice_id=owner.invoice_id,
        details={"dispute": dispute["id"], "amount_minor": dispute["amount"]},
    )


def _check(dispute: Json, *, currency: str, livemode: bool) -> None:
    if bool(dispute["livemode"]) is not livemode:
        raise EventRefused(f"{dispute['id']} has livemode {dispute['livemode']}, our key says {livemode}.")
    if dispute["currency"].upper() != currency:
        raise EventRefused(f"{dispute['id']} is in {dispute['currency'].upper()}, its invoice in {currency}.")


# Accepting one


def _dispute_of(operation: StripeOperation) -> str:
    return str(json.loads(operation.intent)["dispute"])


def _prepare(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    dispute = desk.client.retrieve_dispute(_dispute_of(operation))
    return _judge(operation, dispute) if dispute["status"] in OVER else Ready({}, target=dispute["id"])


def _send(client: Client, operation: StripeOperation, body: Json, key: str) -> Json:
    return client.close_dispute(_dispute_of(operation), body, key=key)


def _find(client: Client, operation: StripeOperation, _body: Json) -> Json | None:
    dispute = client.retrieve_dispute(_dispute_of(operation))
    return dispute if dispute["status"] in OVER else None


def _judge(_operation: StripeOperation, dispute: Json) -> Ended | Denied:
    if dispute["status"] == "lost":
        return Ended(dispute["id"], "lost", dispute)
    return Denied(f"dispute_is_{dispute['status']}", f"At Stripe {dispute['id']} is {dispute['status']} already.")


def _settle(session: Session, operation: StripeOperation, outcome: Outcome, now: datetime) -> None:
    assert operation.invoice_id is not None  # noqa: S101 - a constraint says so too
    dispute = outcome.found if isinstance(outcome, Ended) else None
    known = None if dispute is None else outbox.owner_of(session, dispute["id"])
    if dispute is not None and known is not None and known.part_of is not None:
        paid = Paid(Owner(operation.customer_id, operation.invoice_id), known.part_of)
        record(
            session,
            dispute,
            paid=paid,
            livemode=bool(dispute["livemode"]),
            cause=f"operation {operation.id}",
            now=now,
        )
    settle_movement(session, operation, outcome, now=now)


ACT = Act("mv", "close", False, _prepare, _send, _find, _judge, _settle)
