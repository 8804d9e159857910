"""The lines of a credit note: parts of the invoice's own lines, or lines of their own, with their taxes."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from .errors import Json, invalid, refused
from .ids import new_id
from .params import merged_metadata
from .world import World

MAX_TAXES = 20  # of one line. Source: the SDK's parameters of credit_notes.create, `lines[].tax_amounts`


def custom_line(amount: int, **fields: object) -> Json:
    """A line that refers to none of the invoice's; `amount` in minor units, without tax on top."""
    return {
        "id": new_id("cnli"),
        "object": "credit_note_line_item",
        "amount": amount,
        "description": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "livemode": False,
        "metadata": {},
        "pretax_credit_amounts": [],
        "quantity": 1,
        "tax_rates": [],
        "taxes": [],
        "type": "custom_line_item",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
        **fields,
    }


def lines_of(world: World, invoice: Json, asked: list[Json]) -> list[Json]:
    """The credit note's lines for `lines[]`.

    Raises:
        ApiError: 400, naming the line that is incomplete, of another invoice, or more than the invoice's own line.
    """
    return [_line(world, invoice, item, f"lines[{index}]") for index, item in enumerate(asked)]


def _line(world: World, invoice: Json, asked: Json, name: str) -> Json:
    metadata = merged_metadata({}, asked.get("metadata", {}))
    if asked["type"] == "custom_line_item":
        amount = _custom_amount(asked, name)
        taxes = _given_taxes(world, asked, name)
        return custom_line(
            amount, description=asked.get("description"), metadata=metadata, quantity=asked.get("quantity", 1),
            taxes=taxes,
        )  # fmt: skip
    if not asked.get("invoice_line_item"):
        raise invalid(f"Missing required param: {name}[invoice_line_item].", code="parameter_missing", param=name)
    param = f"{name}[invoice_line_item]"
    line = world.store.get(asked["invoice_line_item"], kind="line_item", param=param)
    if line["invoice"] != invoice["id"]:
        raise refused(f"Line item {line['id']} does not belong to invoice {invoice['id']}.", param=param)
    share = Fraction(int(asked.get("quantity") or line["quantity"]), int(line["quantity"] or 1))
    amount = int(asked["amount"]) if "amount" in asked else _rounded(line["amount"] * share)
    if abs(amount) > abs(line["amount"]) or amount * line["amount"] < 0:
        raise refused(f"Line item {line['id']} has {line['amount']} only, not {amount}.", param=f"{name}[amount]")
    taxes = _given_taxes(world, asked, name) if "tax_amounts" in asked else _shared_taxes(line, amount)
    return custom_line(
        amount, type="invoice_line_item", invoice_line_item=line["id"],
        description=asked.get("description", line["description"]), metadata=metadata,
        quantity=asked.get("quantity"), unit_amount=None, unit_amount_decimal=None, taxes=taxes,
    )  # fmt: skip


def _custom_amount(asked: Json, name: str) -> int:
    unit = asked.get("unit_amount", asked.get("unit_amount_decimal"))
    if "amount" in asked:
        raise invalid("`amount` is only valid when `type` is `invoice_line_item`.", param=f"{name}[amount]")
    if unit is None:
        raise invalid(f"Missing required param: {name}[unit_amount].", code="parameter_missing", param=name)
    return _rounded(Fraction(Decimal(unit)) * asked.get("quantity", 1))


def _given_taxes(world: World, asked: Json, name: str) -> list[Json]:
    taxes = []
    given = asked.get("tax_amounts") or []
    if len(given) > MAX_TAXES:
        raise invalid(f"A line takes up to {MAX_TAXES} tax amounts.", param=f"{name}[tax_amounts]")
    for index, tax in enumerate(given):
        rate = world.store.get(tax["tax_rate"], kind="tax_rate", param=f"{name}[tax_amounts][{index}][tax_rate]")
        taxes.append(_tax(tax["amount"], tax["taxable_amount"], rate["id"], inclusive=rate["inclusive"]))
    return taxes


def _tax(amount: int, taxable_amount: int, rate: str, *, inclusive: bool) -> Json:
    return {
        "amount": amount,
        "tax_behavior": "inclusive" if inclusive else "exclusive",
        "tax_rate_details": {"tax_rate": rate},
        "taxability_reason": "not_available",
        "taxable_amount": taxable_amount,
        "type": "tax_rate_details",
    }


def _shared_taxes(line: Json, amount: int) -> list[Json]:
    """The taxes of an invoice line in the proportion in which it is credited, rounded half up."""
    if not line["amount"]:
        return []
    share = Fraction(amount, line["amount"])
    return [
        {**tax, "amount": _rounded(tax["amount"] * share), "taxable_amount": _rounded(tax["taxable_amount"] * share)}
        for tax in line["taxes"]
    ]


def taxes_of(lines: list[Json]) -> list[Json]:
    """The taxes of all lines, one entry per rate."""
    totals: list[Json] = []
    for tax in (tax for line in lines for tax in line["taxes"]):
        same = next(
            (total for total in totals
             if (total["tax_rate_details"], total["tax_behavior"]) == (tax["tax_rate_details"], tax["tax_behavior"])),
            None,
        )  # fmt: skip
        if same is None:
            totals.append(dict(tax))
        else:
            same["amount"] += tax["amount"]
            same["taxable_amount"] += tax["taxable_amount"]
    return totals


def _rounded(value: Fraction | int) -> int:
    exact = Fraction(value)
    return int((Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(Decimal(1), ROUND_HALF_UP))
