"""One comparison at work: what every stage needs to read, to say that the sides differ, and to repair.

A stage reads a page from Stripe with no transaction open, then looks up our side, so that ours is the newer one; what
would only be a difference because Stripe is older is asked for again before it is named.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.movements import tasks
from invoicing.movements.tables import Task
from ledger.errors import LedgerError
from stripe_gateway.client import Client, Json, Page
from stripe_gateway.errors import CallFailed, GatewayError, Refused
from stripe_gateway.ownership import ForeignInvoice, Owner, Paid, id_of, owner_of_payment
from stripe_gateway.reconciliation.kinds import KINDS, task_kind
from stripe_gateway.reconciliation.links import link_to
from stripe_gateway.reconciliation.runs import Place
from stripe_gateway.reconciliation.tables import StripeDifference, StripeSeen
from stripe_gateway.tables import StripeEffect, StripeObject, StripeOperation

CAUSE = "reconciliation"
"""Who it was, in entries, histories and effects."""

PAGE = 100
UNSETTLED = ("due", "waiting", "unknown")


@dataclass(slots=True)
class Comparison:
    """A run at work."""

    engine: Engine
    client: Client
    place: Place
    now: datetime
    api_base: str | None = None
    _page: set[str] = field(default_factory=set)

    @property
    def livemode(self) -> bool:
        return self.client.livemode

    @property
    def is_full(self) -> bool:
        return self.place.run.is_full

    # What Stripe has

    def page(self, kind: str, cursor: str | None, *, in_window: bool = True, **narrowed: Any) -> Page:
        """A page of one of Stripe's lists, of what was made within the run's window or, if not `in_window`, ever."""
        if in_window:
            narrowed |= {"created_from": self.place.created_from, "created_to": self.place.created_to}
        try:
            return self.client.page(kind, after=cursor, **narrowed)
        except Refused as refusal:
            if cursor is None or refusal.stripe_code != "resource_missing":
                raise
            # What the cursor named was deleted meanwhile, perhaps by us. Comparing twice does no harm.
            return self.client.page(kind, after=None, **narrowed)

    # What was looked at

    def count(self, name: str, number: int = 1) -> None:
        self.place.count(name, number)

    def see(self, external_ids: Iterable[str]) -> None:
        """These objects stand at Stripe; stored with the page's place."""
        self._page.update(external_ids)

    def take_seen(self) -> set[str]:
        """What was seen since the last call."""
        seen, self._page = self._page, set()
        return seen

    def unseen(self, external_ids: Sequence[str]) -> set[str]:
        """Those of the ids that Stripe's lists have not shown to this run."""
        with Session(self.engine) as session:
            seen = session.scalars(
                select(StripeSeen.external_id).where(
                    StripeSeen.run_id == self.place.run.id, StripeSeen.external_id.in_(external_ids)
                )
            )
            return set(external_ids) - set(seen) - self._page

    def owners(self, external_ids: Iterable[str | None]) -> dict[str, StripeObject]:
        """Whose these objects of Stripe's are, as far as we know."""
        wanted = {external_id for external_id in external_ids if external_id}
        with Session(self.engine, expire_on_commit=False) as session:
            rows = session.scalars(select(StripeObject).where(StripeObject.external_id.in_(wanted)))
            return {row.external_id: row for row in rows}

    def paid_by(self, obj: Json) -> Paid | None:
        """Whose payment a charge, refund or dispute is about; None if it is none of an invoice of ours."""
        charge = obj["id"] if obj["object"] == "charge" else id_of(obj.get("charge"))
        intent = id_of(obj.get("payment_intent"))
        if charge is None and intent is None:
            return None
        try:
            return owner_of_payment(self.engine, self.client, payment_intent=intent, charge=charge)
        except ForeignInvoice:
            return None  # the invoice is named by itself; its money is nobody's until a person has decided

    def is_done(self, customer_id: UUID, key: str) -> bool:
        """Whether this effect stands in the books already, whoever told of it."""
        with Session(self.engine) as session:
            return session.get(StripeEffect, (customer_id, key)) is not None

    def is_being_changed(self, owner: Owner) -> bool:
        """Whether we ourselves have asked Stripe for something about the invoice, and have no answer yet."""
        with Session(self.engine) as session:
            return (
                session.scalars(
                    select(StripeOperation.id).where(
                        StripeOperation.customer_id == owner.customer_id,
                        StripeOperation.invoice_id == owner.invoice_id,
                        StripeOperation.state.in_(UNSETTLED),
                    )
                ).first()
                is not None
            )

    # What was found

    def differ(
        self,
        kind: str,
        subject: str,
        text: str,
        *,
        owner: Owner | None = None,
        customer_id: UUID | None = None,
    ) -> None:
        """A difference that a person must look at: a task, unless a person has explained it already."""
        customer_id = owner.customer_id if owner else customer_id
        invoice_id = owner.invoice_id if owner else None
        with Session(self.engine) as session, session.begin():
            outcome = "explained" if _is_explained(session, kind, subject, text) else "task"
            self._note(session, kind, subject, text, outcome, customer_id, invoice_id)
            if outcome == "explained":
                return
            tasks.open_task(
                session,
                kind=task_kind(kind),
                subject=KINDS[kind].subjects + subject,
                title=KINDS[kind].title,
                text=text,
                cause=CAUSE,
                now=self.now,
                customer_id=customer_id,
                invoice_id=invoice_id,
                details={"cure": KINDS[kind].cure, "text": text, "object": subject, "url": self._url(subject)},
            )

    def repair(
        self,
        kind: str,
        subject: str,
        text: str,
        write: Callable[[Session], object],
        *,
        owner: Owner | None = None,
        customer_id: UUID | None = None,
    ) -> bool:
        """Repair a difference that can mean one thing only, in one transaction with the note that it was.

        What the books refuse becomes a task, with their reason. True if it was repaired.
        """

        def repair_and_note(session: Session) -> None:
            write(session)
            whose = owner.customer_id if owner else customer_id
            self._note(session, kind, subject, text, "repaired", whose, owner.invoice_id if owner else None)

        return self.attempt(kind, subject, text, repair_and_note, owner=owner, customer_id=customer_id)

    def attempt(
        self,
        kind: str,
        subject: str,
        text: str,
        write: Callable[[Session], object],
        *,
        owner: Owner | None = None,
        customer_id: UUID | None = None,
    ) -> bool:
        """Write something in one transaction. What the books refuse becomes a task of this kind; then False."""
        try:
            with Session(self.engine) as session, session.begin():
                write(session)
        except CallFailed:
            raise  # of Stripe, not of the books: the run stops, and goes on from here later
        except (GatewayError, InvoicingError, LedgerError) as refusal:
            why = f"{text} It could not be repaired: {refusal}"
            self.differ(kind, subject, why, owner=owner, customer_id=customer_id)
            return False
        return True

    def _note(
        self,
        session: Session,
        kind: str,
        subject: str,
        text: str,
        outcome: str,
        customer_id: UUID | None,
        invoice_id: UUID | None,
    ) -> None:
        session.execute(
            insert(StripeDifference)
            .values(
                run_id=self.place.run.id,
                kind=kind,
                subject=subject,
                outcome=outcome,
                text=text,
                customer_id=customer_id,
                invoice_id=invoice_id,
                found_at=self.now,
            )
            .on_conflict_do_nothing()
        )

    def _url(self, subject: str) -> str | None:
        return link_to(subject, livemode=self.livemode, api_base=self.api_base)


def _is_explained(session: Session, kind: str, subject: str, text: str) -> bool:
    """Whether a person resolved the task about exactly this. Said in other words it is another difference."""
    latest = session.scalars(
        select(Task)
        .where(Task.kind == task_kind(kind), Task.subject == KINDS[kind].subjects + subject)
        .where(Task.resolved_at.is_not(None))
        .order_by(Task.resolved_at.desc())
        .limit(1)
    ).one_or_none()
    return latest is not None and latest.resolved_by != tasks.SYSTEM and (latest.details or {}).get("text") == text
