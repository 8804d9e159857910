"""What a quantity costs: the four price models, allowances, minimum and maximum, exact and explained part by part.

Pure functions of a period's totals, without a database: f(quantity, quantity of another item) = amount. A charge is the
difference of two of its values, so it does not matter in which order or in how many batches usage arrives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Literal
from uuid import UUID

from ledger.entries import QUANTITY_DECIMALS
from ledger.money import EXACT, plain

Model = Literal["per_unit", "graduated", "volume", "package"]
MODELS: tuple[Model, ...] = ("per_unit", "graduated", "volume", "package")
TIERED: tuple[Model, ...] = ("graduated", "volume")

ZERO = Decimal(0)
_FINEST_QUANTITY = Decimal(1).scaleb(-QUANTITY_DECIMALS)


@dataclass(frozen=True, slots=True)
class Tier:
    """From `first` (exclusive) up to and including the next tier's `first`.

    `unit_amount` is in major units per unit, `flat_amount` in major units for reaching the tier at all.
    """

    first: Decimal
    unit_amount: Decimal
    flat_amount: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """One version of a price. Amounts are exact, in major units of `currency`; never changed once published.

    `unit_amount` is of one unit, or of one whole package for "package"; tiers of the tiered models have their own.
    `included` units are free per customer and rating period, and `included_per_unit` more for every unit of
    `included_item` in the same period. Tiers and packages count what is beyond the allowance. `minimum` and `maximum`
    bound a period's amount once anything was used.
    """

    id: UUID
    item: str
    currency: str
    region: str | None
    price_list: str
    model: Model
    unit_amount: Decimal
    package_size: Decimal | None
    tiers: tuple[Tier, ...]
    included: Decimal
    included_item: str | None
    included_per_unit: Decimal
    minimum: Decimal | None
    maximum: Decimal | None
    valid_from: datetime
    valid_until: datetime | None
    tax_inclusive: bool = False
    customer_id: UUID | None = None
    ended_at: datetime | None = field(default=None, compare=False)
    """When a customer's own price was ended, whatever it said itself; the price is the same one all the same."""

    @property
    def until(self) -> datetime | None:
        """Until when it may hold (exclusive), None: for ever, or until another version takes over."""
        return min((end for end in (self.valid_until, self.ended_at) if end is not None), default=None)

    @property
    def flat(self) -> bool:
        """Whether every unit costs the same whatever else was used, so that an event can be rated by itself."""
        return (
            self.model == "per_unit"
            and not self.included
            and self.included_item is None
            and self.minimum is None
            and self.maximum is None
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of an amount: `amount` = `quantity` x `unit_amount` + `flat_amount`, exactly; `words` say why."""

    quantity: Decimal
    unit_amount: Decimal
    flat_amount: Decimal
    amount: Decimal
    words: str


def amount_for(terms: PriceTerms, quantity: Decimal, other: Decimal = ZERO) -> Decimal:
    """What `quantity` units cost in one rating period, exactly: f, with f(0) = 0.

    `other` is the period's quantity of `terms.included_item`. A quantity below zero goes on with the slope of the
    first segment, which is 0 for packages and where there is an allowance; minimum and maximum do not apply to it.
    """
    if quantity <= 0:
        slope = _first_slope(terms, other)
        return EXACT.multiply(quantity, slope) if slope and quantity else ZERO
    amount = _charge(terms, _beyond(quantity, allowance(terms, other)))
    if terms.minimum is not None and amount < terms.minimum:
        amount = terms.minimum
    if terms.maximum is not None and amount > terms.maximum:
        amount = terms.maximum
    return amount


def segments(terms: PriceTerms, quantity: Decimal, other: Decimal = ZERO) -> list[Segment]:
    """The same amount part by part: the quantities add up to `quantity`, the amounts to `amount_for`."""
    if quantity <= 0:
        slope = _first_slope(terms, other)
        return [_part(quantity, slope, ZERO, f"taken back at {plain(slope)} each")] if quantity else []
    free = allowance(terms, other)
    found: list[Segment] = []
    if free:
        found.append(_part(min(quantity, free), ZERO, ZERO, _allowance_words(terms, other, free)))
    found += _parts(terms, _beyond(quantity, free))
    amount = _total(found)
    if terms.minimum is not None and amount < terms.minimum:
        raised = EXACT.subtract(terms.minimum, amount)
        found.append(_part(ZERO, ZERO, raised, f"up to the minimum of {plain(terms.minimum)}"))
        amount = terms.minimum
    if terms.maximum is not None and amount > terms.maximum:
        lowered = EXACT.subtract(terms.maximum, amount)
        found.append(_part(ZERO, ZERO, lowered, f"down to the maximum of {plain(terms.maximum)}"))
    return found


def allowance(terms: PriceTerms, other: Decimal = ZERO) -> Decimal:
    """How many units are free in the period, where `other` units of `terms.included_item` were used in it.

    A quantity like any other, with at most QUANTITY_DECIMALS decimals: beyond them it is rounded up, so that it is the
    customer who gains, and a unit price of 12 decimals still makes an amount that an entry can hold exactly. Taking
    back more of the other item than was used lowers nothing below `included`.
    """
    if terms.included_item is None or other <= 0:
        return terms.included
    earned = EXACT.multiply(terms.included_per_unit, other)
    whole = EXACT.add(terms.included, earned)
    exponent = whole.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > QUANTITY_DECIMALS:
        return whole.quantize(_FINEST_QUANTITY, rounding=ROUND_CEILING, context=EXACT)
    return whole


def packages_for(quantity: Decimal, size: Decimal) -> Decimal:
    """How many packages of `size` hold `quantity` units: the last one may be partly empty."""
    whole, rest = EXACT.divmod(quantity, size)
    return EXACT.add(whole, Decimal(1)) if rest else whole


def _charge(terms: PriceTerms, quantity: Decimal) -> Decimal:
    """What `quantity` units beyond the allowance cost, before minimum and maximum. Runs twice for every event."""
    if terms.model == "per_unit":
        return EXACT.multiply(quantity, terms.unit_amount)
    if not quantity:
        return ZERO
    if terms.package_size is not None:
        return EXACT.multiply(packages_for(quantity, terms.package_size), terms.unit_amount)
    amount = ZERO
    if terms.model == "volume":
        reached = next(tier for tier in reversed(terms.tiers) if quantity > tier.first)
        return EXACT.add(EXACT.multiply(quantity, reached.unit_amount), reached.flat_amount)
    rest = quantity
    for tier in reversed(terms.tiers):
        if rest > tier.first:
            within = EXACT.multiply(EXACT.subtract(rest, tier.first), tier.unit_amount)
            amount = EXACT.add(amount, EXACT.add(within, tier.flat_amount))
            rest = tier.first
    return amount


def _parts(terms: PriceTerms, quantity: Decimal) -> list[Segment]:
    if not quantity:
        return []
    match terms.model:
        case "per_unit":
            return [_part(quantity, terms.unit_amount, ZERO, f"at {plain(terms.unit_amount)} each")]
        case "package":
            assert terms.package_size is not None  # noqa: S101 - a package without a size is refused before it is kept
            number = packages_for(quantity, terms.package_size)
            amount = EXACT.multiply(number, terms.unit_amount)
            one = "package" if number == 1 else "packages"
            words = f"{plain(number)} {one} of {plain(terms.package_size)} at {plain(terms.unit_amount)}"
            return [_part(quantity, ZERO, amount, words)]
        case "volume":
            tier, last = next((tier, last) for tier, last in _bounds(terms.tiers) if last is None or quantity <= last)
            words = f"all at {plain(tier.unit_amount)} each, since the total is {_range(tier.first, last)}"
            return [_part(quantity, tier.unit_amount, tier.flat_amount, words + _flat_words(tier))]
        case "graduated":
            return [
                _part(
                    EXACT.subtract(quantity if last is None else min(quantity, last), tier.first),
                    tier.unit_amount,
                    tier.flat_amount,
                    f"{_range(tier.first, last)}: at {plain(tier.unit_amount)} each{_flat_words(tier)}",
                )
                for tier, last in _bounds(terms.tiers)
                if quantity > tier.first
            ]


def _bounds(tiers: tuple[Tier, ...]) -> Iterator[tuple[Tier, Decimal | None]]:
    for tier, following in zip(tiers, (*tiers[1:], None), strict=True):
        yield tier, None if following is None else following.first


def _first_slope(terms: PriceTerms, other: Decimal) -> Decimal:
    if terms.model == "package" or allowance(terms, other) > 0:
        return ZERO
    return terms.tiers[0].unit_amount if terms.model in TIERED else terms.unit_amount


def _beyond(quantity: Decimal, free: Decimal) -> Decimal:
    return max(ZERO, EXACT.subtract(quantity, free))


def _part(quantity: Decimal, unit_amount: Decimal, flat_amount: Decimal, words: str) -> Segment:
    amount = EXACT.add(EXACT.multiply(quantity, unit_amount), flat_amount)
    return Segment(quantity, unit_amount, flat_amount, amount, words)


def _total(parts: list[Segment]) -> Decimal:
    total = ZERO
    for part in parts:
        total = EXACT.add(total, part.amount)
    return total


def _range(first: Decimal, last: Decimal | None) -> str:
    if last is None:
        return f"above {plain(first)}" if first else "from the first on"
    return f"above {plain(first)} up to {plain(last)}" if first else f"up to {plain(last)}"


def _flat_words(tier: Tier) -> str:
    return f", and {plain(tier.flat_amount)} once" if tier.flat_amount else ""


def _allowance_words(terms: PriceTerms, other: Decimal, free: Decimal) -> str:
    parts = [f"{plain(terms.included)} a period"] if terms.included else []
    if terms.included_item is not None and other > 0:
        parts.append(f"{plain(terms.included_per_unit)} for each of {plain(other)} of {terms.included_item}")
    return f"included: {plain(free)} ({', and '.join(parts)})"
