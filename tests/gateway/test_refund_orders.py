"""A refund made in the Dashboard that fails: heard of while it was alive, or only later, the books are the same."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from tests.gateway import movement as do
from tests.gateway.conftest import Town, now, shuffled
from tests.gateway.test_story_orders import live
from tests.sandbox.receiver import Delivery

STEPS = ("invoice_payment.paid", "charge.updated", "refund.created", "refund.failed")
ORDERS = list(itertools.permutations(STEPS))
"""Where the refund's creation is told before its failure, it is told while the refund is alive."""


def books(town: Town) -> Iterator[tuple[Any, ...]]:
    """What counts in each customer's books and papers, without what names the customer."""
    papers = text("""
        SELECT c.external_id, i.state, i.amount_due, i.amount_paid, i.amount_credited,
               (SELECT array_agg((r.state, r.amount)::text) FROM refunds r WHERE r.customer_id = c.customer_id),
               (SELECT count(*) FROM credit_notes n WHERE n.customer_id = c.customer_id AND n.voided_at IS NULL),
               (SELECT array_agg(t.kind ORDER BY t.kind) FROM tasks t
                 WHERE t.customer_id = c.customer_id AND t.resolved_at IS NULL)
          FROM customers c JOIN invoices i USING (customer_id)""")
    balances = do.balances(town)
    with town.engine.connect() as connection:
        for name, *facts in connection.execute(papers):
            yield (*facts, sorted(balances[f"customer {name}"].items()))


def void_notes(town: Town) -> int:
    with town.engine.connect() as connection:
        return int(connection.scalar(text("SELECT count(*) FROM credit_notes WHERE voided_at IS NOT NULL")) or 0)


@pytest.mark.parametrize("alive", ["pending", "succeeded"])
def test_every_order_of_a_failing_dashboard_refund_gives_the_same_books(hooked: Town, alive: str) -> None:
    """
    stripe     11.68
    fees        0.66
    usage      12.34: as if nobody had refunded anything
    """
    hooked.sandbox.set(refund_pending=alive == "pending")
    refunds: list[str] = []

    def refund(town: Town, charge: dict[str, Any], invoice: str) -> None:
        made = town.gateway.client.create_refund({"charge": charge["id"], "amount": 300}, key=f"hand {charge['id']}")
        refunds.append(made["id"])

    told = live(hooked, len(ORDERS), (STEPS[:3], refund))
    heard: list[dict[str, Delivery]] = [dict(zip(STEPS, events, strict=False)) for events in told]
    for step in range(len(STEPS)):
        failing = [
            events["refund.created"].event["data"]["object"]["id"]
            for events, order in zip(heard, ORDERS, strict=True)
            if order[step] == "refund.failed"
        ]
        for one in failing:
            hooked.sandbox.post(f"refunds/{one}/fail")
        hooked.settle()
        for delivery in hooked.fetch():
            if delivery.event["type"] == "refund.failed":
                named = delivery.event["data"]["object"]["id"]
                mine = next(one for one in heard if one["refund.created"].event["data"]["object"]["id"] == named)
                mine["refund.failed"] = delivery
        hooked.deliver([events[order[step]] for events, order in zip(heard, ORDERS, strict=True)])
        hooked.handle(tries=1)
    hooked.handle(tries=2)
    assert not hooked.events("parked")
    assert not hooked.events("pending")
    different = {repr(one) for one in books(hooked)}
    assert len(different) == 1, different
    in_time = [order for order in ORDERS if order.index("refund.created") < order.index("refund.failed")]
    assert void_notes(hooked) == len(in_time), "who heard in time had issued one"
    do.check(hooked)
    # Everything once more, in one heap.
    hooked.deliver(shuffled([one for events in heard for one in events.values()], times=2, seed=len(refunds)))
    hooked.handle()
    assert {repr(one) for one in books(hooked)} == different
    assert hooked.gateway.reconcile(now=now()).unexplained == []
