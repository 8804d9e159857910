"""Every kind of difference: what it is called, and what a person does about it. The names are stable."""

from dataclasses import dataclass

TASK_PREFIX = "drift:"


@dataclass(frozen=True, slots=True)
class Kind:
    """`title` says what is the matter in a few words, `cure` what a person does where it was not repaired.

    `task` and `subjects` are for what others open tasks about as well: theirs is the same task as ours.
    """

    title: str
    cure: str
    task: str | None = None
    subjects: str = ""


_WAIT = "Usually the next run repairs this. If it stays, look at both sides and correct the one that is wrong."

KINDS: dict[str, Kind] = {
    # Invoices
    "status_behind": Kind("An invoice's status had not reached us", _WAIT),
    "orphan_draft": Kind("A draft at Stripe that belongs to nothing", "Delete the draft at Stripe."),
    "missing_at_stripe": Kind(
        "An invoice is missing at Stripe",
        "It was there once: look in Stripe's log who removed it. Nobody collects it now. Void it here and bill it "
        "again, or record the payment if it was paid another way.",
    ),
    "duplicate_at_stripe": Kind(
        "A second invoice at Stripe for one of ours",
        "Void the second one at Stripe before it is paid. If it was paid, refund it there.",
    ),
    "invoice_differs": Kind(
        "An invoice at Stripe is not what we asked for",
        "Compare the two. What was edited at Stripe is edited back there; if Stripe's amount is the right one, void "
        "the invoice and bill again.",
    ),
    "unknown_invoice": Kind(
        "An invoice at Stripe names one of ours that was never sent",
        "Another system may use the same Stripe account: then nothing is wrong. Or this database was restored and is "
        "older than what stands at Stripe: then hold the customer's draft for that period, or they are charged twice.",
    ),
    "foreign_invoice": Kind(
        "An invoice made by hand for one of our customers",
        "It is in no books. Void it at Stripe and put the amount on the customer's next draft, or keep it and settle "
        "its money by hand.",
    ),
    "void_at_stripe_only": Kind(
        "An invoice was voided at Stripe alone",
        "Void it here as well: to bill it again or to give it up. Until then it stays open in the books.",
    ),
    "void_here_only": Kind("An invoice is void here alone", "Void it at Stripe, before anybody pays it."),
    "uncollectible_at_stripe_only": Kind(
        "An invoice was given up at Stripe alone",
        "Write it off here as well if that is meant. Until then it stays open in the books.",
    ),
    "uncollectible_here_only": Kind(
        "An invoice is given up here alone", "Mark it uncollectible at Stripe, where it is still collected."
    ),
    "paid_here_only": Kind(
        "An invoice is paid here and open at Stripe",
        "Find the payment that stands here. If it is real, mark the invoice paid out of band at Stripe, so that nobody "
        "pays twice.",
    ),
    "paid_outside_at_stripe": Kind(
        "An invoice was marked at Stripe as paid outside",
        "Nobody said so here. When the money is in our bank, record it on the invoice as an outside payment.",
    ),
    "paid_without_money": Kind(
        "An invoice was paid from a balance at Stripe",
        "No payment will come. Set the customer's balance at Stripe to 0, and give the credit here if it was meant.",
    ),
    # Payments
    "payment_at_stripe_only": Kind("A payment had not reached us", _WAIT),
    "payment_differs": Kind(
        "A payment has another amount or invoice at Stripe", "Look at the payment at Stripe; correct the books."
    ),
    "payment_here_only": Kind(
        "A payment that Stripe does not have",
        "It was recorded as paid through Stripe, and Stripe lists no such payment. Find where it came from.",
    ),
    # Refunds, credit notes, disputes
    "refund_at_stripe_only": Kind("A refund was made at Stripe alone", _WAIT),
    "refund_behind": Kind("A refund's outcome had not reached us", _WAIT),
    "refund_missing_at_stripe": Kind(
        "A refund that Stripe does not have",
        "The customer did not get this money. Pay it another way, or reverse the refund in the books.",
    ),
    "refund_differs": Kind("A refund has another amount at Stripe", "Look at the refund at Stripe; correct the books."),
    "credit_note_at_stripe_only": Kind(
        "A credit note was made at Stripe alone",
        "Issue the same credit note here, so that the books and the customer's page show it; or void it at Stripe.",
        task="foreign_credit_note",
    ),
    "credit_note_voided_at_stripe": Kind(
        "Our credit note was voided at Stripe",
        "It stands in the books. Find out who voided it, and why; if it was right, bill the amount again.",
        task="credit_note_voided",
    ),
    "credit_note_tax_differs": Kind(
        "A credit note gives another tax back at Stripe",
        "The books are right; Stripe's own document says otherwise. Compare the two before either is used for taxes.",
    ),
    "credit_note_behind": Kind("A credit note had not reached us", _WAIT),
    "credit_note_missing_at_stripe": Kind(
        "A credit note that Stripe does not have",
        "It stands in the books. Issue it at Stripe as well, or Stripe collects too much.",
    ),
    "dispute_at_stripe_only": Kind("A dispute had not reached us", _WAIT),
    "dispute_behind": Kind("A dispute's outcome had not reached us", _WAIT),
    "dispute_missing_at_stripe": Kind(
        "A dispute that Stripe does not have", "Look in Stripe's log; a dispute never goes away there."
    ),
    # Money
    "fee_not_booked": Kind("A fee had not been booked", _WAIT),
    "transaction_at_stripe_only": Kind("A movement of the balance had not been booked", _WAIT),
    "unknown_money": Kind(
        "Money at Stripe that belongs to nobody",
        "Open it at Stripe (the link under About) and see who paid it and why; until then it stands on the page Money, "
        "Payouts as not understood. If it pays one of our invoices, refund it at Stripe, and let the customer pay the "
        "invoice itself; if it is nobody's, refund it too. If it is income or a cost that has nothing to do with an "
        "invoice, tell your accountant. Then write below what you found and did: once it is resolved it counts as "
        "explained. What turns out to be a customer's after all is booked there by itself.",
        task="unknown_money",
        subjects="stripe:",
    ),
    "payout_at_stripe_only": Kind("A payout had not reached us", _WAIT),
    "payout_behind": Kind("A payout's outcome had not reached us", _WAIT),
    "payout_not_cleared": Kind("A payout had not been cleared from the customers' books", _WAIT),
    "payout_missing_at_stripe": Kind(
        "A payout that Stripe does not have", "Look at the bank account; correct the house's books."
    ),
    "money_differs": Kind(
        "The books and Stripe's balance differ",
        "The sums of what Stripe moved and of what was booked differ by the amount named. The differences listed "
        "beside this one usually explain it; else compare the customer's entries with Stripe's balance transactions.",
    ),
    # Customers
    "customer_balance": Kind(
        "A customer has a balance at Stripe",
        "Stripe would take it from, or add it to, the next invoice. Set it to 0 there, and give the credit here "
        "if it was meant.",
    ),
    "customer_deleted": Kind(
        "A customer was deleted at Stripe",
        "Nothing more can be collected from them there. Arrange another way to be paid.",
    ),
    "customer_differs": Kind(
        "A customer at Stripe names another of ours", "Correct the metadata ledger_customer_id at Stripe."
    ),
}


def task_kind(kind: str) -> str:
    """The kind of the tasks about a kind of difference."""
    return KINDS[kind].task or TASK_PREFIX + kind


def of_task(task: str) -> str:
    """The kind of difference that a kind of task is about."""
    for name, kind in KINDS.items():
        if kind.task == task:
            return name
    return task.removeprefix(TASK_PREFIX)


TASKS = tuple(task_kind(name) for name in KINDS)
"""Every kind of task that a run opens, sees again, and closes."""
