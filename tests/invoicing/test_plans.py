"""Plans: what somebody pays who takes, changes and gives up a plan, to the second, and what of it is earned when."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.early_bills import bill_now
from invoicing.plans.catalogue import PlanNotOffered, PlanRefused, list_plans, plans_from_file, publish_plans
from invoicing.plans.fees import part
from invoicing.statements import PeriodStatement, current_period, unbilled_periods
from invoicing.subscriptions import (
    NoPlan,
    PlanChangeRefused,
    cancel,
    change_at_end,
    keep,
    renew_due,
    subscribe,
    subscription_at,
)
from invoicing.usage.intake import UsageRecord, post_usage
from ledger.balances import balances
from ledger.periods import Period
from tests.invoicing.conftest import Company, at

LAUNCH = {
    "code": "launch", "name": "Launch", "currency": "USD", "fee": 30, "interval": "month", "timing": "advance",
    "included_usage": 30,
}  # fmt: skip
PLANS = {
    "plans": [
        LAUNCH,
        {**LAUNCH, "code": "scale", "name": "Scale", "fee": 300, "included_usage": 0},
        {**LAUNCH, "code": "support", "name": "Support", "fee": 60, "timing": "arrears", "included_usage": 0},
        {**LAUNCH, "code": "trial", "name": "Try", "trial_days": 10},
        {**LAUNCH, "interval": "year", "fee": 365},
        {**LAUNCH, "currency": "EUR"},
    ]
}


@pytest.fixture
def offering(company: Company) -> Company:
    with Session(company.engine) as session, session.begin():
        assert publish_plans(session, plans_from_file(PLANS), actor="test", now=at("2025-01-01")) == 6
    company.customer("acme")
    return company


@contextmanager
def booked(company: Company) -> Iterator[Session]:
    with Session(company.engine, expire_on_commit=False) as session, session.begin():
        yield session


def take(company: Company, plan: str, on: str, *, name: str = "acme", interval: str = "month") -> None:
    with booked(company) as session:
        subscribe(
            session, customer_id=customer_id_for(name), plan=plan, interval=interval, reason="Wanted", actor="ada",
            now=at(on),
        )  # fmt: skip


def use(company: Company, on: str, amount: str, *, name: str = "acme") -> None:
    record = UsageRecord(
        row=1, event_id=f"{on} {amount}", customer=name, item="machine", quantity=Decimal(1), effective_at=at(on),
        amount=Decimal(amount),
    )  # fmt: skip
    with booked(company) as session:
        post_usage(session, [record], source="test", actor="test", now=at(on) + timedelta(minutes=1))


def lines(company: Company, month: str) -> dict[str, Decimal]:
    return {line.item or "": line.amount for line in company.invoice("acme", month).lines}


def held(company: Company, account: str) -> Decimal:
    with Session(company.engine) as session:
        return balances(session, customer_id=customer_id_for("acme")).get(account, Decimal(0))


def test_a_fee_in_advance_stands_on_the_invoice_made_when_its_month_begins(offering: Company) -> None:
    """
    2025-06-16  Scale, 300 a month: half of June
    2025-07-01  July, on the invoice for June; June is earned
    """
    take(offering, "scale", "2025-06-16")
    assert held(offering, "liabilities:deferred") == 150
    offering.close("2025-07-01")
    assert lines(offering, "2025-06") == {"plan:scale": Decimal(450)}
    assert held(offering, "liabilities:deferred") == 300
    assert held(offering, "income:plans") == 150
    offering.check()


def test_a_fee_in_arrears_stands_on_the_invoice_of_its_own_month(offering: Company) -> None:
    take(offering, "support", "2025-06-16")
    offering.close("2025-07-01")
    offering.close("2025-08-01")
    assert lines(offering, "2025-06") == {"plan:support": Decimal(30)}
    assert lines(offering, "2025-07") == {"plan:support": Decimal(60)}
    assert held(offering, "liabilities:deferred") == 0
    offering.check()


def test_usage_up_to_what_the_plan_includes_costs_nothing_from_the_first_cent_on(offering: Company) -> None:
    """Launch: 30 a month, with 30 of usage. At every moment the page says what the invoice would say."""
    take(offering, "launch", "2025-06-01")
    for day, amount, total in (("2025-06-02", "12.5", "30"), ("2025-06-03", "20", "32.5"), ("2025-06-04", "-5", "30")):
        use(offering, day, amount)
        with Session(offering.engine) as session:
            statement = current_period(session, customer_id=customer_id_for("acme"), now=at("2025-06-05"))
        assert statement.total == Decimal(total)
    offering.close("2025-07-01")
    assert lines(offering, "2025-06") == {
        "plan:launch": Decimal(60), "machine": Decimal("27.5"), "plan:launch:included": Decimal("-27.5"),
    }  # fmt: skip
    use(offering, "2025-07-02", "40")
    offering.close("2025-08-01")
    assert lines(offering, "2025-07")["plan:launch:included"] == -30
    offering.check()


def test_a_plan_taken_in_the_middle_includes_its_part_of_the_month(offering: Company) -> None:
    use(offering, "2025-06-02", "100")
    take(offering, "launch", "2025-06-16")
    with Session(offering.engine) as session:
        total = current_period(session, customer_id=customer_id_for("acme"), now=at("2025-06-20")).total
    assert total == 100 + 15 - 15
    offering.check()


def test_an_upgrade_shows_both_halves(offering: Company) -> None:
    """Launch from June 1 to 16: 15 of its 30 come back; Scale for the other half: 150."""
    take(offering, "launch", "2025-06-01")
    use(offering, "2025-06-10", "100")
    take(offering, "scale", "2025-06-16")
    with Session(offering.engine) as session:
        rows = current_period(session, customer_id=customer_id_for("acme"), now=at("2025-06-20")).items
    assert {row.item: row.amount for row in rows} == {
        "plan:launch": Decimal(15), "plan:scale": Decimal(150), "machine": Decimal(100),
        "plan:launch:included": Decimal(-30), "plan:scale:included": Decimal(15),
    }  # fmt: skip
    assert held(offering, "liabilities:deferred") == 150
    assert held(offering, "income:plans") == 15 - 15, (
        "half of the fee is earned, half of what it includes is given back"
    )
    offering.close("2025-07-01")
    offering.check()


def test_a_downgrade_at_the_end_charges_nothing_now_and_can_be_taken_back(offering: Company) -> None:
    take(offering, "scale", "2025-06-01")
    customer = customer_id_for("acme")
    with booked(offering) as session:
        change_at_end(
            session, customer_id=customer, plan="launch", reason="Too large", actor="ada", now=at("2025-06-10")
        )
    with booked(offering) as session:
        keep(session, customer_id=customer, actor="ada", now=at("2025-06-11"))
    with booked(offering) as session:
        following = change_at_end(
            session, customer_id=customer, plan="launch", reason="After all", actor="ada", now=at("2025-06-12")
        )
    assert following is not None
    assert following.since == at("2025-07-01")
    offering.close("2025-07-01")
    assert lines(offering, "2025-06") == {"plan:scale": Decimal(300), "plan:launch": Decimal(30)}
    offering.check()


def test_a_plan_that_is_given_up_gives_back_the_rest(offering: Company) -> None:
    take(offering, "launch", "2025-06-01")
    with booked(offering) as session:
        cancel(session, customer_id=customer_id_for("acme"), reason="Leaves", actor="ada", now=at("2025-06-11"))
    offering.close("2025-07-01")
    offering.close("2025-08-01")
    assert lines(offering, "2025-06") == {"plan:launch": Decimal(10)}
    assert held(offering, "liabilities:deferred") == 0
    offering.check()


def test_a_trial_costs_nothing_and_is_given_once(offering: Company) -> None:
    """Ten days from June 1; the fee for the other twenty: 20. The second time there is no trial."""
    take(offering, "trial", "2025-06-01")
    customer = customer_id_for("acme")
    with booked(offering) as session:
        assert subscription_at(session, customer_id=customer, at=at("2025-06-05"))
    assert held(offering, "assets:unbilled") == 0
    assert renew_due(offering.engine, now=at("2025-06-11")).charged == 1
    assert held(offering, "assets:unbilled") == 20
    with booked(offering) as session:
        cancel(session, customer_id=customer, reason="No", actor="ada", now=at("2025-06-21"))
    take(offering, "trial", "2025-06-21T00:00:01")
    assert held(offering, "assets:unbilled") > 19
    offering.check()


def test_a_year_is_charged_once_and_earned_month_by_month(offering: Company) -> None:
    take(offering, "launch", "2025-01-01", interval="year")
    for month in range(2, 13):
        offering.close(f"2025-{month:02}-01")
    assert lines(offering, "2025-01") == {"plan:launch": Decimal(365)}
    assert held(offering, "income:plans") == 365 - 31
    assert held(offering, "liabilities:deferred") == 31
    offering.close("2026-01-01")
    assert lines(offering, "2025-12") == {"plan:launch": Decimal(365)}
    offering.check()


def test_renewing_twice_charges_once(offering: Company) -> None:
    take(offering, "scale", "2025-06-01")
    assert [renew_due(offering.engine, now=at("2025-08-01")).charged for _ in range(3)] == [1, 0, 0]
    assert held(offering, "assets:unbilled") == 900
    offering.check()


def test_a_month_cut_by_an_early_bill_includes_usage_once(offering: Company) -> None:
    take(offering, "launch", "2025-06-01")
    use(offering, "2025-06-02", "20")
    with booked(offering) as session:
        bill_now(
            session, customer_id=customer_id_for("acme"), cause="early", reason="Wanted", actor="ada",
            settings=offering.settings, now=at("2025-06-10"),
        )  # fmt: skip
    use(offering, "2025-06-11", "20")
    with Session(offering.engine) as session:
        (_, rest) = [statement.total for statement in _both(session)]
    assert rest == 10, "30 are included in June, 20 of them were used before the bill"
    offering.check()


def _both(session: Session) -> Iterator[PeriodStatement]:
    customer = customer_id_for("acme")
    yield current_period(session, customer_id=customer, now=at("2025-06-09"))
    yield from unbilled_periods(session, customer_id=customer)


@pytest.mark.parametrize(
    ("plan", "name", "on", "refusal"),
    [
        ("gold", "acme", "2025-06-01", PlanNotOffered),
        ("scale", "yen", "2025-06-01", PlanNotOffered),
    ],
)
def test_a_plan_that_is_not_offered_is_refused(
    offering: Company, plan: str, name: str, on: str, refusal: type[Exception]
) -> None:
    offering.customer("yen", currency="JPY")
    with pytest.raises(refusal, match="billing plans"):
        take(offering, plan, on, name=name)


def test_no_plan_changes_in_a_closed_period_or_before_the_last_change(offering: Company) -> None:
    use(offering, "2025-06-02", "20")
    offering.close("2025-07-01")
    customer = customer_id_for("acme")
    with pytest.raises(PlanChangeRefused, match="over or closed"), booked(offering) as session:
        subscribe(
            session, customer_id=customer, plan="launch", reason="x", actor="ada", now=at("2025-07-02"),
            at=at("2025-06-15"),
        )  # fmt: skip
    take(offering, "launch", "2025-07-10")
    with pytest.raises(PlanChangeRefused, match="later time"), booked(offering) as session:
        subscribe(
            session, customer_id=customer, plan="scale", reason="x", actor="ada", now=at("2025-07-12"),
            at=at("2025-07-05"),
        )  # fmt: skip


def test_where_there_is_no_plan_there_is_none_to_give_up(offering: Company) -> None:
    with pytest.raises(NoPlan, match="nothing to change"), booked(offering) as session:
        cancel(session, customer_id=customer_id_for("acme"), reason="x", actor="ada", now=at("2025-07-12"))


BAD = {
    "no name": ({**LAUNCH, "name": ""}, "name"),
    "a strange currency": ({**LAUNCH, "currency": "XXX"}, "currency"),
    "a fee of fractions": ({**LAUNCH, "fee": Decimal("0.001")}, "fee"),
    "a negative fee": ({**LAUNCH, "fee": -1}, "fee"),
    "a fee as text": ({**LAUNCH, "fee": "29"}, "fee"),
    "a week": ({**LAUNCH, "interval": "week"}, "interval"),
    "no timing": ({**LAUNCH, "timing": None}, "timing"),
    "an endless trial": ({**LAUNCH, "trial_days": 1000}, "trial_days"),
    "a time without a zone": ({**LAUNCH, "valid_from": datetime(2025, 1, 1)}, "valid_from"),  # noqa: DTZ001
    "a typing error": ({**LAUNCH, "trail_days": 3}, "trail_days"),
}


@pytest.mark.parametrize(("table", "field"), BAD.values(), ids=BAD.keys())
def test_a_bad_plan_is_refused_with_its_place(table: dict[str, object], field: str) -> None:
    with pytest.raises(PlanRefused) as refusal:
        plans_from_file({"plans": [{**LAUNCH, "code": "good"}, table]})
    assert [place for place, _, _ in refusal.value.problems] == [f"plan 2 'launch', {field}"]


def test_a_version_never_changes_and_a_file_can_be_loaded_again(offering: Company) -> None:
    with booked(offering) as session:
        assert publish_plans(session, plans_from_file(PLANS), actor="test", now=at("2025-02-01")) == 0
    changed = plans_from_file({"plans": [{**LAUNCH, "fee": 31}]})
    with pytest.raises(PlanRefused, match="never changes"), booked(offering) as session:
        publish_plans(session, changed, actor="test", now=at("2025-02-01"))
    with Session(offering.engine) as session:
        assert len(list_plans(session)) == 6


ATTACKS = {
    "another fee": "UPDATE plan_versions SET fee = 1",
    "two plans at once": "INSERT INTO plan_phases (customer_id, id, plan_version_id, starts_at, charged_from, reason, "
    "actor, created_at) SELECT customer_id, gen_random_uuid(), plan_version_id, starts_at, starts_at, 'x', 'x', now() "
    "FROM plan_phases",
    "charged before": "UPDATE plan_phases SET term_end = term_end - interval '1 day'",
    "another start": "UPDATE plan_phases SET starts_at = starts_at - interval '1 day'",
    "another currency": "INSERT INTO plan_phases (customer_id, id, plan_version_id, starts_at, charged_from, reason, "
    "actor, created_at) SELECT p.customer_id, gen_random_uuid(), v.id, '2030-01-01Z', '2030-01-01Z', 'x', 'x', now() "
    "FROM plan_phases p, plan_versions v WHERE v.currency = 'EUR'",
    "forget it": "DELETE FROM plan_phases",
}


@pytest.mark.parametrize("statement", ATTACKS.values(), ids=ATTACKS.keys())
def test_postgres_refuses_what_would_change_what_was_agreed(offering: Company, statement: str) -> None:
    take(offering, "launch", "2025-06-01")
    with offering.engine.begin() as connection, pytest.raises((IntegrityError, ProgrammingError)):
        connection.execute(text(statement))


@settings(max_examples=200, deadline=None)
@given(
    fee=st.decimals(min_value=0, max_value=10**6, places=2),
    length=st.integers(min_value=1, max_value=366 * 86_400_000_000),
    cuts=st.lists(st.floats(min_value=0, max_value=1), max_size=6),
)
def test_the_parts_of_a_fee_add_up_to_it_wherever_it_is_cut(fee: Decimal, length: int, cuts: list[float]) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    window = Period(start, start + timedelta(microseconds=length))
    edges = sorted([window.start, window.end, *(start + timedelta(microseconds=int(length * cut)) for cut in cuts)])
    parts = [part(fee, window, a, b) for a, b in pairwise(edges)]
    assert sum(parts, Decimal(0)) == fee
    assert all(one >= 0 for one in parts)
