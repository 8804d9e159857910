"""A second opinion on rating: what usage costs, from first principles and from nothing of ours.

It sums all quantities of a period first and applies tiers, allowances and discounts to the sums, in fractions. The
price book, the customers and the events are plain dicts; in which order events come cannot matter, since nothing here
looks at an order but that of time.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]
Key = tuple[str, datetime, str, Any]
"""Customer, start of the period, item, and the id of the price or discount (None: the source said the amount)."""

DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def rate(book: Row, events: Iterable[Row]) -> tuple[dict[Key, Fraction], dict[Key, Fraction]]:
    """Amounts and quantities of all usage; an event that comes twice counts once. What is 0 is left out."""
    known = {(event["customer"], event["id"]): event for event in events}
    amounts: dict[Key, Fraction] = defaultdict(Fraction)
    quantities: dict[Key, Fraction] = defaultdict(Fraction)
    used: dict[tuple[str, datetime, str], Fraction] = defaultdict(Fraction)
    prices: dict[Any, Row] = {}
    for event in known.values():
        customer, item, at = event["customer"], event["item"], event["at"]
        start = period_start(at, **book["customers"][customer])
        quantity = Fraction(event["quantity"])
        used[customer, start, item] += quantity
        if event.get("amount") is not None:
            quantities[customer, start, item, None] += quantity
            amounts[customer, start, item, None] += Fraction(event["amount"])
            continue
        price = choose(book, customer, item, event["region"], at, start)
        prices[price["id"]] = price
        quantities[customer, start, item, price["id"]] += quantity
        discount = discount_at(book, customer, item, at)
        if is_flat(price) and discount:
            off = Fraction(discount["percent"]) / 100 * quantity * Fraction(price["unit_amount"])
            amounts[customer, start, item, discount["id"]] -= off
    for (customer, start, item, price_id), quantity in quantities.items():
        if price_id is None:
            continue
        price = prices[price_id]
        amount = cost(price, quantity, used.get((customer, start, price["included_item"]), Fraction(0)))
        amounts[customer, start, item, price_id] += amount
        discount = discount_at(book, customer, item, max(start, price["from"]))
        if discount and not is_flat(price):
            amounts[customer, start, item, discount["id"]] -= Fraction(discount["percent"]) / 100 * amount
    return (
        {key: amount for key, amount in amounts.items() if amount},
        {key: quantity for key, quantity in quantities.items() if quantity},
    )


def given_back(included: Fraction, charges: Iterable[Fraction]) -> Fraction:
    """What a plan that includes so much usage gives back of a period's charges."""
    return min(included, max(Fraction(0), sum(charges, Fraction(0))))


def cost(price: Row, quantity: Fraction, other: Fraction) -> Fraction:
    """What a period's quantity costs at one price, where `other` was used of the item that its allowance depends on."""
    free = Fraction(price["included"])
    if price["included_item"] is not None and other > 0:
        free += Fraction(price["included_per_unit"]) * other
    tiers = [tuple(map(Fraction, tier)) for tier in price["tiers"]]
    if quantity <= 0:
        if free > 0 or price["model"] == "package":
            return Fraction(0)
        return quantity * (tiers[0][1] if tiers else Fraction(price["unit_amount"]))
    paid = max(Fraction(0), quantity - free)
    amount = Fraction(0)
    if price["model"] == "per_unit":
        amount = paid * Fraction(price["unit_amount"])
    elif price["model"] == "package":
        amount = -(-paid // Fraction(price["package_size"])) * Fraction(price["unit_amount"])
    elif price["model"] == "volume":
        for first, unit_amount, flat_amount in tiers:
            if paid > first:
                amount = paid * unit_amount + flat_amount
    else:
        lasts = [*(first for first, _, _ in tiers[1:]), None]
        for (first, unit_amount, flat_amount), last in zip(tiers, lasts, strict=True):
            if paid > first:
                within = (paid if last is None else min(paid, last)) - first
                amount += within * unit_amount + flat_amount
    if price["minimum"] is not None:
        amount = max(amount, Fraction(price["minimum"]))
    if price["maximum"] is not None:
        amount = min(amount, Fraction(price["maximum"]))
    return amount


def is_flat(price: Row) -> bool:
    plain = price["model"] == "per_unit" and price["minimum"] is None and price["maximum"] is None
    return plain and not price["included"] and price["included_item"] is None


def choose(book: Row, customer: str, item: str, region: str | None, at: datetime, start: datetime) -> Row:
    """The version when it was used, if that and the period's first are flat; else the period's first."""
    current, first = (version(book, customer, item, region, instant) for instant in (at, start))
    begins = [price["from"] for price in book["prices"]] + [begin for _, begin, _ in book["agreements"]]
    for instant in sorted(begin for begin in begins if start < begin <= at):
        first = first or version(book, customer, item, region, instant)
    if current and first and is_flat(current) and is_flat(first):
        return current
    if first is None or (is_flat(first) and current is None):
        raise LookupError(f"no price of {item} for {customer} at {at}")
    return first


def version(book: Row, customer: str, item: str, region: str | None, at: datetime) -> Row | None:
    """The customer's own price, else the agreed list's, else the public one; a region's before its zone's before any's.

    A version that has ended is none, and then the next best price counts.
    """
    agreed = [(begin, name) for who, begin, name in book["agreements"] if who == customer and begin <= at]
    lists = [max(agreed)[1]] if agreed else []
    scopes = [("own", customer), *((name, None) for name in lists), ("public", None)]
    for price_list, owner in scopes:
        for place in (region, book["zones"].get(region), None):
            begun = [
                price
                for price in book["prices"]
                if (price["list"], price["customer"], price["item"]) == (price_list, owner, item)
                and price["region"] == place
                and price["from"] <= at
            ]
            if begun:
                last: Row = max(begun, key=lambda price: price["from"])
                if last["until"] is None or at < last["until"]:
                    return last
    return None


def discount_at(book: Row, customer: str, item: str, at: datetime) -> Row | None:
    """The discount on the item, else the one on everything."""
    holding = [
        row
        for row in book["discounts"]
        if row["customer"] == customer and row["from"] <= at and (row["until"] is None or at < row["until"])
    ]
    for wanted in (item, None):
        for row in holding:
            if row["item"] == wanted:
                found: Row = row
                return found
    return None


def period_start(at: datetime, *, time_zone: str, anchor_day: int) -> datetime:
    """Local midnight of the last anchor day that is not after `at`; months too short for it begin on their last day."""
    local = at.astimezone(ZoneInfo(time_zone))
    year, month = local.year, local.month
    while True:
        leap = month == 2 and ((year % 4 == 0 and year % 100 != 0) or year % 400 == 0)
        day = min(anchor_day, DAYS[month - 1] + leap)
        start = datetime(year, month, day, tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
        if start <= at:
            return start
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
