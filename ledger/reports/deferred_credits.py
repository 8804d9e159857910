"""Deferred credits: what we owe each customer in service or money."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import FromClause, func, or_, select, union_all
from sqlalchemy.orm import Session

from ledger import accounts
from ledger.reports.moves import Scope, moves, named, stream

ACCOUNTS = (*accounts.CREDITS, accounts.DEFERRED, accounts.UNAPPLIED)
"""Credit not yet used, fees not yet earned, money not yet applied to an invoice."""


@dataclass(frozen=True, slots=True)
class DeferredCredit:
    """What one customer holds in one account: credits minus debits, exact, in major units."""

    currency: str
    customer_id: UUID
    account: str
    amount: Decimal
    external_id: str | None
    name: str | None


def deferred_credits(session: Session, *, scope: Scope, names: FromClause | None = None) -> Iterator[DeferredCredit]:
    """Every customer's credits, deferred and unapplied money, by currency, customer and account; streamed.

    What is used up, and so 0, is left out; a negative amount would be an overdrawn credit. `names` may add what the
    ledger does not know: a subquery with `customer_id`, `external_id` and `name`.
    """
    moved = moves(scope).c
    sums = (
        select(
            moved.currency,
            moved.customer_id,
            moved.debit_account,
            moved.credit_account,
            func.sum(moved.amount).label("amount"),
        )
        .where(or_(moved.debit_account.in_(ACCOUNTS), moved.credit_account.in_(ACCOUNTS)))
        .group_by(moved.currency, moved.customer_id, moved.debit_account, moved.credit_account)
        .cte("sums")
        .c
    )
    held = union_all(
        select(sums.currency, sums.customer_id, sums.credit_account.label("account"), sums.amount).where(
            sums.credit_account.in_(ACCOUNTS)
        ),
        select(sums.currency, sums.customer_id, sums.debit_account, -sums.amount).where(
            sums.debit_account.in_(ACCOUNTS)
        ),
    ).subquery("held")
    key = (held.c.currency, held.c.customer_id, held.c.account)
    left = (
        select(*key, func.sum(held.c.amount).label("amount"))
        .group_by(*key)
        .having(func.sum(held.c.amount) != 0)
        .subquery("left")
    )
    query = named(select(left), customer_id=left.c.customer_id, names=names)
    for row in stream(session, query.order_by(left.c.currency, left.c.customer_id, left.c.account)):
        yield DeferredCredit(*row)
