"""Where a customer is taxed, over HTTP."""

from typing import Any

from werkzeug.test import TestResponse

from tests.api.conftest import Api

WANTED = {"country": "DE", "tax_id": "DE 123 456 789", "tax_id_type": "eu_vat", "reason": "Told by the customer"}


def put(api: Api, customer: str, body: dict[str, Any]) -> TestResponse:
    return api.client.put(f"/api/v1/customers/{customer}/tax_profile", json=body, headers=api.headers)


def test_a_profile_is_written_once_and_shown_with_its_history(api: Api) -> None:
    customer = api.make_customer()
    answer = put(api, customer, WANTED)
    assert answer.status_code == 201, answer.text
    assert answer.get_json()["tax_id"] == "DE123456789"
    assert put(api, customer, WANTED).status_code == 200
    assert put(api, customer, {"country": "FR", "reason": "Moved"}).status_code == 201
    shown = api.get(f"/customers/{customer}/tax_profile").get_json()["tax_profiles"]
    assert [(row["version"], row["country"]) for row in shown] == [(2, "FR"), (1, "DE")]


def test_every_wrong_field_is_named_at_once(api: Api) -> None:
    answer = put(api, api.make_customer(), {**WANTED, "country": "Germany", "tax_id": "12", "reason": ""})
    assert answer.status_code == 422
    body = answer.get_json()
    assert body["code"] == "tax_profile_refused"
    assert {(error["field"], error["code"]) for error in body["errors"]} == {
        ("country", "bad_country"),
        ("tax_id", "bad_tax_id"),
        ("reason", "reason_missing"),
    }


def test_nobody_unknown_is_taxed(api: Api) -> None:
    assert put(api, "6f1d1c1e-8f43-4a39-9b0c-000000000001", WANTED).status_code == 404
