"""Price files: a readable TOML document becomes new prices, with everything that is wrong in it named at once.

    title, source, currency, valid_from     hold for everything below, unless it says otherwise
    [zones]         ZONE = [REGION, ...]
    [[lists]]       code, name: a list to agree on with customers
    [[items]]       code, name, unit, and the entries of its price; several prices stand below it as [[items.prices]]
    a price         currency, valid_from, valid_until, region, price_list or customer (by external id), tax_inclusive,
                    model = "per_unit" (unit_amount), "package" (unit_amount of package_size units),
                    "graduated" or "volume" (tiers = [{ first, unit_amount, flat_amount }, ...], the first from 0 on),
                    included (free units a period), included_item with included_per_unit, minimum, maximum;
                    by_region = { REGION = unit_amount, ... } instead of one region and amount
    [[plans]]       are read by others

Numbers may be TOML numbers or texts: they are read as decimals, to the last digit. A file that is loaded again changes
nothing. lists/fly.toml is one.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from importlib import resources
from typing import Any, cast
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.customers import customer_id_for
from invoicing.prices.book import OWN, PUBLIC
from invoicing.prices.catalogue import ItemDetails, PriceRefused, price_id
from invoicing.prices.changes import load_content
from invoicing.prices.content import PriceContent, Problem, content_problems
from invoicing.prices.models import Model, PriceTerms, Tier

FLY = "fly.toml"
"""Fly.io's public price list, which comes with the program."""

MAX_FILE = 5_000_000  # bytes
_ON_TOP = {"title", "source", "currency", "valid_from", "zones", "lists", "items", "plans"}
_OF_LIST = {"code", "name"}
_OF_ITEM = {"code", "name", "unit", "prices"}
_OF_PRICE = {
    "currency", "region", "by_region", "price_list", "customer", "model", "unit_amount", "package_size", "tiers",
    "included", "included_item", "included_per_unit", "minimum", "maximum", "valid_from", "valid_until",
    "tax_inclusive",
}  # fmt: skip
_OF_TIER = {"first", "unit_amount", "flat_amount"}
ZERO = Decimal(0)


def seed_prices(session: Session, *, actor: str, now: datetime, currency: str | None = None) -> int:
    """Publish Fly.io's list, as far as its items are new; what is there stays. Returns how many prices are new.

    `currency` is for another one than the list's own. The caller commits.
    """
    content = fly_prices()
    if currency is not None:
        content = in_currency(content, currency=currency, rate=Decimal(1))
    return load_content(
        session, content=content, title="Fly.io's public price list", publish=True, actor=actor, now=now
    ).published


def fly_prices() -> PriceContent:
    """What the list says that comes with the program."""
    return read_prices(fly_document())


def fly_document() -> dict[str, Any]:
    """The list that comes with the program, with its plans, as a document."""
    return parse_document(resources.files("invoicing.prices").joinpath("lists", FLY).read_bytes())


def in_currency(content: PriceContent, *, currency: str, rate: Decimal) -> PriceContent:
    """The public prices of a list times `rate`, in another currency; amounts are cut to the decimals that fit."""

    def convert(amount: Decimal | None) -> Decimal | None:
        return None if amount is None else round(amount * rate, 12)

    prices = tuple(
        PriceTerms(
            id=price_id(
                item=terms.item,
                currency=currency,
                valid_from=terms.valid_from,
                price_list=terms.price_list,
                region=terms.region,
            ),
            item=terms.item,
            currency=currency,
            region=terms.region,
            price_list=terms.price_list,
            model=terms.model,
            unit_amount=convert(terms.unit_amount) or ZERO,
            package_size=terms.package_size,
            tiers=tuple(
                Tier(tier.first, convert(tier.unit_amount) or ZERO, convert(tier.flat_amount) or ZERO)
                for tier in terms.tiers
            ),
            included=terms.included,
            included_item=terms.included_item,
            included_per_unit=terms.included_per_unit,
            minimum=convert(terms.minimum),
            maximum=convert(terms.maximum),
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            tax_inclusive=terms.tax_inclusive,
        )
        for terms in content.prices
        if terms.customer_id is None
    )
    return PriceContent(items=content.items, prices=prices, lists=content.lists, zones=content.zones)


def parse_document(raw: bytes) -> dict[str, Any]:
    """The TOML document, its numbers as decimals.

    Raises:
        PriceRefused: it is too large, no UTF-8, or no TOML.
    """
    if len(raw) > MAX_FILE:
        raise PriceRefused([("file", "too_large", f"A price file has at most {MAX_FILE:,} bytes. Split it.")])
    try:
        return tomllib.loads(raw.decode(), parse_float=Decimal)
    except UnicodeDecodeError as error:
        raise PriceRefused([("file", "not_utf8", f"This is no UTF-8: {error}. Save it as UTF-8.")]) from error
    except (tomllib.TOMLDecodeError, InvalidOperation, RecursionError, ValueError) as error:
        raise PriceRefused([("file", "not_toml", f"This is no TOML: {error}. Correct it there.")]) from error


def read_prices(document: Mapping[str, Any]) -> PriceContent:
    """The prices of a document, with items, lists and zones. Plans are left to those who read plans.

    Raises:
        PriceRefused: something is not acceptable; everything is named, with its place.
    """
    return _Reader(document).read()


class _Reader:
    """Reads one document and collects what is wrong with it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._problems: list[Problem] = []

    def read(self) -> PriceContent:
        top = self._document
        self._refuse_unknown("file", top, _ON_TOP)
        items: list[ItemDetails] = []
        prices: list[PriceTerms] = []
        places: dict[UUID, str] = {}
        names: set[str] = set()
        for number, table in self._tables("items", top.get("items", [])):
            details = self._item(f"item {number}", table)
            place = f"item {number} {details.code!r}"
            self._refuse_unknown(place, table, _OF_ITEM | _OF_PRICE)
            if details.code in names:
                message = "This item stands here twice: put its prices together as [[items.prices]]."
                self._problems.append((place, "duplicate_item", message))
            names.add(details.code)
            items.append(details)
            for where, price in self._prices_of(place, table):
                for terms in self._read_price(where, details.code, price):
                    if terms.id in places:
                        message = f"The same list, region, currency and start as {places[terms.id]}: keep one of them."
                        self._problems.append((where, "duplicate_price", message))
                        continue
                    places[terms.id] = where
                    prices.append(terms)
        if not items:
            self._problems.append(("file", "no_items", "There is no [[items]] in this file. Add one with a price."))
        content = PriceContent(tuple(items), tuple(prices), self._lists(), self._zones(), places)
        reported = {place for place, _, _ in self._problems}
        # A price that could not even be read would be reported twice: as unreadable, and as its item's missing one.
        self._problems += [
            problem
            for problem in content_problems(content)
            if problem[1] != "item_without_price" or not any(place.startswith("item ") for place in reported)
        ]
        if self._problems:
            raise PriceRefused(self._problems)
        return content

    def _item(self, place: str, table: Mapping[str, Any]) -> ItemDetails:
        code = self._text(f"{place}: code", table.get("code")) or "?"
        name = self._text(f"{place}: name", table.get("name", code)) or code
        unit = self._text(f"{place}: unit", table.get("unit", "")) or ""
        return ItemDetails(code, name, unit)

    def _prices_of(self, place: str, table: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
        """An item's one price stands on the item itself, several of them below it: what is above holds for all."""
        shared = {key: value for key, value in table.items() if key in _OF_PRICE}
        if "prices" not in table:
            return [(place, shared)] if shared else []
        found = []
        for number, price in self._tables(f"{place}: prices", table["prices"]):
            self._refuse_unknown(f"{place}, price {number}", price, _OF_PRICE)
            found.append((f"{place}, price {number}", {**shared, **price}))
        return found

    def _read_price(self, place: str, item: str, table: Mapping[str, Any]) -> list[PriceTerms]:
        by_region = table.get("by_region")
        if by_region is None:
            terms = self._terms(place, item, table)
            return [] if terms is None else [terms]
        if not isinstance(by_region, Mapping) or "region" in table or "unit_amount" in table:
            message = "by_region is a table of regions and their unit amounts, without region or unit_amount beside it."
            self._problems.append((f"{place}: by_region", "bad_by_region", message))
            return []
        found = (
            self._terms(f"{place}, {region}", item, {**table, "region": region, "unit_amount": amount})
            for region, amount in by_region.items()
        )
        return [terms for terms in found if terms is not None]

    def _terms(self, place: str, item: str, table: Mapping[str, Any]) -> PriceTerms | None:
        before = len(self._problems)
        currency = self._text(f"{place}: currency", table.get("currency", self._document.get("currency")))
        valid_from = self._time(f"{place}: valid_from", table.get("valid_from", self._document.get("valid_from")))
        model = self._text(f"{place}: model", table.get("model", "per_unit"))
        customer = self._text(f"{place}: customer", table["customer"]) if "customer" in table else None
        listed = table.get("price_list", PUBLIC if customer is None else OWN)
        region = self._text(f"{place}: region", table["region"]) if "region" in table else None
        tiers = self._tiers(place, table.get("tiers", []))
        needs_amount = model in ("per_unit", "package")
        amounts = {
            "unit_amount": self._number(place, table, "unit_amount", needed=needs_amount) or ZERO,
            "included": self._number(place, table, "included") or ZERO,
            "included_per_unit": self._number(place, table, "included_per_unit") or ZERO,
        }
        bounds: dict[str, Any] = {
            name: self._number(place, table, name) for name in ("package_size", "minimum", "maximum")
        }
        depends = self._text(f"{place}: included_item", table["included_item"]) if "included_item" in table else None
        price_list = self._text(f"{place}: price_list", listed)
        ends = self._time(f"{place}: valid_until", table["valid_until"]) if "valid_until" in table else None
        inclusive = table.get("tax_inclusive", False)
        if not isinstance(inclusive, bool):
            self._problems.append((f"{place}: tax_inclusive", "not_a_truth_value", "Write true or false."))
        if len(self._problems) > before or currency is None or valid_from is None or price_list is None:
            return None
        customer_id = None if customer is None else customer_id_for(customer)
        return PriceTerms(
            id=price_id(
                item=item,
                currency=currency,
                valid_from=valid_from,
                price_list=price_list,
                customer_id=customer_id,
                region=region,
            ),
            item=item,
            currency=currency,
            region=region,
            price_list=price_list,
            model=cast(Model, model),
            tiers=tiers,
            included_item=depends,
            valid_from=valid_from,
            valid_until=ends,
            tax_inclusive=inclusive,
            customer_id=customer_id,
            ended_at=None,
            **amounts,
            **bounds,
        )

    def _tiers(self, place: str, tables: object) -> tuple[Tier, ...]:
        found: list[Tier] = []
        for number, table in self._tables(f"{place}: tiers", tables):
            where = f"{place}, tier {number}"
            self._refuse_unknown(where, table, _OF_TIER)
            first = self._number(where, table, "first", needed=True)
            unit_amount = self._number(where, table, "unit_amount", needed=True)
            flat_amount = self._number(where, table, "flat_amount") or ZERO
            if first is not None and unit_amount is not None:
                found.append(Tier(first, unit_amount, flat_amount))
        return tuple(found)

    def _lists(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for number, table in self._tables("lists", self._document.get("lists", [])):
            place = f"list {number}"
            self._refuse_unknown(place, table, _OF_LIST)
            code = self._text(f"{place}: code", table.get("code"))
            name = self._text(f"{place}: name", table.get("name", code))
            if code is None or name is None:
                continue
            if code in (PUBLIC, OWN) or not _is_code(code):
                message = "A list's code has 1 to 100 of a-z, 0-9, '.', '_' and '-', and is not 'public' or 'own'."
                self._problems.append((f"{place}: code", "bad_price_list", message))
            found[code] = name
        return found

    def _zones(self) -> dict[str, str]:
        zones = self._document.get("zones", {})
        found: dict[str, str] = {}
        if not isinstance(zones, Mapping):
            self._problems.append(("zones", "not_a_table", "Write [zones] and below it: ZONE = [REGION, ...]."))
            return found
        for zone, regions in zones.items():
            if not isinstance(regions, list) or not all(isinstance(region, str) for region in regions):
                self._problems.append((f"zones: {zone}", "not_a_list", "Write the zone's regions as a list of texts."))
                continue
            for region in regions:
                if found.get(region, zone) != zone:
                    message = f"{region} lies in {found[region]} already: a region has one zone."
                    self._problems.append((f"zones: {zone}", "region_in_two_zones", message))
                found[region] = zone
        return found

    def _tables(self, place: str, given: object) -> list[tuple[int, Mapping[str, Any]]]:
        if not isinstance(given, list) or not all(isinstance(table, Mapping) for table in given):
            self._problems.append((place, "not_tables", "Write this as a list of tables: [[...]]."))
            return []
        return list(enumerate(cast(Sequence[Mapping[str, Any]], given), 1))

    def _refuse_unknown(self, place: str, table: Mapping[str, Any], known: set[str]) -> None:
        for name in sorted(set(table) - known):
            message = f"There is no such entry. Known here: {', '.join(sorted(known))}."
            self._problems.append((f"{place}: {name[:80]}", "unknown_entry", message))

    def _text(self, place: str, value: object) -> str | None:
        if isinstance(value, str) and value.isprintable():
            return value
        known = value is not None
        message = "Write a text in quotation marks, on one line." if known else "This is missing: write a text."
        self._problems.append((place, "not_text" if known else "missing", message))
        return None

    def _number(self, place: str, table: Mapping[str, Any], name: str, *, needed: bool = False) -> Decimal | None:
        value = table.get(name)
        if value is None:
            if needed:
                self._problems.append((f"{place}: {name}", "missing", "This is missing: write a number, such as 0.15."))
            return None
        if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
            self._problems.append((f"{place}: {name}", "not_a_number", "Write a number, such as 0.15."))
            return None
        try:
            if isinstance(value, str) and len(value) > 100:
                raise InvalidOperation
            number = Decimal(value)
        except InvalidOperation:
            self._problems.append((f"{place}: {name}", "not_a_number", f"{str(value)[:40]!r} is no number."))
            return None
        if not number.is_finite():
            self._problems.append((f"{place}: {name}", "not_finite", f"{number} is no amount. Write a number."))
            return None
        return number

    def _time(self, place: str, value: object) -> datetime | None:
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC)
        known = isinstance(value, (date, datetime))
        message = "Write a time with its zone and without quotation marks, such as 2025-07-01T00:00:00Z."
        self._problems.append((place, "no_time_zone" if known else "not_a_time", message))
        return None


def _is_code(code: str) -> bool:
    known = "abcdefghijklmnopqrstuvwxyz0123456789"
    return 0 < len(code) <= 100 and code[0] in known and all(letter in known + "._-" for letter in code)
