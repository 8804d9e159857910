"""Attacks on credit by plain SQL, and two who use it at once: no lot is used beyond itself, or before it is paid."""

from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import normalise_url
from invoicing.credit.endings import NothingLeftOfCredit, revoke_credit
from invoicing.customers import customer_id_for
from invoicing.finalization import finalize
from ledger import accounts
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from tests.invoicing.conftest import Company, at
from tests.invoicing.test_credit_lots import grant, lots
from tests.invoicing.test_top_ups import buy
from tests.invoicing.waiting import second

USE = """
    INSERT INTO credit_uses (customer_id, id, grant_id, kind, invoice_id, amount, entry_id, at, actor, reason)
    SELECT g.customer_id, gen_random_uuid(), g.id, '{kind}', {invoice}, {amount}, e.id, now(), 'test', 'test'
      FROM credit_grants g JOIN ledger_entries e ON e.customer_id = g.customer_id AND e.id = {entry}
     WHERE g.id = '{lot}'
"""
GRANT = """
    INSERT INTO credit_grants (customer_id, id, account, amount, invoice_id, currency, reason, actor, created_at)
    SELECT customer_id, {}, currency, 'x', 'x', now() FROM invoices
"""


def taken(company: Company, what: str, amount: str) -> UUID:
    """An entry that takes so much of acme's goodwill credit, and no use of a lot that says so; answers its id."""
    transaction = transaction_id("test", what)
    entry = NewEntry(
        customer_id=customer_id_for("acme"),
        id=entry_id(transaction, "taken"),
        transaction_id=transaction,
        debit_account=accounts.CREDITS_GOODWILL,
        credit_account=accounts.PROMOTIONS,
        amount=Decimal(amount),
        effective_at=at("2025-06-02"),
        kind="grant",
        actor="test",
        digest=digest({"taken": what}),
    )
    with Session(company.engine) as session, session.begin():
        post(session, [entry], now=at("2025-06-02"))
    return entry.id


@pytest.mark.parametrize(
    "table", ["credit_grants", "credit_uses", "refill_rules", "early_bills", "spending_thresholds"]
)
@pytest.mark.parametrize("statement", ["UPDATE {} SET actor = actor", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_not_even_the_owner_changes_what_was_given_bought_or_billed_early(
    database_url: str, table: str, statement: str
) -> None:
    engine = create_engine(normalise_url(database_url))
    with pytest.raises(IntegrityError, match="never changed"), engine.begin() as connection:
        connection.execute(text(statement.format(table)))
    engine.dispose()


@pytest.mark.parametrize(
    ("bought", "why"),
    [(True, "sells it is not paid"), (False, "is not what it says")],
    ids=["before it is paid for", "without an entry that says so"],
)
def test_credit_pays_for_no_invoice_in_postgres(company: Company, bought: bool, why: str) -> None:
    company.customer("acme")
    top_up = buy(company, "20").id
    lot = top_up if bought else grant(company, "20", kind="goodwill")
    entry = taken(company, "a cent", "0.01")
    use = USE.format(kind="applied", lot=lot, invoice=f"'{top_up}'", amount="0.01", entry=f"'{entry}'")
    with pytest.raises(IntegrityError, match=why), company.engine.begin() as connection:
        connection.execute(text(use))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("gen_random_uuid(), 'liabilities:credits:prepaid', 1, NULL", "credit_grants_bought"),
        ("id, 'liabilities:credits:prepaid', 21, id", "sells no such credit"),
        ("gen_random_uuid(), 'liabilities:credits:goodwill', 1, id", "sells no such credit"),
    ],
    ids=["nobody sold it", "more than was sold", "given, as if it were sold"],
)
def test_prepaid_credit_is_what_an_invoice_sold(company: Company, columns: str, why: str) -> None:
    company.customer("acme")
    buy(company, "20")
    forged = GRANT.format(columns)
    with pytest.raises(IntegrityError, match=why), company.engine.begin() as connection:
        connection.execute(text(forged))


def test_of_two_uses_of_a_lot_at_once_the_second_sees_the_first(company: Company) -> None:
    """4 of 5, twice, by plain SQL: the second waits, and there is only 1 left."""
    company.customer("acme")
    lot = grant(company, "5", kind="goodwill")

    def use(session: Session, entry: UUID) -> None:
        use = USE.format(kind="revoked", lot=lot, invoice="NULL", amount=4, entry=f"'{entry}'")
        session.execute(text(use))

    entries = [taken(company, what, "4") for what in ("first", "second")]
    refusal = second(company.engine, lambda session: use(session, entries[0]), lambda session: use(session, entries[1]))
    assert isinstance(refusal, IntegrityError)
    assert "more than the 1 that are left" in str(refusal)


def test_an_entry_stands_behind_as_much_use_as_it_took(company: Company) -> None:
    """An entry of 5 is given as the reason for 3 of one lot, and then for 3 of another."""
    company.customer("acme")
    lots = [grant(company, "5", kind="goodwill") for _ in range(2)]
    entry = taken(company, "both", "5")
    uses = [USE.format(kind="revoked", lot=lot, invoice="NULL", amount=3, entry=f"'{entry}'") for lot in lots]
    with company.engine.begin() as connection:
        connection.execute(text(uses[0]))
    with pytest.raises(IntegrityError, match="is not what it says"), company.engine.begin() as connection:
        connection.execute(text(uses[1]))


def finalized(company: Company, session: Session, draft: UUID) -> Decimal:
    invoice = finalize(
        session,
        customer_id=customer_id_for("acme"),
        invoice_id=draft,
        provider=company.provider,
        actor="test",
        now=at("2025-08-02"),
    )
    return invoice.credits_applied or Decimal(0)


def test_an_invoice_waits_for_the_credit_that_another_one_is_using(company: Company) -> None:
    """June and July over 30 each, 40 of credit: 30 for the first, 10 for the second, whichever is in a hurry."""
    company.customer("acme")
    credit = grant(company, "40")
    company.use("acme", "2025-06-03", "30")
    company.use("acme", "2025-07-03", "30")
    company.close("2025-08-01")
    june, july = (company.invoice("acme", month).invoice.id for month in ("2025-06", "2025-07"))
    applied = second(
        company.engine,
        lambda session: finalized(company, session, june),
        lambda session: finalized(company, session, july),
    )
    assert applied == 10
    assert lots(company)[credit].remaining == 0
    company.check()


def test_what_an_invoice_is_using_is_not_revoked(company: Company) -> None:
    company.customer("acme")
    credit = grant(company, "30")
    company.use("acme", "2025-06-03", "30")
    company.close("2025-07-01")
    june = company.invoice("acme", "2025-06").invoice.id
    refusal = second(
        company.engine,
        lambda session: finalized(company, session, june),
        lambda session: revoke_credit(
            session,
            customer_id=customer_id_for("acme"),
            grant_id=credit,
            reason="Abuse",
            actor="test",
            now=at("2025-07-02"),
        ),
    )
    assert isinstance(refusal, NothingLeftOfCredit)
    company.check()
