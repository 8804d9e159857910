"""The API's own description says what the API does."""

from datetime import UTC, datetime, timedelta

import jsonschema
import pytest
from flask import Flask
from sqlalchemy import Engine

from app.api.openapi import DOCUMENT
from invoicing.cycles import close_due
from invoicing.settings import Settings
from tests.api.conftest import Api


def fits(name: str, value: object) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_every_route_is_described_and_nothing_else(app: Flask) -> None:
    routes = {
        (rule.rule.replace("<uuid:", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("api.") and rule.methods
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert routes == {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}


def test_it_can_be_read_without_a_token(app: Flask) -> None:
    answer = app.test_client().get("/api/v1/openapi.json")
    assert (answer.status_code, answer.get_json()) == (200, DOCUMENT)


@pytest.mark.parametrize("name", sorted(DOCUMENT["components"]["schemas"]))
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_real_answers_fit_their_schemas(api: Api, engine: Engine) -> None:
    customer_id = api.make_customer()
    now = datetime.now(UTC)
    last_month = now.replace(day=1) - timedelta(days=3)
    event = {"id": "1", "customer": "acme", "item": "volume", "quantity": 5, "at": last_month.isoformat()}
    fits("Event", event)
    fits("UsagePosted", api.post("/usage", {"events": [event]}).get_json())
    fits("Problem", api.post("/usage", {"events": [event | {"item": "gpu"}]}).get_json(force=True))
    close_due(engine, as_of=now, settings=Settings(grace=timedelta(0)))
    fits("Customer", api.get(f"/customers/{customer_id}").get_json())
    fits("Customers", api.get("/customers", external_id="acme").get_json())
    fits("Balance", api.get(f"/customers/{customer_id}/balance").get_json())
    fits("Balances", api.get(f"/customers/{customer_id}/balances").get_json())
    fits("Balances", api.get(f"/customers/{customer_id}/balances", known_at=now.isoformat()).get_json())
    invoices = api.get(f"/customers/{customer_id}/invoices").get_json()
    fits("Invoices", invoices)
    (invoice,) = invoices["invoices"]
    shown = api.get(f"/customers/{customer_id}/invoices/{invoice['id']}").get_json()
    fits("InvoiceWithLines", shown)
    assert (shown["state"], shown["exact_total"]) == ("draft", "0.75")
    assert [(line["item"], line["amount"]) for line in shown["lines"]] == [("volume", "0.75")]
    fits("PanelSession", api.post(f"/customers/{customer_id}/panel_sessions", {}).get_json())
