"""Counters cannot be talked out of what the ledger says, and who did it all the same is named."""

import threading
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import normalise_url
from invoicing import checks as invoicing_checks
from invoicing.rating.checks import CHECKS
from invoicing.rating.posting import IncludedChanged, recharge_included
from ledger.checks import run_checks
from tests.invoicing.waiting import second
from tests.rating.company import NOW, RatedCompany
from tests.rating.conftest import Opener, price
from tests.rating.test_rating import GRADUATED, JUNE, check, event, send, total


@pytest.fixture
def company(opened: Opener) -> RatedCompany:
    """Ant with a counter of each kind, all above 0."""
    company = opened(
        price("machine", "3"), price("egress", included_item="machine", included_per_unit=Decimal(1), **GRADUATED)
    )
    company.include("ant", JUNE, Decimal(5))
    company.post([event("a", "8"), event("m", "1", item="machine")])
    return company


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM rating_counters",
        "DELETE FROM rated_quantities",
        "DELETE FROM usage_charges",
        "TRUNCATE rating_counters",
        "TRUNCATE rated_quantities",
        "TRUNCATE usage_charges",
        "UPDATE rating_counters SET quantity = quantity + 1",
        "UPDATE rating_counters SET amount = 0",
        "UPDATE rating_counters SET rating_start = rating_start - interval '1 day'",
        "UPDATE rating_counters SET item = 'other'",
        "UPDATE rated_quantities SET quantity = 0",
        "UPDATE rated_quantities SET item = 'other'",
        "UPDATE usage_charges SET amount = 100",
        "UPDATE usage_charges SET credited = 0",
        "UPDATE usage_charges SET included = 3",
        "UPDATE usage_charges SET included = 3, credited = 3",
        "UPDATE usage_charges SET rating_start = rating_start - interval '1 day'",
        "INSERT INTO rating_counters SELECT gen_random_uuid(), rating_start, price_id, item, 1, 1 FROM rating_counters",
    ],
)
def test_a_counter_changes_only_with_entries(company: RatedCompany, database_url: str, statement: str) -> None:
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as owner, pytest.raises(errors.IntegrityError):
        owner.execute(statement)
    check(company)


BEGUN = {
    "a price's": "rating_counters SELECT customer_id, rating_start, customer_id, item, 1, 1 FROM rating_counters",
    "an item's": "rated_quantities SELECT customer_id, rating_start, 'other', 1 FROM rated_quantities",
    "a plan's": "usage_charges SELECT customer_id, rating_start - interval '1 day', 9, 5, 5, plan_version_id, item "
    "FROM usage_charges",
}


@pytest.mark.parametrize("row", BEGUN.values(), ids=BEGUN.keys())
def test_a_counter_that_begins_has_entries(company: RatedCompany, row: str) -> None:
    with Session(company.engine) as session, pytest.raises(IntegrityError, match="counters follow the entries"):
        session.execute(text(f"INSERT INTO {row}"))


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE rating_counters SET quantity = quantity + 1", "rating counters equal the totals that they count"),
        ("UPDATE rating_counters SET amount = 0", "rating counters equal the totals that they count"),
        ("DELETE FROM rating_counters", "rating counters equal the totals that they count"),
        ("UPDATE rated_quantities SET quantity = 0", "quantities on which allowances depend equal the totals"),
        ("UPDATE usage_charges SET amount = 100", "usage charges that are counted equal the totals"),
        ("DELETE FROM usage_charges", "plans gave back what they include, and not more than was used"),
        (
            "UPDATE usage_charges SET included = 3, credited = 3",
            "plans gave back what they include, and not more than was used",
        ),
    ],
)
def test_a_counter_that_differs_from_the_books_is_named(
    company: RatedCompany, database_url: str, statement: str, rule: str
) -> None:
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as owner:
        for table in ("rating_counters", "rated_quantities", "usage_charges"):
            owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        owner.execute(statement)
    with Session(company.engine) as session:
        broken = [result.name for result in run_checks(session, CHECKS) if not result.holds]
    assert rule in broken
    assert rule in invoicing_checks.CHECKS


@pytest.mark.parametrize(
    "change",
    [
        "rating_counters SET rating_start = rating_start - interval '1 day'",
        "rated_quantities SET item = 'other'",
        "usage_charges SET rating_start = rating_start - interval '1 day'",
    ],
    ids=["a price's", "an item's", "a plan's"],
)
def test_a_counter_counts_what_it_began_with_even_beside_entries(
    company: RatedCompany, database_url: str, change: str
) -> None:
    """The owner moves it in a transaction that posts, as a program would that mistakes for whom it counts."""
    engine = create_engine(normalise_url(database_url), poolclass=NullPool)
    with Session(engine) as owner:
        send(owner, company, event("more", "1"))
        with pytest.raises(IntegrityError, match="is for life"):
            owner.execute(text(f"UPDATE {change}"))


def test_who_posts_meanwhile_goes_on_from_where_the_other_was(opened: Opener) -> None:
    """8 used, and 4 more come before that is committed: 2 x 2 + 2 x 1 = 6, and not 8 as for the first ones."""
    company = opened(price("egress", **GRADUATED))
    company.post([event("earlier", "0")])
    outcome = second(
        company.engine, lambda one: send(one, company, event("a", "8")), lambda two: send(two, company, event("b", "4"))
    )
    assert outcome is None
    assert total(company) == 22
    check(company)


def test_what_is_used_while_a_plan_begins_is_counted(opened: Opener) -> None:
    """A flat price, which needs no counter: 8 used at 2 USD, of which the plan that just begins gives 5 back."""
    company = opened(price("egress", "2"))
    company.post([event("earlier", "0")])
    outcome = second(
        company.engine,
        lambda one: include(one, company, before=Decimal(0), after=Decimal(5)),
        lambda two: send(two, company, event("a", "4")),
    )
    assert outcome is None
    assert total(company) == 3
    check(company)


def test_of_two_who_change_what_a_plan_includes_one_looks_again(opened: Opener) -> None:
    company = opened(price("egress", "2"))
    company.post([event("a", "8")])
    company.include("ant", JUNE, Decimal(10))
    with pytest.raises(IncludedChanged, match="10 is included by now, not 0"), Session(company.engine) as session:
        include(session, company, before=Decimal(0), after=Decimal(5))
    assert total(company) == 6


def include(session: Session, company: RatedCompany, *, before: Decimal, after: Decimal) -> None:
    recharge_included(
        session,
        customer_id=company.customer_id("ant"),
        rating_start=JUNE.replace(day=1),
        included_before=before,
        included_after=after,
        plan_version_id=UUID(int=1),
        item="plan:launch:included",
        effective_at=JUNE,
        source="test plan",
        event_id="begins",
        actor="test",
        now=NOW,
    )


def test_two_who_post_at_once_count_one_after_the_other(company: RatedCompany) -> None:
    """Each sends the same 30 events of 1 unit, in its own order and batches: they cost as much as 30 units do."""
    events = [event(f"e{n}", "1", item="egress" if n % 3 else "machine") for n in range(30)]

    def sender(order: int, size: int) -> Callable[[], None]:
        def run() -> None:
            mine = sorted(events, key=lambda one: one["id"], reverse=bool(order))
            for first in range(0, len(mine), size):
                company.post(mine[first : first + size])

        return run

    threads = [threading.Thread(target=sender(order, size)) for order, size in ((0, 4), (1, 7))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # 28 units of egress, 11 free for as many machines at 3: 17 paid, 10 x 2 + 7 x 1; 33 + 27 - 5.
    assert total(company) == Decimal(55)
    check(company)


def test_counters_stay_where_they_are_when_nothing_is_posted(company: RatedCompany) -> None:
    with Session(company.engine) as session:
        before = session.execute(text("SELECT xmin::text, * FROM rating_counters")).all()
    company.post([event("a", "8")])
    with Session(company.engine) as session:
        assert session.execute(text("SELECT xmin::text, * FROM rating_counters")).all() == before
