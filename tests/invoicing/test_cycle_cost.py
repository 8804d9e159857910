"""What a close costs: as much as it bills, whatever the number of entries, customers or invoices behind it."""

import time
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.cycles import CloseSummary, close_due
from ledger.posting import post
from tests.benchmarks.compile import CHARGES
from tests.factories.entries import EntryFactory
from tests.invoicing.conftest import Company, at

ITEMS = 12


def rows_read(engine: Engine) -> Counter[str]:
    """Postgres' own count, so far: rows read of each table, and "whole tables"."""
    engine.dispose()  # a connection hands in what it counted when it ends
    with engine.connect() as connection:
        for _ in range(200):
            others = connection.scalar(
                text("""
                SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()""")
            )
            if not others:
                break
            time.sleep(0.05)
        counts = connection.execute(
            text("""
            SELECT relname, coalesce(seq_scan, 0), coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)
              FROM pg_stat_user_tables""")
        ).all()
    read = Counter({table: rows for table, _, rows in counts})
    read["whole tables"] = sum(scans for _, scans, _ in counts)
    return read


def use(company: Company, customer_id: UUID, month: str, *, entries: int) -> None:
    """Charges of one day, spread over ITEMS items: as many running totals as lines."""
    charges = [
        EntryFactory.build(
            customer_id=customer_id, item=f"item-{n % ITEMS}", effective_at=at(f"{month}-10"), amount=Decimal("0.01")
        )
        for n in range(entries)
    ]
    for start in range(0, entries, 5_000):
        with Session(company.engine) as session, session.begin():
            post(session, charges[start : start + 5_000], now=at(f"{month}-10"))


def close(company: Company, day: str, *, chunk_size: int = 500, jobs: int = 1) -> CloseSummary:
    as_of = at(day) + timedelta(hours=12)
    return close_due(company.engine, as_of=as_of, settings=company.settings, chunk_size=chunk_size, jobs=jobs)


def cost_of_closing(company: Company, month: str, day: str, *, entries: int) -> tuple[Counter[str], float]:
    """Rows read and seconds taken to close acme's period with so many entries."""
    use(company, customer_id_for("acme"), month, entries=entries)
    before = rows_read(company.engine)
    began = time.perf_counter()
    assert close(company, day).drafts == 1
    taken_s = time.perf_counter() - began
    return rows_read(company.engine) - before, taken_s


def test_a_customer_with_many_entries_closes_as_fast_as_one_with_a_hundred(company: Company) -> None:
    company.customer("acme")
    few, _ = cost_of_closing(company, "2025-05", "2025-06-01", entries=100)
    many, _ = cost_of_closing(company, "2025-06", "2025-07-01", entries=5_000)
    assert many["ledger_entries"] == 0
    assert many["ledger_totals"] == few["ledger_totals"] <= 3 * ITEMS
    assert len(company.invoice("acme", "2025-06").lines) == ITEMS
    assert company.invoice("acme", "2025-06").exact_total == 50
    company.check()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_customer_with_a_million_entries_closes_as_fast_as_one_with_a_hundred(company: Company) -> None:
    company.customer("acme")
    few, few_s = cost_of_closing(company, "2025-05", "2025-06-01", entries=100)
    charges = {"ids": [customer_id_for("acme")], "start": at("2025-06-01"), "each": 10_000, "items": ITEMS}
    use(company, customer_id_for("acme"), "2025-06", entries=ITEMS)
    for _ in range(100):
        with company.engine.begin() as connection:
            connection.exec_driver_sql(CHARGES, charges)
    many, many_s = cost_of_closing(company, "2025-06", "2025-07-01", entries=100)
    assert many["ledger_entries"] == 0
    assert many["ledger_totals"] <= 2 * few["ledger_totals"], "the charges are of two days"
    assert len(company.invoice("acme", "2025-06").lines) == ITEMS
    assert many_s < 3 * few_s + 0.1


def test_a_chunk_reads_the_customers_that_it_closes_and_no_others(company: Company) -> None:
    """The tests' Postgres never gathers statistics: a database on the day after its first import is like that."""
    for number in range(40):
        use(company, company.customer(f"c{number}"), "2025-05", entries=ITEMS)
        if number % 4 == 0:
            use(company, customer_id_for(f"c{number}"), "2025-06", entries=ITEMS)
    close(company, "2025-06-01")
    before = rows_read(company.engine)
    assert close(company, "2025-07-01").drafts == 10
    rows = rows_read(company.engine) - before
    assert rows["whole tables"] == 0, rows
    assert rows["ledger_totals"] <= 10 * 3 * ITEMS
    assert rows["invoice_lines"] <= 10 * 2 * ITEMS
    assert rows["invoices"] <= 10 * 8
    company.check()


def test_chunks_closed_at_once_make_the_drafts_that_one_after_the_other_would(company: Company) -> None:
    for number in range(24):
        use(company, company.customer(f"c{number}"), "2025-05", entries=ITEMS)
    poison = customer_id_for("c7")
    with company.engine.connect() as locked:
        locked.execute(text("SELECT FROM ledger_books WHERE customer_id = :id FOR UPDATE"), {"id": poison})
        event.listen(company.engine, "begin", _impatient)
        try:
            summary = close(company, "2025-06-01", chunk_size=5, jobs=4)
        finally:
            event.remove(company.engine, "begin", _impatient)
    assert (summary.closed, summary.drafts, summary.busy, summary.parked) == (23, 23, 1, 0)
    again = close(company, "2025-06-01", chunk_size=5, jobs=4)
    assert (again.closed, again.drafts, again.busy) == (1, 1, 0)
    company.check()


def _impatient(connection: Connection) -> None:
    connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
