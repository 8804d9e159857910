"""The trial balance: what was debited to and credited to each account, and that both sides are equal."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, literal, select, union_all
from sqlalchemy.orm import Session

from ledger.accounts import is_debit_normal
from ledger.money import EXACT
from ledger.reports.moves import Scope, moves

ORDER = ("assets", "liabilities", "equity", "income", "expenses")
"""In which accountants read them."""


@dataclass(frozen=True, slots=True)
class TrialBalanceRow:
    """One account in one currency, over all books in scope. Amounts exact, in major units."""

    currency: str
    account: str
    debits: Decimal
    credits: Decimal
    entries: int

    @property
    def balance(self) -> Decimal:
        """In the account's normal direction: assets and expenses as debits minus credits, all others reversed."""
        difference = EXACT.subtract(self.debits, self.credits)
        return difference if is_debit_normal(self.account) else EXACT.minus(difference)


def trial_balance(session: Session, *, scope: Scope) -> list[TrialBalanceRow]:
    """Every account that moved, by currency, then assets, liabilities, equity, income, expenses.

    Within a currency debits and credits add up to the same: each entry counts once on either side. The house's books
    are included. At most as many rows as there are accounts and currencies.
    """
    moved = moves(scope).c
    pairs = (
        select(
            moved.currency,
            moved.debit_account,
            moved.credit_account,
            func.sum(moved.amount).label("amount"),
            func.sum(moved.entries).label("entries"),
        )
        .group_by(moved.currency, moved.debit_account, moved.credit_account)
        .cte("pairs")
        .c
    )
    nothing = literal(Decimal(0))
    sides = (
        union_all(
            select(
                pairs.currency,
                pairs.debit_account.label("account"),
                pairs.amount.label("debits"),
                nothing.label("credits"),
                pairs.entries,
            ),
            select(pairs.currency, pairs.credit_account, nothing, pairs.amount, pairs.entries),
        )
        .subquery()
        .c
    )
    rows = session.execute(
        select(
            sides.currency, sides.account, func.sum(sides.debits), func.sum(sides.credits), func.sum(sides.entries)
        ).group_by(sides.currency, sides.account)
    )
    found = [TrialBalanceRow(*row[:4], entries=int(row[4])) for row in rows]
    return sorted(found, key=lambda row: (row.currency, ORDER.index(row.account.partition(":")[0]), row.account))
