"""What happened to some of the demo's invoices after they were final: paid, corrected, disputed, paid out.

Nothing of it is written past the product: staff's part goes through `request_movement`, Stripe's part happens at the
sandbox and reaches the books as its events do. Web and worker do not run yet, so this does their part for the few
customers that it is about: it syncs them, reads Stripe's list of events, and handles them. Unlike the rest of the demo
it happens at the real time, since the sandbox lives in it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.composition import Billing
from app.demo.reviews import AGENT, APPROVER
from app.demo.stand_in import SandboxSilent, StandIn
from app.demo.world import CUSTOMERS, TRANSFER_ROLES, DemoCustomer, Role
from invoicing.customers import customer_id_for
from invoicing.drafts import list_invoices
from invoicing.manual.bank_files import StatementLine
from invoicing.manual.bank_lines import import_lines
from invoicing.movements.requests import approve_movement, request_movement
from invoicing.movements.tables import Dispute, Movement, Payout, Refund
from invoicing.tables import Invoice
from ledger.money import invoice_exponent
from stripe_gateway.errors import GatewayError

PATIENCE_S = 20.0
"""The most that all of it may take: the site must be up soon, with less to see if the sandbox is slow."""
POLL_S = 0.1
FIFTH = Decimal(5)
EVIDENCE_DUE_IN = timedelta(days=2)
TOO_MUCH = Decimal("12.50")
"""By how much one customer overpays, in major units."""
STRANGERS_MONEY = 1900
"""What somebody pays to the account without an invoice of ours, in cents of a dollar."""
BANK_ACCOUNT = "main"


@dataclass(frozen=True, slots=True)
class Wish:
    """What staff begin with the newest final invoice of a role's customer; `share` of its total, None for all of it."""

    kind: str
    reason: str
    share: Decimal | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    is_approved: bool = True


_REFUND = {"paid_part": "refund"}
WISHES: dict[Role, Wish] = {
    "corrected": Wish("credit_note", "One machine was billed twice as large as it was.", 1 / FIFTH, _REFUND),
    "refunded": Wish("credit_note", "Two charging stations were offline for a weekend.", 1 / FIFTH, _REFUND),
    "refund_failed": Wish("credit_note", "The mixing desk's volume was deleted too late.", 1 / FIFTH, _REFUND),
    "rebilled": Wish("void", "It named the wrong cost centre; it is billed again.", options={"then": "rebill"}),
    "written_off": Wish("write_off", "The theatre has closed; nothing will come."),
    "doubtful": Wish(
        "credit_note",
        "They say that half of the tiles were never rendered.",
        Decimal("0.5"),
        _REFUND,
        is_approved=False,
    ),
}
PAYING: tuple[Role, ...] = ("settled", "refunded", "refund_failed", "disputed", "dispute_lost", "doubtful")
"""Whose cards are charged before anything else happens to the invoice."""


class TooSlow(Exception):
    """The sandbox was too slow; what had not happened by then is left out of the demo."""

    code = "sandbox_too_slow"


def live_on(billing: Billing, *, say: Callable[[str], None]) -> None:
    """Let it happen, within `PATIENCE_S` or not at all. Repeated, it goes on where it was and adds nothing."""
    _Aftermath(billing).bank_transfers()
    try:
        _Aftermath(billing).unfold()
    except (TooSlow, SandboxSilent, GatewayError) as trouble:
        say(f"without some of what happened to invoices: {trouble}")


def of_role(role: Role) -> DemoCustomer:
    """The one customer with this role."""
    return next(customer for customer in CUSTOMERS if customer.role == role)


class _Aftermath:
    def __init__(self, billing: Billing) -> None:
        self._billing = billing
        self._stripe = billing.provider
        self._sandbox = StandIn(billing.config)
        self._end = time.monotonic() + PATIENCE_S

    def unfold(self) -> None:
        for role in {*PAYING, *WISHES}:
            self._sync(role)
        self._until(self._cards_are_charged)
        for role, wish in WISHES.items():
            self._begin(role, wish)
        self._until(self._nothing_is_under_way)
        self._fail_a_refund()
        self._disputes()
        self._payout()
        self._until(self._everything_is_told)
        self._stripe.reconcile(now=_now())

    # --- Stripe's customers

    def _sync(self, role: Role) -> None:
        for invoice in self._finals(role):
            self._look_at_the_clock()
            self._stripe.sync_one(customer_id=invoice.customer_id, invoice_id=invoice.id, now=_now(), for_people=True)

    def _finals(self, role: Role) -> list[Invoice]:
        with Session(self._billing.engine) as session:
            found = list_invoices(session, customer_id=_id_of(role))
        return [invoice for invoice in found if invoice.state == "final"]

    def _begin(self, role: Role, wish: Wish) -> None:
        """As staff would on the invoice's page; what was begun before is left alone."""
        customer_id = _id_of(role)
        movement_id = uuid5(customer_id, "demo movement")
        with Session(self._billing.engine) as session, session.begin():
            if session.get(Movement, (customer_id, movement_id)) is not None:
                return
            invoice = next(i for i in list_invoices(session, customer_id=customer_id) if i.state in ("final", "paid"))
            movement = request_movement(
                session,
                customer_id=customer_id,
                invoice_id=invoice.id,
                movement_id=movement_id,
                kind=wish.kind,
                amount=_part(invoice, wish.share),
                options=wish.options,
                reason=wish.reason,
                actor=AGENT,
                provider=self._billing.providers,
                settings=self._billing.settings,
                now=_now(),
            )
            if movement.state == "awaiting_approval" and wish.is_approved:
                approve_movement(
                    session,
                    customer_id=customer_id,
                    movement_id=movement_id,
                    actor=APPROVER,
                    provider=self._billing.providers,
                    now=_now(),
                )

    def _fail_a_refund(self) -> None:
        """The bank sends it back. Its credit note stands by then: Stripe would refuse one about a failed refund."""
        with Session(self._billing.engine) as session:
            refund = session.scalars(
                select(Refund).where(Refund.customer_id == _id_of("refund_failed"), Refund.state == "succeeded")
            ).one_or_none()
        if refund is not None:
            self._sandbox.steer(f"refunds/{refund.external_id}/fail")

    def _disputes(self) -> None:
        """Two cards are disputed soon after they paid. One is decided at once, the other one's evidence is due soon."""
        self._until(lambda: len(self._disputes_there()) >= 2)
        for dispute in self._disputes_there():
            if dispute["reason"] == "fraudulent":
                self._hurry(dispute)
            elif dispute["status"] == "needs_response":
                self._sandbox.steer(f"disputes/{dispute['id']}", status="lost")

    def _hurry(self, dispute: dict[str, Any]) -> None:
        """Most of the days that Stripe gives for evidence are over; a change at Stripe makes it say so."""
        due_by = int((_now() + EVIDENCE_DUE_IN).timestamp())
        if dispute["evidence_details"]["due_by"] > due_by:
            details = dispute["evidence_details"] | {"due_by": due_by}
            self._sandbox.steer("drift", object=dispute["id"], set={"evidence_details": details})
            fields = {"metadata[asked_customer]": "yes"}
            self._sandbox.write(f"disputes/{dispute['id']}", key=f"demo-{dispute['id']}", **fields)

    def _disputes_there(self) -> list[dict[str, Any]]:
        return self._sandbox.newest("disputes")

    def _payout(self) -> None:
        """What was paid reaches our bank, together with money of somebody who is no customer of ours."""
        self._sandbox.write(
            "payment_intents",
            key="demo-stranger",
            amount=STRANGERS_MONEY,
            currency="usd",
            payment_method="pm_card_visa",
            confirm="true",
        )
        if self._sandbox.newest("payouts"):
            return
        self._until(lambda: all(charge["balance_transaction"] for charge in self._paid_charges()))
        now = int(_now().timestamp())
        for transaction in self._sandbox.newest("balance_transactions"):
            if transaction["available_on"] > now:
                # Stripe's two days of waiting are over.
                self._sandbox.steer("drift", object=transaction["id"], set={"available_on": now - 1})
        self._sandbox.steer("payouts", currency="usd")

    def _paid_charges(self) -> list[dict[str, Any]]:
        return [charge for charge in self._sandbox.newest("charges") if charge["status"] == "succeeded"]

    # --- Waiting: Stripe's events are read and handled as worker and cron would

    def _until(self, condition: Callable[[], bool]) -> None:
        while True:
            now = _now()
            self._stripe.catch_up(now=now)
            for work in self._stripe.due_work(now=now, limit=200):
                if work.kind == "operation":
                    customer_id, operation_id = map(UUID, work.ids)
                    self._stripe.operate_one(customer_id=customer_id, subject_id=operation_id, now=now)
            self._stripe.handle_due(now=_now())
            if condition():
                return
            self._look_at_the_clock()
            time.sleep(POLL_S)

    def _look_at_the_clock(self) -> None:
        if time.monotonic() > self._end:
            raise TooSlow(TooSlow.__doc__)

    def _cards_are_charged(self) -> bool:
        return not any(self._finals(role) for role in PAYING)

    def _nothing_is_under_way(self) -> bool:
        with Session(self._billing.engine) as session:
            left = session.scalar(select(func.count()).where(Movement.state == "working"))
            sent = session.scalars(select(Refund.state)).all()
        return left == 0 and not {"requested", "pending"} & set(sent)

    def _everything_is_told(self) -> bool:
        with Session(self._billing.engine) as session:
            lost = session.scalar(select(func.count()).where(Dispute.status == "lost"))
            failed = session.scalar(select(func.count()).where(Refund.state == "failed"))
            cleared = session.scalar(select(func.count()).where(Payout.reconciled_at.is_not(None)))
        return lost == failed == cleared == 1

    # --- Customers who pay to our bank account

    def bank_transfers(self) -> None:
        """Take in a bank statement: two lines name an invoice, a third one names none."""
        now = _now()
        import_lines(
            self._billing.engine,
            list(self._statement(now)),
            account=BANK_ACCOUNT,
            provider=self._billing.providers,
            settings=self._billing.settings,
            actor=APPROVER,
            now=now,
            reject=lambda _: None,
        )

    def _statement(self, now: datetime) -> Iterator[StatementLine]:
        for role in sorted(TRANSFER_ROLES):
            for invoice in self._finals(role):
                amount = invoice.open + (TOO_MUCH if role == "transfer_too_much" else Decimal(0))
                yield StatementLine(
                    f"demo-{invoice.number}", now.date(), amount, invoice.currency, of_role(role).name,
                    f"Invoice {invoice.number}",
                )  # fmt: skip
        yield StatementLine(
            "demo-nameless", now.date(), Decimal("48.20"), "USD", "Barnacle Chandlery", "Thank you for last month"
        )


def _now() -> datetime:
    return datetime.now(UTC)


def _id_of(role: Role) -> UUID:
    return customer_id_for(of_role(role).external_id)


def _part(invoice: Invoice, share: Decimal | None) -> Decimal | None:
    """That share of the invoice's total, in whole minor units."""
    return None if share is None else round((invoice.total or Decimal(0)) * share, invoice_exponent(invoice.currency))
