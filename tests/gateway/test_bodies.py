"""Request bodies: complete, exact, and the same text for the same order."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoicing.provider import CollectionOrder, OrderLine
from stripe_gateway import bodies
from stripe_gateway.bodies import MAX_LINES, OrderDoesNotAddUp

START, END = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)
INVOICE = UUID("6f1d1c1e-8f43-4a39-9b0c-000000000001")


def order(*cents: int, items: int = 3, due: Decimal | None = None) -> CollectionOrder:
    lines = [
        OrderLine(
            line_id=uuid5(INVOICE, str(number)),
            item=f"item-{number % items}" if number % 5 else None,
            description=f"Line {number}",
            amount=Decimal(cent) / 100,
            period_start=START,
            period_end=END,
        )
        for number, cent in enumerate(cents)
    ]
    return CollectionOrder(
        customer_id=uuid5(INVOICE, "customer"),
        invoice_id=INVOICE,
        number="ACME01-1",
        currency="USD",
        amount_due=due if due is not None else Decimal(sum(cents)) / 100,
        collection_method="automatic",
        period_start=START,
        period_end=END,
        lines=lines,
        customer_name="Acme",
        customer_email="billing@acme.test",
        customer_external_id="acme",
    )


@given(st.lists(st.integers(-10_000, 10_000), min_size=1, max_size=600), st.integers(1, 400))
def test_lines_always_add_up_and_never_exceed_what_stripe_takes(cents: list[int], items: int) -> None:
    made = bodies.lines_of(order(*cents, items=items).lines, "USD")
    assert sum(line["amount"] for line in made) == sum(cents)
    assert len(made) <= MAX_LINES
    counted = sum(int(line["metadata"].get("ledger_lines", 1)) for line in made)
    assert counted <= len(cents)
    assert all(line["period"]["end"] >= line["period"]["start"] for line in made)


def test_lines_of_nothing_are_left_out() -> None:
    assert [line["amount"] for line in bodies.lines_of(order(0, 500, 0, -200).lines, "USD")] == [500, -200]


def test_up_to_250_lines_each_is_shown_with_our_id() -> None:
    made = bodies.lines_of(order(*[100] * MAX_LINES).lines, "USD")
    assert len(made) == MAX_LINES
    assert made[7]["metadata"] == {"ledger_line_id": str(uuid5(INVOICE, "7"))}


def test_beyond_that_they_are_grouped_by_item_and_period() -> None:
    lines = [replace(line, item=f"item-{number % 3}") for number, line in enumerate(order(*[100] * 300).lines)]
    made = bodies.lines_of(lines, "USD")
    assert [(line["description"], line["amount"]) for line in made] == [
        ("item-0 (100 lines)", 10_000),
        ("item-1 (100 lines)", 10_000),
        ("item-2 (100 lines)", 10_000),
    ]


def test_an_order_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(OrderDoesNotAddUp, match="add up to 700"):
        bodies.intent_of(order(500, 200, due=Decimal("7.01")))


def test_the_same_order_freezes_to_the_same_text() -> None:
    assert bodies.intent_of(order(500, 200)) == bodies.intent_of(order(500, 200))
    assert bodies.intent_of(order(500, 200)).lines_sha != bodies.intent_of(order(200, 500)).lines_sha


def test_the_draft_is_inert_until_it_is_finalized() -> None:
    intent = bodies.intent_of(order(500)).text
    create = bodies.create_body(intent, customer="cus_1", payment_method="pm_1")
    assert create["auto_advance"] is False
    assert create["pending_invoice_items_behavior"] == "exclude"
    assert bodies.part_of(intent, "finalize") == {"auto_advance": True}
    assert bodies.part_of(intent, "lines")["invoice_metadata"] == {"lines_added": create["metadata"]["lines_sha"]}


def test_how_it_is_collected_depends_on_the_payment_method_and_the_customers_wish() -> None:
    intent = bodies.intent_of(order(500)).text
    charged = bodies.create_body(intent, customer="cus_1", payment_method="pm_1")
    sent = bodies.create_body(intent, customer="cus_1", payment_method=None)
    assert (charged["collection_method"], "days_until_due" in charged) == ("charge_automatically", False)
    assert (sent["collection_method"], sent["days_until_due"]) == ("send_invoice", 30)
    wished = json.dumps({**json.loads(intent), "collection_method": "send_invoice"})
    assert bodies.create_body(wished, customer="cus_1", payment_method="pm_1")["collection_method"] == "send_invoice"
