"""The second outbox: what is asked of Stripe about an invoice that stands there, one write each.

Every function here is a short transaction, or works in the caller's, and makes no call to Stripe.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.provider import (
    AcceptDisputeOrder,
    CreditNoteOrder,
    EndOrder,
    MovementOrder,
    OutsidePaymentOrder,
    RefundOrder,
)
from ledger.books import NAMESPACE, lock_books
from stripe_gateway import bodies, leases, outbox
from stripe_gateway.acts import Act, Denied, Outcome, Ready
from stripe_gateway.amounts import to_minor
from stripe_gateway.errors import GatewayError, OperationIsDone, OperationNotFound
from stripe_gateway.outbox import UNFINISHED, Freeze
from stripe_gateway.tables import StripeOperation

KEYS = leases.KEYS[StripeOperation]
ENDED = ("done", "refused")


class OrderConflict(GatewayError):
    """This order was given before with other content. Nothing was written."""

    code = "stripe_order_conflict"


def carry_out(session: Session, order: MovementOrder, *, now: datetime) -> None:
    """Write the intent of one order, frozen. The same order again changes nothing. The caller commits.

    Raises:
        OrderConflict: the same id came before with other content.
        AmountNotExpressible: Stripe cannot move this amount.
    """
    values = _values_of(order)
    intent = bodies.frozen(values["intent"])
    written = session.execute(
        insert(StripeOperation)
        .values(**{**values, "intent": intent, "next_attempt_at": now, "created_at": now})
        .on_conflict_do_nothing(index_elements=list(KEYS))
        .returning(StripeOperation.id)
    ).first()
    if written is None:
        known = session.get_one(StripeOperation, (order.customer_id, values["id"]), populate_existing=True)
        if known.intent != intent:
            raise OrderConflict(f"Order {values['id']} was given before with other content. Nothing was written.")


def _values_of(order: MovementOrder) -> dict[str, Any]:
    values: dict[str, Any] = {
        "customer_id": order.customer_id,
        "invoice_id": order.invoice_id,
        "movement_id": order.movement_id,
        "currency": None,
        "amount_minor": None,
    }
    if isinstance(order, EndOrder):
        return values | {"id": order.movement_id, "kind": order.kind, "intent": {"end": order.kind}}
    if isinstance(order, AcceptDisputeOrder):
        return values | {"id": order.movement_id, "kind": "close_dispute", "intent": {"dispute": order.dispute}}
    amount_minor = to_minor(order.amount, order.currency)
    values |= {"currency": order.currency, "amount_minor": amount_minor}
    if isinstance(order, OutsidePaymentOrder):
        told: dict[str, Any] = {"reference": order.reference}
        if not order.left:
            return values | {"id": order.movement_id, "kind": "pay_outside", "intent": told}
        told["left"] = to_minor(order.left, order.currency)
        return values | {"id": order.movement_id, "kind": "pay_part", "intent": told}
    if isinstance(order, RefundOrder):
        intent: dict[str, Any] = {"payment": order.payment, "reason": order.reason, "amount": amount_minor}
        return values | {"id": order.refund_id, "kind": "refund", "intent": intent}
    assert isinstance(order, CreditNoteOrder)  # noqa: S101 - the last of the union
    intent = {
        "number": order.number,
        "amount": amount_minor,
        "refund_ids": sorted(str(refund_id) for refund_id in order.refund_ids),
        "reason": order.reason,
    }
    return values | {"id": order.credit_note_id, "kind": "credit_note", "intent": intent}


def set_balance_to_zero(
    session: Session, *, customer_id: UUID, invoice_id: UUID | None, cause: str, now: datetime
) -> UUID:
    """Write the intent to bring a customer's balance at Stripe back to 0; returns its id. The caller commits.

    Our books hold what was paid too much; if Stripe held it as well, it would be used up twice. `cause` is what made
    the balance, such as `over:in_1`: each cause is one operation.
    """
    operation_id = uuid5(NAMESPACE, f"stripe balance\x1f{customer_id}\x1f{cause}")
    session.execute(
        insert(StripeOperation)
        .values(
            customer_id=customer_id,
            id=operation_id,
            kind="balance",
            invoice_id=invoice_id,
            intent=bodies.frozen({"cause": cause}),
            next_attempt_at=now,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )
    return operation_id


def claim_next(engine: Engine, *, now: datetime) -> StripeOperation | None:
    """Claim the operation that is due longest; None if none is."""
    return _claim(engine, leases.CLAIM_OPERATION, now=now)


def claim(engine: Engine, *, customer_id: UUID, operation_id: UUID, now: datetime) -> StripeOperation | None:
    """Claim one operation; None if it is not due, or in work elsewhere."""
    return _claim(engine, leases.CLAIM_ONE_OPERATION, now=now, customer_id=customer_id, id=operation_id)


def _claim(engine: Engine, statement: Any, **values: Any) -> StripeOperation | None:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        query = select(StripeOperation).from_statement(statement.bindparams(lease_s=leases.LEASE_S, **values))
        return session.scalars(query).one_or_none()


def freeze(engine: Engine, operation: StripeOperation, ready: Ready, *, key: str, now: datetime) -> StripeOperation:
    """Freeze the request before it is first sent; the next step is to send it.

    Raises:
        LeaseLost: another process went on with it.
    """
    # What was tried before the request was frozen says nothing about how it fares.
    calm = {"state": "due", "attempts": 1, "unsure_at": None, "last_code": None, "last_error": None}
    values: dict[str, Any] = {"step": "send", **calm}
    if ready.target is not None:
        values["external_id"] = ready.target
    with Session(engine, expire_on_commit=False) as session, session.begin():
        written = leases.write(session, operation, keys=KEYS, keep_lease=True, values=values)
        frozen = Freeze(operation.kind, bodies.frozen(ready.body), key)
        outbox.write_request(
            session, written.customer_id, written.id, generation=written.generation, freeze=frozen, now=now
        )
        return written


def end(engine: Engine, operation: StripeOperation, act: Act, outcome: Outcome, *, now: datetime) -> StripeOperation:
    """End a claimed operation and tell the books, in one transaction: the two never disagree.

    Raises:
        LeaseLost: another process went on with it, or an event was faster; nothing was written.
        InvoicingError, LedgerError: the books refuse it; nothing was written.
    """
    with Session(engine, expire_on_commit=False) as session, session.begin():
        # The books' lock comes first everywhere, so that an event and its answer cannot wait for each other.
        lock_books(session, [operation.customer_id])
        written = leases.write(session, operation, keys=KEYS, keep_lease=False, values=_end_values(outcome, now=now))
        _after(session, written, act, outcome, now=now)
        return written


def confirm(session: Session, operation: StripeOperation, act: Act, outcome: Outcome, *, now: datetime) -> bool:
    """End an operation by what an event or a list shows; False if it had ended. The caller commits.

    A worker that still waits for its answer loses the lease and stops.
    """
    lock_books(session, [operation.customer_id])
    row = session.get_one(
        StripeOperation, (operation.customer_id, operation.id), with_for_update=True, populate_existing=True
    )
    if row.state in ENDED:
        return False
    for name, value in _end_values(outcome, now=now).items():
        setattr(row, name, value)
    row.fence += 1
    row.lease_until = None
    session.flush()
    _after(session, row, act, outcome, now=now)
    return True


def _end_values(outcome: Outcome, *, now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {"step": "done", "done_at": now, "attempts": 0, "unsure_at": None}
    if isinstance(outcome, Denied):
        return values | {"state": "refused", "last_code": outcome.code, "last_error": outcome.reason}
    values |= {"state": "done", "external_status": outcome.status, "last_code": None, "last_error": None}
    if outcome.external_id is not None:
        values["external_id"] = outcome.external_id
    return values


def _after(session: Session, operation: StripeOperation, act: Act, outcome: Outcome, *, now: datetime) -> None:
    act.settle(session, operation, outcome, now)
    outbox.wake(session, customer_id=operation.customer_id, invoice_id=operation.invoice_id, now=now)


def find(session: Session, *, customer_id: UUID, operation_id: UUID) -> StripeOperation | None:
    return session.get(StripeOperation, (customer_id, operation_id))


def about(session: Session, *, customer_id: UUID, invoice_id: UUID, kind: str) -> list[StripeOperation]:
    """The operations of one kind about an invoice that Stripe did not refuse, the oldest first."""
    return list(
        session.scalars(
            select(StripeOperation)
            .where(
                StripeOperation.customer_id == customer_id,
                StripeOperation.invoice_id == invoice_id,
                StripeOperation.kind == kind,
                StripeOperation.state != "refused",
            )
            .order_by(StripeOperation.created_at, StripeOperation.id)
        )
    )


def retry(session: Session, *, customer_id: UUID, operation_id: UUID, now: datetime) -> None:
    """Make a parked or waiting operation due now; one that may have been sent asks Stripe first. The caller commits.

    Raises:
        OperationNotFound, OperationIsDone.
    """
    row = session.get(StripeOperation, (customer_id, operation_id), with_for_update=True, populate_existing=True)
    if row is None:
        raise OperationNotFound("Nothing was asked of Stripe under this id. Reload the page.")
    if row.state in ENDED:
        raise OperationIsDone(f"Stripe's answer is in the books already ({row.state}); there is nothing to try again.")
    if row.state == "parked":
        row.state = "unknown" if row.step == "send" else "due"
    row.attempts = 0
    row.next_attempt_at = now


def states(session: Session, *, customer_id: UUID, subjects: Sequence[UUID]) -> list[StripeOperation]:
    """The operations of these subjects."""
    if not subjects:
        return []
    return list(
        session.scalars(
            select(StripeOperation).where(
                StripeOperation.customer_id == customer_id, StripeOperation.id.in_(list(subjects))
            )
        )
    )


def counts(engine: Engine) -> dict[str, int]:
    """How many operations are in each state, ended ones left out."""
    with Session(engine) as session:
        rows = session.execute(
            select(StripeOperation.state, func.count())
            .where(StripeOperation.state.not_in(ENDED))
            .group_by(StripeOperation.state)
        )
        return {str(state): int(number) for state, number in rows}


def next_due_at(engine: Engine) -> datetime | None:
    """When the next unfinished operation can be claimed; None if none is left."""
    free_at = func.greatest(StripeOperation.next_attempt_at, StripeOperation.lease_until)
    with Session(engine) as session:
        found: datetime | None = session.scalar(select(func.min(free_at)).where(StripeOperation.state.in_(UNFINISHED)))
        return found
