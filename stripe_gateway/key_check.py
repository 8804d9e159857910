"""What our key must be allowed to do at Stripe, call by call; and asking Stripe whether it is.

GET needs read, POST and DELETE need write, and write implies read.

Source: https://docs.stripe.com/keys/restricted-api-keys
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import stripe

from stripe_gateway import handlers
from stripe_gateway.client import LIVE_KEYS, Client, Json
from stripe_gateway.errors import NotThere, Refused, StripeClosed

READ, WRITE = "read", "write"

PERMISSIONS: Mapping[str, tuple[str, str]] = {
    "balance_transactions.list": ("Balance transactions", READ),
    "balance_transactions.retrieve": ("Balance transactions", READ),
    "billing_portal.sessions.create": ("Customer portal", WRITE),
    "charges.list": ("Charges and refunds", READ),
    "charges.retrieve": ("Charges and refunds", READ),
    "credit_notes.create": ("Credit notes", WRITE),
    "credit_notes.list": ("Credit notes", READ),
    "credit_notes.retrieve": ("Credit notes", READ),
    "customers.balance_transactions.create": ("Customers", WRITE),
    "customers.balance_transactions.list": ("Customers", READ),
    "customers.create": ("Customers", WRITE),
    "customers.list": ("Customers", READ),
    "customers.retrieve": ("Customers", READ),
    "customers.update": ("Customers", WRITE),
    "disputes.close": ("Disputes", WRITE),
    "disputes.list": ("Disputes", READ),
    "disputes.retrieve": ("Disputes", READ),
    "events.list": ("Events", READ),
    "invoice_payments.list": ("Invoices", READ),
    "invoice_payments.retrieve": ("Invoices", READ),
    "invoices.add_lines": ("Invoices", WRITE),
    "invoices.attach_payment": ("Invoices", WRITE),
    "invoices.create": ("Invoices", WRITE),
    "invoices.delete": ("Invoices", WRITE),
    "invoices.finalize": ("Invoices", WRITE),
    "invoices.list": ("Invoices", READ),
    "invoices.mark_uncollectible": ("Invoices", WRITE),
    "invoices.pay": ("Invoices", WRITE),
    "invoices.retrieve": ("Invoices", READ),
    "invoices.void": ("Invoices", WRITE),
    "payment_intents.list": ("Payment intents", READ),
    "payment_intents.retrieve": ("Payment intents", READ),
    "payment_methods.attach": ("Payment methods", WRITE),
    "payment_records.report_payment": ("Payment records", WRITE),
    "payment_records.retrieve": ("Payment records", READ),
    "payouts.list": ("Payouts", READ),
    "payouts.retrieve": ("Payouts", READ),
    "refunds.create": ("Charges and refunds", WRITE),
    "refunds.list": ("Charges and refunds", READ),
    "refunds.retrieve": ("Charges and refunds", READ),
    "webhook_endpoints.list": ("Webhook endpoints", READ),
}
"""Every operation that the code sends, as the client names it; the resource and the permission that it needs there."""

PROBES: Mapping[str, str] = {
    "Balance transactions": "balance_transactions.list",
    "Charges and refunds": "charges.list",
    "Credit notes": "credit_notes.list",
    "Customers": "customers.list",
    "Disputes": "disputes.list",
    "Events": "events.list",
    "Invoices": "invoices.list",
    "Payment intents": "payment_intents.list",
    "Payouts": "payouts.list",
    "Webhook endpoints": "webhook_endpoints.list",
}
"""A read of each resource that needs no object: what is asked. A write cannot be tried without doing it."""

ACCOUNT = "accounts.retrieve_current"
_NAMED = re.compile(r"rak_[a-z0-9_]+")


@dataclass(slots=True)
class KeyReport:
    """What the key is and may read. `untold`: what Stripe gave no clear answer about; write is never tried."""

    mode: str = ""
    account: str | None = None
    allowed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def needed() -> dict[str, str]:
    """The permission that the key needs for each resource: write if any call writes there."""
    found: dict[str, str] = {}
    for resource, permission in PERMISSIONS.values():
        found[resource] = WRITE if WRITE in (permission, found.get(resource)) else READ
    return dict(sorted(found.items()))


def check(client: Client) -> KeyReport:
    """Ask Stripe once per resource whether the key may read it, and how its webhook endpoints are set up.

    Changes nothing. A key without a permission is a finding, not an error.

    Raises:
        CallFailed: Stripe has no answer, or does not know the key at all.
    """
    report = KeyReport(mode="live" if client.livemode else "test")
    for resource, operation in PROBES.items():
        answer = _ask(client, report, resource, operation)
        if answer is not None and operation == "webhook_endpoints.list":
            report.problems += endpoint_problems(answer["data"])
    report.untold += sorted(set(needed()) - set(PROBES))
    _check_account(client, report)
    return report


def _ask(client: Client, report: KeyReport, resource: str, operation: str) -> Json | None:
    try:
        answer = client.peek(operation, limit=100 if operation == "webhook_endpoints.list" else 1)
    except StripeClosed as refusal:
        if refusal.status == 401:
            raise
        named = _NAMED.search(str(refusal))
        report.missing.append(f"{resource} ({named[0] if named else 'read'})")
        return None
    except Refused:
        report.untold.append(resource)
        return None
    report.allowed.append(resource)
    return answer


def _check_account(client: Client, report: KeyReport) -> None:
    try:
        report.account = str(client.peek(ACCOUNT)["id"])
    except (StripeClosed, NotThere, Refused):
        # Nothing else needs the account, so a key that may not read it is as good.
        report.untold.append("account")
        return
    if client.account_id not in (None, report.account):
        report.problems.append(
            f"The key belongs to {report.account}, STRIPE_ACCOUNT_ID says {client.account_id}: one of them is wrong."
        )


def endpoint_problems(endpoints: list[Json]) -> list[str]:
    """What is wrong with the webhook endpoints of the account, if one of them is ours."""
    active = [one for one in endpoints if one.get("status") == "enabled"]
    if not active:
        return ["No webhook endpoint is enabled: nothing is delivered, only the catch-up hears of payments."]
    problems = []
    for endpoint in active:
        version = endpoint.get("api_version")
        if version != stripe.api_version:
            problems.append(
                f"{endpoint['url']} gets events in API version {version or 'of the account'}, "
                f"the SDK reads {stripe.api_version}."
            )
        events = set(endpoint.get("enabled_events") or ())
        lacking = sorted(set(handlers.HANDLERS) - events)
        if "*" not in events and lacking:
            problems.append(f"{endpoint['url']} does not get {', '.join(lacking)}.")
    return problems


def key_kind(key: str) -> str:
    """What a key is, in a word that says nothing of it."""
    kind = "restricted" if key.startswith("rk_") else "secret (a restricted one would do)"
    return f"{kind}, {'live' if key.startswith(LIVE_KEYS) else 'test'} mode"
