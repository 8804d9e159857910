"""Entries before they are posted: every reason for a refusal, and the digest that makes a replay harmless."""

import json
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import accounts
from ledger.entries import (
    AMOUNT_LIMIT,
    KINDS,
    MAX_LABELS_TEXT,
    EntriesRefused,
    digest,
    entry_id,
    instant_problem,
    is_storable,
    label_problems,
    number_problem,
    problems_of,
    transaction_id,
)
from tests.factories.entries import DocumentEntryFactory, EntryFactory, reversal_of

NAIVE = datetime(2025, 6, 1)  # noqa: DTZ001 - the mistake that is tested
JUNE = datetime(2025, 6, 1, tzinfo=UTC)
MANY_LABELS = {f"label-{n}": "x" for n in range(33)}
HALF = "\ud83d"


class Nowhere(tzinfo):
    """A zone that does not say how far it is from UTC."""

    def utcoffset(self, when: datetime | None) -> None:
        return None

    def dst(self, when: datetime | None) -> None:
        return None

    def tzname(self, when: datetime | None) -> str:
        return "nowhere"


def codes(**changes: Any) -> list[tuple[str, str]]:
    entry = EntryFactory.build(**changes)
    holder = "house" if entry.actor == "house" else "customer"
    return [(problem.field, problem.code) for problem in problems_of(7, entry, holder=holder)]


def test_what_the_factories_build_is_acceptable() -> None:
    entry = EntryFactory.build()
    assert problems_of(0, entry, holder="customer") == []
    assert problems_of(0, reversal_of(entry), holder="customer") == []
    assert problems_of(0, DocumentEntryFactory.build(document_id=uuid4()), holder="customer") == []


BAD_ENTRIES: list[tuple[dict[str, Any], str, str]] = [
        ({"debit_account": "assets:gold"}, "debit_account", "unknown_account"),
        ({"credit_account": "assets:suspense"}, "credit_account", "unknown_account"),
        ({"credit_account": "income:rounding", "actor": "house", "debit_account": "assets:bank"},
         "credit_account", "unknown_account"),
        ({"debit_account": "income:usage"}, "credit_account", "same_account"),
        ({"kind": "gift"}, "kind", "unknown_kind"),
        ({"kind": "carry"}, "kind", "carry_without_carried"),
        ({"credit_account": "assets:carried"}, "kind", "carry_without_carried"),
        ({"amount": Decimal("-0.01")}, "amount", "negative"),
        ({"amount": Decimal("-Infinity")}, "amount", "not_finite"),
        ({"amount": Decimal("NaN")}, "amount", "not_finite"),
        ({"amount": Decimal("sNaN")}, "amount", "not_finite"),
        ({"amount": Decimal("Infinity")}, "amount", "not_finite"),
        ({"amount": AMOUNT_LIMIT}, "amount", "too_large"),
        ({"amount": Decimal("1E+999999999")}, "amount", "too_large"),
        ({"amount": Decimal("0." + "0" * 30 + "1")}, "amount", "too_many_decimals"),
        ({"amount": Decimal("999999999999999." + "0" * 30 + "1")}, "amount", "too_many_decimals"),
        ({"amount": Decimal("1E-999999999")}, "amount", "too_many_decimals"),
        ({"amount": 0.5}, "amount", "not_a_decimal"),
        ({"amount": 1}, "amount", "not_a_decimal"),
        ({"amount": Decimal(0), "quantity": None}, "amount", "zero_without_quantity"),
        ({"quantity": Decimal(-1)}, "quantity", "negative"),
        ({"quantity": Decimal("NaN")}, "quantity", "not_finite"),
        ({"quantity": Decimal(10) ** 18}, "quantity", "too_large"),
        ({"quantity": Decimal("1E-19")}, "quantity", "too_many_decimals"),
        ({"effective_at": NAIVE}, "effective_at", "no_time_zone"),
        ({"effective_at": "2025-06-01"}, "effective_at", "not_a_time"),
        ({"effective_at": datetime(1999, 12, 31, 23, 59, tzinfo=UTC)}, "effective_at", "time_out_of_range"),
        ({"effective_at": datetime(2200, 1, 1, tzinfo=UTC)}, "effective_at", "time_out_of_range"),
        ({"effective_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))},
         "effective_at", "time_out_of_range"),
        ({"effective_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=23)))},
         "effective_at", "time_out_of_range"),
        ({"item": ""}, "item", "bad_item"),
        ({"item": "x" * 201}, "item", "bad_item"),
        ({"item": "two\nlines"}, "item", "bad_item"),
        ({"item": HALF}, "item", "bad_item"),
        ({"labels": MANY_LABELS}, "labels", "too_many_labels"),
        ({"labels": {"": "x"}}, "labels", "bad_label_name"),
        ({"labels": {"k" * 65: "x"}}, "labels", "bad_label_name"),
        ({"labels": {"a\tb": "x"}}, "labels", "bad_label_name"),
        ({"labels": {7: "x"}}, "labels", "bad_label_name"),
        ({"labels": {"cpus": 2}}, "labels", "label_not_text"),
        ({"labels": {"note": None}}, "labels", "label_not_text"),
        ({"labels": {"note": "x" * 501}}, "labels", "label_too_long"),
        ({"labels": {"app": "x" * 201}}, "labels", "label_too_long"),
        ({"labels": {"note": "a\x00b"}}, "labels", "bad_label"),
        ({"labels": {"note": HALF}}, "labels", "bad_label"),
        ({"labels": {f"label-{n}": "x" * 500 for n in range(17)}}, "labels", "labels_too_long"),
        ({"labels": {f"label-{n}": "\n" * 500 for n in range(9)}}, "labels", "labels_too_long"),
        ({"actor": ""}, "actor", "bad_actor"),
        ({"actor": "x" * 201}, "actor", "bad_actor"),
        ({"actor": "a\x00"}, "actor", "bad_actor"),
        ({"reason": "x" * 2001}, "reason", "reason_too_long"),
        ({"reason": "\x00"}, "reason", "bad_reason"),
        ({"reason": HALF}, "reason", "bad_reason"),
        ({"digest": b"short"}, "digest", "bad_digest"),
        ({"customer_id": "acme", "event": "x"}, "customer_id", "not_a_uuid"),
        ({"id": 7}, "id", "not_a_uuid"),
        ({"transaction_id": None, "id": UUID(int=1)}, "transaction_id", "not_a_uuid"),
        ({"period_start": datetime(2025, 6, 1, tzinfo=UTC)}, "period_start", "half_a_period"),
        ({"period_start": datetime(2025, 6, 1, tzinfo=UTC), "usage_period_start": datetime(2025, 6, 1, tzinfo=UTC),
          "document_id": UUID(int=1)}, "period_start", "not_a_charge"),
        # What no type checker saw: it would be a TypeError deep inside, or reach Postgres as something else.
        ({"debit_account": None}, "debit_account", "unknown_account"),
        ({"credit_account": ["income:usage"]}, "credit_account", "unknown_account"),
        ({"credit_account": b"income:usage"}, "credit_account", "unknown_account"),
        ({"kind": ["usage"]}, "kind", "unknown_kind"),
        ({"kind": None}, "kind", "unknown_kind"),
        ({"amount": "0.5"}, "amount", "not_a_decimal"),
        ({"amount": None}, "amount", "not_a_decimal"),
        ({"amount": True}, "amount", "not_a_decimal"),
        ({"quantity": "3600"}, "quantity", "not_a_decimal"),
        ({"quantity": float("nan")}, "quantity", "not_a_decimal"),
        ({"effective_at": None}, "effective_at", "not_a_time"),
        ({"effective_at": date(2025, 6, 1)}, "effective_at", "not_a_time"),
        ({"effective_at": 1748736000}, "effective_at", "not_a_time"),
        ({"effective_at": datetime(2025, 6, 1, tzinfo=Nowhere())}, "effective_at", "no_time_zone"),
        ({"item": 7}, "item", "bad_item"),
        ({"item": b"machine"}, "item", "bad_item"),
        ({"item": ["machine"]}, "item", "bad_item"),
        ({"labels": None}, "labels", "labels_not_an_object"),
        ({"labels": [("app", "web")]}, "labels", "labels_not_an_object"),
        ({"labels": "app=web"}, "labels", "labels_not_an_object"),
        ({"labels": {"app": {"name": "web"}}}, "labels", "label_not_text"),
        ({"labels": {"app": ["web"]}}, "labels", "label_not_text"),
        ({"labels": {"app": b"web"}}, "labels", "label_not_text"),
        ({"labels": {None: "web"}}, "labels", "bad_label_name"),
        ({"actor": None}, "actor", "bad_actor"),
        ({"actor": 7}, "actor", "bad_actor"),
        ({"actor": ["agent"]}, "actor", "bad_actor"),
        ({"reason": 7}, "reason", "bad_reason"),
        ({"reason": b"because"}, "reason", "bad_reason"),
        ({"digest": None}, "digest", "bad_digest"),
        ({"digest": "x" * 32}, "digest", "bad_digest"),
        ({"document_id": "invoice-1"}, "document_id", "not_a_uuid"),
        ({"document_id": 7}, "document_id", "not_a_uuid"),
        ({"price_id": "0.0000008"}, "price_id", "not_a_uuid"),
        ({"reverses_id": str(UUID(int=1))}, "reverses_id", "not_a_uuid"),
        ({"customer_id": None, "event": "x"}, "customer_id", "not_a_uuid"),
        ({"period_start": "2025-06", "usage_period_start": JUNE}, "period_start", "not_a_time"),
        ({"period_start": JUNE, "usage_period_start": NAIVE}, "usage_period_start", "no_time_zone"),
        ({"period_start": datetime(9999, 1, 1, tzinfo=UTC), "usage_period_start": JUNE},
         "period_start", "time_out_of_range"),
]  # fmt: skip
"""What makes an otherwise acceptable entry unacceptable: the change, the field that is named, and the code."""


@pytest.mark.parametrize(("changes", "field", "code"), BAD_ENTRIES)
def test_each_refusal_names_its_field_and_has_its_code(changes: dict[str, Any], field: str, code: str) -> None:
    assert codes(**changes) == [(field, code)]


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": Decimal(0)},
        {"amount": Decimal("-0.0")},
        {"amount": Decimal("999999999999999.999999999999999999999999999999")},
        {"amount": Decimal("1E-30")},
        {"amount": Decimal("0.5000000000000000000000000000000000000")},
        {"quantity": Decimal("999999999999999999.999999999999999999")},
        {"quantity": Decimal(0)},
        {"effective_at": datetime(2000, 1, 1, tzinfo=UTC)},
        {"item": "Ümläut 🚀 & \"quotes\""},
        {"labels": {"app": "x" * 200, "region": "🚀" * 200, "note": "two\nlines\t\x07"}},
        {"reason": "because\nof this"},
        {"debit_account": "income:usage", "credit_account": "assets:unbilled"},
        {"kind": "carry", "credit_account": "assets:carried"},
        {"actor": "house", "debit_account": "assets:bank", "credit_account": "assets:stripe", "kind": "payout"},
    ],
)  # fmt: skip
def test_what_is_odd_but_right_is_accepted(changes: dict[str, Any]) -> None:
    assert codes(**changes) == []


def test_all_problems_of_an_entry_are_named_at_once() -> None:
    entry = EntryFactory.build(amount=Decimal(-1), item="", actor="", labels={"a": 1})
    problems = problems_of(7, entry, holder="customer")
    assert [problem.field for problem in problems] == ["amount", "item", "labels", "actor"]
    refused = EntriesRefused(problems)
    assert refused.code == "entries_refused"
    assert str(refused).startswith("Entry 7, amount: -1 is negative")
    assert str(refused).endswith("(and 3 more)")


def test_a_refusal_does_not_repeat_a_flood_of_input() -> None:
    huge = "x" * 100_000
    nines = Decimal("9" * 100_000)
    floods: list[dict[str, Any]] = [
        {"item": huge, "labels": {huge: huge, "n": [huge]}, "kind": huge, "debit_account": huge, "id": huge},
        {"amount": nines, "quantity": nines.scaleb(-50_000)},
        {"amount": -nines, "quantity": huge},
        {"effective_at": huge, "labels": huge, "document_id": huge},
    ]
    for flood in floods:
        for problem in problems_of(0, EntryFactory.build(transaction_id=UUID(int=1), **flood), holder="customer"):
            assert len(problem.message) < 400


@given(st.decimals(min_value=0, allow_nan=True, allow_infinity=True))
def test_a_number_is_acceptable_exactly_if_it_can_be_kept_exactly(value: Decimal) -> None:
    problem = number_problem(value, limit=AMOUNT_LIMIT, decimals=30)
    fits = value.is_finite() and value < AMOUNT_LIMIT and value == Decimal(f"{value:.30f}")
    assert (problem is None) == fits


@given(st.text(st.characters()))
def test_what_is_storable_can_be_encoded(text: str) -> None:
    try:
        encodes = "\x00" not in text.encode().decode()
    except UnicodeEncodeError:
        encodes = False
    assert is_storable(text) == encodes


def test_ids_are_the_same_for_ever() -> None:
    """Written down, since a change would make every event of the past look new."""
    transaction = transaction_id("focus", "event-1")
    assert transaction == UUID("2e16bfb2-ae21-5ff4-8132-2a9a7929a85f")
    assert entry_id(transaction, "usage") == UUID("9bb3f79d-89bb-59d7-9f54-e46b63ae5612")
    assert digest({"item": "vm", "quantity": Decimal("1.50"), "labels": {"b": "2", "a": "ü"}}).hex() == (
        "702a547255f96d8bd5ed24209e8f2d488250c7df8f3c9ac5f5d6bc76e7d58274"
    )


def test_two_sources_or_events_never_share_an_id() -> None:
    assert transaction_id("a", "b") != transaction_id("b", "a")
    assert transaction_id("ab", "c") != transaction_id("a", "bc")


def test_the_digest_sees_content_and_not_its_spelling() -> None:
    berlin = timezone(timedelta(hours=2))
    assert digest({"q": Decimal("1.50"), "l": {"a": "1", "b": "2"}}) == digest(
        {"l": {"b": "2", "a": "1"}, "q": Decimal("1.5")}
    )
    assert digest({"at": datetime(2025, 6, 1, 2, tzinfo=berlin)}) == digest({"at": datetime(2025, 6, 1, tzinfo=UTC)})
    assert digest({"q": Decimal("1E+2")}) == digest({"q": Decimal(100)})
    assert digest({"q": Decimal("-0")}) == digest({"q": Decimal("0.00")})
    customer = uuid4()
    assert digest({"id": customer}) == digest({"id": str(customer)})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"q": Decimal("1.5")}, {"q": Decimal("1.50000000000000000000000000001")}),
        ({"q": Decimal(1)}, {"q": None}),
        ({"q": None}, {}),
        ({"l": {"a": "1"}}, {"l": {"a": "1", "b": ""}}),
        ({"at": datetime(2025, 6, 1, tzinfo=UTC)}, {"at": datetime(2025, 6, 1, 0, 0, 0, 1, tzinfo=UTC)}),
        ({"at": NAIVE}, {"at": datetime(2025, 6, 1, tzinfo=UTC)}),
        ({"a": "b"}, {"b": "a"}),
    ],
)
def test_the_digest_tells_contents_apart(one: dict[str, object], other: dict[str, object]) -> None:
    assert digest(one) != digest(other)


def test_the_digest_of_nonsense_costs_nothing() -> None:
    """It is taken before the numbers are looked at; 1E+999999999 written out would be a gigabyte."""
    for value in ("1E+999999999", "1E-999999999", "NaN", "sNaN", "Infinity"):
        assert len(digest({"q": Decimal(value)})) == 32
    digest({"at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-23)))})


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.text(max_size=5), st.decimals(allow_nan=False)), max_size=4))
def test_the_digest_does_not_hang_on_order(sent: dict[str, object]) -> None:
    assert digest(sent) == digest(dict(reversed(sent.items())))


def test_labels_take_no_more_than_what_postgres_takes() -> None:
    labels = {f"label-{n:02}": "x" * 240 for n in range(32)}
    spelled = len(json.dumps(labels))
    assert spelled == MAX_LABELS_TEXT
    assert label_problems(labels) == []


def test_instants_in_any_zone_are_fine() -> None:
    assert instant_problem(datetime(2025, 6, 1, tzinfo=timezone(timedelta(hours=14)))) is None


def test_accounts_are_told_apart_by_holder_and_direction() -> None:
    assert accounts.accounts_of("house") & accounts.accounts_of("customer") == {
        "assets:stripe",
        "assets:bank",
        "equity:opening",
    }
    assert accounts.is_debit_normal("expenses:bad_debt")
    assert not accounts.is_debit_normal("liabilities:tax")
    assert all(account in accounts.CUSTOMER_ACCOUNTS for account in accounts.CREDITS)
    assert "usage" in KINDS
