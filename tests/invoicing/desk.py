"""A desk at which things happen to final invoices: each call is one database transaction, as at the edge."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.grants import grant_credit
from invoicing.customers import customer_id_for
from invoicing.movements.disputes import move_dispute_funds, record_dispute
from invoicing.movements.foreign_refunds import record_foreign_refund
from invoicing.movements.refunds import settle_refund
from invoicing.movements.requests import approve_movement, movement_done, movement_refused, request_movement
from invoicing.movements.standing import Standing, standing_of
from invoicing.movements.tables import Dispute, Movement, Refund, Task
from invoicing.payments import record_payment
from invoicing.tables import Invoice
from ledger import accounts
from ledger.balances import balances
from ledger.tables import Entry
from tests.invoicing.conftest import Company, at

NOW = at("2025-07-10")
AGENT = "agent@demo.test"
SECOND = "second@demo.test"


class Desk:
    """One customer, "acme", with one final invoice for June 2025 at a time."""

    def __init__(self, company: Company, *, used: str = "100", credit: Mapping[str, str] | None = None) -> None:
        self.company = company
        self.engine = company.engine
        self.customer_id: UUID = company.customer("acme")
        assert self.customer_id == customer_id_for("acme")
        for account, amount in (credit or {}).items():
            with Session(self.engine) as session, session.begin():
                grant_credit(
                    session,
                    customer_id=self.customer_id,
                    grant_id=uuid4(),
                    account=f"liabilities:credits:{account}",
                    amount=Decimal(amount),
                    reason="Welcome",
                    actor=AGENT,
                    now=at("2025-06-01"),
                )
        company.use("acme", "2025-06-03", used)
        company.close("2025-07-01")
        self.invoice_id: UUID = company.finalize("acme", "2025-06", on="2025-07-02").invoice.id

    def invoice(self) -> Invoice:
        with Session(self.engine, expire_on_commit=False) as session:
            return session.get_one(Invoice, (self.customer_id, self.invoice_id))

    def invoices(self) -> list[Invoice]:
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(select(Invoice).order_by(Invoice.period_start, Invoice.generation)))

    def standing(self) -> Standing:
        with Session(self.engine, expire_on_commit=False) as session:
            return standing_of(session, session.get_one(Invoice, (self.customer_id, self.invoice_id)))

    def books(self) -> dict[str, Decimal]:
        """Every balance that is not 0."""
        with Session(self.engine) as session:
            return {k: v for k, v in balances(session, customer_id=self.customer_id).items() if v}

    def journal(self) -> list[tuple[str, str, str, str]]:
        """Kind, debit, credit, amount of every entry, in order."""
        with Session(self.engine) as session:
            rows = session.scalars(select(Entry).where(Entry.customer_id == self.customer_id).order_by(Entry.seq))
            return [(row.kind, row.debit_account, row.credit_account, f"{row.amount.normalize():f}") for row in rows]

    def since(self, count: int) -> list[tuple[str, str, str, str]]:
        return self.journal()[count:]

    def pay(
        self, amount: str, external_id: str = "inpay_1", *, account: str = accounts.STRIPE, on: datetime = NOW
    ) -> None:
        with Session(self.engine) as session, session.begin():
            record_payment(
                session,
                customer_id=self.customer_id,
                invoice_id=self.invoice_id,
                provider="stripe" if account == accounts.STRIPE else "manual",
                external_id=external_id,
                amount=Decimal(amount),
                received_at=on,
                actor="stripe",
                now=NOW,
                account=account,
            )

    def ask(
        self,
        kind: str,
        amount: str | None = None,
        *,
        movement_id: UUID | None = None,
        reason: str = "Agreed by phone",
        actor: str = AGENT,
        **options: Any,
    ) -> Movement:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            return request_movement(
                session,
                customer_id=self.customer_id,
                invoice_id=self.invoice_id,
                movement_id=movement_id or uuid4(),
                kind=kind,
                amount=None if amount is None else Decimal(amount),
                options=options,
                reason=reason,
                actor=actor,
                provider=self.company.provider,
                settings=self.company.settings,
                now=NOW,
            )

    def approve(self, movement: Movement, *, actor: str = SECOND) -> Movement:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            return approve_movement(
                session,
                customer_id=self.customer_id,
                movement_id=movement.id,
                actor=actor,
                provider=self.company.provider,
                now=NOW,
            )

    def done(self, movement: Movement, external_id: str | None = None) -> bool:
        with Session(self.engine) as session, session.begin():
            return movement_done(
                session,
                customer_id=self.customer_id,
                movement_id=movement.id,
                external_id=external_id,
                at=NOW,
                actor="stripe",
                now=NOW,
            )

    def refuse(self, movement: Movement, code: str = "invoice_not_open") -> bool:
        with Session(self.engine) as session, session.begin():
            return movement_refused(
                session, customer_id=self.customer_id, movement_id=movement.id, code=code, reason="No.", now=NOW
            )

    def movement(self, movement: Movement) -> Movement:
        with Session(self.engine, expire_on_commit=False) as session:
            return session.get_one(Movement, (self.customer_id, movement.id))

    def refunds(self) -> list[Refund]:
        with Session(self.engine, expire_on_commit=False) as session:
            return list(session.scalars(select(Refund).order_by(Refund.requested_at, Refund.id)))

    def settle(self, refund: Refund, status: str, external_id: str | None = None) -> bool:
        with Session(self.engine) as session, session.begin():
            return settle_refund(
                session,
                customer_id=self.customer_id,
                refund_id=refund.id,
                status=status,
                external_id=external_id or f"re_{refund.id.hex[:8]}",
                failure_code="expired_or_canceled_card" if status == "failed" else None,
                failure_reason="The card is closed" if status == "failed" else None,
                at=NOW,
                actor="stripe",
                now=NOW,
            )

    def foreign_refund(
        self, amount: str, *, payment: str = "inpay_1", external_id: str = "re_f", status: str = "succeeded"
    ) -> Refund:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            return record_foreign_refund(
                session,
                customer_id=self.customer_id,
                provider="stripe",
                payment_external_id=payment,
                external_id=external_id,
                amount=Decimal(amount),
                status=status,
                reason="requested_by_customer",
                at=NOW,
                actor="stripe",
                now=NOW,
            )

    def dispute(
        self, status: str, *, amount: str = "100", external_id: str = "dp_1", payment: str = "inpay_1"
    ) -> Dispute:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            return record_dispute(
                session,
                customer_id=self.customer_id,
                provider="stripe",
                external_id=external_id,
                invoice_id=self.invoice_id,
                payment_external_id=payment,
                amount=Decimal(amount),
                currency="USD",
                reason="fraudulent",
                status=status,
                evidence_due_at=None,
                opened_at=NOW,
                actor="stripe",
                now=NOW,
            )

    def dispute_funds(self, transaction: str, amount: str, fee: str = "0", *, external_id: str = "dp_1") -> bool:
        with Session(self.engine) as session, session.begin():
            return move_dispute_funds(
                session,
                customer_id=self.customer_id,
                provider="stripe",
                external_id=external_id,
                transaction=transaction,
                amount=Decimal(amount),
                fee=Decimal(fee),
                at=NOW,
                actor="stripe",
                now=NOW,
            )

    def tasks(self) -> list[str]:
        """The kinds of the open tasks, in order."""
        with Session(self.engine) as session:
            return list(session.scalars(select(Task.kind).where(Task.resolved_at.is_(None)).order_by(Task.kind)))

    def check(self) -> None:
        self.company.check()
