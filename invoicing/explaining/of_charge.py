"""Explaining a charge: which version of which price made it, step by step, and from which entries it adds up.

Every sum is read from the running totals, as the line itself was, and compared with it: `adds_up`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from invoicing.explaining.charges import ZERO, Charge, Step, step_of
from invoicing.explaining.parts import Part, Parts, PartsBilled, PartsPosted, elsewhere
from invoicing.explaining.steps import (
    find_discount,
    steps_of_carried,
    steps_of_discount,
    steps_of_fee,
    steps_of_included,
)
from invoicing.plans.catalogue import PlanTerms, plan_version
from invoicing.plans.tables import PlanVersion
from invoicing.plans.terms import included_usage
from invoicing.prices.book import OWN, Discount, terms_by_id
from invoicing.prices.models import PriceTerms, segments
from invoicing.tables import Item, Price
from ledger import accounts
from ledger.money import EXACT
from ledger.tables import UNBILLED_TOTALS, Entry


@dataclass(frozen=True, slots=True)
class Share:
    """What one app in one region has of a charge."""

    app: str | None
    region: str | None
    quantity: Decimal
    amount: Decimal
    entries: int


@dataclass(frozen=True, slots=True)
class ChargeExplanation:
    """Why a charge is what it is. Amounts exact, in major units of the charge's currency.

    `steps` add up to `total`. Where a price, or what a plan includes, counts a whole rating period, that is what the
    period had come to by then, counted from `counted_from`; what of it stands on other lines is `elsewhere`, and the
    rest is the charge. Else it is the charge itself.
    """

    charge: Charge
    name: str
    unit: str
    shares: Sequence[Share]
    days: tuple[date, date] | None
    steps: Sequence[Step] = ()
    elsewhere: Sequence[Part] = ()
    terms: PriceTerms | None = None
    replaced_at: datetime | None = None
    """From when on the next version of the price holds."""
    published_by: str | None = None
    discount: Discount | None = None
    plan: PlanTerms | None = None
    counted_from: datetime | None = None
    counted: Decimal | None = None
    """The quantity of the rating period by then."""
    other: Decimal | None = None
    """The quantity of the item on which the allowance depends."""
    first: Entry | None = None
    last: Entry | None = None

    @property
    def total(self) -> Decimal:
        return exact_sum(step.amount for step in self.steps)

    @property
    def on_other_lines(self) -> Decimal:
        return exact_sum(part.amount for part in self.elsewhere)

    @property
    def entries(self) -> int:
        return sum(share.entries for share in self.shares)

    @property
    def is_carried(self) -> bool:
        return self.charge.contra_account == accounts.CARRIED

    @property
    def is_late(self) -> bool:
        """Whether it was used in an earlier period than the one that bills it."""
        return self.charge.usage_period_start != self.charge.period_start and not self.is_carried

    @property
    def adds_up(self) -> bool:
        """Whether steps less other lines, and entries, come to the charge: to the last digit."""
        left = EXACT.subtract(self.total, self.on_other_lines)
        return left == self.charge.amount == exact_sum(share.amount for share in self.shares)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """The sum, to the last digit however many there are."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def explain_charge(session: Session, charge: Charge, *, for_staff: bool = True) -> ChargeExplanation:
    """Why the charge is what it is. Writes nothing.

    Without `for_staff` it reads only what the customer's own panel may read, and names nobody of the staff.
    """
    found = _begun(session, charge)
    if for_staff:
        found = replace(found, first=_edge(session, charge), last=_edge(session, charge, last=True))
    if found.is_carried:
        return replace(found, steps=steps_of_carried(session, charge))
    price_id = charge.price_id
    if charge.contra_account in (accounts.PLANS, accounts.DEFERRED) and price_id is not None:
        return _of_plan(session, found, price_id)
    if charge.contra_account == accounts.USAGE and price_id is not None:
        terms = terms_by_id(session, [price_id]).get(price_id)
        if terms is not None:
            return _of_price(session, found, terms, for_staff=for_staff)
        discount = find_discount(session, customer_id=charge.customer_id, discount_id=price_id)
        if discount is not None:
            return replace(found, discount=discount, steps=steps_of_discount(session, charge, discount))
    return replace(found, steps=[_as_posted(charge)])


def _begun(session: Session, charge: Charge) -> ChargeExplanation:
    view = UNBILLED_TOTALS.c
    rows = session.execute(
        select(
            view.app,
            view.region,
            func.sum(view.quantity),
            func.sum(view.amount).label("amount"),
            func.sum(view.entries),
            func.min(view.day).label("first"),
            func.max(view.day).label("last"),
        )
        .where(charge.totals())
        .group_by(view.app, view.region)
        .order_by(func.sum(view.amount).desc(), view.app, view.region)
    ).all()
    item = session.execute(select(Item.name, Item.unit).where(Item.code == charge.item)).one_or_none()
    return ChargeExplanation(
        charge=charge,
        name=item.name if item is not None else charge.item or "Without an item",
        unit=item.unit if item is not None else "",
        shares=[
            Share(app, region, Decimal(quantity or 0), Decimal(amount), int(entries))
            for app, region, quantity, amount, entries, _, _ in rows
        ],
        days=(min(row.first for row in rows), max(row.last for row in rows)) if rows else None,
    )


def _edge(session: Session, charge: Charge, *, last: bool = False) -> Entry | None:
    order = Entry.seq.desc() if last else Entry.seq
    return session.scalar(select(Entry).where(charge.entries()).order_by(order).limit(1))


def _as_posted(charge: Charge) -> Step:
    words = "with the amounts that its source gave" if charge.contra_account == accounts.USAGE else "as it was posted"
    return Step(words, charge.amount, charge.quantity or None)


def _of_price(session: Session, found: ChargeExplanation, terms: PriceTerms, *, for_staff: bool) -> ChargeExplanation:
    charge = found.charge
    found = replace(
        found,
        terms=terms,
        replaced_at=_replaced_at(session, terms, customer_id=charge.customer_id if for_staff else None),
        published_by=session.scalar(select(Price.created_by).where(Price.id == terms.id)) if for_staff else None,
    )
    if terms.flat:
        return replace(found, steps=[step_of(part) for part in segments(terms, charge.quantity)])
    return _adding_up(session, found, _counted)


Counting = Callable[[Session, ChargeExplanation, Parts], ChargeExplanation]


def _adding_up(session: Session, found: ChargeExplanation, counting: Counting) -> ChargeExplanation:
    """Counted as the invoices bill it; where that is not how it came to be, as it was posted."""
    counted = counting(session, found, PartsBilled(session, found.charge))
    return counted if counted.adds_up else counting(session, found, PartsPosted(session, found.charge))


def _counted(session: Session, found: ChargeExplanation, by_then: Parts) -> ChargeExplanation:
    terms = found.terms
    if terms is None:
        raise AssertionError("what is counted at a price has one")
    parts = by_then.of(accounts.USAGE, item=terms.item, price_id=terms.id)
    counted = exact_sum(part.quantity for part in parts)
    other = None
    if terms.included_item is not None:
        other = exact_sum(part.quantity for part in by_then.of(accounts.USAGE, item=terms.included_item))
    return replace(
        found,
        steps=[step_of(part) for part in segments(terms, counted, other or ZERO)],
        elsewhere=elsewhere(session, found.charge, parts),
        counted_from=by_then.start,
        counted=counted,
        other=other,
    )


def _of_plan(session: Session, found: ChargeExplanation, version: UUID) -> ChargeExplanation:
    charge = found.charge
    is_known = session.scalar(select(PlanVersion.id).where(PlanVersion.id == version)) is not None
    plan = plan_version(session, version=version) if is_known else None
    found = replace(found, plan=plan)
    if not _is_included(charge.item):
        steps = [_as_posted(charge)] if plan is None else steps_of_fee(session, charge, plan)
        return replace(found, steps=steps)
    return _adding_up(session, found, _given_back)


def _given_back(session: Session, found: ChargeExplanation, by_then: Parts) -> ChargeExplanation:
    customer_id, start = found.charge.customer_id, by_then.start
    back = [part for part in by_then.of(accounts.PLANS) if _is_included(part.item)]
    charged = exact_sum(part.amount for part in by_then.of(accounts.USAGE))
    given = -exact_sum(part.amount for part in back)
    known = included_usage(session, customer_ids=[customer_id], rating_starts=[start])
    included = known[customer_id, start].amount if (customer_id, start) in known else None
    return replace(
        found,
        steps=steps_of_included(included=included, charged=charged, given=given),
        elsewhere=elsewhere(session, found.charge, back),
        counted_from=start,
    )


def _is_included(item: str | None) -> bool:
    return item is not None and item.startswith("plan:") and item.endswith(":included")


def _replaced_at(session: Session, terms: PriceTerms, *, customer_id: UUID | None) -> datetime | None:
    """When the next version of the same price begins. The panel sees no other customer's own prices anyway."""
    query = select(func.min(Price.valid_from)).where(
        Price.item == terms.item,
        Price.currency == terms.currency,
        Price.price_list == terms.price_list,
        Price.region.is_not_distinct_from(terms.region),
        Price.valid_from > terms.valid_from,
    )
    if terms.price_list == OWN and customer_id is not None:
        query = query.where(Price.customer_id == customer_id)
    return session.scalar(query)
