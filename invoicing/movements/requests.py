"""Movements: what staff or a program begin with a final invoice, from the wish, past a second person, to its end."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.adjustments import SecondPersonNeeded
from invoicing.drafts import checked_reason
from invoicing.history import record
from invoicing.movements import beginnings
from invoicing.movements.decisions import NAMES, done, refused
from invoicing.movements.endings import money_moved, post_void, post_write_off
from invoicing.movements.refusals import (
    BadOptions,
    MovementConflict,
    MovementNotFound,
    MovementUnderWay,
    NotAwaitingApproval,
)
from invoicing.movements.standing import Standing, lock_invoice, standing_of
from invoicing.movements.tables import Movement
from invoicing.provider import Provider
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger.books import lock_books
from ledger.money import plain

ENDINGS = ("void", "write_off", "outside_payment")
"""Kinds that end an invoice: while one is under way nothing else begins, and they wait for everything else."""


def request_movement(
    session: Session,
    *,
    customer_id: UUID,
    invoice_id: UUID,
    movement_id: UUID,
    kind: str,
    amount: Decimal | None,
    options: Mapping[str, Any],
    reason: str,
    actor: str,
    provider: Provider,
    settings: Settings,
    now: datetime,
) -> Movement:
    """Begin something with a final invoice, or ask a second person first. The caller commits.

    `movement_id` is the caller's: the same again, with the same content, answers the first movement and does nothing.
    `amount` is in major units; None takes what there is (all that is open, unapplied or disputed; a credit note needs
    one). Above `settings.approval_limit` a credit note, a refund, a write-off and a void that gives the charges up
    await `approve_movement`. The kinds and their options:

    - credit_note {"paid_part": "refund" | "keep"}: what was paid already goes back, or is kept as prepaid credit;
      may be left out if nothing of it was paid by cash.
    - refund_unapplied {"payment": its external id, or nothing}: send money back that is the customer's, unapplied.
    - keep_unapplied {}: make that money prepaid credit.
    - void {"then": "rebill" | "give_up"}: as if it had never been; then bill the charges again, or never.
    - write_off {}: give up what is open; it may be paid after all.
    - outside_payment {"received_at": ISO 8601 with a zone, "reference": the bank's}: money that came past the
      provider. A part may come: what it leaves open is collected on, and has to be enough for that.
    - accept_dispute {"dispute": its external id}: contest it no longer.

    Raises:
        InvoiceNotFound, ReasonMissing, BadOptions, BadAmount: what was sent is not complete.
        MovementConflict: the id was used with other content.
        MovementUnderWay, MovementNotPossible, AmountTooLarge: the invoice does not allow it; the text names the cure.
        PaymentConflict, PaymentRefused: of an outside payment, what `record_payment` raises.
    """
    reason = checked_reason(reason)
    begin = _beginning(kind)
    invoice = lock_invoice(session, customer_id=customer_id, invoice_id=invoice_id)
    known = session.get(Movement, (customer_id, movement_id), populate_existing=True)
    if known is not None:
        asked = (invoice_id, kind, amount if amount is not None else known.amount, dict(options), reason)
        if asked != (known.invoice_id, known.kind, known.amount, known.options, known.reason):
            raise MovementConflict(
                "A movement with this id was asked for before with other content. Nothing was written; use a new id."
            )
        return known
    standing = standing_of(session, invoice)
    _check_alone(standing, kind)
    wish = begin.check(session, standing, amount=amount, options=options, provider=provider)
    needs_approval = wish.may_need_approval and wish.amount > settings.approval_limit
    window_s = int(settings.draft_window.total_seconds()) if kind == "void" else None
    movement = Movement(
        customer_id=customer_id,
        id=movement_id,
        invoice_id=invoice_id,
        kind=kind,
        amount=wish.amount,
        options=dict(options),
        draft_window_s=window_s,
        reason=reason,
        actor=actor,
        requested_at=now,
        needs_approval=needs_approval,
        state="awaiting_approval" if needs_approval else "working",
    )
    session.add(movement)
    session.flush()
    record(
        session,
        invoice,
        action=f"{NAMES[kind]} asked for",
        actor=actor,
        now=now,
        reason=reason,
        details={"movement": str(movement_id), "kind": kind, "amount": plain(wish.amount), **options},
    )
    if not needs_approval:
        begin.begin(session, standing, movement, provider=provider, actor=actor, now=now)
    return movement


def _beginning(kind: str) -> beginnings.Beginning:
    found = beginnings.BY_KIND.get(kind)
    if found is None:
        raise BadOptions(f"{kind!r} is nothing that can be done. It is one of: {', '.join(beginnings.BY_KIND)}.")
    return found


def _check_alone(standing: Standing, kind: str) -> None:
    for other in standing.under_way:
        if kind in ENDINGS or other.kind in ENDINGS:
            cure = (
                "Approve or withdraw it first."
                if other.state == "awaiting_approval"
                else "Wait until the provider has confirmed it."
            )
            raise MovementUnderWay(
                f"A {NAMES[other.kind]} that {other.actor} asked for is under way for invoice "
                f"{standing.invoice.number}. {cure}"
            )


def approve_movement(
    session: Session, *, customer_id: UUID, movement_id: UUID, actor: str, provider: Provider, now: datetime
) -> Movement:
    """Agree, as a second person, and begin. Approved before by the same person, it stays as it is. Caller commits.

    Raises:
        MovementNotFound, NotAwaitingApproval, SecondPersonNeeded, and what `request_movement` raises if the invoice
        changed meanwhile.
    """
    invoice, movement = _locked(session, customer_id, movement_id)
    if movement.approved_by == actor:
        return movement
    if movement.state != "awaiting_approval":
        raise NotAwaitingApproval(f"This {NAMES[movement.kind]} awaits no approval (any more). Reload the invoice.")
    if movement.actor == actor:
        raise SecondPersonNeeded(f"You asked for this {NAMES[movement.kind]}: ask somebody else to approve it.")
    standing = standing_of(session, invoice)
    standing = replace(standing, under_way=[other for other in standing.under_way if other.id != movement.id])
    begin = _beginning(movement.kind)
    begin.check(session, standing, amount=movement.amount, options=movement.options, provider=provider)
    movement.approved_by, movement.approved_at, movement.state = actor, now, "working"
    session.flush()
    record(
        session,
        invoice,
        action=f"{NAMES[movement.kind]} approved",
        actor=actor,
        now=now,
        details={"movement": str(movement.id), "amount": plain(movement.amount)},
    )
    begin.begin(session, standing, movement, provider=provider, actor=movement.actor, now=now)
    return movement


def withdraw_movement(
    session: Session, *, customer_id: UUID, movement_id: UUID, actor: str, reason: str, now: datetime
) -> Movement:
    """Take a movement back that awaits approval: nothing happened. Withdrawn before, it stays so. Caller commits.

    Raises:
        MovementNotFound, NotAwaitingApproval, ReasonMissing.
    """
    reason = checked_reason(reason)
    invoice, movement = _locked(session, customer_id, movement_id)
    if movement.state == "withdrawn":
        return movement
    if movement.state != "awaiting_approval":
        raise NotAwaitingApproval(
            f"This {NAMES[movement.kind]} is {movement.state}: only what awaits approval can be withdrawn."
        )
    movement.state, movement.decided_at, movement.note = "withdrawn", now, reason
    session.flush()
    record(
        session,
        invoice,
        action=f"{NAMES[movement.kind]} withdrawn",
        actor=actor,
        now=now,
        reason=reason,
        details={"movement": str(movement.id), "amount": plain(movement.amount)},
    )
    return movement


def movements_of(session: Session, *, customer_id: UUID, invoice_id: UUID) -> list[Movement]:
    """What was ever begun with this invoice, in order."""
    return list(
        session.scalars(
            select(Movement)
            .where(Movement.customer_id == customer_id, Movement.invoice_id == invoice_id)
            .order_by(Movement.requested_at, Movement.id)
        )
    )


def get_movement(session: Session, *, customer_id: UUID, movement_id: UUID) -> Movement:
    """One movement.

    Raises:
        MovementNotFound: the customer has none with this id.
    """
    movement = session.get(Movement, (customer_id, movement_id), populate_existing=True)
    if movement is None:
        raise MovementNotFound("There is no such movement. Reload the invoice.")
    return movement


def awaiting(session: Session, limit: int = 200) -> list[Movement]:
    """What awaits a second person, over all customers, the oldest first."""
    return list(
        session.scalars(
            select(Movement)
            .where(Movement.state == "awaiting_approval")
            .order_by(Movement.requested_at, Movement.customer_id, Movement.id)
            .limit(limit)
        )
    )


def movement_done(
    session: Session,
    *,
    customer_id: UUID,
    movement_id: UUID,
    external_id: str | None,
    at: datetime,
    actor: str,
    now: datetime,
) -> bool:
    """The provider did what was asked (`at`, called `external_id` there); False if that is known. Caller commits.

    A void and a write-off post their entries only now. If money came before them after all, a void is refused, with a
    task, since the money decides; a write-off gives up what is still open, be it nothing.

    Raises:
        MovementNotFound: the customer has no such movement.
    """
    invoice, movement = _locked(session, customer_id, movement_id)
    if movement.state != "working":
        return False
    note = None
    if movement.kind == "void":
        moved = money_moved(session, invoice)
        if moved is not None or invoice.state not in ("final", "uncollectible"):
            why = moved or f"it is {invoice.state}"
            refused(
                session,
                invoice,
                movement,
                code="overtaken",
                reason=f"The provider made the invoice void, but {why} before. The books follow the money.",
                actor=actor,
                now=now,
            )
            return True
        post_void(session, invoice, movement, at=at, actor=actor, now=now)
    elif movement.kind == "write_off":
        if invoice.state == "final":
            post_write_off(session, invoice, movement, at=at, actor=actor, now=now)
        else:
            note = f"Nothing was open any more: the invoice is {invoice.state}."
    done(session, invoice, movement, external_id=external_id, note=note, actor=actor, now=now)
    return True


def movement_refused(
    session: Session, *, customer_id: UUID, movement_id: UUID, code: str, reason: str, now: datetime
) -> bool:
    """The provider refuses for good; False if the movement ended before. A task opens. The caller commits.

    What stands in our books already (a credit note, an outside payment) stays there: it is true, whatever the provider
    makes of it.

    Raises:
        MovementNotFound: the customer has no such movement.
    """
    invoice, movement = _locked(session, customer_id, movement_id)
    if movement.state != "working":
        return False
    refused(session, invoice, movement, code=code, reason=reason, actor="provider", now=now)
    return True


def _locked(session: Session, customer_id: UUID, movement_id: UUID) -> tuple[Invoice, Movement]:
    lock_books(session, [customer_id])
    movement = get_movement(session, customer_id=customer_id, movement_id=movement_id)
    return lock_invoice(session, customer_id=customer_id, invoice_id=movement.invoice_id), movement
