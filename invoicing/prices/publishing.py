"""New prices meet the book: what they conflict with, and how they are written. Whoever calls holds the book."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.prices.book import OWN, PUBLIC, load_terms
from invoicing.prices.catalogue import PriceRefused, ensure_items
from invoicing.prices.content import (
    PriceContent,
    Problem,
    circle_problem,
    content_problems,
    name_of,
    version_problems,
    without,
)
from invoicing.prices.models import PriceTerms
from invoicing.prices.tables import CustomerPriceList, PriceList, PriceTier, RegionZone
from invoicing.tables import Customer, Item, Price
from ledger.money import EXACT
from ledger.tables import Books

TICK = timedelta(microseconds=1)
ROWS = 1000
"""How many prices one statement publishes: Postgres takes 65,535 parameters, and a price has some twenty."""
LONGEST_SKEW = timedelta(minutes=5)
"""How far ahead of our clock usage may be dated: a price that begins later than that meets none."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """New prices by what the book has: known already, first of their item and currency, or changing what holds.

    `zones` are the regions whose zone is new.
    """

    known: tuple[UUID, ...]
    first: PriceContent
    changing: PriceContent
    zones: tuple[str, ...]


def sort_out(session: Session, content: PriceContent, *, now: datetime) -> Sorted:
    """Check new prices against the book and sort them; nothing is written. The caller holds the book.

    Raises:
        PriceRefused: some are not acceptable; all reasons are named, with the place of each.
    """
    problems = content_problems(content)
    if problems:
        raise PriceRefused(problems)
    book = load_terms(session, Price.item.in_(sorted({terms.item for terms in content.prices})), whose=True)
    by_id = {terms.id: terms for terms in book}
    known = tuple(terms.id for terms in content.prices if by_id.get(terms.id) == terms)
    new = without(content, known)
    problems = _conflicts(session, new, book, now=now)
    if problems:
        raise PriceRefused(problems)
    priced = {(terms.item, terms.currency) for terms in book}
    changing = [terms.id for terms in new.prices if (terms.item, terms.currency) in priced]
    first = [terms.id for terms in new.prices if terms.id not in changing]
    zoned = set(session.scalars(select(RegionZone.region)))
    return Sorted(known, without(new, changing), without(new, first), tuple(sorted(set(content.zones) - zoned)))


def write_content(
    session: Session, content: PriceContent, *, actor: str, now: datetime, change_id: UUID | None = None
) -> None:
    """Publish what `sort_out` found acceptable. What is there already stays. The caller holds the book and commits."""
    who: dict[str, Any] = {"created_at": now, "created_by": actor}
    for code, name in sorted(content.lists.items()):
        session.execute(insert(PriceList).values(code=code, name=name, **who).on_conflict_do_nothing())
    for region, zone in sorted(content.zones.items()):
        session.execute(insert(RegionZone).values(region=region, zone=zone, **who).on_conflict_do_nothing())
    ensure_items(session, content.items, now=now)
    tiers = [
        {
            "price_id": terms.id,
            "position": position,
            "first": tier.first,
            "unit_amount": tier.unit_amount,
            "flat_amount": tier.flat_amount,
        }
        for terms in content.prices
        for position, tier in enumerate(terms.tiers, 1)
    ]
    if tiers:
        session.execute(insert(PriceTier), tiers)
    # In order of time: the guard of each looks at the versions before it, those of its own statement as well. Many in a
    # statement: Postgres asks once for all of them whether they would rate anything again.
    ordered = sorted(content.prices, key=lambda terms: terms.valid_from)
    for first in range(0, len(ordered), ROWS):
        rows = [_row(terms, change_id) | who for terms in ordered[first : first + ROWS]]
        session.execute(insert(Price).values(rows))


def rated_until(session: Session, terms: PriceTerms, zones: Mapping[str, str] | None = None) -> datetime | None:
    """The last usage that a price would have to rate and that is rated already by one it replaces; None if none is.

    Replaced are the prices of the same scope and of every wider one: a customer's own price goes before the list that
    was agreed, which goes before the public one, and within each a region before its zone before no region. `zones`
    are those that come with the price.
    """
    every = _known_zones(session) | dict(zones or {})
    regions = None
    if terms.region is not None:
        regions = [terms.region, *(region for region, zone in every.items() if zone == terms.region)]
    replaced = [other.id for other in _replaced_by(session, terms, every)]
    if not replaced:
        return None
    end = terms.valid_until or session.scalar(
        select(Price.valid_from)
        .where(
            Price.item == terms.item,
            Price.currency == terms.currency,
            Price.price_list == terms.price_list,
            Price.customer_id.is_not_distinct_from(terms.customer_id),
            Price.region.is_not_distinct_from(terms.region),
            Price.valid_from > terms.valid_from,
        )
        .order_by(Price.valid_from)
        .limit(1)
    )
    found: datetime | None = session.scalar(
        _LAST_RATED,
        {
            "replaced": replaced,
            "item": terms.item,
            "day": (terms.valid_from - timedelta(days=1)).date(),
            "begins": terms.valid_from,
            "ends": end,
            "regions": regions,
            "customers": _customers_of(session, terms),
        },
    )
    return found


# The totals say which customers and periods to look at: entries have no index by price.
_LAST_RATED = text("""
    SELECT max(e.effective_at)
      FROM (SELECT DISTINCT t.customer_id, t.period_start FROM ledger_totals t
             WHERE t.price_id = ANY(:replaced) AND t.item = :item AND t.day >= :day
               AND (CAST(:customers AS uuid[]) IS NULL OR t.customer_id = ANY(CAST(:customers AS uuid[])))) t
      JOIN ledger_entries e USING (customer_id, period_start)
     WHERE e.item = :item AND e.price_id = ANY(:replaced) AND e.effective_at >= :begins
       AND (CAST(:ends AS timestamptz) IS NULL OR e.effective_at < :ends)
       AND (CAST(:regions AS text[]) IS NULL OR e.labels ->> 'region' = ANY(CAST(:regions AS text[])))
""").bindparams(bindparam("replaced", type_=ARRAY(Uuid)), bindparam("customers", type_=ARRAY(Uuid)))


# Whether a region has usage of something that a published price of the zone would have rated.
_RATED_IN_REGION = text("""
    SELECT EXISTS (SELECT FROM ledger_totals t
                     JOIN prices p ON p.item = t.item AND p.region = :zone AND p.valid_from < now()
                    WHERE t.region = :region AND t.price_id IS NOT NULL)
""")


def _known_zones(session: Session) -> dict[str, str]:
    return dict(session.execute(select(RegionZone.region, RegionZone.zone)).all())


def _replaced_by(session: Session, terms: PriceTerms, zones: Mapping[str, str]) -> list[PriceTerms]:
    book = load_terms(session, Price.item == terms.item, Price.currency == terms.currency, whose=True)

    def regions_meet(other: PriceTerms) -> bool:
        """Whether some usage could be rated by either of the two, by region alone."""
        if terms.region is None or other.region is None or terms.region == other.region:
            return True
        return zones.get(terms.region) == other.region or zones.get(other.region) == terms.region

    def is_wider(other: PriceTerms) -> bool:
        layer, of_other = _layer(terms), _layer(other)
        if layer != of_other:
            return layer < of_other
        if (terms.price_list, terms.customer_id) != (other.price_list, other.customer_id):
            return False
        return other.region in (terms.region, None, zones.get(terms.region or ""))

    return [other for other in book if other.id != terms.id and is_wider(other) and regions_meet(other)]


def _layer(terms: PriceTerms) -> int:
    return 0 if terms.price_list == OWN else 2 if terms.price_list == PUBLIC else 1


def _customers_of(session: Session, terms: PriceTerms) -> list[UUID] | None:
    """Whom a price can meet, None for everybody."""
    if terms.price_list == PUBLIC:
        return None
    if terms.customer_id is not None:
        return [terms.customer_id]
    agreed = select(CustomerPriceList.customer_id).where(CustomerPriceList.price_list == terms.price_list)
    return list(session.scalars(agreed))


def _conflicts(session: Session, new: PriceContent, book: Sequence[PriceTerms], *, now: datetime) -> list[Problem]:
    """Everything in which new prices do not fit what is published."""
    by_id = {terms.id: terms for terms in book}
    found: list[Problem] = []
    fresh: list[PriceTerms] = []
    for terms in new.prices:
        if terms.id not in by_id:
            fresh.append(terms)
            continue
        message = (
            f"There is another price of {name_of(terms)}. A published price never changes: give this one a later start."
        )
        found.append((new.place_of(terms), "price_conflict", message))
    mine = {terms.id for terms in fresh}
    for earlier, later, code, message in version_problems([*book, *fresh]):
        culprit = later if later.id in mine else earlier
        if culprit.id in mine:
            found.append((new.place_of(culprit), code, message))
    found += _unknown_names(session, new)
    found += _customer_problems(session, new)
    found += _zone_problems(session, new)
    everything = [*load_terms(session, Price.included_item.is_not(None)), *fresh]
    for terms in fresh:
        circle = circle_problem(terms, everything)
        if circle is not None:
            found.append((f"{new.place_of(terms)}: included_item", "allowance_in_a_circle", circle))
        if terms.valid_from <= now + LONGEST_SKEW:
            rated = rated_until(session, terms, new.zones)
            if rated is not None:
                message = (
                    f"Usage until {rated.isoformat()} was rated by a price that this one replaces, and is not rated "
                    f"again. Let it begin after that: at {(rated + TICK).isoformat()} or later."
                )
                found.append((f"{new.place_of(terms)}: valid_from", "usage_rated_already", message))
    return found


def _unknown_names(session: Session, new: PriceContent) -> list[Problem]:
    found: list[Problem] = []
    named = {item.code for item in new.items}
    wanted = {terms.item for terms in new.prices} | {t.included_item for t in new.prices if t.included_item is not None}
    known = set(session.scalars(select(Item.code).where(Item.code.in_(sorted(wanted))))) | named
    lists = set(session.scalars(select(PriceList.code))) | set(new.lists)
    for terms in new.prices:
        place = new.place_of(terms)
        if terms.item not in known:
            message = f"There is no item {terms.item!r}. Name it among the items."
            found.append((f"{place}: item", "unknown_item", message))
        if terms.included_item is not None and terms.included_item not in known:
            message = f"There is no item {terms.included_item!r} on which the allowance could depend. Name it first."
            found.append((f"{place}: included_item", "unknown_item", message))
        if terms.price_list not in lists:
            message = f"There is no price list {terms.price_list!r}. Name it among the lists."
            found.append((f"{place}: price_list", "unknown_price_list", message))
    return found


def _customer_problems(session: Session, new: PriceContent) -> list[Problem]:
    own = {terms.customer_id for terms in new.prices if terms.customer_id is not None}
    if not own:
        return []
    rows = select(Customer.customer_id, Books.currency).join(Books, Books.customer_id == Customer.customer_id)
    billed = dict(session.execute(rows.where(Customer.customer_id.in_(own))).all())
    found: list[Problem] = []
    for terms in new.prices:
        if terms.customer_id is None:
            continue
        place = new.place_of(terms)
        if terms.customer_id not in billed:
            found.append(
                (f"{place}: customer", "unknown_customer", "There is no such customer. Create the customer first.")
            )
        elif billed[terms.customer_id] != terms.currency:
            currency = billed[terms.customer_id]
            message = (
                f"The customer is billed in {currency}, not {terms.currency}, for life: give the price in {currency}."
            )
            found.append((f"{place}: currency", "currency_mismatch", message))
    return found


def _zone_problems(session: Session, new: PriceContent) -> list[Problem]:
    known = _known_zones(session)
    found: list[Problem] = []
    for region, zone in sorted(new.zones.items()):
        if known.get(region, zone) != zone:
            message = f"{region} lies in {known[region]}, for life: give the region a price of its own instead."
            found.append((f"zones: {region}", "zone_conflict", message))
    every = known | dict(new.zones)
    found += [
        (f"zones: {name}", "bad_zone", f"{name!r} is a region and a zone: call one of them otherwise.")
        for name in sorted(set(every) & set(every.values()))
    ]
    for region, zone in sorted(new.zones.items()):
        if region not in known and session.scalar(_RATED_IN_REGION, {"region": region, "zone": zone}):
            message = f"Usage in {region} was rated without the prices of {zone}: give the region prices of its own."
            found.append((f"zones: {region}", "usage_rated_already", message))
    if every:
        for terms in new.prices:
            if terms.region is not None and terms.region not in every and terms.region not in every.values():
                message = f"{terms.region!r} is neither a region nor a zone that anybody named. Put it under zones."
                found.append((f"{new.place_of(terms)}: region", "unknown_region", message))
    return found


def scopes_of_customer(customer_id: UUID) -> Any:
    """The condition on `prices` for what one customer may meet: own, agreed and public prices."""
    agreed = select(CustomerPriceList.price_list).where(CustomerPriceList.customer_id == customer_id)
    return or_(Price.price_list == PUBLIC, Price.customer_id == customer_id, Price.price_list.in_(agreed))


def _row(terms: PriceTerms, change_id: UUID | None) -> dict[str, Any]:
    def number(value: Decimal | None) -> Decimal | None:
        return None if value is None else value.normalize(EXACT)

    return {
        "id": terms.id,
        "item": terms.item,
        "currency": terms.currency,
        "region": terms.region,
        "price_list": terms.price_list,
        "customer_id": terms.customer_id,
        "model": terms.model,
        "unit_amount": number(terms.unit_amount),
        "package_size": number(terms.package_size),
        "included": number(terms.included),
        "included_item": terms.included_item,
        "included_per_unit": number(terms.included_per_unit),
        "minimum": number(terms.minimum),
        "maximum": number(terms.maximum),
        "valid_from": terms.valid_from,
        "valid_until": terms.valid_until,
        "tax_inclusive": terms.tax_inclusive,
        "change_id": change_id,
    }
