"""`billing prices agreements` and `billing prices end`: what was agreed with one customer, and its end."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from sqlalchemy.orm import Session

from app.cli import example
from app.cli.instants import Instant
from app.cli.price_changes import named_customer
from app.config import load_config
from app.database import create_engine, session_scope
from invoicing.prices.agreements import agreements_of, discounts_of
from invoicing.prices.endings import End, end_discount, end_own_price, end_price_list, ends_of, own_prices_of
from invoicing.prices.words import price_words
from ledger.money import plain

LIST = "list"
"""What stands for the price list that was agreed, which has no id of its own."""


@example("billing prices agreements acme")
@click.command()
@click.argument("customer")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead.")
def agreements(customer: str, as_json: bool) -> None:
    """Show what was agreed with CUSTOMER (our id or the platform's): lists, discounts, own prices, and their ends."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = _found(session, named_customer(session, customer))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for agreed in found["price_lists"]:
        click.echo(f"{LIST}  {agreed['price_list']} from {agreed['valid_from']}: {agreed['reason']}")
    for agreed in [*found["discounts"], *found["own_prices"]]:
        until = "" if agreed["valid_until"] is None else f" until {agreed['valid_until']}"
        end = agreed["end"]
        ended = "" if end is None else f" (ended by {end['by']}: {end['reason']})"
        click.echo(f"{agreed['id']}  {agreed['words']} from {agreed['valid_from']}{until}{ended}")
    click.echo(f"{sum(map(len, found.values()))} agreements")


@example("billing prices end acme 5f1c5a3e-6a47-5d0c-9f0e-5b8b3b1f5a11 --reason 'year 1 is over' --actor ann")
@click.command()
@click.argument("customer")
@click.argument("agreed")
@click.option("--at", "ends_at", type=Instant(), help="Until when, exclusive. Default: now, after what is rated.")
@click.option("--reason", required=True, help="Why, for whoever asks later.")
@click.option("--actor", required=True, help="Who does this: a name or an e-mail address.")
def end(customer: str, agreed: str, ends_at: datetime | None, reason: str, actor: str) -> None:
    """End what was AGREED with CUSTOMER: the id of a discount or of an own price, or `list` for the price list.

    `billing prices agreements` shows the ids. What is rated stays; the same end again changes nothing.
    """
    now = datetime.now(UTC)
    with session_scope(create_engine(load_config().database_url)) as session:
        customer_id = named_customer(session, customer)
        said: dict[str, Any] = {
            "customer_id": customer_id,
            "ends_at": ends_at,
            "reason": reason,
            "actor": actor,
            "now": now,
        }
        if agreed == LIST:
            ended = end_price_list(session, **said).valid_from
        else:
            try:
                key = UUID(agreed)
            except ValueError:
                cure = f"{agreed!r} is no id. See billing prices agreements {customer}."
                raise click.BadParameter(cure, param_hint="AGREED") from None
            is_price = key in {terms.id for terms in own_prices_of(session, customer_id=customer_id)}
            if is_price:
                ended = end_own_price(session, price_id=key, **said).ends_at
            else:
                ended = end_discount(session, discount_id=key, **said).ends_at
    click.echo(f"ended: {agreed} of {customer} at {ended.isoformat()}")


def _found(session: Session, customer_id: UUID) -> dict[str, list[dict[str, Any]]]:
    ends = ends_of(session, customer_id=customer_id)
    return {
        "price_lists": [
            {
                "price_list": agreed.price_list,
                "valid_from": agreed.valid_from.isoformat(),
                "reason": agreed.reason,
                "by": agreed.created_by,
            }
            for agreed in agreements_of(session, customer_id=customer_id)
        ],
        "discounts": [
            {
                "id": str(given.id),
                "words": f"{plain(given.percent)} % off {given.item or 'everything'}",
                **_validity(given.valid_from, given.valid_until, ends.get(given.id)),
                "reason": given.reason,
                "by": given.created_by,
            }
            for given in discounts_of(session, customer_id=customer_id)
        ],
        "own_prices": [
            {
                "id": str(terms.id),
                "words": f"{terms.item}{_place(terms.region)}: {'; '.join(price_words(terms, ''))}",
                **_validity(terms.valid_from, terms.until, ends.get(terms.id)),
            }
            for terms in own_prices_of(session, customer_id=customer_id)
        ],
    }


def _place(region: str | None) -> str:
    return "" if region is None else f" in {region}"


def _validity(begins: datetime, until: datetime | None, end: End | None) -> dict[str, object]:
    return {
        "valid_from": begins.isoformat(),
        "valid_until": None if until is None else until.isoformat(),
        "end": None
        if end is None
        else {"ends_at": end.ends_at.isoformat(), "reason": end.reason, "by": end.created_by},
    }
