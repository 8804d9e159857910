"""Drafts, totals, finalization and the customer's balance: https://docs.stripe.com/invoicing/integration/workflow-transitions."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver

Make = Callable[..., Any]


def test_a_new_invoice_is_an_inert_empty_draft(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make
) -> None:
    invoice = client.v1.invoices.create({"customer": customer().id, "currency": "eur"})
    assert (invoice.status, invoice.auto_advance, invoice.total, invoice.number) == ("draft", False, 0, None)
    assert (invoice.currency, invoice.collection_method) == ("eur", "charge_automatically")
    sandbox.advance(30 * 86400)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"


def test_add_lines_appends_and_merges_the_invoices_metadata(
    client: stripe.StripeClient, customer: Make, draft: Make
) -> None:
    invoice = draft(customer().id, metadata={"ledger_invoice_id": "L1"})
    for description in ("first", "second"):
        invoice = client.v1.invoices.add_lines(
            invoice.id,
            {
                "lines": [{"amount": 250, "description": description, "metadata": {"ledger_line_id": description}}],
                "invoice_metadata": {"lines_added": description},
            },
        )
    assert invoice.total == 500
    assert invoice.metadata is not None
    assert invoice.metadata.to_dict() == {"ledger_invoice_id": "L1", "lines_added": "second"}
    lines = client.v1.invoices.line_items.list(invoice.id).data
    assert [line.description for line in lines] == ["first", "second"]


def test_negative_lines_reduce_the_total(customer: Make, draft: Make) -> None:
    assert draft(customer().id, 1000, -300).total == 700


def test_tax_amounts_are_added_or_included(client: stripe.StripeClient, customer: Make, draft: Make) -> None:
    """1000 + 200 on top + 50 included = 1200 in total, 950 without any tax."""
    rates = [("VAT", 200, False), ("Levy", 50, True)]
    invoice = client.v1.invoices.add_lines(
        draft(customer().id).id,
        {
            "lines": [
                {
                    "amount": 1000,
                    "tax_amounts": [
                        {
                            "amount": amount,
                            "taxable_amount": 1000,
                            "tax_rate_data": {"display_name": name, "percentage": 20.0, "inclusive": inclusive},
                        }
                        for name, amount, inclusive in rates
                    ],
                }
            ]
        },
    )
    assert (invoice.subtotal, invoice.total, invoice.total_excluding_tax) == (1000, 1200, 950)
    taxes: Any = invoice.total_taxes
    assert [(tax.amount, tax.tax_behavior) for tax in taxes] == [(200, "exclusive"), (50, "inclusive")]


def test_the_same_rate_on_two_lines_is_one_total(client: stripe.StripeClient, customer: Make, draft: Make) -> None:
    tax: Any = {
        "amount": 19,
        "taxable_amount": 100,
        "tax_rate_data": {"display_name": "VAT", "percentage": 19, "inclusive": False},
    }
    invoice: Any = client.v1.invoices.add_lines(
        draft(customer().id).id, {"lines": [{"amount": 100, "tax_amounts": [tax]}] * 2}
    )
    assert [(total.amount, total.taxable_amount) for total in invoice.total_taxes] == [(38, 200)]


def test_an_invoice_takes_250_lines_and_shows_ten(client: stripe.StripeClient, customer: Make, draft: Make) -> None:
    invoice = draft(customer().id, *[100] * 250)
    assert (invoice.total, len(invoice.lines.data), invoice.lines.has_more) == (25_000, 10, True)
    listed = client.v1.invoices.line_items.list(invoice.id, {"limit": 100})
    assert len(list(listed.auto_paging_iter())) == 250
    with pytest.raises(stripe.InvalidRequestError, match="at most 250"):
        client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 1}]})


def test_only_drafts_take_lines_deletion_and_finalization(
    client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    invoice = final(customer(None).id, 900, auto_advance=False)
    with pytest.raises(stripe.InvalidRequestError, match="draft"):
        client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 1}]})
    with pytest.raises(stripe.InvalidRequestError, match="draft"):
        client.v1.invoices.delete(invoice.id)
    with pytest.raises(stripe.InvalidRequestError, match="re-finalize") as refused:
        client.v1.invoices.finalize_invoice(invoice.id)
    assert refused.value.code == "invoice_not_editable"


def test_after_finalization_only_metadata_and_collection_can_change(
    client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    invoice = final(customer(None).id, 900, auto_advance=False)
    changed = client.v1.invoices.update(invoice.id, {"metadata": {"note": "1"}})
    assert changed.metadata is not None
    assert changed.metadata["note"] == "1"
    with pytest.raises(stripe.InvalidRequestError, match="Finalized invoices"):
        client.v1.invoices.update(invoice.id, {"description": "late"})


def test_a_number_is_unique_and_at_most_26_long(client: stripe.StripeClient, customer: Make, draft: Make) -> None:
    someone = customer()
    draft(someone.id, number="A" * 26)
    with pytest.raises(stripe.InvalidRequestError, match="already in use"):
        draft(customer().id, number="A" * 26)
    with pytest.raises(stripe.InvalidRequestError, match="at most 26"):
        draft(someone.id, number="A" * 27)
    assert client.v1.invoices.list().data[0].number == "A" * 26


def test_without_a_number_of_ours_the_customers_sequence_counts(customer: Make, final: Make) -> None:
    someone = customer(invoice_prefix="DEMO")
    numbers = [final(someone.id, 900, auto_advance=False).number for _ in range(2)]
    assert numbers == ["DEMO-0001", "DEMO-0002"]


def test_the_number_of_a_deleted_draft_is_free_again(client: stripe.StripeClient, customer: Make, draft: Make) -> None:
    someone = customer()
    client.v1.invoices.delete(draft(someone.id, number="N-1").id)
    assert draft(someone.id, number="N-1").number == "N-1"


@pytest.mark.parametrize(
    ("currency", "total", "status", "balance"),
    [
        ("usd", 49, "paid", 49),
        ("usd", 50, "open", 0),
        ("gbp", 29, "paid", 29),
        ("gbp", 30, "open", 0),
        ("jpy", 49, "paid", 49),
    ],
)
def test_an_amount_too_small_to_charge_becomes_a_debit_on_the_balance(
    client: stripe.StripeClient, customer: Make, final: Make, currency: str, total: int, status: str, balance: int
) -> None:
    """Source: https://docs.stripe.com/billing/customer/balance and https://docs.stripe.com/currencies#minimum."""
    someone = customer()
    invoice = final(someone.id, total, currency=currency, auto_advance=False)
    assert (invoice.status, invoice.amount_paid, invoice.ending_balance) == (status, 0, balance)
    assert client.v1.customers.retrieve(someone.id).balance == balance


@pytest.mark.parametrize(
    ("before", "total", "due", "after", "status"),
    [
        (-300, 1000, 700, 0, "open"),
        (-1000, 1000, 0, 0, "paid"),
        (-1500, 1000, 0, -500, "paid"),
        (0, 0, 0, 0, "paid"),
        (0, -400, 0, -400, "paid"),
        (30, 1000, 1030, 0, "open"),
        (-980, 1000, 0, 20, "paid"),
    ],
)
def test_the_customers_balance_pays_first(
    client: stripe.StripeClient, customer: Make, final: Make, before: int, total: int, due: int, after: int, status: str
) -> None:
    someone = customer(balance=before)
    invoice = final(someone.id, total, auto_advance=False)
    assert (invoice.starting_balance, invoice.amount_due, invoice.ending_balance) == (before, due, after)
    assert (invoice.total, invoice.status) == (total, status)
    assert client.v1.customers.retrieve(someone.id).balance == after


def test_a_draft_shows_the_balance_before_it_is_finalized(
    client: stripe.StripeClient, customer: Make, draft: Make
) -> None:
    someone = customer()
    invoice = draft(someone.id)
    client.v1.customers.update(someone.id, {"balance": 75})
    shown = client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 500}]})
    assert (shown.status, shown.total, shown.starting_balance, shown.amount_due) == ("draft", 500, 75, 575)


def test_voiding_gives_the_applied_balance_back(client: stripe.StripeClient, customer: Make, final: Make) -> None:
    someone = customer(balance=-300)
    invoice = final(someone.id, 1000, auto_advance=False)
    assert client.v1.invoices.void_invoice(invoice.id).status == "void"
    assert client.v1.customers.retrieve(someone.id).balance == -300
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.invoices.pay(invoice.id)


def test_uncollectible_invoices_can_be_paid_or_voided(client: stripe.StripeClient, customer: Make, final: Make) -> None:
    someone = customer()
    for end in ("paid", "void"):
        invoice = final(someone.id, 1000, auto_advance=False)
        assert client.v1.invoices.mark_uncollectible(invoice.id).status == "uncollectible"
        ended = client.v1.invoices.pay(invoice.id) if end == "paid" else client.v1.invoices.void_invoice(invoice.id)
        assert ended.status == end


def test_send_invoice_needs_a_due_date_and_stays_open(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, draft: Make, final: Make, receiver: Receiver
) -> None:
    someone = customer()
    with pytest.raises(stripe.InvalidRequestError, match="days_until_due"):
        draft(someone.id, collection_method="send_invoice")
    invoice = final(someone.id, 1000, collection_method="send_invoice", days_until_due=30)
    sandbox.advance(40 * 86400)
    sandbox.wait_for_webhooks()
    assert client.v1.invoices.retrieve(invoice.id).status == "open"
    assert invoice.due_date - invoice.status_transitions.finalized_at == 30 * 86400
    assert "invoice.sent" in receiver.types()


def test_a_draft_that_advances_itself_waits_an_hour_and_for_the_receiver(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, receiver: Receiver
) -> None:
    """Source: https://docs.stripe.com/invoicing/integration/workflow-transitions (an endpoint that fails delays it)."""
    someone = customer()
    receiver.status = 500
    invoice = client.v1.invoices.create({"customer": someone.id, "currency": "usd", "auto_advance": True})
    client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 900}]})
    sandbox.advance(3 * 3600)
    assert client.v1.invoices.retrieve(invoice.id).status == "draft"
    receiver.status = 200
    receiver.wait_for("invoice.created", 40)
    sandbox.wait_for_webhooks(60)
    sandbox.advance(3600)
    sandbox.wait_for_webhooks()
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
