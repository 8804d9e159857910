"""Both providers behind one face: a company whose invoices somebody collects, and customers who pay."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing.customers import change_provider, customer_id_for
from invoicing.manual.bank_files import StatementLine
from invoicing.manual.bank_lines import take_line
from invoicing.manual.letters import BankDetails
from invoicing.manual.provider import ManualProvider
from invoicing.manual.sending import Message, send_due
from invoicing.manual.transfers import note_transfer, waiting_transfers
from invoicing.movements.requests import request_movement
from invoicing.movements.tables import Movement
from invoicing.provider import SyncState
from invoicing.providers import Providers
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger.balances import balances
from tests.gateway.conftest import Town, databases_owner, make_town, receiver, sandbox
from tests.invoicing.conftest import Company
from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver

__all__ = ["databases_owner", "receiver", "sandbox"]

BANK = BankDetails(("Example Hosting Inc.", "IBAN DE02 1203 0000 0000 2020 51"))


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Postbox:
    """Takes every letter, as a mail server does."""

    letters: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        self.letters.append(message)


@dataclass
class Collector:
    """One provider at work: how it does what it owes, and how its customers pay."""

    name: str
    engine: Engine
    providers: Providers
    company: Company
    postbox: Postbox
    town: Town | None = None

    def final_invoice(self, *amounts: str, customer: str = "acme") -> Invoice:
        """A final invoice over these amounts, given to the provider, who has done nothing yet."""
        customer_id = self.company.customer(customer, email=f"{customer}@example.org")
        with Session(self.engine) as session, session.begin():
            change_provider(session, customer_id=customer_id, provider=self.name)
        if self.town is not None:
            self.town.gateway.set_payment_method(
                customer_id=customer_id, payment_method="pm_card_chargeCustomerFail", now=now()
            )
        for number, amount in enumerate(amounts or ("12.34",)):
            self.company.use(customer, "2025-06-03", amount, item=f"machine-{number}")
        self.company.close("2025-07-02")
        self.company.finalize_due("2025-07-10")
        return self.invoice(customer)

    def invoice(self, customer: str = "acme") -> Invoice:
        """The customer's newest invoice of June."""
        with Session(self.engine, expire_on_commit=False) as session:
            query = select(Invoice).where(
                Invoice.customer_id == customer_id_for(customer),
                Invoice.period_start == datetime(2025, 6, 1, tzinfo=UTC),
            )
            return session.scalars(query.order_by(Invoice.generation.desc()).limit(1)).one()

    def work(self) -> None:
        """The provider does everything that it owes, and we hear of it."""
        if self.town is None:
            send_due(self.engine, self.postbox, now=now())
            return
        for _ in range(3):  # a refund's credit note waits for the refund, an event for the answer
            self.town.sync()
            self.town.settle()
            self.town.deliver(self.town.fetch())
            self.town.handle()

    def pay(self, invoice: Invoice) -> None:
        """The customer pays the invoice in full, as this provider's customers do."""
        if self.town is not None:
            self.town.sandbox.post(f"invoices/{self.town.row(invoice).external_id}/pay")
            self.work()
            return
        assert invoice.number is not None
        self.transfer(invoice.number, invoice.open)

    def transfer(self, reference: str, amount: Decimal) -> None:
        line = StatementLine(uuid4().hex, now().date(), amount, "USD", "somebody", reference)
        with Session(self.engine) as session, session.begin():
            taken = take_line(
                session,
                line,
                account="main",
                provider=self.providers,
                settings=self.company.settings,
                actor="test",
                now=now(),
            )
            assert taken is not None
            assert taken.state == "settled", taken.note

    def send_refunds(self) -> None:
        """Money that goes back arrives: Stripe's by itself, transfers by the hand of staff."""
        self.work()
        with Session(self.engine) as session, session.begin():
            for refund in waiting_transfers(session, limit=10):
                note_transfer(
                    session,
                    customer_id=refund.customer_id,
                    refund_id=refund.id,
                    reference=f"out-{refund.id}",
                    at=now(),
                    actor="test",
                    now=now(),
                )

    def begin(self, invoice: Invoice, kind: str, *, movement_id: UUID | None = None, **rest: object) -> UUID:
        """Staff begin something with a final invoice; returns the movement's id."""
        amount = rest.pop("amount", None)
        movement_id = movement_id or uuid4()
        with Session(self.engine) as session, session.begin():
            request_movement(
                session,
                customer_id=invoice.customer_id,
                invoice_id=invoice.id,
                movement_id=movement_id,
                kind=kind,
                amount=None if amount is None else Decimal(str(amount)),
                options=rest,
                reason="asked for on the telephone",
                actor="robin",
                provider=self.providers,
                settings=self.company.settings,
                now=now(),
            )
        return movement_id

    def movement(self, invoice: Invoice, movement_id: UUID) -> Movement:
        with Session(self.engine, expire_on_commit=False) as session:
            return session.get_one(Movement, (invoice.customer_id, movement_id))

    def state(self, invoice: Invoice) -> SyncState:
        with Session(self.engine) as session:
            return self.providers.sync_states(session, [(invoice.customer_id, invoice.id)])[invoice.id]

    def balance(self, account: str, customer: str = "acme") -> Decimal:
        with Session(self.engine) as session:
            return balances(session, customer_id=customer_id_for(customer)).get(account, Decimal(0))


@pytest.fixture(params=["stripe", "manual"])
def collector(
    request: pytest.FixtureRequest, engine: Engine, sandbox: SandboxProcess, receiver: Receiver
) -> Iterator[Collector]:
    """The same company, collected for by each provider in turn."""
    town = make_town(engine, sandbox.start(webhook_url=receiver.url))
    town.receiver = receiver
    providers = Providers(engine, [town.gateway, ManualProvider(BANK)])
    # Approval by a second person has its own tests.
    settings = Settings(approval_limit=Decimal(10**9), draft_window=timedelta(hours=24))
    company = Company(engine, providers, settings)
    town.company = company
    made = Collector(request.param, engine, providers, company, Postbox(), town if request.param == "stripe" else None)
    yield made
    company.check()
