"""The time machine: what the books and the customer's panel said at a moment of the past, beside what is known now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from flask import g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, get_customer
from invoicing.tables import Item, Price
from ledger import accounts
from ledger.balances import balances
from ledger.periods import Period, calendar_period
from ledger.tables import Entry, PeriodRow
from ledger.time_machine import UnbilledLine, balances_at, known_seq, unbilled_at
from ledger.zones import zone
from support_ui.evidence import signed
from support_ui.moments import read_clock, read_day
from support_ui.site import bp
from support_ui.wording import MAIN_ACCOUNTS

SINCE_SHOWN = 50
LINES_SHOWN = 100


@dataclass(slots=True)
class Question:
    """What was asked: `known_at` is inclusive, `before` (None: no bound) exclusive. `typed` fills the form in again."""

    typed: dict[str, str]
    known_at: datetime | None = None
    before: datetime | None = None
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One account then and now; exact, in its normal direction."""

    account: str
    then: Decimal
    now: Decimal

    @property
    def difference(self) -> Decimal:
        return self.now - self.then


@dataclass(frozen=True, slots=True)
class PanelLine:
    """One line that the customer's panel showed, with the item's name and the price of its unit."""

    line: UnbilledLine
    name: str
    unit: str
    unit_amount: Decimal | None
    is_late: bool

    @property
    def is_carried(self) -> bool:
        return self.line.contra_account == accounts.CARRIED


@dataclass(frozen=True, slots=True)
class Since:
    """What was recorded after the moment: how much in all, and of it what changes what was seen then."""

    count: int
    surprising: int
    entries: list[Entry]


@bp.get("/customers/<uuid:customer_id>/time_machine")
def time_machine(customer_id: UUID) -> ResponseReturnValue:
    """Balances then and now, what the panel showed, and what was learned since. Without a moment: the form alone."""
    customer = get_customer(g.session, customer_id=customer_id)
    asked = read_question(request.args, customer=customer, now=g.now)
    context: dict[str, object] = {"customer": customer, "asked": asked, "found": False}
    if asked.known_at is not None and not asked.errors:
        context |= _answer(g.session, customer, known_at=asked.known_at, before=asked.before, now=g.now)
    return render_template("support/customers/time_machine.html", **context), 422 if asked.errors else 200


def read_question(given: Mapping[str, str], *, customer: CustomerView, now: datetime) -> Question:
    """The moment and the bound as the form or a link names them, in the customer's billing time zone.

    `at` is an exact instant in ISO 8601; else `day` and, if not the day's end is meant, `time`; `before` is a day.
    """
    local = zone(customer.time_zone)
    typed = {name: given.get(name, "").strip()[:40] for name in ("at", "day", "time", "before")}
    asked = Question(typed)
    if typed["at"] and not typed["day"]:
        try:
            # A plus sign that nobody encoded arrives as a space.
            instant = datetime.fromisoformat(typed["at"].replace(" ", "+"))
            asked.known_at = instant.astimezone(UTC) if instant.tzinfo else None
        except (ValueError, OverflowError):
            asked.known_at = None
        if asked.known_at is None:
            asked.errors["day"] = f"“{typed['at']}” is no moment: choose a day, and a time if you know it."
        else:
            shown = asked.known_at.astimezone(local)
            typed["day"], typed["time"] = shown.date().isoformat(), shown.strftime("%H:%M:%S")
    elif typed["day"] or typed["time"]:
        _read_moment(asked, typed, customer)
    if typed["before"]:
        day = read_day(typed["before"])
        if day is None:
            asked.errors["before"] = f"“{typed['before']}” is no day: write it like 2025-03-31, or leave it empty."
        else:
            asked.before = datetime.combine(day, time.min, tzinfo=local).astimezone(UTC)
    if asked.known_at is not None and asked.known_at > now:
        if asked.known_at > now + timedelta(days=1):
            asked.errors["day"] = "That is in the future: nobody knows yet what the books will say."
        else:
            # Today has not ended, and nothing is known later than now.
            asked.known_at = now
    return asked


def _read_moment(asked: Question, typed: dict[str, str], customer: CustomerView) -> None:
    local = zone(customer.time_zone)
    day = read_day(typed["day"])
    if day is None:
        asked.errors["day"] = (
            f"“{typed['day']}” is no day between 2000 and 2199: write it like 2025-03-03."
            if typed["day"]
            else "Choose a day as well."
        )
    clock = read_clock(typed["time"]) if typed["time"] else None
    if typed["time"] and clock is None:
        asked.errors["time"] = f"“{typed['time']}” is no time of day: write it like 14:30, or leave it empty."
    if asked.errors or day is None:
        return
    if clock is not None:
        asked.known_at = datetime.combine(day, clock, tzinfo=local).astimezone(UTC)
        return
    # The whole day: up to its last instant, the one before the next midnight.
    next_day = datetime.combine(day + timedelta(days=1), time.min, tzinfo=local).astimezone(UTC)
    asked.known_at = next_day - timedelta(microseconds=1)


def _answer(
    session: Session, customer: CustomerView, *, known_at: datetime, before: datetime | None, now: datetime
) -> dict[str, object]:
    customer_id = customer.customer_id
    then = balances_at(session, customer_id=customer_id, known_at=known_at, effective_before=before)
    if before is None:
        today = balances(session, customer_id=customer_id)
    else:
        today = balances_at(session, customer_id=customer_id, effective_before=before)
    codes = [code for code in MAIN_ACCOUNTS if code in then or code in today]
    codes += sorted((then.keys() | today.keys()) - set(codes))
    period = _period_at(session, customer, known_at)
    lines = unbilled_at(session, customer_id=customer_id, period_start=period.start, known_at=known_at)
    return {
        "found": True,
        "balances": [BalanceRow(code, then.get(code, Decimal(0)), today.get(code, Decimal(0))) for code in codes],
        "period": period,
        "lines": _named(session, lines, period.start),
        "lines_shown": LINES_SHOWN,
        "total": sum((line.amount for line in lines), Decimal(0)),
        "since": _since(session, customer_id, known_at=known_at),
        "since_shown": SINCE_SHOWN,
        "signed": signed,
        "is_now": known_at == now,
    }


def _period_at(session: Session, customer: CustomerView, moment: datetime) -> Period:
    """The period that was the current one: as it was cut, or, if nobody ever needed it, as the calendar cuts it."""
    row = session.scalar(
        select(PeriodRow).where(
            PeriodRow.customer_id == customer.customer_id, PeriodRow.start_at <= moment, PeriodRow.end_at > moment
        )
    )
    if row is not None:
        return Period(row.start_at, row.end_at)
    return calendar_period(moment, time_zone=customer.time_zone, anchor_day=customer.anchor_day)


def _named(session: Session, lines: list[UnbilledLine], period_start: datetime) -> list[PanelLine]:
    codes = {line.item for line in lines if line.item is not None}
    prices = {line.price_id for line in lines if line.price_id is not None}
    items = {item.code: item for item in session.scalars(select(Item).where(Item.code.in_(codes)))}
    amounts = dict(session.execute(select(Price.id, Price.unit_amount).where(Price.id.in_(prices))).all())
    found: list[PanelLine] = []
    for line in lines:
        item = items.get(line.item or "")
        found.append(
            PanelLine(
                line=line,
                name=item.name if item else line.item or "Adjustment",
                unit=item.unit if item else "",
                unit_amount=amounts.get(line.price_id) if line.price_id else None,
                is_late=line.usage_period_start != period_start and line.contra_account != accounts.CARRIED,
            )
        )
    return found


def _since(session: Session, customer_id: UUID, *, known_at: datetime) -> Since:
    after = known_seq(session, customer_id=customer_id, known_at=known_at)
    later = (Entry.customer_id == customer_id) & (Entry.seq > after)
    # What had happened by then and was learned later, and what took something back or corrected it.
    surprising: ColumnElement[bool] = or_(
        Entry.effective_at <= known_at, Entry.reverses_id.is_not(None), Entry.kind == "adjustment"
    )
    count, surprises = session.execute(
        select(func.count(), func.count().filter(surprising)).select_from(Entry).where(later)
    ).one()
    entries = session.scalars(select(Entry).where(later, surprising).order_by(Entry.seq).limit(SINCE_SHOWN))
    return Since(count, surprises, list(entries))
