"""What a request must look like, what answers carry, and how lists are walked."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.conftest import connect

Make = Callable[..., Any]


def _refusal(client: stripe.StripeClient, method: str, path: str, **params: Any) -> dict[str, Any]:
    with pytest.raises(stripe.StripeError) as error:
        client.raw_request(method, path, **params)
    body: Any = error.value.json_body
    return {**body["error"], "status": error.value.http_status}


@pytest.mark.parametrize(
    ("path", "params", "code", "param"),
    [
        ("/v1/customers", {"colour": "red"}, "parameter_unknown", "colour"),
        ("/v1/customers", {"address": {"planet": "x"}}, "parameter_unknown", "address[planet]"),
        ("/v1/customers", {"balance": "much"}, "parameter_invalid_integer", "balance"),
        ("/v1/customers", {"invoice_prefix": ""}, "parameter_invalid_empty", "invoice_prefix"),
        ("/v1/invoices", {"currency": "usd"}, "parameter_missing", "customer"),
        ("/v1/invoices", {"customer": "cus_none"}, "resource_missing", "customer"),
        ("/v1/billing_portal/sessions", {}, "parameter_missing", "customer"),
        ("/v1/invoices/in_none/add_lines", {}, "parameter_missing", "lines"),
        (
            "/v1/invoices/in_none/add_lines",
            {"lines": [{"amount": 1, "colour": 2}]},
            "parameter_unknown",
            "lines[0][colour]",
        ),
        (
            "/v1/invoices/in_none/add_lines",
            {"lines": [{"amount": "1.5"}]},
            "parameter_invalid_integer",
            "lines[0][amount]",
        ),
    ],
)
def test_a_malformed_request_is_a_400_that_names_the_parameter(
    client: stripe.StripeClient, path: str, params: dict[str, Any], code: str, param: str
) -> None:
    refusal = _refusal(client, "post", path, **params)
    assert (refusal["status"], refusal["type"]) == (400, "invalid_request_error")
    assert (refusal["code"], refusal["param"]) == (code, param)


def test_an_object_that_does_not_exist_is_a_404(client: stripe.StripeClient) -> None:
    for path in ("customers/cus_no", "invoices/in_no", "charges/ch_no", "events/evt_no", "payment_methods/pm_no"):
        refusal = _refusal(client, "get", f"/v1/{path}")
        assert (refusal["status"], refusal["code"]) == (404, "resource_missing")
        assert f"'{path.split('/')[1]}'" in refusal["message"]


def test_an_address_that_stripe_does_not_have_is_a_404(client: stripe.StripeClient) -> None:
    assert "Unrecognized request URL" in _refusal(client, "get", "/v1/weather")["message"]


def test_without_the_right_key_nothing_is_served(sandbox: SandboxProcess) -> None:
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key provided: sk_test_"):
        connect(sandbox, key="sk_test_somebody_else").v1.customers.list()
    answer = requests.get(f"{sandbox.url}/v1/customers", timeout=5)
    assert answer.status_code == 401
    basic = requests.get(f"{sandbox.url}/v1/customers", auth=(sandbox.api_key, ""), timeout=5)
    assert basic.status_code == 200


def test_every_answer_names_its_request_and_version(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    answer = client.v1.customers.create().last_response
    assert answer is not None
    assert answer.request_id is not None
    assert answer.request_id.startswith("req_")
    assert answer.headers["Stripe-Version"] == "2026-10-28.endive"
    assert [line["id"] for line in sandbox.requests()] == [answer.request_id]


def test_the_request_log_says_who_asked_what_and_how_it_ended(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.retrieve("in_none")
    made, failed = sandbox.requests()
    assert (made["endpoint"], made["params"], made["idempotency_key"], made["status"]) == (
        "customers.create",
        {"name": "A"},
        "k1",
        200,
    )
    assert (failed["endpoint"], failed["status"], failed["error_code"]) == (
        "invoices.retrieve",
        404,
        "resource_missing",
    )
    assert sandbox.counts() == {"customers.create": 1, "invoices.retrieve": 1}
    sandbox.clear_requests()
    assert sandbox.requests() == []


def test_lists_are_walked_in_both_directions(client: stripe.StripeClient) -> None:
    made = [client.v1.customers.create().id for _ in range(7)][::-1]
    page = client.v1.customers.list({"limit": 3})
    assert ([c.id for c in page.data], page.has_more) == (made[:3], True)
    page = client.v1.customers.list({"limit": 3, "starting_after": made[5]})
    assert ([c.id for c in page.data], page.has_more) == (made[6:], False)
    page = client.v1.customers.list({"limit": 2, "ending_before": made[4]})
    assert ([c.id for c in page.data], page.has_more) == (made[2:4], True)
    assert [c.id for c in client.v1.customers.list({"limit": 2}).auto_paging_iter()] == made
    assert client.v1.customers.list({"limit": 100}).has_more is False
    assert _refusal(client, "get", "/v1/customers", limit=101)["param"] == "limit"
    assert _refusal(client, "get", "/v1/customers", starting_after="cus_none")["code"] == "resource_missing"


def test_lists_are_filtered(client: stripe.StripeClient, customer: Make, draft: Make, final: Make) -> None:
    one, two = customer(None), customer(None, email="two@demo.test")
    first, second = draft(one.id, 900), final(two.id, 900, auto_advance=False)
    assert [i.id for i in client.v1.invoices.list({"customer": one.id}).data] == [first.id]
    assert [i.id for i in client.v1.invoices.list({"status": "open"}).data] == [second.id]
    assert [c.id for c in client.v1.customers.list({"email": "two@demo.test"}).data] == [two.id]
    assert client.v1.invoices.list({"created": {"gt": first.created + 100}}).data == []
    kinds = client.v1.events.list({"types": ["invoice.finalized"]}).data
    assert [event.type for event in kinds] == ["invoice.finalized"]


def test_objects_are_expanded_on_demand(client: stripe.StripeClient, customer: Make, draft: Make) -> None:
    invoice: Any = draft(customer().id, 900)
    plain = client.v1.invoices.retrieve(invoice.id)
    assert isinstance(plain.customer, str)
    assert "payments" not in plain
    whole: Any = client.v1.invoices.retrieve(
        invoice.id, {"expand": ["payments", "customer.invoice_settings.default_payment_method"]}
    )
    assert whole.customer.invoice_settings.default_payment_method.card.last4 == "4242"
    assert whole.payments.data == []
    listed: Any = client.v1.invoices.list({"expand": ["data.customer"]})
    assert listed.data[0].customer.email == "customer@demo.test"
    for path in ("colour", "status", "customer.a.b.c.d"):
        assert _refusal(client, "get", f"/v1/invoices/{invoice.id}", expand=[path])["param"] == "expand"


def test_metadata_merge_and_can_be_removed(client: stripe.StripeClient) -> None:
    made = client.v1.customers.create({"metadata": {"a": "1", "b": "2"}})

    def change(metadata: Any) -> dict[str, str]:
        changed = client.v1.customers.update(made.id, {"metadata": metadata}).metadata
        return changed.to_dict() if changed is not None else {}

    assert change({"b": "", "c": "3"}) == {"a": "1", "c": "3"}
    assert change("") == {}
    too_many = {f"k{number}": "v" for number in range(51)}
    assert _refusal(client, "post", f"/v1/customers/{made.id}", metadata=too_many)["param"] == "metadata"
    assert _refusal(client, "post", f"/v1/customers/{made.id}", metadata={"k": "v" * 501})["status"] == 400


def test_a_deleted_customer_is_a_tombstone(client: stripe.StripeClient) -> None:
    made = client.v1.customers.create()
    client.v1.customers.delete(made.id)
    gone: Any = client.v1.customers.retrieve(made.id)
    assert gone.deleted is True
    assert client.v1.customers.list().data == []
    assert _refusal(client, "post", "/v1/invoices", customer=made.id)["code"] == "resource_missing"
