"""Each final invoice is created at Stripe once, by three writes and no read."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from invoicing.customers import customer_id_for
from stripe_gateway import sync_runs
from stripe_gateway.errors import StripeClosed
from tests.gateway.conftest import WRITES, Town, at_once, client_for, now


def test_three_writes_and_no_read_per_invoice_and_one_customer_ever(town: Town) -> None:
    town.invoices(12)
    summary = town.sync()
    assert (summary.synced, summary.waiting, summary.parked, summary.unknown) == (12, 0, 0, 0)
    assert town.sandbox.counts() == {"customers.create": 12, **dict.fromkeys(WRITES, 12)}
    town.assert_each_stands_once()

    for number in range(12):
        town.company.use(f"customer-{number}", "2025-07-03", "9.99")
    town.company.close("2025-08-02")
    town.company.finalize_due("2025-08-10")
    assert town.sync().synced == 12
    assert town.sandbox.counts()["customers.create"] == 12
    assert town.sync().synced == 0


def test_the_number_of_entries_does_not_change_the_number_of_calls(town: Town) -> None:
    invoice = town.invoice("acme", *[f"{n}.01" for n in range(1, 40)])
    town.sync()
    assert {name: town.sandbox.counts()[name] for name in WRITES} == dict.fromkeys(WRITES, 1)
    assert town.row(invoice).external_status in ("open", "paid")


def test_what_stripe_shows_is_what_we_finalized(town: Town) -> None:
    """
    machine-0  12.005
    machine-1   7.005
    total      19.01, half-even
    """
    invoice = town.invoice("acme", "12.005", "7.005")
    town.sync()
    [stripes] = town.standing()[str(invoice.id)]
    assert stripes["total"] == 1901 == town.row(invoice).amount_due_minor
    assert sum(line["amount"] for line in stripes["lines"]["data"]) == 1901
    assert stripes["number"] == invoice.number
    assert stripes["metadata"]["ledger_invoice_id"] == str(invoice.id)
    assert stripes["currency"] == "usd"


def test_who_has_a_payment_method_is_charged_and_others_get_the_invoice_sent(town: Town) -> None:
    charged = town.invoice("charged", card="pm_card_visa")
    sent = town.invoice("sent")
    town.sync()
    standing = town.standing()
    assert standing[str(charged.id)][0]["collection_method"] == "charge_automatically"
    assert standing[str(sent.id)][0]["collection_method"] == "send_invoice"


def test_two_invoices_of_one_customer_at_once_make_one_customer(town: Town) -> None:
    town.company.customer("acme")
    for month in (6, 7):
        town.company.use("acme", f"2025-0{month}-03", "12.34")
    town.company.close("2025-08-02")
    town.company.finalize_due("2025-08-10")
    town.sandbox.fault("customers.create", "delay_before", delay_s=0.5)
    assert town.sync().synced == 2
    assert town.sandbox.counts()["customers.create"] == 1
    town.assert_each_stands_once()


def test_two_runs_at_once_send_nothing_twice(town: Town) -> None:
    town.invoices(8)
    summaries = at_once(*[lambda: sync_runs.sync_due(town.engine, client_for(town), now=now()) for _ in range(3)])
    assert sum(summary.synced for summary in summaries) == 8
    assert town.sandbox.counts() == {"customers.create": 8, **dict.fromkeys(WRITES, 8)}
    town.assert_each_stands_once()


def test_more_than_250_lines_are_grouped_and_still_add_up(town: Town) -> None:
    invoice = town.invoice("acme", *[f"{n % 7}.{n % 100:02d}1" for n in range(1, 300)])
    town.sync()
    [stripes] = town.standing()[str(invoice.id)]
    assert stripes["total"] == town.row(invoice).amount_due_minor


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [("USD", "12.34", 1234), ("JPY", "1234", 1234), ("ISK", "1200", 120_000), ("KWD", "1.23", 1230)],
)
def test_stripes_minor_units_are_not_isos(town: Town, currency: str, amount: str, minor: int) -> None:
    invoice = town.invoice("acme", amount, currency=currency)
    town.sync()
    [stripes] = town.standing()[str(invoice.id)]
    assert (stripes["total"], stripes["currency"]) == (minor, currency.lower())


def test_a_wrong_key_stops_the_run_and_nothing_is_lost(town: Town) -> None:
    town.invoices(6)
    wrong = client_for(town, api_key="sk_test_wrong")
    with pytest.raises(StripeClosed, match="Invalid API Key"):
        sync_runs.sync_due(town.engine, wrong, now=now(), threads=2)
    assert len(town.sandbox.requests()) <= 2 * 3  # each thread stops at its first refusal
    assert town.sync(at=now() + timedelta(minutes=20)).synced == 6
    town.assert_each_stands_once()


def test_submitting_again_changes_nothing(town: Town) -> None:
    invoice = town.invoice()
    before = town.row(invoice)
    orders = json.loads(before.intent)
    town.company.finalize_due("2025-07-11")
    town.sync()
    assert json.loads(town.row(invoice).intent) == orders


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stripe_syncs SET amount_due_minor = 1",
        "UPDATE stripe_syncs SET intent = '{}'",
        "UPDATE stripe_syncs SET state = 'due', step = 'create', done_at = NULL",
        "UPDATE stripe_syncs SET fence = 0",
        "UPDATE stripe_syncs SET external_id = 'in_other'",
        "DELETE FROM stripe_syncs",
        "UPDATE stripe_requests SET body = '{}'",
        "DELETE FROM stripe_requests",
        "UPDATE stripe_customers SET external_id = 'cus_other'",
        "UPDATE stripe_customers SET intent = '{}'",
        "DELETE FROM stripe_objects",
    ],
)
def test_the_database_itself_refuses_to_forget(town: Town, databases_owner: Engine, statement: str) -> None:
    town.invoice()
    town.sync()
    with pytest.raises(DBAPIError, match=r"refused|stripe_"), databases_owner.begin() as connection:
        connection.execute(text(statement))


def test_minimums_are_stripes(town: Town) -> None:
    assert town.gateway.minimum("USD") == Decimal("0.50")
    assert town.gateway.minimum("JPY") == 50
    assert town.gateway.minimum("ISK") == 1
    assert town.gateway.minimum("KWD") == Decimal("0.050")


def test_a_limit_bounds_the_run(town: Town) -> None:
    town.invoices(5)
    assert sync_runs.sync_due(town.engine, town.gateway.client, now=now(), limit=2).synced == 2
    assert town.sync().synced == 3


def test_a_run_waits_for_what_is_to_be_tried_again_soon(town: Town) -> None:
    """In real time, and in the same run."""
    town.invoice()
    town.sandbox.fault("invoices.create", "429")
    assert sync_runs.sync_due(town.engine, town.gateway.client, now=now(), patience_s=20).synced == 1


def test_a_hosted_page_is_linked_and_read_again_when_old(town: Town) -> None:
    invoice = town.invoice()
    key = {"customer_id": invoice.customer_id, "invoice_id": invoice.id}
    assert town.gateway.hosted_invoice_url(**key) is None
    town.sync()
    town.sandbox.clear_requests()
    assert (town.gateway.hosted_invoice_url(**key) or "").startswith(town.sandbox.url)
    assert town.sandbox.counts() == {}
    with town.engine.begin() as connection:
        connection.execute(text("UPDATE stripe_syncs SET hosted_url_at = now() - interval '11 days'"))
    assert (town.gateway.hosted_invoice_url(**key) or "").startswith(town.sandbox.url)
    assert town.sandbox.counts() == {"invoices.retrieve": 1}


def test_the_portal_makes_the_customer_that_the_first_invoice_then_uses(town: Town) -> None:
    town.company.customer("acme")
    url = town.gateway.portal_url(customer_id=customer_id_for("acme"), return_url="http://127.0.0.1:1/billing")
    assert url.startswith(town.sandbox.url)
    town.invoice("acme")
    town.sync()
    assert town.sandbox.counts()["customers.create"] == 1


def test_settings_keep_their_secrets_out_of_texts(town: Town) -> None:
    settings = replace(town.gateway._settings, redis_url="redis://:hunter2@127.0.0.1/0")
    assert "hunter2" not in repr(settings)
    assert town.sandbox.api_key not in repr(settings)
    assert "whsec" not in repr(settings)
