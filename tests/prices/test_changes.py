"""A change of prices: drafted by one person, compared with last month, published by another, never rating twice."""

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.prices.agreements import AgreementConflict, agree_price_list, give_discount
from invoicing.prices.book import load_tariff
from invoicing.prices.catalogue import ItemDetails, PriceRefused, SecondPersonNeeded, publish_price
from invoicing.prices.changes import (
    BadChange,
    ChangeDecided,
    ChangeNotFound,
    NothingNew,
    draft_change,
    get_change,
    list_changes,
    publish_change,
    withdraw_change,
)
from invoicing.prices.comparison import compare_change
from invoicing.tables import Price
from tests.prices.conftest import ANN, BOB, NOW, Desk, at, content, flat

AUGUST = "valid_from = 2025-08-01T00:00:00Z"
DEARER = flat("egress", "0.03", AUGUST)


def amounts(session: Session) -> list[Decimal]:
    return list(session.scalars(select(Price.unit_amount).order_by(Price.valid_from)))


def test_first_prices_are_published_at_once_and_what_changes_them_by_a_second_person(desk: Desk) -> None:
    assert desk.load(flat("egress", "0.02")).change_id is None
    drafted = desk.load(DEARER)
    assert (drafted.published, drafted.drafted) == (0, 1)
    assert amounts(desk.session) == [Decimal("0.02")]
    assert drafted.change_id is not None
    with pytest.raises(SecondPersonNeeded):
        publish_change(desk.session, change_id=drafted.change_id, actor=ANN, now=NOW)
    desk.session.rollback()
    done = publish_change(desk.session, change_id=drafted.change_id, actor=BOB, now=NOW)
    desk.session.commit()
    assert (done.state, done.created_by, done.decided_by) == ("published", ANN, BOB)
    assert amounts(desk.session) == [Decimal("0.02"), Decimal("0.03")]
    again = publish_change(desk.session, change_id=drafted.change_id, actor=BOB, now=NOW + timedelta(days=1))
    assert again.decided_at == NOW
    assert desk.load(DEARER).known == 1


def test_a_draft_is_written_once_and_can_be_drafted_anew_after_it_was_withdrawn(desk: Desk) -> None:
    desk.load(flat("egress", "0.02"))
    first, second = desk.load(DEARER), desk.load(DEARER)
    assert first.change_id is not None
    assert first.change_id == second.change_id
    assert withdraw_change(desk.session, change_id=first.change_id, actor=ANN, now=NOW).state == "withdrawn"
    desk.session.commit()
    with pytest.raises(ChangeDecided):
        publish_change(desk.session, change_id=first.change_id, actor=BOB, now=NOW)
    desk.session.rollback()
    anew = desk.load(DEARER).change_id
    assert anew not in (None, first.change_id)
    assert {change.state for change in list_changes(desk.session)} == {"drafted", "withdrawn"}


def test_without_a_word_to_publish_everything_waits_for_a_second_person(desk: Desk) -> None:
    done = desk.load(flat("egress", "0.02") + flat("volume", "0.15"), publish=False)
    assert (done.published, done.drafted) == (0, 2)
    assert amounts(desk.session) == []
    assert done.change_id is not None
    publish_change(desk.session, change_id=done.change_id, actor=BOB, now=NOW)
    desk.session.commit()
    assert len(amounts(desk.session)) == 2


def test_what_cannot_be_a_change_is_refused(desk: Desk) -> None:
    desk.load(flat("egress", "0.02"))
    with pytest.raises(NothingNew):
        draft_change(desk.session, content=content(flat("egress", "0.02")), title="t", actor=ANN, now=NOW)
    with pytest.raises(BadChange):
        draft_change(desk.session, content=content(DEARER), title=" ", actor=ANN, now=NOW)
    with pytest.raises(ChangeNotFound):
        publish_change(desk.session, change_id=customer_id_for("x"), actor=BOB, now=NOW)


def test_one_price_alone_needs_the_second_person_as_well(desk: Desk) -> None:
    desk.load(flat("egress", "0.02"))
    with pytest.raises(SecondPersonNeeded):
        publish_price(
            desk.session, item=ItemDetails("egress", "Egress"), currency="USD", unit_amount=Decimal(1),
            valid_from=at("2025-09-01"), actor=ANN, now=at("2025-07-11"),
        )  # fmt: skip


def test_a_price_never_begins_where_usage_was_rated_by_the_one_it_replaces(desk: Desk) -> None:
    """Used on the 3rd and the 5th of June: another price can begin after the 5th, and the message says when."""
    desk.customer("acme")
    desk.load(flat("egress", "0.02") + flat("volume", "0.15"))
    desk.use("acme", "2025-06-03", "10")
    desk.use("acme", "2025-06-05", "10")
    with pytest.raises(PriceRefused) as refused:
        desk.load(flat("egress", "0.03", "valid_from = 2025-06-01T00:00:00Z"))
    ((_, code, sentence),) = refused.value.problems
    assert code == "usage_rated_already"
    assert "2025-06-05T00:00:00.000001+00:00 or later" in sentence
    desk.session.rollback()
    assert desk.load(flat("egress", "0.03", "valid_from = 2025-06-05T00:00:00.000001Z")).drafted == 1
    assert desk.load(flat("volume", "0.16", "valid_from = 2025-06-01T00:00:00Z")).drafted == 1


def test_a_wider_price_that_would_be_replaced_counts_and_a_narrower_one_does_not(desk: Desk) -> None:
    desk.customer("acme")
    desk.customer("bolt")
    desk.load(flat("egress", "0.02") + '[zones]\neu = ["fra", "ams"]\n')
    desk.use("acme", "2025-06-05", "10", region="fra")
    past = "valid_from = 2025-06-01T00:00:00Z\n"
    for more in ('customer = "acme"', 'region = "fra"', 'region = "eu"'):
        with pytest.raises(PriceRefused) as refused:
            desk.load(flat("egress", "0.01", past + more))
        assert [code for _, code, _ in refused.value.problems] == ["usage_rated_already"], more
        desk.session.rollback()
    for more in (
        'customer = "bolt"',
        'region = "ams"',
        'price_list = "partner"\n[[lists]]\ncode = "partner"\nname = "P"',
    ):
        assert desk.load(flat("egress", "0.01", past + more)).drafted == 1, more


def test_a_draft_that_became_too_late_is_not_published(desk: Desk) -> None:
    desk.customer("acme")
    desk.load(flat("egress", "0.02"))
    change = desk.load(flat("egress", "0.03", "valid_from = 2025-07-01T00:00:00Z")).change_id
    assert change is not None
    desk.use("acme", "2025-07-02", "10")
    with pytest.raises(PriceRefused, match="rated by a price"):
        publish_change(desk.session, change_id=change, actor=BOB, now=NOW)
    desk.session.rollback()
    assert get_change(desk.session, change_id=change).state == "drafted"


def test_last_month_is_compared_by_item_and_customer_the_largest_mover_first(desk: Desk) -> None:
    """
    June, egress at 0.02: acme 100 GB = 2.00, bolt 1,000 GB = 20.00; July's usage is not in it.
    From August 0.03 above 150 GB, 0.01 below: acme 1.00, bolt 1.50 + 25.50 = 27.00.
    """
    for name in ("acme", "bolt"):
        desk.customer(name, time_zone="Europe/Berlin")
    desk.load(flat("egress", "0.02"))
    desk.use("acme", "2025-06-03", "100")
    desk.use("bolt", "2025-06-04", "1000")
    desk.use("bolt", "2025-07-04", "7")
    tiers = "tiers = [{ first = 0, unit_amount = 0.01 }, { first = 150, unit_amount = 0.03 }]"
    change = desk.load(f'[[items]]\ncode = "egress"\nmodel = "graduated"\n{AUGUST}\n{tiers}').change_id
    assert change is not None
    found = compare_change(desk.session, change_id=change, now=NOW)
    assert (found.month.isoformat(), found.as_of) == ("2025-06-01", at("2025-08-01"))
    (item,) = found.items
    assert [item.quantity, item.old, item.new] == [Decimal(1100), Decimal(22), Decimal(28)]
    assert [(move.external_id, move.old, move.new) for move in found.customers] == [
        ("bolt", Decimal(20), Decimal(27)),
        ("acme", Decimal(2), Decimal(1)),
    ]
    publish_change(desk.session, change_id=change, actor=BOB, now=NOW)
    desk.session.commit()
    after = compare_change(desk.session, change_id=change, now=NOW)
    assert (after.items, after.customers) == (found.items, found.customers)


def test_a_comparison_warns_of_what_it_cannot_say(desk: Desk) -> None:
    desk.customer("acme")
    desk.load(flat("egress", "0.02") + flat("volume", "1"))
    desk.use("acme", "2025-06-03", "100")
    change = desk.load(flat("egress", "0.05", AUGUST) + flat("volume", "2", AUGUST)).change_id
    assert change is not None
    warnings = compare_change(desk.session, change_id=change, now=NOW).warnings
    assert "volume: nobody used it in this month." in warnings
    assert "1 customer would pay more than twice as much for these items." in warnings


def test_a_list_and_a_discount_are_agreed_with_one_customer(desk: Desk) -> None:
    acme, bolt = desk.customer("acme"), desk.customer("bolt")
    desk.load(flat("egress", "0.02", 'price_list = "partner"\n[[lists]]\ncode = "partner"\nname = "P"'))
    why: dict[str, Any] = {"reason": "contract 7", "actor": ANN, "now": NOW}
    for _ in range(2):
        agree_price_list(desk.session, customer_id=acme, price_list="partner", valid_from=at("2025-08-01"), **why)
        give_discount(
            desk.session, customer_id=acme, percent=Decimal("12.5"), item="egress", valid_from=at("2025-08-01"),
            valid_until=at("2025-09-01"), **why,
        )  # fmt: skip
    desk.session.commit()
    tariff = load_tariff(desk.session, customers={acme: "USD", bolt: "USD"}, items=["egress"])
    for day, has in (("2025-07-31", False), ("2025-08-01", True)):
        terms = tariff.version_at(acme, item="egress", region=None, at=at(day))
        assert (terms is not None) is has
        assert (tariff.discount_at(acme, "egress", at(day)) is not None) is has
    assert tariff.version_at(bolt, item="egress", region=None, at=at("2025-08-01")) is None
    assert tariff.discount_at(acme, "egress", at("2025-09-01")) is None
    assert tariff.may_aggregate(acme, "egress")
    assert not tariff.may_aggregate(bolt, "egress")
    with pytest.raises(AgreementConflict):
        give_discount(
            desk.session, customer_id=acme, percent=Decimal(5), item="egress", valid_from=at("2025-08-15"),
            valid_until=None, **why,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"percent": Decimal("100.01")}, "bad_percent"),
        ({"percent": Decimal(0)}, "bad_percent"),
        ({"percent": Decimal("1.234")}, "too_many_decimals"),
        ({"item": "ghost"}, "unknown_item"),
        ({"item": "euros"}, "no_price"),
        ({"reason": " "}, "bad_reason"),
        ({"valid_until": at("2025-01-01")}, "ends_before_it_begins"),
        ({"valid_from": at("2025-06-01")}, "usage_rated_already"),
    ],
    ids=["above 100", "zero", "decimals", "unknown item", "other currency", "no reason", "ends early", "rated"],
)
def test_a_discount_that_cannot_be_is_refused_with_its_cure(desk: Desk, changed: dict[str, object], code: str) -> None:
    acme = desk.customer("acme")
    desk.load(flat("egress", "0.02") + flat("euros", "1", 'currency = "EUR"'))
    desk.use("acme", "2025-06-03", "1")
    given: dict[str, object] = {
        "percent": Decimal(5), "item": None, "valid_from": at("2025-08-01"), "valid_until": None, "reason": "why",
    }  # fmt: skip
    with pytest.raises(PriceRefused) as refused:
        give_discount(desk.session, customer_id=acme, actor=ANN, now=NOW, **(given | changed))  # type: ignore[arg-type]
    assert [problem[1] for problem in refused.value.problems] == [code]


def test_who_rates_keeps_others_from_publishing_until_the_entries_are_in(desk: Desk, engine: Engine) -> None:
    """The publisher waits, and then sees the usage that was rated before it."""
    acme = desk.customer("acme")
    desk.load(flat("egress", "0.02"))
    change = desk.load(flat("egress", "0.03", "valid_from = 2025-07-01T00:00:00Z")).change_id
    assert change is not None
    outcome: list[str] = []

    def publish() -> None:
        with Session(engine) as other:
            try:
                publish_change(other, change_id=change, actor=BOB, now=NOW)
                other.commit()
                outcome.append("published")
            except PriceRefused as refused:
                outcome.append(refused.problems[0][1])

    load_tariff(desk.session, customers={acme: "USD"}, items=["egress"])
    thread = threading.Thread(target=publish)
    thread.start()
    waiting = text("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)")
    with Session(engine) as watcher:
        while not watcher.scalar(waiting):
            assert thread.is_alive()
    assert outcome == []
    desk.use("acme", "2025-07-02", "10")
    thread.join(60)
    assert outcome == ["usage_rated_already"]
