"""Ends of agreements: staff end a discount or a customer's own price, and what is rated stays as it was rated."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.database import normalise_url
from invoicing.customers import customer_id_for
from invoicing.prices.agreements import (
    AgreementConflict,
    DiscountView,
    agree_price_list,
    agreements_of,
    discounts_of,
    give_discount,
)
from invoicing.prices.book import load_tariff
from invoicing.prices.catalogue import PriceRefused
from invoicing.prices.changes import publish_change
from invoicing.prices.endings import (
    AgreementNotFound,
    End,
    end_discount,
    end_own_price,
    end_price_list,
    ends_of,
    own_prices_of,
)
from ledger.balances import balances
from tests.prices.conftest import ANN, BOB, NOW, Desk, at, flat

TICK = timedelta(microseconds=1)
OWN = flat("egress", "0.50", 'customer = "acme"')


def give(desk: Desk, percent: str = "10", *, since: str = "2025-06-01", until: str | None = None) -> DiscountView:
    given = give_discount(
        desk.session, customer_id=customer_id_for("acme"), percent=Decimal(percent), valid_from=at(since),
        valid_until=at(until) if until else None, reason="year 1", actor=ANN, now=NOW,
    )  # fmt: skip
    desk.session.commit()
    return given


def end(desk: Desk, of: DiscountView, when: datetime | None, *, customer: str = "acme", reason: str = "over") -> End:
    try:
        done = end_discount(
            desk.session, customer_id=customer_id_for(customer), discount_id=of.id, ends_at=when, reason=reason,
            actor=ANN, now=NOW,
        )  # fmt: skip
    except Exception:
        desk.session.rollback()
        raise
    desk.session.commit()
    return done


def end_price(desk: Desk, when: datetime | None) -> End:
    key = customer_id_for("acme")
    (own,) = own_prices_of(desk.session, customer_id=key)
    try:
        done = end_own_price(
            desk.session, customer_id=key, price_id=own.id, ends_at=when, reason="over", actor=ANN, now=NOW
        )
    except Exception:
        desk.session.rollback()
        raise
    desk.session.commit()
    return done


def charged(desk: Desk) -> Decimal:
    return balances(desk.session, customer_id=customer_id_for("acme"))["assets:unbilled"]


@pytest.fixture
def acme(desk: Desk) -> Desk:
    desk.customer("acme")
    desk.load(flat("egress", "1"))
    return desk


def test_a_discount_that_was_ended_holds_before_its_end_and_not_after_even_for_late_usage(acme: Desk) -> None:
    given = give(acme)
    done = end(acme, given, at("2025-07-01"))
    assert (done.ends_at, done.reason, done.created_by) == (at("2025-07-01"), "over", ANN)
    acme.use("acme", "2025-07-02", "10")
    assert charged(acme) == 10
    acme.use("acme", "2025-06-30", "10")  # arrives late
    assert charged(acme) == 19
    assert [found.valid_until for found in discounts_of(acme.session, customer_id=customer_id_for("acme"))] == [
        at("2025-07-01")
    ]


def test_a_discount_ends_no_earlier_than_the_usage_it_was_given_on(acme: Desk) -> None:
    given = give(acme)
    acme.use("acme", "2025-07-05", "10")
    with pytest.raises(PriceRefused, match="rated already, with this"):
        end(acme, given, at("2025-07-05"))
    assert end(acme, given, at("2025-07-05") + TICK).ends_at == at("2025-07-05") + TICK


def test_without_a_time_it_ends_now_or_right_after_what_is_rated(acme: Desk) -> None:
    first = give(acme, until="2025-07-20")
    assert end(acme, first, None).ends_at == NOW
    second = give(acme, since="2025-07-10 12:00")
    acme.use("acme", "2025-07-10 12:01", "10")
    assert end(acme, second, None).ends_at == at("2025-07-10 12:01") + TICK


def test_the_same_end_changes_nothing_and_another_one_is_refused(acme: Desk) -> None:
    given = give(acme)
    first = end(acme, given, at("2025-08-01"))
    assert end(acme, given, at("2025-08-01"), reason="again") == first == end(acme, given, None)
    with pytest.raises(AgreementConflict, match=ANN):
        end(acme, given, at("2025-09-01"))


def test_from_its_end_on_another_discount_can_begin(acme: Desk) -> None:
    given = give(acme)
    with pytest.raises(AgreementConflict):
        give(acme, "20", since="2025-08-01")
    acme.session.rollback()
    end(acme, given, at("2025-08-01"))
    give(acme, "20", since="2025-08-01")


@pytest.mark.parametrize(
    ("when", "code"),
    [("2025-05-31", "ends_before_it_begins"), ("2025-09-01", "ended_already")],
    ids=["before it begins", "after its own end"],
)
def test_an_end_that_ends_nothing_is_refused(acme: Desk, when: str, code: str) -> None:
    given = give(acme, until="2025-09-01")
    with pytest.raises(PriceRefused) as refused:
        end(acme, given, at(when))
    assert [problem[:2] for problem in refused.value.problems] == [("ends_at", code)]


def test_what_is_somebody_elses_or_unknown_cannot_be_ended(acme: Desk) -> None:
    given = give(acme)
    acme.customer("bolt")
    with pytest.raises(AgreementNotFound):
        end(acme, given, None, customer="bolt")
    with pytest.raises(PriceRefused, match="Say why"):
        end(acme, given, None, reason=" ")
    with pytest.raises(AgreementNotFound), acme.session.begin_nested():
        end_own_price(
            acme.session, customer_id=customer_id_for("acme"), price_id=UUID(int=7), ends_at=None, reason="x",
            actor=ANN, now=NOW,
        )  # fmt: skip


def test_from_the_end_of_an_own_price_on_the_list_holds_again(acme: Desk) -> None:
    change = acme.load(OWN).change_id
    assert change is not None
    publish_change(acme.session, change_id=change, actor=BOB, now=NOW)
    acme.session.commit()
    acme.use("acme", "2025-07-05", "10")
    assert charged(acme) == 5
    with pytest.raises(PriceRefused, match="rated already"):
        end_price(acme, at("2025-07-05"))
    end_price(acme, at("2025-07-06"))
    acme.use("acme", "2025-07-06", "10")
    assert charged(acme) == 15
    acme.use("acme", "2025-07-04", "10")
    assert charged(acme) == 20
    # The file it came from still says the same: nothing is new.
    assert acme.load(OWN).known == 1
    (ended,) = ends_of(acme.session, customer_id=customer_id_for("acme")).values()
    assert ended.ends_at == at("2025-07-06")


def test_an_own_price_that_counts_a_period_rates_the_period_that_has_begun_to_its_end(acme: Desk) -> None:
    acme.load(flat("machine", "1"))
    own = flat("machine", "0.50", 'customer = "acme"\nincluded = 10')
    change = acme.load(own).change_id
    assert change is not None
    publish_change(acme.session, change_id=change, actor=BOB, now=NOW)
    acme.session.commit()
    acme.use("acme", "2025-07-05", "20", item="machine")
    end_price(acme, at("2025-07-06"))
    acme.use("acme", "2025-07-07", "10", item="machine")
    assert charged(acme) == 10  # 30 used, 10 free, by its own price
    tariff = load_tariff(acme.session, customers={customer_id_for("acme"): "USD"}, items=["machine"], hold=False)
    august = at("2025-08-02")
    found = tariff.price_for(
        customer_id_for("acme"), item="machine", region=None, effective_at=august, rating_start=at("2025-08-01")
    )
    assert found.price_list == "public"


def test_a_list_that_was_agreed_ends_by_the_public_one_after_what_is_rated(acme: Desk) -> None:
    key = customer_id_for("acme")
    with pytest.raises(AgreementNotFound):
        end_price_list(acme.session, customer_id=key, ends_at=None, reason="over", actor=ANN, now=NOW)
    acme.session.rollback()
    partner = '[[lists]]\ncode = "partners"\n' + flat("volume", "0.5", 'price_list = "partners"')
    acme.load(partner)
    agree_price_list(
        acme.session, customer_id=key, price_list="partners", valid_from=at("2025-07-01"), reason="contract",
        actor=ANN, now=NOW,
    )  # fmt: skip
    acme.session.commit()
    acme.use("acme", "2025-07-10 12:01", "10", item="volume")
    ended = end_price_list(acme.session, customer_id=key, ends_at=None, reason="over", actor=ANN, now=NOW)
    assert ended.valid_from == at("2025-07-10 12:01") + TICK
    assert [found.price_list for found in agreements_of(acme.session, customer_id=key)] == ["partners", "public"]


def refused(session: Session, statement: str, **values: object) -> str:
    with pytest.raises(DBAPIError) as error:
        session.execute(text(statement), values)
    session.rollback()
    return str(error.value.orig)


ENDED = (
    "INSERT INTO discount_ends SELECT customer_id, id, :at, 'x', :at, 'test' FROM discounts WHERE customer_id = :who"
)


def test_postgres_ends_a_discount_only_after_what_it_was_given_on_and_within_its_time_and_once(acme: Desk) -> None:
    give(acme, until="2025-09-01")
    who = customer_id_for("acme")
    acme.use("acme", "2025-07-05", "10")
    session = acme.session
    assert "given on usage" in refused(session, ENDED, at=at("2025-07-05"), who=who)
    assert "does not end early" in refused(session, ENDED, at=at("2025-05-05"), who=who)
    assert "does not end early" in refused(session, ENDED, at=at("2025-09-01"), who=who)
    session.execute(text(ENDED), {"at": at("2025-07-06"), "who": who})
    session.commit()
    assert "discount_ends_pkey" in refused(session, ENDED, at=at("2025-07-06"), who=who)


def test_postgres_ends_only_prices_of_the_customers_own(acme: Desk) -> None:
    found = refused(
        acme.session,
        "INSERT INTO price_ends SELECT :who, id, :at, 'x', :at, 'test' FROM prices",
        at=at("2025-08-01"),
        who=customer_id_for("acme"),
    )
    assert "is no price of customer" in found


@pytest.mark.parametrize("statement", ["UPDATE {} SET reason = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_not_even_the_owner_takes_an_end_back(acme: Desk, database_url: str, statement: str) -> None:
    acme.load(flat("machine", "1"))
    publish_change(
        acme.session,
        change_id=acme.load(flat("machine", "0.50", 'customer = "acme"')).change_id or UUID(int=0),
        actor=BOB,
        now=NOW,
    )
    acme.session.commit()
    end(acme, give(acme), at("2025-08-01"))
    end_price(acme, at("2025-08-01"))
    engine = sqlalchemy.create_engine(normalise_url(database_url), poolclass=sqlalchemy.NullPool)
    for table in ("discount_ends", "price_ends"):
        with engine.connect() as owner, pytest.raises(IntegrityError, match="refused"):
            owner.execute(text(statement.format(table)))
