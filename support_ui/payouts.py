"""Payouts: what the provider sent to our bank, whether every cent of it is explained, and what is not understood."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from flask import g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from invoicing.movements.tables import Payout
from ledger import accounts
from ledger.balances import balances
from ledger.tables import Books
from support_ui.site import bp

PAGE = 50
_NOT_KNOWN = datetime(9000, 1, 1, tzinfo=UTC)  # a payout whose arrival nobody told stands first
_ARRIVES = func.coalesce(Payout.arrival_at, Payout.paid_at, Payout.failed_at, _NOT_KNOWN)


@dataclass(frozen=True, slots=True)
class House:
    """The house's books in one currency. Amounts in major units."""

    books: Books
    at_provider: Decimal
    in_bank: Decimal
    in_suspense: Decimal
    provider_fees: Decimal
    exchanged: Decimal
    """Got for another currency; below 0: given for one."""


@bp.get("/payouts")
def payout_list() -> ResponseReturnValue:
    """The house's balances, and its payouts, the newest first; `before` pages."""
    rows = payouts_before(g.session, before=request.args.get("before", ""), limit=PAGE + 1)
    shown = rows[:PAGE]
    return render_template(
        "support/money/payouts.html",
        payouts=shown,
        next_before=_cursor(shown[-1]) if len(rows) > PAGE else None,
        houses=houses(g.session),
    )


def payouts_before(session: Session, *, before: str, limit: int) -> list[Payout]:
    """Payouts by when they arrive or arrived, the latest first; `before` is where the page before ended."""
    query = select(Payout).order_by(_ARRIVES.desc(), Payout.id.desc()).limit(limit)
    cursor = _read_cursor(before)
    if cursor is not None:
        query = query.where(tuple_(_ARRIVES, Payout.id) < cursor)
    return list(session.scalars(query))


def houses(session: Session) -> list[House]:
    """Every set of the house's books, by currency."""
    found = session.scalars(select(Books).where(Books.holder == "house").order_by(Books.currency, Books.customer_id))
    return [_house(session, books) for books in found]


def _house(session: Session, books: Books) -> House:
    found = balances(session, customer_id=books.customer_id)
    nothing = Decimal(0)
    return House(
        books,
        at_provider=found.get(accounts.STRIPE, nothing),
        in_bank=found.get(accounts.BANK, nothing),
        in_suspense=found.get(accounts.SUSPENSE, nothing),
        provider_fees=found.get(accounts.PROVIDER_FEES, nothing),
        exchanged=found.get(accounts.EXCHANGE, nothing),
    )


def _cursor(payout: Payout) -> str:
    moment = payout.arrival_at or payout.paid_at or payout.failed_at or _NOT_KNOWN
    return f"{moment.isoformat()} {payout.id}"


def _read_cursor(text: str) -> tuple[datetime, UUID] | None:
    moment, _, payout_id = text.partition(" ")
    try:
        instant = datetime.fromisoformat(moment)
        return (instant, UUID(payout_id)) if instant.tzinfo else None
    except ValueError:
        return None
