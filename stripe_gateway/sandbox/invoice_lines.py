"""Invoice lines: `add_lines` on drafts, tax amounts, and the list of an invoice's lines."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from .errors import Json, invalid, refused
from .events import emit
from .ids import new_id
from .invoices import retotal
from .lists import list_objects
from .params import merged_metadata
from .world import Call, World

MAX_LINES = 250


def add_lines(call: Call) -> Json:
    """Append lines to a draft and merge `invoice_metadata`; calling it again appends again."""
    params, world = call.params, call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    if invoice["status"] != "draft":
        raise refused(
            "This invoice is no longer editable: lines can be added to draft invoices only.",
            code="invoice_not_editable",
        )
    had = world.store.count("line_item", "parent = ?", invoice["id"])
    if had + len(params["lines"]) > MAX_LINES:
        raise refused(
            f"An invoice can have at most {MAX_LINES} line items; this one would have {had + len(params['lines'])}."
        )
    before = {name: invoice[name] for name in ("subtotal", "total", "amount_due", "amount_remaining", "metadata")}
    lines = [_line(world, invoice, asked, f"lines[{index}]") for index, asked in enumerate(params["lines"])]
    world.store.insert_many(lines)
    invoice["subtotal"] += sum(line["amount"] for line in lines)
    for line in lines:
        for tax in line["taxes"]:
            _add_tax(invoice["total_taxes"], tax)
    invoice["starting_balance"] = world.store.get(invoice["customer"], kind="customer", param="customer")["balance"]
    if "invoice_metadata" in params:
        invoice["metadata"] = merged_metadata(invoice["metadata"], params["invoice_metadata"])
    retotal(invoice)
    world.store.update(invoice)
    emit(world, "invoice.updated", invoice, previous={k: v for k, v in before.items() if v != invoice[k]})
    return invoice


def _line(world: World, invoice: Json, asked: Json, name: str) -> Json:
    quantity = Decimal(asked["quantity_decimal"] if "quantity_decimal" in asked else asked.get("quantity", 1))
    unit_amount = None
    if asked.get("invoice_item") or asked.get("pricing"):
        raise invalid("The sandbox has no stored prices or invoice items: send `amount`", param=name)
    if "amount" in asked:
        if "price_data" in asked:
            raise invalid("You may only specify one of these parameters: amount, price_data.", param=name)
        amount = asked["amount"]
    elif "price_data" in asked:
        unit_amount, amount = _priced(invoice, asked["price_data"], quantity, f"{name}[price_data]")
    else:
        raise invalid(f"Missing required param: {name}[amount].", code="parameter_missing", param=f"{name}[amount]")
    period = asked.get("period") or {"start": invoice["created"], "end": invoice["created"]}
    if period["end"] < period["start"]:
        raise invalid("The period's end must not be before its start.", param=f"{name}[period]")
    return {
        "id": new_id("il"),
        "object": "line_item",
        "amount": amount,
        "created": world.clock.stamp(),
        "currency": invoice["currency"],
        "description": asked.get("description"),
        "discount_amounts": [],
        "discountable": asked.get("discountable", True),
        "discounts": [],
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": merged_metadata({}, asked.get("metadata", {})),
        "parent": {
            "invoice_item_details": {
                "invoice_item": new_id("ii"),
                "proration": False,
                "proration_details": None,
                "subscription": None,
            },
            "subscription_item_details": None,
            "type": "invoice_item_details",
        },
        "period": period,
        "pretax_credit_amounts": [],
        "pricing": None
        if unit_amount is None
        else {
            "price_details": {
                "price": new_id("price"),
                "product": asked["price_data"].get("product") or new_id("prod"),
            },
            "type": "price_details",
            "unit_amount_decimal": str(unit_amount),
        },
        "quantity": int(quantity),
        "quantity_decimal": str(quantity),
        "subscription": None,
        "subtotal": amount,
        "taxes": [
            _tax(world, tax, f"{name}[tax_amounts][{i}]") for i, tax in enumerate(asked.get("tax_amounts") or [])
        ],
    }


def _priced(invoice: Json, data: Json, quantity: Decimal, name: str) -> tuple[Decimal, int]:
    """The unit amount and the rounded amount in minor units of a line given by price and quantity."""
    if data["currency"].lower() != invoice["currency"]:
        raise invalid(f"The currency must be the invoice's, {invoice['currency']}.", param=f"{name}[currency]")
    if not data.get("product") and not data.get("product_data"):
        raise invalid(f"Missing required param: {name}[product].", code="parameter_missing", param=f"{name}[product]")
    name_of_unit = "unit_amount_decimal" if "unit_amount_decimal" in data else "unit_amount"
    if name_of_unit not in data:
        raise invalid(
            f"Missing required param: {name}[unit_amount].", code="parameter_missing", param=f"{name}[unit_amount]"
        )
    unit = Decimal(data[name_of_unit])
    return unit, int((unit * quantity).quantize(Decimal(1), ROUND_HALF_UP))


def _tax(world: World, asked: Json, name: str) -> Json:
    data = asked["tax_rate_data"]
    if not 0 <= data["percentage"] <= 100:
        raise invalid("The percentage must be between 0 and 100.", param=f"{name}[tax_rate_data][percentage]")
    return {
        "amount": asked["amount"],
        "tax_behavior": "inclusive" if data["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": _tax_rate(world, data)},
        "taxability_reason": asked.get("taxability_reason", "not_available"),
        "taxable_amount": asked["taxable_amount"],
        "type": "tax_rate_details",
    }


def _tax_rate(world: World, data: Json) -> str:
    """The ad hoc rate for these data: the same data give the same rate, so an invoice sums them together."""
    percentage = float(data["percentage"])
    optional = ("country", "description", "jurisdiction", "jurisdiction_level", "state", "tax_type")
    wanted = {
        "display_name": data["display_name"],
        "inclusive": data["inclusive"],
        "percentage": percentage,
        **{name: data.get(name) for name in optional},
    }
    for rate in world.store.where("tax_rate", "ref = ?", data["display_name"]):
        if all(rate[name] == value for name, value in wanted.items()):
            return str(rate["id"])
    rate = {
        "id": new_id("txr"),
        "object": "tax_rate",
        "active": False,
        "created": world.clock.stamp(),
        "effective_percentage": None,
        "flat_amount": None,
        "livemode": False,
        "metadata": {},
        "rate_type": "percentage",
        **wanted,
    }
    return str(world.store.insert(rate)["id"])


def _add_tax(totals: list[Json], tax: Json) -> None:
    for total in totals:
        if total["tax_rate_details"] == tax["tax_rate_details"] and total["tax_behavior"] == tax["tax_behavior"]:
            total["amount"] += tax["amount"]
            total["taxable_amount"] += tax["taxable_amount"]
            return
    totals.append(dict(tax))


def list_lines(call: Call) -> Json:
    """An invoice's lines, in the order in which they were added."""
    invoice = call.world.store.get(call.ids[0], kind="invoice")
    asked = Call(call.world, call.ids, {**call.params, "invoice": invoice["id"]}, call.expand)
    return list_objects(
        asked,
        "line_item",
        url=f"/v1/invoices/{invoice['id']}/lines",
        filters={"invoice": "parent"},
        oldest_first=True,
    )
