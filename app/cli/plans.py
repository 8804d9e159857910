"""`billing plans`: what is offered for a fee, and who has it."""

from datetime import UTC, datetime
from pathlib import Path

import click

from app.cli import Group, example
from app.cli.customers import find_customer
from app.cli.instants import Instant
from app.cli.output import print_summary, require_past
from app.composition import build
from app.config import load_config
from app.database import create_engine, session_scope
from invoicing import subscriptions
from invoicing.plans.catalogue import INTERVALS, list_plans, plans_from_file, publish_plans
from invoicing.prices.files import fly_document, parse_document
from invoicing.subscriptions import Subscription, renew_due
from ledger.money import plain

ACTOR = "billing plans"

_REASON = click.option("--reason", required=True, help="Stands beside the plan for good.")
_AT_END = click.option("--at-end", is_flag=True, help="When the paid time is over, not now.")


@click.group(cls=Group)
def plans() -> None:
    """Offer plans, and give them to customers.

    A plan has a fee by the month or the year, in advance or in arrears, and may include usage. Changes take effect to
    the second: what was charged beyond them is given back.
    """


@example("billing plans load prices.toml")
@plans.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
def load(file: Path | None) -> None:
    """Offer the [[plans]] of a price FILE; without one, Fly.io's public plans. Those that are there already stay."""
    document = fly_document() if file is None else parse_document(file.read_bytes())
    with session_scope(create_engine(load_config().database_url)) as session:
        new = publish_plans(session, plans_from_file(document), actor=ACTOR, now=datetime.now(UTC))
    click.echo(f"published {new} plans")


@example("billing plans list")
@plans.command("list")
def list_() -> None:
    """Show every version of every plan."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = list_plans(session)
    if not found:
        click.echo("none; load some: billing plans load", err=True)
    for terms in found:
        extras = [f"{plain(terms.included_usage)} of usage included a month"] if terms.included_usage else []
        extras += [f"{terms.trial_days} days of trial"] if terms.trial_days else []
        click.echo(
            f"{terms.plan:<20} {plain(terms.fee):>10} {terms.currency} a {terms.interval} in {terms.timing}, from "
            f"{terms.valid_from.date()}" + "".join(f"; {extra}" for extra in extras)
        )


@example("billing plans take acme-7 launch --reason 'Asked for it by mail'")
@plans.command()
@click.argument("customer")
@click.argument("plan")
@click.option("--interval", type=click.Choice(INTERVALS), default="month", show_default=True, help="What a fee pays.")
@_AT_END
@_REASON
def take(customer: str, plan: str, interval: str, at_end: bool, reason: str) -> None:
    """Give CUSTOMER the PLAN, in place of another: now, or when the paid time of that is over."""
    with session_scope(create_engine(load_config().database_url)) as session:
        change = subscriptions.change_at_end if at_end else subscriptions.subscribe
        taken = change(
            session,
            customer_id=find_customer(session, customer).customer_id,
            plan=plan,
            interval=interval,
            reason=reason,
            actor=ACTOR,
            now=datetime.now(UTC),
        )
    click.echo(_said(customer, taken))


@example("billing plans cancel acme-7 --at-end --reason 'Leaves'")
@plans.command()
@click.argument("customer")
@_AT_END
@_REASON
def cancel(customer: str, at_end: bool, reason: str) -> None:
    """End CUSTOMER's plan: now, with the rest given back, or when its paid time is over."""
    with session_scope(create_engine(load_config().database_url)) as session:
        customer_id, now = find_customer(session, customer).customer_id, datetime.now(UTC)
        if at_end:
            subscriptions.change_at_end(
                session, customer_id=customer_id, plan=None, reason=reason, actor=ACTOR, now=now
            )
        else:
            subscriptions.cancel(session, customer_id=customer_id, reason=reason, actor=ACTOR, now=now)
        left = subscriptions.subscriptions_of(session, customer_id=customer_id)[-1]
    click.echo(_said(customer, left))


@example("billing plans keep acme-7")
@plans.command()
@click.argument("customer")
def keep(customer: str) -> None:
    """Take back the planned end of CUSTOMER's plan, and what was to follow."""
    with session_scope(create_engine(load_config().database_url)) as session:
        kept = subscriptions.keep(
            session,
            customer_id=find_customer(session, customer).customer_id,
            actor=ACTOR,
            now=datetime.now(UTC),
        )
    click.echo(_said(customer, kept))


@example("billing plans renew --as-of 2026-07-01T00:05:00Z")
@plans.command()
@click.option("--as-of", type=Instant(), help="Charge what began by then; default: now.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def renew(as_of: datetime | None, as_json: bool) -> None:
    """Charge every plan whose next month or year has begun, and earn what is over. Safe to run twice or at once.

    `billing cycle close` does the same first, so that no invoice lacks a fee. The exit status is 1 if a customer was
    parked.
    """
    billing = build(load_config())
    summary = renew_due(billing.engine, now=datetime.now(UTC) if as_of is None else require_past(as_of))
    print_summary("Renewed", summary, as_json=as_json)
    billing.dispose()
    if summary.parked:
        raise click.exceptions.Exit(1)


def _said(customer: str, subscription: Subscription | None) -> str:
    if subscription is None:
        return f"{customer}: no plan from then on"
    terms = subscription.terms
    until = "" if subscription.until is None else f" until {subscription.until.isoformat()}"
    return (
        f"{customer}: {terms.name}, {plain(terms.fee)} {terms.currency} a {terms.interval}, from "
        f"{subscription.since.isoformat()}{until}"
    )
