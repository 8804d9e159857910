"""Lots of credit: which one pays, how much, until when; nobody's credit is used twice or beyond its amount."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from invoicing.credit.endings import expire_due, revoke_credit
from invoicing.credit.grants import (
    BadCreditExpiry,
    BadCreditItems,
    BadCreditPriority,
    CreditConflict,
    CreditCurrencyDiffers,
    CreditRefused,
    grant_credit,
)
from invoicing.credit.lots import Lot, grants_left
from invoicing.customers import customer_id_for
from invoicing.explaining.answers import explain_one_entry
from invoicing.finalization import finalize
from invoicing.prices.catalogue import ItemDetails, ensure_items
from invoicing.tables import CreditGrant, CreditUse
from ledger import accounts
from ledger.balances import balances
from ledger.tables import Entry
from tests.invoicing.conftest import Company, at

AGENT = "agent@demo.test"


def grant(
    company: Company,
    amount: str,
    *,
    name: str = "acme",
    kind: str = "promotional",
    day: str = "2025-06-01",
    until: str | None = None,
    priority: int = 100,
    items: list[str] | None = None,
    grant_id: UUID | None = None,
    currency: str | None = None,
) -> UUID:
    with Session(company.engine) as session, session.begin():
        if items:
            ensure_items(session, [ItemDetails(code=item, name=item) for item in items], now=at(day))
        return grant_credit(
            session,
            customer_id=customer_id_for(name),
            grant_id=grant_id or uuid4(),
            account=f"liabilities:credits:{kind}",
            amount=Decimal(amount),
            reason="Welcome",
            actor=AGENT,
            now=at(day),
            expires_at=at(until) if until else None,
            priority=priority,
            items=items,
            currency=currency,
        ).id


def lots(company: Company, *, also_empty: bool = True) -> dict[UUID, Lot]:
    with Session(company.engine) as session:
        found = grants_left(session, customer_id=customer_id_for("acme"), also_empty=also_empty)
    return {lot.id: lot for lot in found if lot.id is not None}


def uses(company: Company) -> list[tuple[UUID, str, Any]]:
    with Session(company.engine) as session:
        rows = session.execute(
            select(CreditUse.grant_id, CreditUse.kind, CreditUse.amount, Entry.seq)
            .join(Entry, (Entry.customer_id == CreditUse.customer_id) & (Entry.id == CreditUse.entry_id))
            .order_by(Entry.seq)
        ).all()
    return [(grant_id, kind, amount) for grant_id, kind, amount, _ in rows]


def held(company: Company) -> dict[str, Decimal]:
    with Session(company.engine) as session:
        found = balances(session, customer_id=customer_id_for("acme"))
    return {account: found.get(account, Decimal(0)) for account in accounts.CREDITS}


def expire(company: Company, day: str) -> tuple[int, int]:
    summary = expire_due(company.engine, now=at(day))
    assert summary.problems == []
    return summary.expired, summary.kept


def test_priority_comes_first_then_what_expires_first_then_what_was_given_away(company: Company) -> None:
    company.customer("acme")
    forever = grant(company, "5")
    goodwill_soon = grant(company, "5", kind="goodwill", until="2025-08-01")
    promotional_soon = grant(company, "5", until="2025-08-01")
    sooner = grant(company, "5", kind="goodwill", until="2025-07-15")
    first = grant(company, "5", kind="goodwill", priority=1)
    company.use("acme", "2025-06-03", "22")
    company.close("2025-07-01")
    view = company.finalize("acme", "2025-06", on="2025-07-02")
    assert [grant_id for grant_id, _, _ in uses(company)] == [first, sooner, promotional_soon, goodwill_soon, forever]
    assert view.invoice.state == "paid"
    assert lots(company)[forever].remaining == 3
    company.check()


def test_a_restricted_credit_pays_for_its_items_and_nothing_else(company: Company) -> None:
    company.customer("acme")
    restricted = grant(company, "50", items=["egress"], priority=1)
    general = grant(company, "10")
    company.use("acme", "2025-06-03", "30", item="egress")
    company.use("acme", "2025-06-03", "25", item="machine")
    company.close("2025-07-01")
    view = company.finalize("acme", "2025-06", on="2025-07-02")
    assert uses(company) == [(restricted, "applied", 30), (general, "applied", 10)]
    assert view.invoice.amount_due == 15
    company.check()


def test_credit_for_everything_takes_nothing_from_credit_for_few_items(company: Company) -> None:
    """egress 30, machine 25: the general 40 first, and the restricted credit still finds what it may pay."""
    company.customer("acme")
    general = grant(company, "40", priority=1)
    restricted = grant(company, "50", items=["egress"])
    company.use("acme", "2025-06-03", "30", item="egress")
    company.use("acme", "2025-06-03", "25", item="machine")
    company.close("2025-07-01")
    company.finalize("acme", "2025-06", on="2025-07-02")
    assert uses(company) == [(general, "applied", 40), (restricted, "applied", 15)]


def test_a_credit_that_expires_after_a_period_is_kept_for_its_draft_and_what_is_left_expires_then(
    company: Company,
) -> None:
    company.customer("acme")
    credit = grant(company, "20", until="2025-07-01")
    company.use("acme", "2025-06-03", "12")
    assert expire(company, "2025-07-01") == (0, 1)  # the period ended with it, and is not closed
    company.close("2025-07-01")
    assert expire(company, "2025-07-02") == (0, 1)  # its draft may still use it
    company.finalize("acme", "2025-06", on="2025-07-03")
    assert expire(company, "2025-07-03") == (1, 0)
    assert expire(company, "2025-07-04") == (0, 0)
    assert uses(company) == [(credit, "applied", 12), (credit, "expired", 8)]
    assert held(company)[accounts.CREDITS_PROMOTIONAL] == 0
    company.check()


def test_a_credit_that_expired_within_the_period_does_not_pay_for_it(company: Company) -> None:
    company.customer("acme")
    credit = grant(company, "20", until="2025-06-20")
    company.use("acme", "2025-06-03", "12")
    assert expire(company, "2025-06-20") == (1, 0)
    company.close("2025-07-01")
    assert company.finalize("acme", "2025-06", on="2025-07-03").invoice.amount_due == 12
    assert uses(company) == [(credit, "expired", 20)]
    with Session(company.engine) as session:
        entry = session.scalars(select(Entry).order_by(Entry.seq.desc()).where(Entry.kind == "grant")).first()
        assert entry is not None
        assert (entry.debit_account, entry.credit_account) == (accounts.CREDITS_PROMOTIONAL, accounts.PROMOTIONS)
    company.check()


def test_what_is_revoked_goes_back_where_it_came_from_once(company: Company) -> None:
    company.customer("acme")
    credit = grant(company, "20")
    for _ in range(2):
        with Session(company.engine) as session, session.begin():
            revoke_credit(
                session,
                customer_id=customer_id_for("acme"),
                grant_id=credit,
                reason="Abuse",
                actor=AGENT,
                now=at("2025-06-02"),
            )
    assert uses(company) == [(credit, "revoked", 20)]
    with Session(company.engine) as session:
        assert balances(session, customer_id=customer_id_for("acme"))[accounts.PROMOTIONS] == 0
    company.check()


@pytest.mark.parametrize(
    ("details", "refusal"),
    [
        ({"currency": "EUR"}, CreditCurrencyDiffers),
        ({"until": "2025-06-01"}, BadCreditExpiry),
        ({"priority": 1001}, BadCreditPriority),
        ({"amount": "-1"}, CreditRefused),
        ({"amount": "0.001"}, CreditRefused),
        ({"kind": "prepaid"}, CreditRefused),
    ],
    ids=["currency", "expiry", "priority", "negative", "fraction", "prepaid"],
)
def test_what_is_no_credit_is_refused_with_the_cure(
    company: Company, details: dict[str, object], refusal: type[CreditRefused]
) -> None:
    company.customer("acme")
    with pytest.raises(refusal):
        grant(company, **{"amount": "1", **details})  # type: ignore[arg-type]
    assert lots(company) == {}


def test_a_restriction_to_an_unknown_item_is_refused(company: Company) -> None:
    company.customer("acme")
    with pytest.raises(BadCreditItems, match="egres"), Session(company.engine) as session:
        grant_credit(
            session,
            customer_id=customer_id_for("acme"),
            grant_id=uuid4(),
            account=accounts.CREDITS_GOODWILL,
            amount=Decimal(1),
            reason="Sorry",
            actor=AGENT,
            now=at("2025-06-01"),
            items=["egres"],
        )


def test_the_same_grant_again_is_the_first_one_and_with_another_expiry_is_refused(company: Company) -> None:
    company.customer("acme")
    credit = grant(company, "5", until="2025-08-01")
    assert grant(company, "5", until="2025-08-01", grant_id=credit, day="2025-09-01") == credit
    with pytest.raises(CreditConflict):
        grant(company, "5", until="2025-08-02", grant_id=credit)


def test_postgres_refuses_what_the_code_would(company: Company) -> None:
    company.customer("acme")
    credit = grant(company, "5")
    grant(company, "7", kind="goodwill")
    with Session(company.engine) as session:
        first = session.get_one(CreditGrant, (customer_id_for("acme"), credit))
        goodwill_entry = session.scalars(select(Entry.id).where(Entry.amount == 7)).one()
        own_entry = session.scalars(select(Entry.id).where(Entry.amount == 5)).one()
    insert_use = (
        "INSERT INTO credit_uses (customer_id, id, grant_id, kind, amount, entry_id, at, actor, reason)"
        " VALUES (:customer, gen_random_uuid(), :grant, :kind, :amount, :entry, now(), 'test', 'test')"
    )
    insert_grant = (
        "INSERT INTO credit_grants (customer_id, id, account, amount, currency, reason, actor, created_at, expires_at,"
        " items) SELECT customer_id, gen_random_uuid(), account, {amount}, {currency}, 'x', 'x', created_at, {expires},"
        " {items} FROM credit_grants WHERE id = :grant"
    )
    whole = {"amount": "1", "currency": "'USD'", "expires": "NULL", "items": "NULL"}
    refused = [
        (insert_use, {"kind": "revoked", "amount": 6, "entry": own_entry}, "more than the 5 that are left"),
        (insert_use, {"kind": "revoked", "amount": 5, "entry": goodwill_entry}, "is not what it says"),
        (insert_use, {"kind": "expired", "amount": 1, "entry": own_entry}, "has not expired"),
        (insert_use, {"kind": "returned", "amount": 1, "entry": own_entry}, "cannot give"),
        (insert_grant.format(**{**whole, "currency": "'EUR'"}), {}, "the customer is billed in USD"),
        (insert_grant.format(**{**whole, "amount": "0.001"}), {}, "credit_grants_whole_units"),
        (insert_grant.format(**{**whole, "amount": "-1"}), {}, "check"),
        (insert_grant.format(**{**whole, "expires": "created_at"}), {}, "credit_grants_expire_later"),
        (insert_grant.format(**{**whole, "items": "ARRAY['nothing']"}), {}, "there is no item nothing"),
        ("UPDATE credit_uses SET amount = 1", {}, "permission denied"),
        ("UPDATE credit_grants SET amount = 1", {}, "permission denied"),
    ]
    for statement, values, words in refused:
        with company.engine.connect() as connection, pytest.raises(DBAPIError, match=words):
            connection.execute(text(statement), {"customer": first.customer_id, "grant": credit, **values})


def test_an_entry_of_applied_credit_names_its_lot(company: Company) -> None:
    company.customer("acme")
    grant(company, "5", until="2025-09-01")
    company.use("acme", "2025-06-03", "30")
    company.close("2025-07-01")
    company.finalize("acme", "2025-06", on="2025-07-02")
    with Session(company.engine) as session:
        entry = session.scalars(select(Entry).where(Entry.kind == "credit")).one()
        found = explain_one_entry(session, customer_id=entry.customer_id, entry_id=entry.id)
    lot = "Promotional credit of 5 USD from 2025-06-01, until 2025-09-01"
    assert (entry.reason, found.cause) == (lot, f"Credit of the customer paid for {_number(company)}: {lot}.")


def _number(company: Company) -> str:
    return f"invoice {company.invoice('acme', '2025-06').invoice.number}"


def test_two_invoices_at_once_never_use_a_credit_twice(company: Company) -> None:
    """June and July become final at the same moment, each over 30; there are 40 of credit."""
    customer_id = company.customer("acme")
    credit = grant(company, "40", until="2026-01-01")
    company.use("acme", "2025-06-03", "30")
    company.use("acme", "2025-07-03", "30")
    company.close("2025-08-01")
    drafts = [company.invoice("acme", month).invoice.id for month in ("2025-06", "2025-07")]
    together = Barrier(3, timeout=60)

    def finalize_draft(invoice_id: UUID) -> Decimal:
        together.wait()
        with Session(company.engine) as session, session.begin():
            invoice = finalize(
                session,
                customer_id=customer_id,
                invoice_id=invoice_id,
                provider=company.provider,
                actor="test",
                now=at("2025-08-02"),
            )
            return invoice.credits_applied or Decimal(0)

    def expire_all(now: datetime) -> int:
        together.wait()
        return expire_due(company.engine, now=now).expired

    with ThreadPoolExecutor(3) as pool:
        expired = pool.submit(expire_all, at("2026-02-01"))
        applied = sum(pool.map(finalize_draft, drafts), Decimal(0))
        expired.result()
    left = lots(company)[credit].remaining
    gone = sum((amount for _, kind, amount in uses(company) if kind == "expired"), Decimal(0))
    assert applied == 40
    assert left == 0
    assert gone == 0
    company.check()
