"""Taxes as Stripe takes them: our own amounts with each line, so that its total equals ours.

Source: `tax_amounts` of https://docs.stripe.com/api/invoices/add_lines; not to be combined with rates of Stripe's own.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from invoicing.provider import OrderLine, OrderTax
from invoicing.tax.credits import TaxGivenBack
from invoicing.tax.tables import InvoiceTax
from ledger.money import plain
from stripe_gateway.amounts import to_minor

Json = dict[str, Any]

MAX_TAXES = 20  # of one line. Source: `tax_amounts` of https://docs.stripe.com/api/invoices/add_lines
MAX_DISPLAY_NAME = 100  # characters; Stripe's OpenAPI file, `tax_rate_data_param`


def tax_amounts_of(line: OrderLine, currency: str) -> list[Json]:
    """The taxes of one line, in minor units; none if it bears none."""
    return [_tax_amount(tax, currency) for tax in line.taxes]


def _tax_amount(tax: OrderTax, currency: str) -> Json:
    country, _, state = tax.jurisdiction.partition("-")
    data: Json = {
        "display_name": tax.name[:MAX_DISPLAY_NAME],
        "inclusive": tax.inclusive,
        # As text: a form has no numbers, and a float could lose a digit on its way there.
        "percentage": plain(tax.percent),
        "country": country,
        "jurisdiction": tax.jurisdiction,
    }
    if state:
        data["state"] = state
    return {
        "amount": to_minor(tax.amount, currency),
        "taxable_amount": to_minor(tax.taxable, currency),
        "taxability_reason": _reason(tax),
        "tax_rate_data": data,
    }


def credited(
    given_back: Sequence[TaxGivenBack],
    *,
    of: Sequence[InvoiceTax],
    at_stripe: Sequence[Mapping[str, Any]],
    currency: str,
) -> list[Json] | None:
    """The taxes that a credit note gives back, by the rates that Stripe made for its invoice, in minor units.

    `of` are the invoice's taxes, `at_stripe` its `total_taxes` there. Each of ours is found among Stripe's by being on
    top or inside, by its amount, and by what it was taken of; of two that are alike in all of that it does not matter
    which is which. None if one is not found, or if there are more than one line takes: then Stripe is told the amount
    alone.
    Source: `lines[].tax_amounts` of https://docs.stripe.com/api/credit_notes/create; the rate must be one that Stripe
    made by itself, which it does for the `tax_rate_data` of an invoice.
    """
    rates: dict[Any, str] = {}
    left = list(at_stripe)
    for tax in (tax for tax in of if tax.amount):
        wanted = "inclusive" if tax.inclusive else "exclusive", to_minor(tax.amount, currency)
        alike = [one for one in left if (one["tax_behavior"], one["amount"]) == wanted and one.get("tax_rate_details")]
        exact = [one for one in alike if one["taxable_amount"] == to_minor(tax.taxable, currency)]
        if not alike:
            return None
        found = (exact or alike)[0]
        left.remove(found)
        rates[tax.id] = found["tax_rate_details"]["tax_rate"]
    if len(given_back) > MAX_TAXES or any(part.tax.id not in rates for part in given_back):
        return None
    return [
        {
            "tax_rate": rates[part.tax.id],
            "amount": to_minor(part.amount, currency),
            "taxable_amount": round(
                to_minor(part.tax.taxable, currency) * Fraction(part.amount) / Fraction(part.tax.amount)
            ),
        }
        for part in given_back
    ]


def _reason(tax: OrderTax) -> str:
    if tax.treatment == "reverse_charge":
        return "reverse_charge"
    if tax.treatment == "exempt":
        return "customer_exempt"
    return "zero_rated" if tax.percent == 0 else "standard_rated"


def rates_of(line: OrderLine) -> tuple[tuple[str, str, str, bool], ...]:
    """What tells lines apart that bear different taxes."""
    return tuple((tax.jurisdiction, tax.name, plain(tax.percent), tax.inclusive) for tax in line.taxes)


def summed(lines: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The taxes of several lines as those of one: each rate once, its amounts added up."""
    found: dict[str, Json] = {}
    for tax in (tax for line in lines for tax in line.get("tax_amounts", ())):
        key = _key(tax)
        if key not in found:
            found[key] = dict(tax)
        else:
            found[key]["amount"] += tax["amount"]
            found[key]["taxable_amount"] += tax["taxable_amount"]
    return list(found.values())


def _key(tax: Mapping[str, Any]) -> str:
    return json.dumps([tax["tax_rate_data"], tax["taxability_reason"]], sort_keys=True)


def on_top_of(lines: Iterable[Mapping[str, Any]]) -> int:
    """What comes on top of these lines, in minor units."""
    return sum(
        tax["amount"] for line in lines for tax in line.get("tax_amounts", ()) if not tax["tax_rate_data"]["inclusive"]
    )


def is_worth_showing(line: Mapping[str, Any]) -> bool:
    """Whether the line, or a tax of it, changes what is due; a line of 0 can carry a minor unit of tax."""
    return bool(line["amount"]) or any(tax["amount"] for tax in line.get("tax_amounts", ()))


def bundled(lines: Sequence[Json]) -> list[list[Json]]:
    """These lines in as few bundles as follow from their order, none with more rates than one line can carry."""
    bundles: list[list[Json]] = []
    rates: set[str] = set()
    for line in lines:
        own = {_key(tax) for tax in line.get("tax_amounts", ())}
        if not bundles or len(rates | own) > MAX_TAXES:
            bundles.append([])
            rates = set()
        bundles[-1].append(line)
        rates |= own
    return bundles
