"""What a process does from its first statement to its last, for each kind of work. Each may be done twice."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID, uuid5

from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.composition import Billing
from app.factory import create_app
from invoicing.credit.grants import grant_credit
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.finalizing import finalize_due
from invoicing.movements.requests import request_movement
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from stripe_gateway import inbox, sync_runs
from tests.faults.place import Place, StripeSide, signed

NAMESPACE = UUID("5c1d5b0e-8f1f-4c8e-9a3e-0b8f6f1f7a11")
CLOSED_AT = datetime(2025, 7, 2, 12, tzinfo=UTC)
FINAL_AT = datetime(2025, 7, 10, tzinfo=UTC)
USED: dict[str, tuple[tuple[str, str], ...]] = {
    "alice": (("machine", "120.457"), ("disk", "3.001")),  # pays by card
    "bob": (("machine", "45.5"), ("disk", "0.25")),  # is sent the invoice
    "carol": (("disk", "0.10"),),  # too little: carried forward
    "dave": (("machine", "20"),),  # covered by a credit
}


class NotTaken(Exception):
    """We did not answer 200: Stripe will deliver it again."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a process: where, with what, and when."""

    place: Place
    now: datetime

    @property
    def billing(self) -> Billing:
        return self.place.billing

    @property
    def stripe(self) -> StripeSide:
        return self.place.stripe()


@dataclass(frozen=True, slots=True)
class Flow:
    """`stage` is where it begins; empty: before anything."""

    stage: str
    act: Callable[[Run], None]


def begin(run: Run) -> None:
    """Four customers with a month's usage; one has a card."""
    engine, opened = run.billing.engine, datetime(2025, 1, 1, tzinfo=UTC)
    for name, used in USED.items():
        with Session(engine) as session, session.begin():
            create_customer(
                session,
                external_id=name,
                name=name.title(),
                email=f"{name}@example.com",
                currency="USD",
                time_zone="UTC",
                anchor_day=1,
                actor="test",
                now=opened,
            )
        with Session(engine) as session, session.begin():
            post(session, [usage(name, item, amount) for item, amount in used], now=opened + timedelta(days=170))
    with Session(engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id_for("dave"),
            grant_id=uuid5(NAMESPACE, "grant"),
            account="liabilities:credits:promotional",
            amount=Decimal(50),
            reason="Welcome",
            actor="test",
            now=opened + timedelta(days=171),
        )
    run.billing.provider.set_payment_method(
        customer_id=customer_id_for("alice"), payment_method="pm_card_visa", now=run.now
    )


def usage(name: str, item: str, amount: str) -> NewEntry:
    """One charge of June; the same item again is the same entry."""
    transaction = transaction_id("test", f"{name} {item}")
    return NewEntry(
        customer_id=customer_id_for(name),
        id=entry_id(transaction, "usage"),
        transaction_id=transaction,
        debit_account="assets:unbilled",
        credit_account="income:usage",
        amount=Decimal(amount),
        quantity=Decimal(1),
        effective_at=datetime(2025, 6, 3, tzinfo=UTC),
        kind="usage",
        actor="test",
        digest=digest({"amount": Decimal(amount)}),
        item=item,
        labels={"app": "web"},
    )


def close(run: Run) -> None:
    """`billing cycle close`, a customer at a time, so that there are several chunks."""
    close_due(run.billing.engine, as_of=CLOSED_AT, settings=run.billing.settings, chunk_size=1)


def finalize(run: Run) -> None:
    """`billing invoices finalize --due`."""
    finalize_due(run.billing.engine, provider=run.billing.provider, as_of=FINAL_AT)


def sync(run: Run) -> None:
    """`billing invoices sync`, by one thread, so that every run has the same order."""
    provider = run.billing.provider
    sync_runs.sync_due(run.billing.engine, provider.client, now=run.now, threads=1, patience_s=0)


def webhook(run: Run) -> None:
    """The web process takes every new delivery and rings; then the worker handles what is due."""
    deliver(run, only_new=True)
    inbox.handle_due(run.billing.engine, run.billing.provider.client, now=datetime.now(UTC), threads=1)


def deliver(run: Run, *, seed: int | None = None, only_new: bool = False) -> int:
    """Stripe delivers its events, in order, or in an order that the seed decides; returns how many there are.

    `only_new` are those that we never acknowledged, which Stripe sends again and again.
    """
    events = run.stripe.events()
    if seed is not None:
        random.Random(seed).shuffle(events)
    with Session(run.billing.engine) as session:
        known = set(session.scalars(text("SELECT id FROM stripe_events"))) if only_new else set()
    web = _web(run.place)
    for event in events:
        if event["id"] not in known:
            body, signature = signed(event, now=datetime.now(UTC))
            answer = web.post("/webhooks/stripe", data=body, headers={"Stripe-Signature": signature})
            if answer.status_code != 200:
                raise NotTaken(answer.text)
    return len(events)


@cache
def _web(place: Place) -> FlaskClient:
    """This process's web application at the place, made once."""
    return create_app(place.billing.config, billing=place.billing).test_client()


def work_off(run: Run) -> None:
    """Cron and workers do what is due at that time."""
    engine, provider = run.billing.engine, run.billing.provider
    sync_runs.sync_due(engine, provider.client, now=run.now, threads=1, patience_s=0)
    inbox.handle_due(engine, provider.client, now=run.now, threads=1)


@dataclass(frozen=True, slots=True)
class Movement:
    """A flow: somebody asks for this movement of the customer's invoice; Stripe is asked, and answers with events."""

    customer: str
    kind: str
    amount: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, run: Run) -> None:
        engine, provider = run.billing.engine, run.billing.provider
        customer_id = customer_id_for(self.customer)
        with Session(engine) as session, session.begin():
            invoice_id = session.scalars(
                text("SELECT id FROM invoices WHERE customer_id = :customer_id AND generation = 1"),
                {"customer_id": customer_id},
            ).one()
            request_movement(
                session,
                customer_id=customer_id,
                invoice_id=invoice_id,
                movement_id=uuid5(NAMESPACE, f"{self.customer} {self.kind}"),
                kind=self.kind,
                amount=None if self.amount is None else Decimal(self.amount),
                options=self.options | self._found(run),
                reason="The test asks for it.",
                actor="staff",
                provider=provider,
                settings=run.billing.settings,
                now=run.now,
            )
        sync_runs.sync_due(engine, provider.client, now=run.now, threads=1, patience_s=0)
        run.stripe.control("clock", advance_s=0)
        webhook(run)

    def _found(self, run: Run) -> dict[str, Any]:
        if self.kind != "accept_dispute":
            return {}
        return {"dispute": next(run.stripe.each("disputes"))["id"]}


def at_stripe(act: Callable[[StripeSide], None]) -> Callable[[Run], None]:
    """Something that happens there, and of which we hear later."""
    return lambda run: act(run.stripe)


def dispute(stripe: StripeSide) -> None:
    """The customer's bank takes the money back; it is contested, lost, and won after all."""
    _open_dispute(stripe)
    found = next(stripe.each("disputes"))["id"]
    for status in ("under_review", "lost", "won"):
        stripe.control(f"disputes/{found}", status=status)


def _open_dispute(stripe: StripeSide) -> None:
    stripe.control("disputes", charge=next(stripe.each("charges"))["id"])


def pay_out(stripe: StripeSide) -> None:
    """Stripe sends what it holds to the bank, as soon as it may."""
    stripe.control("clock", advance_s=8 * 86_400)
    stripe.control("payouts", arrive_s=0)
    stripe.control("clock", advance_s=60)


def fail_refund(stripe: StripeSide) -> None:
    """The customer's bank sends a refund back, days later."""
    stripe.control(f"refunds/{next(stripe.each('refunds'))['id']}/fail", reason="expired_or_canceled_card")


def refund_by_hand(stripe: StripeSide) -> None:
    """A person refunds in the Dashboard, without a word to us."""
    stripe.do("refunds", charge=next(stripe.each("charges"))["id"], amount=1000)


def reconcile(run: Run) -> None:
    """`billing stripe reconcile`."""
    run.billing.provider.reconcile(now=run.now)


def catch_up(run: Run) -> None:
    """`billing stripe catch-up`: what nobody delivered is read from Stripe's list, then handled."""
    run.billing.provider.catch_up(now=run.now)
    inbox.handle_due(run.billing.engine, run.billing.provider.client, now=datetime.now(UTC), threads=1)


ARRANGED: dict[str, Flow] = {
    "begin": Flow("", begin),
    "dispute at Stripe": Flow("paid", at_stripe(dispute)),
    "open dispute at Stripe": Flow("paid", at_stripe(_open_dispute)),
    "payout at Stripe": Flow("paid", at_stripe(pay_out)),
    "failed refund at Stripe": Flow("refunded", at_stripe(fail_refund)),
    "refund by hand at Stripe": Flow("synced", at_stripe(refund_by_hand)),
}
"""What leads to a stage and is no work of ours."""

SWEPT: dict[str, Flow] = {
    "close": Flow("open", close),
    "finalize": Flow("closed", finalize),
    "sync": Flow("final", sync),
    "webhook": Flow("synced", webhook),
    "credit note and refund": Flow("paid", Movement("alice", "credit_note", "20.00", {"paid_part": "refund"})),
    "credit note kept": Flow("paid", Movement("alice", "credit_note", "20.00", {"paid_part": "keep"})),
    "credit note before payment": Flow("paid", Movement("bob", "credit_note", "10.00")),
    "refund that fails late": Flow("refund failed", webhook),
    "void and bill again": Flow("paid", Movement("bob", "void", None, {"then": "rebill"})),
    "write off": Flow("paid", Movement("bob", "write_off")),
    "outside payment": Flow(
        "paid",
        Movement(
            "bob", "outside_payment", "45.75", {"received_at": "2025-07-20T00:00:00+00:00", "reference": "SEPA 4711"}
        ),
    ),
    "dispute": Flow("disputed", webhook),
    "dispute accepted": Flow("contested", Movement("alice", "accept_dispute")),
    "payout": Flow("paid out", webhook),
    "reconcile": Flow("unheard", reconcile),
    "catch up": Flow("unheard", catch_up),
}
"""What the sweeps strike."""

FLOWS = {**ARRANGED, **SWEPT}

STAGES: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "open": (None, ("begin",)),
    "closed": ("open", ("close",)),
    "final": ("closed", ("finalize",)),
    "synced": ("final", ("sync",)),
    "paid": ("synced", ("webhook",)),
    "refunded": ("paid", ("credit note and refund",)),
    "refund failed": ("refunded", ("failed refund at Stripe",)),
    "disputed": ("paid", ("dispute at Stripe",)),
    "contested": ("paid", ("open dispute at Stripe", "webhook")),
    "paid out": ("paid", ("payout at Stripe",)),
    "unheard": ("synced", ("refund by hand at Stripe",)),
}
"""Each stage: the one before it, and what leads here from there."""
