"""`billing prices`: the price book."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import click
from marshmallow import ValidationError

from app.cli import Group, agreements, example, price_changes
from app.cli.instants import Instant
from app.config import load_config
from app.database import create_engine, session_scope
from invoicing.coded_fields import coded_errors, parse_number
from invoicing.prices.catalogue import ItemDetails, SecondPersonNeeded, get_item, list_prices, publish_price
from invoicing.prices.changes import draft_change
from invoicing.prices.content import PriceContent, flat_price
from invoicing.prices.files import seed_prices
from ledger.money import plain

ACTOR = "billing prices"


class ExactAmount(click.ParamType[Decimal]):
    """A decimal number, to its last digit."""

    name = "AMOUNT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """The number, or click's own refusal."""
        if isinstance(value, Decimal):
            return value
        try:
            return parse_number(str(value))
        except ValidationError as error:
            for _, message in coded_errors(error.messages):
                self.fail(str(message), param, ctx)
            raise


@click.group(cls=Group)
def prices() -> None:
    """Show and load the price book.

    A price holds for one item, currency and region from its start until the next one's. It is never changed: another
    price is another start. The first prices of an item are published at once; what changes them is drafted, compared
    with last month's usage, and published by a second person.
    """


for _command in (
    price_changes.load,
    price_changes.show,
    price_changes.changes,
    price_changes.compare,
    price_changes.publish,
    price_changes.withdraw,
    price_changes.agree,
    price_changes.discount,
    agreements.agreements,
    agreements.end,
):
    prices.add_command(_command)


@example("billing prices seed")
@prices.command()
def seed() -> None:
    """Publish Fly.io's public price list, in USD. Prices that are there already stay."""
    with session_scope(create_engine(load_config().database_url)) as session:
        new = seed_prices(session, actor=ACTOR, now=datetime.now(UTC))
    click.echo(f"published {new} prices")


@example("billing prices set volume --currency EUR --unit-amount 0.14 --valid-from 2025-07-01T00:00:00Z")
@prices.command("set")
@click.argument("item")
@click.option("--currency", required=True, help="ISO 4217, such as USD.")
@click.option("--unit-amount", required=True, type=ExactAmount(), help="Of one unit, in major units.")
@click.option("--valid-from", type=Instant(), help="From when on, ISO 8601 with a zone. Default: now.")
@click.option("--name", help="What invoices call the item. Default: as it is called now, else its code.")
@click.option("--unit", help="In which unit it is counted. Default: as now.")
@click.option("--actor", default=ACTOR, show_default=True, help="Who does this.")
def set_(
    item: str,
    currency: str,
    unit_amount: Decimal,
    valid_from: datetime | None,
    name: str | None,
    unit: str | None,
    actor: str,
) -> None:
    """Publish the first price of ITEM, or draft another one. The same price again changes nothing."""
    now = datetime.now(UTC)
    begins = valid_from or now
    with session_scope(create_engine(load_config().database_url)) as session:
        known = get_item(session, code=item)
        details = ItemDetails(item, name or (known.name if known else item), unit or (known.unit if known else ""))
        amount = f"{item} {plain(unit_amount)} {currency} from {begins.isoformat()}"
        try:
            _, is_new = publish_price(
                session,
                item=details,
                currency=currency,
                unit_amount=unit_amount,
                valid_from=begins,
                actor=actor,
                now=now,
            )
        except SecondPersonNeeded:
            content = PriceContent(items=(details,), prices=(flat_price(item, currency, unit_amount, begins),))
            change = draft_change(session, content=content, title=amount[:200], actor=actor, now=now)
            said = f"drafted: {amount}\npublish it as somebody else: billing prices publish {change.id} --actor NAME"
        else:
            said = f"published: {amount}" if is_new else f"known already: {amount}"
    click.echo(said)


@example("billing prices list --currency USD")
@prices.command("list")
@click.option("--item", help="Only this item.")
@click.option("--currency", help="Only this currency.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def list_(item: str | None, currency: str | None, as_json: bool) -> None:
    """Show the published prices, by item, currency and time. `billing prices show` has tiers and allowances."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = list_prices(session, item=item, currency=currency)
    if as_json:
        rows = [
            {
                "item": price.item,
                "name": price.item_name,
                "unit": price.unit,
                "currency": price.currency,
                "unit_amount": plain(price.unit_amount),
                "valid_from": price.valid_from.isoformat(),
                "region": price.region,
                "price_list": price.price_list,
                "model": price.model,
            }
            for price in found
        ]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    if not found:
        click.echo("none: billing prices seed", err=True)
    for price in found:
        per = f" per {price.unit}" if price.unit and price.model == "per_unit" else f" ({price.model})"
        amount = f"{plain(price.unit_amount)} {price.currency}{per if price.unit else ''}"
        amount = f"{price.currency} in tiers ({price.model})" if price.model in ("graduated", "volume") else amount
        extra = "".join(
            f", {name} {value}"
            for name, value in (("region", price.region), ("list", price.price_list))
            if value not in (None, "public")
        )
        click.echo(f"{price.item:<32} {amount:<32} from {price.valid_from.isoformat(timespec='seconds')}{extra}")
