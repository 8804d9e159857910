"""The manual provider: an invoice becomes a letter of ours, and people carry out what a machine elsewhere would.

Nothing lives elsewhere: there are no external objects, no webhooks and no answers to wait for. What is asked of this
provider is done in the caller's transaction, but for money that goes back, which a person transfers.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.manual.letters import BankDetails, body_of, subject_of
from invoicing.manual.tables import Letter
from invoicing.movements.requests import movement_done, movement_refused
from invoicing.provider import (
    AcceptDisputeOrder,
    CollectionOrder,
    InboxEvent,
    MovementOrder,
    ParkedKind,
    RefundOrder,
    SyncState,
)
from invoicing.provider import Provider as ProviderProtocol
from invoicing.tables import Customer
from ledger.money import invoice_exponent

MANUAL = "manual"


class LetterNotFound(InvoicingError):
    """No letter was written for this invoice: only final ones with an amount due, paid by bank transfer, have one."""

    code = "letter_not_found"


class LetterIsSent(InvoicingError):
    """The letter of this invoice was sent already; there is nothing to try again."""

    code = "letter_is_sent"


class NothingElsewhere(InvoicingError):
    """Payments by bank transfer have no events and no operations elsewhere: there is nothing to run again."""

    code = "nothing_elsewhere"


class ManualProvider:
    """Collects by letter and bank transfer. Implements `invoicing.provider.Provider`; makes no call to anybody."""

    name = MANUAL

    def __init__(self, bank: BankDetails) -> None:
        self._bank = bank

    def of(self, session: Session, *, customer_id: UUID) -> ProviderProtocol:
        return self

    def minimum(self, currency: str) -> Decimal:
        """One minor unit: a transfer costs nothing."""
        return Decimal(1).scaleb(-invoice_exponent(currency))

    def submit(self, session: Session, order: CollectionOrder, *, now: datetime) -> None:
        session.execute(
            insert(Letter)
            .values(
                customer_id=order.customer_id,
                invoice_id=order.invoice_id,
                number=order.number,
                recipient=order.customer_email,
                subject=subject_of(order),
                body=body_of(order, bank=self._bank, now=now),
                next_attempt_at=now,
                created_at=now,
            )
            .on_conflict_do_nothing()
        )

    def sync_states(self, session: Session, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, SyncState]:
        if not keys:
            return {}
        query = select(Letter).where(tuple_(Letter.customer_id, Letter.invoice_id).in_(list(keys)))
        return {letter.invoice_id: state_of(letter) for letter in session.scalars(query)}

    def retry(self, session: Session, *, customer_id: UUID, invoice_id: UUID, actor: str, now: datetime) -> None:
        """Make a parked or waiting letter due now, to the customer's present e-mail address.

        Raises:
            LetterNotFound, LetterIsSent.
        """
        letter = session.get(Letter, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
        if letter is None:
            raise LetterNotFound(
                "No letter was written for this invoice: only final ones with an amount due, paid by bank transfer, "
                "have one."
            )
        if letter.state == "done":
            raise LetterIsSent("The letter of this invoice was sent already; there is nothing to try again.")
        letter.recipient = session.get_one(Customer, customer_id).email
        letter.state, letter.attempts, letter.next_attempt_at = "due", 0, now

    def carry_out(self, session: Session, order: MovementOrder, *, now: datetime) -> None:
        if isinstance(order, RefundOrder):
            raise NothingElsewhere("What came by transfer goes back by transfer: a person sends it, and notes it here.")
        if isinstance(order, AcceptDisputeOrder):
            movement_refused(
                session,
                customer_id=order.customer_id,
                movement_id=order.movement_id,
                code="no_disputes",
                reason="A bank transfer cannot be disputed: there is nothing to accept.",
                now=now,
            )
        else:
            movement_done(
                session,
                customer_id=order.customer_id,
                movement_id=order.movement_id,
                external_id=None,
                at=now,
                actor=MANUAL,
                now=now,
            )

    def operation_states(
        self, session: Session, *, customer_id: UUID, subjects: Sequence[UUID]
    ) -> dict[UUID, SyncState]:
        return {}

    def retry_operation(
        self, session: Session, *, customer_id: UUID, subject_id: UUID, actor: str, now: datetime
    ) -> None:
        raise NothingElsewhere("Payments by bank transfer have no operations elsewhere: there is nothing to run again.")

    def problems(self, session: Session, *, limit: int) -> list[SyncState]:
        query = (
            select(Letter)
            .where(or_(Letter.state == "parked", (Letter.state == "waiting") & (Letter.attempts > 3)))
            .order_by(Letter.created_at, Letter.invoice_id)
            .limit(limit)
        )
        return [state_of(letter) for letter in session.scalars(query)]

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

    def rerun_kind(self, session: Session, *, code: str, type: str, actor: str, now: datetime) -> list[str]:  # noqa: A002 - the Protocol's word
        return []

    def rerun(self, session: Session, *, event_id: str, actor: str, now: datetime) -> None:
        raise NothingElsewhere("Payments by bank transfer have no events: there is nothing to run again.")

    def hosted_invoice_url(self, *, customer_id: UUID, invoice_id: UUID) -> str | None:
        return None

    def portal_url(self, *, customer_id: UUID, return_url: str) -> str:
        """Whoever pays by bank transfer keeps no payment method anywhere: back to where the visitor came from."""
        return return_url


def state_of(letter: Letter) -> SyncState:
    """One letter as others see it."""
    return SyncState(
        invoice_id=letter.invoice_id,
        state=letter.state,
        step="done" if letter.state == "done" else "letter",
        attempts=letter.attempts,
        external_id=None,
        external_status="sent" if letter.state == "done" else None,
        last_error=letter.last_error,
        next_attempt_at=letter.next_attempt_at if letter.state in ("due", "waiting") else None,
        done_at=letter.sent_at,
    )
