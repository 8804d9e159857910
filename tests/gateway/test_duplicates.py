"""Each event five times, from eight threads at once, while eight others handle them: one effect each."""

from decimal import Decimal

import pytest
from sqlalchemy import text

from stripe_gateway.inbox import handle_due
from tests.gateway.conftest import Town, at_once, now, shuffled

TIMES = 5
THREADS = 8


def paid_by_hand(hooked: Town, count: int) -> None:
    """As many customers with one invoice each, paid on Stripe's hosted page."""
    hooked.invoices(count)
    hooked.sync()
    for invoices in hooked.standing().values():
        hooked.sandbox.post(f"invoices/{invoices[0]['id']}/pay")
    hooked.settle()


def deliver_and_handle_at_once(hooked: Town, *, seed: int) -> int:
    """Every delivery that arrived, five times, shared out among threads that deliver and handle; how many events."""
    fresh = hooked.fetch()
    copies = shuffled(fresh, times=TIMES, seed=seed)
    shares = [copies[number::THREADS] for number in range(THREADS)]

    def work(number: int) -> None:
        for start in range(0, len(shares[number]), 20):
            hooked.deliver(shares[number][start : start + 20])
            handle_due(hooked.engine, hooked.gateway.client, now=now(), threads=1)

    results = at_once(*[lambda number=number: work(number) for number in range(THREADS)])
    assert results == [None] * THREADS
    hooked.handle()
    return len(fresh)


def assert_one_effect_each(hooked: Town, *, invoices: int) -> None:
    assert not hooked.events("parked")
    assert not hooked.events("pending")
    assert {event.deliveries for event in hooked.events()} == {TIMES}
    books = hooked.books()
    assert [state for _, state, *_ in books["invoices"]] == ["paid"] * invoices
    assert books["cash entries"] == len(books["payments"]) == invoices
    with hooked.engine.connect() as connection:
        open_ = connection.scalar(
            text(
                "SELECT coalesce(sum(CASE WHEN debit_account = 'assets:receivable' THEN amount ELSE 0 END"
                " - CASE WHEN credit_account = 'assets:receivable' THEN amount ELSE 0 END), 0) FROM ledger_entries"
            )
        )
        doubled = connection.execute(
            text("""
                SELECT cause, split_part(key, ':', 1), count(*) FROM stripe_effects
                 GROUP BY cause, split_part(key, ':', 1) HAVING count(*) > 1""")
        ).all()
    assert open_ == Decimal(0)
    assert doubled == []
    hooked.company.check()


def test_each_event_five_times_from_eight_threads_has_one_effect(hooked: Town) -> None:
    paid_by_hand(hooked, 4)
    assert deliver_and_handle_at_once(hooked, seed=1) > 20
    assert_one_effect_each(hooked, invoices=4)


def test_the_same_news_under_other_ids_at_the_same_moment_has_one_effect(hooked: Town) -> None:
    paid_by_hand(hooked, 2)
    hooked.sandbox.resend(new_event_id=True, times=2, shuffle=True, seed=2)
    hooked.settle()
    deliver_and_handle_at_once(hooked, seed=3)
    assert_one_effect_each(hooked, invoices=2)


@pytest.mark.soak
def test_ten_thousand_events_five_times_each_have_one_effect_each(hooked: Town) -> None:
    events, invoices = 0, 0
    while events < 10_000:
        for number in range(200):
            name = f"soak-{invoices + number}"
            hooked.company.customer(name)
            hooked.company.use(name, "2025-06-03", f"{number + 1}.07")
        hooked.company.close("2025-07-02")
        hooked.company.finalize_due("2025-07-10")
        hooked.sync(patience_s=120)
        for standing in hooked.standing().values():
            if standing[0]["status"] == "open":
                hooked.sandbox.post(f"invoices/{standing[0]['id']}/pay")
        hooked.sandbox.wait_for_webhooks(timeout_s=300)
        invoices += 200
        events += deliver_and_handle_at_once(hooked, seed=invoices)
    assert_one_effect_each(hooked, invoices=invoices)
