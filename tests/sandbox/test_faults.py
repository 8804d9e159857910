"""Faults on demand, and the rate limits, as the SDK meets them."""

import socket
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.conftest import connect
from tests.sandbox.holding import wait_until


def _customers(sandbox: SandboxProcess) -> int:
    return int(sandbox.state()["objects"].get("customer", 0))


@pytest.mark.parametrize(
    ("kind", "made"),
    [("reset_before", 0), ("reset_after", 1), ("fin_before", 0), ("fin_after", 1), ("truncate", 1)],
)
def test_a_cut_connection_leaves_the_truth_under_the_key(sandbox: SandboxProcess, kind: str, made: int) -> None:
    client = connect(sandbox)
    sandbox.fault("customers.create", kind)
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert _customers(sandbox) == made
    again = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert _customers(sandbox) == 1
    assert again.last_response is not None
    assert ("Idempotent-Replayed" in again.last_response.headers) == (made == 1)


def test_the_sdk_repeats_a_reset_by_itself_with_the_same_key(sandbox: SandboxProcess) -> None:
    sandbox.fault("customers.create", "reset_after")
    connect(sandbox, retries=2).v1.customers.create({"name": "A"})
    keys = [line["idempotency_key"] for line in sandbox.requests("customers.create")]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert _customers(sandbox) == 1


@pytest.mark.parametrize("kind", ["delay_before", "delay_after"])
def test_an_answer_later_than_the_clients_patience_was_still_carried_out(sandbox: SandboxProcess, kind: str) -> None:
    sandbox.fault("customers.create", kind, delay_s=60.0)
    with pytest.raises(stripe.APIConnectionError, match="timed out"):
        connect(sandbox, timeout_s=0.5).v1.customers.create({"name": "A"})
    sandbox.clear_faults()  # ends the wait
    wait_until(lambda: _customers(sandbox) == 1)


@pytest.mark.parametrize("cut", ["reset_before", "fin_before"])
def test_a_connection_ends_with_a_reset_or_in_good_order(sandbox: SandboxProcess, cut: str) -> None:
    sandbox.fault("customers.list", cut)
    with socket.create_connection(("127.0.0.1", int(sandbox.url.rsplit(":", 1)[1])), timeout=30) as line:
        line.sendall(
            f"GET /v1/customers HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {sandbox.api_key}\r\n\r\n".encode()
        )
        if cut == "fin_before":
            assert line.recv(100) == b""
        else:
            with pytest.raises(ConnectionResetError):
                line.recv(100)


@pytest.mark.parametrize(("kind", "status"), [("401", 401), ("403", 403), ("409", 409)])
def test_a_refusal_before_the_work_does_nothing_and_keeps_nothing(
    sandbox: SandboxProcess, kind: str, status: int
) -> None:
    client = connect(sandbox)
    sandbox.fault("customers.create", kind)
    with pytest.raises(stripe.StripeError) as refused:
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert refused.value.http_status == status
    assert _customers(sandbox) == 0
    assert client.v1.customers.create({"name": "B"}, {"idempotency_key": "k1"}).name == "B"


@pytest.mark.parametrize(("advice", "sent"), [(None, 3), (True, 3), (False, 1)])
def test_a_500_may_advise_against_a_repetition(sandbox: SandboxProcess, advice: bool | None, sent: int) -> None:
    sandbox.fault("customers.create", "500_before", stored=False, should_retry=advice, count=None)
    with pytest.raises(stripe.APIError):
        connect(sandbox, retries=2).v1.customers.create({"name": "A"})
    assert len(sandbox.requests("customers.create")) == sent


def test_every_second_answer_is_lost(sandbox: SandboxProcess) -> None:
    client = connect(sandbox)
    sandbox.fault("customers.create", "reset_after", count=None, every=2)
    outcomes = []
    for _ in range(5):
        try:
            client.v1.customers.create()
            outcomes.append("told")
        except stripe.APIConnectionError:
            outcomes.append("lost")
    assert outcomes == ["lost", "told", "lost", "told", "lost"]
    assert _customers(sandbox) == 5


@pytest.mark.parametrize("reason", ["global-rate", "endpoint-concurrency", "resource-specific"])
def test_a_429_names_its_reason_and_does_nothing(sandbox: SandboxProcess, reason: str) -> None:
    sandbox.fault("customers.create", "429", reason=reason)
    with pytest.raises(stripe.RateLimitError) as limited:
        connect(sandbox).v1.customers.create({"name": "A"})
    assert limited.value.headers is not None
    assert limited.value.headers["Stripe-Rate-Limited-Reason"] == reason
    assert "Stripe-Should-Retry" not in limited.value.headers
    assert _customers(sandbox) == 0


def test_a_lock_timeout_has_no_reason_and_may_be_retried(sandbox: SandboxProcess) -> None:
    sandbox.fault("customers.create", "lock_timeout")
    with pytest.raises(stripe.RateLimitError) as limited:
        connect(sandbox).v1.customers.create({"name": "A"})
    body: Any = limited.value.json_body  # the SDK leaves `code` empty on 429s
    assert body["error"]["code"] == "lock_timeout"
    assert limited.value.headers is not None
    assert limited.value.headers["Stripe-Should-Retry"] == "true"
    assert "Stripe-Rate-Limited-Reason" not in limited.value.headers


def test_a_500_that_was_not_kept_can_be_repeated(sandbox: SandboxProcess) -> None:
    client = connect(sandbox)
    sandbox.fault("customers.create", "500_before", stored=False)
    with pytest.raises(stripe.APIError):
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).name == "A"


def test_a_fault_strikes_after_its_skip_as_often_as_it_should(sandbox: SandboxProcess) -> None:
    client = connect(sandbox)
    sandbox.fault("customers.*", "429", skip=1, count=2)
    outcomes = []
    for _ in range(5):
        try:
            client.v1.customers.create()
            outcomes.append("made")
        except stripe.RateLimitError:
            outcomes.append("429")
    assert outcomes == ["made", "429", "429", "made", "made"]
    assert sandbox.get("faults")["faults"][0]["hits"] == 2
    sandbox.clear_faults()
    assert sandbox.get("faults")["faults"] == []


def test_a_fault_may_strike_by_chance_but_repeatably(sandbox: SandboxProcess) -> None:
    def run() -> list[bool]:
        sandbox.clear_faults()
        sandbox.fault("GET /v1/customers*", "429", probability=0.5, seed=3, count=None)
        outcomes = []
        for _ in range(20):
            answer = requests.get(
                f"{sandbox.url}/v1/customers", headers={"Authorization": f"Bearer {sandbox.api_key}"}, timeout=5
            )
            outcomes.append(answer.ok)
        return outcomes

    first = run()
    assert first == run()
    assert 0 < sum(first) < 20


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "earthquake"},
        {"kind": "429", "reason": "mood"},
        {"kind": "429", "cuont": 1},
        {"kind": "429", "every": 0},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox: SandboxProcess, body: dict[str, object]) -> None:
    answer = requests.post(f"{sandbox.url}/_sim/faults", json=body, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_each_endpoint_has_its_own_limit(sandbox: SandboxProcess) -> None:
    # So slow a refill that the bucket of one second never gains a token during the test.
    sandbox.set(limits_enabled=True, rate_per_endpoint=0.01, rate_global=1000.0)
    client = connect(sandbox)
    client.v1.customers.list()
    with pytest.raises(stripe.RateLimitError) as limited:
        client.v1.customers.list()
    assert _reason(limited.value) == "endpoint-rate"
    assert client.v1.invoices.list().data == []


def test_all_endpoints_share_one_limit(sandbox: SandboxProcess) -> None:
    sandbox.set(limits_enabled=True, rate_per_endpoint=1000.0, rate_global=0.01)
    client = connect(sandbox)
    client.v1.customers.list()
    with pytest.raises(stripe.RateLimitError) as limited:
        client.v1.invoices.list()
    assert _reason(limited.value) == "global-rate"
    sandbox.set(limits_enabled=False)
    assert client.v1.invoices.list().data == []


def _reason(error: stripe.RateLimitError) -> str:
    assert error.headers is not None
    return str(error.headers["Stripe-Rate-Limited-Reason"])
