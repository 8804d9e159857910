"""Revenue: what was earned, by month, income account and item."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import BigInteger, Date, cast, func, select, union_all
from sqlalchemy.orm import Session

from ledger.reports.moves import Scope, moves, stream


@dataclass(frozen=True, slots=True)
class RevenueRow:
    """What one item earned in one month. `amount` and `quantity` are exact and signed: what was taken back is negative.

    `item` is None for what is about no item, such as rounding.
    """

    currency: str
    month: date
    account: str
    item: str | None
    quantity: Decimal
    amount: Decimal
    entries: int


def revenue(
    session: Session, *, scope: Scope, first_month: date | None = None, last_month: date | None = None
) -> Iterator[RevenueRow]:
    """Every income account's credits less its debits, by currency, month, account and item; streamed in that order.

    A month is that of the use: a charge's in the customer's own time zone, as on the panel and the invoice, so that
    usage of the last evening of a month is that month's; what is no charge (adjustments, rounding, credit given away)
    counts by UTC. Late usage stands in the month of its use, whichever invoice bills it. `first_month` and
    `last_month` are first days of months, both inclusive.
    """
    moved = moves(scope).c
    month = cast(func.date_trunc("month", moved.day), Date)
    is_income = moved.debit_account.startswith("income:") | moved.credit_account.startswith("income:")
    sums = (
        select(
            moved.currency,
            month.label("month"),
            moved.debit_account,
            moved.credit_account,
            moved.item,
            func.sum(moved.quantity).label("quantity"),
            func.sum(moved.amount).label("amount"),
            func.sum(moved.entries).label("entries"),
        )
        .where(is_income)
        .group_by(moved.currency, month, moved.debit_account, moved.credit_account, moved.item)
        .cte("sums")
        .c
    )
    earned = union_all(
        select(
            sums.currency,
            sums.month,
            sums.credit_account.label("account"),
            sums.item,
            sums.quantity,
            sums.amount,
            sums.entries,
        ).where(sums.credit_account.startswith("income:")),
        select(
            sums.currency, sums.month, sums.debit_account, sums.item, -sums.quantity, -sums.amount, sums.entries
        ).where(sums.debit_account.startswith("income:")),
    ).subquery("earned")
    key = (earned.c.currency, earned.c.month, earned.c.account, earned.c.item)
    query = select(
        *key, func.sum(earned.c.quantity), func.sum(earned.c.amount), cast(func.sum(earned.c.entries), BigInteger)
    )
    if first_month is not None:
        query = query.where(earned.c.month >= first_month)
    if last_month is not None:
        query = query.where(earned.c.month <= last_month)
    for row in stream(session, query.group_by(*key).order_by(*key)):
        yield RevenueRow(*row)
