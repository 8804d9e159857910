"""The calls to Stripe about what comes after an invoice stands there: refunds, credit notes, disputes, payouts."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]

SDK_RETRIES = {"max_network_retries": 2}
"""Of calls that change nothing; the SDK waits 0.5 to 5 s between them."""


class MoneyCalls(ABC):
    """The part of the client that moves money or takes something back. Answers and failures as in `Client`."""

    @property
    @abstractmethod
    def _v1(self) -> Any: ...

    @abstractmethod
    def _send(self, operation: str, send: Callable[[], Any]) -> Json: ...

    @abstractmethod
    def _pages(self, operation: str, send: Callable[[Json], Any], asked: Json) -> Iterator[Json]: ...

    # writes: one attempt each, under a key

    def void_invoice(self, invoice: str, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send("invoices.void", lambda: self._v1.invoices.void_invoice(invoice, dict(body), _keyed(key)))

    def mark_uncollectible(self, invoice: str, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send(
            "invoices.mark_uncollectible",
            lambda: self._v1.invoices.mark_uncollectible(invoice, dict(body), _keyed(key)),
        )

    def pay_invoice(self, invoice: str, body: Mapping[str, Any], *, key: str) -> Json:
        """Only ever with `paid_out_of_band`: Stripe itself collects, and is not told to."""
        return self._send("invoices.pay", lambda: self._v1.invoices.pay(invoice, dict(body), _keyed(key)))

    def report_payment(self, body: Mapping[str, Any], *, key: str) -> Json:
        """Write down money that came past Stripe. By itself it pays no invoice."""
        return self._send(
            "payment_records.report_payment", lambda: self._v1.payment_records.report_payment(dict(body), _keyed(key))
        )

    def attach_payment(self, invoice: str, body: Mapping[str, Any], *, key: str) -> Json:
        """Let a payment record pay an invoice; the answer is the invoice with what remains."""
        return self._send(
            "invoices.attach_payment", lambda: self._v1.invoices.attach_payment(invoice, dict(body), _keyed(key))
        )

    def create_refund(self, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send("refunds.create", lambda: self._v1.refunds.create(dict(body), _keyed(key)))

    def create_credit_note(self, body: Mapping[str, Any], *, key: str) -> Json:
        return self._send("credit_notes.create", lambda: self._v1.credit_notes.create(dict(body), _keyed(key)))

    def adjust_balance(self, customer: str, body: Mapping[str, Any], *, key: str) -> Json:
        """Move a customer's balance at Stripe by `amount` minor units; the answer has `ending_balance`."""
        return self._send(
            "customers.balance_transactions.create",
            lambda: self._v1.customers.balance_transactions.create(customer, dict(body), _keyed(key)),
        )

    def close_dispute(self, dispute: str, body: Mapping[str, Any], *, key: str) -> Json:
        """Accept it: it is lost from then on, and there is no way back."""
        return self._send("disputes.close", lambda: self._v1.disputes.close(dispute, dict(body), _keyed(key)))

    # reads

    def retrieve_invoice_payment(self, payment: str) -> Json:
        return self._send(
            "invoice_payments.retrieve", lambda: self._v1.invoice_payments.retrieve(payment, None, SDK_RETRIES)
        )

    def retrieve_payment_record(self, record: str) -> Json:
        return self._send(
            "payment_records.retrieve", lambda: self._v1.payment_records.retrieve(record, None, SDK_RETRIES)
        )

    def retrieve_charge(self, charge: str) -> Json:
        return self._send("charges.retrieve", lambda: self._v1.charges.retrieve(charge, None, SDK_RETRIES))

    def retrieve_payment_intent(self, intent: str) -> Json:
        return self._send(
            "payment_intents.retrieve", lambda: self._v1.payment_intents.retrieve(intent, None, SDK_RETRIES)
        )

    def retrieve_balance_transaction(self, transaction: str) -> Json:
        return self._send(
            "balance_transactions.retrieve",
            lambda: self._v1.balance_transactions.retrieve(transaction, None, SDK_RETRIES),
        )

    def payments_by_intent(self, intent: str) -> Iterator[Json]:
        """The invoice payments that a payment intent made; none if it paid no invoice."""
        asked: Json = {"payment": {"type": "payment_intent", "payment_intent": intent}}
        return self._pages("invoice_payments.list", lambda p: self._v1.invoice_payments.list(p, SDK_RETRIES), asked)

    def retrieve_refund(self, refund: str) -> Json:
        """A refund with its movements of the balance in their ids' places."""
        asked: Json = {"expand": ["balance_transaction", "failure_balance_transaction"]}
        return self._send("refunds.retrieve", lambda: self._v1.refunds.retrieve(refund, asked, SDK_RETRIES))

    def list_refunds(
        self, *, payment_intent: str | None = None, charge: str | None = None, created_from: int | None = None
    ) -> Iterator[Json]:
        """Refunds, the newest first; `created_from` is a Unix second, inclusive."""
        asked = _since(created_from, {"payment_intent": payment_intent, "charge": charge})
        return self._pages("refunds.list", lambda p: self._v1.refunds.list(p, SDK_RETRIES), asked)

    def retrieve_credit_note(self, note: str) -> Json:
        return self._send("credit_notes.retrieve", lambda: self._v1.credit_notes.retrieve(note, None, SDK_RETRIES))

    def list_credit_notes(self, *, invoice: str | None = None, created_from: int | None = None) -> Iterator[Json]:
        """Credit notes, the newest first; `created_from` is a Unix second, inclusive."""
        asked = _since(created_from, {"invoice": invoice})
        return self._pages("credit_notes.list", lambda p: self._v1.credit_notes.list(p, SDK_RETRIES), asked)

    def retrieve_dispute(self, dispute: str) -> Json:
        return self._send("disputes.retrieve", lambda: self._v1.disputes.retrieve(dispute, None, SDK_RETRIES))

    def list_disputes(self, *, created_from: int | None = None) -> Iterator[Json]:
        """Disputes, the newest first; `created_from` is a Unix second, inclusive."""
        asked = _since(created_from, {})
        return self._pages("disputes.list", lambda p: self._v1.disputes.list(p, SDK_RETRIES), asked)

    def retrieve_payout(self, payout: str) -> Json:
        return self._send("payouts.retrieve", lambda: self._v1.payouts.retrieve(payout, None, SDK_RETRIES))

    def list_payouts(self, *, created_from: int | None = None) -> Iterator[Json]:
        """Payouts, the newest first; `created_from` is a Unix second, inclusive."""
        return self._pages("payouts.list", lambda p: self._v1.payouts.list(p, SDK_RETRIES), _since(created_from, {}))

    def transactions_of_payout(self, payout: str) -> Iterator[Json]:
        """Every movement of the account's balance that a payout paid out, with its source in its id's place."""
        asked: Json = {"payout": payout, "expand": ["data.source"]}
        return self._pages(
            "balance_transactions.list", lambda p: self._v1.balance_transactions.list(p, SDK_RETRIES), asked
        )

    def list_customer_balance(self, customer: str) -> Iterator[Json]:
        """The changes of a customer's balance at Stripe, the newest first."""
        return self._pages(
            "customers.balance_transactions.list",
            lambda p: self._v1.customers.balance_transactions.list(customer, p, SDK_RETRIES),
            {},
        )


def _keyed(key: str) -> Json:
    return {"idempotency_key": key}


def _since(created_from: int | None, asked: Json) -> Json:
    return asked if created_from is None else asked | {"created": {"gte": created_from}}
