"""Invoices up to finalization: drafts, their numbers and totals, and the step that makes them binding."""

from __future__ import annotations

from datetime import UTC, datetime

from .collection import settle_without_charge, start_collection
from .currencies import minimum_charge
from .customer_balance import change_balance
from .errors import ApiError, Json, invalid, missing, refused
from .events import emit
from .finalization_failures import fail_once
from .ids import new_id, new_token
from .lists import list_objects
from .params import merged_metadata
from .world import Call, World

AUTO_FINALIZE_S = 3600  # a draft with auto_advance is finalized about an hour after its creation
# Money and presentation are frozen by finalization; these stay open.
_OPEN_AFTER_FINALIZATION = frozenset(
    {"metadata", "auto_advance", "default_payment_method", "payment_settings", "due_date"}
)
_PLAIN = (
    "auto_advance",
    "collection_method",
    "custom_fields",
    "default_payment_method",
    "description",
    "due_date",
    "effective_at",
    "footer",
    "number",
    "statement_descriptor",
)


def create_invoice(call: Call) -> Json:
    """A draft. Pending invoice items are left out by default, as at Stripe; the sandbox has none."""
    params, world = call.params, call.world
    if not params.get("customer"):
        raise invalid("Missing required param: customer.", code="parameter_missing", param="customer")
    customer = world.store.get(params["customer"], kind="customer", param="customer")
    method = params.get("collection_method", "charge_automatically")
    _check_due(params, method)
    currency = (params.get("currency") or customer["currency"] or "usd").lower()
    _check_method(world, customer["id"], params.get("default_payment_method"))
    _check_number(world, params.get("number"), None)
    now = world.clock.stamp()
    invoice = {**_blank_invoice(now), "id": new_id("in"), "currency": currency, "customer": customer["id"]}
    for name in ("address", "email", "name", "phone", "shipping", "tax_exempt"):
        invoice[f"customer_{name}"] = customer[name]
    invoice.update({name: params[name] for name in _PLAIN if name in params})
    invoice["metadata"] = merged_metadata({}, params.get("metadata", {}))
    invoice["collection_method"] = method
    if params.get("days_until_due") is not None:
        invoice["due_date"] = now + params["days_until_due"] * 86400
    invoice["starting_balance"] = customer["balance"]
    if invoice["auto_advance"]:
        invoice["automatically_finalizes_at"] = now + AUTO_FINALIZE_S
    retotal(invoice)
    if customer["currency"] is None:
        world.store.update({**customer, "currency": currency})
    world.store.insert(invoice, private={"token": new_token(), "days_until_due": params.get("days_until_due")})
    emit(world, "invoice.created", invoice)
    if invoice["auto_advance"]:
        world.schedule("finalize", invoice["id"], delay_s=AUTO_FINALIZE_S)
    return invoice


def _blank_invoice(now: int) -> Json:
    nothing = dict.fromkeys(
        [
            "account_tax_ids",
            "application",
            "automatically_finalizes_at",
            "confirmation_secret",
            "custom_fields",
            "customer_account",
            "default_payment_method",
            "default_source",
            "description",
            "due_date",
            "effective_at",
            "ending_balance",
            "footer",
            "from_invoice",
            "hosted_invoice_url",
            "invoice_pdf",
            "last_finalization_error",
            "latest_revision",
            "next_payment_attempt",
            "number",
            "on_behalf_of",
            "parent",
            "receipt_number",
            "rendering",
            "shipping_cost",
            "shipping_details",
            "statement_descriptor",
            "test_clock",
            "webhooks_delivered_at",
        ]
    )
    zeros = dict.fromkeys(
        [
            "amount_due",
            "amount_overpaid",
            "amount_paid",
            "amount_paid_off_stripe",
            "amount_remaining",
            "amount_shipping",
            "attempt_count",
            "post_payment_credit_notes_amount",
            "pre_payment_credit_notes_amount",
            "starting_balance",
            "subtotal",
            "total",
        ],
        0,
    )
    return {
        "id": "",
        "object": "invoice",
        "account_country": "US",
        "account_name": "Sandbox",
        **nothing,
        **zeros,
        "attempted": False,
        "auto_advance": False,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "billing_reason": "manual",
        "collection_method": "charge_automatically",
        "created": now,
        "currency": "usd",
        "customer": "",
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "issuer": {"type": "self"},
        "livemode": False,
        "metadata": {},
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": now,
        "period_start": now,
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "subtotal_excluding_tax": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
    }


def retotal(invoice: Json) -> None:
    """Derive the totals of an unfinalized invoice from its subtotal and taxes, all in minor units."""
    exclusive = sum(tax["amount"] for tax in invoice["total_taxes"] if tax["tax_behavior"] == "exclusive")
    inclusive = sum(tax["amount"] for tax in invoice["total_taxes"] if tax["tax_behavior"] == "inclusive")
    invoice["total"] = invoice["subtotal"] + exclusive
    invoice["total_excluding_tax"] = invoice["subtotal"] - inclusive
    invoice["subtotal_excluding_tax"] = invoice["subtotal"] - inclusive
    invoice["amount_due"] = max(0, invoice["total"] + invoice["starting_balance"])
    invoice["amount_remaining"] = invoice["amount_due"]


def _check_due(params: Json, method: str) -> None:
    due = [name for name in ("days_until_due", "due_date") if params.get(name) is not None]
    if method == "send_invoice" and not due:
        raise refused("If invoices are sent, `days_until_due` or `due_date` must be set.", param="days_until_due")
    if method == "charge_automatically" and due:
        raise refused(f"You can only set `{due[0]}` if collection method is 'send_invoice'.", param=due[0])


def _check_method(world: World, customer_id: str, method_id: str | None) -> None:
    if method_id is None:
        return
    row = world.store.row(method_id, kind="payment_method")
    if row is None:
        raise missing("PaymentMethod", method_id, param="default_payment_method")
    if row.data["customer"] != customer_id:
        raise refused(
            f"The payment method {method_id} does not belong to the customer {customer_id}.",
            param="default_payment_method",
        )


def _check_number(world: World, number: str | None, own_id: str | None) -> None:
    if number is None:
        return
    same = world.store.where("invoice", "ref = ?", number)
    if any(other["id"] != own_id for other in same):
        raise refused(
            f"The invoice number '{number}' is already in use. Invoice numbers must be unique.", param="number"
        )


def update_invoice(call: Call) -> Json:
    params, world = call.params, call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    frozen = [name for name in params if name not in _OPEN_AFTER_FINALIZATION]
    if invoice["status"] != "draft" and frozen:
        raise refused(
            f"Finalized invoices can't be updated in this way: {', '.join(frozen)}",
            code="invoice_not_editable",
            param=frozen[0],
        )
    before = dict(invoice)
    _check_method(world, invoice["customer"], params.get("default_payment_method"))
    _check_number(world, params.get("number"), invoice["id"])
    invoice.update({name: params[name] for name in _PLAIN if name in params})
    if "metadata" in params:
        invoice["metadata"] = merged_metadata(invoice["metadata"], params["metadata"])
    if params.get("days_until_due") is not None:
        invoice["due_date"] = invoice["created"] + params["days_until_due"] * 86400
    previous = {name: before[name] for name in before if before[name] != invoice[name]}
    world.store.update(invoice)
    if previous:
        emit(world, "invoice.updated", invoice, previous=previous)
    if params.get("auto_advance") and not before["auto_advance"]:
        if invoice["status"] == "draft":
            world.schedule("finalize", invoice["id"], delay_s=AUTO_FINALIZE_S)
        elif invoice["status"] == "open" and not invoice["attempted"]:
            start_collection(world, invoice)
    return invoice


def delete_invoice(call: Call) -> Json:
    """Only drafts can be deleted; everything later can only be voided."""
    world = call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    if invoice["status"] != "draft":
        raise refused(
            "You can only delete draft invoices. Void a finalized invoice instead.", code="invoice_not_editable"
        )
    world.store.mark_deleted(invoice["id"])
    emit(world, "invoice.deleted", invoice)
    return {"id": invoice["id"], "object": "invoice", "deleted": True}


def retrieve_invoice(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="invoice")


def list_invoices(call: Call) -> Json:
    return list_objects(
        call,
        "invoice",
        url="/v1/invoices",
        filters={
            "customer": "customer",
            "status": "status",
            "collection_method": "json_extract(data, '$.collection_method')",
        },
    )


def finalize_invoice(call: Call) -> Json:
    invoice = call.world.store.get(call.ids[0], kind="invoice")
    if invoice["status"] != "draft":
        raise refused(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.", code="invoice_not_editable"
        )
    return finalize(call.world, invoice, auto_advance=call.params.get("auto_advance"))


def finalize(world: World, invoice: Json, *, auto_advance: bool | None) -> Json:
    """Number the draft, freeze it, apply the customer's balance, and start collecting if it advances itself."""
    customer = world.store.get(invoice["customer"], kind="customer", param="customer")
    now = world.clock.stamp()
    row = world.store.row(invoice["id"])
    private = row.private if row else {}
    fail_once(world, invoice, private)
    invoice["last_finalization_error"] = None
    if auto_advance is not None:
        invoice["auto_advance"] = auto_advance
    invoice["automatically_finalizes_at"] = None
    if invoice["number"] is None:
        invoice["number"] = _next_number(world, customer)
    if private.get("days_until_due") is not None:
        invoice["due_date"] = now + private["days_until_due"] * 86400
    invoice["status"] = "open"
    invoice["status_transitions"]["finalized_at"] = now
    invoice["effective_at"] = invoice["effective_at"] or now
    token = private["token"]
    # Only the path is kept: whoever reads it gets the address under which the sandbox runs by then.
    invoice["hosted_invoice_url"] = f"/i/{token}"
    invoice["invoice_pdf"] = f"/i/{token}/pdf"
    _apply_balance(world, invoice, customer)
    if invoice["amount_due"] == 0:
        settle_without_charge(world, invoice, finalizing=True)
    else:
        start_collection(world, invoice, finalizing=True)
    return invoice


def _apply_balance(world: World, invoice: Json, customer: Json) -> None:
    """Let credit pay first; what is then too small to charge becomes a debit on the customer's balance.

    Source: https://docs.stripe.com/billing/customer/balance and the description of `amount_due`.
    """
    starting = customer["balance"]
    due = invoice["total"] + starting
    chargeable = due >= minimum_charge(invoice["currency"])
    invoice["starting_balance"] = starting
    invoice["ending_balance"] = 0 if chargeable else due
    invoice["amount_due"] = invoice["amount_remaining"] = due if chargeable else 0
    change = invoice["ending_balance"] - starting
    if change:
        kind = "invoice_too_small" if due > 0 and not chargeable else "applied_to_invoice"
        change_balance(
            world, customer["id"], change, kind=kind, currency=invoice["currency"], invoice=invoice["id"]
        )  # fmt: skip


def _next_number(world: World, customer: Json) -> str:
    """``PREFIX-0001`` from the customer's own sequence, stepping over numbers that were given by hand."""
    sequence = customer["next_invoice_sequence"]
    while True:
        number = f"{customer['invoice_prefix']}-{sequence:04d}"
        sequence += 1
        if not world.store.count("invoice", "ref = ?", number):
            break
    world.store.update({**customer, "next_invoice_sequence": sequence})
    return number


def send_invoice(call: Call) -> Json:
    """Mail the invoice (here: say so); a draft is finalized first."""
    world = call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    if invoice["status"] == "draft":
        finalize(world, invoice, auto_advance=None)
    elif invoice["status"] not in ("open", "paid", "uncollectible"):
        raise refused(f"You can't send an invoice whose status is {invoice['status']}.")
    emit(world, "invoice.sent", invoice)
    return invoice


def finalize_when_due(world: World, invoice_id: str) -> None:
    """The clock's turn for a draft with auto_advance.

    Stripe waits until every endpoint took `invoice.created`, at most 72 hours, before it goes on.
    Source: https://docs.stripe.com/invoicing/integration/workflow-transitions.
    """
    row = world.store.row(invoice_id, kind="invoice")
    if row is None or row.data["status"] != "draft" or not row.data["auto_advance"]:
        return
    age_s = world.clock.now() - row.data["created"]
    if age_s < 72 * 3600 and _creation_undelivered(world, invoice_id):
        world.schedule("finalize", invoice_id, delay_s=AUTO_FINALIZE_S)
        return
    try:
        finalize(world, row.data, auto_advance=None)
    except ApiError as error:
        if error.keeps_work:
            return  # it was told already
        invoice = {**row.data, "last_finalization_error": error.body["error"]}
        world.store.update(invoice)
        emit(world, "invoice.finalization_failed", invoice)


def _creation_undelivered(world: World, invoice_id: str) -> bool:
    return bool(
        world.store.rows(
            "SELECT 1 FROM events e JOIN deliveries d ON d.event_id = e.id WHERE e.object_id = ?"
            " AND e.type = 'invoice.created' AND d.state <> 'delivered' LIMIT 1",
            invoice_id,
        )
    )


def shown_day(stamp: int) -> str:
    """A unix second as a day for people."""
    return datetime.fromtimestamp(stamp, tz=UTC).strftime("%d %b %Y")
