"""`billing cycle`: close the periods that are over."""

from datetime import datetime

import click

from app.cli import example
from app.cli.instants import Instant
from app.cli.output import end_progress, print_summary, require_past, show_progress
from app.composition import build
from app.config import load_config
from invoicing.cycles import close_due


@click.group()
def cycle() -> None:
    """Close billing periods that are over."""


@example("billing cycle close --as-of 2025-07-01T06:00:00Z")
@cycle.command("close")
@click.option("--as-of", type=Instant(), required=True, help="Close as if it were this time, ISO 8601 with a zone.")
@click.option("--jobs", type=click.IntRange(1, 8), default=1, show_default=True, help="Chunks to close at once.")
@click.option("--dry-run", is_flag=True, help="Say what would close; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def close(as_of: datetime, jobs: int, dry_run: bool, as_json: bool) -> None:
    """Close every period that ended more than the grace time before --as-of, and compile its draft invoice.

    Safe to run twice, in two processes, and after a kill. A customer that fails is parked with a reason and does not
    keep the others waiting; the exit status is then 1.
    """
    billing = build(load_config())
    summary = close_due(
        billing.engine,
        as_of=require_past(as_of),
        settings=billing.settings,
        jobs=jobs,
        dry_run=dry_run,
        progress=lambda so_far: show_progress(f"{so_far.closed} periods closed"),
    )
    end_progress()
    print_summary("Would close" if dry_run else "Closed", summary, as_json=as_json)
    billing.dispose()
    if summary.parked:
        raise click.exceptions.Exit(1)
