"""`billing customers`: create and show customers."""

import json
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

import click
from sqlalchemy.orm import Session

from app.api import rendering
from app.cli import Group, example
from app.config import load_config
from app.database import create_engine, session_scope
from invoicing.customers import (
    DEFAULT_PROVIDER,
    PROVIDERS,
    CustomerNotFound,
    CustomerView,
    change_provider,
    create_customer,
    customer_id_for,
    customers_by_id,
    search_customers,
)
from invoicing.early_bills import set_threshold
from ledger.balances import balances
from ledger.money import plain

ACTOR = "billing customers"


@click.group(cls=Group)
def customers() -> None:
    """Create and show customers."""


@example("billing customers create acme-7 --name 'Acme' --currency EUR --time-zone Europe/Berlin --anchor-day 31")
@customers.command()
@click.argument("external_id")
@click.option("--name", required=True, help="What invoices call the customer.")
@click.option("--currency", required=True, help="ISO 4217, such as USD; for the customer's whole life.")
@click.option("--email", help="Where invoices are sent.")
@click.option("--time-zone", default="UTC", show_default=True, help="IANA name; months are cut at its midnights.")
@click.option("--anchor-day", type=int, default=1, show_default=True, help="Day of the month on which periods begin.")
@click.option(
    "--collection-method",
    type=click.Choice(["automatic", "send_invoice"]),
    default="automatic",
    show_default=True,
    help="Charge the payment method, or send an invoice.",
)
@click.option(
    "--provider",
    type=click.Choice(PROVIDERS),
    default=DEFAULT_PROVIDER,
    show_default=True,
    help="Who collects: Stripe, or people by letter and bank transfer.",
)
@click.option("--draft-window-hours", type=click.FloatRange(min=0, max=1200), help="Default: the configured window.")
def create(
    external_id: str,
    name: str,
    currency: str,
    email: str | None,
    time_zone: str,
    anchor_day: int,
    collection_method: str,
    provider: str,
    draft_window_hours: float | None,
) -> None:
    """Create the customer that the platform knows as EXTERNAL_ID. The same again changes nothing."""
    with session_scope(create_engine(load_config().database_url)) as session:
        view, is_new = create_customer(
            session,
            external_id=external_id,
            name=name,
            currency=currency,
            time_zone=time_zone,
            anchor_day=anchor_day,
            email=email,
            collection_method=collection_method,
            provider=provider,
            draft_window_s=None if draft_window_hours is None else round(draft_window_hours * 3600),
            actor=ACTOR,
            now=datetime.now(UTC),
        )
    click.echo(f"{'created' if is_new else 'known already'}: {view.customer_id} {view.external_id}")


@example("billing customers collect acme-7 --provider manual")
@customers.command()
@click.argument("customer")
@click.option("--provider", type=click.Choice(PROVIDERS), required=True, help="Stripe, or letters and bank transfer.")
def collect(customer: str, provider: str) -> None:
    """Let somebody else collect from CUSTOMER, from the next invoice on. Those that are final stay where they are."""
    with session_scope(create_engine(load_config().database_url)) as session:
        view = change_provider(session, customer_id=find_customer(session, customer).customer_id, provider=provider)
    click.echo(f"{view.customer_id} {view.external_id}: {view.provider}")


@example("billing customers threshold acme-7 500 --reason 'New customer'")
@customers.command()
@click.argument("customer")
@click.argument("amount")
@click.option("--reason", required=True, help="Stands beside the threshold for good.")
def threshold(customer: str, amount: str, reason: str) -> None:
    """Bill CUSTOMER at once whenever AMOUNT is unbilled, in major units of its currency; `none` lifts the threshold."""
    with session_scope(create_engine(load_config().database_url)) as session:
        view = find_customer(session, customer)
        row = set_threshold(
            session,
            customer_id=view.customer_id,
            amount=_threshold_amount(amount),
            reason=reason,
            actor=ACTOR,
            now=datetime.now(UTC),
        )
        said = "no threshold" if row.amount is None else f"billed at once from {plain(row.amount)} {view.currency} on"
    click.echo(f"{view.customer_id} {view.external_id}: {said}")


def _threshold_amount(text: str) -> Decimal | None:
    if text == "none":
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        raise click.BadParameter(f"{text!r} is no amount. Give one like 500, or none.", param_hint="AMOUNT") from None


@example("billing customers list acme")
@customers.command("list")
@click.argument("query", default="")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Show at most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def list_(query: str, limit: int, as_json: bool) -> None:
    """Show customers whose name, e-mail, ids or invoice number match QUERY; all without one."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = search_customers(session, query=query, limit=limit)
    if as_json:
        click.echo(json.dumps([rendering.customer(view) for view in found], ensure_ascii=False))
        return
    if not found:
        click.echo("none", err=True)
    for view in found:
        click.echo(f"{view.customer_id}  {view.currency}  {view.external_id}  {view.name}")


@example("billing customers show acme-7")
@customers.command()
@click.argument("customer")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
def show(customer: str, as_json: bool) -> None:
    """Show one customer and its balances. CUSTOMER is the platform's id or ours."""
    with session_scope(create_engine(load_config().database_url)) as session:
        view = find_customer(session, customer)
        kept = {account: plain(amount) for account, amount in balances(session, customer_id=view.customer_id).items()}
    details = rendering.customer(view)
    if as_json:
        click.echo(json.dumps({**details, "balances": kept}, ensure_ascii=False))
        return
    for name, value in details.items():
        click.echo(f"{name:<32} {'' if value is None else value}")
    for account, amount in kept.items():
        click.echo(f"{account:<32} {amount} {view.currency}")


def find_customer(session: Session, customer: str) -> CustomerView:
    """The customer that this text names: the platform's id or ours.

    Raises:
        CustomerNotFound.
    """
    candidates = possible_ids(customer)
    known = customers_by_id(session, customer_ids=candidates)
    view = next((known[found] for found in candidates if found in known), None)
    if view is None:
        raise CustomerNotFound(f"There is no customer {customer!r}. Search with: billing customers list")
    return view


def possible_ids(customer: str) -> list[UUID]:
    """The ids that this text can mean; the platform's comes first."""
    found = [customer_id_for(customer)]
    try:
        return [*found, UUID(customer)]
    except ValueError:
        return found
