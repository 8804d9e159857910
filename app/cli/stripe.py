"""`billing stripe`: compare with Stripe, and handle its webhooks again."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from sqlalchemy.orm import Session

from app.cli import Group, example
from app.cli.instants import Instant
from app.cli.output import end_progress, print_summary, show_progress
from app.cli.stripe_catch_up import catch_up
from app.cli.stripe_check import check
from app.cli.stripe_progress import progress
from app.composition import build
from app.config import load_config
from stripe_gateway.reconciliation import Asked, ReconcileReport
from stripe_gateway.reconciliation.report import COUNTED

RERUN_AT_ONCE = 10_000


@click.group(cls=Group)
def stripe() -> None:
    """Compare with Stripe, and handle its webhooks again."""


stripe.add_command(catch_up)
stripe.add_command(check)
stripe.add_command(progress)


@example(
    "billing stripe reconcile\n"
    "billing stripe reconcile --full --json\n"
    "billing stripe reconcile --from 2025-06-01T00:00Z --to 2025-07-01T00:00Z"
)
@stripe.command("reconcile")
@click.option("--from", "created_from", type=Instant(), help="Only what was made at Stripe from then on.")
@click.option("--to", "created_to", type=Instant(), help="Only what was made at Stripe until then, inclusive.")
@click.option("--full", is_flag=True, help="Everything since the first customer, not only what is new or unsettled.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, every difference with its ids.")
def reconcile(created_from: datetime | None, created_to: datetime | None, full: bool, as_json: bool) -> None:
    """Hold the books, our invoices and what hangs on them, and Stripe against each other.

    Compares what was made there since the last complete run, and everything that is not settled. What can only mean one
    thing is repaired, such as a payment whose webhook was lost; the rest becomes tasks in the support UI. A run that
    was cut off goes on where it was. Safe to run at any time and twice. Exit status 1 while a task is left.
    """
    if full and (created_from or created_to):
        raise click.UsageError("--full is everything; leave out --from and --to, or --full.")
    billing = build(load_config())
    asked = Asked(created_from=created_from, created_to=created_to, is_full=full)
    report = billing.provider.reconcile(
        now=datetime.now(UTC), asked=asked, progress=lambda so_far: show_progress(_progress(so_far))
    )
    end_progress()
    _print_report(report, as_json=as_json)
    billing.dispose()
    if report.unexplained:
        raise click.exceptions.Exit(1)


def _progress(so_far: ReconcileReport) -> str:
    counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in so_far.counts.items())
    return f"{so_far.stage}: {counted}" if counted else so_far.stage


def _print_report(report: ReconcileReport, *, as_json: bool) -> None:
    counts: dict[str, Any] = {name: report.counts.get(name, 0) for name in COUNTED}
    counts |= {
        "repaired": len(report.repaired),
        "explained": len(report.of("explained")),
        "unexplained": len(report.unexplained),
    }
    if as_json:
        differences = [asdict(one) | {"repaired": one.repaired} for one in report.differences]
        whence = {"window_from": report.window_from, "resumed": report.resumed}
        click.echo(json.dumps({**counts, **whence, "differences": differences}, default=str))
        return
    click.echo("Reconciled: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
    for difference in report.differences:
        outcome = "unexplained" if difference.outcome == "task" else difference.outcome
        click.echo(f"  {outcome} {difference.kind}: {difference.text}", err=True)


@example("billing stripe handle --parked")
@stripe.command("handle")
@click.option("--parked", is_flag=True, help="Try parked events once more as well.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def handle(parked: bool, as_json: bool) -> None:
    """Handle every stored webhook event that is due.

    Needs no worker, and is safe beside workers. Exit status 1 if an event was parked.
    """
    billing = build(load_config())
    now = datetime.now(UTC)
    if parked:
        with Session(billing.engine) as session, session.begin():
            for event in billing.provider.inbox(session, state="parked", before=None, limit=RERUN_AT_ONCE):
                billing.provider.rerun(session, event_id=event.id, actor="billing stripe handle", now=now)
    summary = billing.provider.handle_due(
        now=now, progress=lambda so_far: show_progress(f"{so_far.done + so_far.ignored} handled")
    )
    end_progress()
    print_summary("Handled", summary, as_json=as_json)
    billing.dispose()
    if summary.parked:
        raise click.exceptions.Exit(1)
