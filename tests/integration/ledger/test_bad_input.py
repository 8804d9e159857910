"""Bad entries meet `post`: every one is refused by name, all of them at once, and nothing is written."""

from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.entries import EntriesRefused, NewEntry
from ledger.posting import EmptyTransaction
from ledger.tables import Books, PeriodRow
from tests.factories.entries import DocumentEntryFactory, EntryFactory, reversal_of
from tests.integration.ledger.books import NOW, Ledger, at, refused
from tests.unit.ledger.test_entries import BAD_ENTRIES

HOUSE_ONLY = accounts.HOUSE_ACCOUNTS - accounts.CUSTOMER_ACCOUNTS


def is_for_customers(changes: dict[str, Any]) -> bool:
    """Whose books an entry goes to decides which accounts it may name: those of the house have a test of their own."""
    named = changes.get("credit_account")
    return changes.get("actor") != "house" and not (isinstance(named, str) and named in HOUSE_ONLY)


CASES = [case for case in BAD_ENTRIES if is_for_customers(case[0])]


def bad_entry(customer_id: UUID, changes: dict[str, Any]) -> NewEntry:
    entry: NewEntry = EntryFactory.build(**{"customer_id": customer_id, **changes})
    return entry


def test_every_kind_of_bad_entry_is_refused_in_one_answer(ledger: Ledger, acme: UUID, session: Session) -> None:
    """One batch holds them all, each behind a good entry: the answer names each bad one, and none of the good ones."""
    batch: list[NewEntry] = []
    for changes, _, _ in CASES:
        batch += [EntryFactory.build(customer_id=acme), bad_entry(acme, changes)]
    assert refused(ledger, *batch) == [(2 * place + 1, field, code) for place, (_, field, code) in enumerate(CASES)]
    assert session.get_one(Books, acme).last_seq == 0
    assert session.query(PeriodRow).count() == 0


def test_each_bad_entry_alone_is_refused_before_anything_is_looked_up(ledger: Ledger) -> None:
    """There are not even books."""
    for changes, field, code in CASES:
        with pytest.raises(EntriesRefused) as caught:
            ledger.post(bad_entry(UUID(int=1), changes))
        assert [(problem.index, problem.field, problem.code) for problem in caught.value.problems] == [(0, field, code)]


def test_a_refused_batch_takes_no_lock(ledger: Ledger, acme: UUID, connect: Any) -> None:
    with ledger.transaction() as holder:
        holder.execute(text("SELECT FROM ledger_books FOR UPDATE"))
        assert refused(ledger, EntryFactory.build(customer_id=acme, amount=Decimal("NaN"))) == [
            (0, "amount", "not_finite")
        ]


def test_accounts_of_the_house_stay_out_of_a_customers_books(ledger: Ledger, acme: UUID) -> None:
    house = ledger.open(holder="house")
    payout = {"debit_account": "assets:bank", "credit_account": "assets:suspense", "kind": "payout"}
    assert refused(
        ledger,
        EntryFactory.build(customer_id=acme, **payout),
        EntryFactory.build(customer_id=house, **payout),
        EntryFactory.build(customer_id=house, debit_account="assets:bank", credit_account="expenses:chargebacks"),
    ) == [(0, "debit_account", "unknown_account"), (2, "debit_account", "unknown_account")]


def test_all_that_is_wrong_with_references_is_named_at_once(ledger: Ledger, acme: UUID) -> None:
    original, taken_back = EntryFactory.build_batch(2, customer_id=acme)
    reversal = reversal_of(taken_back)
    ledger.post(original, taken_back, reversal)
    assert refused(
        ledger,
        EntryFactory.build(customer_id=acme),
        reversal_of(reversal),
        reversal_of(taken_back, id=uuid4()),
        reversal_of(original, amount=Decimal(7), id=uuid4()),
        EntryFactory.build(customer_id=acme, reverses_id=uuid4()),
        DocumentEntryFactory.build(customer_id=acme, document_id=uuid4()),
        replace(
            EntryFactory.build(customer_id=acme, kind="carry", credit_account="assets:carried"),
            period_start=at("2031-01-01"),
            usage_period_start=at("2031-01-01"),
        ),
    ) == [
        (1, "reverses_id", "reversal_of_reversal"),
        (2, "reverses_id", "reversed_before"),
        (3, "reverses_id", "not_a_mirror"),
        (4, "reverses_id", "unknown_entry"),
        (5, "document_id", "unknown_document"),
        (6, "period_start", "unknown_period"),
        (6, "usage_period_start", "unknown_period"),
    ]


def test_an_empty_transaction_is_refused_by_name(ledger: Ledger) -> None:
    with pytest.raises(EmptyTransaction):
        ledger.post(now=NOW)


def test_one_answer_names_what_an_entry_says_and_what_the_books_say_of_another(ledger: Ledger, acme: UUID) -> None:
    original = EntryFactory.build(customer_id=acme)
    reversal = reversal_of(original)
    ledger.post(original, reversal)
    assert refused(
        ledger,
        reversal_of(reversal),
        EntryFactory.build(customer_id=acme, amount=Decimal("NaN")),
        EntryFactory.build(customer_id=acme, debit_account="assets:bank", credit_account="assets:suspense"),
        EntryFactory.build(customer_id=uuid4()),
    ) == [
        (0, "reverses_id", "reversal_of_reversal"),
        (1, "amount", "not_finite"),
        (2, "debit_account", "unknown_account"),
    ]
