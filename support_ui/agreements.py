"""What was agreed with a customer: the price list, discounts and prices of their own; ended by staff."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import structlog
from flask import g, redirect, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, get_customer
from invoicing.errors import InvoicingError
from invoicing.prices.agreements import agreements_of, discounts_of
from invoicing.prices.book import PUBLIC
from invoicing.prices.endings import End, end_discount, end_own_price, end_price_list, ends_of, own_prices_of
from invoicing.prices.words import price_words
from invoicing.tables import Item
from ledger.money import plain
from ledger.zones import zone
from support_ui.access import actor, needs
from support_ui.forms import EndAgreement, read_form
from support_ui.site import bp, say

log = structlog.get_logger(__name__)

PATH = "/customers/<uuid:customer_id>/agreements"


@dataclass(frozen=True, slots=True)
class Agreed:
    """One thing that was agreed, as the page shows it: from when until when, by whom and why."""

    kind: str
    words: str
    begins: datetime
    ends: datetime | None
    by: str | None
    reason: str | None
    end: End | None
    is_over: bool
    end_at: str | None
    """Where its end is posted; None if it ends by something else, or is over."""


def agreed_with(session: Session, customer: CustomerView, *, now: datetime) -> list[Agreed]:
    """Everything that was agreed with the customer, what holds first, then by its beginning, the newest first."""
    found = [
        *_lists(session, customer, now=now),
        *_discounts(session, customer, now=now),
        *_prices(session, customer, now=now),
    ]
    return sorted(found, key=lambda agreed: (agreed.is_over, -agreed.begins.timestamp(), agreed.words))


def _lists(session: Session, customer: CustomerView, *, now: datetime) -> list[Agreed]:
    rows = agreements_of(session, customer_id=customer.customer_id)
    found = []
    for place, row in enumerate(rows, 1):
        following = rows[place] if place < len(rows) else None
        ends = following.valid_from if following is not None else None
        if row.price_list == PUBLIC:
            continue  # the end of the one before
        at = url_for("support.end_price_list_of", customer_id=customer.customer_id) if following is None else None
        is_over = ends is not None and ends <= now
        words = f"Pays by the list {row.price_list}"
        found.append(Agreed("list", words, row.valid_from, ends, row.created_by, row.reason, None, is_over, at))
    return found


def _discounts(session: Session, customer: CustomerView, *, now: datetime) -> list[Agreed]:
    ends = ends_of(session, customer_id=customer.customer_id)
    found = []
    for row in discounts_of(session, customer_id=customer.customer_id):
        is_over = row.valid_until is not None and row.valid_until <= max(now, row.valid_from)
        at = None
        if not is_over and row.id not in ends:
            at = url_for("support.end_discount_of", customer_id=customer.customer_id, discount_id=row.id)
        words = f"{plain(row.percent)} % off {row.item or 'everything'}"
        found.append(
            Agreed(
                "discount",
                words,
                row.valid_from,
                row.valid_until,
                row.created_by,
                row.reason,
                ends.get(row.id),
                is_over,
                at,
            )
        )
    return found


def _prices(session: Session, customer: CustomerView, *, now: datetime) -> list[Agreed]:
    ends = ends_of(session, customer_id=customer.customer_id)
    prices = own_prices_of(session, customer_id=customer.customer_id)
    later: dict[tuple[str, str | None], datetime] = {}
    found = []
    for terms in sorted(prices, key=lambda terms: terms.valid_from, reverse=True):
        scope = terms.item, terms.region
        following = later.get(scope)
        later[scope] = terms.valid_from
        until = min((end for end in (terms.until, following) if end is not None), default=None)
        is_over = until is not None and until <= max(now, terms.valid_from)
        at = None
        if not is_over and following is None and terms.id not in ends:
            at = url_for("support.end_price_of", customer_id=customer.customer_id, price_id=terms.id)
        item = session.get_one(Item, terms.item)
        place = f" in {terms.region}" if terms.region is not None else ""
        words = f"{item.name}{place}: {'; '.join(price_words(terms, item.unit))}"
        found.append(Agreed("price", words, terms.valid_from, until, None, None, ends.get(terms.id), is_over, at))
    return found


@bp.post(f"{PATH}/list/end")
@needs("agent")
def end_price_list_of(customer_id: UUID) -> ResponseReturnValue:
    """Let the public list hold for the customer again."""

    def change(ends_at: datetime | None, reason: str) -> datetime:
        return end_price_list(
            g.session, customer_id=customer_id, ends_at=ends_at, reason=reason, actor=actor(), now=g.now
        ).valid_from

    return _answer(customer_id, change)


@bp.post(f"{PATH}/discounts/<uuid:discount_id>/end")
@needs("agent")
def end_discount_of(customer_id: UUID, discount_id: UUID) -> ResponseReturnValue:
    """End a discount. A double click ends it once."""

    def change(ends_at: datetime | None, reason: str) -> datetime:
        return end_discount(
            g.session,
            customer_id=customer_id,
            discount_id=discount_id,
            ends_at=ends_at,
            reason=reason,
            actor=actor(),
            now=g.now,
        ).ends_at

    return _answer(customer_id, change)


@bp.post(f"{PATH}/prices/<uuid:price_id>/end")
@needs("agent")
def end_price_of(customer_id: UUID, price_id: UUID) -> ResponseReturnValue:
    """End a price of the customer's own: the list holds again. A double click ends it once."""

    def change(ends_at: datetime | None, reason: str) -> datetime:
        return end_own_price(
            g.session,
            customer_id=customer_id,
            price_id=price_id,
            ends_at=ends_at,
            reason=reason,
            actor=actor(),
            now=g.now,
        ).ends_at

    return _answer(customer_id, change)


def _answer(customer_id: UUID, change: Callable[[datetime | None, str], datetime]) -> ResponseReturnValue:
    form = read_form(EndAgreement, name="end-agreement")
    if form.is_valid:
        customer = get_customer(g.session, customer_id=customer_id)
        day = form.values["last_day"]
        try:
            ended = change(None if day is None else _end_of(day, customer.time_zone), form.values["reason"])
        except InvoicingError as error:
            g.session.rollback()
            form.refuse(str(error))
        else:
            log.info("agreement_ended", customer_id=str(customer_id), actor=actor(), ends_at=ended.isoformat())
            say("It has ended; what is rated stays as it is." if ended <= g.now else "It will end.")
    for messages in form.errors.values():
        for message in messages:
            say(message, "bad")
    return redirect(url_for(".customer", customer_id=customer_id, _anchor="agreements"), code=303)


def _end_of(day: date, time_zone: str) -> datetime:
    """The instant at which a day is over by the customer's clock."""
    after = day + timedelta(days=1)
    return datetime(after.year, after.month, after.day, tzinfo=zone(time_zone)).astimezone(UTC)
