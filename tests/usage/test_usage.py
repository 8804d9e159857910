"""Posting usage: rated to the last digit, once, or refused with every reason."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.database import session_scope
from invoicing.customers import CustomerView, create_customer, customer_id_for
from invoicing.prices.book import PUBLIC, Tariff
from invoicing.prices.catalogue import ItemDetails, publish_price
from invoicing.prices.models import PriceTerms
from invoicing.usage.intake import UsageBatch, UsagePosted, UsageRecord, UsageRefused, post_usage
from ledger.checks import run_checks
from ledger.entries import QUANTITY_DECIMALS, QUANTITY_LIMIT
from ledger.money import EXACT
from tests.usage.conftest import NOW

AT = datetime(2026, 11, 3, 12, tzinfo=UTC)
MACHINE = "machine:shared-cpu-1x:256mb"


def record(**changed: object) -> UsageRecord:
    usual = UsageRecord(
        row=1, event_id="e1", customer="acme", item=MACHINE, quantity=Decimal(3600), effective_at=AT, labels={}
    )
    return replace(usual, **changed)  # type: ignore[arg-type] # fields by name, as the test needs them


def post(session: Session, *records: UsageRecord) -> UsagePosted:
    return post_usage(session, records, source="platform", actor="test", now=NOW)


def reasons(session: Session, *records: UsageRecord) -> list[tuple[int, str, str]]:
    with pytest.raises(UsageRefused) as refused:
        post(session, *records)
    return [(problem.row, problem.field, problem.code) for problem in refused.value.problems]


def unbilled(session: Session) -> Decimal:
    """The customer's net assets:unbilled, added up in Postgres, which keeps every digit."""
    query = text("SELECT coalesce(sum(amount), 0) FROM ledger_unbilled WHERE customer_id = :id")
    return Decimal(session.execute(query, {"id": customer_id_for("acme")}).scalar_one())


def test_an_hour_of_the_smallest_machine_costs_what_the_list_says(session: Session, acme: str) -> None:
    """3,600 s at 0.0000008 USD/s: debit assets:unbilled 0.00288, credit income:usage 0.00288."""
    assert post(session, record()) == UsagePosted(posted=1, replayed=0)
    assert unbilled(session) == Decimal("0.0028800")
    price = session.scalar(text("SELECT p.item FROM ledger_entries e JOIN prices p ON p.id = e.price_id"))
    assert price == MACHINE


def test_the_same_event_again_changes_nothing_whatever_else_changed(session: Session, acme: str) -> None:
    post(session, record(quantity=Decimal("3600.0"), labels={"app": "a", "region": "b"}))
    publish_price(
        session,
        item=ItemDetails(MACHINE, "Machine"),
        currency="USD",
        unit_amount=Decimal(1),
        valid_from=AT + timedelta(seconds=1),
        actor="test",
        now=NOW,
    )
    again = record(quantity=Decimal("3.6E+3"), labels={"region": "b", "app": "a"}, effective_at=AT.astimezone(tz=None))
    assert post(session, again, again) == UsagePosted(posted=0, replayed=2)
    assert unbilled(session) == Decimal("0.00288")


@pytest.mark.parametrize(
    "changed",
    [
        {"quantity": Decimal(3601)},
        {"item": "volume"},
        {"effective_at": AT + timedelta(seconds=1)},
        {"labels": {"app": "b"}},
        {"amount": Decimal("0.00288")},
    ],
)
def test_the_same_id_with_other_content_is_refused(session: Session, acme: str, changed: dict[str, object]) -> None:
    post(session, record())
    assert reasons(session, record(row=7, **changed), record(row=8, event_id="e2")) == [(7, "id", "entry_conflict")]
    with pytest.raises(UsageRefused) as refused:
        post(session, record(row=7, **changed))
    assert refused.value.code == "entry_conflict"


def test_the_price_of_the_time_counts(session: Session, acme: str) -> None:
    publish_price(
        session,
        item=ItemDetails(MACHINE, "Machine"),
        currency="USD",
        unit_amount=Decimal("0.000001"),
        valid_from=AT,
        actor="test",
        now=NOW,
    )
    post(session, record(effective_at=AT - timedelta(microseconds=1)))
    assert unbilled(session) == Decimal("0.00288")
    post(session, record(event_id="e2"))
    assert unbilled(session) == Decimal("0.00288") + Decimal("0.0036")


def test_usage_taken_back_is_posted_the_other_way_round(session: Session, acme: str) -> None:
    post(session, record())
    post(session, record(event_id="e2", quantity=Decimal(-600)))
    rows = session.execute(text("SELECT debit_account, quantity, amount FROM ledger_entries ORDER BY seq")).all()
    assert rows == [
        ("assets:unbilled", Decimal(3600), Decimal("0.00288")),
        ("income:usage", Decimal(600), Decimal("0.00048")),
    ]
    assert unbilled(session) == Decimal("0.0024")


def test_money_back_for_hours_that_were_used_keeps_both_sums_true(session: Session, acme: str) -> None:
    """Quantity 10 and amount -5: ten more hours, five less money. One event, two entries, one transaction."""
    refund = record(quantity=Decimal(10), amount=Decimal(-5))
    assert post(session, refund, record(event_id="e2", row=2)) == UsagePosted(posted=2, replayed=0)
    assert post(session, refund) == UsagePosted(posted=0, replayed=1)
    sums = session.execute(
        text("SELECT sum(amount), sum(quantity) FROM ledger_unbilled WHERE contra_account = 'income:usage'")
    ).one()
    assert tuple(sums) == (Decimal("-4.99712"), Decimal(3610))
    assert session.scalar(text("SELECT count(DISTINCT transaction_id) FROM ledger_entries")) == 2
    assert reasons(session, record(amount=Decimal(-6), quantity=Decimal(10))) == [(1, "id", "entry_conflict")]


def test_an_amount_of_the_source_is_posted_as_it_is_without_a_price(session: Session, acme: str) -> None:
    post(session, record(item="support plan", quantity=None, amount=Decimal("29.123456789012345678901234567891")))
    post(session, record(event_id="e2", item="free tier", quantity=Decimal(5), amount=Decimal(0)))
    assert unbilled(session) == Decimal("29.123456789012345678901234567891")
    query = text("SELECT code FROM items WHERE code IN ('free tier', 'support plan') ORDER BY 1")
    assert session.scalars(query).all() == ["free tier", "support plan"]


def test_every_bad_row_of_a_batch_is_named_at_once_and_nothing_is_written(session: Session, acme: str) -> None:
    create_customer(session, external_id="europe", name="E", currency="EUR", actor="test", now=NOW)
    post(session, record())
    session.commit()
    found = reasons(
        session,
        record(row=0, event_id="good"),
        record(row=1, quantity=Decimal(1)),
        record(row=2, event_id="b", customer="nobody"),
        record(row=3, event_id="c", item="unheard of"),
        record(row=4, event_id="d", customer="europe"),
        record(row=5, event_id="e", quantity=Decimal("NaN"), effective_at=NOW + timedelta(minutes=6)),
        record(row=6, event_id="f", quantity=Decimal("1." + "1" * 19)),
        record(row=7, event_id="g", amount=Decimal("0." + "1" * 31)),
        record(row=8, event_id="h", amount=Decimal("Infinity")),
        record(row=9, event_id="i", quantity=None),
        record(row=10, event_id="j", effective_at=datetime(2026, 11, 3)),  # noqa: DTZ001 - a naive time is the point
        record(row=11, event_id="", item="\x00"),
        record(row=12, event_id="k", labels={"a": "\ud800"}),
        record(row=13, event_id="l", labels={f"l{n}": "x" * 500 for n in range(20)}),
        record(row=14, event_id="m", amount=Decimal(1), currency="EUR"),
        record(row=15, event_id="n", quantity=Decimal("1e999")),
        record(row=16, event_id="o", customer="a\ud800"),
        record(row=17, event_id="good", customer="europe", amount=Decimal(1)),
        record(row=18, event_id="p", item="ipv4:dedicated", quantity=Decimal(10) ** 17),
    )
    assert found == [
        (1, "id", "entry_conflict"),
        (2, "customer", "unknown_customer"),
        (3, "item", "no_price"),
        (4, "item", "no_price"),
        (5, "quantity", "not_finite"),
        (5, "at", "in_the_future"),
        (6, "quantity", "too_many_decimals"),
        (7, "amount", "too_many_decimals"),
        (8, "amount", "not_finite"),
        (9, "quantity", "missing"),
        (10, "at", "no_time_zone"),
        (11, "id", "bad_event_id"),
        (11, "item", "bad_item"),
        (12, "labels", "bad_label"),
        (13, "labels", "labels_too_long"),
        (14, "currency", "currency_mismatch"),
        (15, "quantity", "too_large"),
        (16, "customer", "unknown_customer"),
        (17, "id", "entry_conflict"),
        (18, "quantity", "too_large"),
    ]
    assert session.scalar(text("SELECT count(*) FROM ledger_entries")) == 1


def test_no_price_names_item_currency_time_and_cure(session: Session, acme: str) -> None:
    with pytest.raises(UsageRefused) as refused:
        post(session, record(item="gpu"))
    message = refused.value.problems[0].message
    for part in ("'gpu'", "USD", "2026-11-03T12:00:00Z", "billing prices set"):
        assert part in message


def test_a_clock_five_minutes_ahead_is_forgiven(session: Session, acme: str) -> None:
    assert post(session, record(effective_at=NOW + timedelta(minutes=5))).posted == 1


def test_our_own_id_names_a_customer_too(session: Session, acme: str) -> None:
    post(session, record(), record(customer=str(customer_id_for("acme"))))
    assert unbilled(session) == Decimal("0.00288")


@given(
    quantity=st.decimals(
        min_value=-QUANTITY_LIMIT,
        max_value=QUANTITY_LIMIT,
        allow_nan=False,
        allow_infinity=False,
        places=QUANTITY_DECIMALS,
    ).filter(lambda value: value.copy_abs() < QUANTITY_LIMIT),
    unit_amount=st.decimals(min_value=0, max_value=Decimal("0.000999999999"), places=12),
)
def test_rating_never_rounds(quantity: Decimal, unit_amount: Decimal) -> None:
    """What is entered is quantity times price, exactly, on the side that its sign says."""
    terms = PriceTerms(
        id=customer_id_for("p"),
        item=MACHINE,
        currency="USD",
        region=None,
        price_list=PUBLIC,
        model="per_unit",
        unit_amount=unit_amount,
        package_size=None,
        tiers=(),
        included=Decimal(0),
        included_item=None,
        included_per_unit=Decimal(0),
        minimum=None,
        maximum=None,
        valid_from=AT,
        valid_until=None,
    )
    customer = CustomerView(
        customer_id_for("acme"), "acme", "Acme", None, "USD", "UTC", 1, "automatic", None, "stripe", "ACME1234", NOW
    )
    tariff = Tariff(customers={customer.customer_id: "USD"}, prices=[terms])
    batch = UsageBatch(source="platform", actor="test", now=NOW, tariff=tariff)
    batch.add(record(quantity=quantity), customer)
    assert batch.problems == []
    (event,) = batch.events
    assert event.amount is not None
    (entry,) = event.entries(event.amount, event.price_id)
    amount = entry.amount.copy_negate() if entry.debit_account == "income:usage" else entry.amount
    assert entry.quantity is not None
    signed = entry.quantity.copy_negate() if entry.debit_account == "income:usage" else entry.quantity
    assert signed == quantity
    numerator, denominator = quantity.as_integer_ratio()
    price_numerator, price_denominator = unit_amount.as_integer_ratio()
    exact_numerator, exact_denominator = amount.as_integer_ratio()
    assert exact_numerator * denominator * price_denominator == exact_denominator * numerator * price_numerator


def test_batches_in_any_cut_and_any_order_make_the_same_books(engine: Engine, session: Session, acme: str) -> None:
    """A source that sends everything twice, shuffled, in other batches, changes nothing."""
    events = [
        record(row=n, event_id=f"e{n}", quantity=Decimal(n - 20), effective_at=AT + timedelta(hours=n))
        for n in range(50)
    ]
    chance = random.Random(7)
    for _ in range(3):
        chance.shuffle(events)
        for start in range(0, len(events), 9):
            with session_scope(engine) as other:
                post(other, *events[start : start + 9])
    total = sum((event.quantity or Decimal(0) for event in events), Decimal(0))
    assert unbilled(session) == EXACT.multiply(total, Decimal("0.0000008"))
    assert session.scalar(text("SELECT count(*) FROM ledger_entries")) == 50
    assert all(result.holds for result in run_checks(session))
