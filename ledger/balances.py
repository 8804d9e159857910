"""Balances, read from the running totals: what the books say right now."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, union_all
from sqlalchemy.orm import Session

from ledger.accounts import is_debit_normal
from ledger.tables import TOTALS, UNBILLED_TOTALS


def balances(session: Session, *, customer_id: UUID) -> dict[str, Decimal]:
    """Every account's balance in major units, exact, in its normal direction: assets and expenses as debits minus
    credits, all others as credits minus debits. Accounts that never moved are missing."""
    moved = union_all(
        select(
            TOTALS.c.debit_account.label("account"),
            TOTALS.c.amount.label("debit"),
            (TOTALS.c.amount * 0).label("credit"),
        ).where(TOTALS.c.customer_id == customer_id),
        select(TOTALS.c.credit_account, TOTALS.c.amount * 0, TOTALS.c.amount).where(
            TOTALS.c.customer_id == customer_id
        ),
    ).subquery()
    rows = session.execute(
        select(moved.c.account, func.sum(moved.c.debit), func.sum(moved.c.credit)).group_by(moved.c.account)
    )
    return {
        account: (debit - credit) if is_debit_normal(account) else (credit - debit)
        for account, debit, credit in sorted(rows.all())
    }


def balance(session: Session, *, customer_id: UUID, account: str) -> Decimal:
    """One account's balance, as in `balances`; 0 if it never moved."""
    return balances(session, customer_id=customer_id).get(account, Decimal(0))


def unbilled(
    session: Session, *, customer_id: UUID, period_start: datetime, document_ids: Sequence[UUID] = ()
) -> Decimal:
    """Net assets:unbilled of one period's charges and of these documents, exact, in major units."""
    view = UNBILLED_TOTALS.c
    charges = view.document_id.is_(None) & (view.period_start == period_start)
    total = session.scalar(
        select(func.coalesce(func.sum(view.amount), 0)).where(
            view.customer_id == customer_id, charges | view.document_id.in_(document_ids)
        )
    )
    return Decimal(total or 0)
