"""`billing stripe progress`: how far the collection is."""

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime

import click
from sqlalchemy.orm import Session

from app.cli import example
from app.cli.output import end_progress, show_progress
from app.composition import Billing, build
from app.config import load_config
from stripe_gateway.progress import Progress

EVERY_S = 2.0


@example("billing stripe progress\nbilling stripe progress --watch\nbilling stripe progress --json")
@click.command("progress")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON, operation by operation.")
@click.option("--watch", is_flag=True, help="Print it again every 2 seconds, until nothing is left.")
def progress(as_json: bool, watch: bool) -> None:
    """Show how much is left to collect, how fast it goes, and how long it will take.

    Counts invoices on their way and operations (refunds, credit notes, voids and the like) together.

    Calls nobody at Stripe, changes nothing. Exit status 1 while Stripe is away.
    """
    billing = build(load_config())
    try:
        found = _read(billing)
        while watch and found.left:
            if as_json or not sys.stderr.isatty():
                _print(found, as_json=as_json)
            else:
                show_progress(line(found))
            time.sleep(EVERY_S)
            found = _read(billing)
        end_progress()
        _print(found, as_json=as_json)
    finally:
        billing.dispose()
    if found.outage is not None:
        raise click.exceptions.Exit(1)


def _read(billing: Billing) -> Progress:
    with Session(billing.engine) as session:
        return billing.provider.progress(session, now=datetime.now(UTC))


def _print(found: Progress, *, as_json: bool) -> None:
    if as_json:
        values = asdict(found) | {"left": found.left, "invoices_left": found.invoices_left, "share": found.share}
        click.echo(json.dumps(values, default=lambda value: value.isoformat()))
        return
    click.echo(line(found))
    if found.outage is not None:
        click.echo(f"  Stripe has not answered since {found.outage.since:%Y-%m-%d %H:%M:%S} UTC.", err=True)


def line(found: Progress) -> str:
    """The summary, for people."""
    parts = [
        f"{found.due} due",
        f"{found.running} running",
        f"{found.waiting} waiting",
        f"{found.unknown} unknown",
        f"{found.parked} parked",
        f"{found.done_today} done today",
    ]
    if found.operations.left:
        parts.append(f"{found.left} left (operations: {found.operations.left})")
    if found.pace is not None and found.share is not None:
        parts.append(f"{found.pace.calls_per_s:.1f} calls/s ({found.share:.0%} of what Stripe allows)")
        parts.append(f"{found.pace.refused} answers of 429 in {found.pace.seconds // 60} min")
    return f"Progress: {', '.join(parts)}; time left: {found.left_in_words}"
