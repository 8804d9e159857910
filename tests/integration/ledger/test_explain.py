"""Explain: from an amount to its entries, and from an entry to everything around it."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from ledger.balances import balances
from ledger.books import BooksNotFound
from ledger.entries import entry_id
from ledger.explain import (
    EntryNotFound,
    Explanation,
    TotalsDisagree,
    explain_amount,
    explain_entry,
    find_entries,
    find_transaction,
    signed_amount,
    stream_entries,
)
from ledger.posting import MAX_BATCH
from ledger.selections import Selection
from tests.factories.entries import DocumentEntryFactory, EntryFactory, reversal_of
from tests.integration.ledger.books import Ledger, at, close_ended


@pytest.fixture
def mixed(ledger: Ledger, acme: UUID) -> UUID:
    """
    seq 1  06-01  machine  web     unbilled / usage        1.00   quantity 10
    seq 2  06-02  machine  worker  unbilled / usage        2.00   quantity 20
    seq 3  06-02  volume   -       unbilled / usage        0.50   quantity 5
    seq 4  06-03  machine  web     usage / unbilled        0.25   quantity 1
    seq 5  06-10  -        -       unbilled / adjustments  5.00   about a document
    """
    document = ledger.document(acme)
    usual: dict[str, Any] = {"customer_id": acme, "item": "machine"}
    ledger.post(
        EntryFactory.build(**usual, amount=Decimal(1), quantity=Decimal(10), effective_at=at("2025-06-01")),
        EntryFactory.build(
            **usual, amount=Decimal(2), quantity=Decimal(20), effective_at=at("2025-06-02"), labels={"app": "worker"}
        ),
        EntryFactory.build(
            customer_id=acme, item="volume", amount=Decimal("0.50"), quantity=Decimal(5), labels={},
            effective_at=at("2025-06-02"),
        ),
        EntryFactory.build(
            **usual, amount=Decimal("0.25"), quantity=Decimal(1), effective_at=at("2025-06-03"),
            debit_account="income:usage", credit_account="assets:unbilled",
        ),
        DocumentEntryFactory.build(customer_id=acme, document_id=document),
    )  # fmt: skip
    return document


def explained(session: Session, customer_id: UUID, account: str = "assets:unbilled", **filters: Any) -> Explanation:
    return explain_amount(session, customer_id=customer_id, selection=Selection(account=account, **filters))


@pytest.mark.parametrize(
    ("filters", "total", "seqs"),
    [
        ({}, "8.25", [1, 2, 3, 4, 5]),
        ({"document_id": None}, "3.25", [1, 2, 3, 4]),
        ({"period_start": at("2025-06-01")}, "3.25", [1, 2, 3, 4]),
        ({"period_start": None}, "5", [5]),
        ({"usage_period_start": at("2025-05-01")}, "0", []),
        ({"item": "machine"}, "2.75", [1, 2, 4]),
        ({"item": None}, "5", [5]),
        ({"price_id": None}, "8.25", [1, 2, 3, 4, 5]),
        ({"contra_account": "income:usage"}, "3.25", [1, 2, 3, 4]),
        ({"day": date(2025, 6, 2)}, "2.50", [2, 3]),
        ({"app": "web"}, "0.75", [1, 4]),
        ({"app": None, "document_id": None}, "0.5", [3]),
        ({"region": "ams"}, "0.75", [1, 4]),
        ({"account": "income:usage"}, "3.25", [1, 2, 3, 4]),
        ({"account": "income:usage", "item": "volume"}, "0.5", [3]),
        ({"account": "assets:bank"}, "0", []),
    ],
)
def test_an_amount_is_the_sum_of_exactly_its_entries(
    session: Session, acme: UUID, mixed: UUID, filters: dict[str, Any], total: str, seqs: list[int]
) -> None:
    found = explained(session, acme, **filters)
    assert (found.total, found.count) == (Decimal(total), len(seqs))
    assert [entry.seq for entry in found.entries] == seqs
    assert sum(signed_amount(entry, found.selection.account) for entry in found.entries) == found.total
    for parts in (found.by_item, found.by_day, found.by_contra):
        assert sum(part.amount for part in parts) == found.total
        assert sum(part.quantity for part in parts) == found.quantity
        assert sum(part.entries for part in parts) == found.count


def test_the_parts_of_an_amount_are_its_items_days_and_contra_accounts(
    session: Session, acme: UUID, mixed: UUID
) -> None:
    found = explained(session, acme, document_id=None)
    assert [(part.key, part.amount, part.quantity, part.entries) for part in found.by_item] == [
        ("machine", Decimal("2.75"), Decimal(29), 3),
        ("volume", Decimal("0.5"), Decimal(5), 1),
    ]
    assert [(part.key, part.amount) for part in found.by_day] == [
        (date(2025, 6, 1), 1), (date(2025, 6, 2), Decimal("2.5")), (date(2025, 6, 3), Decimal("-0.25")),
    ]  # fmt: skip
    found = explained(session, acme, document_id=mixed)
    assert [(part.key, part.amount) for part in found.by_contra] == [("income:adjustments", Decimal(5))]


def test_every_balance_is_explained_with_its_own_sign(session: Session, acme: UUID, mixed: UUID) -> None:
    for account, balance in balances(session, customer_id=acme).items():
        assert explained(session, acme, account).total == balance


def test_a_day_is_the_customers_own(ledger: Ledger, session: Session) -> None:
    tokyo = ledger.open(time_zone="Asia/Tokyo")
    ledger.post(EntryFactory.build(customer_id=tokyo, effective_at=at("2025-06-30T15:30")))
    assert explained(session, tokyo, day=date(2025, 7, 1)).count == 1
    assert explained(session, tokyo, day=date(2025, 6, 30)).count == 0


def test_pages_go_on_where_the_last_one_ended(ledger: Ledger, session: Session, acme: UUID) -> None:
    ledger.post(*EntryFactory.build_batch(7, customer_id=acme))
    selection = Selection(account="assets:unbilled")
    seen, after = [], 0
    while True:
        found = explain_amount(session, customer_id=acme, selection=selection, limit=3, after_seq=after)
        assert found.count == 7
        seen.append([entry.seq for entry in found.entries])
        if found.next_after is None:
            break
        after = found.next_after
    assert seen == [[1, 2, 3], [4, 5, 6], [7]]


def test_all_entries_can_be_streamed(ledger: Ledger, session: Session, acme: UUID) -> None:
    ledger.post(*EntryFactory.build_batch(6, customer_id=acme))
    ledger.post(EntryFactory.build(customer_id=acme, item="other"))
    selection = Selection(account="income:usage", item="machine:shared-cpu-1x")
    entries = stream_entries(session, customer_id=acme, selection=selection, page_size=3)
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5, 6]


def test_an_unknown_customer_is_named(session: Session) -> None:
    with pytest.raises(BooksNotFound):
        explained(session, uuid4())


def test_an_entry_knows_its_legs_document_and_who_took_it_back(
    ledger: Ledger, session: Session, acme: UUID, mixed: UUID
) -> None:
    first = DocumentEntryFactory.build(customer_id=acme, document_id=mixed)
    second = DocumentEntryFactory.build(
        customer_id=acme, document_id=mixed, transaction_id=first.transaction_id, id=uuid4(), amount=Decimal(1)
    )
    stranger = EntryFactory.build(customer_id=acme)
    ledger.post(first, stranger, second)
    reversal = reversal_of(first)
    ledger.post(reversal)
    story = explain_entry(session, customer_id=acme, entry_id=first.id)
    assert (story.entry.id, story.currency, story.holder) == (first.id, "USD", "customer")
    assert ([leg.id for leg in story.legs], story.leg_count) == ([second.id], 1)
    assert story.reversed_by is not None
    assert story.reversed_by.id == reversal.id
    assert story.document is not None
    assert (story.document.id, story.document.kind) == (mixed, "invoice")
    assert (story.period, story.placement) == (None, None)
    back = explain_entry(session, customer_id=acme, entry_id=reversal.id)
    assert back.reverses is not None
    assert (back.reverses.id, back.legs) == (first.id, [])


def test_legs_that_were_posted_in_several_batches_are_all_found(ledger: Ledger, session: Session, acme: UUID) -> None:
    """The last leg is further from the first than one batch can be: the one between leads there."""
    transaction = uuid4()
    legs = [
        EntryFactory.build(customer_id=acme, transaction_id=transaction, id=entry_id(transaction, str(n)))
        for n in range(3)
    ]
    for leg in legs:
        ledger.post(leg, *EntryFactory.build_batch(MAX_BATCH * 6 // 10, customer_id=acme))
    story = explain_entry(session, customer_id=acme, entry_id=legs[0].id)
    assert [leg.id for leg in story.legs] == [legs[1].id, legs[2].id]


def test_an_entry_says_why_it_is_in_its_period(ledger: Ledger, session: Session, acme: UUID) -> None:
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-05-05")))
    close_ended(ledger, acme, "2025-06-01")
    in_time = EntryFactory.build(customer_id=acme, effective_at=at("2025-06-05"))
    late = EntryFactory.build(customer_id=acme, effective_at=at("2025-05-06"))
    carried = EntryFactory.build(
        customer_id=acme,
        credit_account="assets:carried",
        kind="carry",
        effective_at=at("2025-06-01"),
        period_start=at("2025-06-01"),
        usage_period_start=at("2025-05-01"),
    )
    ledger.post(in_time)
    ledger.post(late, carried)
    for entry, placement, used in (
        (in_time, "in time", "2025-06-01"),
        (late, "late", "2025-05-01"),
        (carried, "carried", "2025-05-01"),
    ):
        story = explain_entry(session, customer_id=acme, entry_id=entry.id)
        assert story.placement == placement
        assert story.period is not None
        assert story.period.start_at == at("2025-06-01")
        assert story.usage_period is not None
        assert story.usage_period.start_at == at(used)


def test_an_entry_is_found_by_its_id_alone_and_two_customers_may_share_one(ledger: Ledger, session: Session) -> None:
    one, other = ledger.open(), ledger.open()
    first = EntryFactory.build(customer_id=one)
    ledger.post(first)
    assert find_entries(session, ids=[first.id]) == [(one, first.id)]
    assert find_entries(session, ids=[uuid4()]) == []
    ledger.post(EntryFactory.build(customer_id=other, id=first.id, transaction_id=first.transaction_id))
    assert sorted(find_entries(session, ids=[first.id])) == sorted([(one, first.id), (other, first.id)])
    assert find_entries(session, ids=[first.id], customer_id=other) == [(other, first.id)]
    assert len(find_transaction(session, transaction_id=first.transaction_id)) == 2
    assert find_transaction(session, transaction_id=first.transaction_id, customer_id=one) == [(one, first.id)]
    with pytest.raises(EntryNotFound, match=str(one)):
        explain_entry(session, customer_id=one, entry_id=uuid4())


class TestTamperedBooks:
    @pytest.fixture(autouse=True)
    def every_check_holds_afterwards(self) -> None:
        """Not here: a superuser tampers."""

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE ledger_totals SET amount = amount + 0.000000000000000000000000000001 WHERE item = 'volume'",
            "UPDATE ledger_totals SET quantity = quantity + 1 WHERE item = 'volume'",
            "UPDATE ledger_entries SET amount = 0.51 WHERE seq = 3",
            "DELETE FROM ledger_entries WHERE seq = 3",
        ],
    )
    def test_a_sum_that_is_not_the_running_totals_is_no_explanation(
        self, session: Session, acme: UUID, mixed: UUID, connect: Any, change: str
    ) -> None:
        with connect("superuser") as superuser:
            superuser.execute("SET session_replication_role = replica")
            superuser.execute(change)
        with pytest.raises(TotalsDisagree, match="billing ledger check"):
            explained(session, acme)
        assert explained(session, acme, item="machine").total == Decimal("2.75")
