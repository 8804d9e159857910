"""What a town is asked whose account settles in another currency than its customers pay in."""

from decimal import Decimal
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements.tables import Exchange
from invoicing.tables import Invoice
from stripe_gateway.reconciliation import Asked
from tests.gateway import movement as do
from tests.gateway.conftest import Town, now

D = Decimal
Books = dict[str, D]
FULL = Asked(is_full=True)


def worth(town: Town, rate: str, currency: str = "usd") -> None:
    """From now on one of `currency` is worth so much EUR."""
    town.sandbox.set(settlement_currency="eur", exchange_rates={currency: rate})


def books(town: Town, name: str) -> Books:
    return do.balances(town).get(name, {})


def euros(town: Town) -> Books:
    return books(town, "house EUR")


def rows(town: Town) -> list[tuple[D, D, D, D | None]]:
    """What was exchanged: amount, what it became, what was kept of it, at which rate; by amount."""
    with Session(town.engine) as session:
        query = select(Exchange).order_by(Exchange.amount)
        return [(one.amount, one.settled, one.fee, one.rate) for one in session.scalars(query)]


def reconciled(town: Town) -> list[str]:
    """What a full reconciliation repairs; it must leave nothing for a person."""
    report = town.gateway.reconcile(now=now(), asked=FULL)
    assert report.unexplained == [], report.unexplained
    do.check(town)
    return [one.kind for one in report.repaired]


def dispute(town: Town, invoice: Invoice, amount: int | None = None) -> str:
    more = {} if amount is None else {"amount": amount}
    found: dict[str, Any] = town.sandbox.post("disputes", charge=do.charge_of(town, invoice), **more)
    return str(found["id"])


def paid_out(town: Town) -> dict[str, Any]:
    """Everything that is available in EUR, paid out, arrived and reconciled at Stripe."""
    town.sandbox.advance(3 * 86400)
    payout: dict[str, Any] = town.sandbox.post("payouts", currency="eur")
    return payout
