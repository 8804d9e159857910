"""What the panel shows of prices: each item's price for this customer, as the panel's role may read it."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.panel import format as formats
from invoicing.customers import CustomerView
from invoicing.plans.catalogue import PlanTerms, list_plans
from invoicing.prices.book import OWN, PUBLIC, Tariff, load_terms
from invoicing.prices.models import PriceTerms
from invoicing.prices.tables import CustomerPriceList, DiscountRow, RegionZone
from invoicing.prices.words import price_words
from invoicing.tables import Item, Price
from ledger.money import EXACT, plain

HOURS_OF_30_DAYS = Decimal(720)


@dataclass(frozen=True, slots=True)
class ShownPrice:
    """An item's price in one region (None for everywhere), in words; `agreed` where it is this customer's alone."""

    item: str
    name: str
    region: str | None
    words: list[str]
    longer: str | None
    """Of a price by the second: the same by the hour and for 30 days."""
    agreed: bool
    following: datetime | None
    """From when on another price holds, if that is known."""


@dataclass(frozen=True, slots=True)
class ShownDiscount:
    """`name` is the item's, None for everything."""

    name: str | None
    percent: str
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class PricePage:
    prices: list[ShownPrice]
    discounts: list[ShownDiscount]
    zones: dict[str, list[str]]
    """Zone and its regions, of those that prices name."""
    plans: list[PlanTerms]
    """What can be taken now, beside paying for usage alone."""


def price_page(session: Session, customer: CustomerView, *, now: datetime) -> PricePage:
    """The prices that hold now for this customer, by item and region, and the discounts on them.

    The session is the panel's: the database leaves out what belongs to other customers.
    """
    terms = [
        replace(found, customer_id=customer.customer_id) if found.price_list == OWN else found
        for found in load_terms(session, Price.currency == customer.currency)
    ]
    agreed = session.execute(select(CustomerPriceList.price_list, CustomerPriceList.valid_from))
    zone_of = dict(session.execute(select(RegionZone.region, RegionZone.zone)).all())
    tariff = Tariff(
        customers={customer.customer_id: customer.currency},
        prices=terms,
        agreements=[(customer.customer_id, row.price_list, row.valid_from) for row in agreed],
        zones=zone_of,
    )
    items = {item.code: item for item in session.execute(select(Item.code, Item.name, Item.unit))}
    regions = {found.region for found in terms if found.region is not None}
    prices: list[ShownPrice] = []
    for code, region in sorted({(found.item, found.region) for found in terms}, key=lambda key: (key[0], key[1] or "")):
        found = tariff.version_at(customer.customer_id, item=code, region=region, at=now)
        if found is None or found.region != region:
            continue
        prices.append(
            ShownPrice(
                item=code,
                name=items[code].name,
                region=region,
                words=price_words(found, items[code].unit),
                longer=_longer(found, items[code].unit),
                agreed=found.price_list != PUBLIC,
                following=_following(found, terms),
            )
        )
    discounts = session.execute(
        select(DiscountRow.item, DiscountRow.percent, DiscountRow.until)
        .where(DiscountRow.valid_from <= now)
        .order_by(DiscountRow.item.nulls_first())
    )
    return PricePage(
        prices=prices,
        discounts=[
            ShownDiscount(items[row.item].name if row.item is not None else None, plain(row.percent), row.until)
            for row in discounts
            if row.until is None or now < row.until
        ],
        zones={
            zone: sorted(region for region, lies_in in zone_of.items() if lies_in == zone)
            for zone in sorted(set(zone_of.values()) & regions)
        },
        plans=_plans(session, customer.currency, now=now),
    )


def _plans(session: Session, currency: str, *, now: datetime) -> list[PlanTerms]:
    """The newest version of each plan in this currency that holds by now, the cheapest first."""
    newest = {
        (terms.plan, terms.interval): terms
        for terms in list_plans(session)  # in the order of time
        if terms.currency == currency and terms.valid_from <= now
    }
    return sorted(newest.values(), key=lambda terms: (terms.interval, terms.fee, terms.name))


def _longer(terms: PriceTerms, unit: str) -> str | None:
    if terms.model != "per_unit" or unit.lower() not in formats.SECONDS:
        return None
    hour = EXACT.multiply(terms.unit_amount, formats.SECONDS_PER_HOUR)
    month = EXACT.multiply(hour, HOURS_OF_30_DAYS)
    return f"{formats.unit_price(hour, terms.currency)} per hour, {formats.money(month, terms.currency)} for 30 days"


def _following(terms: PriceTerms, every: list[PriceTerms]) -> datetime | None:
    later = (
        other.valid_from
        for other in every
        if (other.item, other.region, other.price_list) == (terms.item, terms.region, terms.price_list)
        and other.valid_from > terms.valid_from
    )
    return min((end for end in (terms.until, *later) if end is not None), default=None)
