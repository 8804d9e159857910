"""Reconciliation: the ledger, our invoices and what hangs on them, and Stripe, held against each other.

Differences that can mean one thing only are repaired, through the same functions that webhooks use; the others become
tasks for people. A run goes page by page and stores its place after each, so that it can be killed anywhere.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from stripe_gateway.client import Client
from stripe_gateway.reconciliation import runs, stages
from stripe_gateway.reconciliation.comparison import Comparison
from stripe_gateway.reconciliation.report import Difference, ReconcileReport
from stripe_gateway.reconciliation.runs import Asked, Place, ReconciliationTakenOver, WindowIsEmpty
from stripe_gateway.reconciliation.tables import StripeDifference

__all__ = [
    "Asked",
    "Difference",
    "ReconcileReport",
    "ReconciliationTakenOver",
    "WindowIsEmpty",
    "reconcile",
]

FRESH_FOR = timedelta(minutes=10)
"""A run that was begun earlier, and gone on with now, says little about the time since: a fresh one follows it."""


def reconcile(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    asked: Asked | None = None,
    api_base: str | None = None,
    progress: Callable[[ReconcileReport], None] | None = None,
) -> ReconcileReport:
    """Compare what was made at Stripe since the last complete run, and everything unsettled; repair or name it.

    Commits page by page. A run that was killed goes on where it was, if the same is asked. Of two at once the later
    one goes on, and the earlier one stops after its page.

    Raises:
        CallFailed: Stripe could not be asked; what was repaired stays, and the next call goes on from here.
        ReconciliationTakenOver: another process went on with this run.
        WindowIsEmpty: the window ends before it begins.
    """
    asked = asked or Asked()
    report = _run(engine, client, now=now, asked=asked, api_base=api_base, progress=progress)
    if report.resumed and report.started_at is not None and report.started_at < now - FRESH_FOR:
        fresh = _run(engine, client, now=now, asked=asked, api_base=api_base, progress=progress)
        report = _joined(report, fresh)
    return report


def _run(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    asked: Asked,
    api_base: str | None,
    progress: Callable[[ReconcileReport], None] | None,
) -> ReconcileReport:
    place = runs.begin(engine, asked, first_stage=stages.FIRST, now=now)
    if place is None:
        return ReconcileReport()
    work = Comparison(engine, client, place, now, api_base=api_base)
    stage = place.run.stage or None  # empty: its last page was noted, and it ended before it could say that it is done
    cursor = place.run.cursor
    while stage is not None:
        cursor = stages.STAGES[stage](work, cursor)
        if cursor is None:
            stage = stages.after(stage)
        with Session(engine) as session, session.begin():
            runs.note(session, place, stage=stage or "", cursor=cursor, seen=work.take_seen(), now=now)
        if progress is not None:
            progress(_report(place))
    runs.finish(engine, place, now=now)
    report = _report(place)
    report.differences = _differences(engine, place)
    return report


def _report(place: Place) -> ReconcileReport:
    return ReconcileReport(
        window_from=place.run.window_from,
        started_at=place.run.started_at,
        resumed=place.resumed,
        stage=place.stage,
        counts=dict(place.counts),
    )


def _differences(engine: Engine, place: Place) -> list[Difference]:
    """What the run found, in the order in which it did."""
    query = (
        select(StripeDifference)
        .where(StripeDifference.run_id == place.run.id)
        .order_by(StripeDifference.found_at, StripeDifference.kind, StripeDifference.subject)
    )
    with Session(engine, expire_on_commit=False) as session:
        rows = list(session.scalars(query))
    repaired = {(row.kind, row.subject) for row in rows if row.outcome == "repaired"}
    return [
        Difference(row.kind, row.text, row.customer_id, row.invoice_id, row.subject, row.outcome)
        for row in rows
        # What could not be repaired at first, and then could, is repaired.
        if row.outcome == "repaired" or (row.kind, row.subject) not in repaired
    ]


def _joined(earlier: ReconcileReport, later: ReconcileReport) -> ReconcileReport:
    """One report over two runs: of what both found, the later one knows how it ended."""
    ended = {(one.kind, one.external_id): one for one in [*earlier.differences, *later.differences]}
    later.counts = {
        name: max(earlier.counts.get(name, 0), later.counts.get(name, 0)) for name in earlier.counts | later.counts
    }
    found_again = {(one.kind, one.external_id) for one in later.differences}
    later.differences = [one for key, one in ended.items() if one.outcome != "task" or key in found_again]
    later.resumed = True
    later.window_from = earlier.window_from
    return later
