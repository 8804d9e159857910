"""What README and docs/ say is so: the worked example is computed, every command and process is documented."""

import re
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.cli import COMMANDS
from invoicing.adjustments import credit_line
from invoicing.payments import record_payment
from ledger.balances import balances
from ledger.tables import Entry
from tests.invoicing.conftest import Company, at, company

__all__ = ["company"]

ROOT = Path(__file__).parent.parent.parent
EXAMPLE_ROW = re.compile(r"^\|[^|]*\|[^|]*\| `([a-z:_]+)` \| `([a-z:_]+)` \| ([0-9.]+) \|$", re.MULTILINE)


def test_the_readme_example_is_what_the_books_say(company: Company) -> None:
    """
    machine  2,592,000 s x 0.0000008 = 2.0736
    volume   10.5 GB     x 0.15      = 1.575     credited 0.50
    """
    customer_id = company.customer("acme")
    company.use("acme", "2025-06-01", str(2_592_000 * Decimal("0.0000008")), item="machine")
    company.use("acme", "2025-06-01", str(Decimal("10.5") * Decimal("0.15")), item="volume")
    company.close("2025-07-01")
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
            now=at("2025-07-01T10:14:00"),
        )
    final = company.finalize("acme", "2025-06", on="2025-07-02").invoice
    with Session(company.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=customer_id,
            invoice_id=final.id,
            provider="stripe",
            external_id=str(uuid4()),
            amount=Decimal("3.15"),
            received_at=at("2025-07-02"),
            actor="stripe",
            now=at("2025-07-02"),
        )
    with Session(company.engine) as session:
        entries = session.scalars(select(Entry).order_by(Entry.seq)).all()
        books = balances(session, customer_id=customer_id)
    posted = [(entry.debit_account, entry.credit_account, entry.amount) for entry in entries]
    told = [(debit, credit, Decimal(amount)) for debit, credit, amount in EXAMPLE_ROW.findall(_read("README.md"))]
    assert posted == told
    assert books["assets:unbilled"] == books["assets:receivable"] == 0
    company.check()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_documented(command: str) -> None:
    assert f"billing {command}" in _read("docs/operations.md") + _read("README.md")


def test_every_page_that_the_docs_link_to_exists() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def _read(name: str) -> str:
    return (ROOT / name).read_text()
