"""Forged entries, by plain SQL, as the application's role and as the owner of all tables.

Each differs from an entry that is accepted in one thing only, so it is that thing which is refused.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql

from tests.integration.ledger.guards.attacks import (
    AUGUST,
    JULY,
    JUNE,
    MAY,
    Target,
    about_document,
    carried,
    late,
    reversing,
)

ACCEPTED: dict[str, Callable[[Target], list[dict[str, Any]]]] = {
    "a charge": lambda t: [t.row()],
    "two charges in one statement": lambda t: [
        t.row(recorded_at=sql.SQL("statement_timestamp()")),
        t.row(seq=5, recorded_at=sql.SQL("statement_timestamp()")),
    ],
    "a charge with every account": lambda t: [t.row(debit_account="income:plans", credit_account="assets:unbilled")],
    "late usage": lambda t: [late(t)],
    "a reversal": lambda t: [reversing(t)],
    "an entry about a document": lambda t: [about_document(t)],
    "a carried charge": lambda t: [carried(t)],
    "free usage": lambda t: [t.row(amount=0)],
}


@pytest.mark.parametrize("entries", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_the_attacks_differ_from_is_accepted(
    target: Target, entries: Callable[[Target], list[dict[str, Any]]]
) -> None:
    target.insert(*entries(target))


FORGED_ENTRIES: dict[str, tuple[type[psycopg.Error], str, Callable[[Target], list[dict[str, Any]]]]] = {
    # Amounts and quantities
    "negative amount": (errors.CheckViolation, "ledger_entries_amount", lambda t: [t.row(amount=Decimal("-0.01"))]),
    "NaN": (errors.CheckViolation, "ledger_entries_amount", lambda t: [t.row(amount=Decimal("NaN"))]),
    "infinity": (errors.CheckViolation, "ledger_entries_amount", lambda t: [t.row(amount=Decimal("Infinity"))]),
    "minus infinity": (errors.CheckViolation, "ledger_entries_amount", lambda t: [t.row(amount=Decimal("-Infinity"))]),
    "too large": (errors.CheckViolation, "ledger_entries_amount", lambda t: [t.row(amount=Decimal(10) ** 15)]),
    "too fine": (errors.CheckViolation, "ledger_entries_amount", lambda t: [t.row(amount=Decimal("1E-31"))]),
    "nothing at all": (errors.CheckViolation, "zero_needs_quantity", lambda t: [t.row(amount=0, quantity=None)]),
    "no amount": (errors.NotNullViolation, "amount", lambda t: [t.row(amount=None)]),
    "negative quantity": (errors.CheckViolation, "entries_quantity", lambda t: [t.row(quantity=Decimal(-1))]),
    "quantity NaN": (errors.CheckViolation, "entries_quantity", lambda t: [t.row(quantity=Decimal("NaN"))]),
    "quantity too fine": (errors.CheckViolation, "entries_quantity", lambda t: [t.row(quantity=Decimal("1E-19"))]),
    # Accounts
    "equal accounts": (errors.CheckViolation, "two_accounts", lambda t: [t.row(credit_account="assets:unbilled")]),
    "an invented account": (
        errors.ForeignKeyViolation, "unknown account", lambda t: [t.row(credit_account="income:gifts")],
    ),
    "the house's account": (
        errors.ForeignKeyViolation, "unknown account",
        lambda t: [about_document(t, debit_account="assets:suspense")],
    ),
    "a customer's account in the house's books": (
        errors.ForeignKeyViolation, "unknown account",
        lambda t: [about_document(t, customer_id=t.house_id, document_id=None, debit_account="assets:receivable")],
    ),
    "one side missing": (errors.NotNullViolation, "credit_account", lambda t: [t.row(credit_account=None)]),
    # Sequence, books, ids
    "a gap": (errors.IntegrityConstraintViolation, "a gap in seq", lambda t: [t.row(seq=5)]),
    "a number again": (errors.UniqueViolation, "customer_id_seq", lambda t: [t.row(seq=3)]),
    "a gap inside the batch": (
        errors.IntegrityConstraintViolation, "a gap in seq",
        lambda t: [t.row(recorded_at=sql.SQL("now()")), t.row(seq=6, recorded_at=sql.SQL("now()"))],
    ),
    "number zero": (errors.CheckViolation, "seq_check", lambda t: [t.row(seq=0)]),
    "no books": (errors.IntegrityConstraintViolation, "no books", lambda t: [t.row(customer_id=uuid4())]),
    "the same id again": (errors.UniqueViolation, "ledger_entries_pkey", lambda t: [t.row(id=t.first_id)]),
    "a digest of nothing": (errors.CheckViolation, "digest", lambda t: [t.row(digest=b"")]),
    # Times
    "recorded in the past": (
        errors.IntegrityConstraintViolation, "not the present",
        lambda t: [t.row(recorded_at=sql.SQL("now() - interval '1 second'"))],
    ),
    "recorded in the future": (
        errors.IntegrityConstraintViolation, "not the present",
        lambda t: [t.row(recorded_at=sql.SQL("now() + interval '1 minute'"))],
    ),
    "recorded at two times": (
        errors.IntegrityConstraintViolation, "not the present",
        lambda t: [t.row(recorded_at=sql.SQL("now()")), t.row(seq=5, recorded_at=sql.SQL("clock_timestamp()"))],
    ),
    "effective before the epoch": (
        errors.CheckViolation, "entries_times", lambda t: [t.row(effective_at=datetime(1999, 12, 31, tzinfo=UTC))],
    ),
    "effective at infinity": (
        errors.CheckViolation, "entries_times", lambda t: [t.row(effective_at=sql.SQL("'infinity'"))],
    ),
    # Periods
    "into a closed period": (
        errors.CheckViolation, "is not the one", lambda t: [late(t, period_start=MAY)],
    ),
    "usage of an open period into a later one": (
        errors.CheckViolation, "is not the one", lambda t: [t.row(period_start=JULY)],
    ),
    "late usage past an open period": (
        errors.CheckViolation, "is not the one", lambda t: [late(t, period_start=JULY)],
    ),
    "usage into an earlier period": (
        errors.CheckViolation, "is not the one",
        lambda t: [t.row(effective_at=JULY, usage_period_start=JULY)],
    ),
    "usage that did not happen then": (
        errors.CheckViolation, "is not the one", lambda t: [t.row(effective_at=JULY)],
    ),
    "usage from before its period": (
        errors.CheckViolation, "is not the one",
        lambda t: [t.row(effective_at=JUNE - timedelta(microseconds=1))],
    ),
    "an unknown period": (
        errors.CheckViolation, "is not the one", lambda t: [t.row(period_start=AUGUST)],
    ),
    "an unknown period of usage": (
        errors.CheckViolation, "is not the one",
        lambda t: [t.row(usage_period_start=JUNE + timedelta(days=1))],
    ),
    "a charge without a period": (
        errors.CheckViolation, "charge_has_period", lambda t: [t.row(period_start=None, usage_period_start=None)],
    ),
    "half a period": (errors.CheckViolation, "ledger_entries_check", lambda t: [t.row(usage_period_start=None)]),
    "a period for what is no charge": (
        errors.CheckViolation, "charge_has_period", lambda t: [t.row(debit_account="assets:receivable")],
    ),
    "a document's entry in a period": (
        errors.CheckViolation, "charge_has_period", lambda t: [t.row(document_id=t.document_id)],
    ),
    "usage that calls itself carried": (
        errors.CheckViolation, "carry_is_from_carried",
        lambda t: [t.row(kind="carry", effective_at=JUNE, usage_period_start=MAY)],
    ),
    "carried that calls itself usage": (
        errors.CheckViolation, "carry_is_from_carried", lambda t: [t.row(credit_account="assets:carried")],
    ),
    "carried backwards": (
        errors.CheckViolation, "is not the one", lambda t: [carried(t, usage_period_start=JULY)],
    ),
    "carried into a closed period": (
        errors.CheckViolation, "is not the one", lambda t: [carried(t, effective_at=MAY, period_start=MAY)],
    ),
    # Documents
    "an unknown document": (
        errors.ForeignKeyViolation, "have no document", lambda t: [about_document(t, document_id=uuid4())],
    ),
    "another customer's document": (
        errors.ForeignKeyViolation, "have no document",
        lambda t: [about_document(t, document_id=t.foreign_document_id)],
    ),
    # Reversals
    "a reversal of nothing": (
        errors.CheckViolation, "does not mirror", lambda t: [reversing(t, reverses_id=uuid4())],
    ),
    "a reversal in another's books": (
        errors.CheckViolation, "does not mirror",
        lambda t: [reversing(t, customer_id=t.other_id, effective_at=JUNE, usage_period_start=JUNE)],
    ),
    "a reversal of another amount": (
        errors.CheckViolation, "does not mirror", lambda t: [reversing(t, amount=Decimal("2.01"))],
    ),
    "a reversal of another item": (
        errors.CheckViolation, "does not mirror", lambda t: [reversing(t, item="volume")],
    ),
    "a reversal of another quantity": (
        errors.CheckViolation, "does not mirror", lambda t: [reversing(t, quantity=Decimal(1))],
    ),
    "a reversal that repeats instead": (
        errors.CheckViolation, "does not mirror",
        lambda t: [reversing(t, debit_account="assets:unbilled", credit_account="income:usage")],
    ),
    "a reversal twice": (
        errors.UniqueViolation, "reversed_once",
        lambda t: [reversing(t, recorded_at=sql.SQL("now()")), reversing(t, seq=5, recorded_at=sql.SQL("now()"))],
    ),
    # Texts and labels
    "an unknown kind": (errors.CheckViolation, "entries_kind", lambda t: [t.row(kind="gift")]),
    "an empty item": (errors.CheckViolation, "ledger_entries_names", lambda t: [t.row(item="")]),
    "an item without end": (errors.CheckViolation, "ledger_entries_names", lambda t: [t.row(item="x" * 201)]),
    "nobody": (errors.CheckViolation, "ledger_entries_names", lambda t: [t.row(actor="")]),
    "labels that are a list": (errors.CheckViolation, "entries_labels", lambda t: [t.row(labels=["app"])]),
    "a label that is a number": (errors.CheckViolation, "entries_labels", lambda t: [t.row(labels={"cpus": 2})]),
    "a label within a label": (errors.CheckViolation, "entries_labels", lambda t: [t.row(labels={"a": {"b": "c"}})]),
    "labels without end": (errors.CheckViolation, "entries_labels", lambda t: [t.row(labels={"a": "x" * 8200})]),
    "a dimension without end": (errors.CheckViolation, "dimensions", lambda t: [t.row(labels={"app": "x" * 201})]),
}  # fmt: skip


@pytest.mark.parametrize("attack", FORGED_ENTRIES.values(), ids=FORGED_ENTRIES.keys())
def test_a_forged_entry_is_refused(
    target: Target, attack: tuple[type[psycopg.Error], str, Callable[[Target], list[dict[str, Any]]]]
) -> None:
    error, message, entries = attack
    before = target.written()
    with pytest.raises(error, match=message):
        target.insert(*entries(target))
    assert target.written() == before


def test_a_reversal_of_a_reversal_is_refused(target: Target) -> None:
    reversal = reversing(target)
    target.insert(reversal)
    again = reversing(
        target, debit_account="assets:unbilled", credit_account="income:usage", reverses_id=reversal["id"]
    )
    with pytest.raises(errors.CheckViolation, match="or that one is a reversal itself"):
        target.insert(again)
