"""`billing demo`: made-up customers to look around with, at the Stripe sandbox only."""

from datetime import UTC, datetime

import click
from sqlalchemy.orm import Session

from app.cli import Group, example
from app.config import load_config
from app.database import create_engine, session_scope
from app.demo import seed as seeding
from app.demo.world import SHOWCASE
from app.panel.links import LINK_TTL, create_link
from invoicing.customers import CustomerNotFound, CustomerView, search_customers


class WhichCustomer(Exception):
    """Several customers fit. Give one's external id."""

    code = "several_customers"


@click.group(cls=Group)
def demo() -> None:
    """Fill an empty database with demo customers, and look around.

    About forty made-up customers with a month and more of usage; last month is closed. Only where Stripe is the
    sandbox and no other customers exist.
    """


@example("billing demo seed")
@demo.command()
def seed() -> None:
    """Make the demo, unless it is there. An interrupted run is completed by the next."""
    config = load_config()
    result = seeding.seed_if_empty(config, progress=lambda step: click.echo(f"making {step}", err=True))
    made = "made" if result.seeded else "found"
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in result.invoices.items())
    click.echo(f"{made} {result.customers} customers with {result.entries} entries; invoices: {states or 'none'}")
    for email, password, role in seeding.SIGN_INS:
        click.echo(f"sign in at {config.public_url}/support/ as {email}  {password}  ({role})")
    token = seeding.read_token(config)
    if token:
        click.echo(f"API token {token}")


@example("billing demo panel-link 'Copper Kettle'")
@demo.command("panel-link")
@click.argument("customer", default=SHOWCASE.external_id)
def panel_link(customer: str) -> None:
    """Print a link that opens the billing panel of CUSTOMER once.

    CUSTOMER is an external id, our id, a name, an e-mail address or an invoice number.
    """
    config = load_config()
    with session_scope(create_engine(config.database_url)) as session:
        found = _find(session, customer)
        token = create_link(
            session, customer_id=found.customer_id, return_url=f"{config.public_url}/support/", now=datetime.now(UTC)
        )
    minutes = int(LINK_TTL.total_seconds() // 60)
    click.echo(f"Opens the panel of {found.name} once, within {minutes} minutes:", err=True)
    click.echo(f"{config.public_url}/billing/open/{token}")


def _find(session: Session, words: str) -> CustomerView:
    found = search_customers(session, query=words, limit=10)
    exact = [view for view in found if words in (view.external_id, str(view.customer_id))]
    if len(exact) == 1 or len(found) == 1:
        return (exact or found)[0]
    if not found:
        raise CustomerNotFound(f"No customer fits {words!r}. Search by name, e-mail, external id or invoice number.")
    names = ", ".join(f"{view.external_id} ({view.name})" for view in found)
    raise WhichCustomer(f"Several customers fit {words!r}: {names}. Give one's external id.")
