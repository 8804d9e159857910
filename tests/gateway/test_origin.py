"""Each event is held against our own account and mode before anything is done about it; and the commands around it."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.config import Config, ConfigError
from stripe_gateway.inbox import OtherAccount, OtherMode, ours
from stripe_gateway.webhooks import PINNED_VERSION
from tests.gateway.conftest import Town, client_for, now
from tests.gateway.test_background import environment as environment_of
from tests.gateway.test_commands import billing
from tests.gateway.test_webhooks import event, receive

OURS, OTHER = "acct_ours", "acct_other"


@pytest.mark.parametrize(
    ("known", "named", "inside", "refused"),
    [
        (None, None, None, False),
        (None, OTHER, None, True),
        (None, None, OTHER, False),  # nothing to compare it with
        (OURS, None, None, False),
        (OURS, OURS, None, False),
        (OURS, OTHER, None, True),
        (OURS, None, OURS, False),
        (OURS, None, OTHER, True),
        (OURS, OURS, OTHER, True),
    ],
)
def test_an_event_about_another_account_is_refused(
    town: Town, known: str | None, named: str | None, inside: str | None, refused: bool
) -> None:
    client = client_for(town, account_id=known)
    body = {"livemode": False, "account": named, "data": {"object": {"id": "in_1", "account": inside}}}
    if refused:
        with pytest.raises(OtherAccount, match=OTHER):
            ours(body, client)
    else:
        assert ours(body, client)["account"] is None


@pytest.mark.parametrize("livemode", [True, None, "false", 0])
def test_an_event_of_another_mode_is_refused(town: Town, livemode: Any) -> None:
    with pytest.raises(OtherMode):
        ours({"livemode": livemode, "data": {"object": {}}}, town.gateway.client)


def test_a_parked_event_keeps_the_reason_that_the_pages_explain(town: Town) -> None:
    receive(town, event("invoice.paid", {"id": "in_1"}, livemode=True, id="evt_mode"))
    receive(town, event("invoice.paid", {"id": "in_1"}, account=OTHER, id="evt_account", api_version="2020-08-27"))
    town.handle()
    parked = {one.id: (one.code, one.api_version) for one in town.events("parked")}
    assert parked == {"evt_mode": ("other_mode", None), "evt_account": ("other_account", "2020-08-27")}


def test_the_sandbox_speaks_the_version_that_the_sdk_reads(hooked: Town) -> None:
    hooked.invoice("acme", card="pm_card_visa")
    hooked.sync()
    hooked.settle()
    hooked.deliver(hooked.fetch())
    assert {one.api_version for one in hooked.events()} == {PINNED_VERSION}


def test_an_account_that_is_none_is_refused_at_the_start(environment: dict[str, str]) -> None:
    assert Config.from_env({**environment, "STRIPE_ACCOUNT_ID": "acct_1Abc"}).stripe_account_id == "acct_1Abc"
    with pytest.raises(ConfigError, match="acct_"):
        Config.from_env({**environment, "STRIPE_ACCOUNT_ID": "1Abc"})


def test_catching_up_and_checking_are_commands(town: Town, database_url: str, redis_url: str, tmp_path: Path) -> None:
    env = environment_of(town, database_url, redis_url, tmp_path)
    town.invoice("acme", card="pm_card_visa")
    town.sync(at=now())
    town.sandbox.advance(60)
    first = billing("stripe", "catch-up", "--json", env=env)
    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert (report["missed"] > 3, report["known"], report["handled"]) == (True, 0, report["missed"])
    assert town.books()["invoices"][0][1] == "paid"
    second = billing("stripe", "catch-up", env=env)
    assert (second.returncode, second.stdout.count("\n")) == (0, 1), second.stderr
    assert second.stdout.startswith("Caught up: 0 missed")
    checked = billing("stripe", "check", env=env)
    assert checked.returncode == 1, "this town has no webhook endpoint"
    assert checked.stdout.startswith("Key: secret (a restricted one would do), test mode")
    assert "No webhook endpoint is enabled" in checked.stderr
