"""`billing cycle`: close the periods that are over, or one before it is."""

import json
from datetime import UTC, datetime

import click
from sqlalchemy.orm import Session

from app.cli import Group, example
from app.cli.customers import find_customer
from app.cli.instants import Instant
from app.cli.output import end_progress, print_summary, require_past, show_progress
from app.composition import build
from app.config import load_config
from invoicing.cycles import close_due
from invoicing.early_bills import CAUSES, bill_above_thresholds, bill_now


@click.group(cls=Group)
def cycle() -> None:
    """Close billing periods that are over, or one before it is."""


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


@example("billing cycle bill-now acme-7 --cause leaving --reason 'Account closed on request'")
@cycle.command("bill-now")
@click.argument("customer")
@click.option("--cause", type=click.Choice(list(CAUSES)), default="early", show_default=True, help="Why now.")
@click.option("--reason", required=True, help="Stands in the invoice's history.")
@click.option("--json", "as_json", is_flag=True, help="Print the bill as JSON.")
def bill_one_now(customer: str, cause: str, reason: str, as_json: bool) -> None:
    """Close CUSTOMER's current period now; the next one begins at this moment. CUSTOMER is your id or ours.

    The draft is due to be final at once: `billing invoices finalize --due`, or cron, does it. What is used from now on
    is on the next invoice.
    """
    billing = build(load_config())
    try:
        with Session(billing.engine) as session, session.begin():
            bill = bill_now(
                session,
                customer_id=find_customer(session, customer).customer_id,
                cause=cause,
                reason=reason,
                actor="billing cycle bill-now",
                settings=billing.settings,
                now=datetime.now(UTC),
            )
            facts = {
                "customer_id": str(bill.customer_id),
                "invoice_id": str(bill.invoice_id),
                "period_start": bill.period_start.isoformat(),
                "period_end": bill.cut_at.isoformat(),
            }
    finally:
        billing.dispose()
    text = "Billed {customer_id} from {period_start} to {period_end}: draft {invoice_id}, due to be final now."
    click.echo(json.dumps(facts) if as_json else text.format(**facts))


@example("billing cycle thresholds")
@cycle.command("thresholds")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def thresholds(as_json: bool) -> None:
    """Bill every customer now whose unbilled charges reached the spending threshold. Safe to run twice or at once.

    Set one with `billing customers threshold`. The exit status is 1 if a customer could not be billed.
    """
    billing = build(load_config())
    summary = bill_above_thresholds(billing.engine, settings=billing.settings, now=datetime.now(UTC))
    print_summary("Thresholds", summary, as_json=as_json)
    billing.dispose()
    if summary.failed:
        raise click.exceptions.Exit(1)
