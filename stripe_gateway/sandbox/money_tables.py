"""The lists of what moves money after an invoice is final, with buttons for what banks do."""

from __future__ import annotations

from .errors import Json
from .tables import Button, Cell, Table, link_cell, listed, moment, money_cell, older_page, status_cell
from .world import World


def _act(text: str, noun: str, object_id: str, verb: str, **fields: str) -> Button:
    return Button(text, f"/act/{noun}/{object_id}/{verb}", tuple(fields.items()))


def _buttons(*buttons: Button) -> Cell:
    return Cell("" if buttons else "–", buttons=buttons)


def _acting(rows: list[list[Cell]]) -> list[list[Cell]]:
    """The rows with their buttons, which stand last, behind the first three cells: in sight without scrolling."""
    return [[*row[:3], row[-1], *row[3:-1]] for row in rows]


def _entry(entry_id: str | None) -> Cell:
    return link_cell(entry_id) if entry_id else Cell("–")


def _refund_buttons(refund: Json) -> list[Button]:
    waits = refund["status"] in ("pending", "requires_action")
    buttons = []
    if waits:
        buttons.append(_act("Succeeds", "refunds", refund["id"], "settle"))
    if waits or refund["status"] == "succeeded":
        buttons.append(_act("Fails", "refunds", refund["id"], "fail"))
    if waits:
        buttons.append(_act("Cancel", "refunds", refund["id"], "cancel"))
    return buttons


def refunds(world: World, *, before: int | None, limit: int) -> Table:
    found, more = listed(world, "refund", before, limit)
    rows = [
        [
            link_cell(r["id"]),
            status_cell(r["status"]),
            money_cell(r["amount"], r["currency"]),
            link_cell(r["charge"]),
            Cell((r.get("failure_reason") or r["reason"] or "–").replace("_", " ")),
            _entry(r["balance_transaction"]),
            Cell(moment(r["created"])),
            _buttons(*_refund_buttons(r)),
        ]
        for _, r in found
    ]
    columns = ["Refund", "Status", "Amount", "The bank", "Charge", "Reason", "Balance transaction", "Created (UTC)"]
    return Table(
        "Refunds", columns, _acting(rows), "Nothing was refunded yet.", older_page("refunds", found, more), stacked=True
    )


# What a bank can say next: the label and the status, for each status that a dispute is in.
_WORDS = {
    "needs_response": (("Under review", "under_review"), ("Won", "won"), ("Lost", "lost")),
    "under_review": (("Won", "won"), ("Lost", "lost")),
    "warning_needs_response": (
        ("Under review", "under_review"), ("Closed", "warning_closed"), ("Escalate", "needs_response"),
    ),
    "warning_under_review": (("Closed", "warning_closed"), ("Escalate", "needs_response")),
    "lost": (("Won after all", "won"),),
}  # fmt: skip


def disputes(world: World, *, before: int | None, limit: int) -> Table:
    found, more = listed(world, "dispute", before, limit)
    rows = [
        [
            link_cell(d["id"]),
            status_cell(d["status"]),
            money_cell(d["amount"], d["currency"]),
            Cell(d["reason"].replace("_", " ")),
            link_cell(d["charge"]),
            Cell(moment(d["evidence_details"]["due_by"])),
            Cell(moment(d["created"])),
            _buttons(
                *(_act(text, "disputes", d["id"], "move", status=word) for text, word in _WORDS.get(d["status"], ()))
            ),
        ]
        for _, d in found
    ]
    columns = ["Dispute", "Status", "Amount", "The bank", "Reason", "Charge", "Answer by (UTC)", "Opened (UTC)"]
    return Table(
        "Disputes",
        columns,
        _acting(rows),
        "Nothing was disputed yet.",
        older_page("disputes", found, more),
        stacked=True,
    )


def credit_notes(world: World, *, before: int | None, limit: int) -> Table:
    found, more = listed(world, "credit_note", before, limit)
    rows = [
        [
            link_cell(n["id"]),
            Cell(n["number"]),
            status_cell(n["status"]),
            money_cell(n["total"], n["currency"]),
            money_cell(n["pre_payment_amount"], n["currency"]),
            money_cell(n["post_payment_amount"], n["currency"]),
            link_cell(n["invoice"]),
            Cell(moment(n["created"])),
        ]
        for _, n in found
    ]
    columns = ["Credit note", "Number", "Status", "Total", "Before payment", "After payment", "Invoice", "Issued (UTC)"]
    return Table(
        "Credit notes", columns, rows, "No credit note was issued yet.", older_page("credit_notes", found, more)
    )


def payouts(world: World, *, before: int | None, limit: int) -> Table:
    found, more = listed(world, "payout", before, limit)
    rows = [
        [
            link_cell(p["id"]),
            status_cell(p["status"]),
            money_cell(p["amount"], p["currency"]),
            Cell("automatic" if p["automatic"] else "manual"),
            Cell(p["reconciliation_status"].replace("_", " ")),
            Cell(moment(p["arrival_date"])),
            Cell((p["failure_code"] or "–").replace("_", " ")),
            _buttons(
                *(
                    [_act("Fails", "payouts", p["id"], "fail")]
                    if p["status"] in ("pending", "in_transit", "paid")
                    else []
                )
            ),
        ]
        for _, p in found
    ]
    columns = ["Payout", "Status", "Amount", "The bank", "Kind", "Reconciliation", "Arrival (UTC)", "Failure"]
    buttons = (Button("Pay out what is available", "/act/payouts", ()),)
    empty = "Nothing was paid out yet."
    older = older_page("payouts", found, more)
    return Table("Payouts", columns, _acting(rows), empty, older, buttons=buttons, stacked=True)


LISTS = {"refunds": refunds, "credit_notes": credit_notes, "disputes": disputes, "payouts": payouts}
