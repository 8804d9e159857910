"""The two accounts that the contract suite runs on: the sandbox's, and a real test account at Stripe."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import stripe
from stripe.params import CustomerCreateParams, InvoiceCreateParams

KEY_VARIABLE = "STRIPE_TEST_KEY"
KEY_PREFIXES = ("rk_test_", "sk_test_")
ABSENT = f"NO STRIPE TEST ACCOUNT: this ran against the sandbox only. Set {KEY_VARIABLE} (rk_test_... or sk_test_...)."
PATIENCE_S = 90.0
PAUSE_S = 0.5
"""Between two looks at a real account, whose limits others share."""


def real_key(environment: Mapping[str, str]) -> str:
    """The key of the real test account.

    Raises:
        ValueError: the key is not one of test mode; nothing of this may ever touch money.
    """
    key = environment[KEY_VARIABLE]
    if not key.startswith(KEY_PREFIXES):
        raise ValueError(f"{KEY_VARIABLE} must begin with {' or '.join(KEY_PREFIXES)}: no other key is used by a test")
    return key


@dataclass
class Account:
    """An account, what a test made in it, and how to wait for what happens there of its own accord."""

    client: stripe.StripeClient
    nudge: Callable[[], Any]  # does what is due at once, where that is possible
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    customers: list[str] = field(default_factory=list)
    invoices: list[str] = field(default_factory=list)

    def key(self) -> dict[str, Any]:
        """Options with an idempotency key that nobody used."""
        return {"idempotency_key": f"contract:{self.run}:{uuid.uuid4()}"}

    def customer(self, card: str | None = None) -> Any:
        """A customer, with a test card as the default if one is named."""
        asked = {"email": "contract@demo.test", "name": "Contract", "metadata": {"contract_run": self.run}}
        made = self.client.v1.customers.create(cast(CustomerCreateParams, asked))
        self.customers.append(made.id)
        if card is None:
            return made
        method = self.client.v1.payment_methods.attach(card, {"customer": made.id})
        return self.client.v1.customers.update(made.id, {"invoice_settings": {"default_payment_method": method.id}})

    def draft(self, customer_id: str, *amounts: int, options: Any = None, **params: Any) -> Any:
        """A draft as we make them, with one line of each amount in minor units."""
        asked = {
            "customer": customer_id, "currency": "usd", "auto_advance": False,
            "pending_invoice_items_behavior": "exclude", "metadata": {"contract_run": self.run}, **params,
        }  # fmt: skip
        invoice = self.client.v1.invoices.create(cast(InvoiceCreateParams, asked), options)
        if invoice.id not in self.invoices:
            self.invoices.append(invoice.id)
        if not amounts:
            return invoice
        lines: Any = [{"amount": amount, "description": f"Line {number}"} for number, amount in enumerate(amounts)]
        return self.client.v1.invoices.add_lines(invoice.id, {"lines": lines})

    def final(self, customer_id: str, *amounts: int, **params: Any) -> Any:
        """The same, final; it is not collected of its own accord."""
        invoice = self.draft(customer_id, *amounts, **params)
        return self.client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": False})

    def until(self, look: Callable[[], Any]) -> Any:
        """What `look` finds as soon as it finds something."""
        end = time.monotonic() + PATIENCE_S
        while not (found := look()):
            assert time.monotonic() < end, "it did not happen"
            self.nudge()
            time.sleep(PAUSE_S)
        return found

    def clean(self) -> None:
        """Leave nothing that could still move: drafts deleted, open invoices void, customers deleted.

        Raises:
            AssertionError: naming what is left, after everything was tried.
        """
        left = []
        for invoice_id in self.invoices:
            left += _tried(lambda invoice_id=invoice_id: self._end(invoice_id), invoice_id)  # type: ignore[misc]
        for customer_id in self.customers:
            left += _tried(lambda customer_id=customer_id: self._delete(customer_id), customer_id)  # type: ignore[misc]
        assert not left, f"left in the account: {left}"

    def _end(self, invoice_id: str) -> None:
        try:
            status = self.client.v1.invoices.retrieve(invoice_id).status
        except stripe.InvalidRequestError as error:
            if error.http_status != 404:
                raise
            return  # a draft that the test deleted
        if status == "draft":
            self.client.v1.invoices.delete(invoice_id)
        elif status in ("open", "uncollectible"):
            self.client.v1.invoices.void_invoice(invoice_id)

    def _delete(self, customer_id: str) -> None:
        if "deleted" not in self.client.v1.customers.retrieve(customer_id):
            self.client.v1.customers.delete(customer_id)


def _tried(work: Callable[[], None], name: str) -> list[str]:
    try:
        work()
    except stripe.StripeError as error:
        return [f"{name}: {error}"]
    return []
