"""Billing before the period ends, as a program asks for it."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.api.conftest import Api
from tests.api.test_openapi import fits


def use(api: Api, quantity: int = 100) -> None:
    event = {"id": f"{quantity}", "customer": "acme", "item": "volume", "quantity": quantity, "at": moment_ago()}
    assert api.post("/usage", {"events": [event]}).status_code == 200


def moment_ago() -> str:
    return (datetime.now(UTC) - timedelta(seconds=2)).isoformat()


def test_a_customer_is_billed_now_once_and_told_the_draft(api: Api) -> None:
    customer = api.make_customer()
    use(api)
    start = api.get(f"/customers/{customer}/balance").get_json()["current_period"]["start"]
    wanted = {"reason": "Closes the account", "cause": "leaving", "period_start": start}
    first = api.post(f"/customers/{customer}/early_bills", wanted)
    assert first.status_code == 201
    fits("Invoice", first.get_json())
    assert (first.get_json()["state"], first.get_json()["period_start"]) == ("draft", start)
    again = api.post(f"/customers/{customer}/early_bills", wanted)
    assert (again.status_code, again.get_json()["id"]) == (200, first.get_json()["id"])
    assert api.get(f"/customers/{customer}/balance").get_json()["current_period"]["unbilled"] == "0"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"reason": "x"}, 409, "nothing_to_bill"),
        ({"reason": " "}, 422, "reason_missing"),
        ({"reason": "x", "cause": "whim"}, 422, None),
        ({"reason": "x", "period_start": "2020-01-01T00:00:00Z"}, 409, "period_moved"),
        ({}, 422, None),
    ],
)
def test_what_cannot_be_billed_is_refused_by_name(
    api: Api, body: dict[str, str], status: int, code: str | None
) -> None:
    customer = api.make_customer()
    answer = api.post(f"/customers/{customer}/early_bills", body)
    assert answer.status_code == status
    assert code in (None, answer.get_json(force=True)["code"])


def test_a_spending_threshold_is_set_shown_and_lifted(api: Api) -> None:
    customer = api.make_customer()
    url = f"/api/v1/customers/{customer}/spending_threshold"
    for amount, shown in (("250.50", "250.5"), (None, None)):
        answer = api.client.put(url, json={"amount": amount, "reason": "New customer"}, headers=api.headers)
        fits("SpendingThreshold", answer.get_json())
        assert answer.get_json()["amount"] == shown
        assert api.get(f"/customers/{customer}/spending_threshold").get_json() == answer.get_json()
    refused = api.client.put(url, json={"amount": "0.001", "reason": "x"}, headers=api.headers)
    assert (refused.status_code, refused.get_json(force=True)["code"]) == (422, "threshold_refused")
