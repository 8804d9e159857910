"""`billing invoices`: finalize drafts, sync final invoices to Stripe."""

from datetime import UTC, datetime

import click

from app.cli import Group, example
from app.cli.instants import Instant
from app.cli.output import end_progress, print_summary, require_past, show_progress
from app.composition import build
from app.config import load_config
from invoicing.finalizing import finalize_due
from invoicing.manual.sending import send_due


@click.group(cls=Group)
def invoices() -> None:
    """Finalize drafts and sync them to Stripe."""


@example("billing invoices finalize --due")
@invoices.command("finalize")
@click.option("--due", is_flag=True, required=True, expose_value=False, help="Every draft whose review window is over.")
@click.option("--as-of", type=Instant(), default=None, help="As if it were this time, ISO 8601 with a zone.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def finalize(as_of: datetime | None, as_json: bool) -> None:
    """Make every draft that is due a final invoice with a number, or carry it forward.

    Held drafts, and those that await approval, stay drafts. Safe to run twice. Exit status 1 if a draft was parked.
    """
    billing = build(load_config())
    summary = finalize_due(
        billing.engine,
        provider=billing.providers,
        as_of=require_past(as_of) if as_of else datetime.now(UTC),
        progress=lambda so_far: show_progress(f"{so_far.final + so_far.paid} final"),
    )
    end_progress()
    print_summary("Finalized", summary, as_json=as_json)
    billing.dispose()
    if summary.parked:
        raise click.exceptions.Exit(1)


@example("billing invoices sync")
@invoices.command("sync")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def sync(as_json: bool) -> None:
    """Send every final invoice that Stripe does not have yet: three calls each, once.

    Works to its end itself and needs no worker. Safe to run twice, beside workers, and after a kill. Exit status 1 if
    something was parked for a person, or is still unknown.
    """
    billing = build(load_config())
    summary = billing.provider.sync_due(
        now=datetime.now(UTC), progress=lambda so_far: show_progress(f"{so_far.synced} synced")
    )
    end_progress()
    print_summary("Synced", summary, as_json=as_json)
    billing.dispose()
    if (summary.parked or summary.unknown) and not summary.problems and not as_json:
        # Said when it happened; a run that found it so still says where to look.
        click.echo("  Each with its reason: the support page To do.", err=True)
    if summary.parked or summary.unknown:
        raise click.exceptions.Exit(1)


@example("billing invoices send")
@invoices.command("send")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def send(as_json: bool) -> None:
    """Send the letters of customers who pay by bank transfer that are due.

    Safe to run twice, and after a kill. Exit status 1 if a letter was parked for a person.
    """
    billing = build(load_config())
    summary = send_due(
        billing.engine,
        billing.mailer,
        now=datetime.now(UTC),
        progress=lambda so_far: show_progress(f"{so_far.sent} sent"),
    )
    end_progress()
    print_summary("Sent", summary, as_json=as_json)
    billing.dispose()
    if summary.parked:
        raise click.exceptions.Exit(1)
