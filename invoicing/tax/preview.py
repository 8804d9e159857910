"""Tax before there is an invoice: what would be due if a period so far were billed as it stands."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.plans.tables import PlanVersion
from invoicing.statements import ItemRow, PeriodStatement
from invoicing.tables import Price
from invoicing.tax.engine import LAST_INSTANT, TAX_TABLE, Assessment, TaxableLine, TaxEngine


def tax_so_far(session: Session, statement: PeriodStatement, *, taxes: TaxEngine = TAX_TABLE) -> Assessment:
    """The taxes on this period so far, by what is valid in its last instant; rounded as on an invoice. Writes nothing.

    Tax is inside of what is sold at a price, or by a plan, that includes it; a discount follows the prices of its item,
    as on a draft (`invoicing.cycles`).

    Raises:
        TooManyTaxes.
    """
    inclusive = _inclusive(session, statement.items)
    lines = [
        TaxableLine(
            line_id=uuid5(statement.customer_id, str(number)), item=row.item, amount=row.amount, inclusive=is_inside
        )
        for number, (row, is_inside) in enumerate(zip(statement.items, inclusive, strict=True))
    ]
    return taxes.assess(
        session,
        customer_id=statement.customer_id,
        currency=statement.currency,
        at=statement.end - LAST_INSTANT,
        lines=lines,
    )


def _inclusive(session: Session, items: Sequence[ItemRow]) -> list[bool]:
    """For each of these rows whether its tax is inside of it."""
    wanted = {row.price_id for row in items if row.price_id is not None}
    rows = session.execute(select(Price.id, Price.tax_inclusive).where(Price.id.in_(wanted))).all() if wanted else ()
    prices: dict[UUID, bool] = {row.id: row.tax_inclusive for row in rows}
    plans = select(PlanVersion.id, PlanVersion.tax_inclusive).where(PlanVersion.id.in_(wanted - prices.keys()))
    if wanted - prices.keys():
        prices |= {row.id: row.tax_inclusive for row in session.execute(plans)}
    of_items: dict[tuple[str | None, datetime], bool] = {}
    for row in items:
        if row.price_id in prices:
            key = (row.item, row.usage_period_start)
            of_items[key] = of_items.get(key, True) and prices[row.price_id]
    return [
        row.price_id is not None and prices.get(row.price_id, of_items.get((row.item, row.usage_period_start), False))
        for row in items
    ]
