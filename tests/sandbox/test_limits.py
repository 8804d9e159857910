"""Requests in flight and writes that meet on one object, as Stripe's limiters treat them."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.conftest import connect
from tests.sandbox.holding import held, wait_until

Make = Callable[..., Any]


@pytest.fixture
def limited(sandbox: SandboxProcess) -> SandboxProcess:
    """Limits are on, but the rates are out of the way."""
    sandbox.set(limits_enabled=True, rate_per_endpoint=100_000.0, rate_global=100_000.0, lock_wait_s=0.0)
    return sandbox


def _refused(call: Callable[[], Any]) -> tuple[str | None, str | None, str]:
    """The reason and the advice in the headers of a 429, and its code."""
    with pytest.raises(stripe.RateLimitError) as error:
        call()
    assert error.value.headers is not None
    body: Any = error.value.json_body
    headers = requests.structures.CaseInsensitiveDict(error.value.headers)
    return headers.get("Stripe-Rate-Limited-Reason"), headers.get("Stripe-Should-Retry"), body["error"]["code"]


def test_an_endpoint_serves_only_so_many_at_a_time(limited: SandboxProcess) -> None:
    limited.set(concurrency_per_endpoint=1)
    v1 = connect(limited).v1
    with held(limited, "customers.create", lambda: connect(limited).v1.customers.create({"name": "A"})) as made:
        wait_until(lambda: limited.state()["in_flight"] == {"customers.create": 1})
        second = _refused(lambda: v1.customers.create({"name": "B"}))
        assert second == ("endpoint-concurrency", None, "rate_limit")
        assert v1.invoices.list().data == []
    assert made[0].name == "A"
    assert v1.customers.create({"name": "B"}).name == "B"
    assert limited.state()["in_flight"] == {}


def test_all_endpoints_share_what_may_be_in_flight(limited: SandboxProcess) -> None:
    limited.set(concurrency_global=1)
    v1 = connect(limited).v1
    with held(limited, "customers.create", lambda: connect(limited).v1.customers.create()):
        wait_until(lambda: limited.state()["in_flight"])
        assert _refused(lambda: v1.invoices.list()) == ("global-concurrency", None, "rate_limit")
    assert v1.invoices.list().data == []


def test_two_writes_that_meet_on_an_invoice_end_in_a_lock_timeout(
    limited: SandboxProcess, customer: Make, draft: Make
) -> None:
    someone = customer(None).id
    one, other = draft(someone, 900).id, draft(someone, 900).id
    v1 = connect(limited).v1

    def describe(invoice_id: str, text: str) -> Any:
        return v1.invoices.update(invoice_id, {"metadata": {"a": text}}, {"idempotency_key": f"{invoice_id}:{text}"})

    first = lambda: connect(limited).v1.invoices.finalize_invoice(one)  # noqa: E731
    with held(limited, "invoices.finalize", first) as finalized:
        wait_until(lambda: limited.state()["locked"] == [one])
        assert _refused(lambda: describe(one, "B")) == (None, "true", "lock_timeout")
        assert describe(other, "C").metadata["a"] == "C"
        assert v1.invoices.retrieve(one).status == "draft"
    assert finalized[0].status == "open"
    assert describe(one, "B").metadata["a"] == "B", "the refusal was kept under its key"


def test_a_refund_locks_its_charge(
    limited: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    final(customer().id, 900)
    limited.wait_for_webhooks()
    charge = client.v1.charges.list().data[0].id

    def refund() -> Any:
        return connect(limited).v1.refunds.create({"charge": charge, "amount": 100})

    with held(limited, "refunds.create", refund):
        wait_until(lambda: limited.state()["locked"] == [charge])
        assert _refused(refund)[2] == "lock_timeout"
    assert client.v1.charges.retrieve(charge).amount_refunded == 100


def test_a_write_waits_a_little_for_the_one_before(limited: SandboxProcess, customer: Make, draft: Make) -> None:
    limited.set(lock_wait_s=60.0)
    invoice = draft(customer(None).id, 900).id
    described: list[Any] = []

    def describe() -> None:
        described.append(connect(limited).v1.invoices.update(invoice, {"metadata": {"a": "B"}}).status)

    waiting = threading.Thread(target=describe)
    with held(limited, "invoices.finalize", lambda: connect(limited).v1.invoices.finalize_invoice(invoice)) as done:
        wait_until(lambda: limited.state()["locked"])
        waiting.start()
        wait_until(lambda: limited.state()["in_flight"].get("invoices.update"))
        assert described == []
    waiting.join()
    assert (done[0].status, described) == ("open", ["open"])


def test_an_execution_takes_as_long_as_it_is_told_to(sandbox: SandboxProcess) -> None:
    sandbox.set(latency_s=0.2)
    assert requests.get(
        f"{sandbox.url}/v1/customers", headers={"Authorization": f"Bearer {sandbox.api_key}"}, timeout=30
    ).elapsed.total_seconds() >= 0.2  # fmt: skip


def test_there_is_no_search(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        client.v1.invoices.search({"query": "metadata['ledger_invoice_id']:'1'"})
