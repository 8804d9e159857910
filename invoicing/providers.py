"""All providers as one: whoever finalizes, refunds or shows an invoice need not know who collects it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.customers import CustomerNotFound
from invoicing.errors import InvoicingError
from invoicing.provider import (
    CollectionOrder,
    InboxEvent,
    MovementOrder,
    ParkedKind,
    Provider,
    RefundOrder,
    SyncState,
)
from invoicing.tables import Customer, Invoice


class ProviderUnknown(InvoicingError):
    """Nobody here collects under this name. Choose one of the providers that the message lists."""

    code = "unknown_provider"


class NotAProvider(InvoicingError):
    """Several providers are asked together what only one of them can answer: ask for the customer's first."""

    code = "provider_not_chosen"


class Providers:
    """Implements `invoicing.provider.Provider` by asking the right one: a final invoice's own, else the customer's.

    The first of `providers` is the default, and the one whose webhooks fill the inbox.
    """

    name = "all"

    def __init__(self, engine: Engine, providers: Sequence[Provider]) -> None:
        self._engine = engine
        self._by_name: Mapping[str, Provider] = {provider.name: provider for provider in providers}
        self._first = providers[0]

    def named(self, name: str) -> Provider:
        """The provider of this name.

        Raises:
            ProviderUnknown: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise ProviderUnknown(f"Nobody collects under the name {name!r}. Known: {known}.") from None

    def of(self, session: Session, *, customer_id: UUID) -> Provider:
        """Who collects from this customer from now on.

        Raises:
            CustomerNotFound: there is no such customer.
        """
        customer = session.get(Customer, customer_id)
        if customer is None:
            raise CustomerNotFound(f"There is no customer {customer_id}. Check the id, or create the customer first.")
        return self.named(customer.provider)

    def of_invoice(self, session: Session, *, customer_id: UUID, invoice_id: UUID) -> Provider:
        """Who collects this invoice: settled when it became final, until then the customer's provider."""
        invoice = session.get(Invoice, (customer_id, invoice_id))
        if invoice is None or invoice.provider is None:
            return self.of(session, customer_id=customer_id)
        return self.named(invoice.provider)

    def minimum(self, currency: str) -> Decimal:
        raise NotAProvider("The least to be collected depends on who collects: ask for the customer's provider.")

    def submit(self, session: Session, order: CollectionOrder, *, now: datetime) -> None:
        self.of_invoice(session, customer_id=order.customer_id, invoice_id=order.invoice_id).submit(
            session, order, now=now
        )

    def sync_states(self, session: Session, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, SyncState]:
        found: dict[UUID, SyncState] = {}
        for provider in self._by_name.values():
            found |= provider.sync_states(session, keys)
        return found

    def retry(self, session: Session, *, customer_id: UUID, invoice_id: UUID, actor: str, now: datetime) -> None:
        self.of_invoice(session, customer_id=customer_id, invoice_id=invoice_id).retry(
            session, customer_id=customer_id, invoice_id=invoice_id, actor=actor, now=now
        )

    def carry_out(self, session: Session, order: MovementOrder, *, now: datetime) -> None:
        # Money goes back the way it came, whoever collects the invoice.
        if isinstance(order, RefundOrder):
            provider = self.named(order.provider)
        else:
            provider = self.of_invoice(session, customer_id=order.customer_id, invoice_id=order.invoice_id)
        provider.carry_out(session, order, now=now)

    def operation_states(
        self, session: Session, *, customer_id: UUID, subjects: Sequence[UUID]
    ) -> dict[UUID, SyncState]:
        found: dict[UUID, SyncState] = {}
        for provider in self._by_name.values():
            found |= provider.operation_states(session, customer_id=customer_id, subjects=subjects)
        return found

    def retry_operation(
        self, session: Session, *, customer_id: UUID, subject_id: UUID, actor: str, now: datetime
    ) -> None:
        """Make it due with the provider that has it; the first one says why not, if nobody has."""
        for provider in self._by_name.values():
            if subject_id in provider.operation_states(session, customer_id=customer_id, subjects=[subject_id]):
                break
        else:
            provider = self._first
        provider.retry_operation(session, customer_id=customer_id, subject_id=subject_id, actor=actor, now=now)

    def problems(self, session: Session, *, limit: int) -> list[SyncState]:
        found = [state for provider in self._by_name.values() for state in provider.problems(session, limit=limit)]
        return found[:limit]

    def inbox(self, session: Session, *, state: str | None, before: datetime | None, limit: int) -> list[InboxEvent]:
        return self._first.inbox(session, state=state, before=before, limit=limit)

    def inbox_event(self, session: Session, event_id: str) -> InboxEvent | None:
        return self._first.inbox_event(session, event_id)

    def inbox_counts(self, session: Session) -> dict[str, int]:
        return self._first.inbox_counts(session)

    def parked_kinds(self, session: Session) -> list[ParkedKind]:
        return self._first.parked_kinds(session)

    def kept_types(self, session: Session) -> dict[str, int]:
        return self._first.kept_types(session)

    def rerun_kind(self, session: Session, *, code: str, type: str, actor: str, now: datetime) -> list[str]:  # noqa: A002 - the Protocol's word
        return self._first.rerun_kind(session, code=code, type=type, actor=actor, now=now)

    def rerun(self, session: Session, *, event_id: str, actor: str, now: datetime) -> None:
        self._first.rerun(session, event_id=event_id, actor=actor, now=now)

    def hosted_invoice_url(self, *, customer_id: UUID, invoice_id: UUID) -> str | None:
        with Session(self._engine) as session:
            provider = self.of_invoice(session, customer_id=customer_id, invoice_id=invoice_id)
        return provider.hosted_invoice_url(customer_id=customer_id, invoice_id=invoice_id)

    def portal_url(self, *, customer_id: UUID, return_url: str) -> str:
        with Session(self._engine) as session:
            provider = self.of(session, customer_id=customer_id)
        return provider.portal_url(customer_id=customer_id, return_url=return_url)
