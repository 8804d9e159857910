"""The chart of accounts. The table `ledger_accounts` holds the same codes; a test compares them."""

UNBILLED = "assets:unbilled"
CARRIED = "assets:carried"
RECEIVABLE = "assets:receivable"
STRIPE = "assets:stripe"
BANK = "assets:bank"
DISPUTED = "assets:disputed"
HOUSE = "assets:house"
CREDITS_PROMOTIONAL = "liabilities:credits:promotional"
CREDITS_GOODWILL = "liabilities:credits:goodwill"
CREDITS_PREPAID = "liabilities:credits:prepaid"
TAX = "liabilities:tax"
UNAPPLIED = "liabilities:unapplied"
DEFERRED = "liabilities:deferred"
USAGE = "income:usage"
PLANS = "income:plans"
ADJUSTMENTS = "income:adjustments"
PROMOTIONS = "income:promotions"
ROUNDING = "income:rounding"
TAX_INCLUDED = "income:tax_included"
BREAKAGE = "income:breakage"
PAYMENT_FEES = "expenses:payment_fees"
DISPUTE_FEES = "expenses:dispute_fees"
CHARGEBACKS = "expenses:chargebacks"
BAD_DEBT = "expenses:bad_debt"
OPENING = "equity:opening"
CUSTOMERS = "assets:customers"
SUSPENSE = "assets:suspense"
PROVIDER_FEES = "expenses:provider_fees"
EXCHANGE = "income:exchange"

CUSTOMER_ACCOUNTS = frozenset({
    UNBILLED, CARRIED, RECEIVABLE, STRIPE, BANK, DISPUTED, HOUSE, CREDITS_PROMOTIONAL, CREDITS_GOODWILL,
    CREDITS_PREPAID, TAX, UNAPPLIED, DEFERRED, USAGE, PLANS, ADJUSTMENTS, PROMOTIONS, ROUNDING, TAX_INCLUDED, BREAKAGE,
    PAYMENT_FEES, DISPUTE_FEES, CHARGEBACKS, BAD_DEBT, OPENING,
})  # fmt: skip
HOUSE_ACCOUNTS = frozenset({STRIPE, BANK, OPENING, CUSTOMERS, SUSPENSE, PROVIDER_FEES, EXCHANGE})

CREDITS = (CREDITS_PROMOTIONAL, CREDITS_GOODWILL, CREDITS_PREPAID)
"""In the order in which they are used up: what expires or was given away before what was paid for."""


def accounts_of(holder: str) -> frozenset[str]:
    """The accounts that books of this holder ("customer" or "house") may use."""
    return HOUSE_ACCOUNTS if holder == "house" else CUSTOMER_ACCOUNTS


def is_debit_normal(account: str) -> bool:
    """Whether a balance of this account is shown as debits minus credits (assets and expenses)."""
    return account.startswith(("assets:", "expenses:"))
