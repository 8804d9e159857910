"""Checks name what a superuser changed with every trigger switched off; and the command shows it to a person."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.cli import main
from invoicing.checks import CHECKS as INVOICING_CHECKS
from ledger.checks import CHECKS, MAX_OFFENDERS, run_checks
from ledger.periods import close_due
from stripe_gateway.checks import CHECKS as GATEWAY_CHECKS
from tests.factories.entries import DocumentEntryFactory, EntryFactory, reversal_of
from tests.integration.ledger.books import Ledger, at
from tests.integration.ledger.conftest import Connect


@pytest.fixture(autouse=True)
def every_check_holds_afterwards() -> None:
    """These tests tamper: the checks must not hold afterwards."""


@pytest.fixture
def forge(ledger: Ledger, acme: UUID, connect: Connect) -> Callable[[str], None]:
    """Books with some of everything; and a superuser's hand that no trigger stops."""
    taken_back = EntryFactory.build(customer_id=acme, effective_at=at("2025-06-02"))
    ledger.post(
        EntryFactory.build(customer_id=acme, effective_at=at("2025-05-03")),
        taken_back,
        reversal_of(taken_back),
        DocumentEntryFactory.build(customer_id=acme, document_id=ledger.document(acme)),
    )
    with ledger.transaction() as session:
        close_due(session, customer_ids=[acme], ended_by=at("2025-06-01"), now=at("2025-06-01"))
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-06-04")))
    ledger.post(EntryFactory.build(customer_id=acme, effective_at=at("2025-06-05")))
    superuser = connect("superuser")
    superuser.execute("SET session_replication_role = replica")

    def run(statement: str) -> None:
        assert superuser.execute(statement).rowcount > 0

    return run


TOTALS = "running totals equal the entries they sum"
GUARDS = "every guard is in place"
SEQ = "sequence numbers have no gap"
ACCOUNTS = "every entry has its books and known accounts"
PERIODS = "every charge lies in a known period, not after its end"
CLOSED = "no charge came into a period after it closed"
COUNTED = "every closing was counted"
OVERLAP = "periods do not overlap"
DOCUMENTS = "every entry about a document has that document"
OWNED = "every document has its books and its period"
REVERSALS = "every reversal mirrors one entry that is none itself"
ONCE = "no entry was reversed twice"
RECORDED = "recorded_at never runs backwards within the books"

COPY_OF_LAST = """
    INSERT INTO ledger_entries
    SELECT customer_id, gen_random_uuid(), transaction_id, seq + 1, debit_account, credit_account, amount, effective_at,
           recorded_at, period_start, usage_period_start, document_id, item, price_id, quantity, labels, kind,
           reverses_id, actor, reason, digest
      FROM ledger_entries ORDER BY seq DESC LIMIT 1"""

TAMPERING = {
    "an amount": ("UPDATE ledger_entries SET amount = amount + 0.01 WHERE seq = 1", {TOTALS}),
    "the last digit": ("UPDATE ledger_entries SET amount = amount + 1e-30 WHERE seq = 1", {TOTALS}),
    "a quantity": ("UPDATE ledger_entries SET quantity = quantity + 1 WHERE seq = 1", {TOTALS}),
    "an item": ("UPDATE ledger_entries SET item = 'gift' WHERE seq = 1", {TOTALS}),
    "a label of a total": ("UPDATE ledger_entries SET labels = '{\"app\": \"other\"}' WHERE seq = 1", {TOTALS}),
    "a day": ("UPDATE ledger_entries SET effective_at = effective_at + interval '1 day' WHERE seq = 1", {TOTALS}),
    "an account": ("UPDATE ledger_entries SET credit_account = 'income:plans' WHERE seq = 1", {TOTALS}),
    "an invented account": (
        "UPDATE ledger_entries SET credit_account = 'income:gifts' WHERE seq = 1", {TOTALS, ACCOUNTS},
    ),
    "sides swapped": (
        "UPDATE ledger_entries SET debit_account = credit_account, credit_account = debit_account WHERE seq = 1",
        {TOTALS},
    ),
    "the period of a charge": (
        "UPDATE ledger_entries SET period_start = '2025-05-01Z', usage_period_start = '2025-05-01Z' WHERE seq = 5",
        {TOTALS, PERIODS, CLOSED},
    ),
    "a charge moved back, with its total": (
        "WITH e AS (UPDATE ledger_entries SET period_start = '2025-05-01Z', usage_period_start = '2025-05-01Z', "
        "effective_at = '2025-05-05Z' WHERE seq = 5) UPDATE ledger_totals SET period_start = '2025-05-01Z', "
        "usage_period_start = '2025-05-01Z', day = '2025-05-05' WHERE day = '2025-06-04'",
        {CLOSED},
    ),
    "a deleted entry": ("DELETE FROM ledger_entries WHERE seq = 5", {TOTALS, SEQ}),
    "the deleted last entry": ("DELETE FROM ledger_entries WHERE seq = 6", {TOTALS, SEQ, RECORDED}),
    "an inserted entry": (COPY_OF_LAST, {TOTALS, SEQ}),
    "swapped order": ("UPDATE ledger_entries SET seq = CASE seq WHEN 5 THEN 60 ELSE 5 END WHERE seq IN (5, 6)",
                      {SEQ, RECORDED}),
    "a record made younger": (
        "UPDATE ledger_entries SET recorded_at = recorded_at + interval '1 year' WHERE seq = 1", {RECORDED},
    ),
    "the last record made younger": (
        "UPDATE ledger_entries SET recorded_at = recorded_at + interval '1 year' WHERE seq = 6", {RECORDED},
    ),
    "books without entries": ("DELETE FROM ledger_entries", {TOTALS, SEQ, RECORDED}),
    "entries without books": ("DELETE FROM ledger_books", {ACCOUNTS, OWNED}),
    "a document of no period": ("UPDATE ledger_documents SET period_start = '2020-01-01Z'", {OWNED}),
    "a total": ("UPDATE ledger_totals SET amount = amount + 1", {TOTALS}),
    "a deleted total": ("DELETE FROM ledger_totals WHERE day = '2025-05-03'", {TOTALS}),
    "an extra total": (
        "INSERT INTO ledger_totals SELECT customer_id, period_start, usage_period_start, document_id, debit_account, "
        "credit_account, 'gift', price_id, day, app, region, 0, 0, 1 FROM ledger_totals LIMIT 1", {TOTALS},
    ),
    "a reopened period": (
        "UPDATE ledger_periods SET state = 'open', closed_at = NULL, closed_seq = NULL WHERE state = 'closed'",
        {COUNTED},
    ),
    "a closing moved": ("UPDATE ledger_periods SET closed_seq = 99 WHERE state = 'closed'", {COUNTED}),
    "a shortened period": (
        "UPDATE ledger_periods SET end_at = '2025-06-05Z' WHERE start_at = '2025-06-01Z'", {PERIODS},
    ),
    "a deleted period": ("DELETE FROM ledger_periods WHERE state = 'closed'", {PERIODS, COUNTED}),
    "a document": ("UPDATE ledger_documents SET id = gen_random_uuid()", {DOCUMENTS}),
    "a reversal's amount, with its totals": (
        "WITH e AS (UPDATE ledger_entries SET amount = 1 WHERE reverses_id IS NOT NULL) "
        "UPDATE ledger_totals SET amount = 1 WHERE debit_account = 'income:usage'",
        {REVERSALS},
    ),
    "what a reversal takes back": (
        "UPDATE ledger_entries SET reverses_id = gen_random_uuid() WHERE reverses_id IS NOT NULL", {REVERSALS},
    ),
    "the sequence of books": ("UPDATE ledger_books SET last_seq = last_seq + 1", {SEQ, RECORDED}),
    "the last time of books": ("UPDATE ledger_books SET last_recorded_at = now() + interval '1 day'", {RECORDED}),
}  # fmt: skip


def broken(engine: Engine) -> set[str]:
    with Session(engine) as session:
        return {result.name for result in run_checks(session) if not result.holds}


def test_untouched_books_pass_every_check(forge: Callable[[str], None], engine: Engine) -> None:
    assert broken(engine) == set()


@pytest.mark.parametrize(("statement", "names"), TAMPERING.values(), ids=TAMPERING.keys())
def test_tampering_is_named(forge: Callable[[str], None], engine: Engine, statement: str, names: set[str]) -> None:
    forge(statement)
    assert broken(engine) == names


def test_overlapping_periods_and_double_reversals_are_named_even_without_their_constraints(
    forge: Callable[[str], None], engine: Engine, connect: Connect
) -> None:
    superuser = connect("superuser")
    superuser.execute("ALTER TABLE ledger_periods DROP CONSTRAINT ledger_periods_do_not_overlap")
    superuser.execute("DROP INDEX ledger_entries_reversed_once")
    forge("UPDATE ledger_periods SET end_at = '2025-06-02Z' WHERE state = 'closed'")
    forge(COPY_OF_LAST.replace("ORDER BY seq DESC", "WHERE reverses_id IS NOT NULL").replace("seq + 1", "7"))
    assert {OVERLAP, ONCE, GUARDS} <= broken(engine)


def test_every_check_can_fail() -> None:
    caught = {OVERLAP, ONCE, GUARDS}.union(*(names for _, names in TAMPERING.values()))
    assert caught == set(CHECKS)


def test_offenders_are_all_counted_and_a_few_are_shown(ledger: Ledger, acme: UUID, connect: Connect) -> None:
    ledger.post(*EntryFactory.build_batch(50, customer_id=acme))
    with connect("superuser") as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute(
            "UPDATE ledger_entries SET document_id = gen_random_uuid(), period_start = NULL, usage_period_start = NULL"
        )
    with ledger.transaction() as session:
        (result,) = run_checks(session, {DOCUMENTS: CHECKS[DOCUMENTS]})
    assert (result.count, len(result.offenders), result.holds) == (50, MAX_OFFENDERS, False)
    assert set(result.offenders[0]) == {"customer_id", "id", "document_id"}


@pytest.fixture
def billing(database_url: str, tmp_path: Any) -> Callable[..., Result]:
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STRIPE_API_KEY": "sk_test_sandbox_none",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": "whsec_none",
        "SECRET_KEY": "x" * 40,
        "BILLING_VAR": str(tmp_path / "var"),
    }

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["ledger", *words], env=environment)

    return run


def test_the_command_says_in_plain_words_that_all_is_well(
    ledger: Ledger, acme: UUID, billing: Callable[..., Result]
) -> None:
    ledger.post(EntryFactory.build(customer_id=acme))
    answer = billing("check")
    assert answer.exit_code == 0, answer.output
    assert "(books: 1, entries: 1, invoices: 0)" in answer.output
    rules = len(CHECKS) + len(INVOICING_CHECKS) + len(GATEWAY_CHECKS)
    assert f"All {rules} rules hold." in answer.output


def test_the_command_names_the_broken_rule_and_the_offender(
    forge: Callable[[str], None], billing: Callable[..., Result], acme: UUID
) -> None:
    forge("UPDATE ledger_books SET last_seq = 9")
    answer = billing("check")
    assert answer.exit_code == 1
    assert f"BROKEN  {SEQ}: 1 offender\n" in answer.output
    assert f"customer_id {acme}, last_seq 9, entries 6" in answer.output
    assert "docs/operations.md" in answer.output


def test_the_command_speaks_json(ledger: Ledger, acme: UUID, connect: Connect, billing: Callable[..., Result]) -> None:
    ledger.post(EntryFactory.build(customer_id=acme))
    assert json.loads(billing("check", "--json").stdout)["holds"] is True
    with connect("superuser") as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("UPDATE ledger_entries SET amount = 7")
    answer = billing("check", "--json")
    assert answer.exit_code == 1
    found = json.loads(answer.stdout)
    assert (found["holds"], found["entries"]) == (False, 1)
    (failed,) = [row for row in found["checks"] if not row["holds"]]
    assert (failed["room"], failed["name"], failed["count"]) == ("ledger", TOTALS, 2)
    assert {row["amount"] for row in failed["offenders"]} == {"7", "0.00288"}
    assert failed["offenders"][0]["customer_id"] == str(acme)
    assert datetime.fromisoformat(failed["offenders"][0]["period_start"]) == datetime(2025, 6, 1, tzinfo=UTC)
