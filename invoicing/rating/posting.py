"""Rating while posting: what an event costs where that depends on what else was used in its period.

For each customer, rating period and price, the amount so far is a function of the quantities so far. An event's entry
is the function after it minus the function before it, so the ledger is right at every moment and its sums do not
depend on the order or the batches in which usage arrives (docs/decisions/0012-rating-by-running-totals.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.plans.terms import Included
from invoicing.prices.book import Discount, Tariff
from invoicing.prices.catalogue import NoPrice
from invoicing.prices.models import PriceTerms, amount_for
from invoicing.rating.counters import ZERO, Counters, Scope, load_counters
from invoicing.rating.events import INCLUDED_LEG, RowProblem, UsageEvent, UsageRefused, conflicting, fits, too_large
from invoicing.rating.periods import RatingPeriods, load_rating_periods
from ledger import accounts
from ledger.arrays import spell_array
from ledger.books import lock_books
from ledger.entries import AMOUNT_DECIMALS, NewEntry, digest, entry_id, transaction_id
from ledger.money import EXACT, plain, round_half_even
from ledger.posting import MAX_BATCH, Posted, post

HUNDRED = Decimal(100)


class IncludedChanged(InvoicingError):
    """The plan includes another amount of usage than you saw. Look at the plan again, then decide."""

    code = "included_changed"


_LOCK = "SELECT rating_lock(CAST(%s AS uuid[]))"


def lock_uncounted(session: Session, customer_ids: Iterable[UUID]) -> bool:
    """Lock these books in customer order; answers whether none of the customers' charges are counted.

    Then a batch whose prices are flat can be posted as it is: whoever begins to count charges, as a plan does that
    includes usage, does so under the same locks.
    """
    customers = spell_array(sorted(set(customer_ids)))
    return not session.connection().exec_driver_sql(_LOCK, (customers,)).scalar_one()


def post_rated(session: Session, events: Sequence[UsageEvent], *, tariff: Tariff, now: datetime) -> Posted:
    """Rate these events under the locks of their books and post them, all or none; counts events, not entries.

    Those that are known already change nothing. The caller commits; the locks are held until then.

    Raises:
        UsageRefused: some have no price, cost too much, or conflict with what was posted before; all are named.
    """
    batch = _rate(session, events, tariff)
    if batch.problems:
        raise UsageRefused(sorted(batch.problems, key=lambda problem: problem.row))
    if batch.fresh and batch.periods is not None:
        batch.periods.open_missing(session, now=now)
        for part in _parts(batch.entries):
            post(session, part, now=now)
        batch.counters.write(session)
    return Posted(posted=len(batch.fresh), replayed=len(events) - len(batch.fresh))


def rating_problems(session: Session, events: Sequence[UsageEvent], *, tariff: Tariff) -> list[RowProblem]:
    """What would keep these events from being posted. Writes nothing, but locks the books."""
    return _rate(session, events, tariff).problems


def recharge_included(
    session: Session,
    *,
    customer_id: UUID,
    rating_start: datetime,
    included_before: Decimal,
    included_after: Decimal,
    plan_version_id: UUID,
    item: str,
    effective_at: datetime,
    source: str,
    event_id: str,
    actor: str,
    now: datetime,
) -> Decimal:
    """Let a customer's plan include another amount of usage in a rating period, and give back or take back the rest.

    To be called whenever a plan begins, changes or ends within a period, even if it includes nothing yet: from the
    first call on, the customer's charges are counted. Amounts are in major units, 0 or more. What was given back so far
    stays with the plan version that gave it; the difference is an entry of `plan_version_id` and `item`, in the period
    that holds `effective_at`, which lies in the rating period. Answers how much more was given back, negative if less.
    Calling it again with the same amount changes nothing. Takes the locks of the books; the caller commits.

    Raises:
        IncludedChanged: the period includes something else than `included_before` by now.
    """
    lock_books(session, [customer_id])
    scope = (customer_id, rating_start)
    counters = load_counters(session, [scope], items=(), plans={scope: Included(ZERO, plan_version_id, item)})
    charges = counters.charges[scope]
    # A period of which nothing was counted before includes what its plan says; only the next charge would show it.
    if scope not in counters.begun and included_before != charges.included != included_after:
        raise IncludedChanged(
            f"{plain(charges.included)} is included by now, not {plain(included_before)}. Look again, then decide."
        )
    charges.included, charges.plan_version_id, charges.item = included_after, plan_version_id, item
    charges.changed = True
    difference = charges.settle()
    if difference:
        transaction = transaction_id(source, event_id)
        unbilled_last = (accounts.PLANS, accounts.UNBILLED)
        debit, credit = unbilled_last if difference > 0 else reversed(unbilled_last)
        entry = NewEntry(
            customer_id=customer_id,
            id=entry_id(transaction, INCLUDED_LEG),
            transaction_id=transaction,
            debit_account=debit,
            credit_account=credit,
            amount=difference.copy_abs(),
            effective_at=effective_at,
            kind="plan",
            actor=actor,
            digest=digest({"included": included_after, "plan_version": plan_version_id, "effective_at": effective_at}),
            item=item,
            price_id=plan_version_id,
        )
        post(session, [entry], now=now)
    else:
        session.connection().exec_driver_sql(_TOUCH, (customer_id,))
    counters.write(session)
    return difference


# A session whose snapshot is older (REPEATABLE READ) then fails at the lock of the books, as after a posting, instead
# of not seeing that charges are counted.
_TOUCH = "UPDATE ledger_books SET anchor_day = anchor_day WHERE customer_id = %s"


@dataclass(slots=True)
class _Batch:
    """What became of a batch: the events that are new, their entries event by event, what they leave counted."""

    fresh: list[UsageEvent] = field(default_factory=list)
    problems: list[RowProblem] = field(default_factory=list)
    entries: list[list[NewEntry]] = field(default_factory=list)
    counters: Counters = field(default_factory=Counters)
    periods: RatingPeriods | None = None


def _rate(session: Session, events: Sequence[UsageEvent], tariff: Tariff) -> _Batch:
    batch = _Batch()
    books = lock_books(session, {event.customer_id for event in events})
    # Read only now, in statements of their own: what was posted and counted while we waited for the locks, is there.
    batch.fresh, batch.problems = _sift(events, _known_digests(session, events))
    if not batch.fresh:
        return batch
    used = [(event.customer_id, event.effective_at) for event in batch.fresh]
    batch.periods = load_rating_periods(session, used, books=books)
    pricing = _Pricing(tariff, batch.periods)
    priced = []
    for event in batch.fresh:
        try:
            priced.append(pricing.price(event))
        except NoPrice as refusal:
            batch.problems.append(RowProblem(event.row, "item", refusal.code, str(refusal)))
    batch.counters = load_counters(session, pricing.scopes, items=pricing.items)
    for one in priced:
        entries = _legs(one, batch.counters, tariff)
        if entries is None:
            batch.problems.append(too_large(one.event, one.amount))
        else:
            batch.entries.append(entries)
    return batch


_KNOWN = """
    SELECT e.customer_id, e.id, e.digest
      FROM unnest(CAST(%s AS uuid[]), CAST(%s AS uuid[])) AS sent (customer_id, id)
      JOIN ledger_entries e USING (customer_id, id)
"""


def _known_digests(session: Session, events: Sequence[UsageEvent]) -> dict[tuple[UUID, UUID], bytes]:
    keys = spell_array(event.customer_id for event in events), spell_array(event.id for event in events)
    rows = session.connection().exec_driver_sql(_KNOWN, keys)
    return {(customer_id, id_): bytes(digest) for customer_id, id_, digest in rows}


def _sift(
    events: Sequence[UsageEvent], known: dict[tuple[UUID, UUID], bytes]
) -> tuple[list[UsageEvent], list[RowProblem]]:
    """The events that are new, each once, and those that conflict with the journal or with an earlier row."""
    fresh: list[UsageEvent] = []
    conflicts: list[int] = []
    for event in events:
        key = (event.customer_id, event.id)
        before = known.get(key)
        if before is None:
            known[key] = event.digest
            fresh.append(event)
        elif before != event.digest:
            conflicts.append(event.row)
    return fresh, conflicting(conflicts)


@dataclass(slots=True)
class _Priced:
    """An event with its rating period, its price (None if its source rated it) and what else depends on its item."""

    event: UsageEvent
    scope: Scope
    terms: PriceTerms | None
    dependents: Sequence[PriceTerms]
    amount: Decimal = ZERO


class _Pricing:
    """Which price each event takes, and which counters that asks for."""

    def __init__(self, tariff: Tariff, periods: RatingPeriods) -> None:
        self.scopes: set[Scope] = set()
        self.items: set[tuple[UUID, datetime, str]] = set()
        self._tariff = tariff
        self._periods = periods
        self._constant: dict[tuple[UUID, str, str | None, datetime], PriceTerms] = {}
        self._dependents: dict[tuple[UUID, str], Sequence[PriceTerms]] = {}

    def price(self, event: UsageEvent) -> _Priced:
        """Raises NoPrice: the item has none at that time."""
        customer_id, item = event.customer_id, event.item
        start = self._periods.start_of(customer_id, event.effective_at)
        scope = (customer_id, start)
        self.scopes.add(scope)
        terms = None if event.is_rated_by_source else self._terms(event, start)
        dependents = self._dependents.get((customer_id, item))
        if dependents is None:
            dependents = self._dependents[customer_id, item] = self._tariff.dependents(customer_id, item)
        if dependents:
            self.items.add((customer_id, start, item))
        if terms is not None and terms.included_item is not None:
            self.items.add((customer_id, start, terms.included_item))
        return _Priced(event, scope, terms, dependents)

    def _terms(self, event: UsageEvent, start: datetime) -> PriceTerms:
        region = event.labels.get("region")
        key = (event.customer_id, event.item, region, start)
        terms = self._constant.get(key)
        if terms is None:
            terms = self._tariff.price_for(
                event.customer_id,
                item=event.item,
                region=region,
                effective_at=event.effective_at,
                rating_start=start,
            )
            if not terms.flat:  # one that counts a whole period is the only one of that period
                self._constant[key] = terms
        return terms


def _legs(one: _Priced, counters: Counters, tariff: Tariff) -> list[NewEntry] | None:
    """All entries of one event; counts it. None if one of them would be more than an entry can hold."""
    event, scope, terms = one.event, one.scope, one.terms
    quantity = ZERO if event.quantity is None else event.quantity
    if one.dependents:
        counters.use(scope, event.item, quantity)
    changes: list[tuple[str, Decimal, str, UUID]] = []
    if terms is None:
        assert event.amount is not None  # noqa: S101 - that is why it needs no price
        one.amount = event.amount
    elif terms.flat:
        one.amount = EXACT.multiply(quantity, terms.unit_amount)
        discount = tariff.discount_at(event.customer_id, event.item, event.effective_at)
        if discount is not None:
            changes.append(("discount", _off(discount, one.amount), event.item, discount.id))
    else:
        before, after = _advance(counters, scope, terms, quantity)
        one.amount = EXACT.subtract(after, before)
        changes += _discounted("discount", event, scope, terms, before, after, tariff)
    for dependent in one.dependents:
        if (*scope, dependent.id) in counters.prices:
            before, after = _advance(counters, scope, dependent, ZERO)
            if before != after:
                leg = f"allowance:{dependent.id}"
                changes.append((leg, EXACT.subtract(after, before), dependent.item, dependent.id))
                changes += _discounted(f"discount:{dependent.id}", event, scope, dependent, before, after, tariff)
    if not fits(one.amount) or not all(fits(amount) for _, amount, _, _ in changes):
        return None
    entries = event.entries(one.amount, None if terms is None else terms.id)
    entries += [
        event.consequence(leg, amount, item=item, price_id=price_id)
        for leg, amount, item, price_id in changes
        if amount
    ]
    charges = counters.charges.get(scope)
    if charges is not None:
        charged = one.amount
        for _, amount, _, _ in changes:
            charged = EXACT.add(charged, amount)
        back = charges.charge(charged)
        if back:
            entries.append(event.given_back(back, item=charges.item, plan_version_id=charges.plan_version_id))
    return entries


def _advance(counters: Counters, scope: Scope, terms: PriceTerms, quantity: Decimal) -> tuple[Decimal, Decimal]:
    """Count a quantity at a price (0 where only its allowance changed); the amount so far, before and after."""
    count = counters.price(scope, terms.id, terms.item)
    other = ZERO if terms.included_item is None else counters.used(scope, terms.included_item)
    before = count.amount
    count.quantity = EXACT.add(count.quantity, quantity)
    count.amount = amount_for(terms, count.quantity, other)
    count.changed = True
    return before, count.amount


def _discounted(
    leg: str,
    event: UsageEvent,
    scope: Scope,
    terms: PriceTerms,
    before: Decimal,
    after: Decimal,
    tariff: Tariff,
) -> list[tuple[str, Decimal, str, UUID]]:
    """The discount on a price that counts a whole period: it holds for all of the period, as the price does."""
    discount = tariff.discount_at(event.customer_id, terms.item, max(scope[1], terms.valid_from))
    if discount is None:
        return []
    # Each of the two is rounded by itself, so that the discounts of a period add up to that of its last amount.
    return [(leg, EXACT.subtract(_off(discount, after), _off(discount, before)), terms.item, discount.id)]


def _off(discount: Discount, amount: Decimal) -> Decimal:
    """What the discount takes off an amount: negative where that is positive; to the last decimal of an entry."""
    off = EXACT.divide(EXACT.multiply(amount, discount.percent), HUNDRED).copy_negate()
    exponent = off.as_tuple().exponent
    too_fine = isinstance(exponent, int) and -exponent > AMOUNT_DECIMALS
    return round_half_even(off, AMOUNT_DECIMALS) if too_fine else off


def _parts(entries: Sequence[list[NewEntry]]) -> Iterable[list[NewEntry]]:
    """The entries in as few postings as they fit into; those of one event stay together."""
    part: list[NewEntry] = []
    for legs in entries:
        if len(part) + len(legs) > MAX_BATCH:
            yield part
            part = []
        part += legs
    yield part
