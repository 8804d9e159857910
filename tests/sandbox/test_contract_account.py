"""What we rely on, tried at the sandbox always and at a real Stripe test account when STRIPE_TEST_KEY names one.

Only what Stripe documents is asserted, so that a difference is the sandbox's mistake. Each test cleans up after itself.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.sandbox.accounts import ABSENT, KEY_VARIABLE, Account, real_key
from tests.sandbox.conftest import connect

ACCOUNTS = ["sandbox", *(["stripe"] if KEY_VARIABLE in os.environ else [])]


@pytest.fixture(params=ACCOUNTS)
def account(request: pytest.FixtureRequest) -> Iterator[Account]:
    if request.param == "sandbox":
        sandbox = request.getfixturevalue("sandbox")
        account = Account(connect(sandbox), sandbox.advance)
    else:
        key = real_key(os.environ)
        client = stripe.StripeClient(key, http_client=stripe.RequestsClient(timeout=60), max_network_retries=2)
        account = Account(client, lambda: None)
    yield account
    account.clean()


def test_a_real_account_was_asked_too() -> None:
    """One line in the summary says so where none was; every other test here then ran on the sandbox alone."""
    if KEY_VARIABLE not in os.environ:
        pytest.skip(ABSENT)
    assert real_key(os.environ)


@pytest.mark.parametrize("key", ["sk_live_1", "rk_live_1", "pk_test_1", "", "sk_test"])
def test_no_key_but_one_of_test_mode_is_used(key: str) -> None:
    with pytest.raises(ValueError, match="must begin with rk_test_ or sk_test_"):
        real_key({KEY_VARIABLE: key})


def _replayed(answer: Any) -> bool:
    return "idempotent-replayed" in {name.lower() for name in answer.last_response.headers}


def _refusal(call: Any) -> tuple[int | None, str | None, str | None]:
    """Status, type and parameter of the refusal."""
    with pytest.raises(stripe.StripeError) as error:
        call()
    body: Any = error.value.json_body
    return error.value.http_status, body["error"]["type"], body["error"].get("param")


def _payment(account: Account, invoice_id: str) -> Any:
    """The invoice's one payment."""
    (payment,) = account.client.v1.invoice_payments.list({"invoice": invoice_id, "status": "paid"}).data
    return payment


def _charge(account: Account, invoice_id: str) -> str:
    intent = account.client.v1.payment_intents.retrieve(_payment(account, invoice_id).payment.payment_intent)
    return str(intent.latest_charge)


def test_three_writes_make_one_invoice_however_often_they_are_sent(account: Account) -> None:
    v1: Any = account.client.v1
    someone = account.customer()
    number = f"CT-{account.run[:20]}"
    create, add, finalize = account.key(), account.key(), account.key()
    lines = {
        "lines": [
            {"amount": 1250, "description": "Usage", "period": {"start": 1_767_225_600, "end": 1_769_904_000}},
            {"amount": -250, "description": "Credit", "metadata": {"ledger_line_id": "2"}},
        ],
        "invoice_metadata": {"lines_added": "sha"},
    }
    for repetition in (False, True):
        draft = account.draft(
            someone.id, number=number, collection_method="send_invoice", days_until_due=30, options=create
        )
        assert (draft.status, draft.total, draft.starting_balance, _replayed(draft)) == ("draft", 0, 0, repetition)
        whole = v1.invoices.add_lines(draft.id, lines, add)
        assert (whole.total, whole.currency, _replayed(whole)) == (1000, "usd", repetition)
        assert whole.metadata["lines_added"] == "sha"
    for repetition in (False, True):
        final = v1.invoices.finalize_invoice(draft.id, {"auto_advance": False}, finalize)
        assert (final.status, final.number, final.amount_due) == ("open", number, 1000)
        assert final.hosted_invoice_url
        assert _replayed(final) == repetition
    assert [line.amount for line in v1.invoices.line_items.list(draft.id).data] in ([1250, -250], [-250, 1250])
    listed = v1.invoices.list({"customer": someone.id, "created": {"gte": draft.created}}).data
    assert [invoice.id for invoice in listed if invoice.metadata["contract_run"] == account.run] == [draft.id]


def test_a_key_with_other_parameters_is_an_error_and_the_first_result_stays(account: Account) -> None:
    someone, key = account.customer(), account.key()
    first = account.draft(someone.id, description="A", options=key)
    with pytest.raises(stripe.IdempotencyError):
        account.draft(someone.id, description="B", options=key)
    assert account.draft(someone.id, description="A", options=key).id == first.id


def test_what_is_final_is_not_made_final_again_nor_given_lines(account: Account) -> None:
    v1: Any = account.client.v1
    invoice = account.final(account.customer().id, 900, collection_method="send_invoice", days_until_due=30)
    assert _refusal(lambda: v1.invoices.finalize_invoice(invoice.id))[:2] == (400, "invalid_request_error")
    more = {"lines": [{"amount": 100, "description": "More"}]}
    assert _refusal(lambda: v1.invoices.add_lines(invoice.id, more))[:2] == (400, "invalid_request_error")
    assert _refusal(lambda: v1.invoices.delete(invoice.id))[:2] == (400, "invalid_request_error")
    assert v1.invoices.retrieve(invoice.id).total == 900


def test_only_what_is_open_can_be_voided_and_only_once(account: Account) -> None:
    v1: Any = account.client.v1
    someone = account.customer()
    draft = account.draft(someone.id, 900)
    assert _refusal(lambda: v1.invoices.void_invoice(draft.id))[0] == 400
    v1.invoices.delete(draft.id)
    assert _refusal(lambda: v1.invoices.retrieve(draft.id))[0] == 404
    invoice = account.final(someone.id, 900)
    assert v1.invoices.void_invoice(invoice.id).status == "void"
    assert _refusal(lambda: v1.invoices.void_invoice(invoice.id))[0] == 400
    assert _refusal(lambda: v1.invoices.pay(invoice.id, {"paid_out_of_band": True}))[0] == 400


def test_what_is_uncollectible_can_still_be_voided_or_paid(account: Account) -> None:
    v1: Any = account.client.v1
    someone = account.customer()
    one, two = account.final(someone.id, 900), account.final(someone.id, 700)
    assert v1.invoices.mark_uncollectible(one.id).status == "uncollectible"
    assert v1.invoices.void_invoice(one.id).status == "void"
    v1.invoices.mark_uncollectible(two.id)
    assert v1.invoices.pay(two.id, {"paid_out_of_band": True}).status == "paid"


def test_what_is_paid_elsewhere_makes_no_charge(account: Account) -> None:
    v1: Any = account.client.v1
    someone = account.customer()
    invoice = account.final(someone.id, 900)
    paid = v1.invoices.pay(invoice.id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_remaining) == ("paid", 0)
    assert v1.charges.list({"customer": someone.id}).data == []


def test_a_card_pays_and_its_fee_comes_to_light(account: Account) -> None:
    v1: Any = account.client.v1
    invoice = account.final(account.customer("pm_card_visa").id, 2000)
    assert v1.invoices.pay(invoice.id).status == "paid"
    payment = _payment(account, invoice.id)
    assert (payment.amount_paid, payment.currency, payment.payment.type) == (2000, "usd", "payment_intent")
    charge = _charge(account, invoice.id)
    entry = account.until(lambda: v1.charges.retrieve(charge, {"expand": ["balance_transaction"]}).balance_transaction)
    assert (entry.type, entry.net) == ("charge", entry.amount - entry.fee)


def test_a_refund_takes_no_more_than_was_paid(account: Account) -> None:
    v1: Any = account.client.v1
    invoice = account.final(account.customer("pm_card_visa").id, 2000)
    v1.invoices.pay(invoice.id)
    charge, key = _charge(account, invoice.id), account.key()
    for repetition in (False, True):
        refund = v1.refunds.create({"charge": charge, "amount": 500, "metadata": {"ledger_refund_id": "1"}}, key)
        assert (refund.amount, refund.metadata["ledger_refund_id"]) == (500, "1")
        assert refund.status in ("pending", "succeeded")
        assert _replayed(refund) == repetition
    assert _refusal(lambda: v1.refunds.create({"charge": charge, "amount": 1501}))[0] == 400
    v1.refunds.create({"charge": charge})
    assert v1.charges.retrieve(charge).amount_refunded == 2000
    assert sum(refund.amount for refund in v1.refunds.list({"charge": charge}).data) == 2000
    assert v1.invoices.retrieve(invoice.id).status == "paid"


def test_a_declined_card_leaves_the_invoice_open(account: Account) -> None:
    v1: Any = account.client.v1
    invoice = account.final(account.customer("pm_card_chargeCustomerFail").id, 900)
    with pytest.raises(stripe.CardError) as declined:
        v1.invoices.pay(invoice.id)
    assert (declined.value.http_status, declined.value.code) == (402, "card_declined")
    assert v1.invoices.retrieve(invoice.id).status == "open"


def test_a_credit_note_lowers_what_is_due_and_gives_back_what_was_paid(account: Account) -> None:
    v1: Any = account.client.v1
    invoice = account.final(account.customer("pm_card_visa").id, 2000)
    before = v1.credit_notes.create({"invoice": invoice.id, "amount": 500})
    assert (before.pre_payment_amount, before.post_payment_amount, before.status) == (500, 0, "issued")
    assert v1.invoices.retrieve(invoice.id).amount_remaining == 1500
    assert v1.invoices.pay(invoice.id).amount_paid == 1500
    assert _refusal(lambda: v1.credit_notes.create({"invoice": invoice.id, "amount": 300}))[0] == 400
    after = v1.credit_notes.create({"invoice": invoice.id, "amount": 300, "refund_amount": 300})
    assert (after.pre_payment_amount, after.post_payment_amount) == (0, 300)
    assert [part.amount_refunded for part in after.refunds] == [300]
    assert v1.charges.retrieve(_charge(account, invoice.id)).amount_refunded == 300
    assert {note.id for note in v1.credit_notes.list({"invoice": invoice.id}).data} == {before.id, after.id}


def test_what_is_too_small_to_be_charged_goes_to_the_customers_balance(account: Account) -> None:
    v1: Any = account.client.v1
    someone = account.customer("pm_card_visa")
    invoice = account.final(someone.id, 1)
    assert (invoice.status, invoice.amount_paid) == ("paid", 0)
    assert v1.customers.retrieve(someone.id).balance == 1
    assert v1.charges.list({"customer": someone.id}).data == []


def test_a_malformed_request_is_refused_by_the_name_of_its_parameter(account: Account) -> None:
    v1: Any = account.client.v1
    someone = account.customer().id
    bad = (400, "invalid_request_error")
    assert _refusal(lambda: account.client.raw_request("post", "/v1/customers", colour="red")) == (*bad, "colour")
    assert _refusal(lambda: account.draft(someone, number="N" * 27)) == (*bad, "number")
    assert _refusal(lambda: account.draft(someone, description="x" * 1501)) == (*bad, "description")
    assert _refusal(lambda: account.draft("cus_nobody")) == (*bad, "customer")
    assert _refusal(lambda: v1.invoices.retrieve("in_nothing"))[:2] == (404, "invalid_request_error")
    # Validation keeps nothing under the key.
    key = account.key()
    assert _refusal(lambda: account.draft(someone, colour="red", options=key))[0] == 400
    assert account.draft(someone, options=key).status == "draft"


def test_what_happened_is_listed_as_events(account: Account) -> None:
    v1: Any = account.client.v1
    invoice = account.final(account.customer().id, 900, collection_method="send_invoice", days_until_due=30)

    def told() -> Any:
        listed = v1.events.list({"types": ["invoice.finalized"], "created": {"gte": invoice.created}, "limit": 100})
        return [event for event in listed.data if event.data.object["id"] == invoice.id]

    (event,) = account.until(told)
    assert (event.type, event.livemode, event.data.object["total"]) == ("invoice.finalized", False, 900)


def test_a_deleted_customer_is_a_tombstone(account: Account) -> None:
    v1: Any = account.client.v1
    someone = account.customer()
    assert v1.customers.delete(someone.id).deleted is True
    assert v1.customers.retrieve(someone.id).deleted is True
    assert _refusal(lambda: account.draft(someone.id))[0] == 400
