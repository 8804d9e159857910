"""Idempotency keys as Stripe documents them: https://docs.stripe.com/api/idempotent_requests."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.conftest import connect
from tests.sandbox.holding import held

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
    def create(name: str) -> Any:
        return connect(sandbox, timeout_s=90).v1.customers.create({"name": name}, {"idempotency_key": "k1"})

    with held(sandbox, "customers.create", lambda: create("A")) as made:
        # The same parameters or others: what runs has no result to compare with yet.
        for name in ("A", "B"):
            with pytest.raises(stripe.APIError) as conflict:
                create(name)
            assert conflict.value.http_status == 409
            body: Any = conflict.value.json_body
            assert body["error"]["code"] == "idempotency_key_in_use"
    assert create("A").id == made[0].id
    assert sandbox.state()["objects"]["customer"] == 1


def test_a_key_has_at_most_255_characters(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k" * 255}).name == "A"
    with pytest.raises(stripe.StripeError, match="at most 255") as refused:
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k" * 256})
    assert refused.value.http_status == 400
    assert sandbox.state()["objects"]["customer"] == 1


def test_get_and_delete_do_not_look_at_keys(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    one, two = client.v1.customers.create(options={"idempotency_key": "k1"}), client.v1.customers.create()
    for customer_id in (one.id, two.id):
        headers = {"Authorization": f"Bearer {sandbox.api_key}", "Idempotency-Key": "k1"}
        address = f"{sandbox.url}/v1/customers/{customer_id}"
        for answer in (
            requests.get(address, headers=headers, timeout=10),
            requests.delete(address, headers=headers, timeout=10),
        ):
            assert (answer.status_code, answer.json()["id"]) == (200, customer_id)
            assert not {"Idempotent-Replayed", "Idempotency-Key"} & set(answer.headers)


def test_a_mismatch_leaves_the_first_result_alone(client: stripe.StripeClient) -> None:
    first = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "B"}, {"idempotency_key": "k1"})
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id == first.id


def test_other_parameters_than_those_of_a_500_are_an_error_too(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    sandbox.fault("customers.create", "500_after")
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        client.v1.customers.create({"name": "B"}, {"idempotency_key": "k1"})


def test_a_decline_is_kept(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Callable[..., Any], final: Callable[..., Any]
) -> None:
    invoice = final(customer("pm_card_chargeCustomerFail").id, 900, auto_advance=False)
    for _ in range(2):
        with pytest.raises(stripe.CardError) as declined:
            client.v1.invoices.pay(invoice.id, options={"idempotency_key": "k1"})
    assert declined.value.headers is not None
    assert declined.value.headers["Idempotent-Replayed"] == "true"
    assert sandbox.state()["events"]["by_type"]["invoice.payment_failed"] == 1


def test_a_limiter_on_a_replay_says_nothing_of_the_first_request(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    first = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    for kind in ("429", "lock_timeout"):
        sandbox.fault("customers.create", kind)
        with pytest.raises(stripe.RateLimitError):
            client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id == first.id


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


def test_when_the_key_of_a_500_is_forgotten_the_work_is_done_again(
    sandbox: SandboxProcess, client: stripe.StripeClient
) -> None:
    """This is why nobody may send a key again without reading first when it is a day old."""
    sandbox.fault("customers.create", "500_after")
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    sandbox.advance(24.1 * HOUR_S)
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).name == "A"
    assert sandbox.state()["objects"]["customer"] == 2


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
