"""Credit whose money went back: what is left of it goes too, what was used is a task, and every order says the same."""

from decimal import Decimal
from itertools import permutations
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from invoicing.credit.endings import CreditDisputed, expire_due, revoke_credit
from invoicing.movements.disputes import move_dispute_funds, record_dispute
from invoicing.movements.foreign_refunds import record_foreign_refund
from invoicing.movements.refunds import settle_refund
from invoicing.movements.tables import Task
from invoicing.movements.tasks import resolve_task
from invoicing.tables import Invoice
from ledger import accounts
from tests.invoicing.conftest import Company, at
from tests.invoicing.test_top_ups import AGENT, _finalize, books, buy, left, move, pay, refill, want

ON = at("2025-07-20")


def dispute(company: Company, invoice: Invoice, status: str, *, amount: str = "100", name: str = "dp_1") -> None:
    with Session(company.engine) as session, session.begin():
        record_dispute(
            session,
            customer_id=invoice.customer_id,
            provider="stripe",
            external_id=name,
            invoice_id=invoice.id,
            payment_external_id="p1",
            amount=Decimal(amount),
            currency="USD",
            reason="fraudulent",
            status=status,
            evidence_due_at=None,
            opened_at=ON,
            actor="stripe",
            now=ON,
        )


def withdraw(company: Company, invoice: Invoice, amount: str, *, transaction: str, name: str = "dp_1") -> None:
    with Session(company.engine) as session, session.begin():
        move_dispute_funds(
            session,
            customer_id=invoice.customer_id,
            provider="stripe",
            external_id=name,
            transaction=transaction,
            amount=Decimal(amount),
            fee=Decimal(0),
            at=ON,
            actor="stripe",
            now=ON,
        )


def send_back(company: Company, invoice: Invoice, amount: str) -> UUID:
    """A refund that somebody makes at the provider."""
    with Session(company.engine) as session, session.begin():
        return record_foreign_refund(
            session,
            customer_id=invoice.customer_id,
            provider="stripe",
            payment_external_id="p1",
            external_id="re_1",
            amount=Decimal(amount),
            status="succeeded",
            reason="requested_by_customer",
            at=ON,
            actor="stripe",
            now=ON,
        ).id


def fail(company: Company, invoice: Invoice, refund: UUID) -> None:
    with Session(company.engine) as session, session.begin():
        settle_refund(
            session,
            customer_id=invoice.customer_id,
            refund_id=refund,
            status="failed",
            external_id="re_1",
            failure_code="expired_or_canceled_card",
            failure_reason="The card is closed",
            at=ON,
            actor="stripe",
            now=ON,
        )


def tasks(company: Company) -> list[str]:
    """What the open tasks say was used and is not paid for."""
    with Session(company.engine) as session:
        found = session.scalars(select(Task).where(Task.kind == "credit_used_unpaid", Task.resolved_at.is_(None)))
        return [task.details["used"] for task in found]


def bought(company: Company, *, used: str | None = None) -> Invoice:
    """A top-up of 100 that is paid; `used` of it pays June's invoice."""
    company.customer("acme")
    invoice = buy(company, "100")
    pay(company, invoice, "100")
    if used:
        company.use("acme", "2025-06-03", used)
        company.close("2025-07-01")
        company.finalize_due("2025-07-03")
    return invoice


def test_a_lost_dispute_takes_the_credit_that_was_not_used_and_is_no_loss(company: Company) -> None:
    invoice = bought(company)
    withdraw(company, invoice, "-100", transaction="t1")
    dispute(company, invoice, "needs_response")
    assert left(company) == (100, True)  # it stays until the bank has decided
    dispute(company, invoice, "lost")
    assert (left(company), books(company), tasks(company)) == (None, {}, [])
    company.check()


def test_what_was_used_before_the_dispute_is_our_loss_and_a_task_with_the_amount(company: Company) -> None:
    """30 of 100 paid for usage: chargebacks 30, income:usage 30."""
    invoice = bought(company, used="30")
    withdraw(company, invoice, "-100", transaction="t1")
    dispute(company, invoice, "lost")
    assert left(company) is None
    assert books(company) == {accounts.CHARGEBACKS: 30, accounts.USAGE: 30}
    assert tasks(company) == ["30"]
    company.check()


def test_a_dispute_that_is_won_late_gives_the_credit_back_and_its_task_is_gone(company: Company) -> None:
    invoice = bought(company, used="30")
    withdraw(company, invoice, "-100", transaction="t1")
    dispute(company, invoice, "lost")
    dispute(company, invoice, "won")
    withdraw(company, invoice, "100", transaction="t2")
    assert (left(company), tasks(company)) == ((70, True), [])
    assert books(company) == {accounts.STRIPE: 100, accounts.CREDITS_PREPAID: 70, accounts.USAGE: 30}
    company.check()


def test_while_the_dispute_is_open_its_credit_pays_for_nothing_and_nobody_takes_or_refills_it(
    company: Company,
) -> None:
    invoice = bought(company)
    want(company, "150", "50")
    dispute(company, invoice, "needs_response")
    assert refill(company, "2025-06-05").paused == 1
    company.use("acme", "2025-06-03", "30")
    company.close("2025-07-01")
    assert _finalize(company, "2025-06-01", on="2025-07-03") == 30
    with pytest.raises(CreditDisputed), Session(company.engine) as session:
        revoke_credit(
            session,
            customer_id=invoice.customer_id,
            grant_id=invoice.id,
            reason="x",
            actor=AGENT,
            now=ON,
        )
    dispute(company, invoice, "won")
    company.use("acme", "2025-07-03", "30")
    company.close("2025-08-01")
    assert _finalize(company, "2025-07-01", on="2025-08-03") == 0
    company.check()


def test_credit_expires_only_once_its_dispute_is_decided(company: Company) -> None:
    company.customer("acme")
    invoice = buy(company, "100", until="2025-07-15")
    pay(company, invoice, "100")
    company.close("2025-08-01")
    dispute(company, invoice, "needs_response")
    assert expire_due(company.engine, now=at("2025-08-02")).expired == 0
    dispute(company, invoice, "won")
    assert expire_due(company.engine, now=at("2025-08-02")).expired == 1
    company.check()


def test_postgres_lets_no_disputed_credit_pay(company: Company) -> None:
    invoice = bought(company, used="30")
    dispute(company, invoice, "under_review")
    with pytest.raises(IntegrityError, match="is disputed"), Session(company.engine) as session:
        session.execute(
            text(
                "INSERT INTO credit_uses SELECT customer_id, gen_random_uuid(), grant_id, 'applied', invoice_id, 1,"
                " entry_id, at, actor FROM credit_uses"
            )
        )


# As it happens; money before its word; then with more and more of it told backwards.
ORDERS = [
    ("withdrawn", "lost", "won", "given back"),
    ("withdrawn", "lost", "given back", "won"),
    ("lost", "withdrawn", "won", "given back"),
    ("won", "lost", "withdrawn", "given back"),
    ("given back", "won", "lost", "withdrawn"),
    ("withdrawn", "won", "lost", "given back"),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "-".join(order))
def test_every_order_of_a_disputes_events_leaves_the_same_credit(company: Company, order: tuple[str, ...]) -> None:
    invoice = bought(company, used="30")
    for event in order:
        if event == "withdrawn":
            withdraw(company, invoice, "-100", transaction="t1")
        elif event == "given back":
            withdraw(company, invoice, "100", transaction="t2")
        else:
            dispute(company, invoice, event)
        company.check()
    assert (left(company), tasks(company)) == ((70, True), [])
    assert books(company) == {accounts.STRIPE: 100, accounts.CREDITS_PREPAID: 70, accounts.USAGE: 30}


@pytest.mark.parametrize(
    "order", list(permutations(["used is void", "lost", "refunded"])), ids=lambda order: "-".join(order)
)
def test_a_refund_a_loss_and_a_void_leave_the_same_books_in_any_order(company: Company, order: tuple[str, ...]) -> None:
    """All of it used, 50 sent back, 50 lost: once the lot has back what was used, it pays for both."""
    invoice = bought(company, used="130")
    with Session(company.engine, expire_on_commit=False) as session:
        billed = session.scalars(select(Invoice).where(Invoice.kind == "cycle")).one()
    for event in order:
        if event == "used is void":
            move(company, billed, "void", then="give_up", day="2025-07-21")
        elif event == "refunded":
            send_back(company, invoice, "50")
        else:
            withdraw(company, invoice, "-50", transaction="t1")
            dispute(company, invoice, "lost", amount="50")
        company.check()
    assert (left(company), tasks(company)) == (None, [])
    assert books(company) == {accounts.USAGE: 130, accounts.ADJUSTMENTS: -130}


def test_a_refund_past_us_of_credit_that_was_used_is_a_task_until_it_fails(company: Company) -> None:
    invoice = bought(company, used="30")
    refund = send_back(company, invoice, "100")
    assert (left(company), tasks(company)) == (None, ["30"])
    company.check()
    fail(company, invoice, refund)
    assert (left(company), tasks(company)) == ((70, True), [])
    assert books(company) == {accounts.STRIPE: 100, accounts.CREDITS_PREPAID: 70, accounts.USAGE: 30}
    company.check()


def test_a_task_that_somebody_settled_is_not_opened_again_by_the_same_news(company: Company) -> None:
    invoice = bought(company, used="30")
    withdraw(company, invoice, "-100", transaction="t1")
    dispute(company, invoice, "lost")
    with Session(company.engine) as session, session.begin():
        task = session.scalars(select(Task).where(Task.kind == "credit_used_unpaid")).one()
        resolve_task(session, task_id=task.id, actor=AGENT, reason="Charged on July's draft", now=ON)
    dispute(company, invoice, "lost")
    assert tasks(company) == []


def test_a_partly_lost_payment_takes_its_part_of_the_credit_and_leaves_the_rest(company: Company) -> None:
    invoice = bought(company)
    withdraw(company, invoice, "-40", transaction="t1")
    dispute(company, invoice, "lost", amount="40")
    assert left(company) == (60, True)
    assert books(company) == {accounts.STRIPE: 60, accounts.CREDITS_PREPAID: 60}
    company.check()
