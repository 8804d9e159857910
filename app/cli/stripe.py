"""`billing stripe`: compare with Stripe, and handle its webhooks again."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click
from sqlalchemy.orm import Session

from app.cli import example
from app.cli.output import end_progress, print_summary, show_progress
from app.cli.stripe_catch_up import catch_up
from app.cli.stripe_check import check
from app.composition import build
from app.config import load_config
from stripe_gateway.reconciliation import ReconcileReport

RERUN_AT_ONCE = 10_000


@click.group()
def stripe() -> None:
    """Compare with Stripe, and handle its webhooks again."""


stripe.add_command(catch_up)
stripe.add_command(check)


@example("billing stripe reconcile")
@stripe.command("reconcile")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, every difference with its ids.")
def reconcile(as_json: bool) -> None:
    """Hold every invoice and payment that we believe stands at Stripe against what Stripe lists.

    What can only mean one thing is repaired, such as a payment whose webhook was lost. Safe to run at any time and
    twice. Exit status 1 if a difference remains that a person must explain.
    """
    billing = build(load_config())
    report = billing.provider.reconcile(
        now=datetime.now(UTC),
        progress=lambda so_far: show_progress(f"{so_far.invoices} invoices, {so_far.payments} payments"),
    )
    end_progress()
    _print_report(report, as_json=as_json)
    billing.dispose()
    if report.unexplained:
        raise click.exceptions.Exit(1)


def _print_report(report: ReconcileReport, *, as_json: bool) -> None:
    counts: dict[str, Any] = {
        "invoices": report.invoices,
        "payments": report.payments,
        "pending": report.pending,
        "repaired": len(report.repaired),
        "unexplained": len(report.unexplained),
    }
    if as_json:
        differences = [asdict(difference) for difference in report.differences]
        click.echo(json.dumps({**counts, "differences": differences}, default=str))
        return
    click.echo("Reconciled: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for difference in report.differences:
        outcome = "repaired" if difference.repaired else "unexplained"
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
