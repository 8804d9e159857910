"""The webhook inbox: what Stripe told us, what became of it, and a second run for what failed."""

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import structlog
from flask import abort, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from invoicing.customers import CustomerView, customers_by_id
from invoicing.provider import InboxEvent
from support_ui.access import actor, needs
from support_ui.inbox_words import explain
from support_ui.site import bp, refusal_text, say
from support_ui.wording import INBOX_STATES

log = structlog.get_logger(__name__)

PAGE = 100
RUNG_AT_ONCE = 1000  # the clock finds the rest within seconds


@bp.get("/webhooks")
def inbox() -> ResponseReturnValue:
    """Events, the newest first; `state` narrows, `before` pages."""
    state = request.args.get("state", "")
    state = state if state in INBOX_STATES else ""
    events: list[InboxEvent] = g.provider.inbox(
        g.session, state=state or None, before=_before(request.args.get("before", "")), limit=PAGE + 1
    )
    return render_template(
        "support/inbox/index.html",
        events=events[:PAGE],
        kinds=g.provider.parked_kinds(g.session) if state in ("", "parked") else [],
        kept=g.provider.kept_types(g.session) if state == "ignored" else {},
        customers=_customers(events),
        explain=explain,
        next_before=events[PAGE - 1].received_at.isoformat() if len(events) > PAGE else None,
        counts=g.provider.inbox_counts(g.session),
        state=state,
    )


@bp.get("/webhooks/<event_id>")
def event(event_id: str) -> ResponseReturnValue:
    """One event with its payload."""
    found = g.provider.inbox_event(g.session, event_id)
    if found is None:
        abort(404)
    payload = json.dumps(dict(found.payload), indent=2, ensure_ascii=False, sort_keys=True, default=str)
    return render_template(
        "support/inbox/show.html", event=found, payload=payload, customers=_customers([found]), explain=explain
    )


@bp.post("/webhooks/<event_id>/runs")
@needs("agent")
def rerun(event_id: str) -> ResponseReturnValue:
    """Make a failed event due again."""
    try:
        g.provider.rerun(g.session, event_id=event_id, actor=actor(), now=g.now)
    except Exception as error:
        # The provider's refusals are classes of a room that this one must not import; what is none goes on.
        text = refusal_text(error)
        if text is None:
            raise
        g.session.rollback()
        say(text, "bad")
    else:
        log.info("event_rerun", event_id=event_id, actor=actor())
        g.ring("event", event_id)
        say("The event is due again. A worker takes it up within moments.")
    return redirect(url_for(".event", event_id=event_id), code=303)


@bp.post("/webhooks/runs")
@needs("agent")
def rerun_kind() -> ResponseReturnValue:
    """Make all failed events of one type and reason due again."""
    code, kind = request.form.get("code", ""), request.form.get("type", "")
    event_ids: list[str] = g.provider.rerun_kind(g.session, code=code, type=kind, actor=actor(), now=g.now)
    log.info("events_rerun", code=code, type=kind, events=len(event_ids), actor=actor())
    for event_id in event_ids[:RUNG_AT_ONCE]:
        g.ring("event", event_id)
    if event_ids:
        count = f"{len(event_ids)} events are" if len(event_ids) > 1 else "The event is"
        say(f"{count} due again. Workers take them up within moments.")
    else:
        say("No event of this kind is parked any more: somebody ran them before you.", "info")
    return redirect(url_for(".inbox", state="parked"), code=303)


def _customers(events: Sequence[InboxEvent]) -> dict[UUID, CustomerView]:
    named = {event.customer_id for event in events if event.customer_id is not None}
    return customers_by_id(g.session, customer_ids=sorted(named))


def _before(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant if instant.tzinfo else None
