"""The words for accounts, states and actions, as staff read them. An account without words fails a test."""

from ledger import accounts

ACCOUNTS: dict[str, tuple[str, str]] = {
    accounts.UNBILLED: ("Used, not yet invoiced", "Charges of open periods and of drafts."),
    accounts.CARRIED: ("Carried forward", "On its way from one period to a later one; 0 once it arrived."),
    accounts.RECEIVABLE: ("Open invoices", "Invoiced and not yet paid."),
    accounts.STRIPE: ("Paid through Stripe", "Collected by Stripe, before it is paid out to us."),
    accounts.BANK: ("Paid to our bank", "Paid outside Stripe."),
    accounts.DISPUTED: ("In dispute", "Withdrawn by a bank until the dispute is decided."),
    accounts.HOUSE: ("Passed on to the house", "Stripe money that was paid out to our bank, or exchanged."),
    accounts.CREDITS_PROMOTIONAL: ("Promotional credit left", "Given away; used up first."),
    accounts.CREDITS_GOODWILL: ("Goodwill credit left", "Given as an apology; used up after promotional credit."),
    accounts.CREDITS_PREPAID: ("Prepaid credit left", "Bought in advance; used up last."),
    accounts.TAX: ("Tax owed", "Collected for the tax office."),
    accounts.UNAPPLIED: ("Paid too much", "The customer's money that no invoice used yet."),
    accounts.DEFERRED: ("Paid in advance", "Plans whose time is not over."),
    accounts.USAGE: ("Usage", "All usage charged so far."),
    accounts.PLANS: ("Plans", "All plan fees charged so far."),
    accounts.ADJUSTMENTS: ("Corrections by staff", "Charges added, less what was credited and waived."),
    accounts.PROMOTIONS: ("Credit given away", "All credit granted; shown as negative income."),
    accounts.ROUNDING: ("Rounding", "What rounding invoices to whole cents added or took away."),
    accounts.TAX_INCLUDED: ("Tax within prices", "The part of gross prices that is tax."),
    accounts.BREAKAGE: ("Expired prepaid credit", "Bought and never used."),
    accounts.PAYMENT_FEES: ("Payment fees", "What Stripe kept of the payments."),
    accounts.DISPUTE_FEES: ("Dispute fees", "What disputes cost."),
    accounts.CHARGEBACKS: ("Lost disputes", "Money that banks took back for good."),
    accounts.BAD_DEBT: ("Given up", "Invoices that will not be paid."),
    accounts.OPENING: ("Brought in", "Balances from before this ledger."),
    accounts.CUSTOMERS: ("Owed to customers' books", "The house's share of payouts."),
    accounts.SUSPENSE: ("Not yet understood", "Money that nobody could assign."),
    accounts.PROVIDER_FEES: ("Stripe's own fees", "Fees that belong to no customer."),
    accounts.EXCHANGE: ("Exchange differences", "Gains and losses between currencies."),
}

# What a support agent looks for first. All the others stand behind a fold.
MAIN_ACCOUNTS = (
    accounts.UNBILLED,
    accounts.RECEIVABLE,
    accounts.CREDITS_PROMOTIONAL,
    accounts.CREDITS_GOODWILL,
    accounts.CREDITS_PREPAID,
    accounts.UNAPPLIED,
    accounts.DISPUTED,
)

# State: (word, colour of the badge)
INVOICE_STATES = {
    "draft": ("Draft", "info"),
    "final": ("Final, open", "warn"),
    "paid": ("Paid", "ok"),
    "void": ("Void", ""),
    "uncollectible": ("Given up", "bad"),
    "carried_forward": ("Carried forward", "note"),
    "empty": ("Nothing to bill", ""),
}
SYNC_STATES = {
    "due": ("Waiting to be sent", "info"),
    "running": ("Being sent", "info"),
    "waiting": ("Will be tried again", "warn"),
    "unknown": ("Outcome unknown", "bad"),
    "done": ("At Stripe", "ok"),
    "parked": ("Needs a person", "bad"),
}
INBOX_STATES = {
    "pending": ("Waiting", "info"),
    "done": ("Handled", "ok"),
    "ignored": ("Not ours to handle", ""),
    "parked": ("Failed", "bad"),
}
ENTRY_KINDS = {
    "usage": "Usage",
    "plan": "Plan",
    "carry": "Carried forward",
    "adjustment": "Correction",
    "rounding": "Rounding",
    "finalization": "Invoiced",
    "tax": "Tax",
    "credit": "Credit used",
    "grant": "Credit granted",
    "cash": "Payment",
    "fee": "Fee",
    "refund": "Refund",
    "credit_note": "Credit note",
    "dispute": "Dispute",
    "payout": "Payout",
    "void": "Voided",
    "write_off": "Given up",
    "opening": "Opening balance",
}
MOVEMENTS = {
    "credit_note": "Credit note",
    "refund_unapplied": "Refund of unused money",
    "keep_unapplied": "Unused money kept as credit",
    "void": "Void",
    "write_off": "Given up",
    "outside_payment": "Payment that came another way",
    "accept_dispute": "Dispute accepted",
}
MOVEMENT_STATES = {
    "awaiting_approval": ("Awaits approval", "warn"),
    "working": ("Under way", "info"),
    "done": ("Done", "ok"),
    "refused": ("Refused", "bad"),
    "withdrawn": ("Withdrawn", ""),
}
OPERATION_STATES = {
    "due": ("Waiting to be sent", "info"),
    "running": ("Being sent", "info"),
    "waiting": ("Will be tried again", "warn"),
    "unknown": ("Outcome unknown", "bad"),
    "parked": ("Needs a person", "bad"),
    "done": ("Done at Stripe", "ok"),
    "refused": ("Refused by Stripe", "bad"),
}
OPERATIONS = {
    "void": "Void",
    "uncollectible": "Giving up",
    "pay_outside": "Payment that came another way",
    "pay_part": "Part that came another way",
    "refund": "Refund",
    "credit_note": "Credit note",
    "balance": "Balance at Stripe back to 0",
    "close_dispute": "Accepting a dispute",
}
REFUND_STATES = {
    "requested": ("Asked for", "info"),
    "pending": ("On its way", "info"),
    "succeeded": ("Sent back", "ok"),
    "failed": ("Failed", "bad"),
    "canceled": ("Cancelled", "bad"),
}
DISPUTE_STATES = {
    "warning_needs_response": ("Inquiry, needs a response", "warn"),
    "warning_under_review": ("Inquiry, under review", "info"),
    "warning_closed": ("Inquiry closed", ""),
    "needs_response": ("Needs a response", "bad"),
    "under_review": ("Under review", "info"),
    "prevented": ("Prevented", ""),
    "lost": ("Lost", "bad"),
    "won": ("Won", "ok"),
}
PAYOUT_STATES = {
    "pending": ("Pending", "info"),
    "in_transit": ("On its way", "info"),
    "paid": ("Paid", "ok"),
    "canceled": ("Cancelled", "bad"),
    "failed": ("Failed", "bad"),
}
PRICE_CHANGE_STATES = {
    "drafted": ("Drafted", "warn"),
    "published": ("Published", "ok"),
    "withdrawn": ("Withdrawn", ""),
}
PRICE_STATES = {"now": ("Now", "ok"), "later": ("Later", "info"), "past": ("Past", "")}
TAX_STATUSES = {"taxable": "Taxed", "exempt": "Exempt", "reverse_charge": "Reverse charge"}
STAGES = {"close": "Closing a period", "finalize": "Finalizing a draft"}
ADJUSTMENT_KINDS = {"charge": "Charge added", "credit": "Line credited", "waive": "Line waived"}
EARLY_CAUSES = {
    "leaving": "the customer leaves",
    "early": "the customer pays early",
    "threshold": "the spending threshold was reached",
}
COLLECTION = {"automatic": "Charged automatically", "send_invoice": "Pays by invoice"}


def sentence(text: str) -> str:
    """The text as a sentence begins: some name first what they are about, such as "charge ch_1 ..."."""
    # An id, such as in_1Abc or a customer's own, is written as it is.
    first = text.split(maxsplit=1)[0] if text else ""
    return text[:1].upper() + text[1:] if first.rstrip(",.:;").isalpha() else text


def account_title(code: str) -> str:
    """What staff call the account."""
    return ACCOUNTS[code][0] if code in ACCOUNTS else code


def account_within(code: str) -> str:
    """The same within a sentence: only the first letter gets small, names keep theirs."""
    title = account_title(code)
    return title[:1].lower() + title[1:]


def account_note(code: str) -> str:
    """What stands on the account, in a sentence."""
    return ACCOUNTS[code][1] if code in ACCOUNTS else ""
