"""Account names in the accountants' tools: fixed, so that exports of different days fit together."""

from uuid import UUID

from ledger import accounts

ROOTS = {
    "assets": "Assets",
    "liabilities": "Liabilities",
    "income": "Income",
    "expenses": "Expenses",
    "equity": "Equity",
}


def account_name(code: str, customer_id: UUID) -> str:
    """`expenses:payment_fees` of a customer as `Expenses:PaymentFees:C6d1d7c0e-...`.

    Beancount wants each part to begin with a capital or a digit and to hold letters, digits and hyphens only, and
    knows five roots; hledger takes all of that. The id stands whole, behind a C: it can be read back and searched for.
    Source: https://beancount.github.io/docs/beancount_language_syntax.html#accounts
    """
    return f"{_NAMES[code]}:C{customer_id}"


def _name(code: str) -> str:
    root, *rest = code.split(":")
    return ":".join([ROOTS[root], *("".join(word.capitalize() for word in part.split("_")) for part in rest)])


_NAMES = {code: _name(code) for code in sorted(accounts.CUSTOMER_ACCOUNTS | accounts.HOUSE_ACCOUNTS)}
