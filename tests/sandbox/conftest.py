"""A sandbox process per test and the unmodified SDK as its client; Stripe's schema judges both (see `watch`)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import stripe
from stripe.params import CustomerCreateParams, InvoiceAddLinesParamsLine, InvoiceCreateParams

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.contract import Contract, spec_path
from tests.sandbox.receiver import Receiver

stripe.enable_telemetry = False


@pytest.fixture(scope="session")
def contract() -> Contract | None:
    """Stripe's schema; None where the file is absent (test_contract says so visibly)."""
    path = spec_path()
    return Contract(path) if path else None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[SandboxProcess]:
    """A sandbox that is not started yet."""
    process = SandboxProcess(tmp_path)
    yield process
    process.kill9()


@pytest.fixture
def sandbox(process: SandboxProcess, receiver: Receiver) -> SandboxProcess:
    """A running sandbox that delivers to `receiver`: no rate limits, charges follow finalization at once."""
    return process.start(webhook_url=receiver.url)


@pytest.fixture
def client(sandbox: SandboxProcess) -> stripe.StripeClient:
    """The unmodified SDK. It does not retry by itself: a test sees each answer."""
    return connect(sandbox)


def connect(
    sandbox: SandboxProcess, *, timeout_s: float = 10.0, retries: int = 0, key: str | None = None
) -> stripe.StripeClient:
    """An SDK client of its own for a sandbox."""
    return stripe.StripeClient(
        key or sandbox.api_key,
        base_addresses={"api": sandbox.url},
        http_client=stripe.RequestsClient(timeout=timeout_s),
        max_network_retries=retries,
    )


@pytest.fixture
def customer(client: stripe.StripeClient) -> Callable[..., Any]:
    """Make a customer, by default with a working card as the default payment method."""

    def make(card: str | None = "pm_card_visa", **params: Any) -> Any:
        asked = {"email": "customer@demo.test", "name": "Demo customer", **params}
        made = client.v1.customers.create(cast(CustomerCreateParams, asked))
        if card is None:
            return made
        method = client.v1.payment_methods.attach(card, {"customer": made.id})
        return client.v1.customers.update(made.id, {"invoice_settings": {"default_payment_method": method.id}})

    return make


@pytest.fixture
def draft(client: stripe.StripeClient) -> Callable[..., Any]:
    """Make a draft invoice with one line of each amount, in minor units."""

    def make(customer_id: str, *amounts: int, **params: Any) -> Any:
        asked = {
            "customer": customer_id,
            "currency": "usd",
            "auto_advance": False,
            "pending_invoice_items_behavior": "exclude",
            **params,
        }
        invoice = client.v1.invoices.create(cast(InvoiceCreateParams, asked))
        if not amounts:
            return invoice
        lines: list[InvoiceAddLinesParamsLine] = [
            {"amount": amount, "description": f"Line {number}"} for number, amount in enumerate(amounts)
        ]
        return client.v1.invoices.add_lines(invoice.id, {"lines": lines})

    return make


@pytest.fixture
def final(client: stripe.StripeClient, draft: Callable[..., Any]) -> Callable[..., Any]:
    """Make an invoice as `draft` does and finalize it, by default to be charged at once."""

    def make(customer_id: str, *amounts: int, auto_advance: bool = True, **params: Any) -> Any:
        invoice = draft(customer_id, *amounts, **params)
        return client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": auto_advance})

    return make
