"""What a developer is told who asked for what is not there: where to look, and which fields are known."""

from tests.api.conftest import Api
from tests.api.test_api import problem


def test_an_address_that_is_not_there_names_the_description_of_all_that_are(api: Api) -> None:
    for path in ("/nothing", "/customers/acme"):
        assert "/api/v1/openapi.json" in problem(api.get(path), 404, "not_found")["detail"]
    assert "header Allow" in problem(api.post("/plans", {}), 405, "method_not_allowed")["detail"]


def test_a_field_that_is_not_known_is_answered_with_those_that_are(api: Api) -> None:
    customer_id = api.make_customer()
    body = problem(api.post(f"/customers/{customer_id}/top_ups", {"amuont": "5"}), 422, "fields_refused")
    messages = {error["field"]: error["message"] for error in body["errors"]}
    assert messages["amuont"].endswith("Known are: amount, currency, expires_at, id, reason.")
    assert body["detail"].startswith("id: This field is missing; amount: This field is missing; amuont: ")
    assert body["detail"].endswith("reason.")
