"""Books: opened once, kept for life."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from ledger.books import BadAnchorDay, BooksConflict, house_id, lock_books, open_books, open_house
from ledger.money import UnknownCurrency
from ledger.zones import UnknownTimeZone
from tests.integration.ledger.books import NOW, Ledger


def test_books_are_opened_once_and_keep_currency_and_holder(ledger: Ledger, acme: UUID) -> None:
    again: dict[str, Any] = {"customer_id": acme, "time_zone": "UTC", "anchor_day": 1, "now": NOW}
    with ledger.transaction() as session:
        assert open_books(session, currency="USD", **again).customer_id == acme
        with pytest.raises(BooksConflict, match="in USD, not a customer's in EUR"):
            open_books(session, currency="EUR", **again)
        with pytest.raises(BooksConflict, match="for life"):
            open_books(session, currency="USD", holder="house", **again)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"currency": "usd"}, UnknownCurrency),
        ({"time_zone": "Mars/Olympus"}, UnknownTimeZone),
        ({"anchor_day": 0}, BadAnchorDay),
        ({"anchor_day": 32}, BadAnchorDay),
    ],
)
def test_books_that_could_not_be_billed_are_not_opened(
    ledger: Ledger, changes: dict[str, Any], error: type[Exception]
) -> None:
    details: dict[str, Any] = {"currency": "USD", "time_zone": "UTC", "anchor_day": 1, **changes}
    with pytest.raises(error), ledger.transaction() as session:
        open_books(session, customer_id=uuid4(), now=NOW, **details)


def test_the_house_has_books_per_provider_account_and_currency(ledger: Ledger) -> None:
    with ledger.transaction() as session:
        dollars = open_house(session, provider="stripe", account="acct_1", currency="USD", now=NOW)
        euros = open_house(session, provider="stripe", account="acct_1", currency="EUR", now=NOW)
        again = open_house(session, provider="stripe", account="acct_1", currency="USD", now=NOW)
        assert dollars.customer_id == again.customer_id == house_id(provider="stripe", account="acct_1", currency="USD")
        assert euros.customer_id != dollars.customer_id
        assert (dollars.holder, dollars.currency) == ("house", "USD")


def test_locking_leaves_rows_that_only_refer_to_the_books_alone(ledger: Ledger, acme: UUID, engine: Engine) -> None:
    """Opening a document does not wait for a posting in flight: else two of them could deadlock."""
    with Session(engine) as holding, holding.begin():
        assert lock_books(holding, [acme]).keys() == {acme}
        with Session(engine) as other, other.begin():
            other.execute(text("SET LOCAL lock_timeout = '1s'"))
            other.execute(
                text(
                    "INSERT INTO ledger_documents (customer_id, id, kind, created_at) "
                    "VALUES (:customer, :id, 'invoice', now())"
                ),
                {"customer": acme, "id": uuid4()},
            )
