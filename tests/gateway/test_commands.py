"""The commands, as cron runs them: one summary line, JSON on request, an exit status that means something."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.conftest import Town
from tests.gateway.test_background import REPOSITORY, environment


def billing(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        env=os.environ | env,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def env(town: Town, database_url: str, redis_url: str, tmp_path: Path) -> dict[str, str]:
    return environment(town, database_url, redis_url, tmp_path)


def test_sync_then_reconcile_then_a_difference(town: Town, env: dict[str, str]) -> None:
    invoice = town.invoice("acme", card="pm_card_visa")
    synced = billing("invoices", "sync", env=env)
    assert (synced.returncode, synced.stdout.count("\n")) == (0, 1), synced.stderr
    assert synced.stdout.startswith("Synced: 1 synced")
    town.sandbox.advance(60)

    repaired = billing("stripe", "reconcile", env=env)
    assert repaired.returncode == 0, repaired.stderr
    assert repaired.stdout.startswith("Reconciled: 1 invoices, 1 payments, ")
    assert repaired.stdout.endswith(" 3 repaired, 0 explained, 0 unexplained\n")
    assert repaired.stdout.count("\n") == 1
    assert "payment_at_stripe_only" in repaired.stderr

    second = town.invoice("other")
    billing("invoices", "sync", env=env)
    town.gateway.client._v1.invoices.void_invoice(town.row(second).external_id)
    different = billing("stripe", "reconcile", "--json", env=env)
    assert different.returncode == 1
    report = json.loads(different.stdout)
    [left] = [one for one in report["differences"] if not one["repaired"]]
    assert (left["kind"], left["invoice_id"]) == ("void_at_stripe_only", str(second.id))
    assert left["outcome"] == "task"
    assert town.row(invoice).external_status == "paid"


def test_handling_needs_no_worker_and_a_wrong_key_is_said_in_one_line(town: Town, env: dict[str, str]) -> None:
    handled = billing("stripe", "handle", "--parked", "--json", env=env)
    assert handled.returncode == 0, handled.stderr
    assert json.loads(handled.stdout) == {"done": 0, "ignored": 0, "waiting": 0, "parked": 0, "problems": []}
    town.invoice()
    refused = billing("invoices", "sync", env=env | {"STRIPE_API_KEY": "sk_test_sandbox_wrong"})
    assert refused.returncode == 2
    assert refused.stderr.startswith("error [stripe_closed]:")
    assert "Traceback" not in refused.stderr
