"""A set of new prices, before anybody published it: what it consists of, what is wrong with it, how it is kept."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from invoicing.prices.book import OWN, PUBLIC, instant, terms_from
from invoicing.prices.catalogue import UNIT_AMOUNT_DECIMALS, UNIT_AMOUNT_LIMIT, ItemDetails, item_problems, price_id
from invoicing.prices.models import MODELS, TIERED, PriceTerms
from ledger.entries import QUANTITY_DECIMALS, QUANTITY_LIMIT, instant_problem, number_problem
from ledger.money import MINOR_UNITS, plain

Problem = tuple[str, str, str]
"""Place, stable code, and a sentence that names the cure."""

MAX_TIERS = 100
MAX_REGION = 100  # characters
Scope = tuple[str, UUID | None, str, str | None, str]
"""Price list, customer, item, region, currency: within it, versions follow one another in time."""


@dataclass(frozen=True, slots=True)
class PriceContent:
    """New prices with the items, lists and zones that they need. `places` say where each price was written."""

    items: tuple[ItemDetails, ...] = ()
    prices: tuple[PriceTerms, ...] = ()
    lists: Mapping[str, str] = field(default_factory=dict)
    """Code and name of each price list."""
    zones: Mapping[str, str] = field(default_factory=dict)
    """Region and the zone in which it lies."""
    places: Mapping[UUID, str] = field(default_factory=dict)

    def place_of(self, terms: PriceTerms) -> str:
        """Where a price was written, or what it is the price of."""
        return self.places.get(terms.id) or name_of(terms)


def scope_of(terms: PriceTerms) -> Scope:
    """Of what this is a version."""
    return terms.price_list, terms.customer_id, terms.item, terms.region, terms.currency


def name_of(terms: PriceTerms) -> str:
    """A price as people call it: volume in USD, region fra, from 2025-07-01."""
    region = f", region {terms.region}" if terms.region is not None else ""
    listed = "" if terms.price_list == "public" else f", {terms.price_list} price"
    return f"{terms.item} in {terms.currency}{region}{listed}, from {terms.valid_from.isoformat()}"


def flat_price(item: str, currency: str, unit_amount: Decimal, valid_from: datetime) -> PriceTerms:
    """A public price per unit and nothing else."""
    return PriceTerms(
        id=price_id(item=item, currency=currency, valid_from=valid_from),
        item=item,
        currency=currency,
        region=None,
        price_list=PUBLIC,
        model="per_unit",
        unit_amount=unit_amount,
        package_size=None,
        tiers=(),
        included=Decimal(0),
        included_item=None,
        included_per_unit=Decimal(0),
        minimum=None,
        maximum=None,
        valid_from=valid_from,
        valid_until=None,
    )


def content_problems(content: PriceContent) -> list[Problem]:
    """Everything that is wrong with new prices by themselves, whatever the book has already."""
    found: list[Problem] = []
    for details in content.items:
        found += [(f"item {details.code!r}, {name}", code, text) for name, code, text in item_problems(details)]
    seen: dict[UUID, PriceTerms] = {}
    for terms in content.prices:
        place = content.place_of(terms)
        found += [(f"{place}: {name}", code, text) for name, code, text in terms_problems(terms)]
        if terms.id in seen:
            message = "The same item, list, region, currency and start stand here twice: keep one of them."
            found.append((place, "duplicate_price", message))
        seen[terms.id] = terms
    priced = {terms.item for terms in content.prices}
    for details in content.items:
        if details.code not in priced:
            message = "This item has no price. Give it one, or leave it out."
            found.append((f"item {details.code!r}", "item_without_price", message))
    zones = set(content.zones.values())
    found += [
        (f"zones: {region}", "bad_zone", f"{region!r} is a region and a zone: call one of them otherwise.")
        for region in sorted(zones & set(content.zones))
    ]
    return found


def terms_problems(terms: PriceTerms) -> list[Problem]:
    """What is wrong with one price by itself: field, code, sentence."""
    found: list[Problem] = []
    if terms.currency not in MINOR_UNITS:
        message = f"{terms.currency!r} is not a currency that we bill in. Use an ISO 4217 code such as USD."
        found.append(("currency", "unknown_currency", message))
    if terms.model not in MODELS:
        found.append(("model", "bad_model", f"{terms.model!r} is no model. Use one of: {', '.join(MODELS)}."))
    for name, time in (("valid_from", terms.valid_from), ("valid_until", terms.valid_until)):
        problem = None if time is None else instant_problem(time)
        if problem:
            found.append((name, *problem))
    if terms.valid_until is not None and not found and terms.valid_until <= terms.valid_from:
        found.append(("valid_until", "ends_before_it_begins", "A price ends after it begins: give a later end."))
    if terms.region is not None and (not 0 < len(terms.region) <= MAX_REGION or not terms.region.isprintable()):
        found.append(("region", "bad_region", f"A region is named by 1 to {MAX_REGION} printable characters."))
    if (terms.price_list == OWN) != (terms.customer_id is not None):
        message = "A customer's own price stands on the list 'own' and names the customer; no other price does."
        found.append(("price_list", "bad_price_list", message))
    found += _amount_problems(terms)
    found += _tier_problems(terms)
    found += _allowance_problems(terms)
    return found


def _amount_problems(terms: PriceTerms) -> list[Problem]:
    found: list[Problem] = []
    amounts = {"unit_amount": terms.unit_amount, "minimum": terms.minimum, "maximum": terms.maximum}
    for name, amount in amounts.items():
        problem = None if amount is None else _price_problem(amount)
        if problem:
            found.append((name, *problem))
    if not found and terms.minimum is not None and terms.maximum is not None and terms.minimum > terms.maximum:
        message = (
            f"The minimum {plain(terms.minimum)} is above the maximum {plain(terms.maximum)}: swap or change them."
        )
        found.append(("minimum", "minimum_above_maximum", message))
    if (terms.model == "package") != (terms.package_size is not None):
        message = "A package says how many units it holds (package_size), and only a package does."
        found.append(("package_size", "bad_package", message))
    elif terms.package_size is not None:
        problem = number_problem(terms.package_size, limit=QUANTITY_LIMIT, decimals=QUANTITY_DECIMALS)
        if problem or not terms.package_size:
            found.append(("package_size", *(problem or ("zero", "A package holds more than 0 units."))))
    return found


def _tier_problems(terms: PriceTerms) -> list[Problem]:
    if terms.model not in TIERED:
        return (
            [("tiers", "tiers_not_used", f"A {terms.model} price has no tiers: take them out.")] if terms.tiers else []
        )
    if not terms.tiers:
        return [("tiers", "no_tiers", f"A {terms.model} price needs tiers, the first one from 0 on.")]
    found: list[Problem] = []
    if terms.unit_amount:
        message = f"A {terms.model} price has its amounts in the tiers: take unit_amount out."
        found.append(("unit_amount", "amount_beside_tiers", message))
    if len(terms.tiers) > MAX_TIERS:
        found.append(("tiers", "too_many_tiers", f"At most {MAX_TIERS} tiers."))
    before: Decimal | None = None
    for number, tier in enumerate(terms.tiers, 1):
        place = f"tier {number}"
        numbers = number_problem(tier.first, limit=QUANTITY_LIMIT, decimals=QUANTITY_DECIMALS)
        if numbers:
            found.append((f"{place}, first", *numbers))
            continue
        if before is None and tier.first:
            message = f"The first tier starts at {plain(tier.first)}: it starts at 0. Add one that does."
            found.append((f"{place}, first", "tiers_start_above_zero", message))
        if before is not None and tier.first <= before:
            message = f"It starts at {plain(tier.first)}, the one before it at {plain(before)}: tiers rise. Sort them."
            found.append((f"{place}, first", "tiers_do_not_rise", message))
        before = tier.first
        for name, amount in (("unit_amount", tier.unit_amount), ("flat_amount", tier.flat_amount)):
            problem = _price_problem(amount)
            if problem:
                found.append((f"{place}, {name}", *problem))
    return found


def _allowance_problems(terms: PriceTerms) -> list[Problem]:
    found: list[Problem] = []
    for name, quantity in (("included", terms.included), ("included_per_unit", terms.included_per_unit)):
        problem = number_problem(quantity, limit=QUANTITY_LIMIT, decimals=QUANTITY_DECIMALS)
        if problem:
            found.append((name, *problem))
    if not found and (terms.included_item is None) != (not terms.included_per_unit):
        message = "Give both included_item and included_per_unit (above 0), or neither."
        found.append(("included_item", "bad_allowance", message))
    if terms.included_item == terms.item:
        message = "The allowance depends on the item itself: name another item, or use tiers."
        found.append(("included_item", "allowance_in_a_circle", message))
    return found


def _price_problem(amount: Decimal) -> tuple[str, str] | None:
    return number_problem(amount, limit=UNIT_AMOUNT_LIMIT, decimals=UNIT_AMOUNT_DECIMALS)


def version_problems(versions: Iterable[PriceTerms]) -> list[tuple[PriceTerms, PriceTerms, str, str]]:
    """Gaps and overlaps between the versions of each scope: the earlier one, the later one, code and sentence.

    A version without an end holds until the next one begins; one with an end is followed exactly then, or never.
    """
    by_scope: dict[Scope, list[PriceTerms]] = {}
    for terms in versions:
        by_scope.setdefault(scope_of(terms), []).append(terms)
    found: list[tuple[PriceTerms, PriceTerms, str, str]] = []
    for scoped in by_scope.values():
        scoped.sort(key=lambda terms: terms.valid_from)
        for earlier, later in itertools.pairwise(scoped):
            end = earlier.valid_until
            if end is None or end == later.valid_from:
                continue
            gap = end < later.valid_from
            message = (
                f"The version from {earlier.valid_from.isoformat()} ends at {end.isoformat()}, and the next one begins "
                f"at {later.valid_from.isoformat()}: {'nobody knows the price between' if gap else 'two prices hold'}. "
                f"Begin it at {end.isoformat()}" + (", or publish a version for the time between." if gap else ".")
            )
            found.append((earlier, later, "gap_between_versions" if gap else "versions_overlap", message))
    return found


def circle_problem(terms: PriceTerms, book: Iterable[PriceTerms]) -> str | None:
    """Why the allowance of a price would depend on itself, if it does: through the other prices of its currency."""
    if terms.included_item is None:
        return None
    leads_to: dict[str, set[str]] = {}
    for other in book:
        if other.included_item is not None and other.currency == terms.currency:
            leads_to.setdefault(other.item, set()).add(other.included_item)
    path: dict[str, list[str]] = {terms.included_item: [terms.item, terms.included_item]}
    due = [terms.included_item]
    while due:
        item = due.pop()
        if item == terms.item:
            words = " → ".join(path[item])
            return f"Its allowance would depend on itself: {words}. Let one of them depend on nothing."
        for following in sorted(leads_to.get(item, ())):
            if following not in path:
                path[following] = [*path[item], following]
                due.append(following)
    return None


def terms_to_json(terms: PriceTerms) -> dict[str, Any]:
    """A price as `terms_from` reads it: numbers as texts, so that no digit is lost."""

    def spell(value: Decimal | None) -> str | None:
        return None if value is None else plain(value)

    return {
        "id": str(terms.id),
        "item": terms.item,
        "currency": terms.currency,
        "region": terms.region,
        "price_list": terms.price_list,
        "customer_id": None if terms.customer_id is None else str(terms.customer_id),
        "model": terms.model,
        "unit_amount": spell(terms.unit_amount),
        "package_size": spell(terms.package_size),
        "tiers": [[plain(tier.first), plain(tier.unit_amount), plain(tier.flat_amount)] for tier in terms.tiers],
        "included": spell(terms.included),
        "included_item": terms.included_item,
        "included_per_unit": spell(terms.included_per_unit),
        "minimum": spell(terms.minimum),
        "maximum": spell(terms.maximum),
        "valid_from": _spell_time(terms.valid_from),
        "valid_until": None if terms.valid_until is None else _spell_time(terms.valid_until),
        "tax_inclusive": terms.tax_inclusive,
    }


def content_to_json(content: PriceContent) -> dict[str, Any]:
    """The content as a change keeps it, always spelled the same way. Places belong to a file and are not kept."""
    return {
        "items": [{"code": item.code, "name": item.name, "unit": item.unit} for item in content.items],
        "prices": [terms_to_json(terms) for terms in sorted(content.prices, key=_order)],
        "lists": dict(sorted(content.lists.items())),
        "zones": dict(sorted(content.zones.items())),
    }


def content_from_json(kept: Mapping[str, Any]) -> PriceContent:
    """What `content_to_json` spelled."""
    return PriceContent(
        items=tuple(ItemDetails(item["code"], item["name"], item["unit"]) for item in kept["items"]),
        prices=tuple(terms_from(price) for price in kept["prices"]),
        lists=dict(kept["lists"]),
        zones=dict(kept["zones"]),
    )


def canonical(content: PriceContent) -> str:
    """One text for one content, from which its id is derived."""
    return json.dumps(content_to_json(content), sort_keys=True, separators=(",", ":"))


def without(content: PriceContent, known: Sequence[UUID]) -> PriceContent:
    """The content without these prices, and without the items that only they have."""
    left = tuple(terms for terms in content.prices if terms.id not in set(known))
    items = {terms.item for terms in left}
    return PriceContent(
        items=tuple(item for item in content.items if item.code in items),
        prices=left,
        lists={code: name for code, name in content.lists.items() if any(code == t.price_list for t in left)},
        zones=content.zones,
        places=content.places,
    )


def _order(terms: PriceTerms) -> tuple[str, str, str, str, datetime]:
    return terms.item, terms.price_list, terms.currency, terms.region or "", terms.valid_from


def _spell_time(time: datetime) -> str:
    return instant(time.isoformat()).isoformat()
