"""The FOCUS importer on the real sample: every row, every digit, once."""

import csv
import os
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from invoicing.usage.files import read_lines
from invoicing.usage.focus import SOURCE, read_focus
from invoicing.usage.importing import ImportSummary, import_usage
from invoicing.usage.intake import RowProblem
from ledger.checks import run_checks

NOW = datetime(2026, 11, 20, tzinfo=UTC)
SAMPLES = Path(os.environ.get("FOCUS_SAMPLES", Path(__file__).parents[3] / "shared" / "data"))
SAMPLE = SAMPLES / "focus_sample.csv"
"""The FinOps Foundation's sample file, where it stands beside the repository or FOCUS_SAMPLES names its folder.
Source: https://github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS-Sample-Data"""

COLUMNS = (
    "Id", "ProviderName", "BillingAccountId", "SubAccountId", "SubAccountName", "BillingCurrency", "BilledCost",
    "ChargeCategory", "ChargeDescription", "ChargePeriodStart", "BillingPeriodStart", "ConsumedQuantity",
    "ConsumedUnit", "ServiceName", "SkuId", "RegionId", "ResourceId", "Tags",
)  # fmt: skip
ROW = {
    "Id": "1",
    "ProviderName": "Acme",
    "BillingAccountId": "77",
    "SubAccountId": "sub-1",
    "SubAccountName": "First",
    "BillingCurrency": "USD",
    "BilledCost": "0.10",
    "ChargeCategory": "Usage",
    "ChargeDescription": "Requests",
    "ChargePeriodStart": "2024-09-18 22:00:00",
    "BillingPeriodStart": "2024-09-01 00:00:00",
    "ConsumedQuantity": "2",
    "ConsumedUnit": "Requests",
    "ServiceName": "Queue",
    "SkuId": "SKU1",
    "RegionId": "eu-1",
    "ResourceId": "queue/1",
    "Tags": '{"application": "Shop"}',
}


class Imported:
    """An import's summary, and the problems of its bad rows."""

    def __init__(self, engine: Engine, path: Path, *, chunk_size: int = 1000) -> None:
        self.problems: list[RowProblem] = []
        with path.open("rb") as stream:
            self.summary = import_usage(
                engine,
                read_focus(read_lines(stream)),
                source=SOURCE,
                actor="test",
                now=NOW,
                reject=self.problems.extend,
                progress=lambda _: None,
                chunk_size=chunk_size,
            )

    @property
    def reasons(self) -> list[tuple[int, str, str]]:
        return [(problem.row, problem.field, problem.code) for problem in self.problems]


def write(path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS, encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def all_hold(session: Session) -> bool:
    return all(result.holds for result in run_checks(session))


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"{SAMPLE} is not there")
def test_every_row_of_the_sample_is_posted_to_the_last_digit_and_only_once(engine: Engine, session: Session) -> None:
    first = Imported(engine, SAMPLE)
    assert first.summary == ImportSummary(rows=1000, posted=1000, customers=73)
    assert first.problems == []
    again = Imported(engine, SAMPLE, chunk_size=77)
    assert again.summary == ImportSummary(rows=1000, replayed=1000)

    rows = session.execute(
        text("""
        SELECT c.external_id, sum(CASE WHEN e.debit_account = 'assets:unbilled' THEN e.amount ELSE -e.amount END),
               count(*), count(*) FILTER (WHERE e.amount = 0),
               count(*) FILTER (WHERE e.credit_account <> 'income:usage')
          FROM ledger_entries e JOIN customers c USING (customer_id) GROUP BY 1""")
    ).all()
    assert sum(row[1] for row in rows) == Decimal("20.52022672899")
    assert (sum(row[2] for row in rows), sum(row[3] for row in rows), sum(row[4] for row in rows)) == (1000, 329, 13)
    expected: Counter[str] = Counter()
    with SAMPLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            expected[row["SubAccountId"]] += Decimal(row["BilledCost"])  # type: ignore[assignment] # Decimals add up too
    assert {row[0]: row[1] for row in rows} == dict(expected)
    assert all_hold(session)


def entries(session: Session) -> list[dict[str, object]]:
    rows = session.execute(text("SELECT * FROM ledger_entries ORDER BY recorded_at, seq")).mappings()
    return [dict(row) for row in rows]


def test_a_row_becomes_an_entry_with_its_item_and_labels(engine: Engine, session: Session, tmp_path: Path) -> None:
    assert Imported(engine, write(tmp_path / "f.csv", ROW)).summary.posted == 1
    (entry,) = entries(session)
    assert (entry["debit_account"], entry["credit_account"], entry["kind"]) == (
        "assets:unbilled",
        "income:usage",
        "usage",
    )
    assert (entry["amount"], entry["quantity"], entry["item"]) == (Decimal("0.1"), Decimal(2), "Acme:SKU1")
    assert entry["effective_at"] == datetime(2024, 9, 18, 22, tzinfo=UTC)
    assert entry["labels"] == {
        "service": "Queue",
        "region": "eu-1",
        "resource": "queue/1",
        "billing_period": "2024-09",
        "app": "Shop",
    }
    assert session.execute(text("SELECT code, name, unit FROM items")).all() == [("Acme:SKU1", "Requests", "Requests")]
    assert session.execute(text("SELECT external_id, name FROM customers")).all() == [("sub-1", "First")]


def test_nulls_zones_and_odd_numbers_are_read_as_they_are_meant(
    engine: Engine, session: Session, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "f.csv",
        ROW | {"Id": "a", "BilledCost": "-4.0000E-7", "ConsumedQuantity": "-0.0001", "Tags": "NULL"},
        ROW | {"Id": "b", "BilledCost": "-2.5", "ConsumedQuantity": "NULL", "ChargeCategory": "Credit", "Tags": ""},
        ROW | {"Id": "c", "BilledCost": "0", "ConsumedQuantity": "", "Tags": "{not json"},
        ROW | {"Id": "d", "ChargePeriodStart": "2024-09-19T00:00:00+02:00", "Tags": '{"application": 7}'},
        ROW | {"Id": "e", "ConsumedQuantity": "1.2345678901234567E-05", "RegionId": "NULL", "SkuId": ""},
        encoding="utf-8-sig",
    )
    assert Imported(engine, path).reasons == []
    tiny, credit, free, zoned, unnamed = entries(session)
    assert (tiny["debit_account"], tiny["amount"], tiny["quantity"]) == (
        "income:usage",
        Decimal("0.0000004"),
        Decimal("0.0001"),
    )
    assert (credit["debit_account"], credit["quantity"], credit["item"]) == ("income:usage", None, "Acme:SKU1:credit")
    assert (free["amount"], free["quantity"]) == (Decimal(0), Decimal(0))
    assert zoned["effective_at"] == datetime(2024, 9, 18, 22, tzinfo=UTC)
    assert (unnamed["quantity"], unnamed["item"]) == (Decimal("0.000012345678901235"), "Acme:Queue")
    for entry in (credit, free, zoned):
        assert "app" not in entry["labels"]  # type: ignore[operator] # a dict, read as an object


def test_rows_that_cannot_be_understood_are_named_and_the_rest_is_posted(
    engine: Engine, session: Session, tmp_path: Path
) -> None:
    path = write(
        tmp_path / "f.csv",
        ROW | {"Id": "1", "ChargeDescription": "two\nlines"},
        ROW | {"Id": "2", "BilledCost": "a lot"},
        ROW | {"Id": "3", "BilledCost": "NaN", "ChargePeriodStart": "yesterday"},
        ROW | {"Id": "4", "BilledCost": "NULL"},
        ROW | {"Id": "5", "BillingCurrency": "EUR"},
        ROW | {"Id": "6", "SubAccountId": "NULL"},
        ROW | {"Id": "7", "ChargePeriodStart": "2099-01-01 00:00:00"},
        ROW | {"Id": "8", "BilledCost": "1e15"},
        ROW | {"Id": "9", "SubAccountId": "sub-2", "BillingCurrency": "XXX"},
        ROW | {"Id": "10", "BilledCost": "0.1234567890123456789012345678901"},
        ROW | {"Id": "1", "BilledCost": "9"},
        ROW | {"Id": "11"},
    )
    imported = Imported(engine, path)
    assert sorted(imported.reasons) == [
        (4, "BilledCost", "not_a_number"),
        (5, "BilledCost", "not_finite"),
        (5, "ChargePeriodStart", "not_a_time"),
        (6, "BilledCost", "missing"),
        (7, "BillingCurrency", "currency_mismatch"),
        (8, "SubAccountId", "missing"),
        (9, "ChargePeriodStart", "in_the_future"),
        (10, "BilledCost", "too_large"),
        (11, "BillingCurrency", "unknown_currency"),
        (12, "BilledCost", "too_many_decimals"),
        (13, "Id", "entry_conflict"),
    ]
    assert imported.summary == ImportSummary(rows=12, posted=2, refused=10, customers=1)
    assert len(entries(session)) == 2
    assert all_hold(session)


def test_without_ids_equal_rows_count_each_and_a_second_import_adds_nothing(
    engine: Engine, session: Session, tmp_path: Path
) -> None:
    columns = tuple(name for name in reversed(COLUMNS) if name not in ("Id", "Tags", "SkuId", "BillingAccountId"))
    path = write(tmp_path / "f.csv", ROW, ROW, ROW | {"BilledCost": "0.2"}, columns=columns)
    assert Imported(engine, path).summary.posted == 3
    assert Imported(engine, path, chunk_size=1).summary == ImportSummary(rows=3, replayed=3)
    assert len(entries(session)) == 3
