"""Collecting an open invoice: payment intents, charges, retries, and the other ways an invoice ends."""

from __future__ import annotations

from . import payments
from .bank_accounts import BankAccount
from .cards import refusal
from .customer_balance import change_balance
from .errors import ApiError, Json, refused
from .events import emit
from .payment_methods import attach, behaviour_of
from .payments import adjust_payment, cancel_payment, failed_charge, new_payment, succeeded_charge
from .world import Call, World

DAY_S = 86400


def start_collection(world: World, invoice: Json, *, finalizing: bool = False) -> None:
    """Open the payment of an invoice that is to be paid, and charge it soon if it advances itself."""
    automatic = invoice["auto_advance"]
    if finalizing:
        new_payment(world, invoice)
    delay_s = world.settings.collection_delay_s
    charges = automatic and invoice["collection_method"] == "charge_automatically"
    if charges:
        invoice["next_payment_attempt"] = int(world.clock.now() + delay_s)
    world.store.update(invoice)
    if finalizing:
        emit(world, "invoice.finalized", invoice)
    if automatic:
        world.schedule("charge" if charges else "send", invoice["id"], delay_s=delay_s)


def settle_without_charge(world: World, invoice: Json, *, finalizing: bool = False) -> None:
    """Nothing can or need be charged: the invoice is paid at once, with `amount_paid` 0."""
    if finalizing:
        world.store.update(invoice)
        emit(world, "invoice.finalized", invoice)
    invoice["attempted"] = True
    mark_paid(world, invoice)


def mark_paid(world: World, invoice: Json, *, previous: Json | None = None) -> None:
    """The invoice is paid; `previous` are the old values of what changed besides its status."""
    before = {**(previous or {}), "status": invoice["status"]}
    invoice["status"] = "paid"
    invoice["amount_remaining"] = 0
    invoice["next_payment_attempt"] = None
    invoice["auto_advance"] = False
    invoice["status_transitions"]["paid_at"] = world.clock.stamp()
    world.store.update(invoice)
    emit(world, "invoice.updated", invoice, previous=before)
    emit(world, "invoice.paid", invoice)
    emit(world, "invoice.payment_succeeded", invoice)


def charge_when_due(world: World, invoice_id: str) -> None:
    """The clock's turn: one automatic attempt, unless the invoice was paid, voided or stopped meanwhile."""
    row = world.store.row(invoice_id, kind="invoice")
    if row is None or row.data["status"] != "open" or not row.data["auto_advance"]:
        return
    if payments.under_way(world, row.data) is not None:
        return
    try:
        attempt(world, row.data, None, automatic=True)
    except ApiError as error:
        # A declined automatic charge is told by events alone; anything else is a fault of the sandbox's own.
        if not error.keeps_work:
            raise


def send_when_due(world: World, invoice_id: str) -> None:
    row = world.store.row(invoice_id, kind="invoice")
    if row is not None and row.data["status"] == "open":
        emit(world, "invoice.sent", row.data)


def attempt(world: World, invoice: Json, method_id: str | None, *, automatic: bool, off_session: bool = True) -> Json:
    """Charge the amount that remains to `method_id`, else to the invoice's or the customer's default.

    Raises:
        ApiError: 402 when the card was declined or nobody can be charged; the failed attempt is kept.
    """
    if payments.under_way(world, invoice) is not None:
        raise refused(
            "This invoice has a payment that is processing. It can only be paid again once that has failed.",
            code="payment_intent_unexpected_state",
        )
    method_id = method_id or _default_method(world, invoice)
    # Only automatic attempts move the retry schedule on, but any attempt counts as the first.
    if automatic or invoice["attempt_count"] == 0:
        invoice["attempt_count"] += 1
    invoice["attempted"] = True
    if method_id is None:
        payment_failed(world, invoice, automatic=automatic, retry=False)
        raise ApiError(
            402,
            "There is no default payment method set on this Customer or Invoice. Please set a default payment method.",
            kind="card_error",
            code="invoice_payment_intent_requires_action",
            keeps_work=True,
        )
    card = behaviour_of(world, method_id)
    if isinstance(card, BankAccount):
        return _debit(world, invoice, method_id, automatic=automatic)
    error = refusal(card, off_session=off_session)
    if error is not None:
        failed_charge(world, invoice, method_id, error.body["error"])
        payment_failed(world, invoice, automatic=automatic, retry=True)
        if card.needs_person:
            emit(world, "invoice.payment_action_required", invoice)
        raise error
    return apply_payment(world, invoice, succeeded_charge(world, invoice, method_id))


def _debit(world: World, invoice: Json, method_id: str, *, automatic: bool) -> Json:
    """Begin a debit: the answer is an invoice that is still open, as at Stripe."""
    try:
        payments.begun_debit(world, invoice, method_id)
    except ApiError as error:
        error.keeps_work = True
        payment_failed(world, invoice, automatic=automatic, retry=False)
        raise
    invoice["next_payment_attempt"] = None
    world.store.update(invoice)
    emit(world, "invoice.updated", invoice, previous={"attempted": False})
    return invoice


def apply_payment(world: World, invoice: Json, amount: int, *, off_stripe: bool = False) -> Json:
    """Count `amount` minor units that arrived; nothing left makes the invoice paid, more than was left is overpaid.

    The excess is credited to the customer's balance. Source: the description of `amount_overpaid`.
    """
    if invoice["status"] == "void":
        return _paid_after_void(world, invoice, amount)
    changed = ("amount_overpaid", "amount_paid", "amount_paid_off_stripe", "amount_remaining")
    before = {name: invoice[name] for name in changed}
    excess = max(0, amount - invoice["amount_remaining"])
    invoice["amount_paid"] += amount
    invoice["amount_remaining"] -= amount - excess
    invoice["amount_overpaid"] += excess
    if off_stripe:
        invoice["amount_paid_off_stripe"] += amount
    previous = {name: value for name, value in before.items() if invoice[name] != value}
    if invoice["amount_remaining"] == 0 and invoice["status"] != "paid":
        cancel_payment(world, invoice, reason="automatic")
        mark_paid(world, invoice, previous=previous)
    else:
        adjust_payment(world, invoice)
        world.store.update(invoice)
        emit(world, "invoice.updated", invoice, previous=previous)
    if excess:
        change_balance(
            world, invoice["customer"], -excess, kind="invoice_overpaid", currency=invoice["currency"],
            invoice=invoice["id"],
        )  # fmt: skip
        emit(world, "invoice.overpaid", invoice)
    return invoice


def _paid_after_void(world: World, invoice: Json, amount: int) -> Json:
    """Money that was under way when the invoice was voided: it counts as paid, and the invoice stays void."""
    invoice["amount_paid"] += amount
    world.store.update(invoice)
    emit(world, "invoice.updated", invoice, previous={"amount_paid": invoice["amount_paid"] - amount})
    return invoice


def _default_method(world: World, invoice: Json) -> str | None:
    if invoice["default_payment_method"]:
        return str(invoice["default_payment_method"])
    customer = world.store.row(invoice["customer"], kind="customer")
    found = customer.data["invoice_settings"]["default_payment_method"] if customer else None
    return str(found) if found else None


def payment_failed(world: World, invoice: Json, *, automatic: bool, retry: bool) -> None:
    """An attempt failed: it is told, and an automatic one is repeated as the settings say."""
    days = world.settings.retry_days
    tried = invoice["attempt_count"]
    advances = invoice["auto_advance"] and invoice["collection_method"] == "charge_automatically"
    if automatic and retry and advances and tried <= len(days):
        delay_s = days[tried - 1] * DAY_S
        invoice["next_payment_attempt"] = int(world.clock.now() + delay_s)
        world.schedule("charge", invoice["id"], delay_s=delay_s)
    elif automatic:
        invoice["next_payment_attempt"] = None
    world.store.update(invoice)
    emit(world, "invoice.payment_failed", invoice)


def pay_invoice(call: Call) -> Json:
    """Pay now: by a payment method, or by recording that the money came another way."""
    params, world = call.params, call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    if invoice["status"] == "paid":
        raise refused("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] not in ("open", "uncollectible"):
        raise refused(f"An invoice whose status is {invoice['status']} cannot be paid.", code="invoice_not_editable")
    if params.get("paid_out_of_band"):
        return apply_payment(world, invoice, invoice["amount_remaining"], off_stripe=True)
    method_id = params.get("payment_method")
    if method_id is not None:
        customer = world.store.get(invoice["customer"], kind="customer", param="customer")
        method_id = attach(world, method_id, customer, param="payment_method")["id"]
    elif _default_method(world, invoice) is None:
        raise refused(
            "This customer has no attached payment source or default payment method. Please consider adding a default "
            "payment method.",
            code="resource_missing",
        )
    return attempt(world, invoice, method_id, automatic=False, off_session=params.get("off_session", True))


def void_invoice(call: Call) -> Json:
    """End an invoice for good; what it took from the customer's balance goes back."""
    world = call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    if invoice["status"] not in ("open", "uncollectible"):
        raise refused(f"You can only void open or uncollectible invoices; this one is {invoice['status']}.")
    # Nothing may arrive for an invoice that is no more.
    cancel_payment(world, invoice, reason="void_invoice", attached=True)
    applied = (invoice["ending_balance"] or 0) - invoice["starting_balance"]
    if applied:
        change_balance(
            world, invoice["customer"], -applied, kind="unapplied_from_invoice", currency=invoice["currency"],
            invoice=invoice["id"],
        )  # fmt: skip
    return _end(world, invoice, "void", "voided_at", "invoice.voided")


def mark_uncollectible(call: Call) -> Json:
    """Give an invoice up as bad debt; it can still be paid or voided."""
    world = call.world
    invoice = world.store.get(call.ids[0], kind="invoice")
    if invoice["status"] != "open":
        raise refused(f"You can only mark open invoices uncollectible; this one is {invoice['status']}.")
    return _end(world, invoice, "uncollectible", "marked_uncollectible_at", "invoice.marked_uncollectible")


def _end(world: World, invoice: Json, status: str, moment: str, kind: str) -> Json:
    before = invoice["status"]
    invoice["status"] = status
    invoice["auto_advance"] = False
    invoice["next_payment_attempt"] = None
    invoice["status_transitions"][moment] = world.clock.stamp()
    world.store.update(invoice)
    emit(world, "invoice.updated", invoice, previous={"status": before})
    emit(world, kind, invoice)
    return invoice
