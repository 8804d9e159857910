"""`billing prices`, `billing customers` and `billing tokens`."""

import json

import pytest
from sqlalchemy.orm import Session

from app.accounts.tokens import PREFIX, WrongToken, recognise
from tests.usage.conftest import BillingHere


def test_prices_are_seeded_once_set_once_and_listed(billing_here: BillingHere) -> None:
    assert billing_here("prices", "seed").stdout == "published 51 prices\n"
    assert billing_here("prices", "seed").stdout == "published 0 prices\n"
    words = ("prices", "set", "volume", "--currency", "EUR", "--valid-from", "2025-07-01T02:00:00+02:00")
    said = "volume 0.14 EUR from 2025-07-01T00:00:00+00:00\n"
    assert billing_here(*words, "--unit-amount", "0.14").stdout == f"published: {said}"
    assert billing_here(*words, "--unit-amount", "0.140").stdout == f"known already: {said}"
    other = billing_here(*words, "--unit-amount", "0.15")
    assert (other.returncode, "price_conflict" in other.stderr) == (2, True)
    for amount in ("NaN", "-1", "0.0000000000001", "1e9", "ten"):
        assert billing_here(*words, "--unit-amount", amount).returncode == 2
    (price,) = json.loads(billing_here("prices", "list", "--currency", "EUR", "--json").stdout)
    assert price == {
        "item": "volume",
        "name": "Volume storage",
        "unit": "GB-month",
        "currency": "EUR",
        "unit_amount": "0.14",
        "valid_from": "2025-07-01T00:00:00+00:00",
        "region": None,
        "price_list": "public",
        "model": "per_unit",
    }


def test_another_price_is_drafted_compared_and_published_by_somebody_else(billing_here: BillingHere) -> None:
    billing_here("prices", "seed")
    words = ("prices", "set", "volume", "--currency", "USD", "--valid-from", "2099-01-01T00:00:00Z")
    said = billing_here(*words, "--unit-amount", "0.2", "--actor", "ann").stdout
    assert said.startswith("drafted: volume 0.2 USD from 2099-01-01")
    change = said.split("prices publish ")[1].split()[0]
    assert "volume: nobody used it in this month." in billing_here("prices", "compare", change).stdout
    mine = billing_here("prices", "publish", change, "--actor", "ann")
    assert (mine.returncode, "second_person_needed" in mine.stderr) == (2, True)
    assert billing_here("prices", "publish", change, "--actor", "bob").stdout.startswith("published: volume 0.2")
    assert "published by bob" in billing_here("prices", "changes").stdout
    assert "0.2 USD per GB-month" in billing_here("prices", "show", "volume").stdout


def test_a_price_file_is_loaded_once_and_a_bad_one_is_explained_line_by_line(billing_here: BillingHere) -> None:
    file = billing_here.folder / "prices.toml"
    head = 'currency = "USD"\nvalid_from = 2025-01-01T00:00:00Z\n[[items]]\ncode = "logs"\n'
    file.write_text(head + "unit_amount = 0.5\n")
    load = ("prices", "load", str(file), "--publish")
    assert billing_here(*load).stdout == "prices: 1 published, 0 drafted, 0 known\n"
    assert billing_here(*load).stdout == "prices: 0 published, 0 drafted, 1 known\n"
    file.write_text(head + "unit_amount = -1\nminimum = 3\nmaximum = 2\n")
    bad = billing_here(*load)
    assert bad.returncode == 2
    assert "item 1 'logs': unit_amount [negative]" in bad.stderr
    assert "nothing was loaded" in bad.stderr


def test_a_customer_is_created_once_and_shown(billing_here: BillingHere) -> None:
    words = ("customers", "create", "acme", "--name", "Acme", "--currency", "EUR", "--draft-window-hours", "48")
    made = billing_here(*words)
    assert made.stdout.startswith("created: ")
    assert billing_here(*words).stdout == made.stdout.replace("created", "known already")
    conflict = billing_here(*words, "--anchor-day", "2")
    assert (conflict.returncode, "customer_conflict" in conflict.stderr) == (2, True)
    refused = billing_here("customers", "create", "b", "--name", "B", "--currency", "XXX")
    assert (refused.returncode, "currency" in refused.stderr) == (2, True)
    shown = json.loads(billing_here("customers", "show", made.stdout.split()[1], "--json").stdout)
    assert (shown["external_id"], shown["currency"], shown["draft_window_s"]) == ("acme", "EUR", 172_800)
    assert billing_here("customers", "show", "nobody").returncode == 2
    assert "acme" in billing_here("customers", "list", "acm").stdout


def test_a_token_is_printed_once_and_revoked(billing_here: BillingHere, session: Session) -> None:
    made = billing_here("tokens", "create", "meter")
    token = made.stdout.strip()
    assert token.startswith(PREFIX)
    assert recognise(session, token=token).name == "meter"
    session.rollback()
    listed = billing_here("tokens", "list").stdout
    assert "meter" in listed
    assert token not in listed
    assert billing_here("tokens", "create", "meter").returncode == 2
    assert billing_here("tokens", "revoke", "meter").stdout == "revoked meter\n"
    assert billing_here("tokens", "revoke", "other").returncode == 2
    with pytest.raises(WrongToken):
        recognise(session, token=token)
