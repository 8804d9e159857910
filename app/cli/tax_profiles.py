"""`billing tax profiles`: where customers are taxed."""

import json
from datetime import UTC, datetime

import click

from app.api import rendering
from app.cli import Group, example
from app.cli.books import books
from app.cli.customers import find_customer
from app.cli.instants import Instant
from invoicing.tax.ids import FORMS
from invoicing.tax.profiles import STATUSES, TaxDetails, set_tax_profile, tax_profiles_of
from invoicing.tax.tables import TaxProfile

ACTOR = "billing tax"


@click.group(cls=Group)
def profiles() -> None:
    """Where customers are taxed, from when on, and with which tax id.

    A customer without a profile is not taxed. A version is never changed: another one begins.
    """


@example(
    "billing tax profiles set acme-7 --country DE --tax-id DE136695976 --tax-id-type eu_vat --reason 'Sent by mail'"
)
@profiles.command("set")
@click.argument("customer")
@click.option("--country", required=True, help="By ISO 3166-1, such as DE.")
@click.option("--state", help="By ISO 3166-2 without the country, such as CA; where states tax.")
@click.option("--tax-id", help="The customer's own.")
@click.option("--tax-id-type", type=click.Choice(sorted(FORMS)), help="What kind of id that is.")
@click.option("--status", type=click.Choice(STATUSES), help="Default: the rules decide on taxable or reverse charge.")
@click.option("--legal-note", help="Why an exempt customer is exempt, as the invoice is to say it.")
@click.option("--valid-from", type=Instant(), help="ISO 8601 with a zone. Default: now.")
@click.option("--reason", required=True, help="Is kept with the version.")
@click.option("--json", "as_json", is_flag=True, help="Print the version as JSON.")
def set_profile(
    customer: str,
    country: str,
    state: str | None,
    tax_id: str | None,
    tax_id_type: str | None,
    status: str | None,
    legal_note: str | None,
    valid_from: datetime | None,
    reason: str,
    as_json: bool,
) -> None:
    """Say where CUSTOMER (your id or ours) is taxed. Said again, it changes nothing.

    A period is taxed by what is valid in its last instant; a version cannot begin in a closed one.
    """
    with books() as (session, billing):
        profile, is_new = set_tax_profile(
            session,
            customer_id=find_customer(session, customer).customer_id,
            details=TaxDetails(country, state, tax_id, tax_id_type, status, legal_note),
            seller_country=billing.settings.seller_country,
            valid_from=valid_from,
            reason=reason,
            actor=ACTOR,
            now=datetime.now(UTC),
        )
        # While the session is open: of what counts already only the columns were read that customers see.
        facts, line = rendering.tax_profile(profile), _line(profile)
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    click.echo(line if is_new else f"This counts already: {line}")


@example("billing tax profiles list acme-7")
@profiles.command("list")
@click.argument("customer")
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON.")
def list_profiles(customer: str, as_json: bool) -> None:
    """Every version of CUSTOMER's tax profile, the one written last first."""
    with books() as (session, _):
        found = tax_profiles_of(session, customer_id=find_customer(session, customer).customer_id)
    if as_json:
        click.echo(json.dumps([rendering.tax_profile(profile) for profile in found], ensure_ascii=False))
        return
    if not found:
        click.echo("none: this customer is not taxed. Say where: billing tax profiles set", err=True)
    for profile in found:
        click.echo(_line(profile))


def _line(profile: TaxProfile) -> str:
    place = profile.country if profile.state is None else f"{profile.country}-{profile.state}"
    facts = [profile.status.replace("_", " ")]
    if profile.tax_id is not None:
        facts.append(f"{profile.tax_id_type} {profile.tax_id}")
    if profile.legal_note is not None:
        facts.append(f"“{profile.legal_note}”")
    since = profile.valid_from.astimezone(UTC).isoformat(timespec="seconds")
    return f"version {profile.seq}  {place:<5} from {since}  {', '.join(facts)}: {profile.reason}"
