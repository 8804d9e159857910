"""The steps of charges that no price per unit makes: discounts, plan fees, included usage, and what was carried."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Row, case, func, select, text
from sqlalchemy.orm import Session

from invoicing.explaining.charges import ZERO, Charge, Step, signed
from invoicing.plans.catalogue import PlanTerms
from invoicing.plans.fees import MONTHS, TICK, part
from invoicing.prices.book import Discount, terms_by_id
from invoicing.prices.tables import DiscountRow
from invoicing.prices.words import price_words
from invoicing.tables import Invoice
from ledger import accounts
from ledger.entries import transaction_id
from ledger.money import EXACT, plain
from ledger.periods import Period, calendar_period
from ledger.tables import Books, Entry

HUNDRED = Decimal(100)
MOST_FEES = 200
"""Entries of a plan's fee that are told one by one; a line has one or two."""

# A discount's entry stands in one transaction with the charge that it was taken of, and says how much that was: the
# one whose percentage it is. It is rounded at the 30th decimal, twice where it is a difference.
_DISCOUNTED = text("""
    WITH taken AS (
        SELECT DISTINCT ON (d.seq) d.seq, b.price_id,
               CASE WHEN b.debit_account = 'assets:unbilled' THEN b.amount ELSE -b.amount END AS charged
          FROM ledger_entries d
          JOIN ledger_entries b
            ON b.customer_id = d.customer_id AND b.period_start = d.period_start AND b.item = d.item
           AND b.usage_period_start = d.usage_period_start AND b.transaction_id = d.transaction_id
           AND b.price_id <> d.price_id AND b.document_id IS NULL
           AND abs(CASE WHEN b.debit_account = 'assets:unbilled' THEN b.amount ELSE -b.amount END * :percent
                   + CASE WHEN d.debit_account = 'assets:unbilled' THEN d.amount ELSE -d.amount END * 100) < 1e-27
         WHERE d.customer_id = :customer_id AND d.period_start = :period_start AND d.item = :item
           AND d.usage_period_start = :usage_period_start AND d.price_id = :price_id AND d.document_id IS NULL
         ORDER BY d.seq, abs(d.seq - b.seq))
    SELECT price_id, sum(charged), count(*) FROM taken GROUP BY price_id ORDER BY sum(charged) DESC, price_id
""")


def find_discount(session: Session, *, customer_id: UUID, discount_id: UUID) -> Discount | None:
    """The customer's discount with this id."""
    row = session.execute(
        # Column by column: the customer's own role may not read who gave it, and why.
        select(DiscountRow.id, DiscountRow.percent, DiscountRow.item, DiscountRow.valid_from, DiscountRow.until).where(
            DiscountRow.customer_id == customer_id, DiscountRow.id == discount_id
        )
    ).one_or_none()
    return None if row is None else Discount(*row)


def steps_of_discount(session: Session, charge: Charge, discount: Discount) -> list[Step]:
    """What the discount took off the charges at each price."""
    rows = session.execute(
        _DISCOUNTED,
        {
            "customer_id": charge.customer_id,
            "period_start": charge.period_start,
            "usage_period_start": charge.usage_period_start,
            "item": charge.item,
            "price_id": discount.id,
            "percent": discount.percent,
        },
    ).all()
    terms = terms_by_id(session, [price_id for price_id, _, _ in rows])
    steps = []
    for price_id, charged, count in rows:
        off = EXACT.divide(EXACT.multiply(charged, discount.percent), HUNDRED).copy_negate()
        at = f" at {', '.join(price_words(terms[price_id]))}" if price_id in terms else ""
        entries = "1 charge" if count == 1 else f"{count:,} charges"
        steps.append(Step(f"{plain(discount.percent)} % off {plain(charged)}: {entries}{at}", off))
    left = EXACT.subtract(charge.amount, _sum(step.amount for step in steps))
    if left and abs(left) <= sum(count for _, _, count in rows) * Decimal(1).scaleb(-29):
        steps.append(Step("rounded at the 30th decimal, charge by charge", left))
    return steps


def steps_of_included(*, included: Decimal | None, charged: Decimal, given: Decimal) -> list[Step]:
    """What a plan gave back of what usage came to in a rating period."""
    if given < max(ZERO, charged):
        words = f"usage came to {plain(charged)}, of which {plain(given)} is included"
    elif charged <= 0:
        words = "usage came to nothing, so nothing is given back"
    else:
        limit = f": {plain(included)}" if included is not None and included >= given else ""
        words = f"usage came to {plain(charged)}, all of it within what the plan includes{limit}"
    return [Step(words, -given)]


def steps_of_fee(session: Session, charge: Charge, plan: PlanTerms) -> list[Step]:
    """Each charge of the plan's fee, and each part that was given back, with its share of the term in seconds."""
    calendar = session.execute(
        select(Books.time_zone, Books.anchor_day).where(Books.customer_id == charge.customer_id)
    ).one()
    found = session.scalars(select(Entry).where(charge.entries()).order_by(Entry.seq).limit(MOST_FEES + 1)).all()
    steps = [_fee_step(entry, plan, calendar) for entry in found[:MOST_FEES]]
    if len(found) > MOST_FEES:
        steps.append(Step("more", EXACT.subtract(charge.amount, _sum(step.amount for step in steps))))
    return steps


def _fee_step(entry: Entry, plan: PlanTerms, calendar: Row[str, int]) -> Step:
    amount = signed(entry)
    words = "given back" if amount < 0 else "charged"
    # What is paid in advance stands one tick before the term, on the invoice of the period before.
    starts = (entry.effective_at, entry.effective_at + TICK)
    for start, window in [(at, window) for at in starts for window in _windows(plan, calendar, at)]:
        if start < window.end and part(plan.fee, window, start, window.end) == abs(amount):
            span = f"{_written(start)} to {_written(window.end)}"
            if start == window.start:
                return Step(f"{words}: {span}, a whole {plan.interval}", amount)
            passed, whole = _seconds(window.end - start), _seconds(window.end - window.start)
            of = f"{plain(passed)} of {plain(whole)} seconds of a fee of {plain(plan.fee)}"
            return Step(f"{words}: {span}, {of}", amount)
    return Step(f"{words}: {entry.reason or 'plan fee'}", amount)


def _windows(plan: PlanTerms, calendar: Row[str, int], at: datetime) -> Iterable[Period]:
    """The calendar's terms that may hold this moment: that of its month, and of a year those that began before."""
    months = [calendar_period(at, time_zone=calendar.time_zone, anchor_day=calendar.anchor_day)]
    for _ in range(MONTHS[plan.interval] - 1):
        before = months[-1].start - TICK
        months.append(calendar_period(before, time_zone=calendar.time_zone, anchor_day=calendar.anchor_day))
    for first in months:
        end = first.end
        for _ in range(MONTHS[plan.interval] - 1):
            end = calendar_period(end, time_zone=calendar.time_zone, anchor_day=calendar.anchor_day).end
        yield Period(first.start, end)


def steps_of_carried(session: Session, charge: Charge) -> list[Step]:
    """What was carried forward, by the invoice that it comes from."""
    amount = func.sum(case((Entry.debit_account == accounts.UNBILLED, Entry.amount), else_=-Entry.amount))
    rows = session.execute(
        select(Entry.transaction_id, amount).where(charge.entries()).group_by(Entry.transaction_id)
    ).all()
    carried = session.execute(
        select(Invoice.id, Invoice.period_start, Invoice.period_end)
        .where(
            Invoice.customer_id == charge.customer_id,
            Invoice.state == "carried_forward",
            Invoice.period_start < charge.period_start,
        )
        .order_by(Invoice.period_start)
    ).all()
    origins = {transaction_id("invoicing:carry", str(row.id)): row for row in carried}
    steps = []
    for transaction, total in sorted(rows, key=lambda row: (row[0] not in origins, row[1], str(row[0]))):
        origin = origins.get(transaction)
        words = (
            "carried forward when it was recorded"
            if origin is None
            else f"from the invoice for {_written(origin.period_start)} to {_written(origin.period_end)}"
        )
        steps.append(Step(words, Decimal(total)))
    return steps


def _seconds(span: timedelta) -> Decimal:
    return EXACT.divide(Decimal(span // TICK), Decimal(1_000_000))


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
