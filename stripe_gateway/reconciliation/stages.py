"""The stages of a run, in order. Each does one page, and says from where the next one goes on; None ends it."""

from collections.abc import Callable

from stripe_gateway.reconciliation import (
    credit_notes,
    customers,
    disputes,
    invoices,
    money,
    payments,
    payouts,
    rechecks,
    refunds,
    transactions,
)
from stripe_gateway.reconciliation.comparison import Comparison

Stage = Callable[[Comparison, str | None], str | None]

# Later stages rely on what earlier ones repaired: whose a payment intent is becomes known with its payment.
STAGES: dict[str, Stage] = {
    "customers": customers.listed,
    "our customers": customers.ours,
    "invoices": invoices.listed,
    "open invoices": invoices.still_open,
    "uncollectible invoices": invoices.given_up,
    "our invoices": invoices.ours,
    "payments": payments.listed,
    "our payments": payments.ours,
    "credit notes": credit_notes.listed,
    "our credit notes": credit_notes.ours,
    "refunds": refunds.listed,
    "our refunds": refunds.ours,
    "disputes": disputes.listed,
    "our disputes": disputes.ours,
    "balance transactions": transactions.listed,
    "debits under way": transactions.unanswered,
    "payouts": payouts.listed,
    "our payouts": payouts.ours,
    "money": money.customers,
    "account": money.accounts,
    "tasks": rechecks.open_tasks,
}
FIRST = next(iter(STAGES))


def after(stage: str) -> str | None:
    """The stage that follows; None after the last one."""
    names = list(STAGES)
    following = names.index(stage) + 1
    return names[following] if following < len(names) else None
