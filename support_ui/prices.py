"""The price book: what everything costs, and changes that one person drafts and another publishes."""

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

import structlog
from flask import abort, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, customers_by_id
from invoicing.errors import InvoicingError
from invoicing.prices.book import load_terms
from invoicing.prices.catalogue import PriceRefused
from invoicing.prices.changes import ChangeNotFound, get_change, list_changes, publish_change, withdraw_change
from invoicing.prices.comparison import compare_change
from invoicing.prices.content import scope_of
from invoicing.prices.models import PriceTerms
from invoicing.prices.tables import PriceList, RegionZone
from invoicing.prices.words import price_words, scope_words
from invoicing.tables import Item, Price
from support_ui.access import actor, needs
from support_ui.moments import read_day
from support_ui.site import bp, not_found, say

log = structlog.get_logger(__name__)

MOVERS = 50
"""How many customers a comparison shows, the largest movers first."""
CHANGES = 20

bp.register_error_handler(ChangeNotFound, not_found)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a price as the page shows it; `state` is "now", "later" or "past"."""

    terms: PriceTerms
    words: list[str]
    scope: str
    ends: datetime | None
    state: str
    customer: CustomerView | None


@dataclass(frozen=True, slots=True)
class PricedItem:
    code: str
    name: str
    unit: str
    versions: list[Version]


@bp.get("/prices")
def price_list() -> ResponseReturnValue:
    """Every item with its prices, by kind; `q` narrows by code or name. Open changes stand first."""
    query = request.args.get("q", "").strip()[:200]
    found = [item for item in priced_items(g.session, now=g.now) if _matches(item, query)]
    items = sorted(found, key=lambda item: (_kind(item), item.code))
    zones = g.session.execute(select(RegionZone.zone, RegionZone.region).order_by(RegionZone.zone, RegionZone.region))
    return render_template(
        "support/prices/list.html",
        q=query,
        groups=[(kind, list(of_kind)) for kind, of_kind in groupby(items, key=_kind)],
        zones=[(zone, [row.region for row in rows]) for zone, rows in groupby(zones, key=lambda row: row.zone)],
        lists=g.session.scalars(select(PriceList).where(PriceList.code != "own").order_by(PriceList.code)).all(),
        changes=list_changes(g.session, limit=CHANGES),
    )


@bp.get("/prices/changes/<uuid:change_id>")
def price_change(change_id: UUID) -> ResponseReturnValue:
    """One change: what is new, what a month's usage would have cost, and who did what. `month` is its first day."""
    return _change_page(change_id)


@bp.post("/prices/changes/<uuid:change_id>/publication")
@needs("approver")
def publish_price_change(change_id: UUID) -> ResponseReturnValue:
    """Publish a draft, as a second person."""
    try:
        change = publish_change(g.session, change_id=change_id, actor=actor(), now=g.now)
    except ChangeNotFound:
        raise
    except PriceRefused as refused:
        g.session.rollback()
        return _change_page(change_id, refused=refused.problems, status=422)
    except InvoicingError as error:
        g.session.rollback()
        return _change_page(change_id, refused=[("", "", str(error))], status=409)
    log.info("prices_published", change=str(change.id), actor=actor())
    say(f"Published: {change.title}. Its prices rate from their start on.")
    return redirect(url_for(".price_change", change_id=change_id), code=303)


@bp.post("/prices/changes/<uuid:change_id>/withdrawal")
@needs("agent")
def withdraw_price_change(change_id: UUID) -> ResponseReturnValue:
    """Put a draft away."""
    try:
        change = withdraw_change(g.session, change_id=change_id, actor=actor(), now=g.now)
    except ChangeNotFound:
        raise
    except InvoicingError as error:
        g.session.rollback()
        return _change_page(change_id, refused=[("", "", str(error))], status=409)
    say(f"Withdrawn: {change.title}.", "info")
    return redirect(url_for(".price_change", change_id=change_id), code=303)


def priced_items(session: Session, *, now: datetime) -> list[PricedItem]:
    """Every item that has a price, by code, with all versions: by list, region and time."""
    terms = load_terms(session, Price.valid_from.is_not(None), whose=True)
    owners = [found.customer_id for found in terms if found.customer_id is not None]
    customers = customers_by_id(session, customer_ids=owners)
    items = {item.code: item for item in session.scalars(select(Item))}
    return [
        PricedItem(code, items[code].name, items[code].unit, _versions(list(of_item), items[code].unit, customers, now))
        for code, of_item in groupby(terms, key=lambda found: found.item)
    ]


def _versions(terms: list[PriceTerms], unit: str, customers: dict[UUID, CustomerView], now: datetime) -> list[Version]:
    ends: dict[UUID, datetime | None] = {}
    for _, scoped in groupby(sorted(terms, key=_scope_and_time), key=scope_of):
        versions = list(scoped)
        for version, following in zip(versions, [*versions[1:], None], strict=True):
            ends[version.id] = version.until or (following.valid_from if following is not None else None)
    return [
        Version(
            terms=found,
            words=price_words(found, unit),
            scope=scope_words(found),
            ends=ends[found.id],
            state=_state(found.valid_from, ends[found.id], now),
            customer=customers.get(found.customer_id) if found.customer_id is not None else None,
        )
        for found in terms
    ]


def _scope_and_time(terms: PriceTerms) -> tuple[str, str, str, str, datetime]:
    return terms.price_list, str(terms.customer_id), terms.region or "", terms.currency, terms.valid_from


def _state(begins: datetime, ends: datetime | None, now: datetime) -> str:
    if begins > now:
        return "later"
    return "past" if ends is not None and ends <= now else "now"


def _kind(item: PricedItem) -> str:
    """What stands before the colon of an item's code: machine, egress, volume."""
    return item.code.partition(":")[0]


def _matches(item: PricedItem, query: str) -> bool:
    return query.casefold() in f"{item.code} {item.name}".casefold()


def _change_page(
    change_id: UUID, *, refused: list[tuple[str, str, str]] | None = None, status: int = 200
) -> ResponseReturnValue:
    change = get_change(g.session, change_id=change_id)
    typed = request.args.get("month", "").strip()[:10]
    month = read_day(f"{typed}-01") if typed else None
    if typed and month is None:
        abort(422, f"“{typed}” is no month between 2000 and 2199: write it like 2025-06.")
    items = {item.code: item.unit for item in change.content.items}
    context = {
        "change": change,
        "comparison": compare_change(g.session, change_id=change_id, now=g.now, month=month),
        "movers": MOVERS,
        "drafted": [
            (terms, price_words(terms, items.get(terms.item, "")), scope_words(terms))
            for terms in change.content.prices
        ],
        "is_mine": change.created_by == actor(),
        "refused": refused or [],
    }
    return render_template("support/prices/change.html", **context), status
