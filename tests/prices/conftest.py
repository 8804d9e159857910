"""What the tests of prices share: customers, usage, and price files in a few lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from invoicing.customers import create_customer, customer_id_for
from invoicing.prices.changes import Loaded, load_content
from invoicing.prices.content import PriceContent
from invoicing.prices.files import parse_document, read_prices
from invoicing.usage.intake import UsageRecord, post_usage

NOW = datetime(2025, 7, 10, 12, tzinfo=UTC)
ANN, BOB = "ann@billing.test", "bob@billing.test"
HEAD = 'currency = "USD"\nvalid_from = 2025-01-01T00:00:00Z\n'


def at(text: str) -> datetime:
    """An instant in UTC: "2025-06-03" is its midnight."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def content(text: str) -> PriceContent:
    """What a file says, in USD from 2025 on unless it says otherwise."""
    return read_prices(parse_document((HEAD + text).encode()))


def flat(item: str, amount: str, more: str = "") -> str:
    """An item with one price."""
    return f'[[items]]\ncode = "{item}"\nunit = "GB"\nunit_amount = {amount}\n{more}\n'


@dataclass
class Desk:
    """A session of somebody who loads prices and posts usage; each step is committed."""

    session: Session

    def customer(self, name: str, *, currency: str = "USD", time_zone: str = "UTC") -> UUID:
        create_customer(
            self.session, external_id=name, name=name.title(), currency=currency, time_zone=time_zone, actor="test",
            now=at("2025-01-01"),
        )  # fmt: skip
        self.session.commit()
        return customer_id_for(name)

    def load(self, text: str, *, publish: bool = True, actor: str = ANN, now: datetime = NOW) -> Loaded:
        done = load_content(
            self.session, content=content(text), title="new prices", publish=publish, actor=actor, now=now
        )
        self.session.commit()
        return done

    def use(self, name: str, day: str, quantity: str, *, item: str = "egress", region: str | None = None) -> None:
        record = UsageRecord(
            row=1, event_id=f"{name} {day} {quantity} {item} {region}", customer=name, item=item,
            quantity=Decimal(quantity), effective_at=at(day), labels={} if region is None else {"region": region},
        )  # fmt: skip
        post_usage(self.session, [record], source="test", actor="test", now=NOW)
        self.session.commit()


@pytest.fixture
def desk(session: Session) -> Iterator[Desk]:
    yield Desk(session)
    session.rollback()
