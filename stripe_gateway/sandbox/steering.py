"""What the control plane does to money: settles and fails refunds, moves disputes, pays out, and meddles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import debits, disputes, finalization_failures, fraud_warnings, payouts, refunds
from .errors import Json, invalid, missing
from .views import view
from .world import Origin, World

Steer = Callable[[World, Json, Json], Json]


def steer(world: World, parts: list[str], asked: Json) -> Json | None:
    """Serve ``POST /_sim/{parts}`` where it is about money; None where it is not.

    What happens has no API request behind it, as with everything that banks and people in the Dashboard do.

    Raises:
        ApiError: 400 or 404, when the object does not exist or is not in a state for it.
    """
    match parts:
        case [noun] if noun in _MAKES:
            fields, make = _MAKES[noun]
            only(asked, *fields)
            with world.store.transaction(), world.acting_for(Origin()):
                return view(world, make(world, asked))
        case ["disputes", object_id]:
            parts = ["disputes", object_id, "move"]
    match parts:
        case [noun, object_id, verb] if (noun, verb) in _VERBS:
            kind, fields, act = _VERBS[noun, verb]
            only(asked, *fields)
            with world.store.transaction(), world.acting_for(Origin()):
                return view(world, act(world, world.store.get(object_id, kind=kind), asked))
    return None


def only(asked: Json, *names: str) -> None:
    """Refuse fields that a control does not know."""
    unknown = set(asked) - set(names)
    if unknown:
        raise invalid(f"Unknown fields: {', '.join(sorted(unknown))}. Fields: {', '.join(names) or 'none'}")


def text(asked: Json, name: str, default: str | None = None) -> str:
    """A field that must be text."""
    value: Any = asked.get(name, default)
    if not isinstance(value, str) or not value:
        raise invalid(f"{name} must be a text", param=name)
    return value


def whole(asked: Json, name: str, default: int | None = None) -> int | None:
    """A field that must be a whole number, or is absent."""
    value: Any = asked.get(name, default)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise invalid(f"{name} must be a whole number", param=name)
    return value


def flag(asked: Json, name: str) -> bool:
    """A field that must be true or false, or is absent (false)."""
    value: Any = asked.get(name, False)
    if not isinstance(value, bool):
        raise invalid(f"{name} must be true or false", param=name)
    return value


def _fail_refund(world: World, refund: Json, asked: Json) -> Json:
    return refunds.fail(world, refund, reason=text(asked, "reason", "expired_or_canceled_card"))


def _move_dispute(world: World, dispute: Json, asked: Json) -> Json:
    return disputes.move_dispute(world, dispute, text(asked, "status"), reinstate=whole(asked, "reinstate"))


def _open_dispute(world: World, asked: Json) -> Json:
    charge = world.store.get(text(asked, "charge"), kind="charge", param="charge")
    return disputes.open_dispute(
        world, charge, amount=whole(asked, "amount"), reason=text(asked, "reason", "fraudulent"),
        inquiry=flag(asked, "inquiry"), status=text(asked, "status", "needs_response"),
    )  # fmt: skip


def _choose_next_debit(world: World, asked: Json) -> Json:
    chosen = None if asked.get("next") is None else text(asked, "next")
    debits.choose_next(world, chosen)
    return {"next": chosen}


def _fail_debit(world: World, charge: Json, asked: Json) -> Json:
    return debits.fail(world, charge, code=text(asked, "code", "insufficient_funds"))


def _return_debit(world: World, charge: Json, asked: Json) -> Json:
    return debits.return_debit(world, charge, reason=text(asked, "reason", "insufficient_funds"))


def _warn(world: World, asked: Json) -> Json:
    charge = world.store.get(text(asked, "charge"), kind="charge", param="charge")
    return fraud_warnings.warn(world, charge, fraud_type=text(asked, "fraud_type", "made_with_stolen_card"))


def _pay_out(world: World, asked: Json) -> Json:
    currency = text(asked, "currency").lower() if "currency" in asked else None
    return payouts.pay_out(world, currency=currency, arrives_s=whole(asked, "arrive_s", 0) or 0)


def _fail_payout(world: World, payout: Json, asked: Json) -> Json:
    return payouts.fail(world, payout, code=text(asked, "code", "account_closed"))


def _fail_finalization(world: World, invoice: Json, asked: Json) -> Json:
    code = text(asked, "code", "customer_tax_location_invalid")
    return finalization_failures.fail_next_finalization(world, invoice, code=code)


def _drift(world: World, asked: Json) -> Json:
    """What nobody can do through the API: an object that is gone without a word, or differs from what was told."""
    row = world.store.row(text(asked, "object"))
    if row is None:
        raise missing("object", text(asked, "object"))
    change = asked.get("set")
    if change is None and flag(asked, "lose"):
        world.store.mark_deleted(row.data["id"])
        return {**row.data, "lost": True}
    known = set(row.data) - {"id", "object"}
    if not isinstance(change, dict) or not change or not set(change) <= known:
        raise invalid("Send lose: true, or set: fields that the object has, with their new values", param="set")
    return world.store.update({**row.data, **change})


# noun: the fields that the body may have, what is made.
_MAKES: dict[str, tuple[tuple[str, ...], Callable[[World, Json], Json]]] = {
    "debits": (("next",), _choose_next_debit),
    "disputes": (("charge", "amount", "reason", "inquiry", "status"), _open_dispute),
    "early_fraud_warnings": (("charge", "fraud_type"), _warn),
    "drift": (("object", "set", "lose"), _drift),
    "payouts": (("currency", "arrive_s"), _pay_out),
}
# (noun, verb): the kind of object, the fields that the body may have, what is done.
_VERBS: dict[tuple[str, str], tuple[str, tuple[str, ...], Steer]] = {
    ("debits", "pay"): ("charge", (), lambda world, charge, _: debits.pay(world, charge)),
    ("debits", "fail"): ("charge", ("code",), _fail_debit),
    ("debits", "return"): ("charge", ("reason",), _return_debit),
    ("disputes", "move"): ("dispute", ("status", "reinstate"), _move_dispute),
    ("invoices", "fail_finalization"): ("invoice", ("code",), _fail_finalization),
    ("payouts", "fail"): ("payout", ("code",), _fail_payout),
    ("refunds", "settle"): ("refund", (), lambda world, refund, _: refunds.settle(world, refund)),
    ("refunds", "fail"): ("refund", ("reason",), _fail_refund),
    ("refunds", "cancel"): ("refund", (), lambda world, refund, _: refunds.cancel(world, refund)),
    ("refunds", "require_action"): ("refund", (), lambda world, refund, _: refunds.require_action(world, refund)),
}
