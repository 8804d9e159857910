"""What invoicing needs from whoever collects the money, as a small Protocol. `stripe_gateway` implements it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal, Protocol
from uuid import UUID

from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class OrderTax:
    """A tax on a line, or on all lines: `amount` in major units, rounded, was taken of `taxable`, which is without it.

    `percent` is from 0 to 100. With `inclusive` the tax is inside the line's amount, else on top of it. `treatment`:
    rate, or why nothing is due: reverse_charge, exempt.
    """

    name: str
    jurisdiction: str
    percent: Decimal
    inclusive: bool
    taxable: Decimal
    amount: Decimal
    treatment: str = "rate"


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One line as the customer is to see it: `amount` in major units, rounded, of either sign, without tax on top."""

    line_id: UUID
    item: str | None
    description: str
    amount: Decimal
    period_start: datetime
    period_end: datetime
    taxes: tuple[OrderTax, ...] = ()
    is_credit: bool = False
    """Whether it is credit of the customer's that pays for the others, after tax."""


@dataclass(frozen=True, slots=True)
class CollectionOrder:
    """A final invoice to be collected: its lines and the taxes on top of them add up to `amount_due`.

    That is above the provider's minimum. `legal_notes` must be on whatever the customer receives.

    Credits that were applied are among the lines, negative. `collection_method` is "automatic" or "send_invoice".
    """

    customer_id: UUID
    invoice_id: UUID
    number: str
    currency: str
    amount_due: Decimal
    collection_method: str
    period_start: datetime
    period_end: datetime
    lines: Sequence[OrderLine]
    customer_name: str
    customer_email: str | None
    customer_external_id: str
    legal_notes: tuple[str, ...] = ()
    title: str | None = None
    """What it is for; None: the usage of its period."""


@dataclass(frozen=True, slots=True)
class EndOrder:
    """A final invoice that nobody is to pay any more: made void, or given up as uncollectible."""

    customer_id: UUID
    movement_id: UUID
    invoice_id: UUID
    kind: Literal["void", "uncollectible"]


@dataclass(frozen=True, slots=True)
class OutsidePaymentOrder:
    """Collect `amount` (major units) no more: it came past the provider. `reference` is the bank's.

    `left` is what stays open and is collected on; 0 if that was all.
    """

    customer_id: UUID
    movement_id: UUID
    invoice_id: UUID
    amount: Decimal
    currency: str
    reference: str
    left: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class RefundOrder:
    """Send `amount` (major units) of the payment `payment` (its id at `provider`) back. `reason` is for our people."""

    customer_id: UUID
    movement_id: UUID | None
    refund_id: UUID
    invoice_id: UUID
    provider: str
    payment: str
    amount: Decimal
    currency: str
    reason: str


@dataclass(frozen=True, slots=True)
class CreditNoteOrder:
    """A credit note that the provider is to know. Amounts in major units.

    `amount` is the unpaid part plus the part that cash had paid; what our own credits had paid is none of the
    provider's business. Of the cash, what the refunds `refund_ids` do not send back stays with us, outside the
    provider: as credit, or to be sent back by hand.
    """

    customer_id: UUID
    movement_id: UUID
    credit_note_id: UUID
    invoice_id: UUID
    number: str
    amount: Decimal
    unpaid_part: Decimal
    refund_ids: tuple[UUID, ...]
    currency: str
    reason: str


@dataclass(frozen=True, slots=True)
class AcceptDisputeOrder:
    """Tell the provider that we do not contest a dispute (its id there): it is lost."""

    customer_id: UUID
    movement_id: UUID
    invoice_id: UUID
    dispute: str


MovementOrder = EndOrder | OutsidePaymentOrder | RefundOrder | CreditNoteOrder | AcceptDisputeOrder


@dataclass(frozen=True, slots=True)
class SyncState:
    """How far the provider is with one invoice, or one operation about it.

    `state`: due, running, waiting, unknown, done, parked.
    """

    invoice_id: UUID
    state: str
    step: str
    attempts: int
    external_id: str | None
    external_status: str | None
    last_error: str | None
    next_attempt_at: datetime | None
    done_at: datetime | None
    dashboard_url: str | None = None


@dataclass(frozen=True, slots=True)
class InboxEvent:
    """One stored webhook event. `state`: pending, done, ignored, parked."""

    id: str
    type: str
    object_id: str | None
    received_at: datetime
    deliveries: int
    state: str
    attempts: int
    handled_at: datetime | None
    error: str | None
    customer_id: UUID | None
    payload: Mapping[str, object] = field(default_factory=dict)
    code: str | None = None
    """Why it is parked, or waits: stable."""
    invoice_id: UUID | None = None
    source: str = "webhook"
    """webhook, or list: never delivered, found in the provider's own list of events."""


@dataclass(frozen=True, slots=True)
class ParkedKind:
    """Parked events of one type that failed for the same reason; `error` is one of their sentences."""

    code: str
    type: str
    count: int
    oldest_at: datetime
    error: str


class Provider(Protocol):
    """Who collects. Every method that takes a session works in the caller's transaction and makes no HTTP call."""

    @property
    def name(self) -> str:
        """The stable name that stands beside external ids, such as "stripe"."""
        ...

    def of(self, session: Session, *, customer_id: UUID) -> "Provider":
        """Who collects from this customer: itself, unless it stands for several. Writes nothing."""
        ...

    def minimum(self, currency: str) -> Decimal:
        """The smallest amount that is collected, in major units. Invoices below it are carried forward."""
        ...

    def submit(self, session: Session, order: CollectionOrder, *, now: datetime) -> None:
        """Write the intent to collect, frozen, once per invoice. A second call for the invoice changes nothing."""
        ...

    def sync_states(self, session: Session, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, SyncState]:
        """How far each `(customer_id, invoice_id)` is, by invoice id; invoices never submitted are missing."""
        ...

    def retry(self, session: Session, *, customer_id: UUID, invoice_id: UUID, actor: str, now: datetime) -> None:
        """Make a parked or waiting sync due now; it goes on where it stood. Raises what refuses it."""
        ...

    def carry_out(self, session: Session, order: MovementOrder, *, now: datetime) -> None:
        """Write the intent down, frozen, once per order; the same order again changes nothing.

        An order is named by its refund or credit note, else by its movement. Those of one credit note come in one
        transaction, refunds first. What comes of it the provider reports to `movement_done` or `movement_refused` of
        `invoicing.movements.requests`, and of a refund to `invoicing.movements.refunds.settle_refund`.
        """
        ...

    def operation_states(
        self, session: Session, *, customer_id: UUID, subjects: Sequence[UUID]
    ) -> dict[UUID, SyncState]:
        """How far each order is, by the id of its movement, refund or credit note; never ordered ones are missing."""
        ...

    def retry_operation(
        self, session: Session, *, customer_id: UUID, subject_id: UUID, actor: str, now: datetime
    ) -> None:
        """Make a parked or waiting order due now; it goes on where it stood. Raises what refuses it."""
        ...

    def problems(self, session: Session, *, limit: int) -> list[SyncState]:
        """Syncs that need a person's eye, the oldest first."""
        ...

    def inbox(self, session: Session, *, state: str | None, before: datetime | None, limit: int) -> list[InboxEvent]:
        """Stored events, the newest first, without payload; `state` and `before` (received_at, exclusive) narrow."""
        ...

    def inbox_event(self, session: Session, event_id: str) -> InboxEvent | None:
        """One event with its payload."""
        ...

    def inbox_counts(self, session: Session) -> dict[str, int]:
        """How many events are in each state."""
        ...

    def parked_kinds(self, session: Session) -> list[ParkedKind]:
        """What is parked, by reason and type, the most frequent first."""
        ...

    def kept_types(self, session: Session) -> dict[str, int]:
        """How many events of each type were kept and not acted on."""
        ...

    def rerun_kind(self, session: Session, *, code: str, type: str, actor: str, now: datetime) -> list[str]:  # noqa: A002 - the provider's word
        """Make all parked events with this reason and type due again; returns their ids."""
        ...

    def rerun(self, session: Session, *, event_id: str, actor: str, now: datetime) -> None:
        """Make a parked event due again. Raises what refuses it."""
        ...

    def hosted_invoice_url(self, *, customer_id: UUID, invoice_id: UUID) -> str | None:
        """A fresh link to the provider's own page for this invoice. One HTTP call; None if there is no such page."""
        ...

    def portal_url(self, *, customer_id: UUID, return_url: str) -> str:
        """A fresh link where the customer manages payment methods. HTTP calls; never stored."""
        ...
