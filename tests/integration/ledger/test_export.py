"""Exports: Beancount and hledger accept them, and agree with us on every balance to the last digit."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest
from beancount import loader
from beancount.core import data
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from app.cli import main
from invoicing.tables import Customer
from ledger import accounts
from ledger.balances import balances
from ledger.export import FORMATS, UnknownFormat, export_journal
from ledger.export_names import account_name
from ledger.money import EXACT
from ledger.tables import Books
from tests.factories.customers import CustomerFactory
from tests.factories.entries import DocumentEntryFactory, EntryFactory, reversal_of
from tests.integration.ledger.books import Ledger, at

HLEDGER = shutil.which("hledger")
needs_hledger = pytest.mark.skipif(
    HLEDGER is None, reason="HLEDGER IS MISSING: its export is NOT tested here. apt-get install hledger"
)

HOSTILE = (
    'quo"te', "back\\slash", "new\nline", "tab\tbed", "bell\x07", "semi;colon", "a:b,c|d", "[2025-13-99]",
    "date:2025-99",
    "{braces}", "(code) ! *", "100%", "🚀 emoji", "עברית", "\u2028line", "\u202eltr", "\ufeffbom", "zero\u200dwidth",
    "  spaces  ", "=cmd()", "@sum", "; comment", "~ monthly", "include /etc/passwd", "option \"x\"", "\\u0041", "%41",
    "end comment", "nul-free", "e\u0301", "'", "#tag ^link",
)  # fmt: skip


def export(engine: Engine, output_format: str) -> str:
    frozen = engine.execution_options(isolation_level="REPEATABLE READ")
    names = select(Customer.customer_id, Customer.external_id, Customer.name).subquery()
    with Session(frozen) as session:
        return "".join(export_journal(session, output_format=output_format, names=names))


def our_balances(engine: Engine) -> dict[tuple[str, str], Decimal]:
    """Debits minus credits by the tool's account name and currency; balances of 0 left out."""
    found: dict[tuple[str, str], Decimal] = {}
    with Session(engine) as session:
        for customer_id, currency in session.execute(select(Books.customer_id, Books.currency)):
            for code, amount in balances(session, customer_id=customer_id).items():
                signed = amount if accounts.is_debit_normal(code) else -amount
                if signed:
                    found[account_name(code, customer_id), currency] = signed
    return found


def beancount_balances(journal: str) -> dict[tuple[str, str], Decimal]:
    """What Beancount's own loader makes of it, at the precision that it has at home; added up exactly."""
    with localcontext(Context(prec=28)):
        directives, errors, _ = loader.load_string(journal)
    assert errors == []
    found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    with localcontext(EXACT):
        for directive in directives:
            if isinstance(directive, data.Transaction):
                for posting in directive.postings:
                    assert posting.units is not None
                    assert posting.units.number is not None
                    found[posting.account, posting.units.currency] += posting.units.number
    return {key: amount for key, amount in found.items() if amount}


def hledger(*words: str, journal: str) -> str:
    assert HLEDGER is not None
    done = subprocess.run(
        [HLEDGER, "-f", "-", *words],
        input=journal, capture_output=True, encoding="utf-8", check=False, env={"LANG": "C.UTF-8"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def hledger_balances(journal: str) -> dict[tuple[str, str], Decimal]:
    rows = csv.DictReader(io.StringIO(hledger("balance", "--flat", "-O", "csv", journal=journal)))
    found: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        for amount in filter(None, row["balance"].split(", ")):
            number, currency = amount.split(" ") if amount != "0" else ("0", "")
            if row["account"] not in ("total", "Total:") and Decimal(number):
                found[row["account"], currency] = Decimal(number)
    return found


@pytest.fixture
def company(ledger: Ledger) -> Ledger:
    """Customers in three currencies, and the house; usage, credits, free usage, documents, reversals; odd names."""
    with ledger.transaction() as session:
        made = [
            CustomerFactory.create(session=session, currency=currency, name=name)
            for currency, name in (
                ("USD", 'Quote " & \\ GmbH; "GmbH"'),
                ("EUR", "Ünïcode 🚀, Inc."),
                ("JPY", "=HYPERLINK()"),
            )
        ]
    for number, customer in enumerate(made):
        customer_id = customer.customer_id
        document = ledger.document(customer_id)
        taken_back = EntryFactory.build(customer_id=customer_id, amount=Decimal("3.3333333333"))
        ledger.post(
            EntryFactory.build(customer_id=customer_id, amount=Decimal("0.0000008") * (number + 1)),
            EntryFactory.build(
                customer_id=customer_id, amount=Decimal("123456789012345.123456789012345678901234567891")
            ),
            EntryFactory.build(
                customer_id=customer_id, amount=Decimal(0), effective_at=at("2025-06-10T23:59:59.999999")
            ),
            EntryFactory.build(
                customer_id=customer_id,
                debit_account="income:usage",
                credit_account="assets:unbilled",
                amount=Decimal("17.25"),
            ),
            taken_back,
            reversal_of(taken_back),
            DocumentEntryFactory.build(customer_id=customer_id, document_id=document),
            DocumentEntryFactory.build(
                customer_id=customer_id,
                document_id=document,
                debit_account="assets:stripe",
                credit_account="liabilities:unapplied",
                kind="cash",
                amount=Decimal("99.99"),
            ),
        )
    house = ledger.open(holder="house")
    ledger.post(
        EntryFactory.build(
            customer_id=house,
            debit_account="assets:bank",
            credit_account="assets:stripe",
            kind="payout",
            item=None,
            quantity=None,
            labels={},
            amount=Decimal("299.97"),
        )
    )
    return ledger


def test_beancount_accepts_the_journal_and_agrees_on_every_balance(company: Ledger, tmp_path: Path) -> None:
    journal = export(company.engine, "beancount")
    assert beancount_balances(journal) == our_balances(company.engine)
    file = tmp_path / "journal.beancount"
    file.write_text(journal, encoding="utf-8")
    bean_check = Path(sys.executable).with_name("bean-check")
    done = subprocess.run([bean_check, file], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@needs_hledger
def test_hledger_accepts_the_journal_and_agrees_on_every_balance(company: Ledger) -> None:
    journal = export(company.engine, "hledger")
    assert hledger_balances(journal) == our_balances(company.engine)
    hledger("check", "--strict", journal=journal)


def test_csv_holds_every_entry_in_full(company: Ledger) -> None:
    rows = list(csv.DictReader(io.StringIO(export(company.engine, "csv"))))
    found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    with localcontext(EXACT):
        for row in rows:
            customer = UUID(row["customer_id"])
            found[account_name(row["debit_account"], customer), row["currency"]] += Decimal(row["amount"])
            found[account_name(row["credit_account"], customer), row["currency"]] -= Decimal(row["amount"])
    assert {key: amount for key, amount in found.items() if amount} == our_balances(company.engine)
    assert [row["seq"] for row in rows if row["currency"] == "EUR"] == [str(seq) for seq in range(1, 9)]
    assert all(len(row["digest"]) == 64 for row in rows)


def test_an_entry_can_be_found_again_in_beancount(company: Ledger) -> None:
    directives, _, _ = loader.load_string(export(company.engine, "beancount"))
    transactions = [directive for directive in directives if isinstance(directive, data.Transaction)]
    one = next(transaction for transaction in transactions if transaction.meta["kind"] == "usage")
    assert one.date.isoformat() == "2025-06-10"
    assert one.narration == "machine:shared-cpu-1x"
    assert json.loads(one.meta["labels"]) == {"app": "web", "region": "ams"}
    assert one.meta["quantity"] == 3600
    assert one.links == {one.meta["transaction"]}
    UUID(one.meta["entry"])
    opened = [directive for directive in directives if isinstance(directive, data.Open)]
    names = {directive.meta.get("name") for directive in opened}
    assert 'Quote " & \\ GmbH; "GmbH"' in names
    assert all(directive.currencies for directive in opened)


@pytest.mark.parametrize("output_format", list(FORMATS))
def test_an_empty_journal_is_exported_too(ledger: Ledger, output_format: str) -> None:
    journal = export(ledger.engine, output_format)
    if output_format == "beancount":
        assert beancount_balances(journal) == {}
    elif output_format == "hledger" and HLEDGER is not None:
        assert hledger_balances(journal) == {}
    else:
        assert journal.count("\n") <= 4


def test_the_ledger_alone_exports_without_names(company: Ledger) -> None:
    with company.transaction() as session:
        assert beancount_balances("".join(export_journal(session, output_format="beancount")))
    with company.transaction() as session, pytest.raises(UnknownFormat, match="beancount, hledger, csv"):
        export_journal(session, output_format="excel")


def hostile_entries(customer_id: UUID, texts: list[str]) -> list[Any]:
    entries = []
    for number, hostile in enumerate(texts):
        item = "".join(character for character in hostile if character.isprintable())[:200] or None
        entries.append(
            EntryFactory.build(
                customer_id=customer_id,
                item=item,
                reason=hostile,
                actor=hostile[:200] or "nobody",
                labels={"app": hostile[:200], f"n{number}": hostile[:500]},
                amount=Decimal(number),
            )
        )
    return entries


def test_hostile_texts_neither_break_an_export_nor_get_lost(ledger: Ledger, acme: UUID) -> None:
    ledger.post(*hostile_entries(acme, list(HOSTILE)))
    expected = our_balances(ledger.engine)
    journal = export(ledger.engine, "beancount")
    assert beancount_balances(journal) == expected
    directives, _, _ = loader.load_string(journal)
    kept = [directive for directive in directives if isinstance(directive, data.Transaction)]
    assert {json.loads(one.meta["labels"])["app"] for one in kept} == set(HOSTILE)
    rows = list(csv.DictReader(io.StringIO(export(ledger.engine, "csv"), newline="")))
    assert {json.loads(row["labels"])["app"] for row in rows} == set(HOSTILE)


@needs_hledger
def test_hledger_reads_hostile_texts_as_they_were(ledger: Ledger, acme: UUID) -> None:
    entries = hostile_entries(acme, list(HOSTILE))
    ledger.post(*entries)
    journal = export(ledger.engine, "hledger")
    assert hledger_balances(journal) == our_balances(ledger.engine)
    descriptions = hledger("descriptions", journal=journal).splitlines()
    assert {unquote(text).strip() for text in descriptions} == {(entry.item or "usage").strip() for entry in entries}
    reasons = hledger("tags", "^reason$", "--values", journal=journal).splitlines()
    assert {unquote(text).strip() for text in reasons} == {text.strip() for text in HOSTILE}


texts = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
        st.sampled_from('"\\\n\r\t;:,|[]{}()*!%#^=@ '),
    ),
    max_size=12,
)
amounts = st.one_of(
    st.decimals(min_value=0, max_value=10**6, places=9),
    st.decimals(min_value=0, max_value=Decimal("999999999999999"), places=30),
    st.sampled_from([Decimal(0), Decimal("1E-30"), Decimal("999999999999999.999999999999999999999999999999")]),
)
seconds = st.integers(0, 365 * 86_400)


def test_whatever_is_posted_can_be_exported(engine: Engine, ledger: Ledger) -> None:
    """Names, labels and amounts by Hypothesis; all examples go into one growing journal of several customers."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(texts, amounts, seconds, st.booleans()), min_size=1, max_size=8))
    def post_and_export(events: list[tuple[str, Decimal, int, bool]]) -> None:
        customer_id = ledger.open(currency="KWD", time_zone="Pacific/Apia", anchor_day=31)
        entries = hostile_entries(customer_id, [hostile for hostile, _, _, _ in events])
        for entry, (_, amount, second, negative) in zip(entries, events, strict=True):
            sides = ("income:usage", "assets:unbilled") if negative else ("assets:unbilled", "income:usage")
            ledger.post(
                EntryFactory.build(
                    customer_id=customer_id,
                    item=entry.item,
                    reason=entry.reason,
                    actor=entry.actor,
                    labels=entry.labels,
                    amount=amount,
                    effective_at=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=second),
                    debit_account=sides[0],
                    credit_account=sides[1],
                )
            )
        expected = our_balances(engine)
        assert beancount_balances(export(engine, "beancount")) == expected
        if HLEDGER is not None:
            assert hledger_balances(export(engine, "hledger")) == expected

    post_and_export()


def test_memory_stays_small_however_long_the_journal_is(ledger: Ledger, acme: UUID) -> None:
    """The first pieces arrive after one fetch, and no row is kept by the session."""
    for _ in range(3):
        ledger.post(*EntryFactory.build_batch(2_000, customer_id=acme))
    with Session(ledger.engine) as session:
        pieces = export_journal(session, output_format="csv")
        for _ in range(100):
            next(pieces)
        cursors = session.connection().exec_driver_sql("SELECT count(*) FROM pg_cursors WHERE NOT is_holdable").scalar()
        assert cursors
        assert sum(1 for _ in pieces) > 5_000
        assert not session.identity_map


def test_the_command_writes_to_a_file_or_to_standard_output(
    company: Ledger, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "all.beancount"
    answer = CliRunner().invoke(
        main, ["ledger", "export", "--format", "beancount", "--output", str(file)], env=environment
    )
    assert answer.exit_code == 0, answer.output
    assert file.read_text(encoding="utf-8") == export(company.engine, "beancount")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["all.beancount"]
    answer = CliRunner().invoke(main, ["ledger", "export", "--format", "csv"], env=environment)
    assert answer.stdout_bytes.decode() == export(company.engine, "csv")


def test_a_file_is_not_replaced_by_half_an_export(company: Ledger, environment: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    file.write_text("the export of yesterday")
    command = ["ledger", "export", "--format", "csv", "--output", str(file)]
    gone = environment | {"DATABASE_URL": environment["DATABASE_URL"] + "_gone"}
    assert CliRunner().invoke(main, command, env=gone).exit_code != 0
    assert file.read_text() == "the export of yesterday"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["all.csv"]
    nowhere = [*command[:-1], str(tmp_path / "none" / "all.csv")]
    answer = CliRunner().invoke(main, nowhere, env=environment)
    assert answer.exit_code == 2
    assert "is no folder" in answer.output
