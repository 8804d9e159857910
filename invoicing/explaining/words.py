"""An explanation in words, as commands and pages show it: a title and a sentence for each fact."""

from datetime import datetime
from decimal import Decimal

from invoicing.explaining.of_charge import ChargeExplanation
from invoicing.explaining.of_line import ORDER_OF_CREDIT, CreditExplained, LineExplanation, Rounding, TaxExplained
from invoicing.explaining.parts import Part
from invoicing.prices.models import PriceTerms
from invoicing.prices.words import price_words, scope_words
from ledger.money import EXACT, invoice_exponent, plain, round_half_even
from ledger.zones import zone

Fact = tuple[str, str]


def facts_of_charge(found: ChargeExplanation, *, time_zone: str) -> list[Fact]:
    """What decided a charge: its price, discount or plan, what counts together, and how many entries it has."""
    charge, currency = found.charge, found.charge.currency
    facts: list[Fact] = []
    if found.terms is not None:
        facts.append(("Price", _price(found, found.terms, time_zone)))
    if found.discount is not None:
        of = "everything" if found.discount.item is None else found.name
        span = _validity(found.discount.valid_from, found.discount.valid_until, time_zone)
        facts.append(("Discount", f"{plain(found.discount.percent)} % off {of}, {span}"))
    if found.plan is not None:
        plan = found.plan
        usage = f", with usage of {plain(plan.included_usage)} {currency} a month" if plan.included_usage else ""
        fee = f"{plain(plan.fee)} {currency} a {plan.interval}, charged in {plan.timing}"
        facts.append(("Plan", f"{plan.name}: {fee}{usage}, offered from {moment(plan.valid_from, time_zone)}"))
    if found.counted_from is not None:
        facts.append(("Counts together", _counted(found, time_zone)))
    if found.is_carried:
        facts.append(("Carried", "An earlier invoice was too small to collect, or came out below nothing."))
    if found.is_late:
        facts.append((
            "Late",
            f"Used in the period from {moment(charge.usage_period_start, time_zone)}, at the prices and tiers of that "
            "period; it was recorded when that was closed, so the next open one bills it.",
        ))  # fmt: skip
    if found.days is not None:
        entries = "1 entry" if found.entries == 1 else f"{found.entries:,} entries"
        first, last = (day.isoformat() for day in found.days)
        facts.append(("Entries", f"{entries}, {f'of {first}' if first == last else f'from {first} to {last}'}"))
    return facts


def facts_of_line(found: LineExplanation, *, time_zone: str) -> list[Fact]:
    """What stands between a line's exact amount and what is paid: its rounding, its taxes, the invoice's credit."""
    currency = found.invoice.currency
    facts: list[Fact] = []
    if found.invoice.kind == "top_up":
        facts.append(("Credit", "Prepaid credit that was bought: it pays for later invoices."))
    if found.rounding is not None:
        facts.append(("Rounding", _rounding(found.rounding, currency)))
    facts += [("Tax", _tax(tax, currency, time_zone)) for tax in found.taxes]
    if found.untaxed is not None:
        facts.append(("Tax", found.untaxed))
    facts += [("Credit used", _credit(credit, currency, time_zone)) for credit in found.credits]
    if found.credits:
        facts.append(("Why in this order", ORDER_OF_CREDIT))
    return facts


def place_of(part: Part, *, time_zone: str) -> str:
    """On which line another part of the same sum stands."""
    period = f"the period from {moment(part.period_start, time_zone)}"
    if part.invoice is None:
        where = f"{period}, not billed yet"
    elif part.invoice.number is None:
        where = f"the draft for {period}"
    else:
        where = f"invoice {part.invoice.number}"
    late = part.usage_period_start != part.period_start
    return where + (f", used from {moment(part.usage_period_start, time_zone)}" if late else "")


def moment(at: datetime, time_zone: str) -> str:
    """A time as the customer's calendar has it, to the minute or as fine as it is: 2025-06-01 00:00 UTC."""
    local = at.astimezone(zone(time_zone))
    fine = "%Y-%m-%d %H:%M:%S" if local.second or local.microsecond else "%Y-%m-%d %H:%M"
    return f"{local:{fine}} {local.tzname()}"


def cash(amount: Decimal, currency: str) -> str:
    """An amount as an invoice writes it, with all decimals of its currency: 4.50."""
    return f"{round_half_even(amount, invoice_exponent(currency)):f}"


def _price(found: ChargeExplanation, terms: PriceTerms, time_zone: str) -> str:
    scope = scope_words(terms)
    kind = "public price" if terms.price_list == "public" else "agreed price"
    whose = f"{kind}, {scope}" if scope else kind
    until = terms.until or found.replaced_at
    by = f", published by {found.published_by}" if found.published_by else ""
    words = "; ".join(price_words(terms, found.unit))
    return f"{words} ({whose}, {_validity(terms.valid_from, until, time_zone)}{by})"


def _validity(start: datetime, end: datetime | None, time_zone: str) -> str:
    until = "" if end is None else f" until {moment(end, time_zone)}"
    return f"valid from {moment(start, time_zone)}{until}"


def _counted(found: ChargeExplanation, time_zone: str) -> str:
    charge, currency = found.charge, found.charge.currency
    assert found.counted_from is not None  # noqa: S101 - asked before
    since = f"everything from {moment(found.counted_from, time_zone)} on"
    if found.counted is not None:
        used = f"{plain(found.counted)} {found.unit}".strip()
        other = ""
        if found.other is not None and found.terms is not None:
            other = f", beside {plain(found.other)} of {found.terms.included_item}"
        text = f"The price counts {since}: {used}{other} came to {plain(found.total)} {currency}"
    else:
        text = f"The plan counts {since}: {plain(found.total)} {currency} in all"
    if not found.elsewhere:
        return f"{text}, all on this line."
    return f"{text}, of which other lines bill {plain(found.on_other_lines)} and this one {plain(charge.amount)}."


def _rounding(found: Rounding, currency: str) -> str:
    text = (
        f"All lines come to {plain(found.exact_total)} {currency} exactly and {cash(found.rounded_total, currency)} "
        f"rounded. This one counts {cash(found.floor, currency)} in whole units of {plain(found.unit)}"
    )
    more = EXACT.subtract(found.share, found.floor)
    if not more:
        return f"{text}, and none of those that are left over."
    return f"{text}, and {plain(more)} more, since its fraction is among the largest: {cash(found.share, currency)}."


def _tax(found: TaxExplained, currency: str, time_zone: str) -> str:
    if found.legal_note is not None:
        return f"{found.title}: {found.legal_note}"
    valid = "" if found.valid_from is None else f", {_validity(found.valid_from, found.valid_until, time_zone)}"
    where = "inside the price" if found.inclusive else "on top"
    taxable, amount, of_all = (cash(value, currency) for value in (found.taxable, found.amount, found.of_all))
    return (
        f"{found.title}{valid}: of {taxable} {currency} without tax, {where}; {amount} is this line's share of the "
        f"{of_all} that the whole invoice bears, rounded once."
    )


def _credit(found: CreditExplained, currency: str, time_zone: str) -> str:
    lot = found.lot
    text = f"{cash(found.amount, currency)} {currency} of {lot.name[:1].lower()}{lot.name[1:]}"
    if lot.id is None or lot.created_at is None:
        return f"{text} that belongs to no lot, which pays last"
    parts = [f"over {cash(lot.amount, currency)} from {moment(lot.created_at, time_zone)}", f"priority {lot.priority}"]
    parts.append("never expires" if lot.expires_at is None else f"expires {moment(lot.expires_at, time_zone)}")
    if lot.items is not None:
        parts.append(f"only for {', '.join(sorted(lot.items))}")
    return f"{text} ({', '.join(parts)})"


def step_words(quantity: Decimal | None, unit_amount: Decimal | None, flat_amount: Decimal) -> str:
    """The arithmetic of a step, "" where there is none: 3 x 0.5 + 1."""
    if quantity is None or unit_amount is None:
        return ""
    once = f" + {plain(flat_amount)}" if flat_amount else ""
    return f"{plain(quantity)} x {plain(unit_amount)}{once}"
