"""What the panel shows of a customer's credit, and buying more of it in advance."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.grants import CreditRefused
from invoicing.credit.lots import Lot, lots_of
from invoicing.credit.top_ups import top_up
from invoicing.customers import CustomerView
from invoicing.provider import Provider
from invoicing.tables import Invoice, Item, RefillRule

ACTOR = "customer"


@dataclass(frozen=True, slots=True)
class ShownLot:
    """A lot as its customer sees it; `items` by their names."""

    lot: Lot
    items: list[str]
    is_over: bool
    """Whether its time is over: only a period that ended before is still paid by it."""


@dataclass(frozen=True, slots=True)
class CreditPage:
    """What is left, in the order in which it is used, and how it is refilled."""

    lots: list[ShownLot]
    refill_below: Decimal | None
    refill_amount: Decimal | None


def credit_page(session: Session, customer: CustomerView, *, now: datetime) -> CreditPage:
    """Everything about the customer's credit. Writes nothing."""
    lots = lots_of(session, customer_id=customer.customer_id)
    codes = {item for lot in lots for item in lot.items or ()}
    names: dict[str, str] = dict(session.execute(select(Item.code, Item.name).where(Item.code.in_(codes))).all())
    # Who set the rule is not for the panel's role to read.
    rule = session.execute(
        select(RefillRule.threshold, RefillRule.amount)
        .where(RefillRule.customer_id == customer.customer_id)
        .order_by(RefillRule.id.desc())
        .limit(1)
    ).first()
    return CreditPage(
        lots=[
            ShownLot(
                lot=lot,
                items=sorted(names.get(item, item) for item in lot.items or ()),
                is_over=lot.expires_at is not None and lot.expires_at <= now,
            )
            for lot in lots
        ],
        refill_below=rule.threshold if rule else None,
        refill_amount=rule.amount if rule else None,
    )


def buy_credit(
    session: Session, customer: CustomerView, *, amount: str, top_up_id: str, provider: Provider, now: datetime
) -> Invoice:
    """Sell what was typed; the form's own id makes two clicks one sale. The caller commits.

    Raises:
        CreditRefused, CreditConflict: what was typed is no amount, or the form was sent before with another one.
    """
    try:
        wanted = Decimal(amount.strip().replace(",", ""))
    except InvalidOperation:
        raise CreditRefused("Write the amount as a number above 0, such as 50.") from None
    try:
        key = UUID(top_up_id)
    except ValueError:
        raise CreditRefused("The page is too old. Go back, reload it and try again.") from None
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
