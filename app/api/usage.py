"""Usage over HTTP: a batch is posted as a whole or refused as a whole, naming every bad row."""

from flask import g, jsonify
from flask.typing import ResponseReturnValue

from app.api.blueprint import bp
from app.api.requests import BatchTooLarge, read_body
from app.api.schemas import MAX_EVENTS, UsageSchema
from invoicing.usage.intake import RowProblem, UsageRecord, post_usage
from invoicing.usage.schema import read_event


@bp.post("/usage")
def add_usage() -> ResponseReturnValue:
    """Post a batch. Events that were posted before, unchanged, are counted as replayed and change nothing."""
    body = read_body(UsageSchema())
    events: list[object] = body["events"]
    if len(events) > MAX_EVENTS:
        raise BatchTooLarge(f"{len(events)} events; at most {MAX_EVENTS} in one request. Send several batches.")
    records: list[UsageRecord] = []
    problems: list[RowProblem] = []
    for row, event in enumerate(events):
        read = read_event(row, event)
        if isinstance(read, UsageRecord):
            records.append(read)
        else:
            problems += read
    posted = post_usage(g.session, records, source=body["source"], actor=g.actor, now=g.now, unreadable=problems)
    return jsonify(posted=posted.posted, replayed=posted.replayed)
