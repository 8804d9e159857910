"""Answers that never came, half of them of work that was done: nothing happens twice, and nothing stays open."""

import os
from collections import Counter
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.tables import Invoice
from stripe_gateway import amounts
from stripe_gateway.operations import set_balance_to_zero
from stripe_gateway.tables import StripeSync
from tests.gateway import movement as do
from tests.gateway.conftest import Town, client_for, now, sync_patiently

ENDPOINTS = (
    "customers.create",
    "invoices.create",
    "invoices.add_lines",
    "invoices.finalize",
    "invoices.void",
    "invoices.mark_uncollectible",
    "invoices.pay",
    "refunds.create",
    "credit_notes.create",
    "customers.balance_transactions.create",
)
DONE, NOT_DONE = ("reset_after", "500_after"), ("reset_before", "500_before")
WAIT_OF_A_RUN_S = 3
HOURS = 40  # an answer that may still turn up is waited for one hour, several times in bad luck
ROUND, LONG_ROUND = 20, 100  # customers
GOAL = int(os.environ.get("AMBIGUOUS_ANSWERS", "10000"))
SEED = int(os.environ.get("AMBIGUOUS_SEED", "0"))
"""Of the first round; with another one in each, several runs can share the goal."""


def lose_answers(town: Town, *, share: float, seed: int) -> None:
    """Of all writes this share gets no answer that says anything; half of those are carried out."""
    for place, endpoint in enumerate(ENDPOINTS):
        for number, kind in enumerate((*DONE, *NOT_DONE)):
            dice = seed * 1000 + place * 10 + number
            town.sandbox.fault(endpoint, kind, count=None, probability=share / 4, seed=dice)


def pass_hours(town: Town, *, first: int) -> int:
    """Let cron run hour by hour until nothing is left to do; returns the hour after."""
    # Without the breaker: these are many single misfortunes, and no outage in which nothing is even tried.
    client = client_for(town)
    for hour in range(first, first + HOURS):
        sync_patiently(town.engine, client, at=now() + timedelta(hours=hour), patience_s=WAIT_OF_A_RUN_S)
        with Session(town.engine) as session:
            states = Counter(town.gateway.sync_counts(session)) + Counter(town.gateway.operation_counts(session))
        if set(states) <= {"done", "refused", "canceled"}:
            return hour + 1
    with Session(town.engine) as session:
        open_ = [(one.step, one.last_error) for one in session.scalars(select(StripeSync)) if one.state != "done"]
    raise AssertionError(f"after {HOURS} hours something is still open: {states} {open_}")


def submitted(town: Town) -> list[Invoice]:
    with Session(town.engine, expire_on_commit=False) as session:
        query = select(Invoice).join(StripeSync, StripeSync.invoice_id == Invoice.id).order_by(Invoice.number)
        return list(session.scalars(query))


def begin_everything(town: Town, invoices: list[Invoice]) -> None:
    """One operation of each kind in turn, on invoices that were paid and on open ones."""
    for number, invoice in enumerate(invoices):
        match number % 6:
            case 0:
                do.credit(town, invoice, "0.60", paid_part="refund")
            case 1:
                do.void(town, invoice, then="give_up")
            case 2:
                do.begin(town, invoice, "write_off")
            case 3:
                do.outside(town, invoice)
            case 4:
                do.credit(town, invoice, "0.60", paid_part="keep")
            case _:
                do.credit(town, invoice, "0.60")
                with Session(town.engine) as session, session.begin():
                    set_balance_to_zero(
                        session, customer_id=invoice.customer_id, invoice_id=invoice.id, cause="test", now=now()
                    )


def live_through(town: Town, *, customers: int, seed: int, share: float) -> Counter[str]:
    """Customers from their first request at Stripe to the end of everything; returns what answers were lost."""
    town.sandbox.clear_requests()
    known = {invoice.id for invoice in submitted(town)}
    town.invoices(customers, name=f"round-{seed}")
    lose_answers(town, share=share, seed=seed)
    hour = pass_hours(town, first=0)
    lost = lost_answers(town)
    town.sandbox.clear_faults()
    invoices = [invoice for invoice in submitted(town) if invoice.id not in known]
    client = town.gateway.client
    for number, invoice in enumerate(invoices):
        if number % 6 in (0, 4):
            town.sandbox.post(f"invoices/{town.row(invoice).external_id}/pay")
        if number % 6 == 5:
            customer = do.at_stripe(town, invoice)["customer"]
            client.adjust_balance(customer, {"amount": -70, "currency": "usd"}, key=f"by hand {invoice.id}")
    do.pump(town)
    town.sandbox.clear_requests()
    lose_answers(town, share=share, seed=seed + 500)
    begin_everything(town, invoices)
    pass_hours(town, first=hour)
    lost += lost_answers(town)
    town.sandbox.clear_faults()
    do.pump(town)
    return lost


def lost_answers(town: Town) -> Counter[str]:
    """The requests whose answer said nothing, by what had become of them. A replay of a stored 500 is one too."""
    found: Counter[str] = Counter()
    for line in town.sandbox.requests():
        if line["fault"] in DONE:
            found["done"] += 1
        elif line["fault"] in NOT_DONE:
            found["not done"] += 1
    return found


def assert_nothing_twice(town: Town) -> None:
    client = town.gateway.client
    with Session(town.engine) as session:
        voided = {str(one) for one in session.scalars(select(Invoice.id).where(Invoice.state == "void"))}
    ours = Counter(
        invoice["metadata"]["ledger_invoice_id"]
        for invoice in client.list_invoices()
        if invoice["status"] not in ("draft", "void")
    )
    assert set(ours.values()) == {1}
    assert voided.isdisjoint(ours)
    assert not town.drafts()
    refunds = [one["metadata"]["ledger_refund_id"] for one in client.list_refunds()]
    notes = [one["metadata"]["ledger_credit_note_id"] for one in client.list_credit_notes()]
    assert sorted(refunds) == sorted(str(one.id) for one in do.refunds(town))
    assert sorted(notes) == sorted(str(one.id) for one in do.credit_notes(town))
    assert {one.state for one in do.refunds(town)} == {"succeeded"}
    customers = list(client.list_customers(created_from=0, email=None))
    assert len({one["metadata"]["ledger_customer_id"] for one in customers}) == len(customers)
    assert {one["balance"] for one in customers} == {0}
    # What Stripe holds is what our books say that Stripe holds, to the cent.
    held = sum((books.get("assets:stripe", Decimal(0)) for books in do.balances(town).values()), Decimal(0))
    kinds = ("charge", "refund")
    moved = [one["net"] for kind in kinds for one in client.list_balance_transactions(kind=kind, created_from=0)]
    assert held == amounts.from_minor(sum(moved), "USD")
    assert not town.events("parked")
    do.check(town)


def test_hundreds_of_answers_that_never_came_do_nothing_twice_and_leave_nothing_open(hooked: Town) -> None:
    lost = live_through(hooked, customers=ROUND, seed=1, share=0.4)
    assert min(lost["done"], lost["not done"]) > 20, lost
    assert_nothing_twice(hooked)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_ten_thousand_answers_that_never_came_do_nothing_twice_and_leave_nothing_open(hooked: Town) -> None:
    lost: Counter[str] = Counter()
    seed = SEED
    while lost.total() < GOAL:
        seed += 1
        lost += live_through(hooked, customers=LONG_ROUND, seed=seed, share=0.4)
    assert_nothing_twice(hooked)
    print(f"{lost['done']} answers lost of work that was done, {lost['not done']} of work that was not")
