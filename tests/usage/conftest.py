"""What the tests of usage share: a customer with prices, and the import command as a real process."""

import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy.orm import Session

from app.cli import main
from invoicing.customers import create_customer
from invoicing.prices.files import seed_prices

NOW = datetime(2026, 11, 20, tzinfo=UTC)
PROJECT = Path(__file__).parent.parent.parent


@pytest.fixture
def acme(session: Session) -> str:
    """A customer in USD and Fly.io's price list, committed. The customer's external id."""
    seed_prices(session, actor="test", now=NOW)
    create_customer(session, external_id="acme", name="Acme", currency="USD", actor="test", now=NOW)
    session.commit()
    return "acme"


@dataclass(frozen=True)
class Billing:
    """Runs `billing` as a process of its own against the test's database."""

    folder: Path
    environment: dict[str, str]

    def start(self, *words: str, stdin: int | None = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "app.cli", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *words: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words, stdin=subprocess.DEVNULL if text is None else subprocess.PIPE)
        out, err = process.communicate(text, timeout=120)
        return subprocess.CompletedProcess(words, process.returncode, out, err)


@pytest.fixture
def billing(database_url: str, tmp_path: Path) -> Billing:
    """The command, in an empty folder. Nothing of it reaches Redis or Stripe; their addresses lead nowhere."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BILLING_")}
    environment |= {
        "PYTHONPATH": str(PROJECT),
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STRIPE_API_KEY": "sk_test_sandbox_usage",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": "whsec_usage",
        "SECRET_KEY": "x" * 40,
        "BILLING_VAR": str(tmp_path / "var"),
    }
    return Billing(tmp_path, environment)


class BillingHere(Billing):
    """The same within the test's own process: quicker, for what needs no process of its own."""

    def __call__(self, *words: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
        environment: dict[str, str | None] = {**dict.fromkeys(os.environ), **self.environment}
        done = CliRunner().invoke(main, words, input=text, env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def billing_here(billing: Billing) -> BillingHere:
    """The command within this process."""
    return BillingHere(billing.folder, billing.environment)
