"""What the state pages list, as plain rows of cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .currencies import shown_amount
from .errors import Json
from .events import unpack
from .request_log import read_log
from .world import World

# What a status means for somebody who skims: good, bad, waiting, or none of these.
_TONES = {
    "paid": "good", "succeeded": "good", "delivered": "good", "open": "wait", "pending": "wait", "draft": "",
    "requires_payment_method": "wait", "void": "", "uncollectible": "bad", "failed": "bad", "lost": "bad",
    "canceled": "", "mixed": "wait", "won": "good", "needs_response": "wait", "under_review": "wait",
    "warning_needs_response": "wait", "warning_under_review": "wait", "requires_action": "wait", "in_transit": "wait",
    "processing": "wait",
}  # fmt: skip


@dataclass(frozen=True)
class Button:
    """A button: its text, where pressing it leads, and the fields that it sends."""

    text: str
    address: str
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cell:
    """One cell: its text, where it leads, its tone, whether it is a figure or an identifier, and its buttons."""

    text: str
    href: str | None = None
    tone: str = ""
    kind: str = ""  # "figure", "code" or ""
    buttons: tuple[Button, ...] = ()


@dataclass(frozen=True)
class Table:
    """A titled list; `older` is the address of the next page, None on the last."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    empty: str
    older: str | None = None
    buttons: tuple[Button, ...] = ()  # above the list
    stacked: bool = False  # on a phone, each row is a card, so that its buttons are in sight


def moment(stamp: float | None) -> str:
    """A unix second for people, in UTC; a dash for none."""
    if stamp is None:
        return "–"
    return datetime.fromtimestamp(stamp, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def link_cell(object_id: str) -> Cell:
    return Cell(object_id, f"/objects/{object_id}", kind="code")


def status_cell(status: str) -> Cell:
    return Cell(status.replace("_", " "), tone=_TONES.get(status, ""))


def money_cell(amount: int, currency: str) -> Cell:
    return Cell(shown_amount(amount, currency), kind="figure")


def listed(world: World, kind: str, before: int | None, limit: int) -> tuple[list[tuple[int, Json]], bool]:
    found = world.store.rows(
        "SELECT seq, data FROM objects WHERE kind = ? AND deleted = 0 AND (? IS NULL OR seq < ?)"
        " ORDER BY seq DESC LIMIT ?",
        kind, before, before, limit + 1,
    )  # fmt: skip
    return [(row[0], json.loads(row[1])) for row in found[:limit]], len(found) > limit


def older_page(page: str, rows: list[tuple[int, Any]], more: bool) -> str | None:
    return f"/{page}?before={rows[-1][0]}" if more and rows else None


def customers(world: World, *, before: int | None, limit: int) -> Table:
    found, more = listed(world, "customer", before, limit)
    rows = [
        [
            link_cell(c["id"]),
            Cell(c["name"] or c["email"] or "–"),
            Cell(c["invoice_settings"]["default_payment_method"] or "none", kind="code"),
            money_cell(c["balance"], c["currency"] or "usd"),
            Cell(moment(c["created"])),
        ]
        for _, c in found
    ]
    columns = ["Customer", "Name", "Default payment method", "Balance", "Created (UTC)"]
    return Table("Customers", columns, rows, "No customer was created yet.", older_page("customers", found, more))


def invoices(world: World, *, before: int | None, limit: int) -> Table:
    found, more = listed(world, "invoice", before, limit)
    rows = [
        [
            link_cell(i["id"]),
            Cell(i["number"] or "–"),
            status_cell(i["status"]),
            money_cell(i["total"], i["currency"]),
            money_cell(i["amount_remaining"], i["currency"]),
            Cell(i["customer_name"] or i["customer"], f"/objects/{i['customer']}"),
            Cell("Hosted page", i["hosted_invoice_url"]) if i["hosted_invoice_url"] else Cell("–"),
            Cell(moment(i["next_payment_attempt"])),
        ]
        for _, i in found
    ]
    columns = ["Invoice", "Number", "Status", "Total", "Remaining", "Customer", "Page", "Next attempt (UTC)"]
    return Table("Invoices", columns, rows, "No invoice was created yet.", older_page("invoices", found, more))


def _charge_buttons(shown: Json) -> tuple[Button, ...]:
    """What the bank can do with a charge next."""
    charge = ("charge", shown["id"])
    debit = f"/act/debits/{shown['id']}"
    if shown["status"] == "pending":
        return Button("Pays", f"{debit}/pay"), Button("Does not pay", f"{debit}/fail")
    if shown["status"] != "succeeded":
        return ()
    if shown["payment_method_details"]["type"] != "card":
        return () if shown["disputed"] else (Button("Returns it", f"{debit}/return"),)
    return (
        Button("Dispute", "/act/disputes", (charge,)),
        Button("Ask", "/act/disputes", (charge, ("inquiry", "true"))),
        Button("Suspect fraud", "/act/early_fraud_warnings", (charge,)),
    )


def _buttons_cell(buttons: tuple[Button, ...]) -> Cell:
    return Cell("" if buttons else "–", buttons=buttons)


def _method_of(details: Json) -> str:
    kind = details["type"]
    return f"{details[kind].get('brand') or kind.replace('_', ' ')} {details[kind]['last4']}"


def payments(world: World, *, before: int | None, limit: int) -> Table:
    found, more = listed(world, "charge", before, limit)
    rows = [
        [
            link_cell(c["id"]),
            status_cell(c["status"]),
            money_cell(c["amount"], c["currency"]),
            money_cell(c["amount_refunded"], c["currency"]),
            _buttons_cell(_charge_buttons(c)),
            Cell(_method_of(c["payment_method_details"])),
            Cell(c["failure_code"] or "–"),
            link_cell(c["balance_transaction"])
            if c["balance_transaction"]
            else Cell("–" if c["status"] == "failed" else "not yet"),
            Cell(moment(c["created"])),
        ]
        for _, c in found
    ]
    columns = [
        "Charge", "Status", "Amount", "Refunded", "The bank", "Method", "Failure", "Balance transaction",
        "Created (UTC)",
    ]  # fmt: skip
    older = older_page("payments", found, more)
    return Table("Payments", columns, rows, "Nothing was charged yet.", older, stacked=True)


def events(world: World, *, before: int | None, limit: int) -> Table:
    found = world.store.rows(
        "SELECT seq, id, type, created, object_id,"
        " (SELECT group_concat(DISTINCT state) FROM deliveries d WHERE d.event_id = e.id),"
        " (SELECT max(attempts) FROM deliveries d WHERE d.event_id = e.id),"
        " (SELECT last_error FROM deliveries d WHERE d.event_id = e.id AND last_error IS NOT NULL LIMIT 1)"
        " FROM events e WHERE (? IS NULL OR seq < ?) ORDER BY seq DESC LIMIT ?",
        before, before, limit + 1,
    )  # fmt: skip
    rows = [
        [
            Cell(event_id, f"/events/{event_id}", kind="code"),
            Cell(kind),
            status_cell("mixed" if states and "," in states else states or "nobody listens"),
            Cell(str(attempts or 0), kind="figure"),
            Cell(error or "–"),
            link_cell(object_id),
            Cell(moment(created)),
        ]
        for _, event_id, kind, created, object_id, states, attempts, error in found[:limit]
    ]
    columns = ["Event", "Type", "Delivery", "Attempts", "Last error", "About", "Created (UTC)"]
    older = older_page("events", [(row[0], None) for row in found[:limit]], len(found) > limit)
    return Table("Events", columns, rows, "Nothing has happened yet.", older)


def requests(world: World, *, before: int | None, limit: int) -> Table:
    lines = read_log(world, limit=limit + 1, after=0, endpoint=None, newest_first=True, before=before)
    rows = [
        [
            Cell(line["endpoint"] or line["path"]),
            Cell(f"{line['method']} {line['path']}", kind="code"),
            Cell(str(line["status"] or "cut"), tone="good" if 200 <= line["status"] < 300 else "bad"),
            Cell(line["error_code"] or "–"),
            Cell("replayed" if line["replayed"] else line["fault"] or "–"),
            Cell(line["idempotency_key"] or "–", kind="code"),
            Cell(moment(line["at"])),
        ]
        for line in lines[:limit]
    ]
    columns = ["Endpoint", "Request", "Status", "Error", "Remark", "Idempotency key", "At (UTC)"]
    older = older_page("requests", [(line["seq"], None) for line in lines[:limit]], len(lines) > limit)
    return Table("Requests", columns, rows, "No request has come yet.", older)


def deliveries_of(world: World, event_id: str) -> Table:
    found = world.store.rows(
        "SELECT endpoint_id, state, attempts, last_status, last_error, delivered_at FROM deliveries WHERE event_id = ?"
        " ORDER BY seq",
        event_id,
    )
    rows = [
        [
            Cell(endpoint, kind="code"),
            status_cell(state),
            Cell(str(attempts), kind="figure"),
            Cell(error or str(status or "–")),
            Cell(moment(at)),
        ]
        for endpoint, state, attempts, status, error, at in found
    ]
    return Table(
        "Deliveries", ["Endpoint", "State", "Attempts", "Last answer", "Delivered (UTC)"], rows, "Nobody listens."
    )


def events_of(world: World, object_id: str) -> Table:
    found = world.store.rows("SELECT body FROM events WHERE object_id = ? ORDER BY seq", object_id)
    bodies = [unpack(row[0]) for row in found]
    rows = [
        [Cell(b["id"], f"/events/{b['id']}", kind="code"), Cell(b["type"]), Cell(moment(b["created"]))] for b in bodies
    ]
    return Table("Its events", ["Event", "Type", "Created (UTC)"], rows, "None.")


LISTS: dict[str, Callable[..., Table]] = {
    "invoices": invoices,
    "customers": customers,
    "payments": payments,
    "events": events,
    "requests": requests,
}
