"""Credit notes before and after payment: https://docs.stripe.com/api/credit_notes/create."""

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.receiver import Receiver
from tests.sandbox.stories import charge_of, entries, previous, told

Make = Callable[..., Any]


def _figures(invoice: stripe.Invoice) -> tuple[str | None, int, int, int, int, int]:
    return (
        invoice.status, invoice.amount_due, invoice.amount_paid, invoice.amount_remaining,
        invoice.pre_payment_credit_notes_amount, invoice.post_payment_credit_notes_amount,
    )  # fmt: skip


def test_a_credit_note_on_an_open_invoice_lowers_what_is_due(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer().id, 1000, auto_advance=False)
    note = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 300, "reason": "order_change"})
    assert (note.type, note.pre_payment_amount, note.post_payment_amount, note.total) == ("pre_payment", 300, 0, 300)
    assert note.number == f"{invoice.number}-CN-01"
    assert _figures(client.v1.invoices.retrieve(invoice.id)) == ("open", 700, 0, 700, 300, 0)
    paid = client.v1.invoices.pay(invoice.id)
    assert _figures(paid) == ("paid", 700, 700, 0, 300, 0)
    assert charge_of(sandbox, client, str(invoice.customer)).amount == 700
    assert "credit_note.created" in told(receiver, note.id)
    assert {"amount_due": 1000, "amount_remaining": 1000, "pre_payment_credit_notes_amount": 0} in previous(
        receiver, invoice.id, "invoice.updated"
    )


def test_an_open_invoice_that_is_credited_whole_is_paid_without_money(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer().id, 1000, auto_advance=False)
    client.v1.credit_notes.create({"invoice": invoice.id, "amount": 1000})
    assert _figures(client.v1.invoices.retrieve(invoice.id)) == ("paid", 0, 0, 0, 1000, 0)
    sandbox.wait_for_webhooks()
    assert "invoice.paid" in told(receiver, invoice.id)
    assert client.v1.charges.list().data == []
    assert client.v1.payment_intents.list().data[0].status == "canceled"


def test_what_was_paid_goes_back_in_the_ways_that_add_up(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    someone = customer()
    invoice = final(someone.id, 1000)
    charge = charge_of(sandbox, client, someone.id)
    note: Any = client.v1.credit_notes.create(
        {
            "invoice": invoice.id, "amount": 600, "refund_amount": 300, "credit_amount": 200, "out_of_band_amount": 100,
            "memo": "Sorry", "metadata": {"ledger_credit_note_id": "7"}, "expand": ["customer_balance_transaction"],
        }
    )  # fmt: skip
    assert (note.type, note.post_payment_amount, note.out_of_band_amount) == ("post_payment", 600, 100)
    assert (note.customer_balance_transaction.amount, note.customer_balance_transaction.type) == (-200, "credit_note")
    assert client.v1.customers.retrieve(someone.id).balance == -200
    refund = note.refunds[0]
    assert refund.amount_refunded == 300
    assert entries(client, refund.refund) == [("refund", "refund", -300, 0)]
    assert client.v1.charges.retrieve(charge.id).amount_refunded == 300
    assert _figures(client.v1.invoices.retrieve(invoice.id)) == ("paid", 1000, 1000, 0, 0, 600)
    sandbox.wait_for_webhooks()
    assert "refund.created" in told(receiver, refund.refund)


def test_a_refund_that_exists_is_linked_once(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    someone = customer()
    invoice = final(someone.id, 1000)
    refund = client.v1.refunds.create({"charge": charge_of(sandbox, client, someone.id).id, "amount": 300})
    asked: Any = {"invoice": invoice.id, "amount": 300, "refunds": [{"refund": refund.id, "amount_refunded": 300}]}
    note: Any = client.v1.credit_notes.create(asked)
    assert [(link.refund, link.amount_refunded, link.type) for link in note.refunds] == [(refund.id, 300, "refund")]
    assert sandbox.state()["objects"]["refund"] == 1
    with pytest.raises(stripe.InvalidRequestError, match="Only 0 of refund"):
        client.v1.credit_notes.create(asked)
    stranger = final(customer().id, 1000)
    sandbox.wait_for_webhooks()
    with pytest.raises(stripe.InvalidRequestError, match="is not for a payment of invoice"):
        client.v1.credit_notes.create(asked | {"invoice": stranger.id})


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"amount": 600}, "must equal"),
        ({"amount": 600, "refund_amount": 599}, "must equal"),
        ({"amount": 1001, "out_of_band_amount": 1001}, "more than can still be credited"),
        ({}, "exactly one of"),
        ({"amount": 600, "refund_amount": 600, "reason": "boredom"}, "Invalid reason"),
        ({"amount": 600, "colour": "red"}, "unknown parameter"),
    ],
)
def test_a_credit_note_that_does_not_add_up_is_refused_whole(
    sandbox: SandboxProcess,
    client: stripe.StripeClient,
    customer: Make,
    final: Make,
    asked: dict[str, Any],
    says: str,
) -> None:
    invoice = final(customer().id, 1000)
    sandbox.wait_for_webhooks()
    params: Any = asked | {"invoice": invoice.id}
    with pytest.raises(stripe.InvalidRequestError, match=says):
        client.v1.credit_notes.create(params)
    assert not {"credit_note", "refund", "customer_balance_transaction"} & set(sandbox.state()["objects"])


def test_drafts_and_void_invoices_take_no_credit_note(
    client: stripe.StripeClient, customer: Make, draft: Make, final: Make
) -> None:
    someone = customer()
    void = client.v1.invoices.void_invoice(final(someone.id, 900, auto_advance=False).id)
    for invoice in (draft(someone.id, 900), void):
        with pytest.raises(stripe.InvalidRequestError, match="open or paid"):
            client.v1.credit_notes.create({"invoice": invoice.id, "amount": 100})


def test_voiding_makes_it_due_again_and_works_while_the_invoice_is_open(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    someone = customer()
    invoice = final(someone.id, 1000, auto_advance=False)
    note = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 300})
    voided = client.v1.credit_notes.void_credit_note(note.id)
    assert (voided.status, voided.voided_at is None) == ("void", False)
    assert _figures(client.v1.invoices.retrieve(invoice.id)) == ("open", 1000, 0, 1000, 0, 0)
    with pytest.raises(stripe.InvalidRequestError, match="already void"):
        client.v1.credit_notes.void_credit_note(note.id)
    client.v1.invoices.pay(invoice.id)
    assert charge_of(sandbox, client, someone.id).amount == 1000
    late = client.v1.credit_notes.create({"invoice": invoice.id, "amount": 100, "out_of_band_amount": 100})
    with pytest.raises(stripe.InvalidRequestError, match="of an open invoice"):
        client.v1.credit_notes.void_credit_note(late.id)
    assert told(receiver, note.id) == ["credit_note.created", "credit_note.voided"]


def test_lines_credit_parts_of_the_invoices_lines_with_their_tax(
    client: stripe.StripeClient, customer: Make, draft: Make
) -> None:
    """Half of 1000 at 20 % on top = 500 + 100; with a line of its own of 50, 650 in total."""
    tax: Any = {
        "amount": 200, "taxable_amount": 1000,
        "tax_rate_data": {"display_name": "VAT", "percentage": 20, "inclusive": False},
    }  # fmt: skip
    drafted = draft(customer().id)
    client.v1.invoices.add_lines(drafted.id, {"lines": [{"amount": 1000, "description": "A", "tax_amounts": [tax]}]})
    invoice = client.v1.invoices.finalize_invoice(drafted.id)
    asked: Any = {
        "invoice": invoice.id,
        "lines": [
            {"type": "invoice_line_item", "invoice_line_item": invoice.lines.data[0].id, "amount": 500},
            {"type": "custom_line_item", "description": "Kindness", "quantity": 2, "unit_amount": 25},
        ],
    }
    seen = client.v1.credit_notes.preview(asked)
    assert (seen.subtotal, seen.total, seen.total_excluding_tax) == (550, 650, 550)
    assert client.v1.credit_notes.list({"invoice": invoice.id}).data == []
    note = client.v1.credit_notes.create(asked)
    assert (note.total, client.v1.invoices.retrieve(invoice.id).amount_remaining) == (650, 550)
    listed: Any = client.v1.credit_notes.line_items.list(note.id, {"limit": 1})
    assert [line.type for line in listed.auto_paging_iter()] == ["invoice_line_item", "custom_line_item"]


def test_credit_notes_are_listed_and_changed(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    one, two = final(customer().id, 1000, auto_advance=False), final(customer().id, 1000, auto_advance=False)
    first = client.v1.credit_notes.create({"invoice": one.id, "amount": 100})
    sandbox.advance(100)
    second = client.v1.credit_notes.create({"invoice": two.id, "amount": 100})

    def ids(**params: Any) -> list[str]:
        return [note.id for note in client.v1.credit_notes.list(params).data]  # type: ignore[arg-type]

    assert ids() == [second.id, first.id]
    assert ids(invoice=one.id) == [first.id]
    assert ids(customer=str(two.customer)) == [second.id]
    assert ids(created={"lt": second.created}) == [first.id]
    changed = client.v1.credit_notes.update(first.id, {"memo": "New", "metadata": {"a": "b"}})
    assert (changed.memo, client.v1.credit_notes.retrieve(first.id).memo) == ("New", "New")
    sandbox.wait_for_webhooks()
    assert previous(receiver, first.id, "credit_note.updated") == [{"memo": None, "metadata": {}}]
