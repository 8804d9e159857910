"""What to do when an answer was lost: Stripe's own state decides, read by list and retrieve, never by search.

While a key is young the same request under the same key tells what became of it; where a second execution would do
harm, what Stripe has is read all the same before it is sent again, since the key may not have been kept. Stripe may
forget keys after 24 hours, and repeats a stored 500 for ever; from then on we only read, and begin anew.

Source: https://docs.stripe.com/api/idempotent_requests and https://docs.stripe.com/error-low-level
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from stripe_gateway.client import Client, Json
from stripe_gateway.errors import CallFailed, NotThere
from stripe_gateway.tables import StripeRequest, StripeSync

KEY_TRUSTED_FOR = timedelta(hours=23)
"""Stripe may forget a key after 24 hours; the hour between is for clocks that differ and calls under way."""

NEWS_MAY_TAKE = timedelta(hours=1)
"""So long after something was last sent whose outcome is unknown, it may still turn up at Stripe."""

SAME_KEY_TRIES = 3
"""After so many attempts that ended in a 5xx, the same key is believed to repeat its stored answer."""

LISTED_BEFORE = timedelta(days=1)
"""How far before our own record we look: Stripe's clock and ours may differ."""

MAX_GENERATIONS = 12
"""What had to be begun so often needs a person. With two answers of five lost, chance alone does not come so far."""

BEGUN_TOO_OFTEN = (
    f"It was begun {MAX_GENERATIONS} times, and each time Stripe had lost it or held something else in its place. Look "
    "for it at Stripe; then retry it from the invoice."
)


class StillUnsure(CallFailed):
    """Stripe shows no trace of what was sent, but it may still be executed. It is looked for again at `until`."""

    code = "stripe_unsure"

    def __init__(self, unsure_at: datetime) -> None:
        self.until = unsure_at + NEWS_MAY_TAKE
        super().__init__(
            "What was sent last had no clear answer, and Stripe shows no trace of it; it may still be executed. It is "
            f"looked for again after {self.until:%Y-%m-%d %H:%M} UTC."
        )


def is_trusted(request: StripeRequest, *, now: datetime) -> bool:
    """Whether Stripe surely still knows the request's key, if it ever saw it."""
    return now - request.frozen_at < KEY_TRUSTED_FOR


def refuse_while_unsure(unsure_at: datetime | None, *, now: datetime) -> None:
    """Keep anything new from being sent while something older may still be executed.

    Raises:
        StillUnsure: it may.
    """
    if unsure_at is not None and now < unsure_at + NEWS_MAY_TAKE:
        raise StillUnsure(unsure_at)


@dataclass(frozen=True, slots=True)
class Finding:
    """What Stripe has of one invoice of ours.

    `kind`: absent; empty (a draft, not or not rightly filled); complete (a draft with our lines and total); standing
    (finalized, and it is what we wanted); odd (a person must look: `reason` says at what).
    """

    kind: Literal["absent", "empty", "complete", "standing", "odd"]
    invoice: Json | None = None
    drafts: tuple[str, ...] = ()
    """Other drafts of the same invoice, which must go."""
    reason: str = ""

    @property
    def is_bare(self) -> bool:
        """Whether it is a draft without a line: ours can still be added to it."""
        return self.kind == "empty" and self.invoice is not None and not self.invoice["lines"]["data"]


def find(client: Client, sync: StripeSync, *, customer: str) -> Finding:
    """Look for the invoice among the customer's, by our id in its metadata."""
    since = int((sync.created_at - LISTED_BEFORE).timestamp())
    wanted = str(sync.invoice_id)
    ours = [
        invoice
        for invoice in client.list_invoices(customer=customer, created_from=since)
        if (invoice.get("metadata") or {}).get("ledger_invoice_id") == wanted and invoice["status"] != "void"
    ]
    standing = [invoice for invoice in ours if invoice["status"] != "draft"]
    drafts = tuple(invoice["id"] for invoice in ours if invoice["status"] == "draft")
    if len(standing) > 1:
        ids = ", ".join(invoice["id"] for invoice in standing)
        return Finding("odd", reason=f"Stripe has {len(standing)} invoices for this one: {ids}. Void all but one.")
    if standing:
        found = judge(sync, standing[0], customer=customer)
        return Finding(found.kind, found.invoice, drafts, found.reason)
    if drafts:
        # The drafts are newest first; the oldest one was asked for first, the others never had an owner.
        oldest = next(invoice for invoice in ours if invoice["id"] == drafts[-1])
        found = judge(sync, oldest, customer=customer)
        return Finding(found.kind, found.invoice, drafts[:-1], found.reason)
    return Finding("absent")


def look(client: Client, sync: StripeSync, *, customer: str) -> Finding:
    """Look at the invoice whose id is stored."""
    assert sync.external_id is not None, "steps after create have an id"  # noqa: S101 - a constraint says so too
    try:
        return judge(sync, client.retrieve_invoice(sync.external_id), customer=customer)
    except NotThere:
        return Finding("absent")


def judge(sync: StripeSync, invoice: Json, *, customer: str) -> Finding:
    """What one invoice of Stripe's is to us."""
    if invoice.get("deleted"):
        return Finding("absent")
    if invoice["status"] == "void":
        return Finding("odd", invoice, reason=f"{invoice['id']} was voided at Stripe. Void the invoice here as well.")
    if invoice["status"] == "draft":
        return Finding("empty" if draft_problems(sync, invoice, customer=customer) else "complete", invoice)
    problems = final_problems(sync, invoice, customer=customer)
    if problems:
        return Finding("odd", invoice, reason=f"{invoice['id']} is not what was asked for: {' '.join(problems)}")
    return Finding("standing", invoice)


def draft_problems(sync: StripeSync, invoice: Json, *, customer: str) -> list[str]:
    """Why this draft must not be finalized; empty if it is exactly what we want."""
    problems = []
    if invoice["status"] != "draft":
        problems.append(f"It is {invoice['status']}, no draft.")
    if (invoice.get("metadata") or {}).get("lines_added") != sync.lines_sha:
        problems.append("Its lines were not added by this request.")
    if invoice["starting_balance"] != 0:
        problems.append(
            f"Stripe holds a balance of {invoice['starting_balance']} (minor units) for this customer, which would "
            "change what is due. Set it to 0 at Stripe."
        )
    return problems + _difference(sync, invoice, customer=customer)


def final_problems(sync: StripeSync, invoice: Json, *, customer: str) -> list[str]:
    """How this finalized invoice differs from ours; empty if it does not."""
    problems = _difference(sync, invoice, customer=customer)
    if invoice.get("number") != sync.number:
        problems.append(f"Its number is {invoice.get('number')}, ours is {sync.number}.")
    return problems


def _difference(sync: StripeSync, invoice: Json, *, customer: str) -> list[str]:
    problems = []
    if invoice["currency"].upper() != sync.currency:
        problems.append(f"Its currency is {invoice['currency'].upper()}, ours is {sync.currency}.")
    if invoice["total"] != sync.amount_due_minor:
        problems.append(f"Its total is {invoice['total']}, ours is {sync.amount_due_minor} (minor units).")
    if invoice["customer"] != customer:
        problems.append(f"Its customer is {invoice['customer']}, ours is {customer}.")
    return problems
