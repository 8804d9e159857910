"""What the panel shows of the period that runs now: the total, its estimate, and what it is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal, get_args
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.panel import format as formats
from app.panel.charts import Chart, chart_days
from app.panel.estimate import TOO_EARLY, Estimate, estimate_total
from app.panel.invoice_pages import InvoiceRow
from invoicing.credit.lots import lots_of
from invoicing.customers import CustomerView
from invoicing.explaining.of_line import charge_of_row
from invoicing.plans.fees import ComingFee
from invoicing.plans.terms import included_of
from invoicing.statements import BreakdownRow, ItemRow, PeriodStatement, current_period, unbilled_periods
from invoicing.subscriptions import Subscription, coming_fees, subscription_at
from invoicing.tax.engine import UNTAXED, Assessment
from invoicing.tax.preview import tax_so_far
from ledger import accounts
from ledger.balances import balance
from ledger.money import invoice_exponent, round_half_even, split_cents
from ledger.periods import calendar_period
from ledger.tables import UNBILLED_TOTALS

By = Literal["item", "app", "region"]
BREAKDOWNS: tuple[By, ...] = get_args(By)
TOP = 20
"""Rows of a breakdown on the first page; the rest are summed, and listed on a page of their own."""

_CREDIT_NAMES = {
    accounts.CREDITS_PROMOTIONAL: "promotional",
    accounts.CREDITS_GOODWILL: "goodwill",
    accounts.CREDITS_PREPAID: "prepaid",
    accounts.UNAPPLIED: "paid in excess",
}


@dataclass(frozen=True, slots=True)
class Credit:
    """What is left of one kind of credit, and which part of it ends first: `ending`, at `ends_at`, if any does."""

    name: str
    amount: Decimal
    ending: Decimal = Decimal(0)
    ends_at: datetime | None = None
    is_too_short: bool = False
    """Whether it ends before this period does, and so pays for nothing of it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One row of a breakdown: `amount` exact, `shown` its share of the rounded total; items say what was counted."""

    name: str
    note: str
    amount: Decimal
    shown: Decimal
    quantity: Decimal | None = None
    unit: str = ""
    unit_amount: Decimal | None = None
    row_id: UUID | None = None
    """Of an item's row: by which its explanation is found."""
    is_priced_by_quantity: bool = False
    """Whether its price has tiers, packages or an allowance, so that no single amount is that of one unit."""


@dataclass(frozen=True, slots=True)
class Others:
    """The rows beyond the first TOP, summed."""

    count: int
    amount: Decimal
    shown: Decimal


@dataclass(frozen=True, slots=True)
class EndedPeriod:
    """A period that is over and whose invoice is not yet prepared."""

    title: str
    total: Decimal


@dataclass(frozen=True, slots=True)
class IncludedUsage:
    """What the plan includes in this month of usage, and how much of that is used up; in major units."""

    amount: Decimal
    used: Decimal
    shown: Decimal
    """`used` as its row of the breakdown has it, so that both show the same cent."""


@dataclass(frozen=True, slots=True)
class CurrentPage:
    """The running period. Amounts exact, in major units; `total` is the sum of `items`, and of every breakdown."""

    statement: PeriodStatement
    ended: list[EndedPeriod]
    estimate: Estimate | None
    no_estimate: str
    carried: Decimal
    late: Decimal
    credits: list[Credit]
    chart: Chart | None
    plan: Subscription | None
    included: IncludedUsage | None
    coming: list[ComingFee]
    """The fees that are known to come on this period's invoice: a trial ends, the plan changes or goes on."""
    now: datetime
    tax: Assessment = UNTAXED
    """What would be due on `statement` if it were billed now."""

    @property
    def with_tax(self) -> Decimal:
        """The total so far with the taxes on top of it, rounded."""
        return round_half_even(self.statement.total, invoice_exponent(self.statement.currency)) + self.tax.on_top

    @property
    def is_empty(self) -> bool:
        return not self.statement.items

    @property
    def last_day(self) -> date:
        return formats.last_day(self.statement.end, self.statement.time_zone)

    @property
    def credits_total(self) -> Decimal:
        return sum((credit.amount for credit in self.credits), Decimal(0))


@dataclass(frozen=True, slots=True)
class Owed:
    """What is to be paid now: final invoices that are open."""

    amount: Decimal
    invoices: list[InvoiceRow]

    @property
    def has_failed(self) -> bool:
        return any(row.status.tone == "bad" for row in self.invoices)


def current_page(session: Session, customer: CustomerView, *, now: datetime) -> CurrentPage:
    """Everything about the period that holds `now`. Writes nothing."""
    statement = current_period(session, customer_id=customer.customer_id, now=now)
    carried = statement.carried_in
    plan = subscription_at(session, customer_id=customer.customer_id, at=now)
    included = _included(session, customer, statement, now=now)
    fees = sum((row.amount for row in statement.items if _is_fee(row)), Decimal(0))
    coming = coming_fees(session, customer=customer, until=statement.end, now=now)
    usage_since = max(statement.start, customer.created_at)
    estimate = estimate_total(
        usage=statement.total - carried - fees + (included.used if included else 0),
        fixed=carried + fees + sum((fee.amount for fee in coming), Decimal(0)),
        included=included.amount if included else Decimal(0),
        start=statement.start,
        end=statement.end,
        usage_since=usage_since,
        now=now,
    )
    first = formats.first_day(statement.start, customer.time_zone)
    by_day = _usage_by_day(session, customer, start=statement.start)
    return CurrentPage(
        statement=statement,
        ended=_ended(session, customer, statement, now=now),
        estimate=estimate,
        no_estimate=_why_no_estimate(now - usage_since),
        carried=carried,
        late=sum((amount for day, amount in by_day.items() if day < first), Decimal(0)),
        credits=_credits(session, statement),
        chart=chart_days(
            {day: amount for day, amount in by_day.items() if day >= first},
            first=first,
            last=formats.last_day(statement.end, customer.time_zone),
            today=formats.first_day(now, customer.time_zone),
        ),
        plan=plan,
        included=included,
        coming=coming,
        now=now,
        tax=tax_so_far(session, statement),
    )


def _is_fee(row: ItemRow) -> bool:
    """Whether it is a plan's fee, which does not grow with the days."""
    is_plan = row.contra_account in (accounts.DEFERRED, accounts.PLANS)
    return is_plan and not (row.item or "").endswith(":included")


def _included(
    session: Session, customer: CustomerView, statement: PeriodStatement, *, now: datetime
) -> IncludedUsage | None:
    """What the customer's plan includes this month; None if nothing."""
    month = calendar_period(now, time_zone=customer.time_zone, anchor_day=customer.anchor_day)
    amount = included_of(session, customer_id=customer.customer_id, month=month)
    if not amount:
        return None
    shares = _shares(statement, [row.amount for row in statement.items])
    back = [
        (row.amount, share)
        for row, share in zip(statement.items, shares, strict=True)
        if (row.item or "").endswith(":included")
    ]
    return IncludedUsage(
        amount,
        used=-sum((exact for exact, _ in back), Decimal(0)),
        shown=-sum((share for _, share in back), Decimal(0)),
    )


def parts(statement: PeriodStatement, by: By) -> list[Part]:
    """The period broken down, the largest first; the shown cents add up to the shown total."""
    if by == "item":
        return _item_parts(statement)
    rows = statement.by_app if by == "app" else statement.by_region
    shares = _shares(statement, [row.amount for row in rows])
    return [
        Part(name=_label(row, by), note="", amount=row.amount, shown=share)
        for row, share in zip(rows, shares, strict=True)
    ]


def top_of(found: Sequence[Part]) -> tuple[list[Part], Others | None]:
    """The first TOP parts, and the others as one. A single row more is shown rather than summed."""
    if len(found) <= TOP + 1:
        return list(found), None
    rest = found[TOP:]
    amount = sum((part.amount for part in rest), Decimal(0))
    return list(found[:TOP]), Others(len(rest), amount, sum((part.shown for part in rest), Decimal(0)))


def owed_now(rows: Sequence[InvoiceRow]) -> Owed:
    """What of these invoices is to be paid now."""
    payable = [row for row in rows if row.is_payable and row.open_amount > 0]
    return Owed(sum((row.open_amount for row in payable), Decimal(0)), payable)


def _item_parts(statement: PeriodStatement) -> list[Part]:
    shares = _shares(statement, [row.amount for row in statement.items])
    return [
        Part(
            name=row.name,
            note=_item_note(row, statement),
            amount=row.amount,
            shown=share,
            quantity=row.quantity if row.quantity else None,
            unit=row.unit,
            unit_amount=row.unit_amount,
            row_id=charge_of_row(statement, row).row_id,
            is_priced_by_quantity=bool(row.quantity) and row.price_id is not None and row.unit_amount is None,
        )
        for row, share in zip(statement.items, shares, strict=True)
    ]


def _item_note(row: ItemRow, statement: PeriodStatement) -> str:
    used = formats.first_day(row.usage_period_start, statement.time_zone)
    if row.carried:
        return f"carried forward, used in the period from {formats.day(used)}"
    if row.late:
        return f"recorded late, used in the period from {formats.day(used)}"
    return ""


def _label(row: BreakdownRow, by: By) -> str:
    return str(row.key) if row.key not in (None, "") else f"without {by}"


def _shares(statement: PeriodStatement, amounts: Sequence[Decimal]) -> list[Decimal]:
    decimals = invoice_exponent(statement.currency)
    return split_cents(round_half_even(statement.total, decimals), amounts, decimals)


def _why_no_estimate(elapsed: timedelta) -> str:
    if elapsed < TOO_EARLY:
        return "too early in the period to say"
    return "nothing used yet to go by"


def _credits(session: Session, statement: PeriodStatement) -> list[Credit]:
    held = dict(statement.credits)
    held[accounts.UNAPPLIED] = balance(session, customer_id=statement.customer_id, account=accounts.UNAPPLIED)
    ending = _ending_first(session, statement)
    return [
        Credit(name, held[account], *ending.get(account, ()))
        for account, name in _CREDIT_NAMES.items()
        if held.get(account)
    ]


def _ending_first(session: Session, statement: PeriodStatement) -> dict[str, tuple[Decimal, datetime, bool]]:
    """By account: how much of the usable credit ends next, when, and whether that is before this period's end."""
    found: dict[str, tuple[Decimal, datetime, bool]] = {}
    for lot in lots_of(session, customer_id=statement.customer_id):
        if lot.expires_at is None or not lot.is_usable:
            continue
        amount, ends_at, _ = found.get(lot.account, (Decimal(0), lot.expires_at, False))
        if lot.expires_at < ends_at:
            amount, ends_at = Decimal(0), lot.expires_at
        if lot.expires_at == ends_at:
            found[lot.account] = (amount + lot.remaining, ends_at, ends_at < statement.end)
    return found


def _ended(session: Session, customer: CustomerView, statement: PeriodStatement, *, now: datetime) -> list[EndedPeriod]:
    return [
        EndedPeriod(formats.month(period.start, period.end, customer.time_zone), period.total)
        for period in unbilled_periods(session, customer_id=customer.customer_id)
        if period.start != statement.start and period.end <= now
    ]


def _usage_by_day(session: Session, customer: CustomerView, *, start: datetime) -> dict[date, Decimal]:
    """The period's charges by day, without what was carried in: that would stand as a spike on the first day."""
    view = UNBILLED_TOTALS.c
    rows = session.execute(
        select(view.day, func.sum(view.amount))
        .where(
            view.customer_id == customer.customer_id,
            view.period_start == start,
            view.document_id.is_(None),
            view.contra_account != accounts.CARRIED,
        )
        .group_by(view.day)
        .order_by(view.day)
    )
    return dict(rows.all())
