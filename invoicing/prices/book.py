"""The price book in memory, for one batch: which price holds for a customer, an item, a region and an instant.

The order of preference: the customer's own price, then the list that was agreed with the customer, then the public
list; within each the price of the region, then of the region's zone, then the one without a region.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.orm import Session, undefer

from invoicing.prices.catalogue import NoPrice
from invoicing.prices.models import TIERED, Model, PriceTerms, Tier
from invoicing.prices.tables import PriceEnd, PriceTier
from invoicing.tables import Price
from ledger.arrays import spell_array

PUBLIC = "public"
"""The price list that holds where nothing else was agreed."""
OWN = "own"
"""The price list on which a customer's own prices stand: reserved, since they need the customer's id as well."""


@dataclass(frozen=True, slots=True)
class Discount:
    """`percent` (0 < percent <= 100, at most 2 decimals) off one item, or off every item where `item` is None."""

    id: UUID
    percent: Decimal
    item: str | None
    valid_from: datetime
    valid_until: datetime | None


@dataclass(frozen=True, slots=True)
class _Versions:
    """The versions of one price in order of time."""

    starts: list[datetime]
    terms: list[PriceTerms]

    def at(self, instant: datetime) -> PriceTerms | None:
        place = bisect_right(self.starts, instant)
        if not place:
            return None
        found = self.terms[place - 1]
        until = found.until
        return None if until is not None and instant >= until else found


_Layer = tuple[_Versions, ...]


@dataclass(frozen=True, slots=True)
class _Chain:
    """All that can decide the price of one item in one region for one customer, the nearest first."""

    own: _Layer
    agreed: Sequence[tuple[datetime, _Layer]]
    """From when on which list holds, in order of time; no versions of a list mean the public one alone."""
    public: _Layer
    flat: bool

    def at(self, instant: datetime) -> PriceTerms | None:
        for versions in self.own:
            found = versions.at(instant)
            if found is not None:
                return found
        if self.agreed:
            place = bisect_right(self.agreed, instant, key=lambda agreement: agreement[0])
            for versions in self.agreed[place - 1][1] if place else ():
                found = versions.at(instant)
                if found is not None:
                    return found
        for versions in self.public:
            found = versions.at(instant)
            if found is not None:
                return found
        return None

    def first_after(self, instant: datetime, until: datetime) -> PriceTerms | None:
        """The earliest version that begins after `instant` and not after `until`."""
        layers = [*self.own, *(versions for _, layer in self.agreed for versions in layer), *self.public]
        starts = {start for versions in layers for start in versions.starts} | {start for start, _ in self.agreed}
        for start in sorted(start for start in starts if instant < start <= until):
            found = self.at(start)
            if found is not None:
                return found
        return None

    def first_start(self) -> datetime | None:
        layers = [*self.own, *(versions for _, layer in self.agreed for versions in layer), *self.public]
        return min((versions.starts[0] for versions in layers), default=None)


class Tariff:
    """The prices, agreements and discounts that some customers' usage of some items may meet. Look-ups only.

    Consistent as of one moment; where `load_tariff` was asked to hold the book, nobody publishes a price before the
    transaction ends, so that usage is never rated by a price that was just replaced.
    """

    def __init__(
        self,
        *,
        customers: Mapping[UUID, str],
        prices: Iterable[PriceTerms],
        agreements: Iterable[tuple[UUID, str, datetime]] = (),
        discounts: Iterable[tuple[UUID, Discount]] = (),
        zones: Mapping[str, str] | None = None,
    ) -> None:
        self._customers = dict(customers)
        self._given = (tuple(prices), tuple(agreements), tuple(discounts))
        prices, agreements, discounts = self._given
        self._zones = dict(zones or {})
        self._by_scope: dict[tuple[UUID | str, str, str], dict[str | None, _Versions]] = {}
        self._dependents: dict[tuple[str, str], list[PriceTerms]] = {}
        for terms in sorted(prices, key=lambda terms: terms.valid_from):
            scope: UUID | str = terms.customer_id or terms.price_list
            regions = self._by_scope.setdefault((scope, terms.item, terms.currency), {})
            versions = regions.setdefault(terms.region, _Versions([], []))
            versions.starts.append(terms.valid_from)
            versions.terms.append(terms)
            if terms.included_item is not None:
                self._dependents.setdefault((terms.included_item, terms.currency), []).append(terms)
        self._agreements: dict[UUID, list[tuple[datetime, str]]] = {}
        for customer_id, price_list, valid_from in agreements:
            self._agreements.setdefault(customer_id, []).append((valid_from, price_list))
        for agreed in self._agreements.values():
            agreed.sort()
        self._discounts: dict[UUID, list[Discount]] = {}
        for customer_id, discount in discounts:
            self._discounts.setdefault(customer_id, []).append(discount)
        self._chains: dict[tuple[UUID, str, str | None], _Chain] = {}
        self._aggregating: dict[tuple[UUID, str], bool] = {}

    def version_at(self, customer_id: UUID, *, item: str, region: str | None, at: datetime) -> PriceTerms | None:
        """The price that is in force at `at`, None if there is none."""
        return self._chain(customer_id, item, region).at(at)

    def price_for(
        self,
        customer_id: UUID,
        *,
        item: str,
        region: str | None,
        effective_at: datetime,
        rating_start: Callable[[], datetime] | datetime,
    ) -> PriceTerms:
        """The price of something that was used at `effective_at`, in the rating period that starts at `rating_start`.

        The version at `effective_at`, if that one and the period's first one are flat; else the period's first one,
        since tiers, allowances, minimum and maximum count a whole period. The period's first version is the one that
        is in force at its start, or if there is none, the earliest that begins in it. A function of the event and its
        period alone, whenever the event arrives. `rating_start` is called only where it matters.

        Raises:
            NoPrice: there is none at that time.
        """
        chain = self._chain(customer_id, item, region)
        current = chain.at(effective_at)
        if chain.flat:
            if current is None:
                raise self._no_price(customer_id, item, region, effective_at, chain)
            return current
        start = rating_start() if callable(rating_start) else rating_start
        first = chain.at(start) or chain.first_after(start, effective_at)
        if first is None or (first.flat and current is None):
            raise self._no_price(customer_id, item, region, effective_at, chain)
        if current is not None and current.flat and first.flat:
            return current
        return first

    def may_aggregate(self, customer_id: UUID, item: str) -> bool:
        """Whether more than quantity x price may be needed: False if no price of the item that the customer may ever
        meet counts a whole period, no discount covers it, and no other item's allowance depends on it."""
        known = self._aggregating.get((customer_id, item))
        if known is None:
            known = self._aggregating[customer_id, item] = self._finds_aggregation(customer_id, item)
        return known

    def dependents(self, customer_id: UUID, item: str) -> list[PriceTerms]:
        """All versions that this customer may meet whose allowance grows with the quantity of `item`."""
        found = self._dependents.get((item, self._customers[customer_id]), [])
        if not found:
            return []
        scopes = self._scopes(customer_id)
        return [terms for terms in found if (terms.customer_id or terms.price_list) in scopes]

    def discount_at(self, customer_id: UUID, item: str, at: datetime) -> Discount | None:
        """The discount on an item at an instant: the item's own before the one on everything."""
        everything = None
        for discount in self._discounts.get(customer_id, ()):
            if discount.valid_from <= at and (discount.valid_until is None or at < discount.valid_until):
                if discount.item == item:
                    return discount
                if discount.item is None:
                    everything = discount
        return everything

    def terms(self) -> tuple[PriceTerms, ...]:
        """All versions that were loaded."""
        return self._given[0]

    def without(self, price_ids: Collection[UUID]) -> "Tariff":
        """The same tariff as if these versions had never been published."""
        prices, agreements, discounts = self._given
        left = [terms for terms in prices if terms.id not in price_ids]
        return Tariff(
            customers=self._customers, prices=left, agreements=agreements, discounts=discounts, zones=self._zones
        )

    def zone_of(self, region: str | None) -> str | None:
        """The zone in which a region lies, None if nobody said."""
        return None if region is None else self._zones.get(region)

    def _scopes(self, customer_id: UUID) -> set[UUID | str]:
        return {customer_id, PUBLIC, *(price_list for _, price_list in self._agreements.get(customer_id, ()))}

    def _finds_aggregation(self, customer_id: UUID, item: str) -> bool:
        if any(discount.item in (None, item) for discount in self._discounts.get(customer_id, ())):
            return True
        if self.dependents(customer_id, item):
            return True
        currency = self._customers[customer_id]
        return any(
            not terms.flat
            for scope in self._scopes(customer_id)
            for versions in self._by_scope.get((scope, item, currency), {}).values()
            for terms in versions.terms
        )

    def _chain(self, customer_id: UUID, item: str, region: str | None) -> _Chain:
        chain = self._chains.get((customer_id, item, region))
        if chain is None:
            chain = self._chains[customer_id, item, region] = self._build_chain(customer_id, item, region)
        return chain

    def _build_chain(self, customer_id: UUID, item: str, region: str | None) -> _Chain:
        currency = self._customers[customer_id]
        wanted = dict.fromkeys((region, self.zone_of(region), None))

        def layer(scope: UUID | str) -> _Layer:
            regions = self._by_scope.get((scope, item, currency), {})
            return tuple(regions[name] for name in wanted if name in regions)

        own, public = layer(customer_id), layer(PUBLIC)
        agreed = [
            (start, layer(price_list) if price_list != PUBLIC else ())
            for start, price_list in self._agreements.get(customer_id, ())
        ]
        flat = all(
            terms.flat
            for versions in (*own, *(versions for _, part in agreed for versions in part), *public)
            for terms in versions.terms
        )
        return _Chain(own, agreed, public, flat)

    def _no_price(self, customer_id: UUID, item: str, region: str | None, at: datetime, chain: _Chain) -> NoPrice:
        currency = self._customers[customer_id]
        when = at.isoformat().replace("+00:00", "Z")
        begins = chain.first_start()
        first = "" if begins is None or begins <= at else f" Its first price begins at {begins.isoformat()}."
        where = cure = ""
        if self._has_regions(item, currency):
            where = "" if region is None else f" in region {region!r}"
            cure = " Its prices are by region: send the label 'region' with it." if region is None else ""
        return NoPrice(
            f"Item {item!r} has no price in {currency}{where} at {when}.{first}{cure} Publish one: billing prices set "
            f"{item} --currency {currency} --unit-amount AMOUNT --valid-from {when}, or send the amount with the usage."
        )

    def _has_regions(self, item: str, currency: str) -> bool:
        return any(
            region is not None
            for (_, of_item, in_currency), regions in self._by_scope.items()
            if (of_item, in_currency) == (item, currency)
            for region in regions
        )


# One function and not several queries: it takes the book's lock first and reads after it, each with a view of its own
# of what is committed, in one round trip.
_READ = text("""
    SELECT prices, agreements, discounts, zones
      FROM price_book(CAST(:customers AS uuid[]), CAST(:currencies AS text[]), CAST(:items AS text[]), :hold)
""")


def load_tariff(
    session: Session,
    *,
    customers: Mapping[UUID, str],
    items: Iterable[str],
    hold: bool = True,
    drafted: Iterable[PriceTerms] = (),
    drafted_zones: Mapping[str, str] | None = None,
) -> Tariff:
    """Everything that may decide what these customers (with their currencies) pay for these items, in one query.

    Besides the items' own prices it has those of every item whose allowance depends on one of them. `hold` keeps others
    from publishing prices until the transaction ends: for whoever rates and posts, and nobody else. `drafted` are
    prices that nobody published, as if they were: for whoever compares.
    """
    wanted = sorted(set(items))
    if not wanted or not customers:
        return Tariff(customers=customers, prices=[])
    prices, agreements, discounts, zones = session.execute(
        _READ,
        {
            "customers": spell_array(customers),
            "currencies": sorted(set(customers.values())),
            "items": wanted,
            "hold": hold,
        },
    ).one()
    return Tariff(
        customers=customers,
        prices=[*(terms_from(row) for row in prices), *drafted],
        agreements=[(UUID(row["customer_id"]), row["price_list"], instant(row["valid_from"])) for row in agreements],
        discounts=[(UUID(row["customer_id"]), _discount(row)) for row in discounts],
        zones={**zones, **(drafted_zones or {})},
    )


def terms_by_id(session: Session, price_ids: Iterable[UUID]) -> dict[UUID, PriceTerms]:
    """The versions with these ids, as far as the session may see them: to explain what was charged.

    Reads what the customers' panel may read too, so whose own price it is stays open (`customer_id` is None).
    """
    return {terms.id: terms for terms in load_terms(session, Price.id.in_(sorted(set(price_ids))))}


def load_terms(session: Session, *conditions: ColumnElement[bool], whose: bool = False) -> list[PriceTerms]:
    """The published versions that meet the conditions, by item, currency and time. `whose` names own customers."""
    rows = session.scalars(
        select(Price)
        .where(*conditions)
        .order_by(Price.item, Price.currency, Price.price_list, Price.region.nulls_first(), Price.valid_from, Price.id)
        .options(*([undefer(Price.customer_id)] if whose else []))
    ).all()
    tiered = [row.id for row in rows if row.model in TIERED]
    tiers: dict[UUID, list[Tier]] = {}
    if tiered:
        steps = select(PriceTier).where(PriceTier.price_id.in_(tiered)).order_by(PriceTier.price_id, PriceTier.position)
        for step in session.scalars(steps):
            tiers.setdefault(step.price_id, []).append(Tier(step.first, step.unit_amount, step.flat_amount))
    own = [row.id for row in rows if row.price_list == OWN]
    ends: dict[UUID, datetime] = {}
    if own:
        ends = dict(
            session.execute(select(PriceEnd.price_id, PriceEnd.ends_at).where(PriceEnd.price_id.in_(own))).all()
        )
    return [
        PriceTerms(
            id=row.id,
            item=row.item,
            currency=row.currency,
            region=row.region,
            price_list=row.price_list,
            model=cast(Model, row.model),
            unit_amount=row.unit_amount,
            package_size=row.package_size,
            tiers=tuple(tiers.get(row.id, ())),
            included=row.included,
            included_item=row.included_item,
            included_per_unit=row.included_per_unit,
            minimum=row.minimum,
            maximum=row.maximum,
            valid_from=row.valid_from,
            valid_until=row.valid_until,
            tax_inclusive=row.tax_inclusive,
            customer_id=row.customer_id if whose else None,
            ended_at=ends.get(row.id),
        )
        for row in rows
    ]


def terms_from(row: Mapping[str, Any]) -> PriceTerms:
    """A price as the database spells it in JSON: numbers as texts, so that no digit is lost."""
    return PriceTerms(
        id=UUID(row["id"]),
        item=row["item"],
        currency=row["currency"],
        region=row["region"],
        price_list=row["price_list"],
        model=row["model"],
        unit_amount=Decimal(row["unit_amount"]),
        package_size=_number(row["package_size"]),
        tiers=tuple(
            Tier(Decimal(first), Decimal(unit_amount), Decimal(flat_amount))
            for first, unit_amount, flat_amount in row["tiers"] or ()
        ),
        included=Decimal(row["included"]),
        included_item=row["included_item"],
        included_per_unit=Decimal(row["included_per_unit"]),
        minimum=_number(row["minimum"]),
        maximum=_number(row["maximum"]),
        valid_from=instant(row["valid_from"]),
        valid_until=None if row["valid_until"] is None else instant(row["valid_until"]),
        tax_inclusive=row["tax_inclusive"],
        customer_id=None if row["customer_id"] is None else UUID(row["customer_id"]),
        ended_at=instant(row["ended_at"]) if row.get("ended_at") else None,
    )


def instant(spelled: str) -> datetime:
    """A time as the database spells it in JSON, in UTC."""
    return datetime.fromisoformat(spelled).astimezone(UTC)


def _discount(row: Mapping[str, Any]) -> Discount:
    return Discount(
        id=UUID(row["id"]),
        percent=Decimal(row["percent"]),
        item=row["item"],
        valid_from=instant(row["valid_from"]),
        valid_until=None if row["valid_until"] is None else instant(row["valid_until"]),
    )


def _number(spelled: str | None) -> Decimal | None:
    return None if spelled is None else Decimal(spelled)
