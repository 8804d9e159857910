"""Plans against those who would have two, pay twice, or change what was agreed: in Postgres, and two at once."""

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.database import normalise_url
from invoicing.customers import customer_id_for
from invoicing.subscriptions import (
    PlanChangeRefused,
    Subscription,
    cancel,
    renew_due,
    subscribe,
    subscriptions_of,
)
from tests.invoicing.conftest import Company, at
from tests.invoicing.test_plans import held, offering, take
from tests.invoicing.waiting import second

__all__ = ["offering"]


@pytest.mark.parametrize("table", ["plans", "plan_versions", "plan_phases"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_not_even_the_owner_forgets_a_plan(database_url: str, table: str, statement: str) -> None:
    engine = create_engine(normalise_url(database_url))
    with pytest.raises(IntegrityError, match="never changed"), engine.begin() as connection:
        connection.execute(text(statement.format(table)))
    engine.dispose()


CHANGES = {
    "another fee": "UPDATE plan_versions SET fee = fee + 1",
    "another start": "UPDATE plan_phases SET starts_at = starts_at - interval '1 day'",
    "charged before": "UPDATE plan_phases SET window_start = window_start - interval '2 months', "
    "term_start = term_start - interval '2 months', term_end = term_end - interval '2 months', "
    "released_until = released_until - interval '2 months'",
    "never charged": "UPDATE plan_phases SET window_start = NULL, term_start = NULL, term_end = NULL, "
    "released_until = NULL, deferred = 0, earns_at = NULL",
    "more earned than charged": "UPDATE plan_phases SET deferred = -1",
}
"""What each would do: another price for what was agreed, or its fee charged a second time."""


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES.keys())
def test_not_even_the_owner_changes_what_was_agreed_and_charged(
    offering: Company, database_url: str, statement: str
) -> None:
    take(offering, "launch", "2025-06-01")
    engine = create_engine(normalise_url(database_url))
    with pytest.raises(IntegrityError), engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_what_was_withdrawn_does_not_come_back(offering: Company) -> None:
    with offering.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO plan_phases (customer_id, id, plan_version_id, starts_at, charged_from, reason, actor, "
                "created_at, withdrawn_at) SELECT :acme, gen_random_uuid(), id, '2025-07-01Z', '2025-07-01Z', 'x', "
                "'x', now(), now() FROM plan_versions WHERE plan = 'scale'"
            ),
            {"acme": customer_id_for("acme")},
        )
    with pytest.raises(IntegrityError, match="never changes"), offering.engine.begin() as connection:
        connection.execute(text("UPDATE plan_phases SET withdrawn_at = NULL"))


def test_no_plan_in_another_currency_than_the_customers(offering: Company) -> None:
    forged = (
        "INSERT INTO plan_phases (customer_id, id, plan_version_id, starts_at, charged_from, reason, actor, created_at)"
        " SELECT :acme, gen_random_uuid(), id, '2025-07-01Z', '2025-07-01Z', 'x', 'x', now() FROM plan_versions"
        " WHERE currency = 'EUR'"
    )
    with pytest.raises(IntegrityError, match="not in the currency"), offering.engine.begin() as connection:
        connection.execute(text(forged), {"acme": customer_id_for("acme")})


def test_the_same_plan_again_is_charged_once(offering: Company) -> None:
    for day in ("2025-06-01", "2025-06-10"):
        take(offering, "scale", day)
    assert held(offering, "assets:unbilled") == 300
    with Session(offering.engine) as session:
        assert len(subscriptions_of(session, customer_id=customer_id_for("acme"))) == 1
    offering.check()


def test_who_left_and_takes_another_plan_later_owes_nothing_of_the_first(offering: Company) -> None:
    """Launch for the first ten of June's thirty days: 10. Then Scale in August: 300."""
    take(offering, "launch", "2025-06-01")
    with Session(offering.engine) as session, session.begin():
        cancel(session, customer_id=customer_id_for("acme"), reason="Leaves", actor="ada", now=at("2025-06-11"))
    take(offering, "scale", "2025-08-01")
    assert held(offering, "assets:unbilled") == 310
    offering.check()


def test_a_plan_does_not_change_before_the_time_that_was_charged(offering: Company) -> None:
    """The trial ended on the 11th, and the rest of June was charged: from the 5th on there is nothing to give back."""
    take(offering, "trial", "2025-06-01")
    assert renew_due(offering.engine, now=at("2025-06-11")).charged == 1
    with pytest.raises(PlanChangeRefused, match="later time"), Session(offering.engine) as session, session.begin():
        subscribe(
            session, customer_id=customer_id_for("acme"), plan="scale", reason="x", actor="ada",
            now=at("2025-06-20"), at=at("2025-06-05"),
        )  # fmt: skip
    assert held(offering, "assets:unbilled") == 20
    offering.check()


def test_of_two_who_take_a_plan_at_once_the_second_finds_it_taken(offering: Company) -> None:
    def wish(session: Session) -> Subscription:
        return subscribe(
            session, customer_id=customer_id_for("acme"), plan="scale", reason="Wanted", actor="ada",
            now=at("2025-06-01"),
        )  # fmt: skip

    again = second(offering.engine, wish, wish)
    assert isinstance(again, Subscription)
    assert held(offering, "assets:unbilled") == 300
    offering.check()
