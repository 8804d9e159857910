"""Money that arrives, once or five times, too little or too much; credits that come before it."""

from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from invoicing.credit.grants import CreditConflict, CreditRefused, grant_credit
from invoicing.customers import CustomerConflict, CustomerRefused, create_customer
from invoicing.payments import PaymentConflict, PaymentRefused, record_payment
from invoicing.statements import current_period, period_breakdown
from invoicing.tables import Invoice
from ledger.balances import balances
from tests.invoicing.conftest import Company, at


def final_invoice(company: Company, amount: str) -> Invoice:
    company.customer("acme")
    company.use("acme", "2025-06-03", amount)
    company.close("2025-07-01")
    return company.finalize("acme", "2025-06", on="2025-07-02").invoice


def pay(company: Company, invoice: Invoice, external_id: str, amount: str) -> None:
    with Session(company.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            provider="stripe",
            external_id=external_id,
            amount=Decimal(amount),
            received_at=at("2025-07-03"),
            actor="stripe",
            now=at("2025-07-03"),
        )


def grant(company: Company, customer_id: UUID, amount: str, *, grant_id: UUID | None = None) -> None:
    with Session(company.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id,
            grant_id=grant_id or uuid4(),
            account="liabilities:credits:goodwill",
            amount=Decimal(amount),
            reason="Sorry for the outage",
            actor="agent@demo.test",
            now=at("2025-06-20"),
        )


def test_the_same_payment_five_times_is_paid_once(company: Company) -> None:
    invoice = final_invoice(company, "25")
    for _ in range(5):
        pay(company, invoice, "inpay_1", "25")
    assert company.invoice("acme", "2025-06").invoice.state == "paid"
    with Session(company.engine) as session:
        books = balances(session, customer_id=invoice.customer_id)
    assert (books["assets:stripe"], books["assets:receivable"]) == (Decimal(25), Decimal(0))
    company.check()


def test_a_known_payment_with_another_amount_is_refused(company: Company) -> None:
    invoice = final_invoice(company, "25")
    pay(company, invoice, "inpay_1", "10")
    with pytest.raises(PaymentConflict):
        pay(company, invoice, "inpay_1", "15")
    company.check()


def test_parts_add_up_and_too_much_stays_the_customers_money(company: Company) -> None:
    invoice = final_invoice(company, "25")
    pay(company, invoice, "inpay_1", "10")
    assert company.invoice("acme", "2025-06").invoice.state == "final"
    pay(company, invoice, "inpay_2", "20")
    assert company.invoice("acme", "2025-06").invoice.state == "paid"
    with Session(company.engine) as session:
        assert balances(session, customer_id=invoice.customer_id)["liabilities:unapplied"] == 5
    company.check()


def test_a_draft_cannot_be_paid(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "5")
    company.close("2025-07-01")
    with pytest.raises(PaymentRefused):
        pay(company, company.invoice("acme", "2025-06").invoice, "inpay_1", "5")


def test_credit_pays_first_and_the_rest_is_collected(company: Company) -> None:
    customer_id = company.customer("acme")
    grant(company, customer_id, "10")
    invoice = final_invoice(company, "25")
    assert (invoice.total, invoice.credits_applied, invoice.amount_due) == (Decimal(25), Decimal(10), Decimal(15))
    lines = company.remembered.orders[invoice.id].lines
    assert [(line.description, line.amount) for line in lines][-1] == ("Goodwill credit", Decimal(-10))
    company.check()


def test_an_invoice_that_credit_covers_is_paid_and_never_collected(company: Company) -> None:
    customer_id = company.customer("acme")
    grant(company, customer_id, "40")
    invoice = final_invoice(company, "25")
    assert (invoice.state, invoice.amount_due) == ("paid", Decimal(0))
    assert invoice.number is not None
    assert company.remembered.orders == {}
    with Session(company.engine) as session:
        assert balances(session, customer_id=customer_id)["liabilities:credits:goodwill"] == 15
    company.check()


def test_if_credit_leaves_less_than_the_minimum_all_is_carried_and_the_credit_stays(company: Company) -> None:
    customer_id = company.customer("acme")
    grant(company, customer_id, "24.90")
    assert final_invoice(company, "25").state == "carried_forward"
    with Session(company.engine) as session:
        assert balances(session, customer_id=customer_id)["liabilities:credits:goodwill"] == Decimal("24.90")
    company.check()


def test_a_credit_is_granted_once_per_id_and_in_whole_cents(company: Company) -> None:
    customer_id, grant_id = company.customer("acme"), uuid4()
    grant(company, customer_id, "10", grant_id=grant_id)
    grant(company, customer_id, "10", grant_id=grant_id)
    with pytest.raises(CreditConflict):
        grant(company, customer_id, "11", grant_id=grant_id)
    with pytest.raises(CreditRefused):
        grant(company, customer_id, "0.001")
    with Session(company.engine) as session:
        assert balances(session, customer_id=customer_id)["liabilities:credits:goodwill"] == 10


def test_what_the_customer_sees_is_what_is_billed(company: Company) -> None:
    customer_id = company.customer("acme")
    company.use("acme", "2025-06-03", "1.5", app="web")
    company.use("acme", "2025-06-04", "0.0000008", app="db")
    company.use("acme", "2025-06-04", "2", item="volume", app="db")
    with Session(company.engine) as session:
        seen = current_period(session, customer_id=customer_id, now=at("2025-06-15"))
    assert seen.total == Decimal("3.5000008")
    assert [(row.key, row.amount) for row in seen.by_app] == [("db", Decimal("2.0000008")), ("web", Decimal("1.5"))]
    assert [row.amount for row in seen.by_day] == [Decimal("1.5"), Decimal("2.0000008")]
    company.close("2025-07-01")
    draft = company.invoice("acme", "2025-06")
    assert draft.exact_total == seen.total
    with Session(company.engine) as session:
        rows = period_breakdown(session, customer_id=customer_id, invoice_id=draft.invoice.id, by="app", item="machine")
    assert [(row.key, row.amount) for row in rows] == [("web", Decimal("1.5")), ("db", Decimal("0.0000008"))]


def test_a_customer_is_created_once_and_keeps_currency_for_life(company: Company) -> None:
    company.customer("acme")
    company.customer("acme")
    with pytest.raises(CustomerConflict, match="another currency"):
        company.customer("acme", currency="EUR")


def test_everything_wrong_with_a_customer_is_named_at_once(company: Company) -> None:
    with Session(company.engine) as session, pytest.raises(CustomerRefused) as refusal:
        create_customer(
            session,
            external_id="x",
            name=" ",
            email="nobody",
            currency="usd",
            time_zone="Mars/Olympus",
            anchor_day=32,
            actor="test",
            now=at("2025-01-01"),
        )
    assert [field for field, _, _ in refusal.value.problems] == ["name", "email", "currency", "time_zone", "anchor_day"]


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE invoices SET total = 1",
        "UPDATE invoices SET number = 'FREE-1'",
        "UPDATE invoices SET state = 'draft'",
        "UPDATE invoices SET state = 'paid'",
        "DELETE FROM invoices",
        "UPDATE invoice_lines SET amount = 0",
        "DELETE FROM invoice_lines",
        "UPDATE customers SET last_invoice_number = 7",
        "UPDATE customers SET invoice_prefix = 'OTHER123'",
        "DELETE FROM invoice_history",
        "TRUNCATE invoices CASCADE",
    ],
)
def test_postgres_itself_protects_a_final_invoice_even_from_the_owner(
    company: Company, database_url: str, attack: str
) -> None:
    final_invoice(company, "25")
    from sqlalchemy import create_engine

    owner = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with owner.connect() as connection, pytest.raises(DBAPIError):
        connection.execute(text(attack))
    owner.dispose()
    with company.engine.connect() as connection, pytest.raises(DBAPIError):
        connection.execute(text(attack))
    company.check()
