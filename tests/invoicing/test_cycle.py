"""From usage to a final invoice: what is closed, when, into what, and that doing it again changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import create_engine as owner_engine
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from invoicing.cycles import close_due
from invoicing.finalization import DraftDoesNotMatchLedger, finalize
from invoicing.parking import parked, release_parked
from invoicing.tables import Invoice
from ledger.balances import balances
from tests.invoicing.conftest import Company, at


def test_usage_of_a_month_becomes_one_draft_with_a_line_per_item(company: Company) -> None:
    """
    2025-06-03  acme  machine  1.25
    2025-06-30  acme  machine  0.0000008
    2025-06-30  acme  volume   3
    """
    company.customer("acme")
    company.use("acme", "2025-06-03", "1.25")
    company.use("acme", "2025-06-30", "0.0000008")
    company.use("acme", "2025-06-30", "3", item="volume")
    assert company.close("2025-07-01").drafts == 1
    draft = company.invoice("acme", "2025-06")
    assert draft.invoice.state == "draft"
    assert [(line.item, line.amount, line.quantity) for line in draft.lines] == [
        ("machine", Decimal("1.2500008"), Decimal(2)),
        ("volume", Decimal(3), Decimal(1)),
    ]
    company.check()


def test_a_period_is_closed_only_after_its_grace_time(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "1")
    ended, settings = at("2025-07-01"), company.settings
    early = ended + settings.grace - timedelta(seconds=1)
    assert close_due(company.engine, as_of=early, settings=settings).closed == 0
    assert close_due(company.engine, as_of=ended + settings.grace, settings=settings).closed == 1


def test_an_entry_that_arrives_late_joins_the_next_cycle_and_says_so(company: Company) -> None:
    """
    2025-06-03  acme  12.00
    2025-06-30  acme   3.00  arrives after the close
    """
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    company.close("2025-07-01")
    company.use("acme", "2025-06-30", "3")
    company.close("2025-08-01")
    assert company.invoice("acme", "2025-06").exact_total == 12
    july = company.invoice("acme", "2025-07")
    assert july.exact_total == 3
    assert "late, used in June 2025" in july.lines[0].description
    company.check()


def test_a_final_invoice_has_a_number_whole_cents_and_one_order(company: Company) -> None:
    """0.333 + 0.333 + 0.339 = 1.005 rounds half-even to 1.00; the cents are shared out: .33 .33 .34"""
    company.customer("acme")
    for item, amount in (("a", "0.333"), ("b", "0.333"), ("c", "0.339")):
        company.use("acme", "2025-06-03", amount, item=item)
    company.close("2025-07-01")
    final = company.finalize("acme", "2025-06", on="2025-07-02")
    assert final.invoice.state == "final"
    assert final.invoice.total == Decimal("1.00")
    assert [line.rounded for line in final.lines] == [Decimal("0.33"), Decimal("0.33"), Decimal("0.34")]
    assert final.invoice.number is not None
    assert final.invoice.number.endswith("-0001")
    order = company.remembered.orders[final.invoice.id]
    assert order.amount_due == Decimal("1.00")
    with Session(company.engine) as session:
        books = balances(session, customer_id=final.invoice.customer_id)
    assert books["assets:unbilled"] == 0
    assert books["assets:receivable"] == Decimal("1.00")
    assert books["income:rounding"] == Decimal("-0.005")
    company.check()


def test_what_is_too_small_to_collect_is_carried_to_the_next_invoice_unrounded(company: Company) -> None:
    """June 0.4912345 is below 0.50: it comes back in July, where 2 are used."""
    company.customer("acme")
    company.use("acme", "2025-06-03", "0.4912345", app="web")
    company.close("2025-07-01")
    june = company.finalize("acme", "2025-06", on="2025-07-02")
    assert june.invoice.state == "carried_forward"
    assert june.invoice.number is None
    company.use("acme", "2025-07-05", "2", app="web")
    company.close("2025-08-01")
    july = company.finalize("acme", "2025-07", on="2025-08-02")
    assert july.exact_total == Decimal("2.4912345")
    assert july.invoice.total == Decimal("2.49")
    carried = [line for line in july.lines if line.contra_account == "assets:carried"]
    assert [(line.item, line.amount) for line in carried] == [("machine", Decimal("0.4912345"))]
    assert "Carried forward" in carried[0].description
    assert "June 2025" in carried[0].description
    company.check()


def test_a_negative_total_is_carried_and_pays_for_the_next_invoice(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "-2.6137")
    company.close("2025-07-01")
    assert company.finalize("acme", "2025-06", on="2025-07-02").invoice.state == "carried_forward"
    company.use("acme", "2025-07-05", "10")
    company.close("2025-08-01")
    assert company.finalize("acme", "2025-07", on="2025-08-02").invoice.total == Decimal("7.39")
    company.check()


def test_a_period_of_free_usage_ends_without_an_invoice(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "0")
    company.close("2025-07-01")
    assert company.finalize("acme", "2025-06", on="2025-07-02").invoice.state == "empty"
    assert company.remembered.orders == {}
    company.check()


def test_closing_and_finalizing_again_changes_nothing(company: Company) -> None:
    for name, amount in (("acme", "12"), ("tiny", "0.01"), ("minus", "-3"), ("free", "0")):
        company.customer(name)
        company.use(name, "2024-09-03", amount)
    company.close("2024-11-15")
    first = company.finalize_due("2024-12-31")
    assert (first.final, first.carried_forward, first.empty) == (1, 2, 1)
    again = company.close("2024-11-15")
    assert (again.closed, again.drafts) == (0, 0)
    second = company.finalize_due("2024-12-31")
    assert (second.final, second.carried_forward, second.empty) == (0, 0, 0)
    assert len(company.remembered.orders) == 1
    company.check()


def test_eight_closers_at_once_make_one_draft_each(company: Company) -> None:
    for index in range(20):
        company.customer(f"c{index}")
        company.use(f"c{index}", "2025-06-03", "5")
    with ThreadPoolExecutor(8) as pool:
        summaries = list(pool.map(lambda _: company.close("2025-07-01"), range(8)))
    assert sum(summary.drafts for summary in summaries) == 20
    assert sum(summary.parked for summary in summaries) == 0
    with ThreadPoolExecutor(8) as pool:
        finals = list(pool.map(lambda _: company.finalize_due("2025-07-10"), range(8)))
    assert sum(summary.final for summary in finals) == 20
    company.check()


def test_a_customer_that_cannot_be_closed_is_parked_and_blocks_nobody(company: Company, database_url: str) -> None:
    for name in ("first", "poison", "last"):
        company.customer(name)
        company.use(name, "2025-06-03", "5")
    poison = company.customer("poison")
    owner = owner_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with owner.begin() as connection:
        connection.execute(text(f"ALTER TABLE invoices ADD CONSTRAINT poison CHECK (customer_id <> '{poison}')"))
    summary = company.close("2025-07-01")
    assert (summary.drafts, summary.parked) == (2, 1)
    assert company.close("2025-07-01").parked == 0, "a parked customer is not tried again by itself"
    with owner.begin() as connection:
        connection.execute(text("ALTER TABLE invoices DROP CONSTRAINT poison"))
    owner.dispose()
    with Session(company.engine) as session, session.begin():
        (work,) = parked(session)
        assert work.customer_id == poison
        assert "poison" in work.reason
        release_parked(
            session, customer_id=poison, stage="close", subject=work.subject, actor="test", now=at("2025-07-02")
        )
    assert company.close("2025-07-02").drafts == 1
    company.check()


def test_a_draft_whose_lines_differ_from_the_ledger_is_not_finalized(company: Company, database_url: str) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "5")
    company.close("2025-07-01")
    draft = company.invoice("acme", "2025-06").invoice
    owner = owner_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with owner.begin() as connection:
        connection.execute(text("UPDATE invoice_lines SET amount = amount + 1"))
    owner.dispose()
    with Session(company.engine) as session, pytest.raises(DraftDoesNotMatchLedger, match="add up to 6"):
        finalize(
            session,
            customer_id=draft.customer_id,
            invoice_id=draft.id,
            provider=company.provider,
            actor="test",
            now=at("2025-07-02"),
        )


def test_periods_end_at_local_midnight_of_the_anchor_day(company: Company) -> None:
    company.customer("kyoto", time_zone="Asia/Tokyo", anchor_day=31)
    company.use("kyoto", "2025-05-30T14:59:59", "1")
    company.use("kyoto", "2025-05-30T15:00:00", "2")
    company.close("2025-07-01")
    with Session(company.engine) as session:
        rows = session.execute(select(Invoice.period_start, Invoice.period_end).order_by(Invoice.period_start)).all()
    assert [tuple(row) for row in rows] == [
        (at("2025-04-29T15:00:00"), at("2025-05-30T15:00:00")),
        (at("2025-05-30T15:00:00"), at("2025-06-29T15:00:00")),
    ]


def test_a_far_larger_draft_than_usual_is_held_for_a_person(company: Company) -> None:
    company.customer("acme")
    for month in ("2025-01", "2025-02", "2025-03"):
        company.use("acme", f"{month}-10", "20")
    company.close("2025-04-01")
    company.finalize_due("2025-04-05")
    company.use("acme", "2025-04-10", "61")
    assert company.close("2025-05-01").held == 1
    draft = company.invoice("acme", "2025-04")
    assert "Unusually high: 61.00 against a usual 20.00" in str(draft.invoice.hold_reason)
    assert company.finalize_due("2025-06-01").final == 0
