"""Finalizations that fail on demand, as they do at Stripe when tax cannot be computed or a setting is missing.

Source: https://docs.stripe.com/invoicing/automatic-charging#finalization-failures.
"""

from __future__ import annotations

from .errors import ApiError, Json, refused
from .events import emit
from .world import World


def fail_next_finalization(world: World, invoice: Json, *, code: str) -> Json:
    """Let the draft's next finalization fail with this code, whoever starts it."""
    row = world.store.row(invoice["id"], kind="invoice")
    if row is None or invoice["status"] != "draft":
        raise refused(f"Only the finalization of a draft can fail; this invoice is {invoice['status']}.")
    return world.store.update(invoice, private={**row.private, "fails_with": code})


def fail_once(world: World, invoice: Json, private: Json) -> None:
    """Raises ApiError (400) where the control plane asked for it; the draft then says why it stayed one."""
    code = private.get("fails_with")
    if code is None:
        return
    error = ApiError(
        400, f"The invoice could not be finalized: {code.replace('_', ' ')}.", code=code, keeps_work=True
    )  # fmt: skip
    kept = {name: value for name, value in private.items() if name != "fails_with"}
    failed = {**invoice, "last_finalization_error": error.body["error"]}
    world.store.update(failed, private=kept)
    emit(world, "invoice.finalization_failed", failed)
    raise error
