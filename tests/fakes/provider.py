"""A provider that only remembers what it was given: stands at the Protocol, where Stripe would."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.provider import (
    CollectionOrder,
    CreditNoteOrder,
    InboxEvent,
    MovementOrder,
    ParkedKind,
    Provider,
    RefundOrder,
    SyncState,
)

MINIMUMS = {"USD": Decimal("0.50"), "EUR": Decimal("0.50"), "JPY": Decimal(50), "KWD": Decimal("0.2")}


@dataclass
class RememberingProvider:
    """Keeps the orders by invoice; a second order for an invoice is a fault of the caller, and says so."""

    name: str = "remembering"
    orders: dict[UUID, CollectionOrder] = field(default_factory=dict)
    asked: dict[UUID, MovementOrder] = field(default_factory=dict)
    """What was ordered after an invoice was final, by its refund, credit note or movement."""

    def of(self, session: Session, *, customer_id: UUID) -> Provider:
        return self

    def minimum(self, currency: str) -> Decimal:
        return MINIMUMS[currency]

    def submit(self, session: Session, order: CollectionOrder, *, now: datetime) -> None:
        assert order.invoice_id not in self.orders, f"invoice {order.number} was submitted twice"
        on_top = sum(tax.amount for line in order.lines for tax in line.taxes if not tax.inclusive)
        assert sum(line.amount for line in order.lines) + on_top == order.amount_due
        self.orders[order.invoice_id] = order

    def sync_states(self, session: Session, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, SyncState]:
        return {}

    def retry(self, session: Session, *, customer_id: UUID, invoice_id: UUID, actor: str, now: datetime) -> None:
        raise LookupError(invoice_id)

    def carry_out(self, session: Session, order: MovementOrder, *, now: datetime) -> None:
        subject = order.movement_id
        if isinstance(order, RefundOrder):
            subject = order.refund_id
        elif isinstance(order, CreditNoteOrder):
            subject = order.credit_note_id
            assert all(refund in self.asked for refund in order.refund_ids), "refunds are ordered first"
        assert subject is not None
        assert self.asked.get(subject, order) == order, f"{subject} was ordered twice, with other content"
        self.asked[subject] = order

    def operation_states(
        self, session: Session, *, customer_id: UUID, subjects: Sequence[UUID]
    ) -> dict[UUID, SyncState]:
        return {}

    def retry_operation(
        self, session: Session, *, customer_id: UUID, subject_id: UUID, actor: str, now: datetime
    ) -> None:
        raise LookupError(subject_id)

    def problems(self, session: Session, *, limit: int) -> list[SyncState]:
        return []

    def inbox(self, session: Session, *, state: str | None, before: datetime | None, limit: int) -> list[InboxEvent]:
        return []

    def inbox_event(self, session: Session, event_id: str) -> InboxEvent | None:
        return None

    def inbox_counts(self, session: Session) -> dict[str, int]:
        return {}

    def parked_kinds(self, session: Session) -> list[ParkedKind]:
        return []

    def kept_types(self, session: Session) -> dict[str, int]:
        return {}

    def rerun_kind(self, session: Session, *, code: str, type: str, actor: str, now: datetime) -> list[str]:  # noqa: A002 - the provider's word
        return []

    def rerun(self, session: Session, *, event_id: str, actor: str, now: datetime) -> None:
        raise LookupError(event_id)

    def hosted_invoice_url(self, *, customer_id: UUID, invoice_id: UUID) -> str | None:
        return None

    def portal_url(self, *, customer_id: UUID, return_url: str) -> str:
        return return_url
