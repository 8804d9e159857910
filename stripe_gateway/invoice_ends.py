"""How collecting an invoice ends by our own wish: voided, given up as uncollectible, or paid past Stripe.

All three change the invoice's status at Stripe, so asking twice is harmless: what the status says decides. An invoice
that never stood at Stripe has nothing to end there; its sync is canceled, once Stripe was asked and drafts are gone.
"""

from datetime import datetime
from functools import partial

from sqlalchemy.orm import Session

from stripe_gateway import amounts, customers, debits, outbox, recovery
from stripe_gateway.acts import Act, Denied, Desk, Ended, Outcome, Ready, settle_movement
from stripe_gateway.client import Client, Json
from stripe_gateway.errors import GatewayError, NotYet
from stripe_gateway.tables import StripeOperation, StripeSync

WANTED = {"void": "void", "uncollectible": "uncollectible", "pay_outside": "paid"}
FINAL = ("void", "paid")


class AnotherStands(GatewayError):
    """What stands at Stripe for this invoice is not what we asked for. Set it right there, then try again."""

    code = "stripe_invoice_differs"


def sync_of(desk: Desk, operation: StripeOperation) -> StripeSync | None:
    """The sync of the operation's invoice, None if it was never submitted: then nothing of it stands at Stripe."""
    with Session(desk.engine, expire_on_commit=False) as session:
        return session.get(StripeSync, (operation.customer_id, operation.invoice_id))


def standing(desk: Desk, operation: StripeOperation) -> StripeSync | None:
    """The finished sync of the operation's invoice; None if nothing of it stands, or ever will stand, at Stripe.

    Raises:
        NotYet: it is still on its way there.
    """
    sync = sync_of(desk, operation)
    if sync is None or sync.state == "canceled":
        return None
    if sync.state != "done":
        why = f" {sync.last_error}" if sync.last_error else ""
        raise NotYet(f"Invoice {sync.number} does not stand at Stripe yet: its sync is {sync.state}.{why}")
    return sync


def _prepare(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    sync = standing(desk, operation)
    return Ended(None) if sync is None else _unless_under_way(desk, sync)


def _unless_under_way(desk: Desk, sync: StripeSync) -> Ready | Denied:
    """End the invoice, unless a bank is being asked for it: nobody can call that back, and its money would come.

    The movement is refused when it is asked for; this is for a debit that began, or was heard of, since then.
    """
    assert sync.external_id is not None, "a finished sync names its invoice"  # noqa: S101 - a CHECK says so
    if debits.processing(desk.client, sync.external_id) is None:
        return Ready({}, target=sync.external_id)
    return Denied(
        "payment_under_way",
        f"The customer's bank is being debited for {sync.number} and cannot be called back. Wait for its answer, some "
        "days at most. If it pays, credit or refund it; if it does not, ask for this again.",
    )


def _prepare_void(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    sync = sync_of(desk, operation)
    if sync is not None and sync.state not in ("done", "canceled"):
        sync = _take_back(desk, sync)
    return Ended(None) if sync is None or sync.state == "canceled" else _unless_under_way(desk, sync)


def _take_back(desk: Desk, sync: StripeSync) -> StripeSync:
    """Cancel a sync that is not done, unless its invoice stands at Stripe after all; returns its row as it is then.

    Raises:
        NotYet: a process is working on it.
        StillUnsure: something was sent that may yet turn up.
        AnotherStands: what stands there is not ours to touch.
    """
    claimed = outbox.claim_to_cancel(
        desk.engine, customer_id=sync.customer_id, invoice_id=sync.invoice_id, now=desk.now
    )
    if claimed is None:
        raise NotYet(f"Invoice {sync.number} is on its way to Stripe at this moment.")
    try:
        customer = customers.load(desk.engine, sync.customer_id).external_id
        finding = None if customer is None else recovery.find(desk.client, claimed, customer=customer)
        if finding is not None and finding.kind == "standing" and finding.invoice is not None:
            return outbox.finish(desk.engine, claimed, finding.invoice, now=desk.now)
        if finding is not None and finding.kind == "odd":
            raise AnotherStands(finding.reason)
        recovery.refuse_while_unsure(claimed.unsure_at, now=desk.now)
        drafts = () if finding is None else finding.drafts
        if finding is not None and finding.invoice is not None:
            drafts = (*drafts, finding.invoice["id"])
        for draft in drafts:
            desk.client.delete_draft(draft)
    except Exception:
        outbox.release(desk.engine, claimed, state=claimed.state)
        raise
    return outbox.release(
        desk.engine,
        claimed,
        state="canceled",
        unsure_at=None,
        last_code="canceled",
        last_error="The invoice was voided here before it stood at Stripe.",
    )


def _prepare_outside(desk: Desk, operation: StripeOperation) -> Ready | Ended | Denied:
    sync = standing(desk, operation)
    if sync is None or sync.external_id is None:
        return Ended(None)
    invoice = desk.client.retrieve_invoice(sync.external_id)
    if invoice["status"] in FINAL:
        return _judge("pay_outside", operation, invoice)
    if debits.processing(desk.client, sync.external_id) is not None:
        # It decides itself: if the bank pays, nothing is left to tell Stripe; else Stripe is told then.
        raise NotYet(f"The customer's bank is being debited for {sync.number}; its answer decides. Some days at most.")
    if invoice["amount_remaining"] != operation.amount_minor:
        return Denied(
            "outside_amount_differs",
            f"Stripe still collects {shown(invoice['amount_remaining'], operation)}, the payment is "
            f"{shown(operation.amount_minor or 0, operation)}. Stripe can only be told that all of it was paid.",
        )
    return Ready({"paid_out_of_band": True}, target=sync.external_id)


def shown(amount_minor: int, operation: StripeOperation) -> str:
    """An amount of the operation, for people."""
    currency = operation.currency or ""
    return f"{amounts.from_minor(amount_minor, currency)} {currency}"


def target_of(operation: StripeOperation) -> str:
    """The invoice at Stripe that a request goes to."""
    assert operation.external_id is not None, "a request to an invoice names it"  # noqa: S101 - prepare stored it
    return operation.external_id


def _send_void(client: Client, operation: StripeOperation, body: Json, key: str) -> Json:
    return client.void_invoice(target_of(operation), body, key=key)


def _send_uncollectible(client: Client, operation: StripeOperation, body: Json, key: str) -> Json:
    return client.mark_uncollectible(target_of(operation), body, key=key)


def _send_outside(client: Client, operation: StripeOperation, body: Json, key: str) -> Json:
    return client.pay_invoice(target_of(operation), body, key=key)


def _find(kind: str, client: Client, operation: StripeOperation, _body: Json) -> Json | None:
    """The invoice, if its status decides the matter: it is what we want, or will never be."""
    invoice = client.retrieve_invoice(target_of(operation))
    return invoice if invoice["status"] in (WANTED[kind], *FINAL) else None


def _judge(kind: str, _operation: StripeOperation, invoice: Json) -> Ended | Denied:
    status = invoice["status"]
    if status == WANTED[kind]:
        return Ended(invoice["id"], status, invoice)
    return Denied(f"invoice_is_{status}", f"At Stripe {invoice['id']} is {status}: it cannot become {WANTED[kind]}.")


def judged(operation: StripeOperation, invoice: Json) -> Ended | Denied | None:
    """What an invoice that an event or a list shows means to this operation; None if nothing is decided yet."""
    if invoice["status"] not in (WANTED[operation.kind], *FINAL):
        return None
    return _judge(operation.kind, operation, invoice)


def tell_movement(session: Session, operation: StripeOperation, outcome: Outcome, now: datetime) -> None:
    """End the movement, and remember the invoice's status at Stripe. The caller commits."""
    settle_movement(session, operation, outcome, now=now)
    if isinstance(outcome, Ended) and outcome.found is not None and operation.invoice_id is not None:
        outbox.note_status(session, operation.customer_id, operation.invoice_id, outcome.found)


VOID = Act(
    "mv", "void", False, _prepare_void, _send_void, partial(_find, "void"), partial(_judge, "void"), tell_movement
)
UNCOLLECTIBLE = Act(
    "mv",
    "unc",
    False,
    _prepare,
    _send_uncollectible,
    partial(_find, "uncollectible"),
    partial(_judge, "uncollectible"),
    tell_movement,
)
PAY_OUTSIDE = Act(
    "mv",
    "outside",
    False,
    _prepare_outside,
    _send_outside,
    partial(_find, "pay_outside"),
    partial(_judge, "pay_outside"),
    tell_movement,
)
