"""Credit notes at Stripe: ours told to Stripe once its refunds exist; what somebody made there is a task for a person.

Source: https://docs.stripe.com/invoicing/integration/programmatic-credit-notes - a credit note first reduces what
remains to be paid; the rest must be covered by refunds, by what was given back elsewhere, or by Stripe's balance.
"""

import json
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements.tables import CreditNote, Refund
from invoicing.movements.tasks import open_task
from invoicing.tax.credits import credit_note_taxes_of
from invoicing.tax.invoices import taxes_of
from stripe_gateway import amounts, cash, operations
from stripe_gateway.acts import Act, Denied, Desk, Ended, Outcome, Ready, settle_movement
from stripe_gateway.cash import EventRefused, note_effect
from stripe_gateway.client import Client, Json
from stripe_gateway.errors import NotYet
from stripe_gateway.invoice_ends import standing
from stripe_gateway.ownership import Owner
from stripe_gateway.tables import StripeOperation, StripeSync
from stripe_gateway.taxes import credited


def _prepare(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    sync = standing(desk, operation)
    if sync is None or sync.external_id is None:
        return Ended(None)
    intent = json.loads(operation.intent)
    refunds = _refunds(desk, operation, intent["refund_ids"])
    invoice = desk.client.retrieve_invoice(sync.external_id)
    if invoice["status"] in ("draft", "void"):
        return Denied(f"invoice_is_{invoice['status']}", f"At Stripe {invoice['id']} is {invoice['status']}.")
    amount = int(intent["amount"])
    # What Stripe says remains is what its rules count with, not what remained when we decided.
    before_payment = min(amount, invoice["amount_remaining"])
    refunded = sum(part["amount_refunded"] for part in refunds)
    kept = amount - before_payment - refunded
    if kept < 0:
        return Denied(
            "credit_note_differs",
            f"At Stripe {invoice['amount_remaining']} of {invoice['id']} remain to be paid and {refunded} were given "
            f"back, together more than the note's {amount} (minor units). Compare the two.",
        )
    body: Json = {
        "invoice": invoice["id"],
        **_made_of(desk, operation, invoice, amount=amount, number=intent["number"]),
        "memo": f"Credit note {intent['number']}",
        "metadata": {
            "ledger_credit_note_id": str(operation.id),
            "ledger_invoice_id": str(operation.invoice_id),
            "ledger_customer_id": str(operation.customer_id),
            "number": intent["number"],
        },
    }
    if refunds:
        body["refunds"] = refunds
    if kept:
        # Never `credit_amount`: a balance at Stripe would pay the next invoice behind the ledger's back.
        body["out_of_band_amount"] = kept
    return Ready(body)


def _made_of(desk: Desk, operation: StripeOperation, invoice: Json, *, amount: int, number: str) -> Json:
    """What the note is over: one line with the taxes that it gives back; the amount alone where there are none.

    Stripe adds a tax on top to its line, so that its total is ours. Taxes that Stripe shows otherwise than we sent them
    are left out: the amount is right then, and Stripe's page says nothing of tax.
    """
    with Session(desk.engine, expire_on_commit=False) as session:
        note = session.get(CreditNote, (operation.customer_id, operation.id))
        if note is None:
            return {"amount": amount}
        given_back = credit_note_taxes_of(session, note=note)
        of = taxes_of(session, customer_id=note.customer_id, invoice_id=note.invoice_id)
    at_stripe = invoice.get("total_taxes") or []
    taxes = credited(given_back, of=of, at_stripe=at_stripe, currency=operation.currency or "")
    if not taxes:
        return {"amount": amount}
    on_top = sum(tax["amount"] for tax, part in zip(taxes, given_back, strict=True) if not part.tax.inclusive)
    line: Json = {
        "type": "custom_line_item",
        "description": f"Credit note {number}",
        "quantity": 1,
        "unit_amount": amount - on_top,
        "tax_amounts": taxes,
    }
    return {"lines": [line]}


def _refunds(desk: Desk, operation: StripeOperation, wanted: list[str]) -> list[Json]:
    """The refunds of this note as Stripe knows them. One that failed gave nothing back, so it is left out.

    Raises:
        NotYet: one of them was not made yet.
    """
    with Session(desk.engine, expire_on_commit=False) as session:
        rows = session.scalars(
            select(Refund).where(
                Refund.customer_id == operation.customer_id, Refund.id.in_([UUID(one) for one in wanted])
            )
        ).all()
    refunds = []
    for row in sorted(rows, key=lambda row: row.id):
        if row.state in ("failed", "canceled"):
            continue
        if row.external_id is None:
            raise NotYet("The refund of this credit note is not made yet.")
        # The bank may have sent it back already, before we heard of it; Stripe takes no note that names such a refund.
        if desk.client.retrieve_refund(row.external_id)["status"] in ("failed", "canceled"):
            continue
        currency = operation.currency or ""
        refunds.append({"refund": row.external_id, "amount_refunded": amounts.to_minor(row.amount, currency)})
    return refunds


def _send(client: Client, _operation: StripeOperation, body: Json, key: str) -> Json:
    return client.create_credit_note(body, key=key)


def _find(client: Client, operation: StripeOperation, body: Json) -> Json | None:
    """Our note among the invoice's, by our id in its metadata."""
    for note in client.list_credit_notes(invoice=body["invoice"]):
        if (note.get("metadata") or {}).get("ledger_credit_note_id") == str(operation.id):
            return note
    return None


def _judge(operation: StripeOperation, note: Json) -> Ended | Denied:
    if note["total"] != operation.amount_minor or note["currency"].upper() != operation.currency:
        raise EventRefused(
            f"{note['id']} is over {note['total']} {note['currency'].upper()}, ours over {operation.amount_minor} "
            f"{operation.currency} (minor units)."
        )
    return Ended(note["id"], note["status"], note)


def _settle(session: Session, operation: StripeOperation, outcome: Outcome, now: datetime) -> None:
    assert operation.invoice_id is not None  # noqa: S101 - a constraint says so too
    owner = Owner(operation.customer_id, operation.invoice_id)
    if isinstance(outcome, Ended) and outcome.external_id is not None:
        cash.own(session, outcome.external_id, kind="credit_note", owner=owner, part_of=None, now=now)
    settle_movement(session, operation, outcome, now=now)


ACT = Act("cn", "create", True, _prepare, _send, _find, _judge, _settle)


def record(session: Session, note: Json, *, owner: Owner, livemode: bool, cause: str, now: datetime) -> None:
    """Confirm our credit note, or open a task about one that is not ours, or is void. The caller commits.

    Raises:
        EventRefused: it does not fit our record.
    """
    if bool(note.get("livemode", livemode)) is not livemode:
        raise EventRefused(f"{note['id']} has livemode {note['livemode']}, our key says {livemode}.")
    operation = _ours(session, note, owner=owner)
    if operation is not None:
        operations.confirm(session, operation, ACT, _judge(operation, note), now=now)
    if not note_effect(session, owner, f"cn:{note['id']}:{note['status']}", cause=cause, now=now):
        return
    sync = session.get_one(StripeSync, (owner.customer_id, owner.invoice_id))
    amount = f"{amounts.from_minor(note['total'], note['currency'])} {note['currency'].upper()}"
    if operation is None:
        open_task(
            session,
            kind="foreign_credit_note",
            subject=note["id"],
            title=f"Credit note {note.get('number') or note['id']} was made at Stripe",
            text=f"Somebody made a credit note over {amount} on invoice {sync.number} at Stripe, not here. The books "
            "do not know of it. Make the same credit note here if it is right, or void it at Stripe.",
            cause=cause,
            now=now,
            customer_id=owner.customer_id,
            invoice_id=owner.invoice_id,
            details={"credit_note": note["id"], "amount_minor": note["total"]},
        )
    elif note["status"] == "void":
        open_task(
            session,
            kind="credit_note_voided",
            subject=note["id"],
            title=f"Our credit note {note.get('number') or note['id']} was voided at Stripe",
            text=f"The credit note over {amount} on invoice {sync.number} stands in the books, but somebody voided it "
            "at Stripe. Find out who, and why.",
            cause=cause,
            now=now,
            customer_id=owner.customer_id,
            invoice_id=owner.invoice_id,
            details={"credit_note": note["id"]},
        )


def _ours(session: Session, note: Json, *, owner: Owner) -> StripeOperation | None:
    named = (note.get("metadata") or {}).get("ledger_credit_note_id")
    try:
        operation = operations.find(session, customer_id=owner.customer_id, operation_id=UUID(named or ""))
    except ValueError:
        return None
    return operation if operation is not None and operation.invoice_id == owner.invoice_id else None
