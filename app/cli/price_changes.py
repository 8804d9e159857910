"""`billing prices`: files, changes by two people, and what is agreed with single customers."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy.orm import Session

from app.cli import example
from app.cli.instants import Instant, Month
from app.config import load_config
from app.database import create_engine, session_scope
from invoicing.customers import customer_id_for, customers_by_id
from invoicing.prices.agreements import agree_price_list, give_discount
from invoicing.prices.book import load_terms
from invoicing.prices.catalogue import PriceRefused, get_item
from invoicing.prices.changes import ChangeView, list_changes, load_content, publish_change, withdraw_change
from invoicing.prices.comparison import Comparison, compare_change
from invoicing.prices.content import terms_to_json
from invoicing.prices.files import parse_document, read_prices
from invoicing.prices.words import price_words, scope_words
from invoicing.tables import Price
from ledger.money import plain

ACTOR = "billing prices"
SHOWN = 20
"""How many customers a comparison shows, the largest movers first."""

_actor = click.option("--actor", required=True, help="Who does this: a name or an e-mail address.")


@example("billing prices load prices.toml --publish --actor ann@example.com")
@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--publish", is_flag=True, help="Publish the first prices of items at once. What changes others waits.")
@click.option("--title", help="What the change is called. Default: the file's title, else its name.")
@click.option("--actor", default=ACTOR, show_default=True, help="Who does this.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a JSON object.")
def load(file: Path, publish: bool, title: str | None, actor: str, as_json: bool) -> None:
    """Read a price file into the book. What is there stays; the same file again changes nothing.

    New prices become one draft, which a second person publishes. Everything that is wrong with the file is listed, with
    its place; then nothing is loaded and the exit status is 2.
    """
    document = parse_document(file.read_bytes())
    called = title or str(document.get("title") or file.name)[:200]
    try:
        content = read_prices(document)
        with session_scope(create_engine(load_config().database_url)) as session:
            loaded = load_content(
                session, content=content, title=called, publish=publish, actor=actor, now=datetime.now(UTC)
            )
    except PriceRefused as refused:
        for place, code, message in refused.problems:
            click.echo(f"{place} [{code}]: {message}", err=True)
        click.echo(f"error [{refused.code}]: {len(refused.problems)} problems, nothing was loaded", err=True)
        raise click.exceptions.Exit(2) from refused
    if as_json:
        change = None if loaded.change_id is None else str(loaded.change_id)
        counts = {"published": loaded.published, "drafted": loaded.drafted, "known": loaded.known}
        click.echo(json.dumps({**counts, "change_id": change}))
        return
    click.echo(f"prices: {loaded.published} published, {loaded.drafted} drafted, {loaded.known} known")
    if loaded.change_id is not None:
        click.echo(f"compare them: billing prices compare {loaded.change_id}")
        click.echo(f"publish them as somebody else: billing prices publish {loaded.change_id} --actor NAME")


@example("billing prices show egress")
@click.command()
@click.argument("item")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def show(item: str, as_json: bool) -> None:
    """Show every version of ITEM's prices, with tiers, allowances and regions."""
    with session_scope(create_engine(load_config().database_url)) as session:
        details = get_item(session, code=item)
        found = load_terms(session, Price.item == item, whose=True)
    if as_json:
        click.echo(json.dumps([terms_to_json(terms) for terms in found], ensure_ascii=False))
        return
    if details is None:
        raise click.BadParameter(f"There is no item {item!r}. See billing prices list.", param_hint="ITEM")
    click.echo(f"{details.code}: {details.name}" + (f", counted in {details.unit}" if details.unit else ""))
    for terms in found:
        scope = scope_words(terms)
        until = "" if terms.until is None else f" until {terms.until.isoformat()}"
        click.echo(f"  from {terms.valid_from.isoformat()}{until}{f', {scope}' if scope else ''}  ({terms.id})")
        for words in price_words(terms, details.unit):
            click.echo(f"    {words}")


@example("billing prices changes --state drafted")
@click.command()
@click.option("--state", type=click.Choice(["drafted", "published", "withdrawn"]), help="Only these.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def changes(state: str | None, as_json: bool) -> None:
    """Show the changes of prices, the newest first: who drafted them, and who decided."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = list_changes(session, state=state)
    if as_json:
        click.echo(json.dumps([_as_json(change) for change in found], ensure_ascii=False))
        return
    for change in found:
        decided = f", {change.state} by {change.decided_by}" if change.decided_by else ""
        prices = f"{len(change.content.prices)} prices"
        click.echo(f"{change.id}  {change.title}: {prices}, drafted by {change.created_by}{decided}")
    if not found:
        click.echo("none")


@example("billing prices compare 5f1c5a3e-6a47-5d0c-9f0e-5b8b3b1f5a11 --month 2025-06")
@click.command()
@click.argument("change", type=click.UUID)
@click.option("--month", type=Month(), help="Which month's usage. Default: the last full one.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object, with every customer.")
def compare(change: UUID, month: date | None, as_json: bool) -> None:
    """Say what a month's usage would have cost without CHANGE and with it, the largest movers first."""
    with session_scope(create_engine(load_config().database_url)) as session:
        found = compare_change(session, change_id=change, now=datetime.now(UTC), month=month)
    if as_json:
        click.echo(json.dumps(_comparison_as_json(found), ensure_ascii=False))
        return
    click.echo(f"{found.month:%Y-%m}, as of {found.as_of.isoformat()}: {len(found.items)} items")
    for move in found.items:
        click.echo(f"  {move.item}: {plain(move.old)} -> {plain(move.new)} {move.currency} ({_signed(move.moved)})")
    for who in found.customers[:SHOWN]:
        click.echo(f"  {who.external_id}: {plain(who.old)} -> {plain(who.new)} {who.currency} ({_signed(who.moved)})")
    if len(found.customers) > SHOWN:
        click.echo(f"  and {len(found.customers) - SHOWN} customers more: --json lists all")
    for warning in found.warnings:
        click.echo(f"note: {warning}")


@example("billing prices publish 5f1c5a3e-6a47-5d0c-9f0e-5b8b3b1f5a11 --actor bob@example.com")
@click.command()
@click.argument("change", type=click.UUID)
@_actor
def publish(change: UUID, actor: str) -> None:
    """Publish CHANGE, as a second person. Done again by the same person, it changes nothing."""
    with session_scope(create_engine(load_config().database_url)) as session:
        done = publish_change(session, change_id=change, actor=actor, now=datetime.now(UTC))
    click.echo(f"published: {done.title}, {len(done.content.prices)} prices, drafted by {done.created_by}")


@example("billing prices withdraw 5f1c5a3e-6a47-5d0c-9f0e-5b8b3b1f5a11 --actor ann@example.com")
@click.command()
@click.argument("change", type=click.UUID)
@_actor
def withdraw(change: UUID, actor: str) -> None:
    """Put CHANGE away without publishing it."""
    with session_scope(create_engine(load_config().database_url)) as session:
        done = withdraw_change(session, change_id=change, actor=actor, now=datetime.now(UTC))
    click.echo(f"withdrawn: {done.title}")


@example("billing prices agree acme partners --valid-from 2025-08-01T00:00:00Z --reason 'contract 17' --actor ann")
@click.command()
@click.argument("customer")
@click.argument("price_list")
@click.option("--valid-from", required=True, type=Instant(), help="From when on.")
@click.option("--reason", required=True, help="Why, for whoever asks later.")
@_actor
def agree(customer: str, price_list: str, valid_from: datetime, reason: str, actor: str) -> None:
    """Let CUSTOMER (our id or the platform's) pay by PRICE_LIST from then on; `public` ends that."""
    with session_scope(create_engine(load_config().database_url)) as session:
        done = agree_price_list(
            session,
            customer_id=named_customer(session, customer),
            price_list=price_list,
            valid_from=valid_from,
            reason=reason,
            actor=actor,
            now=datetime.now(UTC),
        )
    click.echo(f"agreed: {customer} pays by {done.price_list} from {done.valid_from.isoformat()}")


@example(
    "billing prices discount acme 15 --item egress --valid-from 2025-08-01T00:00:00Z --reason 'year 1' --actor ann"
)
@click.command()
@click.argument("customer")
@click.argument("percent")
@click.option("--item", help="Off this item alone. Default: off everything.")
@click.option("--valid-from", required=True, type=Instant(), help="From when on.")
@click.option("--valid-until", type=Instant(), help="Until when, exclusive. Default: without an end.")
@click.option("--reason", required=True, help="Why, for whoever asks later.")
@_actor
def discount(
    customer: str,
    percent: str,
    item: str | None,
    valid_from: datetime,
    valid_until: datetime | None,
    reason: str,
    actor: str,
) -> None:
    """Give CUSTOMER (our id or the platform's) PERCENT off, above 0 and at most 100."""
    try:
        number = Decimal(percent)
    except ArithmeticError:
        raise click.BadParameter(f"{percent!r} is no number. Write it like 12.5.", param_hint="PERCENT") from None
    with session_scope(create_engine(load_config().database_url)) as session:
        done = give_discount(
            session,
            customer_id=named_customer(session, customer),
            percent=number,
            item=item,
            valid_from=valid_from,
            valid_until=valid_until,
            reason=reason,
            actor=actor,
            now=datetime.now(UTC),
        )
    until = "" if done.valid_until is None else f" until {done.valid_until.isoformat()}"
    off = done.item or "everything"
    click.echo(f"given: {plain(done.percent)} % off {off} to {customer} from {done.valid_from.isoformat()}{until}")


def named_customer(session: Session, named: str) -> UUID:
    """The id of the customer whom the platform, or we, call so."""
    try:
        candidates = [customer_id_for(named), UUID(named)]
    except ValueError:
        candidates = [customer_id_for(named)]
    known = customers_by_id(session, customer_ids=candidates)
    found = next((candidate for candidate in candidates if candidate in known), None)
    if found is None:
        raise click.BadParameter(f"There is no customer {named!r}. See billing customers list.", param_hint="CUSTOMER")
    return found


def _as_json(change: ChangeView) -> dict[str, object]:
    return {
        "id": str(change.id),
        "title": change.title,
        "state": change.state,
        "prices": [terms_to_json(terms) for terms in change.content.prices],
        "created_at": change.created_at.isoformat(),
        "created_by": change.created_by,
        "decided_at": None if change.decided_at is None else change.decided_at.isoformat(),
        "decided_by": change.decided_by,
    }


def _comparison_as_json(found: Comparison) -> dict[str, object]:
    return {
        "month": f"{found.month:%Y-%m}",
        "as_of": found.as_of.isoformat(),
        "items": [
            {"item": move.item, "currency": move.currency, "old": plain(move.old), "new": plain(move.new)}
            for move in found.items
        ],
        "customers": [
            {"customer": who.external_id, "currency": who.currency, "old": plain(who.old), "new": plain(who.new)}
            for who in found.customers
        ],
        "warnings": list(found.warnings),
    }


def _signed(amount: Decimal) -> str:
    return f"+{plain(amount)}" if amount > 0 else plain(amount)
