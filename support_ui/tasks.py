"""Tasks: what only a person can settle, with what happened, what to do, and who settled it."""

from datetime import datetime
from uuid import UUID

import structlog
from flask import g, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields, validate
from sqlalchemy import func, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from invoicing.customers import customers_by_id
from invoicing.errors import InvoicingError
from invoicing.movements import tasks
from invoicing.movements.tables import Task
from invoicing.movements.tasks import TaskNotFound
from support_ui.access import actor, needs
from support_ui.forms import FIELD_OF_CODE, ON_FORM, Form, Typed, read_form
from support_ui.home import invoices_by_id
from support_ui.site import answer_form, bp, not_found, say

log = structlog.get_logger(__name__)

PAGE = 50
EARLIER = 20
STATES = {"open": "Open", "resolved": "Resolved"}


class Resolution(Typed):
    """How a task was settled."""

    reason = fields.String(
        required=True,
        validate=validate.Length(1, 2000, error="Say what you found and did, in 1 to 2,000 characters."),
        error_messages={"required": "Say what you found and did, in 1 to 2,000 characters."},
    )


@bp.app_context_processor
def for_navigation() -> dict[str, object]:
    """How many tasks are open, for whoever asks."""
    return {"count_open_tasks": count_open}


def count_open() -> int:
    """How many tasks are open; 0 where the database cannot be asked, such as on a page about its failure."""
    session: Session | None = g.get("session")
    try:
        return 0 if session is None else sum(tasks.count_open(session).values())
    except SQLAlchemyError:
        return 0


@bp.get("/tasks")
def task_list() -> ResponseReturnValue:
    """Tasks, the newest first; `state` and `kind` narrow, `before` pages."""
    state = request.args.get("state", "open")
    state = state if state in STATES else "open"
    kind = request.args.get("kind", "")[:100]
    rows = _rows(g.session, state=state, kind=kind, before=request.args.get("before", ""))
    shown = rows[:PAGE]
    named = sorted({task.customer_id for task in shown if task.customer_id})
    return render_template(
        "support/tasks/index.html",
        tasks=shown,
        next_before=_cursor(shown[-1], state=state) if len(rows) > PAGE else None,
        state=state,
        states=STATES,
        kind=kind,
        kinds=_kinds(g.session, state=state),
        counts=_counts(g.session),
        customers=customers_by_id(g.session, customer_ids=named),
        invoices=invoices_by_id(g.session, [task.invoice_id for task in shown if task.invoice_id]),
        kind_words=kind_words,
    )


@bp.get("/tasks/<uuid:task_id>")
def task(task_id: UUID) -> ResponseReturnValue:
    """One task."""
    return render_template("support/tasks/show.html", **_context(task_id))


@bp.post("/tasks/<uuid:task_id>/resolution")
@needs("agent")
def resolve(task_id: UUID) -> ResponseReturnValue:
    """Settle a task, with the reason, for good. Found again in other words it is a new one."""
    form = read_form(Resolution, name="resolution")
    if form.is_valid:
        try:
            tasks.resolve_task(g.session, task_id=task_id, actor=actor(), now=g.now, **form.values)
        except TaskNotFound:
            raise
        except InvoicingError as error:
            g.session.rollback()
            form.refuse(str(error), at=FIELD_OF_CODE.get(error.code, ON_FORM))
        else:
            log.info("task_resolved", task_id=str(task_id), actor=actor())
            say("The task is resolved.")
    return answer_form(
        page="support/tasks/show.html",
        fragment="support/tasks/_task.html",
        status=422 if form.errors else 200,
        context=_context(task_id, form=form if form.errors else None),
        done_at=url_for(".task", task_id=task_id),
    )


bp.register_error_handler(TaskNotFound, not_found)


def _context(task_id: UUID, *, form: Form | None = None) -> dict[str, object]:
    found = tasks.get_task(g.session, task_id=task_id)
    customers = customers_by_id(g.session, customer_ids=[found.customer_id] if found.customer_id else [])
    invoices = invoices_by_id(g.session, [found.invoice_id] if found.invoice_id else [])
    return {
        "task": found,
        "customers": customers,
        "invoice": invoices.get(found.invoice_id) if found.invoice_id else None,
        "earlier": _earlier(g.session, found),
        "form": form,
        "kind_words": kind_words,
    }


def _rows(session: Session, *, state: str, kind: str, before: str) -> list[Task]:
    moment = Task.opened_at if state == "open" else Task.resolved_at
    is_resolved = Task.resolved_at.is_not(None) if state == "resolved" else Task.resolved_at.is_(None)
    query = select(Task).where(is_resolved).order_by(moment.desc(), Task.id.desc()).limit(PAGE + 1)
    if kind:
        query = query.where(Task.kind == kind)
    cursor = _read_cursor(before)
    if cursor is not None:
        query = query.where(tuple_(moment, Task.id) < cursor)
    return list(session.scalars(query))


def _cursor(task: Task, *, state: str) -> str:
    moment = task.opened_at if state == "open" else task.resolved_at
    return f"{moment.isoformat() if moment else ''} {task.id}"


def _read_cursor(text: str) -> tuple[datetime, UUID] | None:
    moment, _, task_id = text.partition(" ")
    try:
        instant = datetime.fromisoformat(moment)
        return (instant, UUID(task_id)) if instant.tzinfo else None
    except ValueError:
        return None


def _kinds(session: Session, *, state: str) -> dict[str, int]:
    """Every kind of which there is a task in this state, with how many."""
    if state == "open":
        return tasks.count_open(session)
    rows = session.execute(
        select(Task.kind, func.count()).where(Task.resolved_at.is_not(None)).group_by(Task.kind).order_by(Task.kind)
    )
    return {row[0]: row[1] for row in rows}


def _counts(session: Session) -> dict[str, int]:
    resolved = session.scalar(select(func.count()).select_from(Task).where(Task.resolved_at.is_not(None)))
    return {"open": sum(tasks.count_open(session).values()), "resolved": resolved or 0}


def _earlier(session: Session, task: Task) -> list[Task]:
    """Earlier tasks about the same, which were resolved and came back."""
    return list(
        session.scalars(
            select(Task)
            .where(Task.kind == task.kind, Task.subject == task.subject, Task.id != task.id)
            .where(Task.opened_at <= task.opened_at)
            .order_by(Task.opened_at.desc(), Task.id)
            .limit(EARLIER)
        )
    )


def kind_words(kind: str) -> str:
    """A kind of task as a person reads it: "drift:paid_here_only" is "Paid here only"."""
    words = kind.rpartition(":")[2].replace("_", " ").replace("stripe", "Stripe").strip()
    return words[:1].upper() + words[1:]
