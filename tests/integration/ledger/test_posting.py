"""Posting: what comes into the journal, what does not, and what a second try changes."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from ledger.balances import balance, balances, unbilled
from ledger.books import BooksNotFound
from ledger.periods import due_customers
from ledger.placing import next_billing_period
from ledger.posting import MAX_BATCH, BatchTooLarge, EntryConflict, Posted, post
from ledger.tables import TOTALS, UNBILLED_TOTALS, Books, Entry, PeriodRow
from tests.factories.entries import DocumentEntryFactory, EntryFactory
from tests.integration.ledger.books import NOW, Ledger, at, close_ended, refused


def journal(session: Session, customer_id: UUID) -> list[Entry]:
    return list(session.scalars(select(Entry).where(Entry.customer_id == customer_id).order_by(Entry.seq)))


def test_an_entry_is_kept_exactly_as_it_was_posted(ledger: Ledger, acme: UUID, session: Session) -> None:
    entry = EntryFactory.build(
        customer_id=acme,
        amount=Decimal("123456789012345.123456789012345678901234567891"),
        quantity=Decimal("999999999999999999.999999999999999999"),
        item='machine "ü" 🚀',
        labels={"app": "it's; DROP TABLE", "region": "ams", "note": 'a\\b\n\t"{}[]\x07%s:x'},
        reason="because\nof 'this'",
        price_id=uuid4(),
    )
    assert ledger.post(entry) == Posted(posted=1, replayed=0)
    (kept,) = journal(session, acme)
    for name in (
        "id", "transaction_id", "debit_account", "credit_account", "amount", "quantity", "effective_at", "item",
        "labels", "kind", "actor", "reason", "price_id", "digest", "document_id", "reverses_id",
    ):  # fmt: skip
        assert getattr(kept, name) == getattr(entry, name), name
    assert kept.seq == 1
    assert (kept.period_start, kept.usage_period_start) == (at("2025-06-01"), at("2025-06-01"))


def test_a_batch_is_numbered_without_a_gap_in_its_order(ledger: Ledger, acme: UUID, session: Session) -> None:
    entries = EntryFactory.build_batch(5, customer_id=acme)
    ledger.post(*entries[:2])
    ledger.post(*entries[2:])
    assert [(kept.seq, kept.id) for kept in journal(session, acme)] == [
        (seq, entry.id) for seq, entry in enumerate(entries, start=1)
    ]
    assert session.get_one(Books, acme).last_seq == 5


def test_a_replay_changes_nothing_whatever_we_derive_today(ledger: Ledger, acme: UUID, session: Session) -> None:
    """The source sends the same event again; price, period and actor may be others by now."""
    entry = EntryFactory.build(customer_id=acme, event="same")
    again = EntryFactory.build(customer_id=acme, event="same", amount=Decimal(7), actor="somebody else")
    assert ledger.post(entry) == Posted(1, 0)
    assert ledger.post(again, again) == Posted(0, 2)
    new = EntryFactory.build(customer_id=acme)
    assert ledger.post(again, new, new) == Posted(1, 2)
    assert [(kept.amount, kept.actor) for kept in journal(session, acme)] == [
        (entry.amount, "factory"),
        (new.amount, "factory"),
    ]


def test_the_same_id_with_other_content_is_a_conflict_and_nothing_is_written(
    ledger: Ledger, acme: UUID, session: Session
) -> None:
    ledger.post(EntryFactory.build(customer_id=acme, event="same"))
    other = EntryFactory.build(customer_id=acme, event="same", quantity=Decimal(7200))
    with pytest.raises(EntryConflict, match="Entry 1: its event was posted before") as caught:
        ledger.post(EntryFactory.build(customer_id=acme), other)
    assert [(conflict.index, conflict.entry_id) for conflict in caught.value.conflicts] == [(1, other.id)]
    assert len(journal(session, acme)) == 1


def test_other_content_that_is_sent_alone_is_a_conflict(ledger: Ledger, acme: UUID, session: Session) -> None:
    """Nothing else in the batch makes anybody look twice: Postgres itself has to compare the two."""
    ledger.post(EntryFactory.build(customer_id=acme, event="same"))
    with pytest.raises(EntryConflict):
        ledger.post(EntryFactory.build(customer_id=acme, event="same", quantity=Decimal(7200)))
    assert len(journal(session, acme)) == 1


def test_of_two_postings_at_once_the_second_waits_and_follows(ledger: Ledger, acme: UUID, session: Session) -> None:
    first, second, third = (EntryFactory.build(customer_id=acme) for _ in range(3))
    ledger.post(first)
    posted: list[object] = []

    def post_meanwhile() -> None:
        try:
            posted.append(ledger.post(third))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            posted.append(error)

    with ledger.transaction() as other:
        post(other, [second], now=NOW)
        meanwhile = threading.Thread(target=post_meanwhile)
        meanwhile.start()
        meanwhile.join(timeout=0.5)
        assert meanwhile.is_alive(), "the second posting did not wait for the first"
    meanwhile.join(timeout=10)
    assert posted == [Posted(1, 0)]
    assert [entry.id for entry in journal(session, acme)] == [first.id, second.id, third.id]


def test_a_batch_that_contradicts_itself_is_a_conflict(ledger: Ledger, acme: UUID, session: Session) -> None:
    one = EntryFactory.build(customer_id=acme, event="same")
    other = EntryFactory.build(customer_id=acme, event="same", quantity=Decimal(1))
    with pytest.raises(EntryConflict):
        ledger.post(one, other)
    assert journal(session, acme) == []


def test_one_event_id_may_be_used_by_two_customers(ledger: Ledger, acme: UUID) -> None:
    other = ledger.open()
    first = EntryFactory.build(customer_id=acme)
    second = EntryFactory.build(customer_id=other, id=first.id, transaction_id=first.transaction_id)
    assert ledger.post(first, second) == Posted(2, 0)


def test_free_usage_is_recorded_and_counted(ledger: Ledger, acme: UUID, session: Session) -> None:
    ledger.post(EntryFactory.build(customer_id=acme, amount=Decimal(0), quantity=Decimal(10)))
    assert balances(session, customer_id=acme) == {"assets:unbilled": 0, "income:usage": 0}
    row = session.execute(select(TOTALS)).one()
    assert (row.amount, row.quantity, row.entries) == (0, 10, 1)


def test_a_negative_charge_is_the_entry_the_other_way_round(ledger: Ledger, acme: UUID, session: Session) -> None:
    """
    2025-06-10  usage   2.50
    2025-06-11  credit -0.75
    """
    ledger.post(
        EntryFactory.build(customer_id=acme, amount=Decimal("2.50"), quantity=Decimal(10)),
        EntryFactory.build(
            customer_id=acme,
            debit_account="income:usage",
            credit_account="assets:unbilled",
            amount=Decimal("0.75"),
            quantity=Decimal(3),
            effective_at=at("2025-06-11"),
        ),
    )
    assert balance(session, customer_id=acme, account="assets:unbilled") == Decimal("1.75")
    assert balance(session, customer_id=acme, account="income:usage") == Decimal("1.75")
    assert balance(session, customer_id=acme, account="assets:bank") == 0
    rows = session.execute(select(UNBILLED_TOTALS.c.amount, UNBILLED_TOTALS.c.quantity)).all()
    assert sorted(rows) == [(Decimal("-0.75"), -3), (Decimal("2.50"), 10)]


def test_totals_keep_item_price_day_app_and_region_apart(ledger: Ledger, acme: UUID, session: Session) -> None:
    price = uuid4()
    differing: list[dict[str, Any]] = [
        {},
        {"item": "volume"},
        {"item": None},
        {"price_id": price},
        {"effective_at": at("2025-06-11")},
        {"labels": {"app": "worker", "region": "ams"}},
        {"labels": {"app": "web", "region": "fra"}},
        {"labels": {}},
        {"labels": {"app": "web", "region": "ams", "machine": "e28"}},  # not a dimension: falls into the first
    ]
    for _ in range(2):
        ledger.post(*(EntryFactory.build(customer_id=acme, **changes) for changes in differing))
    rows = session.execute(select(TOTALS.c.amount, TOTALS.c.quantity, TOTALS.c.entries)).all()
    assert sorted(rows) == [(Decimal("0.00576"), 7200, 2)] * 7 + [(Decimal("0.01152"), 14400, 4)]


def test_the_day_of_a_total_is_the_customers_own(ledger: Ledger, session: Session) -> None:
    tokyo = ledger.open(time_zone="Asia/Tokyo")
    ledger.post(EntryFactory.build(customer_id=tokyo, effective_at=at("2025-06-30T15:30")))
    row = session.execute(select(TOTALS)).one()
    assert row.day.isoformat() == "2025-07-01"
    assert row.period_start == at("2025-06-30T15:00")


def test_the_widest_labels_still_fit_into_the_running_totals(ledger: Ledger, acme: UUID) -> None:
    """Random letters of four bytes each, so that no compression helps."""
    chance = Random(7)
    wide = ["".join(chr(chance.randrange(0x20000, 0x2A000)) for _ in range(200)) for _ in range(3)]
    document = ledger.document(acme)
    ledger.post(
        EntryFactory.build(
            customer_id=acme,
            item=wide[0],
            labels={"app": wide[1], "region": wide[2]},
            price_id=uuid4(),
            document_id=document,
            debit_account="income:promotions",
            credit_account="liabilities:credits:promotional",
            kind="grant",
        ),
        EntryFactory.build(
            customer_id=acme, item=wide[0], labels={"app": wide[1], "region": wide[2]}, price_id=uuid4()
        ),
        EntryFactory.build(customer_id=acme, labels={f"label-{n:02}": "x" * 240 for n in range(32)}),
    )


def test_late_usage_is_billed_by_the_next_period_and_says_where_it_belongs(
    ledger: Ledger, acme: UUID, session: Session
) -> None:
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-06-03")))
    assert close_ended(ledger, acme, "2025-07-01") == [at("2025-06-01")]
    late = EntryFactory.build(customer_id=acme, effective_at=at("2025-06-30T23:59"))
    ledger.post(late, now=at("2025-07-02"))
    kept = session.get_one(Entry, (acme, late.id))
    assert (kept.period_start, kept.usage_period_start) == (at("2025-07-01"), at("2025-06-01"))
    assert unbilled(session, customer_id=acme, period_start=at("2025-06-01")) == Decimal("0.00288")
    assert unbilled(session, customer_id=acme, period_start=at("2025-07-01")) == Decimal("0.00288")


def test_late_usage_finds_the_period_that_another_charge_of_its_batch_opens(
    ledger: Ledger, acme: UUID, session: Session
) -> None:
    """
    May is open already, January is closed. One batch brings late usage of January, and the first usage of March.
    """
    ledger.post(
        EntryFactory.build(customer_id=acme, effective_at=at("2025-01-03")),
        EntryFactory.build(customer_id=acme, effective_at=at("2025-05-03")),
    )
    close_ended(ledger, acme, "2025-02-01")
    late = EntryFactory.build(customer_id=acme, effective_at=at("2025-01-28"))
    ledger.post(late, EntryFactory.build(customer_id=acme, effective_at=at("2025-03-03")), now=at("2025-02-06"))
    assert session.get_one(Entry, (acme, late.id)).period_start == at("2025-03-01")


def test_unbilled_adds_the_documents_it_is_asked_for(ledger: Ledger, acme: UUID, session: Session) -> None:
    document, other = ledger.document(acme), ledger.document(acme)
    ledger.post(
        EntryFactory.build(customer_id=acme),
        DocumentEntryFactory.build(customer_id=acme, document_id=document),
        DocumentEntryFactory.build(customer_id=acme, document_id=other),
    )
    start = at("2025-06-01")
    assert unbilled(session, customer_id=acme, period_start=start, document_ids=[document]) == Decimal("5.00288")
    assert unbilled(session, customer_id=acme, period_start=at("2025-05-01")) == 0


def test_closing_takes_what_ended_once_and_remembers_the_last_entry(
    ledger: Ledger, acme: UUID, session: Session
) -> None:
    for month in (4, 5, 6):
        ledger.post(EntryFactory.build(customer_id=acme, effective_at=datetime(2025, month, 5, tzinfo=UTC)))
    with ledger.transaction() as inner:
        assert due_customers(inner, ended_by=at("2025-06-01"), after=None, limit=10) == [acme]
        assert due_customers(inner, ended_by=at("2025-06-01"), after=acme, limit=10) == []
    assert close_ended(ledger, acme, "2025-06-01") == [at("2025-04-01"), at("2025-05-01")]
    assert close_ended(ledger, acme, "2025-06-01") == []
    assert close_ended(ledger, acme, "2025-06-30T23:59") == []
    periods = session.scalars(select(PeriodRow).order_by(PeriodRow.start_at)).all()
    assert [(period.state, period.closed_seq) for period in periods] == [("closed", 3), ("closed", 3), ("open", None)]


def test_carrying_and_late_usage_agree_on_the_next_period(ledger: Ledger, acme: UUID) -> None:
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-05-05")))
    close_ended(ledger, acme, "2025-06-01")
    with ledger.transaction() as session:
        target = next_billing_period(session, customer_id=acme, start=at("2025-05-01"), now=at("2025-08-10"))
        assert (target.start, target.end) == (at("2025-08-01"), at("2025-09-01"))
    late = EntryFactory.build(customer_id=acme, effective_at=at("2025-05-06"))
    ledger.post(late, now=at("2025-08-11"))
    with ledger.transaction() as session:
        assert session.get_one(Entry, (acme, late.id)).period_start == target.start
    with pytest.raises(BooksNotFound), ledger.transaction() as session:
        next_billing_period(session, customer_id=uuid4(), start=NOW, now=NOW)


def test_a_carried_charge_keeps_the_period_of_its_usage(ledger: Ledger, acme: UUID, session: Session) -> None:
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-05-05")))
    close_ended(ledger, acme, "2025-06-01")
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-06-05")))
    carried = EntryFactory.build(
        customer_id=acme,
        credit_account="assets:carried",
        kind="carry",
        effective_at=at("2025-06-01"),
        period_start=at("2025-06-01"),
        usage_period_start=at("2025-05-01"),
    )
    ledger.post(carried)
    assert session.get_one(Entry, (acme, carried.id)).usage_period_start == at("2025-05-01")


def test_every_problem_of_a_batch_is_named_and_nothing_is_written(ledger: Ledger, acme: UUID) -> None:
    assert refused(
        ledger,
        EntryFactory.build(customer_id=acme, amount=Decimal("NaN")),
        EntryFactory.build(customer_id=acme),
        EntryFactory.build(customer_id=acme, item="", kind="gift"),
    ) == [(0, "amount", "not_finite"), (2, "kind", "unknown_kind"), (2, "item", "bad_item")]


def test_an_unknown_customer_is_named(ledger: Ledger, acme: UUID, session: Session) -> None:
    stranger = uuid4()
    with pytest.raises(BooksNotFound, match=str(stranger)):
        ledger.post(EntryFactory.build(customer_id=acme), EntryFactory.build(customer_id=stranger))
    assert journal(session, acme) == []


def test_a_batch_has_a_limit(ledger: Ledger, acme: UUID) -> None:
    entries = EntryFactory.build_batch(MAX_BATCH + 1, customer_id=acme)
    with pytest.raises(BatchTooLarge, match="at most 10000"):
        ledger.post(*entries)
    assert ledger.post(*entries[:-1]) == Posted(MAX_BATCH, 0)


def test_recorded_at_is_the_databases_clock_after_the_lock(ledger: Ledger, acme: UUID, engine: Engine) -> None:
    """A transaction that began first but got the lock second records after the one it waited for."""
    with Session(engine) as early, early.begin():
        began = early.scalar(text("SELECT now()"))
        ledger.post(EntryFactory.build(customer_id=acme))
        post(early, [EntryFactory.build(customer_id=acme)], now=NOW)
    with Session(engine) as session:
        first, second = journal(session, acme)
        assert began is not None
        assert began < first.recorded_at < second.recorded_at


def test_a_clock_that_was_set_back_neither_stops_posting_nor_reorders_it(
    ledger: Ledger, acme: UUID, session: Session, connect: Any
) -> None:
    ledger.post(EntryFactory.build(customer_id=acme))
    ahead = datetime.now(UTC) + timedelta(hours=1)
    with connect("superuser") as superuser:  # as if the previous host's clock had been an hour ahead
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("UPDATE ledger_books SET last_recorded_at = %s", [ahead])
        superuser.execute("UPDATE ledger_entries SET recorded_at = %s", [ahead])
    ledger.post(EntryFactory.build(customer_id=acme))
    assert [kept.recorded_at for kept in journal(session, acme)] == [ahead, ahead]


def test_many_customers_in_one_batch_keep_their_own_books(ledger: Ledger, session: Session) -> None:
    customers = [ledger.open(anchor_day=day) for day in (1, 10, 31)]
    entries = [EntryFactory.build(customer_id=customers[n % 3], amount=Decimal(n + 1)) for n in range(30)]
    assert ledger.post(*entries) == Posted(30, 0)
    for place, customer in enumerate(customers):
        kept = journal(session, customer)
        assert [entry.seq for entry in kept] == list(range(1, 11))
        assert sum(entry.amount for entry in kept) == sum(range(place + 1, 31, 3))
        starts = {entry.period_start for entry in kept}
        assert starts == {[at("2025-06-01"), at("2025-06-10"), at("2025-05-31")][place]}
