"""A comparison as a run: what it looks at, where it goes on after it was cut off, and what a person's word changes."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from invoicing.movements.tables import Task
from invoicing.movements.tasks import resolve_task
from stripe_gateway.errors import CallFailed
from stripe_gateway.reconciliation import Asked, ReconcileReport, ReconciliationTakenOver, WindowIsEmpty
from stripe_gateway.reconciliation import runs as runs_module
from stripe_gateway.reconciliation.tables import StripeDifference, StripeReconciliation, StripeSeen
from tests.gateway import movement
from tests.gateway.conftest import Town, now


def run(town: Town, **asked: Any) -> ReconcileReport:
    return town.gateway.reconcile(now=now(), asked=Asked(**asked))


def runs(town: Town) -> list[StripeReconciliation]:
    with Session(town.engine, expire_on_commit=False) as session:
        return list(session.scalars(select(StripeReconciliation).order_by(StripeReconciliation.started_at)))


def tasks(town: Town, *, is_open: bool = True) -> list[Task]:
    state = Task.resolved_at.is_(None) if is_open else Task.resolved_at.is_not(None)
    with Session(town.engine, expire_on_commit=False) as session:
        return list(session.scalars(select(Task).where(state)))


def asked_for(town: Town, endpoint: str) -> list[dict[str, Any]]:
    """The parameters of each call of an endpoint since the log was cleared."""
    return [request["params"] for request in town.sandbox.requests(endpoint)]


@pytest.fixture
def paid(town: Town) -> Town:
    """Three invoices, paid at Stripe by card; no webhook told of it."""
    for number in range(3):
        town.invoice(f"payer-{number}", card="pm_card_visa")
    town.sync()
    town.sandbox.advance(60)
    return town


def test_a_second_run_looks_at_what_is_new_and_at_what_is_not_settled(paid: Town) -> None:
    paid.invoice("debtor")
    paid.sync()
    first = run(paid)
    mark = runs(paid)[0].started_at
    paid.sandbox.clear_requests()
    second = run(paid)
    assert first.window_from is not None
    assert second.window_from == mark - timedelta(days=1)
    assert second.differences == []
    since = int((mark - timedelta(days=1)).timestamp())
    assert {str(asked["created"]["gte"]) for asked in asked_for(paid, "balance_transactions.list")} == {str(since)}
    # What is still open is looked at however old it is.
    assert [asked for asked in asked_for(paid, "invoices.list") if asked.get("status") == "open"]


def test_an_old_invoice_that_was_paid_meanwhile_is_found_without_its_event(town: Town) -> None:
    invoice = town.invoice("late", card="pm_card_chargeCustomerFail")
    town.sync()
    town.sandbox.advance(60)
    run(town)
    # The next window begins far later than anything that was made for this invoice.
    with town.engine.begin() as connection:
        moved = "INSERT INTO stripe_reconciliations (id, is_full, window_from, state, stage, started_at, progressed_at,"
        moved += " finished_at) VALUES (gen_random_uuid(), false, now(), 'done', '', :at, :at, :at)"
        connection.execute(text(moved), {"at": now() + timedelta(days=40)})
    town.gateway.client.set_default_payment_method(
        town.gateway.ensure_customer(customer_id=invoice.customer_id, now=now()), "pm_card_visa"
    )
    town.gateway.client._v1.invoices.pay(town.row(invoice).external_id)
    report = run(town)
    assert {"payment_at_stripe_only", "status_behind"} <= {one.kind for one in report.repaired}
    assert town.books()["invoices"][0][1] == "paid"


def test_a_window_of_its_own_looks_nowhere_else_and_moves_no_mark(paid: Town) -> None:
    begin, end = now() - timedelta(days=3), now() - timedelta(days=2)
    paid.sandbox.clear_requests()
    report = run(paid, created_from=begin, created_to=end)
    assert report.differences == [], "the payments lie after it"
    for asked in asked_for(paid, "invoice_payments.list"):
        assert {name: str(at) for name, at in asked["created"].items()} == {
            "gte": str(int(begin.timestamp())),
            "lte": str(int(end.timestamp())),
        }
    assert len(run(paid).repaired) == 9, "the ordinary run begins where it would have begun"
    with pytest.raises(WindowIsEmpty):
        run(paid, created_from=end, created_to=begin)


@pytest.mark.parametrize(
    ("endpoint", "stage"),
    [
        ("customers.list", "customers"),
        ("invoice_payments.list", "invoices"),  # the payments of an invoice that was behind
        ("refunds.list", "refunds"),
        ("balance_transactions.list", "balance transactions"),
        ("payouts.list", "payouts"),
    ],
)
def test_a_run_that_was_cut_off_goes_on_where_it_was(paid: Town, endpoint: str, stage: str) -> None:
    """Stripe goes away in a stage; the next call goes on there, and the report is of the whole run."""
    paid.sandbox.fault(endpoint, "500_before", count=None, stored=False)
    with pytest.raises(CallFailed):
        run(paid)
    paid.sandbox.clear_faults()
    [cut] = runs(paid)
    assert (cut.state, cut.stage) == ("running", stage)
    paid.sandbox.clear_requests()
    report = run(paid)
    assert report.resumed
    assert len(report.repaired) == 9
    assert [one.state for one in runs(paid)] == ["done"], "the same run, not another"
    assert ("customers.list" in paid.sandbox.counts()) is (stage == "customers"), "what was compared is not asked again"
    paid.company.check()
    assert run(paid).differences == []


def test_a_run_that_was_cut_off_after_its_last_page_is_ended_by_the_next(paid: Town) -> None:
    """Killed between the note of the last page and the word that it is done: nothing is left but to say so."""
    assert len(run(paid).repaired) == 9
    place = runs_module.begin(paid.engine, Asked(), first_stage="customers", now=now())
    assert place is not None
    with Session(paid.engine) as session, session.begin():
        runs_module.note(session, place, stage="", cursor=None, seen=(), now=now())
    report = run(paid)
    assert report.resumed
    assert report.differences == []
    assert [one.state for one in runs(paid)] == ["done", "done"]
    assert not run(paid).resumed


def test_of_two_at_once_the_later_one_goes_on_and_nothing_is_booked_twice(paid: Town) -> None:
    """The first is held up at Stripe; the second takes the run over and finishes it; the first writes no place."""
    paid.sandbox.fault("refunds.list", "delay_before", delay_s=3)
    ended: list[Any] = []

    def first() -> None:
        try:
            ended.append(run(paid))
        except ReconciliationTakenOver as error:
            ended.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    deadline = threading.Event()
    while not any(one.stage == "refunds" for one in runs(paid)):
        deadline.wait(0.05)
    second = run(paid)
    thread.join()
    assert second.resumed
    assert isinstance(ended[0], ReconciliationTakenOver)
    assert len(second.repaired) == 9
    assert paid.books()["cash entries"] == 3
    paid.company.check()


def test_whoever_was_overtaken_writes_no_place(paid: Town) -> None:
    """Both are in the middle of the same run: only the later one may say how far it is."""
    earlier = runs_module.begin(paid.engine, Asked(), first_stage="customers", now=now())
    later = runs_module.begin(paid.engine, Asked(), first_stage="customers", now=now())
    assert earlier is not None
    assert later is not None
    assert later.resumed
    for place, is_refused in ((earlier, True), (later, False)):
        refused = False
        try:
            with Session(paid.engine) as session, session.begin():
                runs_module.note(session, place, stage="payouts", cursor="po_1", seen=["po_1"], now=now())
        except ReconciliationTakenOver:
            refused = True
        assert refused is is_refused
    [one] = runs(paid)
    assert (one.stage, one.cursor) == ("payouts", "po_1")


def test_what_we_did_ourselves_is_no_difference(hooked: Town) -> None:
    """Each movement that staff begin, half done and done: nothing of it looks as if somebody had meddled."""
    open_ones = {name: movement.standing(hooked, name) for name in ("void", "given-up", "outside", "credited")}
    paid_ones = {name: movement.paid(hooked, name) for name in ("refunded", "kept")}
    run(hooked)
    movement.void(hooked, open_ones["void"], then="give_up")
    movement.begin(hooked, open_ones["given-up"], "write_off")
    movement.outside(hooked, open_ones["outside"])
    movement.credit(hooked, open_ones["credited"], "2.00")
    movement.credit(hooked, paid_ones["refunded"], "3.00")
    movement.credit(hooked, paid_ones["kept"], "4.00", "keep")
    assert run(hooked).differences == [], "asked for and not yet sent"
    hooked.sync()
    half = run(hooked)
    assert half.unexplained == [], "sent, and Stripe's events not yet heard"
    movement.pump(hooked)
    hooked.sync()
    movement.pump(hooked)
    assert run(hooked, is_full=True).unexplained == []
    assert run(hooked, is_full=True).differences == []
    movement.check(hooked)


def test_other_wishes_begin_another_run(paid: Town) -> None:
    paid.sandbox.fault("refunds.list", "500_before", count=None, stored=False)
    with pytest.raises(CallFailed):
        run(paid)
    paid.sandbox.clear_faults()
    report = run(paid, is_full=True)
    assert not report.resumed
    assert sorted(one.state for one in runs(paid)) == ["done", "given_up"]
    with Session(paid.engine) as session:
        assert session.scalars(select(StripeSeen)).all() == [], "what was seen is forgotten with the run"


def test_a_task_is_closed_by_the_run_that_finds_it_settled(town: Town) -> None:
    invoice = town.invoice()
    town.sync()
    customer = town.gateway.ensure_customer(customer_id=invoice.customer_id, now=now())
    town.gateway.client._v1.customers.update(customer, {"balance": -500})
    assert [one.kind for one in run(town).unexplained] == ["customer_balance"]
    [task] = tasks(town)
    assert (task.customer_id, task.subject) == (invoice.customer_id, customer)
    assert "5.00 USD" in task.text
    assert task.details["url"].endswith(customer)
    run(town)
    assert [one.seen for one in tasks(town)] == [2]
    town.gateway.client._v1.customers.update(customer, {"balance": 0})
    assert run(town).differences == []
    assert tasks(town) == []
    [closed] = tasks(town, is_open=False)
    assert "did not find this difference any more" in (closed.resolution or "")


def test_what_a_person_explained_is_not_asked_again_until_it_changes(town: Town) -> None:
    invoice = town.invoice()
    town.sync()
    customer = town.gateway.ensure_customer(customer_id=invoice.customer_id, now=now())
    town.gateway.client._v1.customers.update(customer, {"balance": -500})
    run(town)
    with Session(town.engine) as session, session.begin():
        resolve_task(
            session, task_id=tasks(town)[0].id, actor="agent@demo.test", reason="Agreed with the customer", now=now()
        )
    report = run(town)
    assert [(one.kind, one.outcome) for one in report.differences] == [("customer_balance", "explained")]
    assert report.unexplained == []
    assert tasks(town) == []
    town.gateway.client._v1.customers.update(customer, {"balance": -700})
    assert [one.kind for one in run(town).unexplained] == ["customer_balance"]


def test_a_repair_and_its_note_are_one(paid: Town) -> None:
    report = run(paid)
    with Session(paid.engine) as session:
        noted = session.scalars(select(StripeDifference).where(StripeDifference.outcome == "repaired")).all()
        causes = session.scalars(text("SELECT DISTINCT cause FROM stripe_effects")).all()
    assert len(noted) == len(report.repaired) == 9
    assert causes == ["reconciliation"], "each effect says who found it out"


GUARDED = (
    "UPDATE stripe_differences SET outcome = 'explained'",
    "DELETE FROM stripe_differences",
    "UPDATE stripe_transactions SET net = net + 1, amount = amount + 1",
    "UPDATE stripe_transactions SET customer_id = gen_random_uuid(), invoice_id = NULL",
    "DELETE FROM stripe_transactions",
    "UPDATE stripe_reconciliations SET started_at = started_at - interval '1 day'",
    "DELETE FROM stripe_reconciliations",
)


def test_what_was_found_and_what_moved_stays_as_it_was(paid: Town, databases_owner: Engine) -> None:
    run(paid)
    for change in GUARDED:
        for engine in (paid.engine, databases_owner):
            with pytest.raises(DBAPIError), engine.begin() as connection:
                connection.execute(text(change))
