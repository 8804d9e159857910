"""Ends of what was agreed: a discount, or a customer's own price, stops holding before the end it had, if it had one.

An end is a row of its own, once and for good; what it ends stays as it was agreed. It never reaches back behind what
was rated. A list that was agreed ends by agreeing on another one: `agree_price_list` with "public".
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.customers import get_customer
from invoicing.errors import InvoicingError
from invoicing.prices.agreements import (
    MAX_REASON,
    Agreement,
    AgreementConflict,
    agree_price_list,
    agreements_of,
)
from invoicing.prices.book import PUBLIC, load_terms
from invoicing.prices.catalogue import PriceRefused, hold_book
from invoicing.prices.models import PriceTerms
from invoicing.prices.publishing import TICK
from invoicing.prices.tables import DiscountEnd, DiscountRow, PriceEnd
from invoicing.tables import Price
from ledger.entries import instant_problem


class AgreementNotFound(InvoicingError):
    """The customer has no such discount or price of their own. Reload the customer's agreements."""

    code = "unknown_agreement"


@dataclass(frozen=True, slots=True)
class End:
    """When something that was agreed ends (exclusive), why, and who said so."""

    of: UUID
    """The id of the discount, or of the price."""
    ends_at: datetime
    reason: str
    created_at: datetime
    created_by: str


def end_discount(
    session: Session,
    *,
    customer_id: UUID,
    discount_id: UUID,
    ends_at: datetime | None,
    reason: str,
    actor: str,
    now: datetime,
) -> End:
    """Let a discount end at `ends_at`, or, if that is None, now, right after what it was given on. The caller commits.

    Usage before that keeps it, even if it arrives later; where a price counts a whole period, the period that has begun
    keeps it too. At its own beginning it never was. The same end again changes nothing.

    Raises:
        CustomerNotFound, AgreementNotFound.
        PriceRefused: it was given on usage from then on, it ends by then anyway, or there is no reason.
        AgreementConflict: another end was agreed.
    """
    _check(session, customer_id, ends_at, reason)
    hold_book(session)
    discount = session.get(DiscountRow, (customer_id, discount_id))
    if discount is None:
        raise AgreementNotFound("The customer has no such discount. Reload the customer's agreements.")
    known = session.get(DiscountEnd, (customer_id, discount_id))
    if known is None:
        wanted = _refuse_what_is_rated(
            session, customer_id, discount_id, (discount.valid_from, discount.valid_until), ends_at, now=now
        )
        session.execute(
            insert(DiscountEnd).values(
                customer_id=customer_id,
                discount_id=discount_id,
                ends_at=wanted,
                reason=reason,
                created_at=now,
                created_by=actor,
            )
        )
        session.expire(discount)
        known = session.get_one(DiscountEnd, (customer_id, discount_id))
    return _answer(discount_id, known, ends_at)


def end_own_price(
    session: Session,
    *,
    customer_id: UUID,
    price_id: UUID,
    ends_at: datetime | None,
    reason: str,
    actor: str,
    now: datetime,
) -> End:
    """Let a customer's own price end at `ends_at`, or, if that is None, now, right after what it rated. Caller commits.

    From then on the prices of the customer's list hold. Usage before that is rated by it, even if it arrives later; if
    it counts a whole period, the period that has begun is rated by it to its end. The same end again changes nothing.

    Raises:
        CustomerNotFound, AgreementNotFound.
        PriceRefused: it rated usage from then on, it ends by then anyway, or there is no reason.
        AgreementConflict: another end was agreed.
    """
    _check(session, customer_id, ends_at, reason)
    hold_book(session)
    price = session.scalar(select(Price).where(Price.id == price_id, Price.customer_id == customer_id))
    if price is None:
        raise AgreementNotFound("The customer has no such price of their own. Reload the customer's agreements.")
    known = session.get(PriceEnd, (customer_id, price_id))
    if known is None:
        wanted = _refuse_what_is_rated(
            session, customer_id, price_id, (price.valid_from, price.valid_until), ends_at, now=now
        )
        session.execute(
            insert(PriceEnd).values(
                customer_id=customer_id,
                price_id=price_id,
                ends_at=wanted,
                reason=reason,
                created_at=now,
                created_by=actor,
            )
        )
        known = session.get_one(PriceEnd, (customer_id, price_id))
    return _answer(price_id, known, ends_at)


def end_price_list(
    session: Session, *, customer_id: UUID, ends_at: datetime | None, reason: str, actor: str, now: datetime
) -> Agreement:
    """Let the public list hold for a customer from `ends_at` on, or, if that is None, from now, after what is rated.

    The caller commits. With the public list in force then, nothing changes.

    Raises:
        as `agree_price_list`.
    """
    _check(session, customer_id, ends_at, reason)
    hold_book(session)
    wanted = ends_at or now
    holding = [agreed for agreed in agreements_of(session, customer_id=customer_id) if agreed.valid_from <= wanted]
    if not holding or holding[-1].price_list == PUBLIC:
        raise AgreementNotFound("The customer pays by the public list then. Reload the customer's agreements.")
    if ends_at is None:
        rated: datetime | None = session.scalar(select(func.rated_last(customer_id, None, None, wanted, None)))
        wanted = wanted if rated is None else rated + TICK
    return agree_price_list(
        session,
        customer_id=customer_id,
        price_list=PUBLIC,
        valid_from=wanted,
        reason=reason,
        actor=actor,
        now=now,
    )


def own_prices_of(session: Session, *, customer_id: UUID) -> list[PriceTerms]:
    """The prices that are the customer's alone, by item, region and time; ended ones as well."""
    return load_terms(session, Price.customer_id == customer_id, whose=True)


def ends_of(session: Session, *, customer_id: UUID) -> dict[UUID, End]:
    """What was ended of a customer's discounts and own prices, by the id of what ended."""
    discounts = session.scalars(select(DiscountEnd).where(DiscountEnd.customer_id == customer_id))
    prices = session.scalars(select(PriceEnd).where(PriceEnd.customer_id == customer_id))
    found = {row.discount_id: _end(row.discount_id, row) for row in discounts}
    return found | {row.price_id: _end(row.price_id, row) for row in prices}


def _check(session: Session, customer_id: UUID, ends_at: datetime | None, reason: str) -> None:
    get_customer(session, customer_id=customer_id)
    problems: list[tuple[str, str, str]] = []
    wrong = None if ends_at is None else instant_problem(ends_at)
    if wrong:
        problems.append(("ends_at", *wrong))
    if not 0 < len(reason.strip()) <= MAX_REASON:
        problems.append(("reason", "bad_reason", f"Say why, in 1 to {MAX_REASON:,} characters."))
    if problems:
        raise PriceRefused(problems)


def _refuse_what_is_rated(
    session: Session,
    customer_id: UUID,
    agreed_id: UUID,
    validity: tuple[datetime, datetime | None],
    ends_at: datetime | None,
    *,
    now: datetime,
) -> datetime:
    """The end that is possible. What is rated is not rated again, so an end lies after it."""
    begins, own_end = validity
    wanted = max(begins, now) if ends_at is None else ends_at
    rated: datetime | None = session.scalar(
        select(func.rated_last(customer_id, agreed_id, None, max(begins, wanted), None))
    )
    if rated is not None and ends_at is None:
        wanted, rated = rated + TICK, None
    if rated is not None:
        message = (
            f"Usage until {rated.isoformat()} is rated already, with this. Let it end after that: at "
            f"{(rated + TICK).isoformat()} or later."
        )
        raise PriceRefused([("ends_at", "usage_rated_already", message)])
    if wanted < begins:
        message = f"It begins at {begins.isoformat()}. Let it end then, and it never was, or later."
        raise PriceRefused([("ends_at", "ends_before_it_begins", message)])
    if own_end is not None and wanted >= own_end:
        message = f"It ends at {own_end.isoformat()} anyway. Give an earlier end, or leave it."
        raise PriceRefused([("ends_at", "ended_already", message)])
    return wanted


def _answer(agreed_id: UUID, known: DiscountEnd | PriceEnd, ends_at: datetime | None) -> End:
    if ends_at is not None and known.ends_at != ends_at:
        raise AgreementConflict(
            f"{known.created_by} ended it at {known.ends_at.isoformat()} already. An end never changes; agree on "
            "something new from then on."
        )
    return _end(agreed_id, known)


def _end(agreed_id: UUID, row: DiscountEnd | PriceEnd) -> End:
    return End(agreed_id, row.ends_at, row.reason, row.created_at, row.created_by)
