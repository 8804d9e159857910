"""Counters: how far a customer is in a price's tiers and allowances, and in what the plan includes, per rating period.

They are read and written under the locks of the books, in the transaction of the entries that they count, and nowhere
else; `rating_checks.py` holds them against the ledger's totals.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from invoicing.plans.terms import Included, included_usage
from ledger.arrays import spell_array
from ledger.money import EXACT

ZERO = Decimal(0)

Scope = tuple[UUID, datetime]
"""A customer and the start of a rating period."""


@dataclass(slots=True)
class PriceCount:
    """Used so far at one price, and what that costs so far; both signed."""

    item: str
    quantity: Decimal = ZERO
    amount: Decimal = ZERO
    changed: bool = False


@dataclass(slots=True)
class ItemCount:
    """Used so far of one item, at whatever price."""

    quantity: Decimal
    changed: bool = False


@dataclass(slots=True)
class ChargeCount:
    """What usage cost so far, and how much of it the plan gave back."""

    amount: Decimal
    included: Decimal
    credited: Decimal
    plan_version_id: UUID
    item: str
    changed: bool = False

    def charge(self, amount: Decimal) -> Decimal:
        """Count a charge; answers how much more of it the plan gives back, negative if less."""
        self.changed = True
        self.amount = EXACT.add(self.amount, amount)
        return self.settle()

    def settle(self) -> Decimal:
        """Bring what was given back to what it should be; answers the difference."""
        due = min(self.included, max(ZERO, self.amount))
        difference = EXACT.subtract(due, self.credited)
        self.credited = due
        return difference


class Counters:
    """The counters of some rating periods, in memory, while a batch is rated. `charges` only where there is a plan."""

    def __init__(self) -> None:
        self.prices: dict[tuple[UUID, datetime, UUID], PriceCount] = {}
        self.items: dict[tuple[UUID, datetime, str], ItemCount] = {}
        self.charges: dict[Scope, ChargeCount] = {}
        self.begun: set[Scope] = set()
        """The scopes of `charges` that were counted for the first time when they were loaded."""

    def price(self, scope: Scope, price_id: UUID, item: str) -> PriceCount:
        """The counter of a price; a new one begins at nothing, since a price counts from its first use on."""
        key = (*scope, price_id)
        count = self.prices.get(key)
        if count is None:
            count = self.prices[key] = PriceCount(item)
        return count

    def used(self, scope: Scope, item: str) -> Decimal:
        """What was used so far of an item that was asked for when the counters were loaded."""
        return self.items[*scope, item].quantity

    def use(self, scope: Scope, item: str, quantity: Decimal) -> None:
        """Count a use of such an item."""
        count = self.items[*scope, item]
        count.quantity = EXACT.add(count.quantity, quantity)
        count.changed = True

    def write(self, session: Session) -> None:
        """Write what changed, in one statement, after the entries were posted. The caller commits."""
        prices = [
            _row(key, price_id=str(key[2]), item=count.item, quantity=count.quantity, amount=count.amount)
            for key, count in self.prices.items()
            if count.changed
        ]
        items = [_row(key, item=key[2], quantity=count.quantity) for key, count in self.items.items() if count.changed]
        charges = [
            _row(
                key,
                amount=count.amount,
                included=count.included,
                credited=count.credited,
                plan_version_id=str(count.plan_version_id),
                item=count.item,
            )
            for key, count in self.charges.items()
            if count.changed
        ]
        parts = [(_WRITE_PRICES, prices), (_WRITE_ITEMS, items), (_WRITE_CHARGES, charges)]
        written = [(statement, json.dumps(rows, ensure_ascii=False)) for statement, rows in parts if rows]
        if written:
            statements = ", ".join(f"w{n} AS ({statement})" for n, (statement, _) in enumerate(written))
            session.connection().exec_driver_sql(
                f"WITH {statements} SELECT 1",
                tuple(sent for _, sent in written),
            )


def _row(key: tuple[UUID, datetime, object] | Scope, **values: object) -> dict[str, str]:
    row = {"customer_id": str(key[0]), "rating_start": key[1].isoformat()}
    return row | {name: str(value) for name, value in values.items()}


# What is sent is the whole new count, not what to add: under the lock nobody else changes it, and one that is counted
# for the first time needs no other statement.
_WRITE_PRICES = """
    INSERT INTO rating_counters AS c (customer_id, rating_start, price_id, item, quantity, amount)
    SELECT customer_id, rating_start, price_id, item, quantity, amount FROM json_to_recordset(CAST(%s AS json)) AS r (
           customer_id uuid, rating_start timestamptz, price_id uuid, item text, quantity numeric, amount numeric)
        ON CONFLICT (customer_id, rating_start, price_id)
        DO UPDATE SET quantity = excluded.quantity, amount = excluded.amount
"""
_WRITE_ITEMS = """
    INSERT INTO rated_quantities AS c (customer_id, rating_start, item, quantity)
    SELECT customer_id, rating_start, item, quantity FROM json_to_recordset(CAST(%s AS json)) AS r (
           customer_id uuid, rating_start timestamptz, item text, quantity numeric)
        ON CONFLICT (customer_id, rating_start, item) DO UPDATE SET quantity = excluded.quantity
"""
_WRITE_CHARGES = """
    INSERT INTO usage_charges AS c (customer_id, rating_start, amount, included, credited, plan_version_id, item)
    SELECT customer_id, rating_start, amount, included, credited, plan_version_id, item
      FROM json_to_recordset(CAST(%s AS json)) AS r (
           customer_id uuid, rating_start timestamptz, amount numeric, included numeric, credited numeric,
           plan_version_id uuid, item text)
        ON CONFLICT (customer_id, rating_start) DO UPDATE SET amount = excluded.amount,
           included = excluded.included, credited = excluded.credited, plan_version_id = excluded.plan_version_id,
           item = excluded.item
"""

# All three kinds in one round trip; a plan's customers are named even if nothing is counted in these periods yet.
_READ = """
    WITH scope AS MATERIALIZED (
        SELECT * FROM unnest(CAST(%s AS uuid[]), CAST(%s AS timestamptz[])) AS s (customer_id, rating_start))
    SELECT 'price', c.customer_id, c.rating_start, c.price_id, c.item, c.quantity, c.amount, NULL::numeric
      FROM scope JOIN rating_counters c USING (customer_id, rating_start)
    UNION ALL
    SELECT 'item', c.customer_id, c.rating_start, NULL, c.item, c.quantity, NULL, NULL
      FROM scope JOIN rated_quantities c USING (customer_id, rating_start)
    UNION ALL
    SELECT 'charges', c.customer_id, c.rating_start, c.plan_version_id, c.item, c.included, c.amount, c.credited
      FROM usage_charges c WHERE c.customer_id = ANY (CAST(%s AS uuid[]))
"""

# A charge is billed in its own period or a later one, never an earlier, so the key of the totals leads to it.
_SUM = """
    SELECT s.customer_id, s.rating_start, s.item, coalesce(t.quantity, 0), coalesce(t.amount, 0)
      FROM unnest(CAST(%s AS uuid[]), CAST(%s AS timestamptz[]), CAST(%s AS text[]))
           AS s (customer_id, rating_start, item)
     CROSS JOIN LATERAL (
           SELECT sum(u.quantity) AS quantity, sum(u.amount) AS amount
             FROM ledger_unbilled u
            WHERE u.customer_id = s.customer_id AND u.period_start >= s.rating_start AND u.document_id IS NULL
              AND u.contra_account = 'income:usage' AND (s.item IS NULL OR u.item = s.item)
              AND rating_start(u.customer_id, u.usage_period_start) = s.rating_start) t
"""


def load_counters(
    session: Session,
    scopes: Collection[Scope],
    *,
    items: Iterable[tuple[UUID, datetime, str]],
    plans: Mapping[Scope, Included] | None = None,
) -> Counters:
    """The counters of these rating periods, with the quantities of these `items`, on which an allowance depends.

    What is not counted yet is summed up from the ledger's totals; charges are counted for customers who ever had a plan
    that includes usage, or where `plans` says so. The caller holds the locks of the books, took them in a statement
    before this one, and has posted nothing since.
    """
    counters = Counters()
    wanted = sorted(scopes)
    customers = {customer_id for customer_id, _ in wanted}
    with_plan: set[UUID] = set()
    keys = spell_array(customer_id for customer_id, _ in wanted), spell_array(start for _, start in wanted)
    rows = session.connection().exec_driver_sql(_READ, (*keys, spell_array(sorted(customers))))
    for kind, customer_id, start, id_, item, quantity, amount, credited in rows:
        if kind == "price":
            counters.prices[customer_id, start, id_] = PriceCount(item, quantity, amount)
        elif kind == "item":
            counters.items[customer_id, start, item] = ItemCount(quantity)
        else:
            with_plan.add(customer_id)
            counters.charges[customer_id, start] = ChargeCount(amount, quantity, credited, id_, item)
    missing: list[tuple[UUID, datetime, str | None]] = [key for key in sorted(set(items)) if key not in counters.items]
    uncounted = [scope for scope in wanted if scope not in counters.charges]
    begun = _begun(session, uncounted, plans=plans, with_plan=with_plan)
    missing += [(*scope, None) for scope in begun]
    for (customer_id, start, item), (quantity, amount) in _sums(session, missing).items():
        if item is None:
            plan = begun[customer_id, start]
            count = ChargeCount(amount, plan.amount, ZERO, plan.plan_version_id, plan.item)
            counters.charges[customer_id, start] = count
            counters.begun.add((customer_id, start))
        else:
            counters.items[customer_id, start, item] = ItemCount(quantity)
    return counters


def _begun(
    session: Session, uncounted: Collection[Scope], *, plans: Mapping[Scope, Included] | None, with_plan: set[UUID]
) -> dict[Scope, Included]:
    """What plans include in periods of which nothing is counted yet."""
    if plans is not None:
        return {scope: plans[scope] for scope in uncounted if scope in plans}
    asked = [scope for scope in uncounted if scope[0] in with_plan]
    if not asked:
        return {}
    found = included_usage(
        session,
        customer_ids=sorted({customer_id for customer_id, _ in asked}),
        rating_starts=sorted({start for _, start in asked}),
    )
    return {scope: found[scope] for scope in asked if scope in found}


def _sums(
    session: Session, keys: Collection[tuple[UUID, datetime, str | None]]
) -> dict[tuple[UUID, datetime, str | None], tuple[Decimal, Decimal]]:
    """What the ledger's totals say of these items, or of all usage where the item is None: quantity and amount."""
    if not keys:
        return {}
    sent = (
        spell_array(customer_id for customer_id, _, _ in keys),
        spell_array(start for _, start, _ in keys),
        [item for _, _, item in keys],
    )
    rows = session.connection().exec_driver_sql(_SUM, sent)
    return {(customer_id, start, item): (quantity, amount) for customer_id, start, item, quantity, amount in rows}
