"""What the panel shows of a customer's credit, buying more of it in advance, and the wish to have it refilled."""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.grants import CreditConflict, CreditRefused
from invoicing.credit.lots import Lot, lots_of
from invoicing.credit.refills import is_paused, set_refill
from invoicing.credit.top_ups import top_up
from invoicing.customers import CustomerView
from invoicing.provider import Provider
from invoicing.tables import Invoice, Item, RefillRule

ACTOR = "customer"

_AMOUNT = re.compile(r"(\d{1,15}|\d{1,3}(,\d{3})+)(\.\d{1,15})?", re.ASCII)
"""A number as people in front of this page write it. A comma stands between thousands: 12,50 is refused, not 1250."""


@dataclass(frozen=True, slots=True)
class ShownLot:
    """A lot as its customer sees it; `items` by their names."""

    lot: Lot
    items: list[str]
    is_over: bool
    """Whether its time is over: only a period that ended before is still paid by it."""


@dataclass(frozen=True, slots=True)
class Refill:
    """What is bought by itself, in major units: `amount` whenever less than `below` is left. Paused: not any more."""

    below: Decimal
    amount: Decimal
    is_paused: bool


@dataclass(frozen=True, slots=True)
class CreditPage:
    """What is left, in the order in which it is used, and how it is refilled."""

    lots: list[ShownLot]
    refill: Refill | None


def credit_page(session: Session, customer: CustomerView, *, now: datetime) -> CreditPage:
    """Everything about the customer's credit. Writes nothing."""
    lots = lots_of(session, customer_id=customer.customer_id)
    codes = {item for lot in lots for item in lot.items or ()}
    names: dict[str, str] = dict(session.execute(select(Item.code, Item.name).where(Item.code.in_(codes))).all())
    return CreditPage(
        lots=[
            ShownLot(
                lot=lot,
                items=sorted(names.get(item, item) for item in lot.items or ()),
                is_over=lot.expires_at is not None and lot.expires_at <= now,
            )
            for lot in lots
        ],
        refill=_refill(session, customer),
    )


def _refill(session: Session, customer: CustomerView) -> Refill | None:
    # Who set the rule is not for the panel's role to read.
    rule = session.execute(
        select(RefillRule.threshold, RefillRule.amount, RefillRule.set_at)
        .where(RefillRule.customer_id == customer.customer_id)
        .order_by(RefillRule.id.desc())
        .limit(1)
    ).first()
    if rule is None or rule.threshold is None or rule.amount is None:
        return None
    paused = is_paused(session, customer_id=customer.customer_id, set_at=rule.set_at)
    return Refill(below=rule.threshold, amount=rule.amount, is_paused=paused)


def buy_credit(
    session: Session, customer: CustomerView, *, amount: str, top_up_id: str, provider: Provider, now: datetime
) -> Invoice:
    """Sell what was typed; the form's own id makes two clicks one sale. The caller commits.

    Raises:
        CreditRefused, CreditConflict: what was typed is no amount, or the form was sent before with another one.
    """
    wanted = _amount(amount)
    try:
        key = UUID(top_up_id)
    except ValueError:
        raise CreditRefused("The page was too old: nothing was bought. Send it again.") from None
    try:
        return top_up(
            session,
            customer_id=customer.customer_id,
            top_up_id=key,
            amount=wanted,
            provider=provider,
            actor=ACTOR,
            reason="Bought in the billing panel",
            now=now,
        )
    except CreditConflict:
        raise CreditConflict(
            "This form bought another amount before, which stands among your invoices. To buy this as well, send it "
            "again."
        ) from None


def refill_credit(
    session: Session, customer: CustomerView, *, below: str, amount: str, provider: Provider, now: datetime
) -> None:
    """From now on buy what was typed whenever less than what was typed is left. The caller commits.

    Raises:
        CreditRefused: one of the two is no amount, or too little to be collected.
    """
    set_refill(
        session,
        customer_id=customer.customer_id,
        threshold=_amount(below),
        amount=_amount(amount),
        provider=provider,
        actor=ACTOR,
        now=now,
    )


def end_refills(session: Session, customer: CustomerView, *, provider: Provider, now: datetime) -> None:
    """Buy no more by itself. The caller commits."""
    set_refill(
        session,
        customer_id=customer.customer_id,
        threshold=None,
        amount=None,
        provider=provider,
        actor=ACTOR,
        now=now,
    )


def _amount(typed: str) -> Decimal:
    if not _AMOUNT.fullmatch(typed.strip()):
        raise CreditRefused("Write each amount as a plain number, such as 50 or 12.50.")
    return Decimal(typed.strip().replace(",", ""))
