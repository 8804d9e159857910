"""A small company with real books: post usage, close, look, finalize, in one line each."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from invoicing import checks as invoicing_checks
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import CloseSummary, close_due
from invoicing.drafts import InvoiceView, get_invoice
from invoicing.finalization import finalize
from invoicing.finalizing import FinalizeSummary, finalize_due
from invoicing.provider import Provider
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger.checks import CHECKS, run_checks
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import Posted, post
from tests.fakes.provider import RememberingProvider


def at(text: str) -> datetime:
    """An instant in UTC: "2025-06-03" is its midnight."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Company:
    engine: Engine
    provider: Provider
    settings: Settings

    @property
    def remembered(self) -> RememberingProvider:
        """What the provider was asked for, where it is the one that only remembers."""
        assert isinstance(self.provider, RememberingProvider)
        return self.provider

    def customer(
        self,
        name: str,
        *,
        currency: str = "USD",
        time_zone: str = "UTC",
        anchor_day: int = 1,
        email: str | None = None,
    ) -> UUID:
        with Session(self.engine) as session, session.begin():
            create_customer(
                session,
                external_id=name,
                name=name,
                currency=currency,
                time_zone=time_zone,
                anchor_day=anchor_day,
                email=email,
                actor="test",
                now=at("2025-01-01"),
            )
        return customer_id_for(name)

    def use(
        self, name: str, day: str, amount: str, *, item: str = "machine", app: str | None = None, event: str = ""
    ) -> Posted:
        """Post one rated usage entry; a negative amount is posted the other way round."""
        value = Decimal(amount)
        transaction = transaction_id("test", f"{name} {day} {item} {app} {amount} {event}")
        accounts = ("assets:unbilled", "income:usage") if value >= 0 else ("income:usage", "assets:unbilled")
        entry = NewEntry(
            customer_id=customer_id_for(name),
            id=entry_id(transaction, "usage"),
            transaction_id=transaction,
            debit_account=accounts[0],
            credit_account=accounts[1],
            amount=abs(value),
            quantity=Decimal(1),
            effective_at=at(day),
            kind="usage",
            actor="test",
            digest=digest({"amount": value}),
            item=item,
            labels={"app": app} if app else {},
        )
        with Session(self.engine) as session, session.begin():
            return post(session, [entry], now=at(day))

    def close(self, day: str) -> CloseSummary:
        return self.close_at(at(day) + timedelta(hours=12))

    def close_at(self, now: datetime) -> CloseSummary:
        return close_due(self.engine, as_of=now, settings=self.settings)

    def finalize_due(self, day: str) -> FinalizeSummary:
        return self.finalize_at(at(day))

    def finalize_at(self, now: datetime) -> FinalizeSummary:
        return finalize_due(self.engine, provider=self.provider, as_of=now)

    def finalize(self, name: str, month: str, *, on: str) -> InvoiceView:
        key = self.invoice(name, month).invoice
        with Session(self.engine) as session, session.begin():
            finalize(
                session,
                customer_id=key.customer_id,
                invoice_id=key.id,
                provider=self.provider,
                actor="test",
                now=at(on),
            )
        return self.invoice(name, month)

    def invoice(self, name: str, month: str) -> InvoiceView:
        """The invoice for the period that starts in this month, such as "2025-06"."""
        start = at(f"{month}-01")
        with Session(self.engine, expire_on_commit=False) as session:
            invoice_id = session.scalars(
                select(Invoice.id).where(
                    Invoice.customer_id == customer_id_for(name),
                    Invoice.period_start >= start - timedelta(days=2),
                    Invoice.period_start < start + timedelta(days=29),
                )
            ).one()
            return get_invoice(session, customer_id=customer_id_for(name), invoice_id=invoice_id)

    def check(self) -> None:
        """Every invariant of the books and of the invoices holds."""
        with Session(self.engine) as session:
            for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS}):
                assert result.holds, f"{result.name}: {result.offenders}"


@pytest.fixture
def company(engine: Engine) -> Company:
    return Company(engine, RememberingProvider(), Settings())
