"""What the support pages and figures read: how far syncs are, and what stands in the inbox. Read-only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, or_, select, text, tuple_
from sqlalchemy.orm import Session, load_only

from invoicing.provider import InboxEvent, SyncState
from stripe_gateway.outbox import UNFINISHED
from stripe_gateway.tables import StripeEvent, StripeOperation, StripeSync

DASHBOARD = "https://dashboard.stripe.com"


@dataclass(frozen=True, slots=True)
class DueWork:
    """Something that a worker should do now.

    `kind` is "event" (ids: the event's), "sync" (customer's, invoice's) or "operation" (customer's, its own).
    """

    kind: str
    ids: tuple[str, ...]
    due_at: datetime


def due_work(session: Session, *, now: datetime, limit: int) -> list[DueWork]:
    """What is due and in nobody's hands, the longest due first."""
    free = text("(lease_until IS NULL OR lease_until < clock_timestamp())")
    events = (
        select(StripeEvent.id, StripeEvent.next_attempt_at)
        .where(StripeEvent.state == "pending", StripeEvent.next_attempt_at <= now, free)
        .order_by(StripeEvent.next_attempt_at)
        .limit(limit)
    )
    syncs = (
        select(StripeSync.customer_id, StripeSync.invoice_id, StripeSync.next_attempt_at)
        .where(StripeSync.state.in_(UNFINISHED), StripeSync.next_attempt_at <= now, free)
        .order_by(StripeSync.next_attempt_at)
        .limit(limit)
    )
    found = [DueWork("event", (event_id,), due_at) for event_id, due_at in session.execute(events)]
    found += [
        DueWork("sync", (str(customer), str(invoice)), due_at) for customer, invoice, due_at in session.execute(syncs)
    ]
    asked = (
        select(StripeOperation.customer_id, StripeOperation.id, StripeOperation.next_attempt_at)
        .where(StripeOperation.state.in_(UNFINISHED), StripeOperation.next_attempt_at <= now, free)
        .order_by(StripeOperation.next_attempt_at)
        .limit(limit)
    )
    found += [
        DueWork("operation", (str(customer), str(one)), due_at) for customer, one, due_at in session.execute(asked)
    ]
    return sorted(found, key=lambda work: work.due_at)[:limit]


def dashboard_url(external_id: str | None, *, livemode: bool, api_base: str | None) -> str | None:
    """Where a person looks at this object: at Stripe, or on the sandbox's own page."""
    if external_id is None:
        return None
    if api_base is not None:
        return f"{api_base}/objects/{external_id}"
    page = _PAGES.get(external_id.partition("_")[0], "invoices")
    return f"{DASHBOARD}/{'' if livemode else 'test/'}{page}/{external_id}"


_PAGES = {"re": "refunds", "cn": "credit_notes", "dp": "disputes", "du": "disputes", "cus": "customers"}


def operation_state(operation: StripeOperation, *, url: str | None) -> SyncState:
    """One row of the second outbox as others see it; it may also have ended as refused."""
    running = operation.lease_until is not None and operation.lease_until > datetime.now(UTC)
    return SyncState(
        invoice_id=operation.invoice_id or operation.id,
        state="running" if running and operation.step != "done" else operation.state,
        step=operation.kind if operation.step == "send" else operation.step,
        attempts=operation.attempts,
        external_id=operation.external_id,
        external_status=operation.external_status,
        last_error=operation.last_error,
        next_attempt_at=operation.next_attempt_at if operation.state in UNFINISHED else None,
        done_at=operation.done_at,
        dashboard_url=url,
    )


@dataclass(frozen=True, slots=True)
class TroubledOperation:
    """An operation that stands still, or whose answer was lost. `invoice_id` is None if it is about no invoice."""

    customer_id: UUID
    subject_id: UUID
    invoice_id: UUID | None
    kind: str
    state: str
    attempts: int
    last_error: str | None


def operation_counts(session: Session) -> dict[str, int]:
    """How many operations are in each state."""
    return _counted(session, StripeOperation.state)


def problem_operations(session: Session, *, limit: int) -> list[TroubledOperation]:
    """Operations that need a person's eye, the oldest first."""
    rows = session.scalars(
        select(StripeOperation)
        .where(StripeOperation.state.in_(("parked", "unknown")))
        .order_by(StripeOperation.created_at, StripeOperation.id)
        .limit(limit)
    )
    return [
        TroubledOperation(
            customer_id=row.customer_id,
            subject_id=row.id,
            invoice_id=row.invoice_id,
            kind=row.kind,
            state=row.state,
            attempts=row.attempts,
            last_error=row.last_error,
        )
        for row in rows
    ]


def sync_state(sync: StripeSync, *, url: str | None) -> SyncState:
    """One row of the outbox as others see it."""
    running = sync.lease_until is not None and sync.lease_until > datetime.now(UTC) and sync.state != "done"
    return SyncState(
        invoice_id=sync.invoice_id,
        state="running" if running else sync.state,
        step=sync.step,
        attempts=sync.attempts,
        external_id=sync.external_id,
        external_status=sync.external_status,
        last_error=sync.last_error,
        next_attempt_at=sync.next_attempt_at if sync.state in ("due", "waiting", "unknown") else None,
        done_at=sync.done_at,
        dashboard_url=url,
    )


def syncs(session: Session, keys: Sequence[tuple[UUID, UUID]]) -> list[StripeSync]:
    """The outbox rows of these `(customer_id, invoice_id)`."""
    if not keys:
        return []
    return list(
        session.scalars(select(StripeSync).where(tuple_(StripeSync.customer_id, StripeSync.invoice_id).in_(list(keys))))
    )


def problem_syncs(session: Session, *, limit: int) -> list[StripeSync]:
    """Syncs that need a person's eye, the oldest first."""
    return list(
        session.scalars(
            select(StripeSync)
            .where(
                or_(
                    StripeSync.state.in_(("parked", "unknown")),
                    (StripeSync.state == "done") & StripeSync.last_code.is_not(None),
                )
            )
            .order_by(StripeSync.created_at, StripeSync.invoice_id)
            .limit(limit)
        )
    )


def sync_counts(session: Session) -> dict[str, int]:
    """How many syncs are in each state."""
    return _counted(session, StripeSync.state)


def inbox_counts(session: Session) -> dict[str, int]:
    """How many events are in each state."""
    return _counted(session, StripeEvent.state)


def _counted(session: Session, column: object) -> dict[str, int]:
    rows = session.execute(select(column, func.count()).group_by(column))  # type: ignore[call-overload]  # a mapped column of either table
    return {str(state): int(count) for state, count in rows}


def inbox(session: Session, *, state: str | None, before: datetime | None, limit: int) -> list[InboxEvent]:
    """Stored events, the newest first, without payload."""
    query = select(StripeEvent).options(load_only(*_SHOWN)).order_by(StripeEvent.received_at.desc(), StripeEvent.id)
    if state is not None:
        query = query.where(StripeEvent.state == state)
    if before is not None:
        query = query.where(StripeEvent.received_at < before)
    return [_inbox_event(event, payload={}) for event in session.scalars(query.limit(limit))]


def inbox_event(session: Session, event_id: str) -> InboxEvent | None:
    """One event with its payload."""
    event = session.scalars(select(StripeEvent).where(StripeEvent.id == event_id)).one_or_none()
    return None if event is None else _inbox_event(event, payload=json.loads(event.payload))


_SHOWN = (
    StripeEvent.id,
    StripeEvent.type,
    StripeEvent.object_id,
    StripeEvent.received_at,
    StripeEvent.deliveries,
    StripeEvent.state,
    StripeEvent.attempts,
    StripeEvent.handled_at,
    StripeEvent.code,
    StripeEvent.error,
    StripeEvent.customer_id,
    StripeEvent.source,
)


def _inbox_event(event: StripeEvent, *, payload: dict[str, object]) -> InboxEvent:
    return InboxEvent(
        id=event.id,
        type=event.type,
        object_id=event.object_id,
        received_at=event.received_at,
        deliveries=event.deliveries,
        state=event.state,
        attempts=event.attempts,
        handled_at=event.handled_at,
        error=event.error,
        customer_id=event.customer_id,
        payload=payload,
        code=event.code,
        source=event.source,
    )
