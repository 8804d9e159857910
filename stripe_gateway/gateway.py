"""The gateway as the rest of the system sees it: invoicing's Provider, and what jobs, cron and commands call."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.provider import CollectionOrder, InboxEvent, MovementOrder, ParkedKind, Provider, SyncState
from stripe_gateway import (
    amounts,
    breaker,
    catch_up,
    customers,
    inbox,
    inbox_views,
    key_check,
    operating,
    operations,
    outbox,
    progress,
    reconciliation,
    sync,
    sync_runs,
    views,
    webhooks,
)
from stripe_gateway.breaker import Breaker, Outage
from stripe_gateway.catch_up import CatchUpReport
from stripe_gateway.client import Client, ClientSettings
from stripe_gateway.errors import EventIsDone, EventNotFound, NotThere, SyncIsDone, SyncNotFound
from stripe_gateway.inbox import InboxSummary
from stripe_gateway.key_check import KeyReport
from stripe_gateway.progress import Progress
from stripe_gateway.reconciliation import Asked, ReconcileReport
from stripe_gateway.sync_runs import SyncSummary
from stripe_gateway.tables import StripeEvent, StripeOperation, StripeSync
from stripe_gateway.views import DueWork, TroubledOperation

URL_GOOD_FOR = timedelta(days=9)
"""A hosted page's address works at least ten days after it was read.

Source: https://docs.stripe.com/invoicing/hosted-invoice-page
"""


class StripeGateway:
    """Stripe as the provider. One per process; its threads may share it. Connects when first needed."""

    name = "stripe"

    def __init__(self, engine: Engine, settings: ClientSettings) -> None:
        self._engine = engine
        self._settings = settings

    @cached_property
    def client(self) -> Client:
        return Client(self._settings, breaker=Breaker(self._engine))

    # invoicing.provider.Provider

    def of(self, session: Session, *, customer_id: UUID) -> Provider:
        return self

    def minimum(self, currency: str) -> Decimal:
        return amounts.minimum(currency)

    def submit(self, session: Session, order: CollectionOrder, *, now: datetime) -> None:
        outbox.submit(session, order, now=now)

    def sync_states(self, session: Session, keys: Sequence[tuple[UUID, UUID]]) -> dict[UUID, SyncState]:
        return {row.invoice_id: self._state(row) for row in views.syncs(session, keys)}

    def retry(self, session: Session, *, customer_id: UUID, invoice_id: UUID, actor: str, now: datetime) -> None:
        """Make a parked or waiting sync due now. What was parked asks Stripe first, then goes on or begins anew.

        Raises:
            SyncNotFound: the invoice was never submitted.
            SyncIsDone: it stands at Stripe already.
        """
        row = session.get(StripeSync, (customer_id, invoice_id), with_for_update=True, populate_existing=True)
        if row is None:
            raise SyncNotFound("This invoice was never submitted to Stripe: only final ones with an amount due are.")
        if row.state == "done":
            raise SyncIsDone("This invoice stands at Stripe already; there is nothing to try again.")
        if row.state == "canceled":
            raise SyncIsDone("This invoice was voided before it stood at Stripe; there is nothing to try again.")
        customers.unpark(session, customer_id=customer_id, now=now)
        row.state = "unknown" if row.state == "parked" else row.state
        row.attempts = 0
        row.next_attempt_at = now

    def carry_out(self, session: Session, order: MovementOrder, *, now: datetime) -> None:
        operations.carry_out(session, order, now=now)

    def operation_states(
        self, session: Session, *, customer_id: UUID, subjects: Sequence[UUID]
    ) -> dict[UUID, SyncState]:
        rows = operations.states(session, customer_id=customer_id, subjects=subjects)
        return {row.id: self._operation_state(row) for row in rows}

    def retry_operation(
        self, session: Session, *, customer_id: UUID, subject_id: UUID, actor: str, now: datetime
    ) -> None:
        """Make a parked or waiting operation due now. What may have been sent is looked for at Stripe first.

        Raises:
            OperationNotFound: it was never asked for.
            OperationIsDone: it has ended.
        """
        operations.retry(session, customer_id=customer_id, operation_id=subject_id, now=now)

    def problem_operations(self, session: Session, *, limit: int) -> list[TroubledOperation]:
        """Operations that need a person's eye, the oldest first."""
        return views.problem_operations(session, limit=limit)

    def problems(self, session: Session, *, limit: int) -> list[SyncState]:
        return [self._state(row) for row in views.problem_syncs(session, limit=limit)]

    def inbox(self, session: Session, *, state: str | None, before: datetime | None, limit: int) -> list[InboxEvent]:
        return inbox_views.listed(session, state=state, before=before, limit=limit)

    def inbox_event(self, session: Session, event_id: str) -> InboxEvent | None:
        return inbox_views.one(session, event_id)

    def inbox_counts(self, session: Session) -> dict[str, int]:
        return views.inbox_counts(session)

    def parked_kinds(self, session: Session) -> list[ParkedKind]:
        return inbox_views.parked_kinds(session)

    def kept_types(self, session: Session) -> dict[str, int]:
        return inbox_views.kept_types(session)

    def rerun_kind(self, session: Session, *, code: str, type: str, actor: str, now: datetime) -> list[str]:  # noqa: A002 - Stripe's word
        """Make all parked events of one kind due again; returns their ids. The caller commits."""
        return inbox.rerun_kind(session, code=code, kind=type, now=now)

    def rerun(self, session: Session, *, event_id: str, actor: str, now: datetime) -> None:
        """Make a parked event due again.

        Raises:
            EventNotFound: no such event was received.
            EventIsDone: it was handled.
        """
        row = session.get(StripeEvent, event_id, with_for_update=True, populate_existing=True)
        if row is None:
            raise EventNotFound(f"No event {event_id} was received. Check the id; it begins with evt_.")
        if row.state in ("done", "ignored"):
            raise EventIsDone("This event was handled already; running it again would do nothing.")
        row.state = "pending"
        row.attempts = 0
        row.next_attempt_at = now

    def hosted_invoice_url(self, *, customer_id: UUID, invoice_id: UUID) -> str | None:
        now = datetime.now(UTC)
        with Session(self._engine, expire_on_commit=False) as session:
            row = session.get(StripeSync, (customer_id, invoice_id))
        if row is None or row.external_id is None or row.state != "done":
            return None
        if row.hosted_url and row.hosted_url_at and row.hosted_url_at <= now < row.hosted_url_at + URL_GOOD_FOR:
            return row.hosted_url
        try:
            invoice = self.client.for_people().retrieve_invoice(row.external_id)
        except NotThere:
            return None
        with Session(self._engine) as session, session.begin():
            outbox.note_url(
                session, customer_id=customer_id, invoice_id=invoice_id, url=invoice.get("hosted_invoice_url"), now=now
            )
        url = invoice.get("hosted_invoice_url")
        return str(url) if url else None

    def portal_url(self, *, customer_id: UUID, return_url: str) -> str:
        external_id = self.ensure_customer(customer_id=customer_id, now=datetime.now(UTC))
        return str(self.client.for_people().create_portal_session(external_id, return_url=return_url)["url"])

    # What jobs, cron and commands call

    def ensure_customer(self, *, customer_id: UUID, now: datetime) -> str:
        """The customer's id at Stripe; the customer is made there now if it never was.

        Raises:
            CallFailed: Stripe has no answer, or refuses.
        """
        with Session(self._engine) as session, session.begin():
            customers.enlist(session, customer_id=customer_id, now=now)
        client = self.client.for_people()
        external_id = customers.ensure(self._engine, client, customer_id=customer_id, now=now).external_id
        assert external_id is not None, "a done customer has an id"  # noqa: S101 - a constraint says so too
        return external_id

    def set_payment_method(self, *, customer_id: UUID, payment_method: str, now: datetime) -> str:
        """Attach a payment method (such as the test card `pm_card_visa`) and charge it from now on; returns its id.

        Customers do this themselves in Stripe's portal; this is for demo data and migrations.
        """
        external_id = self.ensure_customer(customer_id=customer_id, now=now)
        method = self.client.set_default_payment_method(external_id, payment_method)
        self.refresh_customer(customer_id=customer_id, now=now)
        return method

    def refresh_customer(self, *, customer_id: UUID, now: datetime) -> None:
        """Read the customer at Stripe and store what we use of it."""
        customers.refresh(self._engine, self.client, customer_id=customer_id, now=now)

    def sync_due(
        self, *, now: datetime, limit: int | None = None, progress: Callable[[SyncSummary], None] | None = None
    ) -> SyncSummary:
        return sync_runs.sync_due(self._engine, self.client, now=now, limit=limit, progress=progress)

    def sync_one(self, *, customer_id: UUID, invoice_id: UUID, now: datetime, for_people: bool = False) -> str | None:
        """Take one invoice as far as it goes; `for_people`: somebody waits for it."""
        client = self.client.for_people() if for_people else self.client
        return sync.sync_one(self._engine, client, customer_id=customer_id, invoice_id=invoice_id, now=now)

    def operate_one(self, *, customer_id: UUID, subject_id: UUID, now: datetime) -> str | None:
        """Carry out what one movement, refund or credit note asks of Stripe, if it is due. Somebody waits for it."""
        return operating.operate_one(
            self._engine, self.client.for_people(), customer_id=customer_id, operation_id=subject_id, now=now
        )

    def progress(self, session: Session, *, now: datetime) -> Progress:
        """How far the collection is, how fast it goes, and since when Stripe is away. Asks Redis, never Stripe."""
        return progress.progress(session, now=now, pace=self.client.pace())

    def outage(self, session: Session) -> Outage | None:
        """The outage of Stripe that is going on."""
        return breaker.going_on(session.connection())

    def sync_counts(self, session: Session) -> dict[str, int]:
        """How many syncs are in each state."""
        return views.sync_counts(session)

    def receive(self, session: Session, *, body: bytes, signature: str, now: datetime) -> str:
        """Verify and store one webhook delivery; returns the event's id. The caller commits.

        Raises:
            BodyTooLarge, BadSignature, BadEvent: nothing is stored.
        """
        return webhooks.receive(
            session, body=body, signature=signature, secrets=self._settings.webhook_secrets, now=now
        )

    def handle_event(self, *, event_id: str, now: datetime) -> str | None:
        return inbox.handle_event(self._engine, self.client, event_id=event_id, now=now)

    def handle_due(
        self, *, now: datetime, limit: int | None = None, progress: Callable[[InboxSummary], None] | None = None
    ) -> InboxSummary:
        return inbox.handle_due(self._engine, self.client, now=now, limit=limit, progress=progress)

    def catch_up(self, *, now: datetime, progress: Callable[[CatchUpReport], None] | None = None) -> CatchUpReport:
        """Store the events that Stripe lists and nobody delivered; compare the objects if events are gone for good."""
        return catch_up.catch_up(
            self._engine, self.client, now=now, reconcile=lambda: self.reconcile(now=now), progress=progress
        )

    def caught_up_to(self, session: Session) -> datetime | None:
        """Up to when no event of Stripe's own list is missing here; None while nobody of ours stands there."""
        return catch_up.caught_up_to(session)

    def check_key(self) -> KeyReport:
        """Ask Stripe what the configured key may read, and how the webhook endpoint is set up. Changes nothing."""
        return key_check.check(self.client)

    def due_work(self, *, now: datetime, limit: int) -> list[DueWork]:
        """What is due and in nobody's hands, the longest due first."""
        with Session(self._engine) as session:
            return views.due_work(session, now=now, limit=limit)

    def reconcile(
        self,
        *,
        now: datetime,
        asked: Asked | None = None,
        progress: Callable[[ReconcileReport], None] | None = None,
    ) -> ReconcileReport:
        return reconciliation.reconcile(
            self._engine, self.client, now=now, asked=asked, api_base=self._settings.api_base, progress=progress
        )

    def operation_counts(self, session: Session) -> dict[str, int]:
        """How many operations are in each state."""
        return views.operation_counts(session)

    def _operation_state(self, row: StripeOperation) -> SyncState:
        url = views.dashboard_url(row.external_id, livemode=self._settings.livemode, api_base=self._settings.api_base)
        return views.operation_state(row, url=url)

    def _state(self, row: StripeSync) -> SyncState:
        url = views.dashboard_url(row.external_id, livemode=self._settings.livemode, api_base=self._settings.api_base)
        return views.sync_state(row, url=url)
