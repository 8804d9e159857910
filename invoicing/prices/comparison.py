"""What a change of prices would have meant: last month's usage at the prices of then and at the drafted ones."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from invoicing.prices.book import Tariff, load_tariff
from invoicing.prices.changes import get_change
from invoicing.prices.content import PriceContent, name_of
from invoicing.prices.models import PriceTerms, amount_for
from invoicing.tables import Customer
from ledger.money import EXACT, plain

TWICE = Decimal(2)
ZERO = Decimal(0)
HUNDRED = Decimal(100)


@dataclass(frozen=True, slots=True)
class ItemMove:
    """What all customers of a currency together would have paid for an item: before and after, major units, exact."""

    item: str
    currency: str
    quantity: Decimal
    old: Decimal
    new: Decimal

    @property
    def moved(self) -> Decimal:
        return EXACT.subtract(self.new, self.old)


@dataclass(frozen=True, slots=True)
class CustomerMove:
    """What one customer would have paid for the items of the change: before and after, major units, exact."""

    customer_id: UUID
    name: str
    external_id: str
    currency: str
    old: Decimal
    new: Decimal

    @property
    def moved(self) -> Decimal:
        return EXACT.subtract(self.new, self.old)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rating periods that began in `month`, the largest movers first. `as_of` is when the change is in force."""

    month: date
    as_of: datetime
    items: tuple[ItemMove, ...]
    customers: tuple[CustomerMove, ...]
    warnings: tuple[str, ...]


def compare_change(
    session: Session, *, change_id: UUID, now: datetime, month: date | None = None, tariff_at: datetime | None = None
) -> Comparison:
    """Rate one month's usage twice: as it would be rated without the change, and with it. Nothing is written.

    The month is the last full one unless given (its first day), and holds each customer's rating period that began in
    it, by the customer's own clock. Both sides take the prices, agreements and discounts of one instant: when the last
    price of the change begins, or `tariff_at`. Usage that came with an amount of its own stays out.

    Raises:
        ChangeNotFound: there is no such change.
    """
    content = get_change(session, change_id=change_id).content
    as_of = tariff_at or max((terms.valid_from for terms in content.prices), default=now)
    first = _last_month(now) if month is None else month.replace(day=1)
    used = _usage(session, content, first)
    customers = {row.customer_id: row.currency for row in used}
    items = {row.item for row in used}
    before = load_tariff(session, customers=customers, items=items, hold=False)
    mine = {terms.id for terms in content.prices}
    known = {terms.id for terms in before.terms()}
    drafted = [terms for terms in content.prices if terms.id not in known]
    after = load_tariff(
        session, customers=customers, items=items, hold=False, drafted=drafted, drafted_zones=content.zones
    )
    if mine & known:  # published already: then before is what holds without it
        before = before.without(mine)
    tally = _Tally(content, as_of)
    for (customer_id, _), rows in groupby(used, key=lambda row: (row.customer_id, row.period_start)):
        tally.add(customer_id, customers[customer_id], list(rows), before, after)
    return tally.comparison(session, first)


@dataclass(frozen=True, slots=True)
class _Used:
    customer_id: UUID
    currency: str
    period_start: datetime
    item: str
    region: str | None
    quantity: Decimal


_USED = text("""
    SELECT u.customer_id, b.currency, u.usage_period_start, u.item, u.region, sum(u.quantity)
      FROM ledger_unbilled u JOIN ledger_books b USING (customer_id)
     WHERE u.item = ANY(:items) AND b.currency = ANY(:currencies) AND u.price_id IS NOT NULL
       AND u.contra_account = 'income:usage'
       AND (u.usage_period_start AT TIME ZONE b.time_zone)::date >= :first
       AND (u.usage_period_start AT TIME ZONE b.time_zone)::date < :next
     GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 3, 4, 5
""")


def _usage(session: Session, content: PriceContent, first: date) -> list[_Used]:
    items = {terms.item for terms in content.prices}
    items |= {terms.included_item for terms in content.prices if terms.included_item is not None}
    # What an allowance depends on today counts for the amount before the change.
    depends = session.scalars(
        text("SELECT DISTINCT included_item FROM prices WHERE item = ANY(:items) AND included_item IS NOT NULL"),
        {"items": sorted(items)},
    )
    rows = session.execute(
        _USED,
        {
            "items": sorted(items | set(depends)),
            "currencies": sorted({terms.currency for terms in content.prices}),
            "first": first,
            "next": _next_month(first),
        },
    )
    return [_Used(*row) for row in rows]


class _Tally:
    """Adds up both amounts by item and by customer, and what a person should look at."""

    def __init__(self, content: PriceContent, as_of: datetime) -> None:
        self._items = {terms.item for terms in content.prices}
        self._content = content
        self._as_of = as_of
        self._by_item: dict[tuple[str, str], tuple[Decimal, Decimal, Decimal]] = {}
        self._by_customer: dict[UUID, tuple[str, Decimal, Decimal]] = {}
        self._unpriced: dict[str, int] = {}
        self._met: set[UUID] = set()

    def add(self, customer_id: UUID, currency: str, rows: list[_Used], before: Tariff, after: Tariff) -> None:
        """One customer's rating period."""
        others: dict[str, Decimal] = {}
        for row in rows:
            others[row.item] = EXACT.add(others.get(row.item, ZERO), row.quantity)
        for item in sorted(self._items & set(others)):
            of_item = [row for row in rows if row.item == item]
            old = self._amount(customer_id, of_item, others, before)
            new = self._amount(customer_id, of_item, others, after, is_new=True)
            if old is None or new is None:
                self._unpriced[item] = self._unpriced.get(item, 0) + 1
                continue
            quantity, old_sum, new_sum = self._by_item.get((item, currency), (ZERO, ZERO, ZERO))
            self._by_item[item, currency] = (
                EXACT.add(quantity, others[item]),
                EXACT.add(old_sum, old),
                EXACT.add(new_sum, new),
            )
            _, old_sum, new_sum = self._by_customer.get(customer_id, (currency, ZERO, ZERO))
            self._by_customer[customer_id] = (currency, EXACT.add(old_sum, old), EXACT.add(new_sum, new))

    def _amount(
        self,
        customer_id: UUID,
        rows: list[_Used],
        others: dict[str, Decimal],
        tariff: Tariff,
        *,
        is_new: bool = False,
    ) -> Decimal | None:
        quantities: dict[UUID, tuple[PriceTerms, Decimal]] = {}
        for row in rows:
            terms = tariff.version_at(customer_id, item=row.item, region=row.region, at=self._as_of)
            if terms is None:
                return None
            if is_new:
                self._met.add(terms.id)
            _, quantity = quantities.get(terms.id, (terms, ZERO))
            quantities[terms.id] = (terms, EXACT.add(quantity, row.quantity))
        total = ZERO
        for terms, quantity in quantities.values():
            total = EXACT.add(total, amount_for(terms, quantity, others.get(terms.included_item or "", ZERO)))
        discount = tariff.discount_at(customer_id, rows[0].item, self._as_of)
        if discount is not None:
            kept = EXACT.subtract(HUNDRED, discount.percent)
            total = EXACT.multiply(total, EXACT.divide(kept, HUNDRED))
        return total

    def comparison(self, session: Session, month: date) -> Comparison:
        """The result, the largest movers first."""
        names = _names(session, self._by_customer)
        items = [
            ItemMove(item, currency, quantity, old, new)
            for (item, currency), (quantity, old, new) in sorted(self._by_item.items())
        ]
        customers = [
            CustomerMove(customer_id, *names[customer_id], currency, old, new)
            for customer_id, (currency, old, new) in self._by_customer.items()
        ]
        return Comparison(
            month=month,
            as_of=self._as_of,
            items=tuple(sorted(items, key=lambda move: (-move.moved.copy_abs(), move.item, move.currency))),
            customers=tuple(sorted(customers, key=lambda move: (-move.moved.copy_abs(), move.external_id))),
            warnings=tuple(self._warnings(items, customers)),
        )

    def _warnings(self, items: list[ItemMove], customers: list[CustomerMove]) -> Iterable[str]:
        for item, number in sorted(self._unpriced.items()):
            yield f"{item}: {_count(number, 'customer')} has no price for it before or after; left out here."
        used = {move.item for move in items}
        for item in sorted(self._items - used - set(self._unpriced)):
            yield f"{item}: nobody used it in this month."
        for terms in self._content.prices:
            if terms.item in used and terms.id not in self._met:
                yield f"{name_of(terms)}: it would have met no usage of this month."
        dearer = sum(1 for move in customers if move.old > 0 and move.new > EXACT.multiply(move.old, TWICE))
        if dearer:
            yield f"{_count(dearer, 'customer')} would pay more than twice as much for these items."
        newly = [move for move in customers if not move.old and move.new > 0]
        if newly:
            yield f"{_count(len(newly), 'customer')} would pay for what was free."


def _names(session: Session, customer_ids: Iterable[UUID]) -> dict[UUID, tuple[str, str]]:
    query = select(Customer.customer_id, Customer.name, Customer.external_id)
    rows = session.execute(query.where(Customer.customer_id.in_(list(customer_ids))))
    return {row.customer_id: (row.name, row.external_id) for row in rows}


def _last_month(now: datetime) -> date:
    this = now.astimezone(UTC).date().replace(day=1)
    return date(this.year - (this.month == 1), (this.month - 2) % 12 + 1, 1)


def _next_month(first: date) -> date:
    return date(first.year + (first.month == 12), first.month % 12 + 1, 1)


def _count(number: int, what: str) -> str:
    return f"{plain(Decimal(number))} {what}{'' if number == 1 else 's'}"
