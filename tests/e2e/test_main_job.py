"""The main job on real bills: import, close, finalize, sync, paid; twice, and judged by a script of ten lines."""

import csv
import os
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import Engine, text

from tests.e2e.conftest import REPOSITORY, House, wait_for

SUM_OF_SAMPLE = Decimal("20.52022672899")


def sample(name: str) -> Path:
    """Real bills in the FOCUS format, beside the repository or where FOCUS_SAMPLES says."""
    folder = Path(os.environ.get("FOCUS_SAMPLES", REPOSITORY.parent / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"{name} is not there: set FOCUS_SAMPLES to the folder that holds it")
    return folder / name


def cycle(house: House, file: Path) -> list[Any]:
    """The four commands, as cron would run them."""
    return [
        house.run_json("usage", "import", str(file), "--format", "focus"),
        house.run_json("cycle", "close", "--as-of", "2024-11-15T00:00:00Z"),
        house.run_json("invoices", "finalize", "--due", "--as-of", "2024-12-31T00:00:00Z"),
        house.run_json("invoices", "sync"),
    ]


def figures(engine: Engine) -> dict[str, Decimal]:
    """Every cent's whereabouts, by account, over all books."""
    with engine.connect() as connection:
        rows = connection.execute(
            text("""
            SELECT account, sum(amount) AS total FROM (
                SELECT debit_account AS account, amount FROM ledger_entries
                UNION ALL SELECT credit_account, -amount FROM ledger_entries) x GROUP BY account""")
        )
        return {row.account: row.total for row in rows}


def expected_totals(file: Path) -> dict[str, Decimal]:
    """What each sub-account owes, rounded half-even to cents: the rows added up, and nothing else."""
    totals: dict[str, Decimal] = defaultdict(Decimal)
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            totals[row["SubAccountId"]] += Decimal(row["BilledCost"])
    return {account: total.quantize(Decimal("0.01"), ROUND_HALF_EVEN) for account, total in totals.items()}


def stripe_totals(house: House) -> dict[str, Decimal]:
    """What Stripe has invoiced, by the customer's own id on the platform, read with plain HTTP."""
    found: dict[str, Decimal] = {}
    names: dict[str, str] = {}
    session = requests.Session()
    session.auth = (house.environment["STRIPE_API_KEY"], "")
    for kind in ("customers", "invoices"):
        after: dict[str, str] = {}
        while True:
            page = session.get(f"{house.sandbox.url}/v1/{kind}", params={"limit": "100", **after}, timeout=30).json()
            for thing in page["data"]:
                if kind == "customers":
                    names[thing["id"]] = thing["metadata"]["external_id"]
                else:
                    assert thing["status"] in ("open", "paid")
                    assert names[thing["customer"]] not in found, "one invoice per customer"
                    found[names[thing["customer"]]] = Decimal(thing["total"]) / 100
            if not page["has_more"]:
                break
            after = {"starting_after": page["data"][-1]["id"]}
    return found


def test_the_sum_of_real_bills_is_explained_to_the_last_digit_and_twice_changes_nothing(
    house: House, engine: Engine
) -> None:
    file = sample("focus_sample.csv")
    cycle(house, file)
    first = figures(engine)
    usage = -first["income:usage"]
    assert usage == SUM_OF_SAMPLE
    with engine.connect() as connection:
        carried = connection.scalar(
            text(
                "SELECT sum(CASE WHEN debit_account = 'assets:unbilled' THEN amount ELSE -amount END) "
                "FROM ledger_entries WHERE kind = 'carry' AND document_id IS NULL"
            )
        )
        invoiced = connection.scalar(text("SELECT sum(total) FROM invoices WHERE number IS NOT NULL"))
        left = connection.scalar(
            text("""
            SELECT coalesce(sum(abs(net)), 0) FROM (
                SELECT sum(u.amount) AS net FROM invoices i JOIN ledger_unbilled u ON u.customer_id = i.customer_id
                   AND ((u.document_id IS NULL AND u.period_start = i.period_start) OR u.document_id = i.id)
                 GROUP BY i.customer_id, i.id) x""")
        )
        sequence = connection.scalar(text("SELECT sum(last_seq) FROM ledger_books"))
    assert left == 0, "nothing is left unbilled in a closed period"
    assert invoiced + carried - -first["income:rounding"] == SUM_OF_SAMPLE
    assert first["assets:receivable"] == invoiced
    house.run("ledger", "check")
    writes = house.sandbox.counts()

    again = cycle(house, file)
    assert again[0]["posted"] == 0
    assert figures(engine) == first
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT sum(last_seq) FROM ledger_books")) == sequence
    assert house.sandbox.counts() == writes, "the second run sends nothing to Stripe"
    house.run("ledger", "check")


def test_stripes_totals_are_the_rounded_sums_of_each_customers_rows(house: House) -> None:
    file = sample("focus_sample_x1000.csv")
    house.start_web()
    cycle(house, file)
    billed = {account: total for account, total in expected_totals(file).items() if total >= Decimal("0.50")}
    assert len(billed) > 40
    found = stripe_totals(house)
    assert {name.removeprefix("focus:"): total for name, total in found.items()} == billed
    counts = house.sandbox.counts()
    reads = {name: count for name, count in counts.items() if name.endswith((".retrieve", ".list"))}
    assert {name: counts[name] for name in ("invoices.create", "invoices.add_lines", "invoices.finalize")} == (
        dict.fromkeys(("invoices.create", "invoices.add_lines", "invoices.finalize"), len(billed))
    )
    assert counts["customers.create"] == len(billed)
    # What reads there are were ours, above, through the customer and invoice lists.
    assert set(reads) <= {"customers.list", "invoices.list"}
    assert sum(reads.values()) <= 4
    house.run("ledger", "check")


def test_worker_cron_and_webhooks_do_the_rest_without_anybodys_help(house: House, engine: Engine) -> None:
    """Nobody calls sync: the processes find the due rows. The customers pay on the hosted page, a webhook books it."""
    file = sample("focus_sample.csv")
    house.run("usage", "import", str(file), "--format", "focus")
    house.run("cycle", "close", "--as-of", "2024-11-15T00:00:00Z")
    house.run("invoices", "finalize", "--due", "--as-of", "2024-12-31T00:00:00Z")
    house.start_web()
    house.start("worker")
    house.start("cron")
    session = requests.Session()
    session.auth = (house.environment["STRIPE_API_KEY"], "")

    def open_invoices() -> list[Any]:
        page = session.get(f"{house.sandbox.url}/v1/invoices", params={"limit": "100", "status": "open"}, timeout=30)
        found: list[Any] = page.json()["data"]
        return found

    wait_for(lambda: len(open_invoices()) == 3, what="three open invoices at Stripe", within_s=60)
    for invoice in open_invoices():
        house.sandbox.post(f"invoices/{invoice['id']}/pay")

    def all_paid() -> bool:
        with engine.connect() as connection:
            return bool(connection.scalar(text("SELECT count(*) = 3 FROM invoices WHERE state = 'paid'")))

    wait_for(all_paid, what="three paid invoices", within_s=60)
    house.run("ledger", "check")
    house.run("stripe", "reconcile")
