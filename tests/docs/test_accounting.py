"""docs/accounting.md is true: its accounts are the code's and the database's, its rules are the checks, its worked
example is what the books say."""

import re
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from invoicing.adjustments import credit_line
from invoicing.checks import CHECKS as INVOICING_CHECKS
from invoicing.credit.grants import grant_credit
from invoicing.payments import record_payment
from ledger import accounts
from ledger.balances import balances
from ledger.checks import CHECKS as LEDGER_CHECKS
from ledger.entries import KINDS
from ledger.money import plain
from ledger.tables import Entry
from tests.invoicing.conftest import Company, at, company

__all__ = ["company"]

PAGE = (Path(__file__).parent.parent.parent / "docs" / "accounting.md").read_text(encoding="utf-8")
ACCOUNT_ROW = re.compile(r"^\| `([a-z_:]+)` \| (customer|house|both) \| ([^|]+) \|", re.MULTILINE)
CODE = re.compile(r"`((?:assets|liabilities|income|expenses|equity):[a-z_:]+)`")


def test_page_code_and_database_have_the_same_accounts(engine: Engine) -> None:
    on_page = {code: (holder, title.strip()) for code, holder, title in ACCOUNT_ROW.findall(PAGE)}
    with Session(engine) as session:
        rows = session.execute(text("SELECT code, holder, title FROM ledger_accounts")).all()
    assert on_page == {code: (holder, title) for code, holder, title in rows}
    assert {code for code, (holder, _) in on_page.items() if holder != "house"} == accounts.CUSTOMER_ACCOUNTS
    assert {code for code, (holder, _) in on_page.items() if holder != "customer"} == accounts.HOUSE_ACCOUNTS


def test_the_page_names_no_account_that_does_not_exist() -> None:
    assert set(CODE.findall(PAGE)) <= accounts.CUSTOMER_ACCOUNTS | accounts.HOUSE_ACCOUNTS


def test_every_rule_that_is_checked_stands_on_the_page() -> None:
    rules = set(re.findall(r"^- ([a-z][^\n]*)$", PAGE, re.MULTILINE))
    assert {*LEDGER_CHECKS, *INVOICING_CHECKS} <= rules


def test_every_kind_of_entry_stands_on_the_page() -> None:
    named = set(re.findall(r"\| `([a-z_]+)` \|", PAGE))
    assert named == KINDS


def section(title: str) -> str:
    """The first table below a heading of the page."""
    body = PAGE.split(f"### {title}\n", 1)[1]
    return "\n".join(line for line in body.split("\n### ")[0].splitlines() if line.startswith("|"))


def journal(session: Session, customer_id: UUID) -> str:
    """The customer's journal as the page shows it."""
    rows = ["| seq | effective | what | debit | credit | amount |", "|---:|---|---|---|---|---:|"]
    for entry in session.scalars(select(Entry).where(Entry.customer_id == customer_id).order_by(Entry.seq)):
        what = f"{entry.kind}, {entry.item}" if entry.item else entry.kind
        rows.append(
            f"| {entry.seq} | {entry.effective_at:%Y-%m-%d} | {what} | `{entry.debit_account}` | "
            f"`{entry.credit_account}` | {plain(entry.amount)} |"
        )
    return "\n".join(rows)


def test_the_worked_example_is_what_the_books_say(company: Company) -> None:
    customer_id = company.customer("acme")
    company.use("acme", "2025-06-01", str(2_592_000 * Decimal("0.0000008")), item="machine")
    company.use("acme", "2025-06-01", str(Decimal("10.5") * Decimal("0.15")), item="volume")
    with Session(company.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id,
            grant_id=uuid4(),
            account=accounts.CREDITS_PROMOTIONAL,
            amount=Decimal("1.00"),
            reason="Welcome",
            actor="agent@demo.test",
            now=at("2025-06-15"),
        )
    company.close("2025-07-01")
    company.use("acme", "2025-06-30", str(3_600 * Decimal("0.0000008")), item="machine")
    draft = company.invoice("acme", "2025-06")
    volume = next(line for line in draft.lines if line.item == "volume")
    with Session(company.engine) as session, session.begin():
        credit_line(
            session,
            customer_id=customer_id,
            invoice_id=draft.invoice.id,
            expected_version=draft.invoice.version,
            line_id=volume.id,
            amount=Decimal("0.50"),
            reason="Slow disk",
            actor="agent@demo.test",
            settings=company.settings,
            now=at("2025-07-01T10:00"),
        )
    june = company.finalize("acme", "2025-06", on="2025-07-02")
    assert (june.invoice.exact_total, june.invoice.total, june.invoice.amount_due) == (
        Decimal("3.1486"),
        Decimal("3.15"),
        Decimal("2.15"),
    )
    with Session(company.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=customer_id,
            invoice_id=june.invoice.id,
            provider="stripe",
            external_id="inpay_1",
            amount=Decimal("2.15"),
            received_at=at("2025-07-03"),
            actor="stripe",
            now=at("2025-07-03"),
        )
    company.close("2025-08-01")
    july = company.finalize("acme", "2025-07", on="2025-08-02")
    assert july.invoice.state == "carried_forward"

    with Session(company.engine) as session:
        assert journal(session, customer_id) == section("The journal")
        shown = ["| account | balance |", "|---|---:|"]
        held = balances(session, customer_id=customer_id)
        shown += [f"| `{code}` | {plain(amount)} |" for code, amount in held.items()]
        assert "\n".join(shown) == section("The balances")
        lines = ["| line | exact | rounded |", "|---|---:|---:|"]
        lines += [f"| {line.description} | {plain(line.amount)} | {line.rounded} |" for line in june.lines]
        assert "\n".join(lines) == section("The invoice")
    company.check()
