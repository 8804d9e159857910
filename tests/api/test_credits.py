"""Credit, as a program gives, sells, looks at and takes back."""

from uuid import uuid4

import pytest

from tests.api.conftest import Api
from tests.api.test_openapi import fits


def test_credit_is_given_once_shown_and_taken_back_once(api: Api) -> None:
    customer = api.make_customer()
    wanted = {
        "id": str(uuid4()),
        "account": "liabilities:credits:promotional",
        "amount": "25.50",
        "currency": api.get(f"/customers/{customer}").get_json()["currency"],
        "priority": 10,
        "expires_at": "2100-01-01T00:00:00Z",
        "reason": "Welcome",
    }
    first = api.post(f"/customers/{customer}/credits", wanted)
    assert first.status_code == 201
    fits("Credit", first.get_json())
    again = api.post(f"/customers/{customer}/credits", wanted)
    assert (again.status_code, again.get_json()) == (200, first.get_json())
    other = api.post(f"/customers/{customer}/credits", {**wanted, "amount": "26"})
    assert (other.status_code, other.get_json(force=True)["code"]) == (409, "credit_conflict")
    shown = api.get(f"/customers/{customer}/credits").get_json()
    fits("Credits", shown)
    assert [(lot["id"], lot["remaining"]) for lot in shown["credits"]] == [(wanted["id"], "25.5")]
    url = f"/customers/{customer}/credits/{wanted['id']}/revocation"
    for status in (201, 200):
        answer = api.post(url, {"reason": "Granted by mistake"})
        assert (answer.status_code, answer.get_json()["amount"]) == (status, "25.5")
        fits("Revocation", answer.get_json())
    assert api.get(f"/customers/{customer}/credits").get_json()["credits"] == []


def test_prepaid_credit_is_sold_once_by_a_final_invoice(api: Api) -> None:
    customer = api.make_customer()
    wanted = {"id": str(uuid4()), "amount": "100"}
    for status in (201, 200):
        answer = api.post(f"/customers/{customer}/top_ups", wanted)
        assert answer.status_code == status
        fits("Invoice", answer.get_json())
        facts = {key: answer.get_json()[key] for key in ("id", "kind", "state", "amount_open")}
        assert facts == {"id": wanted["id"], "kind": "top_up", "state": "final", "amount_open": "100"}
    credit = api.get(f"/customers/{customer}/credits").get_json()["credits"][0]
    assert (credit["id"], credit["is_paid"]) == (wanted["id"], False)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"currency": "JPY"}, "credit_currency_differs"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "bad_credit_expiry"),
        ({"items": ["no-such-item"]}, "bad_credit_items"),
        ({"priority": 1001}, "bad_credit_priority"),
        ({"amount": "0.001"}, "credit_refused"),
        ({"account": "liabilities:credits:prepaid"}, "credit_refused"),
        ({"reason": " "}, "reason_missing"),
        ({"items": []}, None),
    ],
)
def test_what_is_no_credit_is_refused_by_name(api: Api, change: dict[str, object], code: str | None) -> None:
    customer = api.make_customer()
    answer = api.post(f"/customers/{customer}/credits", {"id": str(uuid4()), "amount": "1", "reason": "x", **change})
    assert answer.status_code == 422
    assert code in (None, answer.get_json(force=True)["code"])


def test_refills_are_set_shown_and_ended(api: Api) -> None:
    customer = api.make_customer()
    url = f"/api/v1/customers/{customer}/refill"
    for threshold, amount in (("20", "100"), (None, None)):
        answer = api.client.put(url, json={"threshold": threshold, "amount": amount}, headers=api.headers)
        fits("Refill", answer.get_json())
        assert (answer.get_json()["threshold"], answer.get_json()["amount"]) == (threshold, amount)
        assert api.get(f"/customers/{customer}/refill").get_json() == answer.get_json()
