"""What was exchanged in all: how much came in and went back between two currencies, and what other rates cost."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import case, func, or_, select, true
from sqlalchemy.orm import Session, aliased

from invoicing.movements.tables import Exchange
from ledger.money import EXACT, minor_units

CAME_IN, WENT_BACK = "came in", "went back"
OF_PAYMENTS = "charge"
"""The category of the movement that is a payment itself: its rate is what all others of the payment are held against.

Source: https://docs.stripe.com/reports/reporting-categories
"""


@dataclass(frozen=True, slots=True)
class ExchangeTotal:
    """All movements one way between two currencies; what went back is below 0. In major units.

    `amount` is in `currency`, the customers'; `settled`, `kept` and `difference` are in `settled_currency`, and
    `settled` is before what the provider `kept`. `difference` is what was gained (below 0: lost) because a movement had
    another rate than its payment, in whole minor units; None where the payment itself was not exchanged (yet).
    """

    currency: str
    settled_currency: str
    way: str
    movements: int
    amount: Decimal
    settled: Decimal
    kept: Decimal
    difference: Decimal | None


def exchange_totals(
    session: Session,
    *,
    customer_id: UUID | None = None,
    currency: str | None = None,
    before: datetime | None = None,
    known_at: datetime | None = None,
) -> list[ExchangeTotal]:
    """By the two currencies, then what came in and what went back. None leaves a side open.

    `currency` is either of the two; `before` (exclusive) is by the provider's time of the movement, `known_at`
    (inclusive) by ours. The sum of `amount` stands on income:exchange of `currency` as what was given, the sum of
    `settled` on that of `settled_currency` as what came for it.
    """
    within = [
        true() if known_at is None else Exchange.recorded_at <= known_at,
        true() if before is None else Exchange.exchanged_at < before,
        true() if customer_id is None else Exchange.customer_id == customer_id,
        true() if currency is None else or_(Exchange.currency == currency, Exchange.settled_currency == currency),
    ]
    paid = aliased(Exchange)
    payments = (
        select(
            paid.customer_id,
            paid.provider,
            paid.payment_external_id,
            paid.settled_currency,
            func.sum(paid.amount).label("amount"),
            func.sum(paid.settled).label("settled"),
        )
        .where(paid.category == OF_PAYMENTS)
        .group_by(paid.customer_id, paid.provider, paid.payment_external_id, paid.settled_currency)
        .cte("payments")
    )
    direction = case((Exchange.amount < 0, WENT_BACK), else_=CAME_IN)
    at_its_rate = Exchange.amount * payments.c.settled / func.nullif(payments.c.amount, 0)
    rows = session.execute(
        select(
            Exchange.currency,
            Exchange.settled_currency,
            direction.label("way"),
            func.count(),
            func.sum(Exchange.amount),
            func.sum(Exchange.settled),
            func.sum(Exchange.fee),
            func.sum(Exchange.settled - at_its_rate),
        )
        .outerjoin(
            payments,
            (payments.c.customer_id == Exchange.customer_id)
            & (payments.c.provider == Exchange.provider)
            & (payments.c.payment_external_id == Exchange.payment_external_id)
            & (payments.c.settled_currency == Exchange.settled_currency),
        )
        .where(*within)
        .group_by(Exchange.currency, Exchange.settled_currency, direction)
        .order_by(Exchange.currency, Exchange.settled_currency, direction)
    )
    found = []
    for currency, settled_currency, way, movements, amount, settled, kept, difference in rows:
        whole = _whole(difference, settled_currency)
        found.append(ExchangeTotal(currency, settled_currency, way, movements, amount, settled, kept, whole))
    return found


def _whole(difference: Decimal | None, currency: str) -> Decimal | None:
    if difference is None:
        return None
    return difference.quantize(Decimal(1).scaleb(-minor_units(currency)), context=EXACT)
