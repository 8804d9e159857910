"""Rating while posting, in small books that a reader can add up."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.database import session_scope
from invoicing import checks as invoicing_checks
from invoicing.usage.intake import UsagePosted, UsageRefused, post_usage
from ledger.checks import CHECKS, run_checks
from tests.rating.company import NOW, RatedCompany
from tests.rating.conftest import Opener, price
from tests.rating.worlds import ALWAYS, Row

JUNE = datetime(2025, 6, 10, tzinfo=UTC)
JULY = datetime(2025, 7, 10, tzinfo=UTC)
GRADUATED: dict[str, Any] = {
    "model": "graduated",
    "tiers": [(Decimal(0), Decimal(2), Decimal(0)), (Decimal(10), Decimal(1), Decimal(0))],
}


def event(
    id_: str, quantity: str | None, *, item: str = "egress", at: datetime = JUNE, amount: str | None = None
) -> Row:
    return {
        "id": id_,
        "customer": "ant",
        "item": item,
        "region": None,
        "quantity": None if quantity is None else Decimal(quantity),
        "amount": None if amount is None else Decimal(amount),
        "at": at,
        "app": "web",
    }


def charges(company: RatedCompany) -> list[tuple[str, Any, Any]]:
    """What moved assets:unbilled, entry by entry: item, amount and quantity, signed."""
    with Session(company.engine) as session:
        rows = session.execute(
            text("""
                SELECT item, CASE WHEN debit_account = 'assets:unbilled' THEN amount ELSE -amount END,
                       CASE WHEN debit_account = 'assets:unbilled' THEN quantity ELSE -quantity END
                  FROM ledger_entries ORDER BY seq""")
        ).all()
    return [(item.removesuffix("-0"), amount, quantity) for item, amount, quantity in rows]


def total(company: RatedCompany) -> Decimal:
    return sum((amount for _, amount, _ in charges(company)), Decimal(0))


def check(company: RatedCompany) -> None:
    with Session(company.engine) as session:
        for result in run_checks(session, {**CHECKS, **invoicing_checks.CHECKS}):
            assert result.holds, f"{result.name}: {result.offenders}"


def test_each_event_costs_what_the_total_costs_after_it_minus_before(opened: Opener) -> None:
    """
    2 USD each up to 10, then 1 USD.
    8 used: 16. 4 more: 2 x 2 + 2 x 1 = 6. 12 in all: 22.
    """
    company = opened(price("egress", **GRADUATED))
    company.post([event("a", "8"), event("b", "4")])
    assert charges(company) == [("egress", 16, 8), ("egress", 6, 4)]
    company.post([event("c", "-4")])
    assert charges(company)[2:] == [("egress", -6, -4)]
    check(company)


def test_the_next_period_begins_at_the_first_tier_and_late_usage_goes_on_in_its_own(opened: Opener) -> None:
    """8 in June: 16. 8 in July: 16 again. June is billed; 4 late ones for June: 2 x 2 + 2 x 1 = 6."""
    company = opened(price("egress", **GRADUATED))
    company.post([event("a", "8"), event("b", "8", at=JULY)])
    company.close(datetime(2025, 7, 1, tzinfo=UTC))
    company.post([event("late", "4")])
    assert charges(company) == [("egress", 16, 8), ("egress", 16, 8), ("egress", 6, 4)]
    check(company)


def test_what_is_left_after_an_early_bill_goes_on_in_the_same_tiers(opened: Opener) -> None:
    """8 used, 16 billed early on the 12th. 4 more on the 20th: 2 x 2 + 2 x 1 = 6, and a plan's 29 are given once."""
    company = opened(price("egress", **GRADUATED))
    company.include("ant", JUNE, Decimal(20))
    company.post([event("a", "8")])
    company.post([event("other", "1", at=JUNE + timedelta(hours=1))])
    assert company.bill_early("ant", JUNE + timedelta(days=2)) is False  # the plan gave all of it back
    company.include("ant", JUNE, Decimal(10))
    assert company.bill_early("ant", JUNE + timedelta(days=2)) is True
    company.post([event("b", "4", at=JUNE + timedelta(days=10)), event("late", "1")])
    assert [amount for item, amount, _ in charges(company) if item == "egress"] == [16, 2, 5, 1]
    assert total(company) == 24 - 10
    check(company)


def test_an_allowance_that_grows_takes_back_what_it_covers(opened: Opener) -> None:
    """
    5 units of egress are free for each machine; a unit costs 2 USD, and 10 % are off all egress.
    6 used without a machine: 12, less 1.2. One machine at 3 USD: 5 of the 6 are free, so 10 come back, less 1.
    Then 3 + 2 - 0.2 = 4.8 is what it costs, and egress alone 1.8.
    """
    company = opened(
        price("machine", "3"),
        price("egress", "2", included_item="machine", included_per_unit=Decimal(5)),
        discounts=({"customer": "ant", "item": "egress", "percent": Decimal(10), "from": ALWAYS, "until": None},),
    )
    company.post([event("a", "6")])
    assert charges(company) == [("egress", 12, 6), ("egress", Decimal("-1.2"), None)]
    company.post([event("b", "1", item="machine")])
    assert charges(company)[2:] == [("machine", 3, 1), ("egress", -10, None), ("egress", 1, None)]
    assert total(company) == Decimal("4.8")
    company.post([event("c", "-1", item="machine")])
    assert total(company) == Decimal("10.8")
    check(company)


def test_usage_rated_by_its_source_meets_no_tier_but_earns_allowances(opened: Opener) -> None:
    company = opened(price("egress", "2", included_item="machine", included_per_unit=Decimal(5)), price("machine", "3"))
    company.post([event("a", "6"), event("m", "1", item="machine", amount="0.5")])
    assert charges(company) == [("egress", 12, 6), ("machine", Decimal("0.5"), 1), ("egress", -10, None)]
    check(company)


def test_more_used_for_less_money_keeps_both_sums_true(opened: Opener) -> None:
    """Volume tiers: up to 10 at 2 USD each, above 10 all at 1. 10 used: 20. One more: 11 - 20 = -9 for +1."""
    company = opened(price("egress", model="volume", tiers=GRADUATED["tiers"]))
    company.post([event("a", "10")])
    assert company.post([event("b", "1")]) == UsagePosted(posted=1, replayed=0)
    assert charges(company)[1:] == [("egress", 0, 1), ("egress", -9, None)]
    assert company.post([event("b", "1"), event("a", "10")]) == UsagePosted(posted=0, replayed=2)
    check(company)


def test_a_plan_gives_usage_back_until_what_it_includes_is_used_up(opened: Opener) -> None:
    """
    29 USD included. 16 used: 16 back. 20 more: 13 back. 10 taken back: 26 in all, so 3 of the 29 as well.
    A plan that includes 5 takes 21 back again.
    """
    company = opened(price("egress", "2"))
    company.post([event("before", "8")])
    company.include("ant", JUNE, Decimal(29))
    company.post([event("a", "10"), event("b", "-5")])
    assert [amount for item, amount, _ in charges(company) if item.startswith("plan")] == [-16, -13, 3]
    company.include("ant", JUNE, Decimal(5))
    company.include("ant", JUNE, Decimal(5))
    assert charges(company)[-1] == ("plan:launch:included", 21, None)
    assert total(company) == 21
    check(company)


def test_the_same_batch_again_counts_nothing_twice(opened: Opener) -> None:
    company = opened(price("egress", **GRADUATED))
    company.include("ant", JUNE, Decimal(5))
    first = [event("a", "8"), event("b", "4"), event("a", "8")]
    assert company.post(first) == UsagePosted(posted=2, replayed=1)
    assert company.post([event("c", "1"), *first]) == UsagePosted(posted=1, replayed=3)
    assert total(company) == 18
    check(company)


def test_every_bad_row_is_named_and_nothing_is_written_or_counted(opened: Opener) -> None:
    company = opened(price("egress", **GRADUATED), price("machine", "1", minimum=Decimal(1), **{"from": JULY}))
    company.post([event("a", "8")])
    bad = [
        event("fine", "4"),
        event("a", "9"),
        event("early", "1", item="machine"),
        event("huge", "9e17", item="egress"),
        event("tomorrow", "1", at=NOW + timedelta(days=1)),
    ]
    for batch, named in ((bad, {1, 2, 3, 4}), (bad[:4], {1, 2, 3}), (bad[:2], {1})):
        with pytest.raises(UsageRefused) as refused:
            company.post(batch)
        assert {problem.row for problem in refused.value.problems} == named
    assert {problem.code for problem in refused.value.problems} == {"entry_conflict"} == {refused.value.code}
    assert total(company) == 16
    company.post([event("fine", "4")])
    assert total(company) == 22
    check(company)


def test_what_is_rolled_back_is_not_counted(opened: Opener) -> None:
    company = opened(price("egress", **GRADUATED))
    with session_scope(company.engine) as session:
        send(session, company, event("a", "8"))
        savepoint = session.begin_nested()
        send(session, company, event("b", "4"))
        savepoint.rollback()
        send(session, company, event("c", "4"))
    with Session(company.engine) as session:
        send(session, company, event("d", "4"))
        session.rollback()
    assert charges(company) == [("egress", 16, 8), ("egress", 6, 4)]
    check(company)


def test_a_session_that_sees_an_old_moment_fails_instead_of_counting_from_there(opened: Opener) -> None:
    company = opened(price("egress", **GRADUATED), price("machine", "1"))
    company.post([event("a", "8")])
    with Session(company.engine.execution_options(isolation_level="REPEATABLE READ")) as old:
        old.execute(text("SELECT 1 FROM rating_counters"))
        company.post([event("b", "4")])
        with pytest.raises(OperationalError, match="could not serialize"):
            send(old, company, event("c", "4"))
    with Session(company.engine.execution_options(isolation_level="REPEATABLE READ")) as old:
        old.execute(text("SELECT 1 FROM usage_charges"))
        company.include("ant", JULY, Decimal(5))
        with pytest.raises(OperationalError, match="could not serialize"):
            send(old, company, event("d", "4", item="machine"))
    check(company)


def send(session: Session, company: RatedCompany, sent: Row) -> None:
    post_usage(session, [company.record(sent)], source="test", actor="test", now=NOW)


def test_a_batch_with_more_entries_than_one_posting_takes_is_still_one_batch(opened: Opener) -> None:
    """3,400 events of 1 unit at 2 USD, 10 % off, all of it included: three entries each, 10,200 in all."""
    off = {"customer": "ant", "item": None, "percent": Decimal(10), "from": ALWAYS, "until": None}
    company = opened(price("egress", "2"), discounts=(off,))
    company.include("ant", JUNE, Decimal(10_000))
    events = [event(f"e{n}", "1") for n in range(3_400)]
    assert company.post(events) == UsagePosted(posted=3_400, replayed=0)
    assert len(charges(company)) == 10_200
    assert total(company) == 0
    assert company.post(events[:10]) == UsagePosted(posted=0, replayed=10)
    check(company)
