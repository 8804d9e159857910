"""What a process does from its first statement to its last, for each kind of work. Each may be done twice."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy.orm import Session

from app.composition import Billing
from app.factory import create_app
from invoicing.credits import grant_credit
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.finalizing import finalize_due
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


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a process: where, with what, and when."""

    place: Place
    billing: Billing
    now: datetime

    @property
    def stripe(self) -> StripeSide:
        return self.place.stripe()


@dataclass(frozen=True, slots=True)
class Flow:
    """`stage` is where it begins."""

    stage: str | None
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
            post(session, [_usage(name, item, amount) for item, amount in used], now=opened + timedelta(days=170))
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


def _usage(name: str, item: str, amount: str) -> NewEntry:
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
    """The web process takes every delivery and rings; then the worker handles what is due."""
    deliver(run)
    inbox.handle_due(run.billing.engine, run.billing.provider.client, now=datetime.now(UTC), threads=1)


def deliver(run: Run, *, seed: int | None = None) -> int:
    """Stripe delivers every event it has, in order, or in an order that the seed decides; returns how many."""
    events = run.stripe.events()
    if seed is not None:
        random.Random(seed).shuffle(events)
    web = create_app(run.billing.config, billing=run.billing).test_client()
    for event in events:
        body, signature = signed(event, now=datetime.now(UTC))
        answer = web.post("/webhooks/stripe", data=body, headers={"Stripe-Signature": signature})
        assert answer.status_code == 200, answer.text
    return len(events)


def work_off(run: Run) -> None:
    """Cron and workers do what is due at that time."""
    engine, provider = run.billing.engine, run.billing.provider
    sync_runs.sync_due(engine, provider.client, now=run.now, threads=1, patience_s=0)
    inbox.handle_due(engine, provider.client, now=run.now, threads=1)


FLOWS: dict[str, Flow] = {
    "begin": Flow(None, begin),
    "close": Flow("open", close),
    "finalize": Flow("closed", finalize),
    "sync": Flow("final", sync),
    "webhook": Flow("synced", webhook),
}
SWEPT = [name for name in FLOWS if name != "begin"]
