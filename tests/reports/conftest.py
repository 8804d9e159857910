"""Two customers in two currencies with a year's first half behind them, and the command that reports on them."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.cli import main
from invoicing import checks as invoicing_checks
from invoicing.credit.grants import grant_credit
from invoicing.customers import create_customer, customer_id_for
from invoicing.movements.exchanges import record_exchange
from invoicing.payments import record_payment
from invoicing.settings import Settings
from ledger import accounts
from ledger.checks import CHECKS, run_checks
from tests.fakes.provider import RememberingProvider
from tests.integration.ledger.books import Ledger
from tests.invoicing.conftest import Company, at

Report = Callable[..., str]
ACME, GLOBEX = "acme-7", "globex-12"
LONG_NAME = "Globex Exportgesellschaft für Maschinen und Anlagen mbH & Co. KG"


@pytest.fixture(autouse=True)
def every_check_holds_afterwards(engine: Engine) -> Iterator[None]:
    """A report changes nothing, and what it reports on are right books."""
    yield
    with Session(engine) as session:
        results = run_checks(session, {**CHECKS, **invoicing_checks.CHECKS})
        assert [(result.name, result.offenders) for result in results if not result.holds] == []


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine)


@pytest.fixture
def company(engine: Engine) -> Company:
    return Company(engine, RememberingProvider(), Settings())


@pytest.fixture
def report(environment: dict[str, str]) -> Report:
    """`billing report` with these words: what it prints. Another exit status than 0 has to be expected."""

    def run(*words: str, status: int = 0) -> str:
        answer = CliRunner().invoke(main, ["report", *words], env=environment)
        assert answer.exit_code == status, answer.output
        return answer.stdout_bytes.decode() if status == 0 else answer.output

    return run


@pytest.fixture
def half_year(company: Company) -> Company:
    """
    acme-7     USD, charged automatically: May paid (2 too much), June open, July running; 10.00 credit in June
    globex-12  EUR, Berlin, is sent invoices: April, May and June open; May begins there at 22:00 of 30 April in UTC
    """
    with Session(company.engine) as session, session.begin():
        for name, title, currency, zone, method in (
            (ACME, "Acme", "USD", "UTC", "automatic"),
            (GLOBEX, LONG_NAME, "EUR", "Europe/Berlin", "send_invoice"),
        ):
            create_customer(
                session,
                external_id=name,
                name=title,
                currency=currency,
                time_zone=zone,
                collection_method=method,
                actor="test",
                now=at("2025-01-01"),
            )
    company.use(ACME, "2025-05-10", "20.7361", item="machine:shared-cpu-1x")
    company.use(ACME, "2025-05-11", "1.575", item="volume")
    company.use(GLOBEX, "2025-04-10", "300", item="machine:performance-16x")
    company.use(GLOBEX, "2025-04-30T22:30:00", "1234.5678901", item="machine:performance-16x", event="evening")
    settle(company, "2025-06-03")
    pay(company, ACME, "2025-05", "24.31", on="2025-06-07")
    grant(company, ACME, "10", on="2025-06-15")
    company.use(ACME, "2025-06-10", "41.5", item="machine:shared-cpu-1x")
    company.use(ACME, "2025-06-11", "-1.25", item="volume")
    company.use(GLOBEX, "2025-06-12", "88.25", item="machine:performance-16x")
    settle(company, "2025-07-03")
    company.use(ACME, "2025-07-01T00:00:01", "0.0000008", item="machine:shared-cpu-1x")
    return company


def settle_abroad(company: Company) -> None:
    """The account settles in EUR: what acme paid for May is exchanged, and then the 2 too much that go back."""
    exchange(company, "charge", "24.31", "22.37", fee="0.95", on="2025-07-20")
    exchange(company, "refund", "-2.00", "-1.90", fee="0", on="2025-07-21")


def exchange(company: Company, category: str, amount: str, settled: str, *, fee: str, on: str) -> None:
    invoice = company.invoice(ACME, "2025-05").invoice
    with Session(company.engine) as session, session.begin():
        record_exchange(
            session,
            provider="stripe",
            account="stripe",
            transaction=f"txn_{category}",
            category=category,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            payment_external_id=f"pay-{ACME}-2025-05",
            currency="USD",
            amount=Decimal(amount),
            settled_currency="EUR",
            settled=Decimal(settled),
            fee=Decimal(fee),
            rate=None,
            at=at(on),
            actor="test",
            now=at(on),
        )


def settle(company: Company, day: str) -> None:
    """Close what ended by this day, and make the drafts final two days later."""
    company.close(day)
    company.finalize_due((at(day) + timedelta(days=2)).date().isoformat())


def pay(company: Company, name: str, month: str, amount: str, *, on: str) -> None:
    invoice = company.invoice(name, month).invoice
    with Session(company.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            provider="stripe",
            external_id=f"pay-{name}-{month}",
            amount=Decimal(amount),
            received_at=at(on),
            actor="test",
            now=at(on),
        )


def grant(company: Company, name: str, amount: str, *, on: str, number: int = 1) -> None:
    with Session(company.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id_for(name),
            grant_id=UUID(int=number),
            account=accounts.CREDITS_PROMOTIONAL,
            amount=Decimal(amount),
            reason="welcome",
            actor="test",
            now=at(on),
        )
