"""docs/accounting.md lists every event with its entries: exactly those that the code posts."""

import re
from decimal import Decimal
from itertools import product
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.adjustments import add_charge, credit_line
from invoicing.credits import grant_credit
from invoicing.drafts import InvoiceView
from invoicing.payments import record_payment
from ledger import accounts
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from ledger.tables import Entry
from tests.invoicing.conftest import Company, at, company

__all__ = ["company"]

PAGE = (Path(__file__).parent.parent.parent / "docs" / "accounting.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([a-z_:]+)`")
Move = tuple[str, str, str]


def moves_on_page() -> set[Move]:
    """Kind, debit, credit of every row under "What the system posts today"."""
    table = PAGE.split("What the system posts today:\n")[1].split("\nThe accounts and kinds for what follows")[0]
    rows = [line.split("|")[2:5] for line in table.splitlines() if line.startswith("| ") and "`" in line]
    return {move for row in rows for move in product(*(CODE.findall(cell) for cell in row))}


def pay(company: Company, paid: InvoiceView, amount: str, *, account: str) -> None:
    with Session(company.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=paid.invoice.customer_id,
            invoice_id=paid.invoice.id,
            provider="stripe",
            external_id=f"inpay_{uuid4()}",
            amount=Decimal(amount),
            received_at=at("2025-07-05"),
            actor="stripe",
            now=at("2025-07-05"),
            account=account,
        )


def give_every_credit(company: Company, customer_id: UUID) -> None:
    with Session(company.engine) as session, session.begin():
        for account in (accounts.CREDITS_PROMOTIONAL, accounts.CREDITS_GOODWILL):
            grant_credit(
                session,
                customer_id=customer_id,
                grant_id=uuid4(),
                account=account,
                amount=Decimal(1),
                reason="Thanks",
                actor="agent@demo.test",
                now=at("2025-06-15"),
            )
        transaction = transaction_id("test", "prepaid balance of another system")
        brought_in = NewEntry(
            customer_id=customer_id,
            id=entry_id(transaction, "opening"),
            transaction_id=transaction,
            debit_account=accounts.OPENING,
            credit_account=accounts.CREDITS_PREPAID,
            amount=Decimal(1),
            effective_at=at("2025-06-01"),
            kind="opening",
            actor="test",
            digest=digest({}),
        )
        post(session, [brought_in], now=at("2025-06-15"))


def adjust(company: Company, draft: InvoiceView) -> None:
    """A charge added, and a part of the first line credited."""
    invoice, now = draft.invoice, at("2025-07-01T10:00")
    with Session(company.engine) as session, session.begin():
        add_charge(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            expected_version=invoice.version,
            amount=Decimal(5),
            description="Migration",
            reason="Agreed by phone",
            actor="agent@demo.test",
            settings=company.settings,
            now=now,
        )
        credit_line(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            expected_version=invoice.version + 1,
            line_id=draft.lines[0].id,
            amount=Decimal("0.5"),
            reason="Agreed by phone",
            actor="agent@demo.test",
            settings=company.settings,
            now=now,
        )


def test_every_event_posts_the_entries_that_stand_on_the_page_and_no_others(company: Company) -> None:
    """One customer's June is adjusted, rounded down and paid too well; another's rounded up; a third's carried."""
    acme = company.customer("acme")
    company.use("acme", "2025-06-03", "20.001")
    company.use("acme", "2025-06-04", "-1")
    give_every_credit(company, acme)
    company.customer("bolt")
    company.use("bolt", "2025-06-03", "10.006")
    company.customer("core")
    company.use("core", "2025-06-03", "0.10")
    company.use("core", "2025-06-04", "-0.05", item="disk")
    company.close("2025-07-01")
    adjust(company, company.invoice("acme", "2025-06"))
    for name in ("acme", "bolt", "core"):
        company.finalize(name, "2025-06", on="2025-07-02")
    pay(company, company.invoice("acme", "2025-06"), "100", account=accounts.STRIPE)
    pay(company, company.invoice("bolt", "2025-06"), "100", account=accounts.BANK)

    with Session(company.engine) as session:
        rows = session.execute(
            select(Entry.kind, Entry.debit_account, Entry.credit_account).where(Entry.kind != "opening").distinct()
        )
        posted = {tuple(row) for row in rows}
    assert posted == moves_on_page()
    company.check()
