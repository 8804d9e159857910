"""Differences of earlier runs: each open task is looked at again by itself, and closed once its difference is gone."""

from collections.abc import Callable
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.movements import tasks
from invoicing.movements.tables import Task
from stripe_gateway.reconciliation import (
    credit_notes,
    customers,
    disputes,
    invoices,
    money,
    payments,
    payouts,
    refunds,
    transactions,
)
from stripe_gateway.reconciliation.comparison import PAGE, Comparison
from stripe_gateway.reconciliation.kinds import KINDS, TASKS, of_task
from stripe_gateway.reconciliation.tables import StripeDifference

EXAMINERS: dict[str, Callable[[Comparison, str], None]] = {
    "in": invoices.examine,
    "inpay": payments.examine,
    "cus": customers.examine,
    "re": refunds.examine,
    "pyr": refunds.examine,
    "dp": disputes.examine,
    "du": disputes.examine,
    "cn": credit_notes.examine,
    "txn": transactions.examine,
    "po": payouts.examine,
}
"""Who compares a single object, by what Stripe's ids begin with."""

GONE = "The next reconciliation did not find this difference any more."


def open_tasks(work: Comparison, cursor: str | None) -> str | None:
    """A page of the open tasks of this kind; those that this run has not found again are examined."""
    query = select(Task).where(Task.kind.in_(TASKS), Task.resolved_at.is_(None)).order_by(Task.id).limit(PAGE)
    if cursor is not None:
        query = query.where(Task.id > UUID(cursor))
    with Session(work.engine, expire_on_commit=False) as session:
        rows = list(session.scalars(query))
    for task in rows:
        if not _is_found(work, task):
            examine(work, _subject(task))
            if not _is_found(work, task):
                _close(work, task)
    return str(rows[-1].id) if len(rows) == PAGE else None


def examine(work: Comparison, subject: str) -> None:
    """Compare one object, whatever it is; what is found is named as ever."""
    prefix, _, rest = subject.partition("_")
    # What has no prefix of Stripe's is a customer's or an account's sum.
    EXAMINERS.get(prefix if rest else "", money.examine)(work, subject)


def _is_found(work: Comparison, task: Task) -> bool:
    """Whether this run says that a person must still look."""
    with Session(work.engine) as session:
        found = session.get(StripeDifference, (work.place.run.id, of_task(task.kind), _subject(task), "task"))
        return found is not None


def _subject(task: Task) -> str:
    """The id of the object that the task is about."""
    return task.subject.removeprefix(KINDS[of_task(task.kind)].subjects)


def _close(work: Comparison, task: Task) -> None:
    with Session(work.engine) as session, session.begin():
        tasks.resolve_gone(session, kind=task.kind, subject=task.subject, cause=GONE, now=work.now)
