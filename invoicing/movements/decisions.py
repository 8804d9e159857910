"""Decisions: how a movement ends, written once, with its line in the invoice's history."""

from datetime import datetime

from sqlalchemy.orm import Session

from invoicing.history import record
from invoicing.movements.tables import Movement
from invoicing.movements.tasks import open_task
from invoicing.tables import Invoice
from ledger.money import plain

NAMES = {
    "credit_note": "credit note",
    "refund_unapplied": "refund",
    "keep_unapplied": "credit instead of a refund",
    "void": "void",
    "write_off": "write-off",
    "outside_payment": "payment outside the provider",
    "accept_dispute": "acceptance of the dispute",
}
"""How people call each kind of movement."""


def done(
    session: Session,
    invoice: Invoice,
    movement: Movement,
    *,
    external_id: str | None,
    note: str | None = None,
    actor: str,
    now: datetime,
) -> None:
    """The movement is through; `external_id` is what it is called at the provider. The caller commits."""
    movement.state, movement.decided_at, movement.note = "done", now, note
    movement.external_id = external_id or movement.external_id
    session.flush()
    record(
        session,
        invoice,
        action=f"{NAMES[movement.kind]} done",
        actor=actor,
        now=now,
        reason=note,
        details=_details(movement),
    )


def refused(
    session: Session, invoice: Invoice, movement: Movement, *, code: str, reason: str, actor: str, now: datetime
) -> None:
    """The movement did not happen: a person has to look, so a task opens. The caller commits."""
    movement.state, movement.decided_at, movement.code, movement.note = "refused", now, code[:200], reason[:2000]
    session.flush()
    name = NAMES[movement.kind]
    record(
        session,
        invoice,
        action=f"{name} refused",
        actor=actor,
        now=now,
        reason=reason[:2000],
        details={**_details(movement), "code": code},
    )
    open_task(
        session,
        kind="movement_refused",
        subject=str(movement.id),
        title=f"The {name} for {invoice.number} was refused",
        text=f"{movement.actor} asked for it: {movement.reason} It was refused: {reason} Decide what to do instead, "
        "and start that from the invoice.",
        cause=f"{actor}: {code}",
        now=now,
        customer_id=invoice.customer_id,
        invoice_id=invoice.id,
        details={**_details(movement), "code": code},
    )


def _details(movement: Movement) -> dict[str, str]:
    return {"movement": str(movement.id), "kind": movement.kind, "amount": plain(movement.amount)}
