"""A final invoice, and what people at desks begin with it."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.finalization import finalize
from invoicing.movements.disputes import record_dispute
from invoicing.movements.foreign_refunds import record_foreign_refund
from invoicing.movements.requests import movements_of
from invoicing.movements.tables import CreditNote, Movement, Refund
from invoicing.payments import record_payment
from invoicing.tables import Invoice
from ledger import accounts
from ledger.balances import balances
from tests.support_ui.conftest import Desk, Page, PageForm, Site, at


@dataclass
class Final:
    """A final invoice of 22 USD, as much of it paid as a test wants."""

    site: Site
    customer_id: UUID
    invoice_id: UUID

    @property
    def url(self) -> str:
        return f"/support/customers/{self.customer_id}/invoices/{self.invoice_id}"

    @property
    def target(self) -> str:
        return f"{self.url}/movements"

    def pay(self, amount: str, external_id: str = "inpay_1", provider: str = "stripe") -> None:
        with Session(self.site.engine) as session, session.begin():
            record_payment(
                session,
                customer_id=self.customer_id,
                invoice_id=self.invoice_id,
                provider=provider,
                external_id=external_id,
                amount=Decimal(amount),
                received_at=at("2025-07-05"),
                actor="test",
                now=at("2025-07-05"),
                account=accounts.BANK if provider == "manual" else accounts.STRIPE,
            )

    def dispute(self, external_id: str = "dp_1", payment: str = "inpay_1") -> None:
        with Session(self.site.engine) as session, session.begin():
            record_dispute(
                session,
                customer_id=self.customer_id,
                provider="stripe",
                external_id=external_id,
                invoice_id=self.invoice_id,
                payment_external_id=payment,
                amount=Decimal(22),
                currency="USD",
                reason="fraudulent",
                status="needs_response",
                evidence_due_at=at("2025-08-01"),
                opened_at=at("2025-07-10"),
                actor="test",
                now=at("2025-07-10"),
            )

    def refunded_at_stripe(self, amount: str, status: str) -> None:
        """Somebody refunds in the Dashboard, past us."""
        with Session(self.site.engine) as session, session.begin():
            record_foreign_refund(
                session,
                customer_id=self.customer_id,
                provider="stripe",
                payment_external_id="inpay_1",
                external_id="re_dashboard",
                amount=Decimal(amount),
                status=status,
                reason="duplicate",
                at=at("2025-07-08"),
                actor="stripe",
                now=at("2025-07-08"),
            )

    @property
    def movements(self) -> list[Movement]:
        with Session(self.site.engine, expire_on_commit=False) as session:
            return movements_of(session, customer_id=self.customer_id, invoice_id=self.invoice_id)

    @property
    def invoice(self) -> Invoice:
        with Session(self.site.engine, expire_on_commit=False) as session:
            return session.get_one(Invoice, (self.customer_id, self.invoice_id))

    def count(self, table: type[CreditNote] | type[Refund] | type[Movement]) -> int:
        with Session(self.site.engine) as session:
            return session.scalar(select(func.count()).where(table.customer_id == self.customer_id)) or 0

    def balance(self, account: str) -> Decimal:
        with Session(self.site.engine) as session:
            return balances(session, customer_id=self.customer_id).get(account, Decimal(0))

    def form(self, desk: Desk, kind: str, **hidden: str) -> PageForm:
        return desk.page(self.url).form(self.target, kind=kind, **hidden)


def final(site: Site, name: str = "Northwind", *, quantity: str = "10000000") -> Final:
    draft = site.draft(name, quantity=quantity)
    with Session(site.engine) as session, session.begin():
        finalize(
            session,
            customer_id=draft.customer_id,
            invoice_id=draft.invoice_id,
            provider=site.app.extensions["billing"].providers,
            actor="test",
            now=at("2025-07-02"),
        )
    return Final(site, draft.customer_id, draft.invoice_id)


def agreed(desk: Desk, final: Final, kind: str, typed: dict[str, str], **hidden: str) -> Page:
    """Type, read what will happen, agree to it."""
    announced = desk.send(final.form(desk, kind, **hidden), False, **typed)
    assert announced.status_code == 200, Page(announced.text).text
    return desk.follow(desk.send(Page(announced.text).form(final.target, kind=kind, **hidden)))
