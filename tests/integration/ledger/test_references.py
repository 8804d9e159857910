"""What entries refer to: periods, documents, other entries, accounts of the right holder."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from ledger.balances import balance
from ledger.posting import Posted
from tests.factories.entries import DocumentEntryFactory, EntryFactory, reversal_of
from tests.integration.ledger.books import Ledger, at, close_ended, refused


def test_a_reversal_takes_its_entry_back_exactly_once(ledger: Ledger, acme: UUID, session: Session) -> None:
    entry = EntryFactory.build(customer_id=acme)
    ledger.post(entry)
    reversal = reversal_of(entry)
    assert ledger.post(reversal) == Posted(1, 0)
    assert ledger.post(reversal) == Posted(0, 1)
    assert balance(session, customer_id=acme, account="assets:unbilled") == 0
    again = reversal_of(entry, id=uuid4())
    assert refused(ledger, again) == [(0, "reverses_id", "reversed_before")]
    assert refused(ledger, reversal_of(reversal)) == [(0, "reverses_id", "reversal_of_reversal")]


def test_an_entry_and_its_reversal_may_come_in_one_batch(ledger: Ledger, acme: UUID, session: Session) -> None:
    entry = EntryFactory.build(customer_id=acme)
    assert refused(ledger, reversal_of(entry), entry) == [(0, "reverses_id", "unknown_entry")]
    assert refused(ledger, entry, reversal_of(entry), reversal_of(entry, id=uuid4())) == [
        (2, "reverses_id", "reversed_before")
    ]
    ledger.post(entry, reversal_of(entry))
    assert balance(session, customer_id=acme, account="assets:unbilled") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": Decimal("0.00289")},
        {"quantity": Decimal(1)},
        {"item": "volume"},
        {"debit_account": "income:plans"},
        {"debit_account": "assets:unbilled", "credit_account": "income:usage"},
    ],
)
def test_a_reversal_mirrors_its_entry(ledger: Ledger, acme: UUID, changes: dict[str, Any]) -> None:
    entry = EntryFactory.build(customer_id=acme)
    ledger.post(entry)
    assert refused(ledger, reversal_of(entry, **changes)) == [(0, "reverses_id", "not_a_mirror")]


def test_a_reversal_stays_within_its_customer(ledger: Ledger, acme: UUID) -> None:
    entry = EntryFactory.build(customer_id=acme)
    ledger.post(entry)
    other = ledger.open()
    assert refused(ledger, reversal_of(entry, customer_id=other)) == [(0, "reverses_id", "unknown_entry")]


def test_a_document_must_be_the_customers_own(ledger: Ledger, acme: UUID) -> None:
    foreign = ledger.document(ledger.open())
    assert refused(
        ledger,
        EntryFactory.build(customer_id=acme),
        DocumentEntryFactory.build(customer_id=acme, document_id=foreign),
        DocumentEntryFactory.build(customer_id=acme, document_id=uuid4()),
    ) == [(1, "document_id", "unknown_document"), (2, "document_id", "unknown_document")]


def test_naming_a_period_that_is_closed_or_unknown_is_refused_by_name(ledger: Ledger, acme: UUID) -> None:
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-05-05")))
    close_ended(ledger, acme, "2025-06-01")
    may, june = at("2025-05-01"), at("2025-06-01")
    details: dict[str, Any] = {"customer_id": acme, "effective_at": at("2025-05-05")}
    assert refused(
        ledger,
        EntryFactory.build(**details, period_start=may, usage_period_start=may),
        EntryFactory.build(**details, period_start=june, usage_period_start=may),
    ) == [(0, "period_start", "period_closed"), (1, "period_start", "unknown_period")]


def test_house_and_customers_do_not_share_accounts(ledger: Ledger, acme: UUID) -> None:
    house = ledger.open(holder="house")
    payout = {"debit_account": "assets:suspense", "credit_account": "assets:stripe", "kind": "payout"}
    assert refused(ledger, EntryFactory.build(customer_id=acme, **payout)) == [(0, "debit_account", "unknown_account")]
    assert refused(ledger, EntryFactory.build(customer_id=house)) == [(0, "debit_account", "unknown_account")]
    assert ledger.post(EntryFactory.build(customer_id=house, **payout)) == Posted(1, 0)
