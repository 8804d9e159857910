"""The statement of one account: opening balance, every movement with the balance after it, closing balance."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import islice
from uuid import UUID

from flask import g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session

from invoicing.customers import CustomerView, get_customer
from ledger.periods import calendar_period
from ledger.time_machine import StatementRow, UnknownAccount, balance_at, statement
from ledger.zones import zone
from support_ui.moments import read_day
from support_ui.site import bp, not_found

ROWS_SHOWN = 200

bp.register_error_handler(UnknownAccount, not_found)


@dataclass(slots=True)
class Span:
    """The days asked for, `[since, until)`; None leaves a side open. `typed` fills the form in again."""

    typed: dict[str, str]
    since: datetime | None = None
    until: datetime | None = None
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the page shows: at most ROWS_SHOWN movements; `closing` is the balance after all of them."""

    opening: Decimal
    rows: list[StatementRow]
    is_cut: bool
    closing: Decimal


@bp.get("/customers/<uuid:customer_id>/accounts/<account>")
def account_statement(customer_id: UUID, account: str) -> ResponseReturnValue:
    """One account between two days; without days since the current period began."""
    customer = get_customer(g.session, customer_id=customer_id)
    span = _read_span(customer, now=g.now)
    # Asked for even if the days are wrong, so that an account that nobody knows is not found either way.
    sheet = _sheet(g.session, customer_id, account=account, span=span)
    context = {"customer": customer, "account": account, "span": span, "sheet": None if span.errors else sheet}
    return render_template("support/customers/account.html", **context), 422 if span.errors else 200


def _read_span(customer: CustomerView, *, now: datetime) -> Span:
    local = zone(customer.time_zone)
    span = Span({name: request.args.get(name, "").strip()[:40] for name in ("since", "until")})
    if "since" not in request.args:
        start = calendar_period(now, time_zone=customer.time_zone, anchor_day=customer.anchor_day).start
        span.typed["since"] = start.astimezone(local).date().isoformat()
    days: dict[str, date] = {}
    for name, text in span.typed.items():
        day = read_day(text)
        if day is not None:
            days[name] = day
        elif text:
            span.errors[name] = (
                f"“{text}” is no day between 2000 and 2199: write it like 2025-03-31, or leave it empty."
            )
    midnights = {name: datetime.combine(day, time.min, tzinfo=local).astimezone(UTC) for name, day in days.items()}
    span.since, span.until = midnights.get("since"), midnights.get("until")
    if span.since is not None and span.until is not None and span.since >= span.until:
        span.errors["until"] = "The end is not counted, so it lies after the beginning: choose a later day."
    return span


def _sheet(session: Session, customer_id: UUID, *, account: str, span: Span) -> Sheet:
    found = statement(session, customer_id=customer_id, account=account, since=span.since, until=span.until)
    rows = list(islice(found.rows, ROWS_SHOWN + 1))
    if len(rows) <= ROWS_SHOWN:
        return Sheet(found.opening, rows, False, found.closing)
    # Reading a million rows for the last balance would keep the reader waiting; the sum alone does not.
    closing = balance_at(session, customer_id=customer_id, account=account, effective_before=span.until)
    return Sheet(found.opening, rows[:ROWS_SHOWN], True, closing)
