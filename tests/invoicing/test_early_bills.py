"""Billed before the period's end: everything once, on the right invoice, and the next period goes on from there."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal

import pytest
from psycopg import errors
from sqlalchemy import Connection, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.early_bills import (
    CannotBillNow,
    EarlyBillRow,
    NothingToBill,
    PeriodMoved,
    ThresholdRefused,
    bill_above_thresholds,
    bill_now,
    set_threshold,
    threshold_of,
)
from invoicing.rating.periods import rating_starts_of
from invoicing.statements import current_period
from invoicing.tables import HistoryRow, Invoice
from invoicing.tax.profiles import TaxDetails, TaxProfileRefused, set_tax_profile
from ledger.books import lock_books
from ledger.periods import close_early
from ledger.tables import PeriodRow
from tests.invoicing.conftest import Company, at
from tests.invoicing.waiting import second


def bill(company: Company, name: str, on: str, *, seen: datetime | None = None, cause: str = "early") -> EarlyBillRow:
    with Session(company.engine, expire_on_commit=False) as session, session.begin():
        return bill_now(
            session,
            customer_id=customer_id_for(name),
            cause=cause,
            reason="Asked for it",
            actor="ada",
            settings=company.settings,
            now=at(on),
            period_start=seen,
        )


def totals(company: Company, name: str) -> list[tuple[datetime, datetime, Decimal]]:
    """Each invoice's period and exact total, drafts by their lines."""
    with Session(company.engine) as session:
        rows = session.execute(
            text("""SELECT i.period_start, i.period_end,
                           (SELECT sum(l.amount) FROM invoice_lines l
                             WHERE l.customer_id = i.customer_id AND l.invoice_id = i.id) AS total
                      FROM invoices i WHERE i.customer_id = :customer ORDER BY i.period_start"""),
            {"customer": customer_id_for(name)},
        )
        return [(start, end, total) for start, end, total in rows]


def test_what_was_used_so_far_is_billed_and_the_rest_of_the_month_on_the_next_invoice(company: Company) -> None:
    """
    2025-06-03  acme  12.00
    2025-06-10  billed early
    2025-06-20  acme   5.00
    """
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    bill(company, "acme", "2025-06-10")
    company.use("acme", "2025-06-20", "5")
    company.close("2025-07-01")
    assert totals(company, "acme") == [
        (at("2025-06-01"), at("2025-06-10"), Decimal(12)),
        (at("2025-06-10"), at("2025-07-01"), Decimal(5)),
    ]
    company.check()


def test_the_draft_is_due_to_be_final_at_once_and_says_who_wanted_it_and_why(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    early = bill(company, "acme", "2025-06-10")
    assert company.finalize_due("2025-06-10").final == 1
    with Session(company.engine) as session:
        invoice = session.get_one(Invoice, (early.customer_id, early.invoice_id))
        assert (invoice.state, invoice.total) == ("final", Decimal(12))
        assert (early.customer_id, "billed early", "ada", "Asked for it", {"cause": "early"}) in session.execute(
            select(HistoryRow.customer_id, HistoryRow.action, HistoryRow.actor, HistoryRow.reason, HistoryRow.details)
        ).all()
    company.check()


def test_usage_of_the_billed_part_that_arrives_later_joins_the_next_invoice_as_late(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    bill(company, "acme", "2025-06-10")
    company.use("acme", "2025-06-09", "3", event="late")
    company.close("2025-07-01")
    assert [total for _, _, total in totals(company, "acme")] == [12, 3]
    company.check()


def test_a_double_click_makes_one_bill(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    seen = at("2025-06-01")
    first = bill(company, "acme", "2025-06-10", seen=seen)
    company.use("acme", "2025-06-11", "1")
    assert bill(company, "acme", "2025-06-12", seen=seen).invoice_id == first.invoice_id
    assert len(totals(company, "acme")) == 1


def test_two_at_once_make_one_bill(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: bill(company, "acme", "2025-06-10", seen=at("2025-06-01")), range(8)))
    assert len({row.invoice_id for row in made}) == 1
    company.check()


def test_who_asks_while_it_is_being_billed_gets_that_bill(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")

    def ask(session: Session) -> EarlyBillRow:
        return bill_now(
            session, customer_id=customer_id_for("acme"), cause="early", reason="Asked for it", actor="ada",
            settings=company.settings, now=at("2025-06-10"), period_start=at("2025-06-01"),
        )  # fmt: skip

    again = second(company.engine, ask, ask)
    assert isinstance(again, EarlyBillRow)
    assert [total for _, _, total in totals(company, "acme")] == [12]


def test_a_tax_profile_does_not_slip_into_a_period_that_is_being_closed(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")

    def cut(session: Session) -> None:
        close_early(session, customer_id=customer_id_for("acme"), now=at("2025-06-10"))

    def move_to_germany(session: Session) -> None:
        set_tax_profile(
            session, customer_id=customer_id_for("acme"), details=TaxDetails("DE"), seller_country=None,
            valid_from=at("2025-06-05"), reason="Moved", actor="ada", now=at("2025-06-10"),
        )  # fmt: skip

    refusal = second(company.engine, cut, move_to_germany)
    assert isinstance(refusal, TaxProfileRefused)
    assert "closed" in str(refusal)


def test_charges_a_moment_ahead_of_our_clock_are_billed_too(company: Company) -> None:
    """The sender's clock runs before ours: the period ends just after the charge, and never before it."""
    company.customer("acme")
    company.use("acme", "2025-06-10", "12")
    early = bill(company, "acme", "2025-06-09")
    assert early.cut_at > at("2025-06-10")
    assert totals(company, "acme")[0][2] == 12
    again = bill(company, "acme", "2025-06-09", seen=at("2025-06-01"))
    assert again.invoice_id == early.invoice_id
    company.check()


def test_nothing_used_and_what_was_taken_back_are_no_bill(company: Company) -> None:
    company.customer("acme")
    with pytest.raises(NothingToBill):
        bill(company, "acme", "2025-06-10")
    company.use("acme", "2025-06-03", "-12")
    with pytest.raises(NothingToBill):
        bill(company, "acme", "2025-06-10")
    with Session(company.engine) as session:
        assert set(session.scalars(select(PeriodRow.state))) == {"open"}


def test_a_period_that_nobody_saw_is_not_billed(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    with pytest.raises(PeriodMoved, match="Look at"):
        bill(company, "acme", "2025-06-10", seen=at("2025-05-01"))


def test_a_period_whose_charges_reach_its_end_is_left_to_the_cycle(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-30T23:59:59.999999", "12")
    with pytest.raises(CannotBillNow, match="closes soon"):
        bill(company, "acme", "2025-06-30T23:59:00")


def test_a_month_cut_twice_counts_its_allowances_from_the_month_s_start(company: Company) -> None:
    company.customer("acme")
    customer = customer_id_for("acme")
    company.use("acme", "2025-06-03", "12")
    bill(company, "acme", "2025-06-10")
    company.use("acme", "2025-06-11", "12")
    bill(company, "acme", "2025-06-20")
    periods = [(customer, at(day)) for day in ("2025-06-01", "2025-06-10", "2025-06-20", "2025-07-01")]
    with Session(company.engine) as session:
        assert rating_starts_of(session, periods) == {
            (customer, at("2025-06-01")): at("2025-06-01"),
            (customer, at("2025-06-10")): at("2025-06-01"),
            (customer, at("2025-06-20")): at("2025-06-01"),
            (customer, at("2025-07-01")): at("2025-07-01"),
        }


def test_too_small_a_bill_is_carried_into_the_rest_of_the_month(company: Company) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "0.20")
    bill(company, "acme", "2025-06-10")
    company.finalize_due("2025-06-10")
    with Session(company.engine) as session:
        now = current_period(session, customer_id=customer_id_for("acme"), now=at("2025-06-15"))
    assert (now.start, now.end, now.total) == (at("2025-06-10"), at("2025-07-01"), Decimal("0.2"))
    company.check()


def threshold(company: Company, name: str, amount: str | None) -> None:
    with Session(company.engine) as session, session.begin():
        set_threshold(
            session,
            customer_id=customer_id_for(name),
            amount=None if amount is None else Decimal(amount),
            reason="New customer",
            actor="ada",
            now=at("2025-06-01"),
        )


def test_who_reaches_the_threshold_is_billed_and_nobody_else(company: Company) -> None:
    for name, used, limit in (("low", "99.99", "100"), ("high", "100", "100"), ("lifted", "500", "100")):
        company.customer(name)
        threshold(company, name, limit)
        company.use(name, "2025-06-03", used)
    company.customer("without")
    company.use("without", "2025-06-03", "1000")
    threshold(company, "lifted", None)
    assert bill_above_thresholds(company.engine, settings=company.settings, now=at("2025-06-04")).billed == 1
    assert bill_above_thresholds(company.engine, settings=company.settings, now=at("2025-06-05")).billed == 0
    assert [total for _, _, total in totals(company, "high")] == [100]
    assert [totals(company, name) for name in ("low", "lifted", "without")] == [[], [], []]
    company.check()


def test_books_that_somebody_holds_keep_nobody_else_from_their_bill(company: Company) -> None:
    for name in ("one", "two", "three"):
        company.customer(name)
        threshold(company, name, "100")
        company.use(name, "2025-06-03", "100")

    def is_impatient(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '200ms'")

    with Session(company.engine) as holder, holder.begin():
        lock_books(holder, [customer_id_for("two")])
        event.listen(company.engine, "begin", is_impatient)
        summary = bill_above_thresholds(company.engine, settings=company.settings, now=at("2025-06-04"))
        event.remove(company.engine, "begin", is_impatient)
    assert (summary.billed, summary.busy, summary.problems) == (2, 1, [])
    assert bill_above_thresholds(company.engine, settings=company.settings, now=at("2025-06-04")).billed == 1


@pytest.mark.parametrize("amount", ["0", "-5", "0.001", "NaN", "1e12"])
def test_a_threshold_that_is_no_amount_is_refused_with_the_cure(company: Company, amount: str) -> None:
    company.customer("acme")
    with pytest.raises(ThresholdRefused, match="Give an amount above 0"):
        threshold(company, "acme", amount)
    with Session(company.engine) as session:
        assert threshold_of(session, customer_id=customer_id_for("acme")) is None


CUT = """
    UPDATE ledger_periods SET state = 'closed', closed_at = now(), end_at = '{end}',
           closed_seq = (SELECT last_seq FROM ledger_books b WHERE b.customer_id = ledger_periods.customer_id)
"""


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (CUT.format(end="2025-06-02Z"), "has charges after that"),
        (CUT.format(end="2025-07-02Z"), "may only be closed"),
        ("UPDATE ledger_periods SET end_at = '2025-06-20Z'", "may only be closed"),
        (CUT.format(end="2025-06-01Z"), "ledger_periods"),
    ],
    ids=["before a charge", "longer", "still open", "to nothing"],
)
def test_postgres_refuses_a_cut_that_would_lose_a_charge_or_make_a_gap(
    company: Company, statement: str, reason: str
) -> None:
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    with company.engine.begin() as connection, pytest.raises(IntegrityError, match=reason) as refusal:
        connection.exec_driver_sql(statement)
    assert isinstance(refusal.value.orig, (errors.IntegrityError, errors.IntegrityConstraintViolation))


def test_what_is_shown_after_the_bill_is_the_rest_of_the_month_and_empty(company: Company) -> None:
    """Nobody has opened the next period yet; the one that was billed is not shown as the current one."""
    company.customer("acme")
    company.use("acme", "2025-06-03", "12")
    bill(company, "acme", "2025-06-10")
    for moment in ("2025-06-10", "2025-06-15"):
        with Session(company.engine) as session:
            now = current_period(session, customer_id=customer_id_for("acme"), now=at(moment))
        assert (now.start, now.end, now.total) == (at("2025-06-10"), at("2025-07-01"), Decimal(0))
