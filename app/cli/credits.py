"""`billing credits`: grant, sell, expire and revoke credit, and refill what customers want refilled."""

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID, uuid4

import click

from app.api import rendering
from app.cli import Group, example
from app.cli.books import books
from app.cli.customers import find_customer
from app.cli.instants import Instant
from app.cli.output import print_summary
from app.composition import build
from app.config import load_config
from invoicing.credit.endings import expire_due, revoke_credit
from invoicing.credit.grants import USUAL_PRIORITY, grant_credit
from invoicing.credit.lots import Lot, grants_left, lots_of
from invoicing.credit.refills import refill_due, set_refill
from invoicing.credit.top_ups import top_up
from ledger.money import plain

ACTOR = "billing credits"
KINDS = {"promotional": "liabilities:credits:promotional", "goodwill": "liabilities:credits:goodwill"}


@click.group("credits", cls=Group)
def credits_group() -> None:
    """Grant, sell, expire and revoke credit."""


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise click.BadParameter(f"{text!r} is no amount. Write it like 12.50.") from error


@example("billing credits grant acme-7 25 --kind promotional --expires-at 2026-01-01T00:00:00Z --reason Welcome")
@credits_group.command("grant")
@click.argument("customer")
@click.argument("amount")
@click.option("--kind", type=click.Choice(list(KINDS)), default="goodwill", show_default=True, help="Why it is given.")
@click.option("--reason", required=True, help="Stands in the journal for good.")
@click.option("--id", "grant_id", type=click.UUID, help="Your own: the same id is granted once.")
@click.option("--currency", help="What you believe the customer is billed in; another one is refused.")
@click.option("--priority", type=int, default=USUAL_PRIORITY, show_default=True, help="Lower is used first.")
@click.option("--expires-at", type=Instant(), help="It pays for periods that end by then. Default: never.")
@click.option("--item", "items", multiple=True, help="Pays for this item only; may be repeated. Default: for all.")
@click.option("--json", "as_json", is_flag=True, help="Print the credit as JSON.")
def grant(
    customer: str,
    amount: str,
    kind: str,
    reason: str,
    grant_id: UUID | None,
    currency: str | None,
    priority: int,
    expires_at: datetime | None,
    items: tuple[str, ...],
    as_json: bool,
) -> None:
    """Give CUSTOMER (your id or ours) AMOUNT of credit, in major units of the customer's currency."""
    with books() as (session, _):
        given = grant_credit(
            session,
            customer_id=find_customer(session, customer).customer_id,
            grant_id=grant_id or uuid4(),
            account=KINDS[kind],
            amount=_amount(amount),
            reason=reason,
            actor=ACTOR,
            now=datetime.now(UTC),
            priority=priority,
            expires_at=expires_at,
            items=items or None,
            currency=currency,
        )
    said = f"Granted {plain(given.amount)} {given.currency} of {kind} credit: {given.id}"
    click.echo(json.dumps(rendering.credit_grant(given)) if as_json else said)


@example("billing credits top-up acme-7 100")
@credits_group.command("top-up")
@click.argument("customer")
@click.argument("amount")
@click.option("--reason", default="Prepaid credit bought", show_default=True, help="Stands in the journal for good.")
@click.option("--id", "top_up_id", type=click.UUID, help="Your own: the same id is sold once.")
@click.option("--expires-at", type=Instant(), help="It pays for periods that end by then. Default: never.")
@click.option("--json", "as_json", is_flag=True, help="Print the invoice as JSON.")
def sell(
    customer: str, amount: str, reason: str, top_up_id: UUID | None, expires_at: datetime | None, as_json: bool
) -> None:
    """Sell CUSTOMER (your id or ours) AMOUNT of prepaid credit: an invoice that is final at once.

    The credit can be used as soon as the invoice is paid. `billing invoices sync`, or cron, has it collected.
    """
    with books() as (session, billing):
        invoice = top_up(
            session,
            customer_id=find_customer(session, customer).customer_id,
            top_up_id=top_up_id or uuid4(),
            amount=_amount(amount),
            provider=billing.providers,
            actor=ACTOR,
            reason=reason,
            expires_at=expires_at,
            now=datetime.now(UTC),
        )
    said = f"Sold {plain(invoice.total or Decimal(0))} {invoice.currency}: invoice {invoice.number}, to be paid"
    click.echo(json.dumps(rendering.invoice(invoice)) if as_json else said)


@example("billing credits list acme-7")
@credits_group.command("list")
@click.argument("customer")
@click.option("--all", "also_empty", is_flag=True, help="Also what is used up, expired or revoked.")
@click.option("--json", "as_json", is_flag=True, help="Print the credits as JSON.")
def list_credits(customer: str, also_empty: bool, as_json: bool) -> None:
    """What is left of CUSTOMER's credit, in the order in which it is used."""
    with books() as (session, _):
        customer_id = find_customer(session, customer).customer_id
        found = lots_of(session, customer_id=customer_id)
        if also_empty:
            left = {lot.id for lot in found}
            empty = grants_left(session, customer_id=customer_id, also_empty=True)
            found += [lot for lot in empty if lot.id not in left]
    if as_json:
        click.echo(json.dumps([rendering.credit_lot(lot) for lot in found]))
        return
    for lot in found:
        click.echo(_line(lot))
    click.echo(f"{len(found)} credits")


def _line(lot: Lot) -> str:
    until = "never expires" if lot.expires_at is None else f"until {lot.expires_at.astimezone(UTC).isoformat()}"
    facts = [f"{lot.name}: {plain(lot.remaining)} of {plain(lot.amount)}", until]
    if lot.items is not None:
        facts.append("for " + ", ".join(sorted(lot.items)))
    if not lot.is_paid:
        facts.append("not paid yet")
    if lot.is_disputed:
        facts.append("its payment is disputed: waits for the bank")
    return f"{lot.id or 'beyond all grants'}  " + "; ".join(facts)


@example("billing credits revoke acme-7 0b6c3a52-5a0e-4b5c-9a57-1c0d8a3a8f11 --reason 'Granted by mistake'")
@credits_group.command("revoke")
@click.argument("customer")
@click.argument("credit", type=click.UUID)
@click.option("--reason", required=True, help="Stands in the journal for good.")
@click.option("--json", "as_json", is_flag=True, help="Print what was taken back as JSON.")
def revoke(customer: str, credit: UUID, reason: str, as_json: bool) -> None:
    """Take back what is left of CREDIT. Run again, it changes nothing."""
    with books() as (session, _):
        use = revoke_credit(
            session,
            customer_id=find_customer(session, customer).customer_id,
            grant_id=credit,
            reason=reason,
            actor=ACTOR,
            now=datetime.now(UTC),
        )
    facts = {"credit_id": str(use.grant_id), "amount": plain(use.amount), "revoked_at": use.at.isoformat()}
    click.echo(json.dumps(facts) if as_json else f"Revoked {facts['amount']} of credit {facts['credit_id']}")


@example("billing credits expire")
@credits_group.command("expire")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def expire(as_json: bool) -> None:
    """Post the expiry of every credit whose time is over. Safe to run twice or at once.

    A credit is kept while a period that ended before it has no final invoice yet. The exit status is 1 if one failed.
    """
    _run("Credits", lambda billing: expire_due(billing.engine, now=datetime.now(UTC)), as_json=as_json)


@example("billing credits refill")
@credits_group.command("refill")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def refill(as_json: bool) -> None:
    """Sell prepaid credit to every customer who wants refills and has too little left. Safe to run twice or at once.

    Set it with `billing credits auto-refill`. Paused are customers whose last refill was given up or made void. The
    exit status is 1 if one failed.
    """
    _run(
        "Refills",
        lambda billing: refill_due(billing.engine, provider=billing.providers, now=datetime.now(UTC)),
        as_json=as_json,
    )


def _run(title: str, work: Any, *, as_json: bool) -> None:
    billing = build(load_config())
    try:
        summary = work(billing)
    finally:
        billing.dispose()
    print_summary(title, summary, as_json=as_json)
    if summary.problems:
        raise click.exceptions.Exit(1)


@example("billing credits auto-refill acme-7 --below 20 --buy 100")
@credits_group.command("auto-refill")
@click.argument("customer")
@click.option("--below", help="Refill whenever less than this is left, in major units.")
@click.option("--buy", help="How much to buy then.")
@click.option("--off", is_flag=True, help="Refill no more.")
@click.option("--json", "as_json", is_flag=True, help="Print the rule as JSON.")
def auto_refill(customer: str, below: str | None, buy: str | None, off: bool, as_json: bool) -> None:
    """Refill CUSTOMER's prepaid credit whenever it runs low, or with --off no more."""
    if off == bool(below or buy):
        raise click.UsageError("Give --below and --buy, or --off.")
    with books() as (session, billing):
        rule = set_refill(
            session,
            customer_id=find_customer(session, customer).customer_id,
            threshold=_amount(below) if below else None,
            amount=_amount(buy) if buy else None,
            provider=billing.providers,
            actor=ACTOR,
            now=datetime.now(UTC),
        )
    facts = {
        "customer_id": str(rule.customer_id),
        "threshold": rendering.number(rule.threshold),
        "amount": rendering.number(rule.amount),
    }
    said = "Refills: off" if rule.amount is None else f"Refills: {facts['amount']} whenever below {facts['threshold']}"
    click.echo(json.dumps(facts) if as_json else said)
