"""Reports: each adds up, says the same from totals and from entries, and keeps currencies and moments apart."""

import csv
import io
from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.receivables import due_dates
from ledger.balances import balances
from ledger.reports.ageing import AGES, OpenReceivable, age_of, ageing
from ledger.reports.deferred_credits import deferred_credits
from ledger.reports.moves import Scope
from ledger.reports.revenue import revenue
from ledger.reports.trial_balance import trial_balance
from ledger.time_machine import balances_at
from tests.factories.entries import DocumentEntryFactory, EntryFactory
from tests.integration.ledger.books import Ledger
from tests.invoicing.conftest import Company, at
from tests.reports.conftest import ACME, GLOBEX, LONG_NAME, Report, grant, settle_abroad

FAR = datetime(2150, 1, 1, tzinfo=UTC)
NOW = Scope()
ALL_ENTRIES = (Scope(effective_before=FAR), Scope(known_at=FAR), Scope(effective_before=FAR, known_at=FAR))
"""What counts every entry, but has to read the entries themselves."""


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("scope", ALL_ENTRIES, ids=["by effect", "by knowledge", "both"])
def test_the_entries_say_what_the_running_totals_say(half_year: Company, scope: Scope) -> None:
    with Session(half_year.engine) as session:
        assert trial_balance(session, scope=scope) == trial_balance(session, scope=NOW)
        assert list(revenue(session, scope=scope)) == list(revenue(session, scope=NOW))
        assert list(deferred_credits(session, scope=scope)) == list(deferred_credits(session, scope=NOW))
        assert list(ageing(session, scope=scope, as_of=FAR)) == list(ageing(session, scope=NOW, as_of=FAR))


def test_debits_and_credits_are_equal_in_each_currency_and_agree_with_the_balances(half_year: Company) -> None:
    with Session(half_year.engine) as session:
        rows = trial_balance(session, scope=NOW)
        for currency, name in (("USD", ACME), ("EUR", GLOBEX)):
            mine = [row for row in rows if row.currency == currency]
            assert sum(row.debits for row in mine) == sum(row.credits for row in mine) > 0
            found = {row.account: row.balance for row in mine}
            assert found == balances(session, customer_id=customer_id_for(name))
            only = trial_balance(session, scope=Scope(customer_id=customer_id_for(name)))
            assert only == mine == trial_balance(session, scope=Scope(currency=currency))
        roots = [row.account.partition(":")[0] for row in rows if row.currency == "USD"]
        assert roots == ["assets"] * 3 + ["liabilities"] * 2 + ["income"] * 3


def test_a_trial_balance_of_a_past_moment_is_the_time_machines(half_year: Company) -> None:
    acme = customer_id_for(ACME)
    with Session(half_year.engine) as session:
        for day in ("2025-05-11", "2025-06-05", "2025-06-06", "2025-07-05"):
            rows = trial_balance(session, scope=Scope(customer_id=acme, effective_before=at(day)))
            then = balances_at(session, customer_id=acme, effective_before=at(day))
            assert {row.account: row.balance for row in rows} == then
        assert trial_balance(session, scope=Scope(customer_id=acme, effective_before=at("2025-01-01"))) == []
        assert trial_balance(session, scope=Scope(known_at=at("2025-12-31"))) == [], "all was recorded today"


def test_the_houses_books_are_part_of_the_trial_balance(ledger: Ledger, half_year: Company) -> None:
    house = ledger.open(holder="house", currency="USD")
    ledger.post(
        DocumentEntryFactory.build(
            customer_id=house,
            document_id=ledger.document(house, "payout"),
            debit_account="assets:bank",
            credit_account="assets:stripe",
            kind="payout",
        )
    )
    with Session(half_year.engine) as session:
        rows = {(row.currency, row.account): row.balance for row in trial_balance(session, scope=NOW)}
    assert rows["USD", "assets:bank"] == 5
    assert rows["USD", "assets:stripe"] == Decimal("19.31")


def test_revenue_stands_in_the_customers_own_month(half_year: Company) -> None:
    """30 April, 22:30 in UTC, is May in Berlin; 30 June, 21:59 in UTC, is still June."""
    half_year.use(GLOBEX, "2025-06-30T21:59:00", "7", item="volume")
    with Session(half_year.engine) as session:
        found = {
            (row.currency, row.month, row.account, row.item): row.amount
            for row in revenue(session, scope=Scope(currency="EUR"))
        }
    assert found["EUR", date(2025, 6, 1), "income:usage", "volume"] == 7
    assert found["EUR", date(2025, 5, 1), "income:usage", "machine:performance-16x"] == Decimal("1234.5678901")


def test_late_usage_is_revenue_of_the_month_in_which_it_was_used(half_year: Company) -> None:
    half_year.use(ACME, "2025-05-20", "3", item="late")
    with Session(half_year.engine) as session:
        (row,) = [row for row in revenue(session, scope=NOW) if row.item == "late"]
    assert (row.month, row.amount, row.quantity, row.entries) == (date(2025, 5, 1), Decimal(3), Decimal(1), 1)


def test_revenue_adds_up_to_the_income_accounts_and_can_be_cut_by_month(half_year: Company) -> None:
    with Session(half_year.engine) as session:
        everything = list(revenue(session, scope=NOW))
        income = {
            (row.currency, row.account): row.balance
            for row in trial_balance(session, scope=NOW)
            if row.account.startswith("income:")
        }
        found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for row in everything:
            found[row.currency, row.account] += row.amount
        assert found == income
        june = date(2025, 6, 1)
        cut = list(revenue(session, scope=NOW, first_month=june, last_month=june))
        assert cut == [row for row in everything if row.month == june]
        assert len(cut) > 3


def test_a_negative_charge_takes_revenue_and_quantity_back(half_year: Company) -> None:
    with Session(half_year.engine) as session:
        rows = revenue(session, scope=Scope(currency="USD"), first_month=date(2025, 6, 1), last_month=date(2025, 6, 1))
        (row,) = [row for row in rows if row.item == "volume"]
    assert [row.amount, row.quantity] == [Decimal("-1.25"), Decimal(-1)]


def test_credits_are_what_each_customer_still_holds(half_year: Company) -> None:
    """acme's credit of 10 was used up in June, but 2 were paid too much; another 5 were granted since."""
    with Session(half_year.engine) as session:
        assert [(row.account, row.amount) for row in deferred_credits(session, scope=NOW)] == [
            ("liabilities:unapplied", Decimal(2))
        ]
    grant(half_year, ACME, "5", on="2025-07-10", number=2)
    with Session(half_year.engine) as session:
        held = [(row.account, row.amount) for row in deferred_credits(session, scope=NOW)]
        assert held == [("liabilities:credits:promotional", Decimal(5)), ("liabilities:unapplied", Decimal(2))]
        before = Scope(effective_before=at("2025-07-01"))
        held = [(row.account, row.amount) for row in deferred_credits(session, scope=before)]
        assert held == [("liabilities:credits:promotional", Decimal(10)), ("liabilities:unapplied", Decimal(2))]


def open_receivables(engine: Engine, scope: Scope, as_of: str) -> list[OpenReceivable]:
    with Session(engine) as session:
        return list(ageing(session, scope=scope, as_of=at(as_of), due=due_dates()))


def test_an_open_invoice_ages_from_its_due_date(half_year: Company) -> None:
    """Final on 5 July: acme, charged automatically, owes at once; globex, who is sent invoices, 30 days later."""
    rows = open_receivables(half_year.engine, NOW, "2025-08-06")
    assert [(row.due, row.days_overdue, row.age, row.amount) for row in rows] == [
        (date(2025, 7, 5), 31, "31-60", Decimal(300)),
        (date(2025, 7, 5), 31, "31-60", Decimal("1234.57")),
        (date(2025, 8, 4), 1, "1-30", Decimal("88.25")),
        (date(2025, 7, 5), 31, "31-60", Decimal("30.25")),
    ]
    assert all(row.number for row in rows)
    assert [row.since for row in rows] == [date(2025, 6, 5), date(2025, 6, 5), date(2025, 7, 5), date(2025, 7, 5)]


def test_a_paid_invoice_is_still_open_in_a_report_from_before_it_was_paid(half_year: Company) -> None:
    scope = Scope(customer_id=customer_id_for(ACME), effective_before=at("2025-06-07"))
    (row,) = open_receivables(half_year.engine, scope, "2025-06-07")
    assert (row.amount, row.days_overdue, row.age) == (Decimal("22.31"), 1, "1-30")
    after = Scope(customer_id=customer_id_for(ACME), effective_before=at("2025-06-08"))
    assert open_receivables(half_year.engine, after, "2025-06-08") == []


def test_without_due_dates_a_receivable_ages_from_the_day_on_which_it_arose(ledger: Ledger, half_year: Company) -> None:
    """
    2025-01-15  -10  paid before it was due
    2025-01-31  +70  an opening balance, about no document
    2025-03-31   +5
    """
    old = ledger.open(currency="CHF")
    for day, amount, debit, credit in (
        ("2025-01-15", 10, "equity:opening", "assets:receivable"),
        ("2025-01-31", 70, "assets:receivable", "equity:opening"),
        ("2025-03-31", 5, "assets:receivable", "equity:opening"),
    ):
        ledger.post(
            EntryFactory.build(
                customer_id=old,
                debit_account=debit,
                credit_account=credit,
                kind="opening",
                amount=Decimal(amount),
                effective_at=at(day),
            )
        )
    with Session(half_year.engine) as session:
        (row,) = ageing(session, scope=Scope(currency="CHF"), as_of=at("2025-05-02"))
    assert row.amount == 65
    assert (row.document_id, row.number) == (None, None)
    assert (row.since, row.due, row.age) == (date(2025, 1, 31), date(2025, 1, 31), "61-90")


@pytest.mark.parametrize(
    ("days", "age"),
    [(-30, 0), (0, 0), (1, 1), (30, 1), (31, 2), (60, 2), (61, 3), (90, 3), (91, 4), (4000, 4)],
)
def test_both_ends_of_an_age_belong_to_it(days: int, age: int) -> None:
    assert age_of(days) == AGES[age]


def test_a_table_gives_a_total_for_each_currency_and_none_across_them(half_year: Company, report: Report) -> None:
    totals = [line.split() for line in report("trial-balance").splitlines() if "total" in line]
    assert totals == [["EUR", "total", "3,245.64", "3,245.64"], ["USD", "total", "171.9322008", "171.9322008"]]
    by_month = [line.split() for line in report("revenue", "--currency", "USD").splitlines() if "total" in line]
    assert [words[1:] for words in by_month] == [
        ["2025-05", "total", "22.3111"],
        ["2025-06", "total", "30.2489"],
        ["2025-07", "total", "0.0000008"],
        ["total", "52.5600008"],
    ]
    ages = [
        line.split()[2:] for line in report("ageing", "--as-of", "2025-08-06T00:00Z").splitlines() if "total" in line
    ]
    assert ages[:6] == [
        ["current", "0"], ["1-30", "88.25"], ["31-60", "1,534.57"], ["61-90", "0"], ["90+", "0"], ["all", "1,622.82"],
    ]  # fmt: skip


def test_a_statement_on_the_terminal_leads_from_opening_to_closing(half_year: Company, report: Report) -> None:
    text = report("statement", "--customer", ACME, "--account", "assets:receivable", "--since", "2025-06-06T00:00Z")
    shown = [line.split() for line in text.splitlines()]
    assert shown[0] == ["assets:receivable", "in", "USD,", "acme-7,", "since", "2025-06-06", "00:00", "UTC"]
    assert shown[4] == ["opening", "22.31"]
    assert shown[5] == ["5", "2025-06-07", "00:00", "cash", "assets:stripe", "22.31", "0"]
    assert shown[-1] == ["closing", "40.25", "32.31", "30.25"]


def test_a_table_fits_a_terminal_and_says_what_it_cut(half_year: Company, report: Report) -> None:
    text = report("ageing", "--as-of", "2025-08-06T00:00Z")
    assert max(map(len, text.splitlines())) <= 100
    assert LONG_NAME not in text
    assert LONG_NAME[:20] in text
    assert "…" in text
    assert LONG_NAME in report("ageing", "--format", "csv")


def test_csv_has_every_digit_and_no_totals(half_year: Company, report: Report) -> None:
    rows = rows_of(report("revenue", "--format", "csv"))
    assert {row["amount"] for row in rows} >= {"1234.5678901", "0.0000008", "-1.25"}
    assert not any("total" in row.values() for row in rows)
    assert {
        row["days_overdue"] for row in rows_of(report("ageing", "--as-of", "2025-07-10T00:00Z", "--format", "csv"))
    } == {
        "4",
        "-26",
    }
    statement = rows_of(report("statement", "--customer", ACME, "--account", "assets:unbilled", "--format", "csv"))
    assert [row["balance"] for row in statement][:2] == ["20.7361", "22.3111"]
    assert {row["account"] for row in statement} == {"assets:unbilled"}


def test_no_report_lets_a_name_run_as_a_formula(half_year: Company, report: Report) -> None:
    half_year.customer("=cmd|'/c calc'!A1")
    grant(half_year, "=cmd|'/c calc'!A1", "1", on="2025-07-10")
    half_year.use(ACME, "2025-07-02", "1", item="@SUM(1)")
    (row,) = [row for row in rows_of(report("deferred-credits", "--format", "csv")) if row["amount"] == "1"]
    assert not row["external_id"].startswith("=")
    assert not row["name"].startswith("=")
    assert all(not row["item"].startswith("@") for row in rows_of(report("revenue", "--format", "csv")))


def test_a_report_of_an_empty_company_is_empty(report: Report) -> None:
    for name in ("trial-balance", "revenue", "deferred-credits", "ageing"):
        assert rows_of(report(name, "--format", "csv")) == []
        assert "currency" in report(name)


def test_a_report_takes_our_id_as_well(half_year: Company, report: Report, ledger: Ledger) -> None:
    ours = str(customer_id_for(ACME))
    mine = rows_of(report("trial-balance", "--customer", ours, "--format", "csv"))
    assert mine == rows_of(report("trial-balance", "--customer", ACME, "--format", "csv"))
    house: UUID = ledger.open(holder="house")
    assert rows_of(report("trial-balance", "--customer", str(house), "--format", "csv")) == []


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trial-balance", "--customer", "nobody"], "unknown_customer"),
        (["trial-balance", "--customer", str(UUID(int=7))], "unknown_customer"),
        (["trial-balance", "--currency", "usd"], "unknown_currency"),
        (["statement", "--customer", ACME, "--account", "assets:gold"], "unknown_account"),
        (["statement", "--customer", ACME], "--account"),
        (["ageing", "--as-of", "2025-08-06"], "has no zone"),
        (["ageing", "--known-at", "2150-01-01T00:00Z"], "in the future"),
        (["revenue", "--from", "2025"], "no month"),
        (["revenue", "--output", "/nowhere/at/all.csv"], "no folder"),
    ],
)
def test_a_wrong_question_is_refused_by_name(half_year: Company, report: Report, words: list[str], reason: str) -> None:
    assert reason in report(*words, status=2)


def test_a_report_of_books_that_do_not_exist_is_empty(session: Session) -> None:
    nobody = Scope(customer_id=uuid4())
    assert trial_balance(session, scope=nobody) == []
    assert list(revenue(session, scope=nobody)) == []
    assert list(ageing(session, scope=nobody, as_of=FAR)) == []


def test_what_two_rates_cost_is_named_between_the_two_currencies(half_year: Company, report: Report) -> None:
    """2 of the 24.31 came as 22.37/24.31 each, 1.84, and went as 1.90: 0.06 are lost, whoever asks and when."""
    settle_abroad(half_year)
    shown = [line.split(",") for line in report("exchange", "--format", "csv").splitlines()[1:]]
    assert shown == [
        ["USD", "EUR", "came in", "1", "24.31", "22.37", "0.95", "0"],
        ["USD", "EUR", "went back", "1", "-2", "-1.9", "0", "-0.06"],
    ]
    assert report("exchange", "--format", "csv", "--as-of", "2025-07-21T00:00:00Z").count("\n") == 2
    assert report("exchange", "--format", "csv", "--customer", GLOBEX).count("\n") == 1
    for currency, lines in (("USD", 3), ("EUR", 3), ("GBP", 1)):
        assert report("exchange", "--format", "csv", "--currency", currency).count("\n") == lines
    held = {
        cells[1]: (cells[0], cells[4])
        for cells in (line.split(",") for line in report("trial-balance", "--format", "csv").splitlines())
        if cells[1] == "income:exchange" and cells[0] == "EUR"
    }
    assert held == {"income:exchange": ("EUR", "20.47")}
