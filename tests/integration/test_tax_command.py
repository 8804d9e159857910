"""`billing tax rates`: a file is loaded once, and what is wrong with it is named."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from app.cli import main
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
    return CliRunner().invoke(main, ["tax", "rates", *words], env=environment)


def test_a_file_of_rates_is_loaded_once_and_listed(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "rates.toml"
    file.write_text(rates_file(("DE", "VAT", "19"), ("CA-QC", "QST", "9.975")))
    assert run(database_url, tmp_path, "load", str(file)).output == "2 added, 0 ended, 0 unchanged\n"
    assert run(database_url, tmp_path, "load", str(file)).output == "0 added, 0 ended, 2 unchanged\n"
    listed = json.loads(run(database_url, tmp_path, "list", "--json").output)
    assert [(row["jurisdiction"], row["percent"]) for row in listed] == [("CA-QC", "9.975"), ("DE", "19")]
    shown = run(database_url, tmp_path, "list", "--jurisdiction", "DE").output
    assert "DE" in shown
    assert "19 %" in shown
    assert "QST" not in shown


def test_a_file_that_is_wrong_loads_nothing_and_says_why(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "rates.toml"
    file.write_text(rates_file(("DE", "VAT", "19"), ("Germany", "VAT", "190")))
    refused = run(database_url, tmp_path, "load", str(file))
    assert refused.exit_code == 2
    assert "error [tax_rates_refused]: rate 2: give its jurisdiction" in refused.output
    assert "rate 2: give percent" in refused.output
    assert json.loads(run(database_url, tmp_path, "list", "--json").output) == []
