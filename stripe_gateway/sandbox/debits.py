"""Debits of bank accounts: begun, and days later paid, failed, or paid and returned.

Stripe writes a pending balance transaction of type `payment` soon after the debit began, and takes it back with one of
type `payment_failure_refund` when the debit fails. Source: https://docs.stripe.com/reports/balance-transaction-types
(payment_failure_refund) and https://docs.stripe.com/payments/ach-direct-debit.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from . import collection, payments
from .balance import balance_entry, settled
from .bank_accounts import FAILURES, RETURNS, BankAccount
from .charges import show_outcome
from .disputes import open_dispute
from .errors import Json, invalid, refused
from .events import emit
from .payment_methods import behaviour_of
from .world import World

NEXT = ("pay", "fail", "return")
_AVAILABLE_AFTER_S = 3 * 86400  # from the bank's answer to the money being available


def settle_balance_when_due(world: World, charge_id: str) -> None:
    """The clock's turn: a debit meets the balance while the bank has not answered yet."""
    charge = world.store.get(charge_id, kind="charge")
    if charge["status"] == "pending" and charge["balance_transaction"] is None:
        _meet_balance(world, charge)
        world.store.update(charge)
        emit(world, "charge.updated", charge, previous={"balance_transaction": None})


def _meet_balance(world: World, charge: Json) -> None:
    settings = world.settings
    got = settled(world, charge["currency"], charge["amount"])
    share = (got.amount * Decimal(settings.debit_fee_percent) / 100).quantize(Decimal(1), ROUND_HALF_UP)
    entry = balance_entry(
        world, charge["id"], got.currency, got.amount, fee=min(int(share), settings.debit_fee_most_minor),
        kind="payment", description=charge["description"], private={"pending": True}, rate=got.rate,
    )  # fmt: skip
    entry["available_on"] = int(world.clock.now() + settings.debit_days * 86400) + _AVAILABLE_AFTER_S
    world.store.update(entry)
    charge["balance_transaction"] = entry["id"]


def choose_next(world: World, outcome: str | None) -> None:
    """Let the next debit that ends be paid, fail, or be paid and returned at once; None: as its account says.

    Raises:
        ApiError: 400, for any other word.
    """
    if outcome is not None and outcome not in NEXT:
        raise invalid(f"Invalid outcome: must be one of {', '.join(NEXT)}", param="next")
    with world.store.transaction():
        world.store.keep_fact("next_debit", outcome)


def chosen_next(world: World) -> str | None:
    """How the next debit ends, if that was chosen."""
    found = world.store.fact("next_debit")
    return None if found is None else str(found)


def end_when_due(world: World, charge_id: str) -> None:
    """The clock's turn: the bank answers, as the test account says, or as was chosen for the next one."""
    charge = world.store.get(charge_id, kind="charge")
    if charge["status"] != "pending":
        return
    account = behaviour_of(world, charge["payment_method"])
    assert isinstance(account, BankAccount), "only debits are pending"  # noqa: S101 - cards are charged at once
    chosen = chosen_next(world)
    if chosen is not None:
        world.store.keep_fact("next_debit", None)
    if chosen == "fail" or (chosen is None and account.failure):
        fail(world, charge, code=account.failure or "insufficient_funds")
        return
    pay(world, charge)
    reason = account.dispute if chosen is None else "insufficient_funds" if chosen == "return" else None
    if reason is not None:
        return_debit(world, world.store.get(charge_id, kind="charge"), reason=reason)


def pay(world: World, charge: Json) -> Json:
    """The bank has paid: only now is the invoice paid.

    Raises:
        ApiError: 400, when the debit is not under way.
    """
    _check_pending(charge)
    if charge["balance_transaction"] is None:
        _meet_balance(world, charge)
    charge.update(amount_captured=charge["amount"], captured=True, paid=True, status="succeeded")
    world.store.update(charge)
    entry = world.store.get(charge["balance_transaction"], kind="balance_transaction")
    entry["available_on"] = world.clock.stamp() + _AVAILABLE_AFTER_S
    world.store.update(entry, private={})
    intent = world.store.get(charge["payment_intent"], kind="payment_intent")
    intent.update(amount_received=charge["amount"], status="succeeded")
    world.store.update(intent)
    emit(world, "payment_intent.succeeded", intent)
    emit(world, "charge.succeeded", charge)
    for payment in _invoice_payments(world, charge):
        payments.paid(world, payment, charge["amount"])
        collection.apply_payment(world, world.store.get(payment["invoice"], kind="invoice"), charge["amount"])
    return charge


def fail(world: World, charge: Json, *, code: str = "insufficient_funds") -> Json:
    """The bank does not pay: the invoice stays open, and the balance transaction is taken back.

    Raises:
        ApiError: 400, when the debit is not under way, or for a code that no test account has.
    """
    _check_pending(charge)
    if code not in FAILURES:
        raise invalid(f"Invalid code: must be one of {', '.join(FAILURES)}", param="code")
    charge.update(status="failed", failure_code=code, failure_message=FAILURES[code])
    show_outcome(charge, declined=code)
    if charge["balance_transaction"] is not None:
        before = world.store.get(charge["balance_transaction"], kind="balance_transaction")
        back = balance_entry(
            world, charge["id"], before["currency"], -before["amount"], fee=-before["fee"],
            kind="payment_failure_refund", description="Payment failure refund", rate=before["exchange_rate"],
        )  # fmt: skip
        back["available_on"] = before["available_on"]
        # From here on the two cancel each other out, so a payout may carry both.
        world.store.update(before, private={})
        world.store.update(back)
        charge["failure_balance_transaction"] = back["id"]
    world.store.update(charge)
    intent = world.store.get(charge["payment_intent"], kind="payment_intent")
    error = {
        "charge": charge["id"],
        "code": code,
        "message": FAILURES[code],
        "payment_method": world.store.get(charge["payment_method"], kind="payment_method"),
        "type": "card_error",
    }
    intent.update(last_payment_error=error, status="requires_payment_method")
    world.store.update(intent)
    emit(world, "charge.failed", charge)
    emit(world, "payment_intent.payment_failed", intent)
    for payment in _invoice_payments(world, charge):
        invoice = world.store.get(payment["invoice"], kind="invoice")
        if payment["is_default"] and invoice["status"] in ("open", "uncollectible"):
            # Only what may be otherwise next week is tried again.
            collection.payment_failed(world, invoice, automatic=True, retry=code == "insufficient_funds")
    return charge


def return_debit(world: World, charge: Json, *, reason: str = "insufficient_funds") -> Json:
    """The bank takes a paid debit back, up to 13 months later: a dispute that is lost from the start.

    Raises:
        ApiError: 400, when the debit was not paid, or for a reason that is none of a debit's.
    """
    if behaviour_kind(charge) == "card":
        raise refused(f"{charge['id']} is no debit: open a dispute.", param="charge")
    if reason not in RETURNS:
        raise invalid(f"Invalid reason: must be one of {', '.join(RETURNS)}", param="reason")
    return open_dispute(world, charge, reason=reason, status="lost")


def behaviour_kind(charge: Json) -> str:
    """The type of the payment method that a charge was taken from."""
    return str(charge["payment_method_details"]["type"])


def _check_pending(charge: Json) -> None:
    if charge["status"] != "pending":
        raise refused(f"Charge {charge['id']} is {charge['status']}: only a debit that is under way can end.")


def _invoice_payments(world: World, charge: Json) -> list[Json]:
    return world.store.where("invoice_payment", "ref = ? AND status = 'open'", charge["payment_intent"])
