"""Reconciliation: what we believe stands at Stripe, held against what Stripe lists.

Our side is read first and Stripe's after it, so that what happens meanwhile is never taken for missing. Differences
that can only mean one thing are repaired, through the same functions that webhooks use; the others are named.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.tables import Invoice, Payment
from ledger.errors import LedgerError
from stripe_gateway import amounts, cash, outbox
from stripe_gateway.client import Client, Json
from stripe_gateway.errors import GatewayError, Refused
from stripe_gateway.ownership import Owner
from stripe_gateway.recovery import LISTED_BEFORE, final_problems
from stripe_gateway.tables import StripeCustomer, StripeSync

CAUSE = "reconciliation"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which the two sides disagree. `kind` is stable."""

    kind: str
    text: str
    customer_id: UUID | None = None
    invoice_id: UUID | None = None
    external_id: str | None = None
    repaired: bool = False


@dataclass(slots=True)
class ReconcileReport:
    """What was compared, and what was found. `pending` invoices are still on their way and compared next time."""

    invoices: int = 0
    payments: int = 0
    pending: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def repaired(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.repaired]

    @property
    def unexplained(self) -> list[Difference]:
        return [difference for difference in self.differences if not difference.repaired]


@dataclass(frozen=True, slots=True)
class _Ours:
    """Our belief about one invoice, when the run began."""

    sync: StripeSync
    invoice_state: str
    customer: str | None

    @property
    def owner(self) -> Owner:
        return Owner(self.sync.customer_id, self.sync.invoice_id)


def reconcile(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    progress: Callable[[ReconcileReport], None] | None = None,
) -> ReconcileReport:
    """Compare every invoice that was ever submitted, and every payment, with Stripe's lists. Commits each repair.

    Raises:
        CallFailed: Stripe could not be asked; what was repaired so far stays.
    """
    run = _Run(engine, client, now=now, progress=progress)
    run.load()
    if run.since is not None:
        run.compare_invoices()
        run.compare_payments()
    return run.report


class _Run:
    def __init__(
        self, engine: Engine, client: Client, *, now: datetime, progress: Callable[[ReconcileReport], None] | None
    ) -> None:
        self.report = ReconcileReport()
        self.since: int | None = None
        self._engine = engine
        self._client = client
        self._now = now
        self._progress = progress
        self._ours: dict[UUID, _Ours] = {}
        self._payments: dict[str, tuple[Owner, Decimal]] = {}
        self._invoice_of: dict[str, _Ours] = {}

    def load(self) -> None:
        """Read our side, as it is now."""
        syncs = (
            select(StripeSync, Invoice.state, StripeCustomer.external_id)
            .join(Invoice, (Invoice.customer_id == StripeSync.customer_id) & (Invoice.id == StripeSync.invoice_id))
            .join(StripeCustomer, StripeCustomer.customer_id == StripeSync.customer_id)
            .execution_options(yield_per=1000)
        )
        payments = select(Payment).where(Payment.provider == cash.PROVIDER).execution_options(yield_per=1000)
        with Session(self._engine, expire_on_commit=False) as session:
            for sync, state, customer in session.execute(syncs):
                self._ours[sync.invoice_id] = _Ours(sync, state, customer)
            for payment in session.scalars(payments):
                owner = Owner(payment.customer_id, payment.invoice_id)
                self._payments[payment.external_id] = (owner, payment.amount)
        if self._ours:
            oldest = min(ours.sync.created_at for ours in self._ours.values())
            self.since = int((oldest - LISTED_BEFORE).timestamp())

    def compare_invoices(self) -> None:
        standing: dict[UUID, list[Json]] = defaultdict(list)
        voided: set[str] = set()
        for invoice in self._client.list_invoices(created_from=self.since):
            ours = self._behind(invoice)
            if ours is None:
                continue
            self._invoice_of[invoice["id"]] = ours
            if invoice["status"] == "draft":
                self._compare_draft(ours, invoice)
            elif invoice["status"] == "void" and invoice["id"] != ours.sync.external_id:
                voided.add(invoice["id"])
            else:
                standing[ours.sync.invoice_id].append(invoice)
        for invoice_id, ours in self._ours.items():
            self._compare(ours, standing.get(invoice_id, []))
            if self._progress:
                self._progress(self.report)

    def _behind(self, invoice: Json) -> _Ours | None:
        """Our invoice that this one names; foreign ones are not our business, unless they claim to be ours."""
        named = (invoice.get("metadata") or {}).get("ledger_invoice_id")
        if named is None:
            return None
        try:
            ours = self._ours.get(UUID(named))
        except ValueError:
            ours = None
        if ours is None and invoice["status"] != "draft" and not self._submitted_since(named):
            self._differ("unknown_invoice", f"{invoice['id']} says it is our invoice {named}.", external=invoice["id"])
        return ours

    def _submitted_since(self, named: str) -> bool:
        """Whether it was submitted after this run had read our side."""
        try:
            invoice_id = UUID(named)
        except ValueError:
            return False
        with Session(self._engine) as session:
            return session.scalars(select(StripeSync).where(StripeSync.invoice_id == invoice_id)).first() is not None

    def _compare_draft(self, ours: _Ours, draft: Json) -> None:
        # While a sync is under way a draft without owner may be its own, whose answer was lost; it will find it.
        if ours.sync.state != "done" or ours.sync.external_id == draft["id"]:
            return
        try:
            self._client.delete_draft(draft["id"])
        except Refused as refusal:
            self._differ("orphan_draft", f"{draft['id']}: {refusal}", ours, external=draft["id"])
            return
        self._differ(
            "orphan_draft", f"{draft['id']} had no owner; it was deleted.", ours, external=draft["id"], repaired=True
        )

    def _compare(self, ours: _Ours, invoices: list[Json]) -> None:
        sync = ours.sync
        if not invoices:
            if sync.state == "done":
                self.report.invoices += 1
                self._differ("missing_at_stripe", f"{sync.external_id} of invoice {sync.number} is not there.", ours)
            else:
                self.report.pending += 1
            return
        self.report.invoices += 1
        if len(invoices) > 1:
            ids = ", ".join(invoice["id"] for invoice in invoices)
            self._differ("duplicate_at_stripe", f"Invoice {sync.number} stands there more than once: {ids}.", ours)
            return
        invoice = invoices[0]
        problems = final_problems(sync, invoice, customer=ours.customer or invoice["customer"])
        if sync.state == "done" and invoice["id"] != sync.external_id:
            problems.append(f"Its id is {invoice['id']}, ours is {sync.external_id}.")
        if problems:
            text = f"Invoice {sync.number}, {invoice['id']}: {' '.join(problems)}"
            self._differ("invoice_differs", text, ours, external=invoice["id"])
            return
        self._compare_status(ours, invoice)

    def _compare_status(self, ours: _Ours, invoice: Json) -> None:
        sync, status = ours.sync, invoice["status"]
        if sync.state != "done" or status != sync.external_status:
            self._repair(
                "status_behind",
                f"Invoice {sync.number} is {status} at Stripe; we had not heard of it.",
                ours,
                invoice["id"],
                lambda session: outbox.confirm(session, sync.customer_id, sync.invoice_id, invoice, now=self._now),
            )
        if status in ("void", "uncollectible") and ours.invoice_state != status:
            text = f"Invoice {sync.number} is {status} at Stripe, and {ours.invoice_state} here."
            self._differ(f"{status}_at_stripe_only", text, ours, external=invoice["id"])
        elif ours.invoice_state == "paid" and status == "open":
            text = f"Invoice {sync.number} is paid here, and open at Stripe."
            self._differ("paid_here_only", text, ours, external=invoice["id"])
        elif status == "paid" and invoice["amount_due"] == 0 and sync.amount_due_minor > 0:
            # A balance at Stripe swallowed it: no payment will ever come.
            text = f"Invoice {sync.number} is paid at Stripe from a balance there, without money."
            self._differ("paid_without_money", text, ours, external=invoice["id"])

    def compare_payments(self) -> None:
        listed: set[str] = set()
        for payment in self._client.list_invoice_payments(created_from=self.since):
            ours = self._invoice_of.get(payment["invoice"])
            if ours is None or payment["status"] != "paid":
                continue
            self.report.payments += 1
            listed.add(payment["id"])
            known = self._payments.get(payment["id"])
            if known is None:
                self._record(ours, payment)
            elif known != (ours.owner, amounts.from_minor(payment["amount_paid"], payment["currency"])):
                text = f"{payment['id']} of invoice {ours.sync.number} has another amount or invoice at Stripe."
                self._differ("payment_differs", text, ours, external=payment["id"])
            if self._progress:
                self._progress(self.report)
        for external_id, (owner, _) in self._payments.items():
            if external_id not in listed:
                text = f"{external_id} was recorded as paid here; Stripe does not list it as paid."
                self._differ("payment_here_only", text, self._ours.get(owner.invoice_id), external=external_id)

    def _record(self, ours: _Ours, payment: Json) -> None:
        def write(session: Session) -> None:
            cash.record(
                session,
                payment,
                owner=ours.owner,
                livemode=self._client.livemode,
                cause=CAUSE,
                now=self._now,
            )

        text = f"{payment['id']} paid invoice {ours.sync.number}; we had not heard of it."
        self._repair("payment_at_stripe_only", text, ours, payment["id"], write)

    def _repair(self, kind: str, text: str, ours: _Ours, external_id: str, write: Callable[[Session], None]) -> None:
        try:
            with Session(self._engine) as session, session.begin():
                write(session)
        except (GatewayError, InvoicingError, LedgerError) as refusal:
            self._differ(kind, f"{text} It cannot be repaired: {refusal}", ours, external=external_id)
        else:
            self._differ(kind, text, ours, external=external_id, repaired=True)

    def _differ(
        self, kind: str, text: str, ours: _Ours | None = None, *, external: str | None = None, repaired: bool = False
    ) -> None:
        self.report.differences.append(
            Difference(
                kind,
                text,
                ours.sync.customer_id if ours else None,
                ours.sync.invoice_id if ours else None,
                external or (ours.sync.external_id if ours else None),
                repaired,
            )
        )
