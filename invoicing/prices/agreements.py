"""What was agreed with one customer: a price list, and discounts in percent. Rows that are never changed."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.customers import get_customer
from invoicing.errors import InvoicingError
from invoicing.prices.book import OWN, PUBLIC
from invoicing.prices.catalogue import PriceRefused, hold_book
from invoicing.prices.publishing import LONGEST_SKEW, TICK
from invoicing.prices.tables import CustomerPriceList, DiscountRow, PriceList
from invoicing.tables import Item, Price
from ledger.entries import instant_problem, number_problem
from ledger.money import plain

PERCENT_DECIMALS = 2
HUNDRED = Decimal(100)
ABOVE_HUNDRED = Decimal("100.01")
MAX_REASON = 2000  # characters


class AgreementConflict(InvoicingError):
    """Something else was agreed for the same time. Agreements never change: let this one begin later."""

    code = "agreement_conflict"


@dataclass(frozen=True, slots=True)
class Agreement:
    """From when on which price list holds for a customer."""

    price_list: str
    valid_from: datetime
    reason: str
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class DiscountView:
    """`percent` off one item, or off everything where `item` is None; `valid_until` is the earlier of its ends."""

    id: UUID
    item: str | None
    percent: Decimal
    valid_from: datetime
    valid_until: datetime | None
    reason: str
    created_at: datetime
    created_by: str


def agree_price_list(
    session: Session,
    *,
    customer_id: UUID,
    price_list: str,
    valid_from: datetime,
    reason: str,
    actor: str,
    now: datetime,
) -> Agreement:
    """Let a customer pay by a list from an instant on; "public" ends that. The same again changes nothing.

    The caller commits.

    Raises:
        CustomerNotFound: there is no such customer.
        PriceRefused: there is no such list, it has no price in the customer's currency, or usage since then is rated.
        AgreementConflict: another list was agreed from the same instant on.
    """
    customer = get_customer(session, customer_id=customer_id)
    problems = _common_problems(valid_from, None, reason)
    if price_list == OWN or session.get(PriceList, price_list) is None:
        message = f"There is no price list {price_list!r} to agree on. Load its prices first."
        problems.append(("price_list", "unknown_price_list", message))
    elif price_list != PUBLIC and session.scalar(
        select(Price.id).where(Price.price_list == price_list, Price.currency == customer.currency).limit(1)
    ) is None:  # fmt: skip
        message = f"The list has no price in {customer.currency}, the customer's currency. Load some first."
        problems.append(("price_list", "no_price", message))
    if problems:
        raise PriceRefused(problems)
    hold_book(session)
    known = session.get(CustomerPriceList, (customer_id, valid_from))
    if known is None:
        _refuse_rated(session, customer_id, None, valid_from, None, now=now)
        values = {"customer_id": customer_id, "price_list": price_list, "valid_from": valid_from, "reason": reason}
        session.execute(insert(CustomerPriceList).values(**values, created_at=now, created_by=actor))
        known = session.get_one(CustomerPriceList, (customer_id, valid_from))
    if known.price_list != price_list:
        raise AgreementConflict(
            f"The list {known.price_list} was agreed from {valid_from.isoformat()} on. Let this one begin later."
        )
    return Agreement(known.price_list, known.valid_from, known.reason, known.created_at, known.created_by)


def give_discount(
    session: Session,
    *,
    customer_id: UUID,
    percent: Decimal,
    valid_from: datetime,
    valid_until: datetime | None,
    reason: str,
    actor: str,
    now: datetime,
    item: str | None = None,
) -> DiscountView:
    """Give a customer `percent` (above 0, at most 100, at most 2 decimals) off an item, or off everything.

    One discount at a time on the same thing; one on an item goes before the one on everything. The same again changes
    nothing. The caller commits.

    Raises:
        CustomerNotFound: there is no such customer.
        PriceRefused: something is not acceptable; everything is named.
        AgreementConflict: there is another discount on the same thing at the same time.
    """
    customer = get_customer(session, customer_id=customer_id)
    problems = _common_problems(valid_from, valid_until, reason)
    wrong = number_problem(percent, limit=ABOVE_HUNDRED, decimals=PERCENT_DECIMALS)
    if percent.is_finite() and not 0 < percent <= HUNDRED:
        wrong = "bad_percent", f"{plain(percent)} % is not above 0 and at most 100: nobody is paid for using something."
    if wrong:
        problems.append(("percent", *wrong))
    if item is not None and session.get(Item, item) is None:
        problems.append(("item", "unknown_item", f"There is no item {item!r}. Name one that has a price."))
    elif item is not None and session.scalar(
        select(Price.id).where(Price.item == item, Price.currency == customer.currency).limit(1)
    ) is None:  # fmt: skip
        message = f"{item} has no price in {customer.currency}, the customer's currency. Publish one first."
        problems.append(("item", "no_price", message))
    if problems:
        raise PriceRefused(problems)
    hold_book(session)
    key = uuid5(
        customer_id, f"discount\x1f{item or ''}\x1f{valid_from.isoformat()}\x1f{plain(percent)}\x1f{valid_until}"
    )
    known = session.get(DiscountRow, (customer_id, key))
    if known is None:
        _refuse_overlap(session, customer_id, item, valid_from, valid_until)
        _refuse_rated(session, customer_id, item, valid_from, valid_until, now=now)
        values = {
            "customer_id": customer_id,
            "id": key,
            "item": item,
            "percent": percent,
            "valid_from": valid_from,
            "valid_until": valid_until,
            "reason": reason,
        }
        session.execute(insert(DiscountRow).values(**values, created_at=now, created_by=actor))
        known = session.get_one(DiscountRow, (customer_id, key))
    return _view(known)


def agreements_of(session: Session, *, customer_id: UUID) -> list[Agreement]:
    """Which lists were agreed with a customer, in order of time."""
    query = select(CustomerPriceList).where(CustomerPriceList.customer_id == customer_id)
    return [
        Agreement(row.price_list, row.valid_from, row.reason, row.created_at, row.created_by)
        for row in session.scalars(query.order_by(CustomerPriceList.valid_from))
    ]


def discounts_of(session: Session, *, customer_id: UUID) -> list[DiscountView]:
    """A customer's discounts, in order of time."""
    query = select(DiscountRow).where(DiscountRow.customer_id == customer_id)
    return [_view(row) for row in session.scalars(query.order_by(DiscountRow.valid_from, DiscountRow.id))]


def _view(row: DiscountRow) -> DiscountView:
    return DiscountView(
        row.id, row.item, row.percent, row.valid_from, row.until, row.reason, row.created_at, row.created_by
    )


def _common_problems(valid_from: datetime, valid_until: datetime | None, reason: str) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    for name, time in (("valid_from", valid_from), ("valid_until", valid_until)):
        problem = None if time is None else instant_problem(time)
        if problem:
            found.append((name, *problem))
    if not found and valid_until is not None and valid_until <= valid_from:
        found.append(("valid_until", "ends_before_it_begins", "It ends after it begins: give a later end."))
    if not 0 < len(reason.strip()) <= MAX_REASON:
        found.append(("reason", "bad_reason", f"Say why, in 1 to {MAX_REASON:,} characters."))
    return found


def _refuse_overlap(
    session: Session, customer_id: UUID, item: str | None, valid_from: datetime, valid_until: datetime | None
) -> None:
    for other in session.scalars(
        select(DiscountRow).where(DiscountRow.customer_id == customer_id, DiscountRow.item.is_not_distinct_from(item))
    ):
        if (valid_until is None or other.valid_from < valid_until) and (
            other.until is None or valid_from < other.until
        ):
            until = "without an end" if other.until is None else f"until {other.until.isoformat()}"
            raise AgreementConflict(
                f"{plain(other.percent)} % off {item or 'everything'} from {other.valid_from.isoformat()} {until}: "
                "one discount at a time. Let this one begin when that one has ended, or end that one first."
            )


# What is rated is not rated again, so an agreement begins after it.
_LAST_RATED = text("""
    SELECT max(e.effective_at) FROM ledger_entries e
     WHERE e.customer_id = :customer AND e.period_start IS NOT NULL AND e.price_id IS NOT NULL
       AND (CAST(:item AS text) IS NULL OR e.item = :item) AND e.effective_at >= :begins
       AND (CAST(:ends AS timestamptz) IS NULL OR e.effective_at < :ends)
""")


def _refuse_rated(
    session: Session,
    customer_id: UUID,
    item: str | None,
    valid_from: datetime,
    valid_until: datetime | None,
    *,
    now: datetime,
) -> None:
    if valid_from > now + LONGEST_SKEW:
        return
    asked = {"customer": customer_id, "item": item, "begins": valid_from, "ends": valid_until}
    rated: datetime | None = session.scalar(_LAST_RATED, asked)
    if rated is not None:
        message = (
            f"Usage until {rated.isoformat()} is rated already, without this. Let it begin after that: at "
            f"{(rated + TICK).isoformat()} or later."
        )
        raise PriceRefused([("valid_from", "usage_rated_already", message)])
