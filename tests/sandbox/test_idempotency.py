"""Idempotency keys as Stripe documents them: https://docs.stripe.com/api/idempotent_requests."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.conftest import connect

HOUR_S = 3600


def test_the_same_key_gives_the_first_result_again(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    again = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert again.to_dict() == first.to_dict()
    assert first.last_response is not None
    assert again.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert again.last_response.request_id != first.last_response.request_id
    assert sandbox.state()["objects"]["customer"] == 1
    assert [line["replayed"] for line in sandbox.requests("customers.create")] == [False, True]


def test_the_replay_is_the_old_answer_even_when_the_object_changed(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    first = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    client.v1.customers.update(first.id, {"name": "B"})
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).name == "A"


def test_other_parameters_under_the_same_key_are_an_error(client: stripe.StripeClient) -> None:
    client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        client.v1.customers.create({"name": "B"}, {"idempotency_key": "k1"})


def test_another_endpoint_or_object_under_the_same_key_is_an_error(client: stripe.StripeClient) -> None:
    one, two = client.v1.customers.create(), client.v1.customers.create()
    client.v1.customers.update(one.id, {"name": "A"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.customers.update(two.id, {"name": "A"}, {"idempotency_key": "k1"})


def test_a_key_whose_first_request_still_runs_conflicts(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    sandbox.fault("customers.create", "delay_before", delay_s=1.0)
    made: list[str] = []
    slow = threading.Thread(
        target=lambda: made.append(connect(sandbox).v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id)
    )
    slow.start()
    time.sleep(0.4)
    with pytest.raises(stripe.APIError) as conflict:
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    slow.join()
    assert conflict.value.http_status == 409
    body: Any = conflict.value.json_body
    assert body["error"]["code"] == "idempotency_key_in_use"
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id == made[0]


def test_a_failed_validation_is_not_kept(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.customers.create({"tax_exempt": "perhaps"}, {"idempotency_key": "k1"})
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).name == "A"


def test_a_limiter_and_a_wrong_key_keep_nothing(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    sandbox.fault("customers.create", "429")
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.AuthenticationError):
        connect(sandbox, key="sk_test_other").v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert client.v1.customers.create({"name": "B"}, {"idempotency_key": "k1"}).name == "B"


def test_a_refusal_by_the_object_is_kept(
    client: stripe.StripeClient, customer: Callable[..., Any], draft: Callable[..., Any]
) -> None:
    invoice = draft(customer(None).id, 900)
    with pytest.raises(stripe.InvalidRequestError, match="only void open"):
        client.v1.invoices.void_invoice(invoice.id, options={"idempotency_key": "k1"})
    client.v1.invoices.finalize_invoice(invoice.id)
    with pytest.raises(stripe.InvalidRequestError, match="only void open"):
        client.v1.invoices.void_invoice(invoice.id, options={"idempotency_key": "k1"})
    assert client.v1.invoices.void_invoice(invoice.id, options={"idempotency_key": "k2"}).status == "void"


@pytest.mark.parametrize(("kind", "customers"), [("500_before", 0), ("500_after", 1)])
def test_a_500_is_the_result_whether_or_not_the_work_was_done(
    sandbox: SandboxProcess, client: stripe.StripeClient, kind: str, customers: int
) -> None:
    sandbox.fault("customers.create", kind)
    for _ in range(2):
        with pytest.raises(stripe.APIError) as error:
            client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
        assert error.value.http_status == 500
    assert error.value.headers is not None
    assert error.value.headers["Idempotent-Replayed"] == "true"
    assert sandbox.state()["objects"].get("customer", 0) == customers


def test_after_24_hours_a_key_is_new(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    sandbox.advance(23.9 * HOUR_S)
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id == first.id
    sandbox.advance(0.2 * HOUR_S)
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id != first.id


def test_two_parallel_requests_with_one_key_make_one_object(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    statuses: list[int] = []

    def send() -> None:
        answer = requests.post(
            f"{sandbox.url}/v1/customers",
            data={"name": "A"},
            headers={"Authorization": f"Bearer {sandbox.api_key}", "Idempotency-Key": "k1"},
            timeout=10,
        )
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 409}
    assert sandbox.state()["objects"]["customer"] == 1
