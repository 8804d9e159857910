"""What we ask of Stripe, as request bodies, and the exact text in which they are frozen."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from invoicing.provider import CollectionOrder, OrderLine
from invoicing.receivables import DAYS_UNTIL_DUE
from stripe_gateway import taxes
from stripe_gateway.amounts import to_minor
from stripe_gateway.errors import GatewayError

Json = dict[str, Any]

MAX_LINES = 250  # of one invoice. Source: https://docs.stripe.com/changelog (2016-02-22)
MAX_DESCRIPTION = 500  # characters; Stripe takes more, but its page is not made for it
MAX_NAME = 256
MAX_FOOTER = 5000  # characters. Source: https://docs.stripe.com/api/invoices/create#create_invoice-footer
OTHERS = "Other items"


class OrderDoesNotAddUp(GatewayError):
    """The lines of this order, with their taxes, do not add up to its amount due. Nothing was written."""

    code = "order_does_not_add_up"


@dataclass(frozen=True, slots=True)
class Intent:
    """Everything that is known about an invoice's requests when it becomes final; what is missing is its customer's id
    at Stripe, and with it how it is collected."""

    amount_due_minor: int
    lines_sha: str
    text: str


def frozen(body: Mapping[str, Any]) -> str:
    """One exact text for a body: the same body always gives the same text."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def intent_of(order: CollectionOrder) -> Intent:
    """What is sent for this order, frozen.

    Raises:
        OrderDoesNotAddUp: the lines with their taxes are not the amount due.
        AmountNotExpressible: an amount is too fine for Stripe.
    """
    due = to_minor(order.amount_due, order.currency)
    lines = lines_of(order.lines, order.currency)
    total = sum(line["amount"] for line in lines) + taxes.on_top_of(lines)
    if total != due:
        raise OrderDoesNotAddUp(
            f"The lines of invoice {order.number}, with tax, add up to {total}, its amount due is {due} (minor units). "
            "Nothing was written."
        )
    sha = hashlib.sha256(frozen({"lines": lines}).encode()).hexdigest()[:32]
    create = {
        "currency": order.currency.lower(),
        "number": order.number,
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "description": order.title or f"Usage from {_day(order.period_start)} to {_day(order.period_end)}",
        "metadata": {
            "ledger_invoice_id": str(order.invoice_id),
            "ledger_customer_id": str(order.customer_id),
            "cycle": order.period_start.isoformat(),
            "ledger_total": str(due),
            "lines_sha": sha,
        },
    }
    if order.legal_notes:
        create["footer"] = "\n".join(order.legal_notes)[:MAX_FOOTER]
    intent = {
        "collection_method": order.collection_method,
        "create": create,
        "lines": {"lines": lines, "invoice_metadata": {"lines_added": sha}},
        "finalize": {"auto_advance": True},
    }
    return Intent(due, sha, frozen(intent))


def lines_of(lines: Sequence[OrderLine], currency: str) -> list[Json]:
    """The lines as Stripe takes them, at most 250: beyond that grouped by item, period and taxes; our page keeps all.

    Lines of 0 are left out: they would fill the invoice with what nobody pays for. Each line carries its own taxes,
    and a group's are its lines' added up.
    """
    shown = [_line(line, currency) for line in lines]
    shown = [line for line in shown if taxes.is_worth_showing(line)]
    if len(shown) > MAX_LINES:
        shown = _grouped(lines, currency)
    if len(shown) > MAX_LINES:
        shown.sort(key=lambda line: (-abs(line["amount"]), line["description"]))
        shown = _with_others(shown)
    return shown


def _with_others(shown: Sequence[Json]) -> list[Json]:
    """The first of these lines, and the rest as one: or as several, if they bear more taxes than one line can."""
    kept = MAX_LINES - 1
    while kept + len(bundles := taxes.bundled(shown[kept:])) > MAX_LINES:
        kept = MAX_LINES - len(bundles)
    return [*shown[:kept], *(_sum_of(bundle, OTHERS) for bundle in bundles)]


def _line(line: OrderLine, currency: str) -> Json:
    body: Json = {
        "amount": to_minor(line.amount, currency),
        "description": line.description[:MAX_DESCRIPTION],
        "period": {"start": _unix(line.period_start), "end": _unix(line.period_end)},
        "metadata": {"ledger_line_id": str(line.line_id)},
    }
    return _taxed(body, taxes.tax_amounts_of(line, currency))


def _taxed(body: Json, tax_amounts: list[Json]) -> Json:
    return {**body, "tax_amounts": tax_amounts} if tax_amounts else body


def _grouped(lines: Sequence[OrderLine], currency: str) -> list[Json]:
    groups: dict[tuple[object, ...], list[OrderLine]] = {}
    for line in lines:
        key = (line.item, line.period_start, line.period_end, line.amount < 0, taxes.rates_of(line))
        groups.setdefault(key, []).append(line)
    shown = []
    for members in groups.values():
        if len(members) == 1:
            shown.append(_line(members[0], currency))
        else:
            described = {member.description for member in members}
            name = members[0].item or (members[0].description if len(described) == 1 else OTHERS)
            shown.append(_sum_of([_line(member, currency) for member in members], name))
    return [line for line in shown if taxes.is_worth_showing(line)]


def _sum_of(lines: Sequence[Json], name: str) -> Json:
    count = sum(int(line["metadata"].get("ledger_lines", 1)) for line in lines)
    body: Json = {
        "amount": sum(line["amount"] for line in lines),
        "description": f"{name} ({count} lines)"[:MAX_DESCRIPTION],
        "period": {
            "start": min(line["period"]["start"] for line in lines),
            "end": max(line["period"]["end"] for line in lines),
        },
        "metadata": {"ledger_lines": str(count)},
    }
    return _taxed(body, taxes.summed(lines))


def create_body(intent: str, *, customer: str, payment_method: str | None) -> Json:
    """The body of `invoices.create`, complete: who without a payment method cannot be charged gets the invoice sent."""
    parts = json.loads(intent)
    body: Json = {**parts["create"], "customer": customer}
    if parts["collection_method"] == "automatic" and payment_method is not None:
        body["collection_method"] = "charge_automatically"
    else:
        body["collection_method"] = "send_invoice"
        body["days_until_due"] = DAYS_UNTIL_DUE
    return body


def part_of(intent: str, step: str) -> Json:
    """The body of the step `lines` or `finalize`."""
    body: Json = json.loads(intent)[step]
    return body


def customer_body(*, customer_id: UUID, external_id: str, name: str, email: str | None) -> Json:
    """The body of `customers.create`."""
    body: Json = {
        "name": name[:MAX_NAME],
        "metadata": {"ledger_customer_id": str(customer_id), "external_id": external_id},
    }
    if email is not None:
        body["email"] = email
    return body


def invoice_key(invoice_id: UUID, step: str, generation: int) -> str:
    """The idempotency key of one step of one invoice. A new generation is a new request on purpose."""
    return f"inv:{invoice_id}:{step}:g{generation}"


def customer_key(customer_id: UUID, generation: int) -> str:
    return f"cust:{customer_id}:create:g{generation}"


def _unix(instant: datetime) -> int:
    return int(instant.timestamp())


def _day(instant: datetime) -> str:
    return instant.date().isoformat()
