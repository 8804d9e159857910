"""Prepaid credit: sold by an invoice, usable once that is paid, gone if nobody pays it; refilled once."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.endings import CreditNotPaid, expire_due, revoke_credit
from invoicing.credit.grants import BadCreditExpiry, CreditConflict, CreditRefused
from invoicing.credit.lots import lots_of
from invoicing.credit.refills import RefillSummary, refill_due, set_refill
from invoicing.credit.top_ups import top_up
from invoicing.customers import customer_id_for
from invoicing.explaining.answers import InvoiceExplained, explain
from invoicing.movements.refusals import AmountTooLarge, BadOptions
from invoicing.movements.requests import movement_done, request_movement
from invoicing.payments import record_payment
from invoicing.settings import Settings
from invoicing.tables import CreditUse, Invoice
from ledger import accounts
from ledger.balances import balances
from tests.invoicing.conftest import Company, at

AGENT = "agent@demo.test"


def buy(company: Company, amount: str, *, day: str = "2025-06-01", until: str | None = None, **more: Any) -> Invoice:
    with Session(company.engine, expire_on_commit=False) as session, session.begin():
        return top_up(
            session,
            customer_id=customer_id_for("acme"),
            top_up_id=more.pop("top_up_id", None) or uuid4(),
            amount=Decimal(amount),
            provider=company.provider,
            actor="customer",
            now=at(day),
            expires_at=at(until) if until else None,
            **more,
        )


def pay(company: Company, invoice: Invoice, amount: str, *, day: str = "2025-06-02", payment: str = "p1") -> None:
    with Session(company.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=invoice.customer_id,
            invoice_id=invoice.id,
            provider="stripe",
            external_id=payment,
            amount=Decimal(amount),
            received_at=at(day),
            actor="stripe",
            now=at(day),
        )


def move(
    company: Company, invoice: Invoice, kind: str, *, amount: str | None = None, day: str = "2025-06-05", **options: str
) -> None:
    """What staff begin with the invoice, and the provider confirms."""
    key = {"customer_id": invoice.customer_id, "movement_id": uuid4()}
    with Session(company.engine) as session, session.begin():
        request_movement(
            session,
            **key,
            invoice_id=invoice.id,
            kind=kind,
            amount=None if amount is None else Decimal(amount),
            options=options,
            reason="Asked for",
            actor=AGENT,
            provider=company.provider,
            settings=Settings(approval_limit=Decimal(10**6)),
            now=at(day),
        )
    with Session(company.engine) as session, session.begin():
        movement_done(session, **key, external_id=None, at=at(day), actor="provider", now=at(day))


def books(company: Company) -> dict[str, Decimal]:
    with Session(company.engine) as session:
        return {k: v for k, v in balances(session, customer_id=customer_id_for("acme")).items() if v}


def left(company: Company) -> tuple[Any, bool] | None:
    """What is left of the one lot, and whether it can be used."""
    with Session(company.engine) as session:
        found = [lot for lot in lots_of(session, customer_id=customer_id_for("acme")) if lot.id]
    return (found[0].remaining, found[0].is_paid) if found else None


def test_bought_credit_pays_for_usage_once_its_own_invoice_is_paid(company: Company) -> None:
    company.customer("acme")
    bought = buy(company, "100")
    order = company.remembered.orders[bought.id]
    assert (bought.state, order.title) == ("final", "Prepaid credit")
    assert bought.amount_due == order.amount_due == 100
    assert bought.tax == 0
    assert left(company) == (100, False)
    company.use("acme", "2025-06-03", "30")
    company.use("acme", "2025-07-03", "30")
    company.close("2025-07-01")
    assert _finalize(company, "2025-06-01", on="2025-07-03") == 30  # not paid yet, so it pays for nothing
    company.check()
    pay(company, bought, "100", day="2025-07-04")
    company.close("2025-08-01")
    assert _finalize(company, "2025-07-01", on="2025-08-03") == 0
    assert left(company) == (70, True)
    company.check()


def _finalize(company: Company, start: str, *, on: str) -> Decimal:
    company.finalize_due(on)
    with Session(company.engine) as session:
        due = session.scalars(
            select(Invoice.amount_due).where(Invoice.kind == "cycle", Invoice.period_start == at(start))
        ).one()
    assert due is not None
    return due


def test_the_same_top_up_again_sells_nothing_more(company: Company) -> None:
    company.customer("acme")
    key = UUID(int=9)
    assert buy(company, "100", top_up_id=key).id == buy(company, "100", top_up_id=key).id
    with pytest.raises(CreditConflict):
        buy(company, "99", top_up_id=key)
    assert buy(company, "5").number != buy(company, "5").number  # several in one period
    assert books(company)[accounts.RECEIVABLE] == 110
    company.check()


@pytest.mark.parametrize(
    ("amount", "more", "refusal"),
    [
        ("0.40", {}, CreditRefused),
        ("1.005", {}, CreditRefused),
        ("-5", {}, CreditRefused),
        ("5", {"currency": "EUR"}, CreditRefused),
        ("5", {"until": "2025-06-01"}, BadCreditExpiry),
    ],
    ids=["below the minimum", "fraction", "negative", "currency", "expiry"],
)
def test_what_cannot_be_sold_is_refused(
    company: Company, amount: str, more: dict[str, str], refusal: type[Exception]
) -> None:
    company.customer("acme")
    with pytest.raises(refusal):
        buy(company, amount, **more)
    assert books(company) == {}


def test_a_void_top_up_leaves_no_credit_and_bills_nothing_again(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "30")
    bought = buy(company, "100")
    with pytest.raises(BadOptions, match="give_up"):
        move(company, bought, "void", then="rebill")
    move(company, bought, "void", then="give_up")
    assert left(company) is None
    assert books(company) == {accounts.UNBILLED: 30, accounts.USAGE: 30}
    company.check()


def test_a_top_up_that_is_given_up_costs_nothing_and_counts_again_once_paid(company: Company) -> None:
    company.customer("acme")
    bought = buy(company, "100")
    pay(company, bought, "40")
    move(company, bought, "write_off")
    assert left(company) == (40, True)
    assert books(company) == {accounts.STRIPE: 40, accounts.CREDITS_PREPAID: 40}
    company.check()
    pay(company, bought, "60", payment="p2", day="2025-06-09")
    assert left(company) == (100, True)
    assert books(company) == {accounts.STRIPE: 100, accounts.CREDITS_PREPAID: 100}
    company.check()


def test_a_top_up_that_was_given_up_can_be_made_void(company: Company) -> None:
    company.customer("acme")
    bought = buy(company, "100")
    move(company, bought, "write_off")
    move(company, bought, "void", then="give_up")
    assert (left(company), books(company)) == (None, {})
    company.check()


def test_bought_credit_is_given_back_by_a_credit_note_as_far_as_it_is_left(company: Company) -> None:
    company.customer("acme")
    bought = buy(company, "100")
    pay(company, bought, "100")
    company.use("acme", "2025-06-03", "30")
    company.close("2025-07-01")
    company.finalize_due("2025-07-03")
    with pytest.raises(AmountTooLarge, match="70 USD are left"):
        move(company, bought, "credit_note", amount="71", paid_part="refund")
    move(company, bought, "credit_note", amount="70", paid_part="refund", day="2025-07-04")
    assert left(company) is None
    assert books(company) == {accounts.STRIPE: 100, accounts.UNAPPLIED: 70, accounts.USAGE: 30}
    company.check()


def test_bought_credit_that_expires_is_breakage(company: Company) -> None:
    company.customer("acme")
    bought = buy(company, "100", until="2026-06-01")
    assert expire_due(company.engine, now=at("2026-06-02")).kept == 1  # not paid, so nothing to expire
    with pytest.raises(CreditNotPaid), Session(company.engine) as session:
        revoke_credit(
            session,
            customer_id=bought.customer_id,
            grant_id=bought.id,
            reason="x",
            actor=AGENT,
            now=at("2025-06-02"),
        )
    pay(company, bought, "100")
    company.close("2026-06-02")  # else its period could still bill something that it pays for
    assert expire_due(company.engine, now=at("2026-06-02")).expired == 1
    assert books(company) == {accounts.STRIPE: 100, accounts.BREAKAGE: 100}
    company.check()


def test_a_top_up_is_explained_by_its_sale(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-01", "30")
    bought = buy(company, "100")
    with Session(company.engine) as session:
        found = explain(session, what=str(bought.id))
    assert isinstance(found, InvoiceExplained)
    assert found.parts[0].title == "Prepaid credit sold"
    assert found.parts[0].explanation.total == 100


def refill(company: Company, day: str) -> RefillSummary:
    return refill_due(company.engine, provider=company.provider, now=at(day))


def want(company: Company, threshold: str | None, amount: str | None, day: str = "2025-06-01") -> None:
    with Session(company.engine) as session, session.begin():
        set_refill(
            session,
            customer_id=customer_id_for("acme"),
            threshold=None if threshold is None else Decimal(threshold),
            amount=None if amount is None else Decimal(amount),
            provider=company.provider,
            actor="customer",
            now=at(day),
        )


def test_credit_is_refilled_once_when_too_little_is_left_after_what_is_used(company: Company) -> None:
    company.customer("acme")
    want(company, "20", "50")
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: refill(company, "2025-06-02"), range(4)))
    assert (sum(run.refilled for run in runs), [run.problems for run in runs]) == (1, [[]] * 4)
    assert refill(company, "2025-06-02").refilled == 0  # one is open
    with Session(company.engine, expire_on_commit=False) as session:
        first = session.scalars(select(Invoice)).one()
    pay(company, first, "50")
    assert refill(company, "2025-06-03").refilled == 0
    company.use("acme", "2025-06-04", "31")
    assert refill(company, "2025-06-04").refilled == 1
    company.check()


def test_a_refill_that_nobody_paid_pauses_until_it_is_wanted_again(company: Company) -> None:
    company.customer("acme")
    want(company, "20", "50")
    refill(company, "2025-06-02")
    with Session(company.engine, expire_on_commit=False) as session:
        first = session.scalars(select(Invoice)).one()
    move(company, first, "write_off")
    assert (refill(company, "2025-06-06").paused, refill(company, "2025-06-07").refilled) == (1, 0)
    want(company, "20", "50", day="2025-06-08")
    assert refill(company, "2025-06-08").refilled == 1
    want(company, None, None, day="2025-06-09")
    assert refill(company, "2025-06-09").paused == 0
    with pytest.raises(CreditRefused):
        want(company, "20", None)
    company.check()


def test_what_a_void_invoice_took_is_there_for_the_one_that_replaces_it(company: Company) -> None:
    company.customer("acme")
    bought = buy(company, "20")
    pay(company, bought, "20")
    company.use("acme", "2025-06-03", "30")
    company.close("2025-07-01")
    company.finalize_due("2025-07-03")
    with Session(company.engine, expire_on_commit=False) as session:
        billed = session.scalars(select(Invoice).where(Invoice.kind == "cycle")).one()
    assert left(company) is None
    move(company, billed, "void", then="rebill", day="2025-07-04")
    assert left(company) == (20, True)
    company.finalize_due("2025-07-08")
    with Session(company.engine) as session:
        kinds = session.scalars(select(CreditUse.kind).order_by(CreditUse.at, CreditUse.kind)).all()
        again = session.scalars(select(Invoice).where(Invoice.generation == 2)).one()
    assert kinds == ["applied", "returned", "applied"]
    assert again.amount_due == 10
    company.check()
