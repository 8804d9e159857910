"""`billing usage import` as an operator meets it: exit codes, rejects, and a kill in the middle."""

import csv
import gzip
import json
import random
import time
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from ledger.checks import run_checks
from tests.usage.conftest import Billing, BillingHere

CSV = """\
at,label.app,id,customer,item,quantity,amount,labels
2026-11-03T12:00:00Z,shop,1,acme,volume,10,,
2026-11-03T13:00:00+01:00,,2,acme,volume,0.5,,"{""region"": ""fra"",
 ""app"": ""blog""}"
"""


def entries(session: Session) -> int:
    return session.scalar(text("SELECT count(*) FROM ledger_entries")) or 0


def rejects(path: Path) -> list[tuple[int, str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [(int(row["line"]), row["field"], row["code"]) for row in csv.DictReader(file)]


def test_a_clean_file_exits_0_and_a_second_run_adds_nothing(billing: Billing, session: Session, acme: str) -> None:
    (billing.folder / "u.csv").write_text(CSV)
    first = billing("usage", "import", "u.csv", "--format", "csv")
    assert (first.returncode, first.stdout, first.stderr) == (0, "2 rows, 2 posted, 0 known already, 0 refused\n", "")
    again = billing("usage", "import", "u.csv", "--format", "csv", "--json")
    assert json.loads(again.stdout) == {
        "rows": 2, "posted": 0, "replayed": 2, "refused": 0, "customers": 0, "rejects": None,
    }  # fmt: skip
    assert not (billing.folder / "u.csv.rejects.csv").exists()
    kept = session.execute(text("SELECT amount, labels, effective_at FROM ledger_entries ORDER BY seq")).all()
    assert [(row.amount, row.labels) for row in kept] == [
        (Decimal("1.5"), {"app": "shop"}),
        (Decimal("0.075"), {"region": "fra", "app": "blog"}),
    ]
    assert kept[0].effective_at == kept[1].effective_at


def test_bad_rows_are_listed_by_line_and_the_rest_is_posted(billing: Billing, session: Session, acme: str) -> None:
    bad = CSV + "".join(
        f"{line}\n"
        for line in (
            "2026-11-03T12:00:00,,4,acme,volume,1,,",  # line 5
            "2026-11-03T12:00:00Z,,5,acme,volume,lots,,",
            "2026-11-03T12:00:00Z,,6,acme,volume,1,,,,",
            '2026-11-03T12:00:00Z,,7,acme,volume,1,,"{"',
            "2026-11-03T12:00:00Z,,8,nobody,volume,1,,",
            "",
            "2026-11-03T12:00:00Z,,1,acme,volume,11,,",  # line 11: other content than line 2
            '2026-11-03T12:00:00Z,,9,"acme"x,volume,1,,',
            ",,10,acme,,,,",
            "2026-11-03T12:00:00Z,,11,acme,volume,1,,",
        )
    )
    data = bad.encode() + b"2026-11-03T12:00:00Z,,12,acme,volume\xff,1,,\n"
    (billing.folder / "u.csv").write_bytes(b"\xef\xbb\xbf" + data)
    done = billing("usage", "import", "u.csv", "--format", "csv")
    assert (done.returncode, done.stdout) == (
        1,
        "12 rows, 3 posted, 0 known already, 9 refused (listed in u.csv.rejects.csv)\n",
    )
    assert sorted(rejects(billing.folder / "u.csv.rejects.csv")) == [
        (5, "at", "no_time_zone"),
        (6, "quantity", "not_a_number"),
        (7, "row", "wrong_number_of_cells"),
        (8, "labels", "malformed_json"),
        (9, "customer", "unknown_customer"),
        (11, "id", "entry_conflict"),
        (12, "row", "malformed_csv"),
        (13, "at", "missing"),
        (13, "item", "missing"),
        (15, "row", "not_utf8"),
    ]
    assert entries(session) == 3
    (billing.folder / "u.csv").write_text(CSV)
    assert billing("usage", "import", "u.csv", "--format", "csv").returncode == 0
    assert not (billing.folder / "u.csv.rejects.csv").exists()


def test_json_lines_come_through_a_pipe(billing: Billing, session: Session, acme: str) -> None:
    good = {"id": "1", "customer": "acme", "item": "volume", "quantity": 0.1, "at": "2026-11-03T12:00:00Z"}
    lines = [
        json.dumps(good),
        "",
        json.dumps(good | {"id": "2", "quantity": "1e2", "labels": {"app": "x"}}),
        '{"id": "3", "customer": "acme", "item": "volume", "quantity": NaN, "at": "2026-11-03T12:00:00Z"}',
        '{"id": "4", "id": "5"}',
        json.dumps(good | {"id": "6", "colour": "red"}),
        json.dumps(good | {"id": 7}),
        "[" * 100_000,
        json.dumps(good | {"id": "8", "labels": {"app": 1}}),
        json.dumps(good | {"id": "9", "at": 1700000000}),
        '"text"',
    ]
    done = billing("usage", "import", "-", "--format", "jsonl", text="\n".join(lines))
    assert (done.returncode, done.stderr) == (1, "")
    assert sorted(rejects(billing.folder / "usage.rejects.csv")) == [
        (4, "event", "malformed_json"),
        (5, "event", "malformed_json"),
        (6, "colour", "unknown_field"),
        (7, "id", "not_text"),
        (8, "event", "malformed_json"),
        (9, "labels", "label_not_text"),
        (10, "at", "not_a_time"),
        (11, "event", "not_an_object"),
    ]
    assert session.scalars(text("SELECT quantity FROM ledger_entries ORDER BY seq")).all() == [
        Decimal("0.1"),
        Decimal(100),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "empty"),
        (b"id,customer,item,quantity\n", "lacks at"),
        (b"id,customer,item,at\n", "neither"),
        (b"id,customer,item,at,quantity,id\n", "twice"),
        (b"id,customer,item,at,quantity,colour\n", "'colour'"),
        ("id,customer".encode("utf-16"), "UTF-8"),
        (bytes(range(256)) * 40, "file_unusable"),
        (gzip.compress(CSV.encode(), mtime=0)[:40], "broke off"),
    ],
)
def test_an_unusable_file_exits_2_and_says_why(
    billing_here: BillingHere, acme: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (billing_here.folder / "u.csv").write_bytes(content)
    done = billing_here("usage", "import", str(billing_here.folder / "u.csv"), "--format", "csv")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_but_an_old_rejects_file_is_ever_overwritten(billing_here: BillingHere, acme: str) -> None:
    (billing_here.folder / "u.csv").write_text(CSV)
    (billing_here.folder / "letter.txt").write_text("Dear customer\n")
    for path in ("letter.txt", "u.csv"):
        done = billing_here(
            "usage",
            "import",
            str(billing_here.folder / "u.csv"),
            "--format",
            "csv",
            "--rejects",
            str(billing_here.folder / path),
        )
        assert (done.returncode, "Choose another" in done.stderr) == (2, True)
    assert (billing_here.folder / "letter.txt").read_text() == "Dear customer\n"
    assert (billing_here.folder / "u.csv").read_text() == CSV


def test_a_database_that_is_away_exits_2_without_a_traceback(billing_here: BillingHere) -> None:
    (billing_here.folder / "u.csv").write_text(CSV)
    billing_here.environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    done = billing_here("usage", "import", str(billing_here.folder / "u.csv"), "--format", "csv")
    assert done.returncode == 2
    assert "database_unavailable" in done.stderr
    assert "Traceback" not in done.stderr


def test_killed_anywhere_and_run_again_nothing_is_doubled_or_lost(
    billing: Billing, engine: Engine, session: Session
) -> None:
    """A bill of 3,000 rows over 40 new customers, killed with SIGKILL at random moments until it gets through."""
    rows, chance = 3_000, random.Random(11)
    total = Decimal(0)
    with (billing.folder / "bill.csv").open("w", encoding="utf-8") as file:
        file.write("Id,SubAccountId,BillingCurrency,BilledCost,ChargePeriodStart,ConsumedQuantity,SkuId,ProviderName\n")
        for number in range(rows):
            cost = Decimal(chance.randrange(-5, 500)).scaleb(-7)
            total += cost
            file.write(f"{number},sub-{number % 40},USD,{cost:f},2026-10-0{number % 9 + 1} 00:00:00,{number},s,p\n")
    words = ("usage", "import", "bill.csv", "--format", "focus", "--chunk", "100")
    seen: set[int] = set()
    for _ in range(5):
        process = billing.start(*words)
        before = entries(session)
        session.rollback()
        deadline = time.monotonic() + 60
        while entries(session) < min(before + 300, rows) and process.poll() is None and time.monotonic() < deadline:
            session.rollback()
            time.sleep(0.005)
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.communicate()
        session.rollback()
        seen.add(entries(session))
    assert len(seen) > 2, "it was killed at different places"
    done = billing(*words, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["posted"] + summary["replayed"], summary["refused"]) == (rows, rows, 0)
    session.rollback()
    events = text(
        "SELECT count(DISTINCT transaction_id) FROM ledger_entries"
    )  # a credit for hours used makes two entries
    assert session.scalar(events) == rows
    assert session.scalar(text("SELECT sum(amount) FROM ledger_unbilled")) == total
    assert session.scalar(text("SELECT count(*) FROM customers")) == 40
    assert all(result.holds for result in run_checks(session))
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM ledger_entries GROUP BY id HAVING count(*) > 1")) is None
