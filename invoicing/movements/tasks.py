"""Tasks: what only a person can settle, found by the system, seen in the support UI until somebody resolved it."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.drafts import checked_reason
from invoicing.errors import InvoicingError
from invoicing.movements.tables import Task

SYSTEM = "billing"
"""Who resolves a task that is gone by itself."""

_TITLE, _TEXT, _CAUSE, _SUBJECT = 300, 4000, 500, 500  # characters, as Postgres has it


class TaskNotFound(InvoicingError):
    """There is no such task. Reload the list."""

    code = "unknown_task"


class TaskResolved(InvoicingError):
    """Somebody resolved this task already. Reload the list."""

    code = "task_resolved"


def open_task(
    session: Session,
    *,
    kind: str,
    subject: str,
    title: str,
    text: str,
    cause: str,
    now: datetime,
    customer_id: UUID | None = None,
    invoice_id: UUID | None = None,
    details: Mapping[str, Any] | None = None,
) -> Task:
    """Open a task, or see an open one of this kind and subject once more. The caller commits.

    `kind` is stable (such as "refund_failed"), `subject` what it is about, unique within the kind (an id, at most 500
    characters). Seen again, its title, text, cause and details are those of now; a resolved one is opened anew.
    `title` (300 characters), `text` (4,000) and `cause` (500) are cut to what fits; `details` is JSON.
    """
    values = {
        "title": title[:_TITLE],
        "text": text[:_TEXT],
        "cause": cause[:_CAUSE],
        "details": dict(details or {}),
        "seen_at": now,
    }
    statement = insert(Task).values(
        id=uuid4(),
        kind=kind,
        subject=subject,
        customer_id=customer_id,
        invoice_id=invoice_id,
        opened_at=now,
        **values,
    )
    statement = statement.on_conflict_do_update(
        index_elements=[Task.kind, Task.subject],
        index_where=Task.resolved_at.is_(None),
        set_={**values, "seen": Task.seen + 1},
    )
    return session.scalars(statement.returning(Task), execution_options={"populate_existing": True}).one()


def resolve_task(session: Session, *, task_id: UUID, actor: str, reason: str, now: datetime) -> Task:
    """Close a task: `reason` says what was done, in 1 to 2,000 characters. The caller commits.

    Raises:
        TaskNotFound, TaskResolved, ReasonMissing.
    """
    reason = checked_reason(reason)
    task = session.get(Task, task_id, with_for_update=True, populate_existing=True)
    if task is None:
        raise TaskNotFound("There is no such task. Reload the list.")
    if task.resolved_at is not None:
        raise TaskResolved(f"{task.resolved_by} resolved this task already: {task.resolution} Reload the list.")
    task.resolved_at, task.resolved_by, task.resolution = now, actor, reason
    session.flush()
    return task


def resolve_gone(session: Session, *, kind: str, subject: str, cause: str, now: datetime) -> bool:
    """Close the open task of this kind and subject, if there is one, since `cause` settled it. The caller commits."""
    gone = session.execute(
        update(Task)
        .where(Task.kind == kind, Task.subject == subject, Task.resolved_at.is_(None))
        .values(resolved_at=now, resolved_by=SYSTEM, resolution=cause[:2000])
        .returning(Task.id),
        execution_options={"synchronize_session": False},
    ).first()
    return gone is not None


def close_gone(
    session: Session, *, kinds: Collection[str], keep: Collection[tuple[str, str]], cause: str, now: datetime
) -> int:
    """Close every open task of these kinds but the `(kind, subject)` to keep: what is not found any more is settled.

    Says how many were closed; `cause` stands as their resolution. The caller commits.
    """
    if not kinds:
        return 0
    statement = update(Task).where(Task.kind.in_(list(kinds)), Task.resolved_at.is_(None))
    if keep:
        statement = statement.where(tuple_(Task.kind, Task.subject).not_in(list(keep)))
    closed = session.execute(
        statement.values(resolved_at=now, resolved_by=SYSTEM, resolution=cause[:2000]).returning(Task.id),
        execution_options={"synchronize_session": False},
    )
    return len(closed.all())


def get_task(session: Session, *, task_id: UUID) -> Task:
    """One task, open or resolved.

    Raises:
        TaskNotFound: there is none with this id.
    """
    task = session.get(Task, task_id, populate_existing=True)
    if task is None:
        raise TaskNotFound("There is no such task. Reload the list.")
    return task


def open_tasks(
    session: Session, *, kind: str | None = None, customer_id: UUID | None = None, limit: int = 200
) -> list[Task]:
    """Open tasks, the oldest first; `kind` and `customer_id` narrow."""
    query = select(Task).where(Task.resolved_at.is_(None)).order_by(Task.opened_at, Task.id).limit(limit)
    if kind is not None:
        query = query.where(Task.kind == kind)
    if customer_id is not None:
        query = query.where(Task.customer_id == customer_id)
    return list(session.scalars(query))


def count_open(session: Session) -> dict[str, int]:
    """How many tasks of each kind are open."""
    rows = session.execute(
        select(Task.kind, func.count()).where(Task.resolved_at.is_(None)).group_by(Task.kind).order_by(Task.kind)
    )
    return {row[0]: row[1] for row in rows}
