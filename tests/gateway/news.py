"""What Stripe said since the last time, and how it is taken: twice."""

import json
from typing import Any

from sqlalchemy.orm import Session

from invoicing.tables import Invoice
from stripe_gateway.tables import StripeEffect
from tests.gateway.conftest import Town
from tests.sandbox.receiver import Delivery


def heard(town: Town, *types: str) -> list[Delivery]:
    """What Stripe said of these types since the last time; the rest is lost."""
    town.settle()
    return [one for one in town.fetch() if one.event["type"] in types]


def told(obj: dict[str, Any]) -> dict[str, Any]:
    """An object as an event shows it: the SDK's decimals are texts there."""
    found: dict[str, Any] = json.loads(json.dumps(obj, default=str))
    return found


def take(town: Town, deliveries: list[Delivery]) -> None:
    """Take them twice, and handle what they are."""
    town.deliver(deliveries * 2)
    town.handle(tries=2)
    assert not town.events("parked"), [(one.type, one.error) for one in town.events("parked")]


def keys(town: Town) -> set[str]:
    """The kinds of the business keys that were written."""
    with Session(town.engine) as session:
        return {effect.key.partition(":")[0] for effect in session.query(StripeEffect)}


def charged(town: Town, name: str = "acme") -> Invoice:
    """An invoice that Stripe charged; nobody told us so far."""
    invoice = town.invoice(name, "100", card="pm_card_visa")
    town.sync()
    town.sandbox.advance(0)  # what is due now, the charge above all, is done when this returns
    return invoice
