"""Plans, as a program gives and ends them."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.files import fly_document
from tests.api.conftest import Api
from tests.api.test_openapi import fits
from tests.usage.conftest import NOW


@pytest.fixture
def offering(api: Api, engine: Engine) -> Api:
    with Session(engine) as session, session.begin():
        publish_plans(session, plans_from_file(fly_document()), actor="test", now=NOW)
    return api


def test_the_public_plans_are_offered(offering: Api) -> None:
    answer = offering.get("/plans").get_json()
    fits("Plans", answer)
    assert ("launch", "29", "29") in [(one["plan"], one["fee"], one["included_usage"]) for one in answer["plans"]]


def test_a_plan_is_given_changed_and_ended(offering: Api) -> None:
    customer = offering.make_customer()
    url = f"/api/v1/customers/{customer}/plan"
    wanted = {"plan": "launch", "reason": "Signed up"}
    given = offering.client.put(url, json=wanted, headers=offering.headers)
    fits("CustomerPlan", given.get_json())
    assert given.get_json()["current"]["plan"] == "launch"
    unbilled = offering.get(f"/customers/{customer}/balance").get_json()["current_period"]["unbilled"]
    assert offering.client.put(url, json=wanted, headers=offering.headers).get_json() == given.get_json()
    assert offering.get(f"/customers/{customer}/balance").get_json()["current_period"]["unbilled"] == unbilled
    later = {"plan": "scale", "when": "period_end", "reason": "Grows"}
    changed = offering.client.put(url, json=later, headers=offering.headers).get_json()
    assert (changed["current"]["plan"], changed["next"]["plan"]) == ("launch", "scale")
    ended = offering.client.delete(url, json={"reason": "Leaves"}, headers=offering.headers).get_json()
    assert ended == {"current": None, "next": None}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"plan": "gold", "reason": "x"}, 422, "plan_not_offered"),
        ({"plan": "launch", "reason": "x", "when": "later"}, 422, None),
        ({"plan": "launch", "reason": " "}, 422, "reason_missing"),
        ({"reason": "x"}, 422, None),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(
    offering: Api, body: dict[str, str], status: int, code: str | None
) -> None:
    customer = offering.make_customer()
    answer = offering.client.put(f"/api/v1/customers/{customer}/plan", json=body, headers=offering.headers)
    assert answer.status_code == status
    assert code in (None, answer.get_json(force=True)["code"])


def test_without_a_plan_there_is_none_to_end(offering: Api) -> None:
    customer = offering.make_customer()
    url = f"/api/v1/customers/{customer}/plan"
    answer = offering.client.delete(url, json={"reason": "x"}, headers=offering.headers)
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (409, "no_plan")
