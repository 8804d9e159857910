"""All 720 orders of six events give the same books. Each customer lives through the story in an order of its own."""

import itertools
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from tests.gateway import movement as do
from tests.gateway.conftest import Town, shuffled
from tests.sandbox.receiver import Delivery

ORDERS = list(itertools.permutations(range(6)))
SLICE = 8  # of each story, drawn by the seed; `make soak` takes all
SEED = 720

REFUNDED = (
    "invoice.finalized",
    "invoice_payment.paid",
    "charge.updated",
    "refund.created",
    "refund.updated",
    "credit_note.created",
)
"""Charged, given back in part by somebody in the Dashboard, who also made a credit note there."""

DISPUTED = (
    "invoice.paid",
    "invoice_payment.paid",
    "charge.updated",
    "charge.dispute.created",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.closed",
)
"""Charged, disputed over a part, and lost."""

BOTH = (
    "invoice_payment.paid",
    "charge.updated",
    "refund.failed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
)
"""Charged; a refund failed late; a dispute was lost, and won after all."""


def _refund(town: Town, charge: dict[str, Any]) -> dict[str, Any]:
    return town.gateway.client.create_refund({"charge": charge["id"], "amount": 300}, key=f"dashboard {charge['id']}")


def refunded(town: Town, charge: dict[str, Any], invoice: str) -> None:
    refund = _refund(town, charge)
    town.gateway.client.create_credit_note(
        {"invoice": invoice, "amount": 300, "refunds": [{"refund": refund["id"], "amount_refunded": 300}]},
        key=f"note {charge['id']}",
    )


def disputed(town: Town, charge: dict[str, Any], invoice: str) -> None:
    dispute = town.sandbox.post("disputes", charge=charge["id"], amount=700)
    town.sandbox.post(f"disputes/{dispute['id']}", status="lost")


def both(town: Town, charge: dict[str, Any], invoice: str) -> None:
    refund = _refund(town, charge)
    town.sandbox.post(f"refunds/{refund['id']}/fail")
    dispute = town.sandbox.post("disputes", charge=charge["id"], amount=700)
    town.sandbox.post(f"disputes/{dispute['id']}", status="lost")
    town.sandbox.post(f"disputes/{dispute['id']}", status="won")


Story = tuple[tuple[str, ...], Callable[[Town, dict[str, Any], str], None]]
STORIES: dict[str, Story] = {
    "refunded": (REFUNDED, refunded),
    "disputed": (DISPUTED, disputed),
    "both": (BOTH, both),
}


def live(town: Town, count: int, story: Story) -> list[list[Delivery]]:
    """`count` customers live through the story at Stripe; returns each one's six events, in the story's order."""
    for number in range(count):
        town.company.customer(f"customer-{number}")
        town.company.use(f"customer-{number}", "2025-06-03", "12.34")
    town.company.close("2025-07-02")
    town.company.finalize_due("2025-07-10")
    town.sync()
    invoices = [found[0]["id"] for found in town.standing().values()]
    for invoice in invoices:
        town.sandbox.post(f"invoices/{invoice}/pay")
    town.settle()
    heard = town.fetch()
    invoice_of = {
        one.event["data"]["object"]["payment"]["payment_intent"]: one.event["data"]["object"]["invoice"]
        for one in heard
        if one.event["type"] == "invoice_payment.paid"
    }
    for delivery in heard:
        if delivery.event["type"] == "charge.updated":
            charge = delivery.event["data"]["object"]
            story[1](town, charge, invoice_of[charge["payment_intent"]])
    town.settle()
    heard += town.fetch()
    by_invoice: dict[str, dict[str, Delivery]] = {invoice: {} for invoice in invoices}
    for delivery in heard:
        if delivery.event["type"] in story[0]:
            by_invoice[_invoice_of(delivery.event["data"]["object"], invoice_of)][delivery.event["type"]] = delivery
    return [[events[kind] for kind in story[0]] for events in by_invoice.values()]


def _invoice_of(obj: dict[str, Any], invoice_of: dict[str, str]) -> str:
    if obj["object"] == "invoice":
        return str(obj["id"])
    return str(obj.get("invoice") or invoice_of[obj["payment_intent"]])


def books(town: Town) -> Iterator[tuple[Any, ...]]:
    """What each customer's books and papers say in the end, without what names the customer."""
    papers = text("""
        SELECT c.external_id, i.state, i.amount_due, i.amount_paid, i.amount_credited,
               (SELECT array_agg((r.state, r.amount)::text ORDER BY r.id) FROM refunds r
                 WHERE r.customer_id = c.customer_id),
               (SELECT array_agg((n.amount, n.unpaid_part, n.cash_part)::text ORDER BY n.seq) FROM credit_notes n
                 WHERE n.customer_id = c.customer_id),
               (SELECT array_agg((d.status, d.amount, d.withdrawn, d.reinstated, d.fees)::text) FROM disputes d
                 WHERE d.customer_id = c.customer_id)
          FROM customers c JOIN invoices i USING (customer_id)""")
    balances = do.balances(town)
    with town.engine.connect() as connection:
        for name, *facts in connection.execute(papers):
            yield (*facts, sorted(balances[f"customer {name}"].items()))


@pytest.mark.parametrize("name", STORIES)
def test_any_order_of_the_six_events_gives_the_same_books(hooked: Town, name: str) -> None:
    orders = random.Random(SEED).sample(ORDERS, SLICE)
    _assert_the_order_means_nothing(hooked, STORIES[name], orders)


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("name", STORIES)
def test_all_720_orders_of_the_six_events_give_the_same_books(hooked: Town, name: str) -> None:
    _assert_the_order_means_nothing(hooked, STORIES[name], ORDERS)


def _assert_the_order_means_nothing(town: Town, story: Story, orders: list[tuple[int, ...]]) -> None:
    heard = live(town, len(orders), story)
    for place in range(6):
        town.deliver([events[order[place]] for events, order in zip(heard, orders, strict=True)])
        town.handle(tries=1)
    town.handle(tries=2)
    assert not town.events("parked")
    assert not town.events("pending")
    different = {repr(one) for one in books(town)}
    assert len(different) == 1, different
    first = do.balances(town)
    # Everything once more, under the same ids, in one heap.
    town.deliver(shuffled([one for events in heard for one in events], times=2, seed=SEED))
    town.sandbox.resend(new_event_id=True)
    town.settle()
    town.deliver(town.fetch()[: 6 * len(orders)])
    town.handle()
    assert do.balances(town) == first
    assert sum((Decimal(sum(accounts.values())) for accounts in first.values()), Decimal(0)) == 0
    do.check(town)
