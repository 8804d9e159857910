"""`billing tax`: a file of rates is loaded once, a customer's place is written, and what is wrong is named."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.cli import main
from invoicing.customers import create_customer
from tests.invoicing.taxed import rates_file


def run(database_url: str, folder: Path, *words: str) -> Result:
    environment = {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STRIPE_API_KEY": "sk_test_sandbox_tax",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": "whsec_tax",
        "SECRET_KEY": "x" * 40,
        "BILLING_VAR": str(folder / "var"),
    }
    return CliRunner().invoke(main, ["tax", *words], env=environment)


@pytest.fixture
def acme(engine: Engine) -> None:
    """A customer that the platform calls acme."""
    with Session(engine) as session, session.begin():
        now = datetime.now(UTC)
        create_customer(session, external_id="acme", name="Acme", currency="EUR", actor="test", now=now)


def test_a_file_of_rates_is_loaded_once_and_listed(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "rates.toml"
    file.write_text(rates_file(("DE", "VAT", "19"), ("CA-QC", "QST", "9.975")))
    assert run(database_url, tmp_path, "rates", "load", str(file)).output == "2 added, 0 ended, 0 unchanged\n"
    assert run(database_url, tmp_path, "rates", "load", str(file)).output == "0 added, 0 ended, 2 unchanged\n"
    listed = json.loads(run(database_url, tmp_path, "rates", "list", "--json").output)
    assert [(row["jurisdiction"], row["percent"]) for row in listed] == [("CA-QC", "9.975"), ("DE", "19")]
    shown = run(database_url, tmp_path, "rates", "list", "--jurisdiction", "DE").output
    assert "DE" in shown
    assert "19 %" in shown
    assert "QST" not in shown


def test_a_file_that_is_wrong_loads_nothing_and_says_why(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "rates.toml"
    file.write_text(rates_file(("DE", "VAT", "19"), ("Germany", "VAT", "190")))
    refused = run(database_url, tmp_path, "rates", "load", str(file))
    assert refused.exit_code == 2
    assert "error [tax_rates_refused]: rate 2: give its jurisdiction" in refused.output
    assert "rate 2: give percent" in refused.output
    assert json.loads(run(database_url, tmp_path, "rates", "list", "--json").output) == []


def test_a_customers_place_is_written_once_and_listed(database_url: str, acme: None, tmp_path: Path) -> None:
    said = ("--country", "de", "--tax-id", "DE 123 456 789", "--tax-id-type", "eu_vat", "--reason", "Sent by mail")
    written = run(database_url, tmp_path, "profiles", "set", "acme", *said)
    assert written.output.startswith("version 1  DE    from ")
    assert written.output.endswith("taxable, eu_vat DE123456789: Sent by mail\n")
    assert run(database_url, tmp_path, "profiles", "set", "acme", *said).output.startswith(
        "This counts already: version 1"
    )
    there = ("--country", "US", "--state", "CA", "--reason", "Moved")
    moved = run(database_url, tmp_path, "profiles", "set", "acme", *there)
    assert moved.exit_code == 0, moved.output
    listed = json.loads(run(database_url, tmp_path, "profiles", "list", "acme", "--json").output)
    assert [(row["country"], row["state"], row["actor"]) for row in listed] == [
        ("US", "CA", "billing tax"),
        ("DE", None, "billing tax"),
    ]


def test_a_place_that_cannot_be_is_refused_and_nothing_written(database_url: str, acme: None, tmp_path: Path) -> None:
    refused = run(
        database_url, tmp_path, "profiles", "set", "acme", "--country", "Germany", "--tax-id", "12", "--tax-id-type",
        "eu_vat", "--reason", "Told",
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "error [tax_profile_refused]: country: " in refused.output
    assert "tax_id: " in refused.output
    assert "this customer is not taxed" in run(database_url, tmp_path, "profiles", "list", "acme").output
    unknown = run(database_url, tmp_path, "profiles", "list", "nobody")
    assert unknown.exit_code == 2
    assert "There is no customer 'nobody'" in unknown.output
