"""Credit notes: less to pay on a finalized invoice, or money back on one that was paid.

A credit note first lowers what remains to be paid. What is beyond that must be given back in full, by refunds, to the
customer's balance or outside of Stripe. Source: https://docs.stripe.com/api/credit_notes/create.
"""

from __future__ import annotations

from .collection import mark_paid
from .credit_note_lines import custom_line, lines_of, taxes_of
from .customer_balance import change_balance
from .errors import Json, invalid, refused
from .events import emit
from .ids import new_id
from .lists import list_objects
from .params import merged_metadata
from .payments import adjust_payment, cancel_payment, paid_charges
from .refunds import make_refund
from .world import Call, World


def create_credit_note(call: Call) -> Json:
    """Issue a credit note and do everything that it says, or refuse all of it."""
    world = call.world
    invoice = world.store.get(call.params["invoice"], kind="invoice", param="invoice")
    note = _planned(world, invoice, call.params)
    links = _links(world, invoice, call.params.get("refunds") or [])
    _check_excess(note, call.params, links)
    if call.params.get("refund_amount"):
        refund = _refund(world, invoice, call.params["refund_amount"], call.params.get("reason"))
        links.append(_link(refund["id"], refund["amount"]))
    note["refunds"] = links
    if call.params.get("credit_amount"):
        given = change_balance(
            world, invoice["customer"], -call.params["credit_amount"], kind="credit_note",
            currency=invoice["currency"], invoice=invoice["id"], credit_note=note["id"],
        )  # fmt: skip
        note["customer_balance_transaction"] = given["id"]
    world.store.insert(note)
    emit(world, "credit_note.created", note)
    _apply(world, invoice, note)
    return note


def preview_credit_note(call: Call) -> Json:
    """The credit note that these parameters would give; nothing is kept and no money moves."""
    world = call.world
    invoice = world.store.get(call.params["invoice"], kind="invoice", param="invoice")
    note = _planned(world, invoice, call.params)
    note["refunds"] = _links(world, invoice, call.params.get("refunds") or [])
    _check_excess(note, call.params, note["refunds"])
    return note


def _planned(world: World, invoice: Json, params: Json) -> Json:
    """The credit note before anything is given back."""
    if invoice["status"] not in ("open", "paid"):
        raise refused(
            f"You can only create a credit note for an open or paid invoice; this one is {invoice['status']}.",
            param="invoice",
        )
    if ("amount" in params) == bool(params.get("lines")):
        raise invalid("You must pass exactly one of `amount` and `lines`.", param="amount")
    lines = lines_of(world, invoice, params["lines"]) if params.get("lines") else [custom_line(params["amount"])]
    subtotal, taxes = sum(line["amount"] for line in lines), taxes_of(lines)
    exclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    total = subtotal + exclusive
    before = invoice["pre_payment_credit_notes_amount"] + invoice["post_payment_credit_notes_amount"]
    if total <= 0:
        raise refused("The credit note's total must be greater than 0.", param="amount")
    if total > invoice["total"] - before:
        raise refused(
            f"The credit note's amount ({total}) is more than can still be credited on this invoice"
            f" ({invoice['total'] - before}).",
            param="amount",
        )
    now = world.clock.stamp()
    note_id = new_id("cn")
    pre_payment = min(total, invoice["amount_remaining"]) if invoice["status"] == "open" else 0
    post_payment = total - pre_payment
    return {
        "id": note_id,
        "object": "credit_note",
        "amount": total,
        "amount_shipping": 0,
        "created": now,
        "currency": invoice["currency"],
        "customer": invoice["customer"],
        "customer_account": None,
        "customer_balance_transaction": None,
        "discount_amount": 0,
        "discount_amounts": [],
        "effective_at": params.get("effective_at", now),
        "invoice": invoice["id"],
        "lines": {"object": "list", "data": lines, "has_more": False, "url": f"/v1/credit_notes/{note_id}/lines"},
        "livemode": False,
        "memo": params.get("memo"),
        "metadata": merged_metadata({}, params.get("metadata", {})),
        "number": f"{invoice['number']}-CN-{world.store.count('credit_note', 'parent = ?', invoice['id']) + 1:02d}",
        "out_of_band_amount": params.get("out_of_band_amount"),
        "pdf": f"/credit_notes/{note_id}/pdf",
        "post_payment_amount": post_payment,
        "pre_payment_amount": pre_payment,
        "pretax_credit_amounts": [],
        "reason": params.get("reason"),
        "refunds": [],
        "shipping_cost": None,
        "status": "issued",
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - inclusive,
        "total": total,
        "total_excluding_tax": total - inclusive - exclusive,
        "total_taxes": taxes,
        "type": "mixed" if pre_payment and post_payment else "pre_payment" if pre_payment else "post_payment",
        "voided_at": None,
    }


def _link(refund_id: str, amount: int) -> Json:
    return {"amount_refunded": amount, "payment_record_refund": None, "refund": refund_id, "type": "refund"}


def _links(world: World, invoice: Json, asked: list[Json]) -> list[Json]:
    """The refunds that were there before and now belong to this credit note."""
    charges = {charge["id"] for charge in paid_charges(world, invoice)}
    notes = world.store.where("credit_note", "parent = ? AND status = 'issued'", invoice["id"])
    links: list[Json] = []
    for index, item in enumerate(asked):
        name = f"refunds[{index}][refund]"
        refund = world.store.get(item["refund"], kind="refund", param=name)
        if refund["charge"] not in charges:
            raise refused(f"Refund {refund['id']} is not for a payment of invoice {invoice['id']}.", param=name)
        if refund["status"] in ("failed", "canceled"):
            raise refused(f"Refund {refund['id']} is {refund['status']}.", param=name)
        linked = [*links, *(link for other in notes for link in other["refunds"])]
        left = refund["amount"] - sum(link["amount_refunded"] for link in linked if link["refund"] == refund["id"])
        amount = item.get("amount_refunded", left)
        if not 0 < amount <= left:
            raise refused(
                f"Only {left} of refund {refund['id']} can still be linked to a credit note.",
                param=f"refunds[{index}][amount_refunded]",
            )
        links.append(_link(refund["id"], amount))
    return links


def _check_excess(note: Json, params: Json, links: list[Json]) -> None:
    """What is beyond the amount that remained must be given back exactly."""
    given = sum(link["amount_refunded"] for link in links)
    given += sum(params.get(name) or 0 for name in ("refund_amount", "credit_amount", "out_of_band_amount"))
    if given != note["post_payment_amount"]:
        raise refused(
            f"The sum of refunds, credit_amount and out_of_band_amount ({given}) must equal the credit note's "
            f"post_payment_amount ({note['post_payment_amount']})."
        )


def _refund(world: World, invoice: Json, amount: int, reason: str | None) -> Json:
    """A new refund of one of the invoice's charges, the first that has enough left."""
    charges = paid_charges(world, invoice)
    for charge in charges:
        if charge["amount_captured"] - charge["amount_refunded"] >= amount:
            known = reason if reason in ("duplicate", "fraudulent") else None
            return make_refund(world, charge, amount=amount, reason=known)
    raise refused(
        f"No charge of invoice {invoice['id']} has {amount} left to refund: use `refunds`, credit_amount or "
        "out_of_band_amount.",
        param="refund_amount",
    )


def _apply(world: World, invoice: Json, note: Json, *, sign: int = 1) -> None:
    """Let the invoice show the credit note, or (sign -1) show it no longer; paid is what has nothing left to pay."""
    changed = ("amount_due", "amount_remaining", "post_payment_credit_notes_amount", "pre_payment_credit_notes_amount")
    before = {name: invoice[name] for name in changed}
    for name in ("amount_due", "amount_remaining"):
        invoice[name] -= sign * note["pre_payment_amount"]
    invoice["pre_payment_credit_notes_amount"] += sign * note["pre_payment_amount"]
    invoice["post_payment_credit_notes_amount"] += sign * note["post_payment_amount"]
    previous = {name: value for name, value in before.items() if invoice[name] != value}
    if invoice["status"] == "open" and invoice["amount_remaining"] == 0:
        cancel_payment(world, invoice, reason="automatic")
        mark_paid(world, invoice, previous=previous)
        return
    adjust_payment(world, invoice)
    world.store.update(invoice)
    emit(world, "invoice.updated", invoice, previous=previous)


def void_credit_note(call: Call) -> Json:
    """Only while its invoice is still open: what it took off is due again.

    Source: https://docs.stripe.com/invoicing/dashboard/credit-notes#void-credit-notes.
    """
    world = call.world
    note = world.store.get(call.ids[0], kind="credit_note")
    invoice = world.store.get(note["invoice"], kind="invoice")
    if note["status"] != "issued":
        raise refused(f"Credit note {note['id']} is already void.")
    if invoice["status"] != "open":
        raise refused(f"You can only void a credit note of an open invoice; this one is {invoice['status']}.")
    note.update(status="void", voided_at=world.clock.stamp())
    world.store.update(note)
    emit(world, "credit_note.voided", note)
    _apply(world, invoice, note, sign=-1)
    return note


def update_credit_note(call: Call) -> Json:
    params, world = call.params, call.world
    note = world.store.get(call.ids[0], kind="credit_note")
    before = {"memo": note["memo"], "metadata": note["metadata"]}
    if "memo" in params:
        note["memo"] = params["memo"]
    if "metadata" in params:
        note["metadata"] = merged_metadata(note["metadata"], params["metadata"])
    previous = {name: value for name, value in before.items() if note[name] != value}
    if previous:
        world.store.update(note)
        emit(world, "credit_note.updated", note, previous=previous)
    return note


def retrieve_credit_note(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="credit_note")


def list_credit_notes(call: Call) -> Json:
    filters = {"customer": "customer", "invoice": "parent"}
    return list_objects(call, "credit_note", url="/v1/credit_notes", filters=filters)


def list_lines(call: Call) -> Json:
    """All lines of a credit note, in their order."""
    note = call.world.store.get(call.ids[0], kind="credit_note")
    lines = note["lines"]["data"]
    ids = [line["id"] for line in lines]
    after = call.params.get("starting_after")
    if after is not None and after not in ids:
        raise invalid(f"No such credit note line item: '{after}'", code="resource_missing", param="starting_after")
    start = ids.index(after) + 1 if after is not None else 0
    page = lines[start : start + call.params.get("limit", 10)]
    return {**note["lines"], "data": page, "has_more": start + len(page) < len(lines)}
