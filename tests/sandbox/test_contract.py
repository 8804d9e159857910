"""Every endpoint once, with the SDK as the client and Stripe's own schema as the judge (see conftest)."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.contract import Contract
from tests.sandbox.receiver import Receiver


def test_the_schema_is_here(contract: Contract | None) -> None:
    if contract is None:
        pytest.skip(
            "STRIPE'S OPENAPI FILE IS ABSENT: no answer of the sandbox was held against it. Set STRIPE_OPENAPI_SPEC"
        )
    with pytest.raises(AssertionError, match="is a required property"):
        contract.check_event({"object": "event", "type": "invoice.paid", "data": {"object": {"object": "invoice"}}})


def test_the_judge_refuses_what_stripe_refuses(contract: Contract | None) -> None:
    if contract is None:
        pytest.skip("Stripe's OpenAPI file is absent")
    exchange = {"method": "POST", "path": "/v1/customers", "query": "", "status": 200, "answer": '{"deleted": true}'}
    for form in ("colour=red", "address[planet]=mars", "balance=much", "tax_exempt=maybe"):
        with pytest.raises(AssertionError, match=r"POST /v1/customers -> 200 \(form\)"):
            contract.check_exchange({**exchange, "form": form})


def test_a_whole_story_speaks_stripe(
    sandbox: SandboxProcess,
    receiver: Receiver,
    client: stripe.StripeClient,
    customer: Callable[..., Any],
    draft: Callable[..., Any],
    final: Callable[..., Any],
) -> None:
    v1: Any = client.v1  # expanded fields are objects, which the SDK's static types cannot know
    address = {"line1": "Main Street 1", "city": "Berlin", "country": "DE"}
    someone = customer(address=address, phone="123", metadata={"ledger_customer": "7"})
    card = v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    v1.payment_methods.attach(card.id, {"customer": someone.id})
    v1.payment_methods.list({"customer": someone.id, "type": "card"})
    v1.customers.payment_methods.list(someone.id)
    v1.payment_methods.retrieve(card.id)
    v1.payment_methods.detach(card.id)
    v1.customers.retrieve(someone.id, {"expand": ["invoice_settings.default_payment_method"]})
    v1.customers.list({"email": "customer@demo.test", "limit": 3})

    paid = final(someone.id, 1200, 800, number="DEMO-1", description="Usage in May", footer="Thank you")
    sandbox.wait_for_webhooks()
    whole = v1.invoices.retrieve(paid.id, {"expand": ["payments.data.payment.payment_intent", "customer"]})
    intent_id = whole.payments.data[0].payment.payment_intent.id
    intent = v1.payment_intents.retrieve(intent_id, {"expand": ["latest_charge.balance_transaction"]})
    v1.payment_intents.list({"customer": someone.id})
    v1.charges.retrieve(intent.latest_charge.id)
    v1.charges.list({"payment_intent": intent_id})
    v1.balance_transactions.list({"source": intent.latest_charge.id})
    v1.balance_transactions.retrieve(intent.latest_charge.balance_transaction.id)
    payments = v1.invoice_payments.list({"payment": {"type": "payment_intent", "payment_intent": intent_id}})
    v1.invoice_payments.retrieve(payments.data[0].id)
    refund = v1.refunds.create({"charge": intent.latest_charge.id, "amount": 500, "reason": "duplicate"})
    v1.refunds.retrieve(refund.id)
    v1.refunds.list({"charge": intent.latest_charge.id})
    v1.charges.retrieve(intent.latest_charge.id, {"expand": ["refunds"]})

    v1.invoices.list({"customer": someone.id, "status": "paid", "created": {"gte": paid.created}})
    v1.invoices.line_items.list(paid.id)
    changed = v1.invoices.update(draft(someone.id, 100).id, {"description": "Changed", "metadata": {"a": "b"}})
    v1.invoices.delete(changed.id)
    sent = draft(someone.id, 900, collection_method="send_invoice", days_until_due=30)
    v1.invoices.send_invoice(sent.id)
    v1.invoices.mark_uncollectible(sent.id)
    v1.invoices.void_invoice(sent.id)
    by_hand = final(someone.id, 900, auto_advance=False)
    v1.invoices.pay(by_hand.id, {"payment_method": "pm_card_mastercard"})

    v1.billing_portal.sessions.create({"customer": someone.id, "return_url": "https://demo.test/billing"})
    endpoint = v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["invoice.paid"]})
    v1.webhook_endpoints.update(endpoint.id, {"disabled": True, "description": "second"})
    v1.webhook_endpoints.list()
    v1.webhook_endpoints.retrieve(endpoint.id)
    v1.webhook_endpoints.delete(endpoint.id)
    listed = v1.events.list({"types": ["invoice.paid", "invoice.finalized"], "limit": 5})
    v1.events.retrieve(listed.data[0].id)
    v1.customers.update(someone.id, {"balance": -250})
    final(someone.id, 200)
    v1.customers.balance_transactions.list(someone.id)
    v1.customers.delete(someone.id)
    v1.customers.retrieve(someone.id)
    sandbox.wait_for_webhooks()
    assert {"invoice_payment.paid", "charge.updated", "customer.deleted", "refund.created"} <= set(receiver.types())


def test_a_declined_story_speaks_stripe(
    sandbox: SandboxProcess, customer: Callable[..., Any], final: Callable[..., Any], receiver: Receiver
) -> None:
    final(customer("pm_card_chargeCustomerFail").id, 700)
    final(customer("pm_card_authenticationRequired").id, 700)
    final(customer(None).id, 700)
    sandbox.wait_for_webhooks()
    assert {"charge.failed", "payment_intent.payment_failed", "invoice.payment_action_required"} <= set(
        receiver.types()
    )


def test_the_objects_have_no_fields_of_former_api_versions(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Callable[..., Any], final: Callable[..., Any]
) -> None:
    """Source: https://docs.stripe.com/changelog/basil (fields removed from invoices, charges and payment intents)."""
    invoice = final(customer().id, 900)
    sandbox.wait_for_webhooks()
    gone = {"payment_intent", "charge", "paid", "paid_out_of_band", "subscription", "tax", "total_tax_amounts"}
    assert not gone & set(client.v1.invoices.retrieve(invoice.id).to_dict())
    assert "invoice" not in client.v1.charges.list().data[0].to_dict()
    assert "invoice" not in client.v1.payment_intents.list().data[0].to_dict()
    assert not {"tax_amounts", "price"} & set(client.v1.invoices.line_items.list(invoice.id).data[0].to_dict())
