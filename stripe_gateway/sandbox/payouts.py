"""Payouts: what is available in the balance goes to the bank account, and sometimes comes back.

An automatic payout names the balance transactions that it pays out (`balance_transactions.list({"payout": ...})`, its
own among them); a manual one does not. A paid payout can still fail, days later. Source:
https://docs.stripe.com/payouts and https://docs.stripe.com/payouts/reconciliation.
"""

from __future__ import annotations

import json

from .balance import balance_entry, net_by_currency
from .errors import Json, invalid, refused
from .events import emit
from .ids import new_id
from .lists import list_objects
from .params import merged_metadata
from .world import Call, World

MANUAL_ARRIVES_S = 2 * 86400
_FAILURES = {
    "account_closed": "The bank account has been closed.",
    "account_frozen": "The bank account has been frozen.",
    "bank_account_restricted": "The bank account has restrictions on either the type, or the number, of payouts.",
    "could_not_process": "The bank could not process this payout.",
    "declined": "The bank has declined this payout.",
    "incorrect_account_holder_name": "The bank could not process this payout because the holder's name is incorrect.",
    "insufficient_funds": "The Stripe account has insufficient funds to cover the payout.",
    "invalid_account_number": "The bank account details on file are probably incorrect.",
    "no_account": "The bank account details on file are probably incorrect: no account could be located.",
}


def create_payout(call: Call) -> Json:
    """A manual payout of `amount` minor units that are available."""
    params, world = call.params, call.world
    currency = params["currency"].lower()
    available = net_by_currency(world, available=True).get(currency, 0)
    if params["amount"] > available:
        raise refused(
            "You have insufficient funds in your Stripe account for this transfer. "
            f"{available} is available in {currency}.",
            code="balance_insufficient",
        )
    payout = _new(world, params["amount"], currency, automatic=False, arrives_s=MANUAL_ARRIVES_S)
    payout["metadata"] = merged_metadata({}, params.get("metadata", {}))
    for name in ("description", "statement_descriptor"):
        payout[name] = params.get(name, payout[name])
    _send(world, payout)
    world.schedule("payout_arrive", payout["id"], delay_s=MANUAL_ARRIVES_S)
    return payout


def pay_out(world: World, *, currency: str | None = None, arrives_s: float = 0) -> Json:
    """The payout schedule's turn: pay out everything that is available and was not paid out before.

    `currency` None takes the first in which there is something. With `arrives_s` 0 the money is at the bank at once and
    the payout is reconciled. A fee of Stripe's own (`payout_fee_minor`) goes off first and is part of the payout.

    Raises:
        ApiError: 400, when nothing is available.
    """
    balances = net_by_currency(world, available=True)
    chosen = currency or next((name for name, net in balances.items() if net > 0), "usd")
    if balances.get(chosen, 0) > 0 and world.settings.payout_fee_minor:
        balance_entry(
            world, None, chosen, -world.settings.payout_fee_minor, kind="stripe_fee",
            description="Billing - Usage Fee",
        )  # fmt: skip
    entries = _unpaid(world, chosen)
    amount = sum(entry["net"] for entry in entries)
    if amount <= 0:
        raise refused(f"Nothing is available to be paid out in {chosen}: {amount}.", code="balance_insufficient")
    payout = _new(world, amount, chosen, automatic=True, arrives_s=arrives_s)
    for entry in entries:
        world.store.update(entry, private={"payout": payout["id"]})
    _send(world, payout)
    if arrives_s:
        delay_s = min(arrives_s, world.settings.settlement_delay_s)
        world.schedule("payout_reconciled", payout["id"], delay_s=delay_s)
        world.schedule("payout_arrive", payout["id"], delay_s=arrives_s)
    else:
        arrive(world, payout)
        reconciled(world, payout)
    return payout


def _unpaid(world: World, currency: str) -> list[Json]:
    """Available entries that no automatic payout paid out, oldest first."""
    rows = world.store.rows(
        "SELECT data FROM objects WHERE kind = 'balance_transaction' AND deleted = 0"
        " AND json_extract(private, '$.payout') IS NULL AND json_extract(private, '$.pending') IS NULL"
        " AND json_extract(data, '$.currency') = ?"
        " AND json_extract(data, '$.available_on') <= ? ORDER BY seq",
        currency,
        world.clock.stamp(),
    )
    return [json.loads(row[0]) for row in rows]


def _new(world: World, amount: int, currency: str, *, automatic: bool, arrives_s: float) -> Json:
    now = world.clock.stamp()
    return {
        "id": new_id("po"),
        "object": "payout",
        "amount": amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": int(now + arrives_s),
        "automatic": automatic,
        "balance_transaction": None,
        "created": now,
        "currency": currency,
        "description": "STRIPE PAYOUT" if automatic else None,
        "destination": "ba_1SandboxBankAccount000001",
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": {},
        "method": "standard",
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": "in_progress" if automatic else "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": "pending",
        "trace_id": None,
        "type": "bank_account",
    }


def _send(world: World, payout: Json) -> None:
    own = {"payout": payout["id"]} if payout["automatic"] else None
    entry = balance_entry(
        world, payout["id"], payout["currency"], -payout["amount"], kind="payout",
        description=payout["description"], private=own,
    )  # fmt: skip
    payout["balance_transaction"] = entry["id"]
    world.store.insert(payout)
    emit(world, "payout.created", payout)


def arrive(world: World, payout: Json) -> None:
    """The money is at the bank, as far as anybody knows."""
    _move(world, payout, "paid")


def reconciled(world: World, payout: Json) -> None:
    """From now on Stripe vouches for the list of what the payout paid out."""
    payout["reconciliation_status"] = "completed"
    world.store.update(payout)
    emit(world, "payout.reconciliation_completed", payout)


def arrive_when_due(world: World, payout_id: str) -> None:
    payout = world.store.get(payout_id, kind="payout")
    if payout["status"] in ("pending", "in_transit"):
        arrive(world, payout)


def reconciled_when_due(world: World, payout_id: str) -> None:
    reconciled(world, world.store.get(payout_id, kind="payout"))


def fail(world: World, payout: Json, *, code: str = "account_closed") -> Json:
    """The bank sends the money back, also after the payout was paid: it is in the balance again."""
    if payout["status"] not in ("pending", "in_transit", "paid"):
        raise refused(f"Payout {payout['id']} is {payout['status']}: it cannot fail any more.")
    if code not in _FAILURES:
        raise invalid(f"Invalid code: must be one of {', '.join(_FAILURES)}", param="code")
    payout.update(failure_code=code, failure_message=_FAILURES[code])
    return _bring_back(world, payout, "failed", "payout_failure")


def cancel_payout(call: Call) -> Json:
    """Only a manual payout that is still pending can be canceled."""
    payout = call.world.store.get(call.ids[0], kind="payout")
    if payout["automatic"]:
        raise refused("Automatic payouts cannot be canceled.")
    if payout["status"] != "pending":
        raise refused(f"Payouts that are {payout['status']} cannot be canceled: only pending ones can.")
    return _bring_back(call.world, payout, "canceled", "payout_cancel")


def _bring_back(world: World, payout: Json, status: str, kind: str) -> Json:
    entry = balance_entry(
        world, payout["id"], payout["currency"], payout["amount"], kind=kind, description=f"Payout {status}"
    )
    payout["failure_balance_transaction"] = entry["id"]
    return _move(world, payout, status)


def _move(world: World, payout: Json, status: str) -> Json:
    before = payout["status"]
    payout["status"] = status
    world.store.update(payout)
    emit(world, "payout.updated", payout, previous={"status": before})
    emit(world, f"payout.{status}", payout)
    return payout


def update_payout(call: Call) -> Json:
    """Only metadata can change."""
    world = call.world
    payout = world.store.get(call.ids[0], kind="payout")
    before = payout["metadata"]
    if "metadata" in call.params:
        payout["metadata"] = merged_metadata(before, call.params["metadata"])
    if payout["metadata"] != before:
        world.store.update(payout)
        emit(world, "payout.updated", payout, previous={"metadata": before})
    return payout


def retrieve_payout(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="payout")


def list_payouts(call: Call) -> Json:
    return list_objects(
        call,
        "payout",
        url="/v1/payouts",
        filters={"status": "status", "destination": "json_extract(data, '$.destination')"},
        spans={"arrival_date": "json_extract(data, '$.arrival_date')"},
    )
