"""An account that settles in another currency: https://docs.stripe.com/currencies/conversions."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.stories import charge_of

Make = Callable[..., Any]


@pytest.fixture
def charge(sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make) -> stripe.Charge:
    """15.00 USD, charged while one of them is worth 0.92 EUR."""
    sandbox.set(settlement_currency="EUR", exchange_rates={"USD": "0.92"})
    someone = customer()
    final(someone.id, 1500)
    return charge_of(sandbox, client, someone.id)


def moved(client: stripe.StripeClient, source: str) -> list[tuple[str, int, int, int, float | None]]:
    """(currency, amount, fee, net, exchange rate) of an object's balance transactions, newest first."""
    listed = client.v1.balance_transactions.list({"source": source}).data
    return [(one.currency, one.amount, one.fee, one.net, one.exchange_rate) for one in listed]


def test_the_balance_is_in_the_settlement_currency_and_the_charge_in_its_own(
    sandbox: SandboxProcess, client: stripe.StripeClient, charge: stripe.Charge
) -> None:
    """13.80 EUR, of which 2.9 % and 0.30 EUR are kept; each later movement has the rate of its own moment."""
    assert (charge.currency, charge.amount) == ("usd", 1500)
    assert moved(client, charge.id) == [("eur", 1380, 70, 1310, 0.92)]
    sandbox.set(exchange_rates={"usd": "0.95"})
    refund = client.v1.refunds.create({"charge": charge.id, "amount": 500})
    assert (refund.currency, refund.amount) == ("usd", 500)
    assert moved(client, refund.id) == [("eur", -475, 0, -475, 0.95)]
    dispute = sandbox.post("disputes", charge=charge.id, amount=1000)
    sandbox.set(exchange_rates={"usd": "0.90"})
    sandbox.post(f"disputes/{dispute['id']}", status="won")
    assert moved(client, dispute["id"]) == [("eur", 900, 0, 900, 0.9), ("eur", -950, 1500, -2450, 0.95)]
    assert [amount.currency for amount in client.v1.balance.retrieve().pending] == ["eur"]


def test_a_currency_without_a_rate_settles_as_itself(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    sandbox.set(settlement_currency="eur", exchange_rates={"gbp": "1.15"})
    someone = customer()
    final(someone.id, 1500)
    assert moved(client, charge_of(sandbox, client, someone.id).id) == [("usd", 1500, 74, 1426, None)]


@pytest.mark.parametrize(
    "change",
    [{"settlement_currency": "euro"}, {"exchange_rates": {"usd": "0"}}, {"exchange_rates": {"usd": "much"}}],
    ids=["no currency", "worth nothing", "no number"],
)
def test_what_is_no_settlement_is_refused(sandbox: SandboxProcess, change: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="Invalid setting"):
        sandbox.set(**change)


def test_the_page_changes_the_rate_and_keeps_the_others(sandbox: SandboxProcess) -> None:
    sandbox.set(settlement_currency="eur", exchange_rates={"usd": "0.92", "gbp": "1.15"})
    form = {"settles_in": "EUR", "currency": "USD", "rate": "0.88"}
    page = requests.post(f"{sandbox.url}/settlement", data=form, timeout=10)
    assert "1 USD is 0.88 EUR. 1 GBP is 1.15 EUR." in page.text
    assert sandbox.get("settings")["exchange_rates"] == {"usd": "0.88", "gbp": "1.15"}
