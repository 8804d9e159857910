"""Disputes: a bank takes a payment back, or only asks about it, until somebody wins.

Source: https://docs.stripe.com/disputes/how-disputes-work and https://docs.stripe.com/api/disputes. An inquiry
(`warning_...`) moves no money; any other dispute takes the amount and a fee at once, and winning brings the amount
back, even long after the dispute was lost.
"""

from __future__ import annotations

from .balance import balance_entry, settled
from .errors import Json, invalid, refused
from .events import emit
from .ids import new_id
from .lists import list_objects
from .params import merged_metadata
from .payment_methods import behaviour_of
from .world import Call, World

RESPOND_WITHIN_S = 9 * 86400
REASONS = (
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated", "debit_not_authorized",
    "duplicate", "fraudulent", "general", "incorrect_account_details", "insufficient_funds", "noncompliant",
    "product_not_received", "product_unacceptable", "subscription_canceled", "unrecognized",
)  # fmt: skip
EVIDENCE = (
    "access_activity_log", "billing_address", "cancellation_policy", "cancellation_policy_disclosure",
    "cancellation_rebuttal", "customer_communication", "customer_email_address", "customer_name",
    "customer_purchase_ip", "customer_signature", "duplicate_charge_documentation", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "receipt", "refund_policy", "refund_policy_disclosure",
    "refund_refusal_explanation", "service_date", "service_documentation", "shipping_address", "shipping_carrier",
    "shipping_date", "shipping_documentation", "shipping_tracking_number", "uncategorized_file", "uncategorized_text",
)  # fmt: skip
FIRST_STATUSES = ("needs_response", "lost", "prevented")
CLOSED = frozenset(["won", "lost", "warning_closed", "prevented"])
# Where a dispute can go from where it is. Only a lost one comes back, as a late win.
_STEPS = {
    "needs_response": ("under_review", "won", "lost"),
    "under_review": ("won", "lost"),
    "warning_needs_response": ("warning_under_review", "warning_closed", "needs_response"),
    "warning_under_review": ("warning_closed", "needs_response"),
    "lost": ("won",),
}
# What evidence with these words decides, as in Stripe's own test mode; https://docs.stripe.com/testing#disputes.
_DECIDED_BY = {"winning_evidence": "won", "losing_evidence": "lost"}


def open_dispute(
    world: World,
    charge: Json,
    *,
    amount: int | None = None,
    reason: str = "fraudulent",
    inquiry: bool = False,
    status: str = "needs_response",
) -> Json:
    """The bank disputes a charge, for `amount` minor units of its currency (default: what was not refunded).

    The amount may differ from the charge's, and a charge may be disputed several times. `status` lost is a dispute that
    cannot be challenged, prevented one that was resolved before it took anything.

    Raises:
        ApiError: 400, when the charge did not succeed or a field is wrong.
    """
    if charge["status"] != "succeeded":
        raise refused(f"Charge {charge['id']} was not successful and cannot be disputed.", param="charge")
    if inquiry and charge["payment_method_details"]["type"] != "card":
        raise refused("A bank that returns a debit does not inquire first.", param="inquiry")
    amount = charge["amount"] - charge["amount_refunded"] if amount is None else amount
    if amount <= 0:
        raise refused("A dispute needs an amount above 0.", param="amount")
    if reason not in REASONS:
        raise invalid(f"Invalid reason: must be one of {', '.join(REASONS)}", param="reason")
    if status not in FIRST_STATUSES:
        raise invalid(f"Invalid status: must be one of {', '.join(FIRST_STATUSES)}", param="status")
    first = "warning_needs_response" if inquiry else status
    dispute = world.store.insert(_new(world, charge, amount, reason, first))
    if not charge["disputed"]:
        charge["disputed"] = True
        world.store.update(charge)
    emit(world, "charge.dispute.created", dispute)
    if not inquiry and status != "prevented":
        _withdraw(world, dispute)
    if first in CLOSED:
        emit(world, "charge.dispute.closed", dispute)
    return dispute


def _new(world: World, charge: Json, amount: int, reason: str, status: str) -> Json:
    now = world.clock.stamp()
    inquiry = status.startswith("warning")
    dispute: Json = {
        "id": new_id("du"),
        "object": "dispute",
        "amount": amount,
        # Ids here; whoever sees the dispute sees the transactions themselves.
        "balance_transactions": [],
        "charge": charge["id"],
        "created": now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys(EVIDENCE), "enhanced_evidence": {}},
        "evidence_details": {
            "due_by": None if status in CLOSED else now + RESPOND_WITHIN_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "status": status,
    }
    # Of a debit that was returned Stripe shows no details.
    if charge["payment_method_details"]["type"] == "card":
        dispute["payment_method_details"] = {
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"],
                "case_type": "inquiry" if inquiry else "chargeback",
                "network_reason_code": "10.4" if reason == "fraudulent" else None,
            },
            "type": "card",
        }
    return dispute


def _withdraw(world: World, dispute: Json) -> None:
    taken = settled(world, dispute["currency"], -dispute["amount"])
    entry = balance_entry(
        world, dispute["id"], taken.currency, taken.amount, kind="adjustment", category="dispute",
        fee=world.settings.dispute_fee_minor, fee_description="Dispute fee",
        description=f"Chargeback withdrawal for {dispute['charge']}", rate=taken.rate,
    )  # fmt: skip
    _add_entry(world, dispute, entry, "charge.dispute.funds_withdrawn", held=dispute["amount"])


def _reinstate(world: World, dispute: Json, amount: int) -> None:
    """Bring `amount` minor units back; the fee comes with them only where the settings say so."""
    returned = world.settings.dispute_fee_minor if world.settings.dispute_fee_returned else 0
    back = settled(world, dispute["currency"], amount)
    entry = balance_entry(
        world, dispute["id"], back.currency, back.amount, kind="adjustment", category="dispute_reversal",
        fee=-returned, fee_description="Dispute fee refund",
        description=f"Chargeback reversal for {dispute['charge']}", rate=back.rate,
    )  # fmt: skip
    _add_entry(world, dispute, entry, "charge.dispute.funds_reinstated", held=_held(world, dispute) - amount)


def _add_entry(world: World, dispute: Json, entry: Json, kind: str, *, held: int) -> None:
    dispute["balance_transactions"] = [*dispute["balance_transactions"], entry["id"]]
    world.store.update(dispute, private={"held": held})
    emit(world, kind, dispute)


def _held(world: World, dispute: Json) -> int:
    """What the dispute has taken and not brought back, in minor units of the charge's currency."""
    row = world.store.row(dispute["id"], kind="dispute")
    if row is None or "held" in row.private:
        return 0 if row is None else int(row.private["held"])
    # Taken before the settlement currency could be another one than the charge's.
    entries = [world.store.get(entry, kind="balance_transaction") for entry in dispute["balance_transactions"]]
    return -sum(int(entry["amount"]) for entry in entries)


def move_dispute(world: World, dispute: Json, status: str, *, reinstate: int | None = None) -> Json:
    """The bank's next word on a dispute. `under_review` and the like mean the inquiry's own states on an inquiry.

    `reinstate` brings a part of the money back on a dispute that is or becomes lost, as happens when the charge had
    been refunded in part.

    Raises:
        ApiError: 400, when the dispute cannot go there from where it is.
    """
    before = dispute["status"]
    inquiry = before.startswith("warning")
    target = f"warning_{status}" if inquiry and status == "under_review" else status
    if target not in _STEPS.get(before, ()) and not (target == before == "lost" and reinstate):
        raise refused(f"Dispute {dispute['id']} is {before} and cannot become {target}.", param="status")
    if reinstate is not None and (target != "lost" or not 0 < reinstate <= _held_after(world, dispute)):
        raise refused("Only a lost dispute brings a part back, and no more than it holds.", param="reinstate")
    if target != before:
        dispute["status"] = target
        if target == "needs_response":
            # An inquiry became a chargeback, with a deadline of its own.
            dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
            dispute["evidence_details"]["due_by"] = world.clock.stamp() + RESPOND_WITHIN_S
        dispute["is_charge_refundable"] = target.startswith("warning")
        world.store.update(dispute)
        if target in CLOSED:
            emit(world, "charge.dispute.closed", dispute, previous={"status": before})
        else:
            emit(world, "charge.dispute.updated", dispute, previous={"status": before})
    if target == "needs_response":
        _withdraw(world, dispute)
    elif target == "won" and _held(world, dispute) > 0:
        _reinstate(world, dispute, _held(world, dispute))
    elif reinstate is not None:
        _reinstate(world, dispute, reinstate)
    return dispute


def _held_after(world: World, dispute: Json) -> int:
    return 0 if dispute["status"].startswith("warning") else _held(world, dispute)


def dispute_when_due(world: World, charge_id: str) -> None:
    """The clock's turn for a test card that disputes what it paid."""
    row = world.store.row(charge_id, kind="charge")
    if row is None or row.data["amount_refunded"] == row.data["amount"]:
        return
    card = behaviour_of(world, row.data["payment_method"])
    open_dispute(world, row.data, reason=card.dispute or "fraudulent", inquiry=card.inquiry)


def decide_when_due(world: World, dispute_id: str) -> None:
    """The clock's turn for a dispute whose evidence has Stripe's own test words."""
    dispute = world.store.get(dispute_id, kind="dispute")
    outcome = _DECIDED_BY.get(dispute["evidence"]["uncategorized_text"] or "")
    if outcome in _STEPS.get(dispute["status"], ()):
        move_dispute(world, dispute, outcome)


def update_dispute(call: Call) -> Json:
    """Evidence, which is sent to the bank unless `submit` is false, and metadata."""
    params, world = call.params, call.world
    dispute = world.store.get(call.ids[0], kind="dispute")
    evidence = params.get("evidence") or {}
    sends = params.get("submit", bool(evidence))
    if (evidence or sends) and dispute["status"] in CLOSED:
        raise refused(f"Dispute {dispute['id']} is {dispute['status']}: evidence can no longer be submitted.")
    before = {name: dispute[name] for name in ("evidence", "evidence_details", "metadata", "status")}
    dispute["evidence"] = {**dispute["evidence"], **evidence}
    has = any(value for name, value in dispute["evidence"].items() if name != "enhanced_evidence")
    details = {**dispute["evidence_details"], "has_evidence": has}
    if sends:
        details["submission_count"] += 1
        dispute["status"] = "warning_under_review" if dispute["status"].startswith("warning") else "under_review"
    dispute["evidence_details"] = details
    if "metadata" in params:
        dispute["metadata"] = merged_metadata(dispute["metadata"], params["metadata"])
    previous = {name: value for name, value in before.items() if dispute[name] != value}
    world.store.update(dispute)
    if previous:
        emit(world, "charge.dispute.updated", dispute, previous=previous)
    if sends and dispute["evidence"]["uncategorized_text"] in _DECIDED_BY:
        world.schedule("decide_dispute", dispute["id"], delay_s=world.settings.settlement_delay_s)
    return dispute


def close_dispute(call: Call) -> Json:
    """Accept a dispute: it is lost at once and for good, as far as we can do something about it."""
    dispute = call.world.store.get(call.ids[0], kind="dispute")
    if dispute["status"] not in ("needs_response", "warning_needs_response"):
        raise refused(f"Dispute {dispute['id']} is {dispute['status']}: only one that needs a response can be closed.")
    inquiry = dispute["status"].startswith("warning")
    return move_dispute(call.world, dispute, "warning_closed" if inquiry else "lost")


def retrieve_dispute(call: Call) -> Json:
    return call.world.store.get(call.ids[0], kind="dispute")


def list_disputes(call: Call) -> Json:
    return list_objects(call, "dispute", url="/v1/disputes", filters={"charge": "parent", "payment_intent": "ref"})
