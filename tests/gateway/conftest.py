"""The gateway between a real database and a real sandbox process, with webhooks that a test delivers as it likes."""

import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session

from app.database import normalise_url
from app.embedded.state import SANDBOX_KEY_PREFIX
from invoicing.customers import customer_id_for
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger.balances import balances
from ledger.checks import run_checks
from stripe_gateway import operations, outbox
from stripe_gateway.checks import CHECKS
from stripe_gateway.client import Client, ClientSettings
from stripe_gateway.gateway import StripeGateway
from stripe_gateway.pacing import Rates
from stripe_gateway.sandbox.webhooks import signature
from stripe_gateway.sync_runs import SyncSummary, sync_due
from stripe_gateway.tables import StripeEvent, StripeSync
from tests.invoicing.conftest import Company
from tests.processes.sandbox import WEBHOOK_SECRET, SandboxProcess
from tests.sandbox.receiver import Delivery, Receiver

UNPACED = Rates(total=100_000, per_operation=100_000)
WRITES = ("invoices.create", "invoices.add_lines", "invoices.finalize")


def now() -> datetime:
    return datetime.now(UTC)


def settings_for(sandbox: SandboxProcess, **changes: Any) -> ClientSettings:
    """A client's settings for a sandbox, without pacing unless a test wants it."""
    return ClientSettings(
        **{
            "api_key": sandbox.api_key,
            "api_base": sandbox.url,
            "webhook_secrets": (WEBHOOK_SECRET,),
            "rates": UNPACED,
            **changes,
        }
    )


@dataclass
class Town:
    """A company whose invoices go to a sandbox."""

    engine: Engine
    sandbox: SandboxProcess
    gateway: StripeGateway
    company: Company
    receiver: Receiver | None = None
    _taken: int = field(default=0)

    def invoice(self, name: str = "acme", *amounts: str, currency: str = "USD", card: str | None = None) -> Invoice:
        """A final invoice over these amounts, submitted and not yet synced. `card` becomes the customer's default."""
        self.company.customer(name, currency=currency)
        if card is not None:
            self.gateway.set_payment_method(customer_id=customer_id_for(name), payment_method=card, now=now())
        for number, amount in enumerate(amounts or ("12.34",)):
            self.company.use(name, "2025-06-03", amount, item=f"machine-{number}")
        self.company.close("2025-07-02")
        self.company.finalize_due("2025-07-10")
        return self.company.invoice(name, "2025-06").invoice

    def invoices(self, count: int, *, name: str = "customer") -> None:
        """As many customers with one final invoice each."""
        for number in range(count):
            self.company.customer(f"{name}-{number}")
            self.company.use(f"{name}-{number}", "2025-06-03", f"{number + 1}.07")
            self.company.use(f"{name}-{number}", "2025-06-04", "3.001", item="disk")
        self.company.close("2025-07-02")
        self.company.finalize_due("2025-07-10")

    def sync(self, *, at: datetime | None = None, patience_s: float = 20.0, threads: int = 4) -> SyncSummary:
        return sync_patiently(self.engine, self.gateway.client, at=at or now(), patience_s=patience_s, threads=threads)

    def outlive_leases(self) -> None:
        """Half a minute goes by for the database: what dead processes held is free."""
        with self.engine.begin() as connection:
            for table in ("stripe_syncs", "stripe_operations", "stripe_customers", "stripe_events"):
                free = "SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL"
                connection.execute(text(f"UPDATE {table} {free}"))

    def row(self, invoice: Invoice) -> StripeSync:
        with Session(self.engine, expire_on_commit=False) as session:
            return session.get_one(StripeSync, (invoice.customer_id, invoice.id))

    def standing(self) -> dict[str, list[dict[str, Any]]]:
        """Stripe's finalized invoices by our invoice id."""
        found: dict[str, list[dict[str, Any]]] = {}
        for invoice in client_for(self).list_invoices():
            if invoice["status"] not in ("draft", "void"):
                found.setdefault(invoice["metadata"]["ledger_invoice_id"], []).append(invoice)
        return found

    def drafts(self) -> list[dict[str, Any]]:
        return list(self.gateway.client.list_invoices(status="draft"))

    def assert_each_stands_once(self) -> None:
        """Exactly one finalized invoice at Stripe per submitted invoice, with our total and number."""
        standing = self.standing()
        with Session(self.engine) as session:
            for sync in session.scalars(select(StripeSync)):
                found = standing.pop(str(sync.invoice_id), [])
                assert [invoice["id"] for invoice in found] == [sync.external_id], sync.number
                assert (found[0]["total"], found[0]["number"]) == (sync.amount_due_minor, sync.number)
                assert sync.state == "done"
        assert not standing
        with Session(self.engine) as session:
            for result in run_checks(session, CHECKS):
                assert result.holds, f"{result.name}: {result.offenders}"

    # webhooks

    def settle(self) -> None:
        """Let the sandbox do what is due, and wait until it has delivered everything."""
        self.sandbox.wait_for_webhooks()

    def fetch(self) -> list[Delivery]:
        """What arrived since the last call, accepted by the receiver but not given to the gateway."""
        assert self.receiver is not None
        fresh = self.receiver.deliveries[self._taken :]
        self._taken += len(fresh)
        return fresh

    def deliver(self, deliveries: list[Delivery]) -> None:
        """Give deliveries to the gateway as the web endpoint does; each is signed anew, as Stripe repeats them."""
        for delivery in deliveries:
            at = now()
            signed = signature(delivery.body, [WEBHOOK_SECRET], at=int(at.timestamp()))
            with Session(self.engine) as session, session.begin():
                self.gateway.receive(session, body=delivery.body, signature=signed, now=at)

    def handle(self, *, tries: int = 3) -> None:
        """Handle what is due, and what is due again soon after."""
        for round_ in range(tries):
            self.gateway.handle_due(now=now() + timedelta(minutes=round_))

    def events(self, state: str | None = None) -> list[StripeEvent]:
        with Session(self.engine, expire_on_commit=False) as session:
            query = select(StripeEvent)
            return list(session.scalars(query if state is None else query.where(StripeEvent.state == state)))

    def books(self) -> dict[str, Any]:
        """Everything that events may change, in comparable form."""
        with Session(self.engine) as session:
            invoices = session.execute(
                text("SELECT number, state, amount_due, amount_paid FROM invoices ORDER BY customer_id, id")
            ).all()
            payments = session.execute(
                text("SELECT external_id, amount, applied FROM payments ORDER BY external_id")
            ).all()
            failures = session.execute(
                text("SELECT external_id, attempt, code FROM payment_failures ORDER BY external_id")
            ).all()
            entries = session.scalar(text("SELECT count(*) FROM ledger_entries WHERE kind = 'cash'"))
            syncs = session.execute(
                text("SELECT number, state, external_status, last_code FROM stripe_syncs ORDER BY number")
            ).all()
        return {
            "invoices": [tuple(row) for row in invoices],
            "payments": [tuple(row) for row in payments],
            "failures": [tuple(row) for row in failures],
            "cash entries": entries,
            "syncs": [tuple(row) for row in syncs],
        }

    def balance(self, name: str, account: str) -> Decimal:
        with Session(self.engine) as session:
            return balances(session, customer_id=customer_id_for(name)).get(account, Decimal(0))


def sync_patiently(engine: Engine, client: Client, *, at: datetime, patience_s: float, threads: int = 4) -> SyncSummary:
    """One run with this patience. What it would wait for is tried at once, with the time at which it is due.

    What another process holds, and a Stripe that is away, are waited for: their time is the database's.
    """
    total = SyncSummary()
    while True:
        _add(total, sync_due(engine, client, now=at, patience_s=0, threads=threads))
        due_at = min(filter(None, (outbox.next_due_at(engine), operations.next_due_at(engine))), default=None)
        if due_at is None or due_at > at + timedelta(seconds=patience_s):
            return total
        if due_at <= at:
            _add(total, sync_due(engine, client, now=at, patience_s=patience_s, threads=threads))
            return total
        at = due_at


def _add(total: SyncSummary, run: SyncSummary) -> None:
    """What was done adds up; what is left is what the last run left."""
    for name in ("synced", "already", "operations", "refused"):
        setattr(total, name, getattr(total, name) + getattr(run, name))
    for name in ("waiting", "parked", "unknown"):
        setattr(total, name, getattr(run, name))
    total.problems += run.problems


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    process = SandboxProcess(tmp_path, api_key=f"{SANDBOX_KEY_PREFIX}gateway")
    yield process
    process.kill9()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def make_town(engine: Engine, sandbox: SandboxProcess, **changes: Any) -> Town:
    gateway = StripeGateway(engine, settings_for(sandbox, **changes))
    return Town(engine, sandbox, gateway, Company(engine, gateway, Settings()))


@pytest.fixture
def town(engine: Engine, sandbox: SandboxProcess) -> Town:
    """A town whose sandbox sends no webhooks."""
    return make_town(engine, sandbox.start())


@pytest.fixture
def hooked(engine: Engine, sandbox: SandboxProcess, receiver: Receiver) -> Town:
    """A town whose webhooks arrive at a receiver, from where a test delivers them."""
    town = make_town(engine, sandbox.start(webhook_url=receiver.url))
    town.receiver = receiver
    return town


@pytest.fixture
def abroad(hooked: Town) -> Town:
    """A town whose account settles in EUR, where one USD is worth 0.92."""
    hooked.sandbox.set(settlement_currency="eur", exchange_rates={"usd": "0.92"})
    return hooked


def shuffled(deliveries: list[Delivery], *, times: int, seed: int) -> list[Delivery]:
    """Each delivery `times` times, in an order that the seed decides."""
    copies = deliveries * times
    random.Random(seed).shuffle(copies)
    return copies


def at_once(*works: Any) -> list[Any]:
    """Run the functions at the same moment, each in its thread; returns their results in order."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(index: int, work: Any) -> None:
        barrier.wait()
        try:
            results[index] = work()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results[index] = error

    threads = [threading.Thread(target=run, args=(index, work)) for index, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def client_for(town: Town, **changes: Any) -> Client:
    return Client(settings_for(town.sandbox, **changes))


@pytest.fixture
def databases_owner(database_url: str) -> Iterator[Engine]:
    """The test's database as its owner: not even the owner may do what a guard forbids."""
    engine = create_engine(normalise_url(database_url))
    yield engine
    engine.dispose()
