"""docs/accounting.md lists every event with its entries: exactly those that the code posts."""

import re
from decimal import Decimal
from itertools import product
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.adjustments import add_charge, credit_line
from invoicing.credit.endings import expire_due
from invoicing.credit.grants import grant_credit
from invoicing.credit.top_ups import top_up
from invoicing.drafts import InvoiceView
from invoicing.payments import record_payment
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.agreements import give_discount
from invoicing.subscriptions import cancel, subscribe
from ledger import accounts
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from ledger.tables import Entry
from tests.docs.test_worked_year import Year
from tests.invoicing.conftest import Company, at, company

__all__ = ["company"]

PAGE = (Path(__file__).parent.parent.parent / "docs" / "accounting.md").read_text(encoding="utf-8")
CODE = re.compile(r"`([a-z_:]+)`")
Move = tuple[str, str, str]
SUPPORT = {
    "code": "support", "name": "Support", "currency": "USD", "fee": 60, "interval": "month", "timing": "arrears",
}  # fmt: skip


FIRST, SECOND = "What the system posts today:\n", "Of prices, plans, tax and credit that is bought:\n"


def moves_on_page(title: str = FIRST) -> set[Move]:
    """Kind, debit, credit of every row of the table below this line."""
    table = PAGE.split(title)[1].lstrip("\n").split("\n\n")[0]
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


def test_prices_plans_tax_and_bought_credit_post_what_stands_on_the_page(company: Company) -> None:
    """Two plans are taken and given up in June, used is what is taxed on top, inside and discounted; credit expires."""
    year = Year(company)
    until = at("2025-06-20")
    with Session(company.engine) as session, session.begin():
        publish_plans(session, plans_from_file({"plans": [SUPPORT]}), actor="test", now=at("2025-01-01"))
        for account in (accounts.CREDITS_PROMOTIONAL, accounts.CREDITS_GOODWILL):
            grant_credit(
                session, customer_id=year.customer_id, grant_id=uuid4(), account=account, amount=Decimal(1),
                reason="Thanks", actor="test", now=at("2025-06-02"), expires_at=until,
            )  # fmt: skip
        sold = top_up(
            session, customer_id=year.customer_id, top_up_id=uuid4(), amount=Decimal(10), provider=company.provider,
            actor="test", now=at("2025-06-02"), expires_at=until,
        ).id  # fmt: skip
        give_discount(
            session, customer_id=year.customer_id, percent=Decimal(50), item="domain", valid_from=at("2025-06-01"),
            valid_until=None, reason="Agreed", actor="test", now=at("2025-06-02"),
        )  # fmt: skip
    year.pay(sold, "10", "2025-06-03")
    for plan, day in (("launch", "2025-06-04"), ("support", "2025-06-10")):
        with Session(company.engine) as session, session.begin():
            subscribe(
                session, customer_id=year.customer_id, plan=plan, reason="Wanted", actor="test", now=at(day)
            )  # fmt: skip
    year.use("2025-06-11", "90")
    year.use("2025-06-12", "1", "domain")
    with Session(company.engine) as session, session.begin():
        cancel(session, customer_id=year.customer_id, reason="Leaves", actor="test", now=at("2025-06-16"))
    assert expire_due(company.engine, now=at("2025-06-21")).expired == 3
    company.close("2025-07-01")
    assert year.final(year.draft(), "2025-07-02").invoice.total

    with Session(company.engine) as session:
        rows = session.execute(select(Entry.kind, Entry.debit_account, Entry.credit_account).distinct())
        posted = {tuple(row) for row in rows}
    assert posted >= moves_on_page(SECOND)
    assert posted - moves_on_page(SECOND) <= moves_on_page()
    company.check()
