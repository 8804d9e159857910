"""A price in words, as commands and pages show it."""

from invoicing.prices.models import PriceTerms
from ledger.money import plain

MODEL_NAMES = {
    "per_unit": "per unit",
    "graduated": "graduated tiers",
    "volume": "volume tiers",
    "package": "packages",
}


def price_words(terms: PriceTerms, unit: str = "") -> list[str]:
    """What a price says, a phrase each: the amount or the tiers, the allowance, minimum and maximum, tax."""
    per = f" per {unit}" if unit else " each"
    found: list[str] = []
    if terms.model == "package" and terms.package_size is not None:
        found.append(
            f"{plain(terms.unit_amount)} {terms.currency} for every {plain(terms.package_size)} {unit}".rstrip()
        )
    elif terms.model == "per_unit":
        found.append(f"{plain(terms.unit_amount)} {terms.currency}{per}")
    else:
        found += tier_words(terms, per)
    if terms.included:
        found.append(f"the first {plain(terms.included)} of a period are free")
    if terms.included_item is not None:
        found.append(f"{plain(terms.included_per_unit)} free for each of {terms.included_item} in the same period")
    if terms.minimum is not None:
        found.append(f"at least {plain(terms.minimum)} {terms.currency} a period, if used")
    if terms.maximum is not None:
        found.append(f"at most {plain(terms.maximum)} {terms.currency} a period")
    if terms.tax_inclusive:
        found.append("tax included")
    return found


def tier_words(terms: PriceTerms, per: str = " each") -> list[str]:
    """The tiers of a price, a phrase each."""
    found = []
    lasts = [tier.first for tier in terms.tiers[1:]]
    for tier, last in zip(terms.tiers, [*lasts, None], strict=True):
        span = f"above {plain(tier.first)}" if last is None else f"{plain(tier.first)} to {plain(last)}"
        once = f" and {plain(tier.flat_amount)} once" if tier.flat_amount else ""
        whole = ", for the whole quantity" if terms.model == "volume" else ""
        found.append(f"{span}: {plain(tier.unit_amount)} {terms.currency}{per}{once}{whole}")
    return found


def scope_words(terms: PriceTerms) -> str:
    """For whom and where a price holds, "" for everybody everywhere."""
    parts = []
    if terms.region is not None:
        parts.append(f"region {terms.region}")
    if terms.price_list == "own":
        parts.append("one customer's own")
    elif terms.price_list != "public":
        parts.append(f"list {terms.price_list}")
    return ", ".join(parts)
