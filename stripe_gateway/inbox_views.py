"""What people see of the inbox: events with whose they are, what is parked and why, what was kept. Read-only."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from invoicing.provider import InboxEvent, ParkedKind
from stripe_gateway import views
from stripe_gateway.tables import StripeEvent, StripeObject, StripeSync

# Where an event's object names what may be known to be ours. The nearest comes first.
_POINTERS = ("id", "invoice", "payment_intent", "charge", "customer")


_CODE = func.coalesce(StripeEvent.code, literal_column("'unexpected'"))


def listed(session: Session, *, state: str | None, before: datetime | None, limit: int) -> list[InboxEvent]:
    """Stored events, the newest first, without payload; parked ones with whose they are."""
    found = views.inbox(session, state=state, before=before, limit=limit)
    parked = [event.id for event in found if event.state == "parked"]
    owners = _owners(session, parked) if parked else {}
    return [_with_owner(event, owners) for event in found]


def one(session: Session, event_id: str) -> InboxEvent | None:
    """One event with its payload and whose it is."""
    found = views.inbox_event(session, event_id)
    return None if found is None else _with_owner(found, _owners(session, [event_id]))


def parked_kinds(session: Session) -> list[ParkedKind]:
    """What is parked, by reason and type, the most frequent first."""
    rows = session.execute(
        select(
            _CODE,
            StripeEvent.type,
            func.count(),
            func.min(StripeEvent.received_at),
            func.max(StripeEvent.error),
        )
        .where(StripeEvent.state == "parked")
        .group_by(_CODE, StripeEvent.type)
        .order_by(func.count().desc(), StripeEvent.type, _CODE)
    )
    return [ParkedKind(code, kind, count, oldest, error or "") for code, kind, count, oldest, error in rows]


def kept_types(session: Session) -> dict[str, int]:
    """How many events of each type were kept and not acted on, the most frequent first."""
    rows = session.execute(
        select(StripeEvent.type, func.count())
        .where(StripeEvent.state == "ignored")
        .group_by(StripeEvent.type)
        .order_by(func.count().desc(), StripeEvent.type)
    )
    return {str(kind): int(count) for kind, count in rows}


def _with_owner(event: InboxEvent, owners: dict[str, tuple[UUID, UUID | None]]) -> InboxEvent:
    customer_id, invoice_id = owners.get(event.id, (event.customer_id, None))
    return replace(event, customer_id=event.customer_id or customer_id, invoice_id=invoice_id)


def _owners(session: Session, event_ids: Sequence[str]) -> dict[str, tuple[UUID, UUID | None]]:
    """Whose the events seem to be, by what they name: for people to follow, never to post by."""
    payloads = session.execute(select(StripeEvent.id, StripeEvent.payload).where(StripeEvent.id.in_(event_ids))).all()
    named = {event_id: list(_named(json.loads(payload)["data"]["object"])) for event_id, payload in payloads}
    wanted = {name for names in named.values() for name in names}
    known: dict[str, tuple[UUID, UUID | None]] = {
        row.external_id: (row.customer_id, row.invoice_id)
        for row in session.scalars(select(StripeObject).where(StripeObject.external_id.in_(wanted)))
    }
    invoices = {invoice for names in named.values() for name in names if (invoice := _as_uuid(name))}
    for sync in session.scalars(select(StripeSync).where(StripeSync.invoice_id.in_(invoices))):
        known[str(sync.invoice_id)] = (sync.customer_id, sync.invoice_id)
    owners = {}
    for event_id, names in named.items():
        candidates = [known[name] for name in names if name in known]
        best = next((one for one in candidates if one[1] is not None), candidates[0] if candidates else None)
        if best is not None:
            owners[event_id] = best
    return owners


def _named(obj: dict[str, Any]) -> Iterator[str]:
    metadata, payment = obj.get("metadata"), obj.get("payment")
    if isinstance(metadata, dict) and isinstance(metadata.get("ledger_invoice_id"), str):
        yield metadata["ledger_invoice_id"].lower()
    for place in (obj, payment if isinstance(payment, dict) else {}):
        for pointer in _POINTERS:
            value = place.get(pointer)
            value = value.get("id") if isinstance(value, dict) else value
            if isinstance(value, str):
                yield value


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
