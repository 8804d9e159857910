"""Subscriptions: which plan a customer has, taken, changed and given up, now or when the paid time is over."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, get_customer
from invoicing.drafts import checked_reason
from invoicing.errors import InvoicingError
from invoicing.one_by_one import in_a_line
from invoicing.parking import park, parked_customers
from invoicing.plans.catalogue import PlanTerms, offered, plan_version
from invoicing.plans.fees import ComingFee, Fees, coming_of
from invoicing.plans.tables import PlanPhase
from invoicing.plans.terms import included_of
from invoicing.rating.periods import rating_start_of
from invoicing.rating.posting import recharge_included
from ledger.books import NAMESPACE, LockedBooks, lock_books, was_busy
from ledger.periods import calendar_period
from ledger.tables import PeriodRow

RENEWED_AT_ONCE = 200  # customers per page of due work
RENEWAL = "billing plans renew"


class PlanChangeRefused(InvoicingError):
    """The plan cannot change like this: it is this one already, or that time is billed or not here yet."""

    code = "plan_change_refused"


class NoPlan(InvoicingError):
    """The customer has no plan, so there is nothing to change or to end. Subscribe the customer first."""

    code = "no_plan"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A plan that a customer has, had or will have. `until` is set once its end is known."""

    phase_id: UUID
    terms: PlanTerms
    since: datetime
    until: datetime | None
    trial_until: datetime | None
    paid_until: datetime | None


def subscriptions_of(session: Session, *, customer_id: UUID) -> list[Subscription]:
    """The customer's plans in order of time, without those that were withdrawn before they began."""
    # Column by column: the customer's own role may not read who wrote it, and why.
    rows = session.execute(
        select(
            PlanPhase.id,
            PlanPhase.plan_version_id,
            PlanPhase.starts_at,
            PlanPhase.ends_at,
            PlanPhase.charged_from,
            PlanPhase.term_end,
        )
        .where(PlanPhase.customer_id == customer_id, PlanPhase.withdrawn_at.is_(None))
        .order_by(PlanPhase.starts_at)
    ).all()
    return [
        Subscription(
            phase_id=id_,
            terms=plan_version(session, version=version),
            since=since,
            until=until,
            trial_until=charged_from if charged_from > since else None,
            paid_until=term_end,
        )
        for id_, version, since, until, charged_from, term_end in rows
    ]


def subscription_at(session: Session, *, customer_id: UUID, at: datetime) -> Subscription | None:
    """The plan that the customer has at `at`, None without one."""
    found = subscriptions_of(session, customer_id=customer_id)
    return next((one for one in found if one.since <= at and (one.until is None or at < one.until)), None)


def coming_fees(session: Session, *, customer: CustomerView, until: datetime, now: datetime) -> list[ComingFee]:
    """The fees that are known to come on the customer's invoices of the time before `until`, in order of time.

    Of the plan that runs, of one that begins after its trial, and of what is planned to follow. Writes nothing.
    """
    found = [
        fee
        for one in subscriptions_of(session, customer_id=customer.customer_id)
        if one.until is None or one.until > now
        for fee in coming_of(
            one.terms,
            customer,
            charged_until=one.paid_until or one.trial_until or one.since,
            ends_at=one.until,
            until=until,
            now=now,
        )
    ]
    return sorted((fee for fee in found if fee.amount), key=lambda fee: fee.start)


def subscribe(
    session: Session,
    *,
    customer_id: UUID,
    plan: str,
    reason: str,
    actor: str,
    now: datetime,
    interval: str = "month",
    at: datetime | None = None,
) -> Subscription:
    """Give the customer this plan from `at` (default `now`) on, in place of the one of that time. The caller commits.

    The fee is charged from the end of the trial on, if the customer never had the plan before, to the second; what was
    charged for the old plan beyond `at` is given back, and the usage that the month includes is worked out anew. `at`
    lies in the customer's open month, not after `now`. The same plan again changes nothing.

    Raises:
        CustomerNotFound, ReasonMissing, PlanNotOffered, PlanChangeRefused.
    """
    change = _Change(session, customer_id, actor=actor, now=now, at=at)
    reason = checked_reason(reason)
    terms = offered(session, plan=plan, currency=change.books.currency, interval=interval, at=change.at)
    current = change.current
    if current is not None and current.plan_version_id == terms.id:
        if current.ends_at is not None:
            raise PlanChangeRefused(
                f"{terms.name} runs already and ends at {current.ends_at.isoformat()}. Take its end back first."
            )
        return _only(session, customer_id, current.id)
    if current is not None and current.starts_at == change.at:
        raise PlanChangeRefused("The plan of this moment began at this very moment. Change it a moment later.")
    change.withdraw_planned()
    if current is not None:
        change.end(current, at=change.at, reason=reason)
    started = change.start(terms, starts_at=change.at, reason=reason)
    change.settle(started)
    return _only(session, customer_id, started.id)


def change_at_end(
    session: Session,
    *,
    customer_id: UUID,
    plan: str | None,
    reason: str,
    actor: str,
    now: datetime,
    interval: str = "month",
) -> Subscription | None:
    """Let the plan end when its paid time is over, followed by `plan`, or by none. The caller commits.

    Nothing is charged or given back now. What was planned before is replaced. Answers what follows.

    Raises:
        CustomerNotFound, ReasonMissing, PlanNotOffered, NoPlan, PlanChangeRefused.
    """
    change = _Change(session, customer_id, actor=actor, now=now, at=None)
    reason = checked_reason(reason)
    current = change.needed()
    until = current.term_end or current.charged_from
    if until <= now:
        raise PlanChangeRefused("The paid time is over and the next is being charged. Try again in a minute.")
    change.withdraw_planned()
    current.ends_at, current.end_reason, current.ended_by = until, reason, actor
    session.flush()
    if plan is None:
        return None
    terms = offered(session, plan=plan, currency=change.books.currency, interval=interval, at=now)
    if terms.id == current.plan_version_id:
        raise PlanChangeRefused(f"{terms.name} is what the customer has. To keep it, take its end back.")
    return _only(session, customer_id, change.start(terms, starts_at=until, reason=reason).id)


def cancel(
    session: Session, *, customer_id: UUID, reason: str, actor: str, now: datetime, at: datetime | None = None
) -> Subscription:
    """End the customer's plan at `at` (default `now`); what was charged beyond that is given back. The caller commits.

    Raises:
        CustomerNotFound, ReasonMissing, NoPlan, PlanChangeRefused.
    """
    change = _Change(session, customer_id, actor=actor, now=now, at=at)
    reason = checked_reason(reason)
    current = change.needed()
    if current.starts_at == change.at:
        raise PlanChangeRefused("The plan began at this very moment. End it a moment later.")
    change.withdraw_planned()
    change.end(current, at=change.at, reason=reason)
    change.settle(current)
    return _only(session, customer_id, current.id)


def keep(session: Session, *, customer_id: UUID, actor: str, now: datetime) -> Subscription:
    """Take back a planned end, and what was to follow. The caller commits.

    Raises:
        CustomerNotFound, NoPlan.
    """
    change = _Change(session, customer_id, actor=actor, now=now, at=None)
    current = change.needed()
    change.withdraw_planned()
    current.ends_at = current.end_reason = current.ended_by = None
    session.flush()
    return _only(session, customer_id, current.id)


def _only(session: Session, customer_id: UUID, phase_id: UUID) -> Subscription:
    found = subscriptions_of(session, customer_id=customer_id)
    return next(one for one in found if one.phase_id == phase_id)


class _Change:
    """A change of one customer's plan, under the lock of the books: what is due by `now` is charged first."""

    def __init__(self, session: Session, customer_id: UUID, *, actor: str, now: datetime, at: datetime | None) -> None:
        get_customer(session, customer_id=customer_id)
        self.session, self.customer_id, self.actor, self.now = session, customer_id, actor, now
        self.books = lock_books(session, [customer_id])[customer_id]
        renew(session, customer_ids=[customer_id], now=now, actor=actor)
        self.at = now if at is None else at
        self.month = calendar_period(self.at, time_zone=self.books.time_zone, anchor_day=self.books.anchor_day)
        self._phases = list(
            session.scalars(
                select(PlanPhase)
                .where(PlanPhase.customer_id == customer_id, PlanPhase.withdrawn_at.is_(None))
                .order_by(PlanPhase.starts_at)
            )
        )
        self.current = next(
            (
                one
                for one in self._phases
                if one.starts_at <= self.at and (one.ends_at is None or self.at < one.ends_at)
            ),
            None,
        )
        self._refuse_bad_time()
        self._before = included_of(session, customer_id=customer_id, month=self.month)

    def _refuse_bad_time(self) -> None:
        if self.at.tzinfo is None or self.at > self.now:
            raise PlanChangeRefused("A plan changes now, at an earlier time of this month, or when its time is over.")
        closed = self.session.scalar(
            select(PeriodRow.end_at).where(
                PeriodRow.customer_id == self.customer_id,
                PeriodRow.start_at <= self.at,
                PeriodRow.end_at > self.at,
                PeriodRow.state == "closed",
            )
        )
        if closed is not None or self.now not in self.month:
            raise PlanChangeRefused(
                f"The period that holds {self.at.isoformat()} is over or closed. Let the change begin in the current "
                "one."
            )
        later = [one for one in self._phases if self.at < one.starts_at <= self.now]
        charged = self.current.term_start if self.current is not None else None
        if later or (charged is not None and self.at < charged):
            raise PlanChangeRefused(
                f"The plan was changed or charged anew after {self.at.isoformat()}. Choose a later time."
            )

    def needed(self) -> PlanPhase:
        """The phase of this time.

        Raises:
            NoPlan.
        """
        if self.current is None:
            raise NoPlan("The customer has no plan at this time, so there is nothing to change or to end.")
        return self.current

    def withdraw_planned(self) -> None:
        """What was to follow does not any more."""
        for phase in self._phases:
            if phase.starts_at > self.now:
                phase.withdrawn_at = self.now
        self.session.flush()

    def end(self, phase: PlanPhase, *, at: datetime, reason: str) -> None:
        """End a phase and give back what was charged beyond its end."""
        phase.ends_at, phase.end_reason, phase.ended_by = at, reason, self.actor
        self.session.flush()
        fees = self._fees(phase)
        fees.give_back_from(at)
        fees.post(now=self.now)

    def start(self, terms: PlanTerms, *, starts_at: datetime, reason: str) -> PlanPhase:
        """Write a phase down; one that has begun is charged at once."""
        had = any(
            plan_version(self.session, version=phase.plan_version_id).plan == terms.plan for phase in self._phases
        )
        trial = timedelta(0) if had else timedelta(days=terms.trial_days)
        phase = PlanPhase(
            customer_id=self.customer_id,
            id=uuid5(NAMESPACE, f"phase\x1f{self.customer_id}\x1f{terms.id}\x1f{starts_at.isoformat()}\x1f{self.now}"),
            plan_version_id=terms.id,
            starts_at=starts_at,
            charged_from=starts_at + trial,
            deferred=Decimal(0),
            reason=reason,
            actor=self.actor,
            created_at=self.now,
        )
        self.session.add(phase)
        self.session.flush()
        fees = self._fees(phase)
        fees.charge_until(self.now)
        fees.post(now=self.now)
        return phase

    def settle(self, phase: PlanPhase) -> None:
        """Let the month include what the plans of its seconds include now."""
        after = included_of(self.session, customer_id=self.customer_id, month=self.month)
        terms = plan_version(self.session, version=phase.plan_version_id)
        start = rating_start_of(self.session, customer_id=self.customer_id, period_start=self.month.start)
        recharge_included(
            self.session,
            customer_id=self.customer_id,
            rating_start=start,
            included_before=self._before,
            included_after=after,
            plan_version_id=terms.id,
            item=terms.included_item,
            effective_at=self.at,
            source="invoicing:plan",
            event_id=f"{phase.id} includes {after} from {self.at.isoformat()} said {self.now.isoformat()}",
            actor=self.actor,
            now=self.now,
        )

    def _fees(self, phase: PlanPhase) -> Fees:
        return _fees_of(self.session, phase, self.books, actor=self.actor)


def _fees_of(session: Session, phase: PlanPhase, books: LockedBooks, *, actor: str) -> Fees:
    return Fees(session, phase, plan_version(session, version=phase.plan_version_id), books, actor, [])


def renew(session: Session, *, customer_ids: Collection[UUID], now: datetime, actor: str = RENEWAL) -> int:
    """Charge and earn what these customers' plans owe by `now`; says how many terms were charged. The caller commits.

    Doing it again changes nothing. Takes the locks of the books.
    """
    books = lock_books(session, customer_ids)
    phases = session.scalars(
        select(PlanPhase)
        .where(PlanPhase.customer_id.in_(customer_ids), PlanPhase.withdrawn_at.is_(None), PlanPhase.charged_from <= now)
        .order_by(PlanPhase.customer_id, PlanPhase.starts_at)
        .execution_options(populate_existing=True)
    ).all()
    charged = 0
    for phase in phases:
        fees = _fees_of(session, phase, books[phase.customer_id], actor=actor)
        before = phase.term_end
        fees.charge_until(now)
        charged += phase.term_end != before
        fees.post(now=now)
    return charged


@dataclass(slots=True)
class RenewSummary:
    """What one run did: terms charged, customers parked, customers whose books were busy."""

    charged: int = 0
    parked: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)


# A fee is due when a term begins, and something is earned when a month is over.
_DUE = text("""
    SELECT DISTINCT customer_id FROM plan_phases
     WHERE withdrawn_at IS NULL AND charged_from <= :now
       AND (CAST(:after AS uuid) IS NULL OR customer_id > CAST(:after AS uuid))
       AND ((coalesce(term_end, charged_from) <= :now
             AND (ends_at IS NULL OR ends_at > coalesce(term_end, charged_from)))
            OR (deferred > 0 AND earns_at <= :now))
     ORDER BY customer_id LIMIT :size
""")


def renew_due(engine: Engine, *, now: datetime) -> RenewSummary:
    """Charge every plan whose next term has begun, and earn what is over. Commits per customer.

    Safe to run twice or at once. A customer that fails is parked at the close with the reason, and keeps nobody
    waiting; then no invoice of theirs lacks a fee.
    """
    summary = RenewSummary()
    after: UUID | None = None
    while True:
        with Session(engine) as session:
            due = list(session.scalars(_DUE, {"now": now, "after": after, "size": RENEWED_AT_ONCE}))
            aside = parked_customers(session, stage="close", customer_ids=due)
        if not due:
            return summary
        after = due[-1]
        for customer_id in due:
            if customer_id not in aside:
                _renew_one(engine, customer_id, now=now, summary=summary)


def _renew_one(engine: Engine, customer_id: UUID, *, now: datetime, summary: RenewSummary) -> None:
    try:
        with Session(engine) as session, session.begin():
            summary.charged += renew(session, customer_ids=[customer_id], now=now)
    except OperationalError as error:
        if not was_busy(error):
            raise
        summary.busy += 1
    except Exception as error:  # noqa: BLE001 - one customer's trouble must not keep the others from their fees
        with Session(engine) as session, session.begin():
            park(session, customer_id=customer_id, stage="close", subject="plan", error=error, now=now)
        summary.parked += 1
        summary.problems.append(f"customer {customer_id}: {type(error).__name__}: {in_a_line(error)}")
