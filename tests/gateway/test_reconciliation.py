"""Reconciliation finds each kind of difference, repairs what can mean one thing only, and names the rest."""

from datetime import timedelta
from decimal import Decimal

from sqlalchemy import Engine, text

from stripe_gateway.reconciliation import ReconcileReport
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now


def run(town: Town) -> ReconcileReport:
    return town.gateway.reconcile(now=now())


def kinds(report: ReconcileReport) -> dict[str, bool]:
    """Each kind of difference that was found, and whether it was repaired."""
    return {difference.kind: difference.repaired for difference in report.differences}


def test_nothing_submitted_is_nothing_to_compare(town: Town) -> None:
    report = run(town)
    assert (report.invoices, report.differences) == (0, [])


def test_agreement_is_quiet(hooked: Town) -> None:
    hooked.invoice("acme", card="pm_card_visa")
    hooked.sync()
    hooked.settle()
    hooked.deliver(hooked.fetch())
    hooked.handle()
    report = run(hooked)
    assert (report.invoices, report.payments, report.pending, report.differences) == (1, 1, 0, [])


def test_every_webhook_lost_is_repaired_by_one_run(town: Town) -> None:
    for number in range(5):
        town.invoice(f"customer-{number}", "7.00", card="pm_card_visa")
    town.sync()
    town.sandbox.advance(60)
    report = run(town)
    assert kinds(report) == {"status_behind": True, "payment_at_stripe_only": True, "fee_not_booked": True}
    assert len(report.repaired) == 15
    assert not report.unexplained
    assert all(state == "paid" for _, state, *_ in town.books()["invoices"])
    # 7.00 less 2.9 % and 0.30.
    assert town.balance("customer-0", "assets:stripe") == Decimal("6.50")
    assert run(town).differences == []
    town.company.check()


def test_what_is_under_way_is_pending_and_no_difference(town: Town) -> None:
    town.invoices(3)
    report = run(town)
    assert (report.pending, report.differences) == (3, [])


def test_an_invoice_that_stripe_does_not_have(town: Town, databases_owner: Engine) -> None:
    invoice = town.invoice()
    town.sync()
    town.sandbox.stop()
    town.sandbox.database.unlink()
    town.sandbox.restart()
    report = run(town)
    assert kinds(report) == {"missing_at_stripe": False, "customer_deleted": False}
    assert [one.invoice_id for one in report.unexplained if one.kind == "missing_at_stripe"] == [invoice.id]


def test_two_invoices_for_one(town: Town) -> None:
    invoice = town.invoice()
    town.sync()
    client, row = town.gateway.client, town.row(invoice)
    [standing] = town.standing()[str(invoice.id)]
    copy = {"customer": standing["customer"], "currency": "usd", "metadata": standing["metadata"]}
    twin = client.create_invoice(copy, key="twin")
    client.add_lines(twin["id"], {"lines": [{"amount": row.amount_due_minor}]}, key="twin-lines")
    client.finalize_invoice(twin["id"], {}, key="twin-final")
    report = run(town)
    assert kinds(report) == {"duplicate_at_stripe": False}
    assert twin["id"] in report.unexplained[0].text


def test_a_draft_without_owner_is_deleted(town: Town) -> None:
    invoice = town.invoice()
    town.sync()
    [standing] = town.standing()[str(invoice.id)]
    copy = {"customer": standing["customer"], "currency": "usd", "metadata": standing["metadata"]}
    town.gateway.client.create_invoice(copy, key="orphan")
    assert kinds(run(town)) == {"orphan_draft": True}
    assert not town.drafts()
    assert run(town).differences == []


def test_an_invoice_that_says_it_is_ours_and_is_not(town: Town) -> None:
    town.invoice()
    town.sync()
    client = town.gateway.client
    customer = client.create_customer({"name": "somebody else"}, key="other")
    metadata = {"ledger_invoice_id": "00000000-0000-0000-0000-000000000000"}
    foreign = client.create_invoice({"customer": customer["id"], "metadata": metadata}, key="foreign")
    client.add_lines(foreign["id"], {"lines": [{"amount": 500}]}, key="foreign-lines")
    client.finalize_invoice(foreign["id"], {}, key="foreign-final")
    assert kinds(run(town)) == {"unknown_invoice": False}


def test_voided_or_given_up_at_stripe_alone(town: Town) -> None:
    void, given_up = town.invoice("void"), town.invoice("given-up")
    town.sync()
    town.gateway.client._v1.invoices.void_invoice(town.row(void).external_id)
    town.gateway.client._v1.invoices.mark_uncollectible(town.row(given_up).external_id)
    report = run(town)
    assert {difference.kind for difference in report.unexplained} == {
        "void_at_stripe_only",
        "uncollectible_at_stripe_only",
    }


def test_a_payment_that_is_only_here(town: Town) -> None:
    invoice = town.invoice()
    town.sync()
    with town.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO payments (customer_id, provider, external_id, invoice_id, amount, applied, received_at,"
                " recorded_at) VALUES (:c, 'stripe', 'inpay_invented', :i, 5, 5, now(), now())"
            ),
            {"c": invoice.customer_id, "i": invoice.id},
        )
    assert kinds(run(town)) == {"payment_here_only": False}


def test_an_invoice_paid_from_a_balance_at_stripe(town: Town) -> None:
    """The balance appears between our check and finalization: nothing we could have seen, and named here."""
    invoice = town.invoice()
    town.sandbox.fault("invoices.finalize", "429", count=1000)
    town.sync(patience_s=0)
    town.sandbox.clear_faults()
    customer = town.gateway.ensure_customer(customer_id=invoice.customer_id, now=now())
    town.gateway.client._v1.customers.update(customer, {"balance": -5000})
    assert town.sync(at=now() + timedelta(seconds=30)).synced == 1
    assert town.row(invoice).last_code == "stripe_amount_due_differs"
    report = run(town)
    assert {difference.kind for difference in report.unexplained} == {"paid_without_money", "customer_balance"}


def test_what_was_paid_too_much_goes_back_to_0_at_stripe_though_nobody_told_us(town: Town) -> None:
    """Of 15.60 for an invoice of 13.00, Stripe would use 2.60 for the next one: our books have them, unapplied."""
    invoice = town.invoice("acme", "13.00")
    town.sync()
    stripe = town.gateway.client
    external_id = str(town.row(invoice).external_id)
    customer = stripe.retrieve_invoice(external_id)["customer"]
    do.record_there(stripe, 1560, external_id, key="transfer")
    assert stripe.retrieve_customer(customer)["balance"] == -260
    report = run(town)
    assert kinds(report)["customer_balance"] is True, report.differences
    assert not report.unexplained
    assert run(town).unexplained == [], "it is under way"
    assert town.sync().operations == 1
    assert stripe.retrieve_customer(customer)["balance"] == 0
    assert town.balance("acme", "liabilities:unapplied") == Decimal("2.60")
    assert do.tasks(town) == ["overpaid"]
    # What somebody gives by hand is not taken away.
    stripe.adjust_balance(customer, {"amount": -100, "currency": "usd"}, key="by hand")
    assert kinds(run(town)) == {"customer_balance": False}
    assert town.sync().operations == 0


def test_a_sync_whose_answers_were_lost_is_confirmed(town: Town) -> None:
    invoice = town.invoice()
    town.sandbox.fault("invoices.finalize", "reset_after")
    town.sync(patience_s=0)
    report = run(town)
    assert kinds(report) == {"status_behind": True}
    assert town.row(invoice).state == "done"


def test_more_than_a_page_is_compared(town: Town) -> None:
    town.invoices(105)
    town.sync()
    town.sandbox.clear_requests()
    report = run(town)
    assert (report.invoices, report.differences) == (105, [])
    counts = town.sandbox.counts()
    assert all(name.endswith(".list") for name in counts), "no object was read by itself"
    # 105 of each: by when they were made, and once more those that are open; nothing is uncollectible.
    assert (counts["invoices.list"], counts["invoice_payments.list"], counts["customers.list"]) == (5, 2, 2)
