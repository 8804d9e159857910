"""How stored objects look in an answer: embedded lists, fields that depend on the clock, and `expand[]`."""

from __future__ import annotations

from typing import Any

from .errors import Json, invalid
from .world import World

# An invoice shows its first lines; the rest is behind `has_more` at its lines' own address.
EMBEDDED_LINES = 10
# Fields that hold an id and may be replaced by the object behind it.
_EXPANDABLE = frozenset(
    [
        "balance_transaction",
        "charge",
        "credit_note",
        "customer",
        "customer_balance_transaction",
        "default_payment_method",
        "failure_balance_transaction",
        "invoice",
        "latest_charge",
        "payment_intent",
        "payment_method",
        "refund",
        "source",
        "tax_rate",
    ]
)
# Fields that an object has only once there is something to show in them.
_SOMETIMES = frozenset([("refund", "failure_balance_transaction")])
_PAYS = ("payment_intent", "payment_record")
MAX_EXPAND_DEPTH = 4


def view(world: World, obj: Json) -> Json:
    """The object as the API shows it, without expansions."""
    kind = obj.get("object")
    if kind == "invoice" and not obj.get("deleted"):
        pages = ("hosted_invoice_url", "invoice_pdf")
        addresses = {name: world.public_url + obj[name] for name in pages if obj[name] is not None}
        return {**obj, **addresses, "lines": _first_lines(world, obj["id"])}
    if kind == "credit_note":
        lines = obj["lines"]
        shown = {**lines, "data": lines["data"][:EMBEDDED_LINES], "has_more": len(lines["data"]) > EMBEDDED_LINES}
        return {**obj, "lines": shown, "pdf": world.public_url + obj["pdf"]}
    if kind == "dispute":
        entries = [world.store.get(entry, kind="balance_transaction") for entry in obj["balance_transactions"]]
        return {**obj, "balance_transactions": [view(world, entry) for entry in entries]}
    if kind == "balance_transaction":
        available = obj["available_on"] <= world.clock.stamp()
        return {**obj, "status": "available" if available else "pending"}
    return dict(obj)


def _first_lines(world: World, invoice_id: str) -> Json:
    lines = world.store.where("line_item", "parent = ?", invoice_id, limit=EMBEDDED_LINES + 1, newest_first=False)
    return {
        "object": "list",
        "data": lines[:EMBEDDED_LINES],
        "has_more": len(lines) > EMBEDDED_LINES,
        "url": f"/v1/invoices/{invoice_id}/lines",
    }


def expand(world: World, answer: Json, paths: list[str]) -> Json:
    """Replace ids by objects along each path, such as ``payments`` or ``data.customer``.

    Raises:
        ApiError: 400, for a path that leads nowhere or too deep.
    """
    for path in paths:
        steps = path.split(".")
        if len(steps) - (steps[0] == "data") > MAX_EXPAND_DEPTH:
            raise invalid(
                f"You cannot expand more than {MAX_EXPAND_DEPTH} levels of a property. Property: {path}", param="expand"
            )
        _expand(world, answer, steps, path)
    return answer


def _expand(world: World, node: Any, steps: list[str], path: str) -> None:
    if isinstance(node, list):
        for item in node:
            _expand(world, item, steps, path)
        return
    step, rest = steps[0], steps[1:]
    if not isinstance(node, dict):
        raise _cannot(path)
    if step not in node and (embedded := _embedded(world, node, step)) is not None:
        node[step] = embedded
    if (node.get("object"), step) in _SOMETIMES and step not in node:
        return
    if step not in node and step in _PAYS and node.get("type") in _PAYS:
        return  # an invoice payment has a payment intent, or a payment record
    if step not in node:
        raise _cannot(path)
    value = node[step]
    if isinstance(value, str):
        if step not in _EXPANDABLE:
            raise _cannot(path)
        row = world.store.row(value, deleted=True)
        value = node[step] = view(world, row.data) if row is not None else value
    elif not rest and value is not None and not isinstance(value, dict):
        raise _cannot(path)
    if rest and value is not None:
        _expand(world, value, rest, path)


def _embedded(world: World, node: Json, step: str) -> Json | None:
    """The lists that Stripe shows only when asked."""
    if node.get("object") == "invoice" and step == "payments":
        kind, url = "invoice_payment", f"/v1/invoice_payments?invoice={node['id']}"
    elif node.get("object") == "charge" and step == "refunds":
        kind, url = "refund", f"/v1/charges/{node['id']}/refunds"
    else:
        return None
    data = world.store.where(kind, "parent = ?", node["id"], limit=10)
    return {"object": "list", "data": data, "has_more": False, "url": url}


def _cannot(path: str) -> Exception:
    return invalid(f"This property cannot be expanded ({path}).", param="expand")
