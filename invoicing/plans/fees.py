"""Plan fees: what a part of a term costs, to the second, and the entries that charge, earn and give it back."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Protocol

from sqlalchemy.orm import Session

from invoicing.plans.catalogue import PlanTerms
from invoicing.plans.tables import PlanPhase
from ledger import accounts
from ledger.books import LockedBooks
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.money import EXACT, round_half_even
from ledger.periods import Period, calendar_period
from ledger.posting import post
from ledger.zones import zone

DECIMALS = 10
"""To which a part of a fee is cut. Parts are differences of one function, so they add up to the fee exactly."""

MONTHS = {"month": 1, "year": 12}
TICK = timedelta(microseconds=1)
SOURCE = "invoicing:plan"


def earned(amount: Decimal, window: Period, at: datetime) -> Decimal:
    """How much of `amount`, which pays all of `window`, belongs to the seconds before `at`; 0 before it, all after."""
    if at <= window.start:
        return Decimal(0)
    if at >= window.end:
        return amount
    passed, whole = (at - window.start) // TICK, (window.end - window.start) // TICK
    return round_half_even(EXACT.divide(EXACT.multiply(amount, Decimal(passed)), Decimal(whole)), DECIMALS)


def part(amount: Decimal, window: Period, start: datetime, end: datetime) -> Decimal:
    """What the seconds from `start` to `end` cost of `amount`, which pays all of `window`."""
    return earned(amount, window, end) - earned(amount, window, start)


class Calendar(Protocol):
    """When a customer's months begin: of the books, or of whoever is looked at."""

    @property
    def time_zone(self) -> str: ...

    @property
    def anchor_day(self) -> int: ...


def window_of(terms: PlanTerms, books: Calendar, at: datetime) -> Period:
    """The calendar's term that begins with the customer's month that holds `at`: that month, or twelve of them."""
    first = calendar_period(at, time_zone=books.time_zone, anchor_day=books.anchor_day)
    end = first.end
    for _ in range(MONTHS[terms.interval] - 1):
        end = calendar_period(end, time_zone=books.time_zone, anchor_day=books.anchor_day).end
    return Period(first.start, end)


def charged_at(terms: PlanTerms, start: datetime, *, created_at: datetime) -> datetime:
    """When the fee of the term from `start` on is charged, and so on which invoice.

    In advance it stands on the invoice that is made when the term begins, which is that of the month before; whoever
    takes a plan now has no such invoice.
    """
    return start - TICK if terms.timing == "advance" and start > created_at else start


@dataclass(frozen=True, slots=True)
class ComingFee:
    """A fee that is not charged yet, for the time from `start` to `end`; `amount` exact, in major units."""

    terms: PlanTerms
    amount: Decimal
    start: datetime
    end: datetime


def coming_of(
    terms: PlanTerms,
    calendar: Calendar,
    *,
    charged_until: datetime,
    ends_at: datetime | None,
    until: datetime,
    now: datetime,
) -> list[ComingFee]:
    """What a plan that is charged up to `charged_until` will charge on invoices of the time before `until`.

    As `Fees.charge_until` does it once the time has come: nothing from the plan's end on.
    """
    found: list[ComingFee] = []
    start = charged_until
    while charged_at(terms, start, created_at=now) < until and (ends_at is None or start < ends_at):
        window = window_of(terms, calendar, start)
        found.append(ComingFee(terms, part(terms.fee, window, start, window.end), start, window.end))
        start = window.end
    return found


@dataclass(slots=True)
class Fees:
    """Charges, earns and gives back one phase's fee. The books are locked; entries are posted together at the end."""

    session: Session
    phase: PlanPhase
    terms: PlanTerms
    books: LockedBooks
    actor: str
    entries: list[NewEntry]

    @property
    def _in_advance(self) -> bool:
        return self.terms.timing == "advance"

    @property
    def window(self) -> Period | None:
        """The calendar's term of which the last charge is a part; None before the first."""
        if self.phase.window_start is None or self.phase.term_end is None:
            return None
        return Period(self.phase.window_start, self.phase.term_end)

    def charge_until(self, now: datetime) -> None:
        """Charge every term that has begun by `now` and in which the phase runs, and earn those that are over."""
        self.earn_until(now)
        while (start := self.phase.term_end or self.phase.charged_from) <= now:
            if self.phase.ends_at is not None and self.phase.ends_at <= start:
                return
            self._charge(start)
            self.earn_until(now)

    def _charge(self, start: datetime) -> None:
        window = window_of(self.terms, self.books, start)
        amount = part(self.terms.fee, window, start, window.end)
        at = charged_at(self.terms, start, created_at=self.phase.created_at)
        other = accounts.DEFERRED if self._in_advance else accounts.PLANS
        reason = f"{self.terms.name}, {self._words(start)} to {self._words(window.end)}"
        self._enter("charge", start, amount, debit=accounts.UNBILLED, credit=other, at=at, reason=reason)
        phase = self.phase
        phase.window_start, phase.term_start, phase.term_end = window.start, start, window.end
        phase.released_until = start
        if self._in_advance:
            phase.deferred += amount
            phase.earns_at = self._month_end(start)

    def earn_until(self, now: datetime) -> None:
        """Earn what was charged in advance, for every month of the customer's calendar that is over by `now`."""
        window, done = self.window, self.phase.released_until
        if window is None or done is None or not self._in_advance:
            return
        while done < window.end:
            until = min(self._month_end(done), window.end)
            if until > now:
                return
            self._earn(window, done, until)
            done = until

    def _earn(self, window: Period, start: datetime, until: datetime) -> None:
        amount = part(self.terms.fee, window, start, until)
        reason = f"{self.terms.name}, earned from {self._words(start)} to {self._words(until)}"
        self._enter("earned", start, amount, debit=accounts.DEFERRED, credit=accounts.PLANS, at=until, reason=reason)
        self.phase.released_until = until
        self.phase.earns_at = self._month_end(until)
        self.phase.deferred -= amount

    def give_back_from(self, at: datetime) -> None:
        """Give back what was charged for the time from `at` on, which lies in the last term or just at its end."""
        window = self.window
        if window is None or at >= window.end:
            return
        amount = part(self.terms.fee, window, at, window.end)
        if self._in_advance:
            if self.phase.released_until is not None and self.phase.released_until < at:
                self._earn(window, self.phase.released_until, at)
            self.phase.deferred -= amount
            self.phase.released_until = window.end
        other = accounts.DEFERRED if self._in_advance else accounts.PLANS
        reason = f"{self.terms.name}, given back from {self._words(at)} to {self._words(window.end)}"
        self._enter("given back", at, amount, debit=other, credit=accounts.UNBILLED, at=at, reason=reason)

    def _month_end(self, at: datetime) -> datetime:
        """The end of the customer's month that holds `at`."""
        return calendar_period(at, time_zone=self.books.time_zone, anchor_day=self.books.anchor_day).end

    def _words(self, at: datetime) -> str:
        """A moment in the customer's own time: its day, and the time where it is not midnight."""
        local = at.astimezone(zone(self.books.time_zone))
        return f"{local:%Y-%m-%d}" if local.time() == time() else f"{local:%Y-%m-%d %H:%M:%S}"

    def _enter(
        self, what: str, of: datetime, amount: Decimal, *, debit: str, credit: str, at: datetime, reason: str
    ) -> None:
        if not amount:
            return
        transaction = transaction_id(SOURCE, f"{self.phase.id} {what} {of.isoformat()}")
        self.entries.append(
            NewEntry(
                customer_id=self.phase.customer_id,
                id=entry_id(transaction, what),
                transaction_id=transaction,
                debit_account=debit,
                credit_account=credit,
                amount=amount,
                effective_at=at,
                kind="plan",
                actor=self.actor,
                reason=reason,
                digest=digest({"phase": self.phase.id, what: of, "amount": amount}),
                item=self.terms.item,
                price_id=self.terms.id,
            )
        )

    def post(self, *, now: datetime) -> None:
        """Post what was gathered. The caller commits."""
        if self.entries:
            post(self.session, self.entries, now=now)
            self.entries = []
        self.session.flush()
