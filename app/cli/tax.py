"""`billing tax`: tax rates, and where customers are taxed."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from app.cli import Group, example
from app.cli.instants import Instant
from app.cli.tax_profiles import profiles
from app.config import load_config
from app.database import create_engine, session_scope
from invoicing.tax.rates import list_rates, load_rates, rates_from_toml
from ledger.money import plain

ACTOR = "billing tax"


@click.group(cls=Group)
def tax() -> None:
    """Load and show what customers are taxed with, and say where they are taxed."""


tax.add_command(profiles)


@tax.group(cls=Group)
def rates() -> None:
    """Tax rates by country and state, with their validity.

    A rate is never changed: it ends, and another begins. Which customer is taxed where is said by tax profiles.
    """


@example("billing tax rates load tax-rates.toml")
@rates.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def load(file: Path) -> None:
    """Write the rates of FILE (TOML, tables [[rates]]) that are new, and end those that FILE ends.

    Loading the same file again changes nothing. If one rate is wrong none is written, and all that is wrong is named.

    \b
    [[rates]]
    jurisdiction = "CA-QC"
    name = "QST"
    percent = "9.975"
    valid_from = 2013-01-01
    """
    terms = rates_from_toml(file.read_text(encoding="utf-8", errors="replace"))
    with session_scope(create_engine(load_config().database_url)) as session:
        done = load_rates(session, terms, actor=ACTOR, now=datetime.now(UTC))
    click.echo(f"{done.added} added, {done.ended} ended, {done.unchanged} unchanged")


@example("billing tax rates list --jurisdiction DE")
@rates.command("list")
@click.option("--jurisdiction", help="Only this country or state, such as DE or US-CA.")
@click.option("--at", type=Instant(), help="Only what is valid at this time, ISO 8601 with a zone.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def list_(jurisdiction: str | None, at: datetime | None, as_json: bool) -> None:
    """Show the rates, by jurisdiction, name, item and time."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = list_rates(session, jurisdiction=jurisdiction, at=at)
        rows = [
            {
                "jurisdiction": rate.jurisdiction,
                "name": rate.name,
                "percent": plain(rate.percent),
                "item": rate.item,
                "valid_from": rate.valid_from.isoformat(),
                "valid_until": None if rate.valid_until is None else rate.valid_until.isoformat(),
            }
            for rate in found
        ]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    if not rows:
        click.echo("none: billing tax rates load FILE", err=True)
    for row in rows:
        until = f" until {row['valid_until']}" if row["valid_until"] else ""
        name = f"{row['name']} of {row['item']}" if row["item"] else row["name"]
        percent = f"{row['percent']} %"
        click.echo(f"{row['jurisdiction']:<7} {name:<40} {percent:>9} from {row['valid_from']}{until}")
