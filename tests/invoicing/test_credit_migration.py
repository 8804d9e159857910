"""What credit paid before there were lots is attributed to the grants that existed by then, the oldest first."""

from decimal import Decimal
from uuid import UUID

import sqlalchemy
from alembic import command
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import alembic_config, normalise_url
from invoicing.booking import Booking
from invoicing.checks import CHECKS
from invoicing.credit.checks import CHECKS as CREDIT_CHECKS
from invoicing.credit.lots import grants_left, held_beyond_lots
from invoicing.tables import CreditUse
from ledger import accounts
from ledger.checks import run_checks
from tests.invoicing.conftest import Company, at
from tests.invoicing.test_credit_lots import grant


def migrate(database_url: str, revision: str) -> None:
    engine = sqlalchemy.create_engine(normalise_url(database_url))
    config = alembic_config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if revision == "0016" else command.upgrade)(config, revision)
        connection.commit()
    engine.dispose()


def pay(company: Company, customer_id: UUID, invoice_id: UUID, amount: str, *, event: str) -> None:
    """One entry for all credit of a kind, as it was posted before there were lots."""
    booking = Booking(customer_id, source="test", event_id=event, kind="credit", at=at("2025-07-02"), actor="test")
    booking.move(
        "credit",
        Decimal(amount),
        debit=accounts.CREDITS_PROMOTIONAL,
        credit=accounts.RECEIVABLE,
        document_id=invoice_id,
    )
    with Session(company.engine) as session, session.begin():
        booking.post(session, now=at("2025-07-02"))


def test_past_use_is_attributed_oldest_first_and_never_to_a_grant_that_came_later(
    company: Company, database_url: str
) -> None:
    """
    10 brought in; 4 used (of that: no grant existed); granted 10, then 10; 15 used; granted 5.
    """
    customer_id = company.customer("acme")
    company.use("acme", "2025-06-03", "30")
    company.close("2025-07-01")
    invoice_id = company.finalize("acme", "2025-06", on="2025-07-02").invoice.id
    brought = Booking(customer_id, source="test", event_id="opening", kind="opening", at=at("2025-06-01"), actor="test")
    brought.move("in", Decimal(10), debit=accounts.OPENING, credit=accounts.CREDITS_PROMOTIONAL, document_id=invoice_id)
    with Session(company.engine) as session, session.begin():
        brought.post(session, now=at("2025-07-02"))
    pay(company, customer_id, invoice_id, "4", event="before")
    first, second = grant(company, "10", day="2025-07-03"), grant(company, "10", day="2025-07-03")
    pay(company, customer_id, invoice_id, "15", event="between")
    third = grant(company, "5", day="2025-07-03")
    company.engine.dispose()
    migrate(database_url, "0016")
    migrate(database_url, "head")
    with Session(company.engine) as session:
        used = {use.grant_id: (use.kind, str(use.amount), use.invoice_id) for use in session.scalars(select(CreditUse))}
        left = {lot.id: str(lot.remaining) for lot in grants_left(session, customer_id=customer_id, also_empty=True)}
        beyond = held_beyond_lots(session, customer_id=customer_id, account=accounts.CREDITS_PROMOTIONAL)
        checked = run_checks(session, CREDIT_CHECKS)
    assert used == {first: ("applied", "10", invoice_id), second: ("applied", "5", invoice_id)}
    assert left == {first: "0", second: "5", third: "5"}
    assert beyond == 6
    assert CHECKS.keys() >= CREDIT_CHECKS.keys()
    # The entries above were posted past the invoice, so what it says of credits is not theirs.
    assert {check.name for check in checked if not check.holds} == {
        "what lots paid of an invoice is within what credits paid"
    }
