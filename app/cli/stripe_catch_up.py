"""`billing stripe catch-up`: events whose delivery was lost."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

import click

from app.cli import example
from app.cli.output import end_progress, show_progress
from app.composition import build
from app.config import load_config


@example("billing stripe catch-up")
@click.command("catch-up")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def catch_up(as_json: bool) -> None:
    """Store the events that Stripe lists and nobody delivered to us, and handle what is due.

    Reads from an hour before the newest event that it saw; Stripe lists the last 30 days. After a longer silence it
    says so, compares the objects themselves as `billing stripe reconcile` does, and reads what is still listed. Safe to
    run at any time, twice, and to be killed. Exit status 1 if something needs a person.
    """
    billing = build(load_config())
    now = datetime.now(UTC)
    report = billing.provider.catch_up(
        now=now, progress=lambda so_far: show_progress(f"{so_far.missed + so_far.known} events read")
    )
    handled = billing.provider.handle_due(
        now=now, progress=lambda so_far: show_progress(f"{so_far.done + so_far.ignored} handled")
    )
    end_progress()
    problems = report.problems + handled.problems
    if as_json:
        counts = {**asdict(report), "handled": handled.done + handled.ignored, "problems": problems}
        click.echo(json.dumps(counts, default=str))
    else:
        gone = (
            f", events since {report.gone_since:%Y-%m-%d} were gone: {report.repaired} repaired from objects, "
            f"{report.unexplained} unexplained"
            if report.gone_since
            else ""
        )
        click.echo(
            f"Caught up: {report.missed} missed, {report.known} known{gone}, "
            f"{handled.done + handled.ignored} handled, {handled.parked} parked"
        )
        for problem in problems:
            click.echo(f"  {problem}", err=True)
    billing.dispose()
    if problems or report.unexplained:
        raise click.exceptions.Exit(1)
