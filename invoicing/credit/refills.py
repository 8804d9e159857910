"""Refills: a customer's standing wish to buy more prepaid credit before it runs out."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from invoicing.credit.grants import CreditRefused, check_amount
from invoicing.credit.lots import lots_of
from invoicing.credit.top_ups import open_top_ups, top_up
from invoicing.customers import get_customer
from invoicing.movements.standing import UNDECIDED
from invoicing.movements.tables import Dispute
from invoicing.one_by_one import by_itself
from invoicing.provider import Provider
from invoicing.tables import Invoice, RefillRule
from ledger import accounts
from ledger.balances import balance
from ledger.books import lock_books
from ledger.money import invoice_exponent, plain

SYSTEM = "billing credits refill"
MAX_THRESHOLD = Decimal(10) ** 12  # exclusive, major units


@dataclass(slots=True)
class RefillSummary:
    """What one run did, in customers: refilled, and paused since their last refill was not paid."""

    refilled: int = 0
    paused: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)


def set_refill(
    session: Session,
    *,
    customer_id: UUID,
    threshold: Decimal | None,
    amount: Decimal | None,
    provider: Provider,
    actor: str,
    now: datetime,
) -> RefillRule:
    """Buy `amount` of prepaid credit whenever less than `threshold` is left; both None: no more. The caller commits.

    In major units of the customer's currency. A refill that was given up, made void or taken back by the bank pauses
    the rule until it is set again, so that no card that fails is asked for ever.

    Raises:
        CustomerNotFound.
        CreditRefused: an amount is none, too small to be collected, or only one of the two was given.
    """
    customer = get_customer(session, customer_id=customer_id)
    if (threshold is None) != (amount is None):
        raise CreditRefused("Give both the threshold and the amount to buy, or neither to end refills.")
    if threshold is not None and amount is not None:
        check_amount(amount, customer.currency)
        decimals = invoice_exponent(customer.currency)
        if not threshold.is_finite() or not 0 <= threshold < MAX_THRESHOLD or threshold != round(threshold, decimals):
            raise CreditRefused(f"Give a threshold from 0 on, with at most {decimals} decimals in {customer.currency}.")
        minimum = provider.of(session, customer_id=customer_id).minimum(customer.currency)
        if amount < minimum:
            raise CreditRefused(
                f"{plain(amount)} {customer.currency} are too little to be collected. Refill at least {plain(minimum)}."
            )
    lock_books(session, [customer_id])
    rule = RefillRule(customer_id=customer_id, threshold=threshold, amount=amount, actor=actor, set_at=now)
    session.add(rule)
    session.flush()
    return rule


def refill_of(session: Session, *, customer_id: UUID) -> RefillRule | None:
    """What was said last about the customer's refills; without amounts, or with no row, there are none."""
    return session.scalar(
        select(RefillRule).where(RefillRule.customer_id == customer_id).order_by(RefillRule.id.desc()).limit(1)
    )


def refill_due(engine: Engine, *, provider: Provider, now: datetime) -> RefillSummary:
    """Sell one top-up to each customer who wants it and has too little left. Commits per customer.

    Safe to run twice or at once: while a top-up is open, no other is made.
    """
    summary = RefillSummary()
    latest = select(func.max(RefillRule.id)).group_by(RefillRule.customer_id)
    with Session(engine) as session:
        wanting = session.scalars(
            select(RefillRule.customer_id)
            .where(RefillRule.id.in_(latest), RefillRule.amount.is_not(None))
            .order_by(RefillRule.customer_id)
        ).all()
    for customer_id in wanting:

        def refill(session: Session, customer_id: UUID = customer_id) -> str:
            return refill_one(session, customer_id=customer_id, provider=provider, now=now)

        outcome = by_itself(engine, refill, about=f"customer {customer_id}", trouble=summary)
        summary.refilled += outcome == "refilled"
        summary.paused += outcome == "paused"
    return summary


def refill_one(session: Session, *, customer_id: UUID, provider: Provider, now: datetime) -> str:
    """Sell a top-up if it is due: "refilled", "paused", "open" while one awaits its payment, or "enough".

    What counts is the prepaid credit that can be used now, less everything that is used and not yet on a final invoice.
    The caller commits.
    """
    lock_books(session, [customer_id])
    rule = refill_of(session, customer_id=customer_id)
    if rule is None or rule.threshold is None or rule.amount is None:
        return "enough"
    if open_top_ups(session, customer_id=customer_id):
        return "open"
    if is_paused(session, customer_id=customer_id, set_at=rule.set_at):
        return "paused"
    if prepaid_left(session, customer_id=customer_id, now=now) >= rule.threshold:
        return "enough"
    # An id that follows from how many there were: should two ever decide at once, one finds the other's.
    count = session.scalar(
        select(func.count()).select_from(Invoice).where(Invoice.customer_id == customer_id, Invoice.kind == "top_up")
    )
    top_up(
        session,
        customer_id=customer_id,
        top_up_id=uuid5(customer_id, f"refill {count}"),
        amount=rule.amount,
        provider=provider,
        actor=SYSTEM,
        reason=f"Less than {plain(rule.threshold)} of prepaid credit left",
        now=now,
    )
    return "refilled"


def prepaid_left(session: Session, *, customer_id: UUID, now: datetime) -> Decimal:
    """Prepaid credit that can be used now, less what is used and not yet on a final invoice, in major units."""
    usable = sum(
        (
            lot.remaining
            for lot in lots_of(session, customer_id=customer_id)
            if lot.account == accounts.CREDITS_PREPAID and lot.pays_for(now)
        ),
        Decimal(0),
    )
    return usable - balance(session, customer_id=customer_id, account=accounts.UNBILLED)


def is_paused(session: Session, *, customer_id: UUID, set_at: datetime) -> bool:
    """Whether nothing is refilled until the rule, which was set at `set_at`, is set again.

    So it is if the last top-up since then was given up or made void, or the bank took one's money away.

    Who disputes what was charged is not charged again before it is decided, nor after it was lost.
    """
    taken = session.scalar(
        select(func.count())
        .select_from(Dispute)
        .join(Invoice, (Invoice.customer_id == Dispute.customer_id) & (Invoice.id == Dispute.invoice_id))
        .where(
            Dispute.customer_id == customer_id,
            Invoice.kind == "top_up",
            Dispute.status.in_(UNDECIDED) | ((Dispute.status == "lost") & (Dispute.opened_at >= set_at)),
        )
    )
    if taken:
        return True
    state = session.scalar(
        select(Invoice.state)
        .where(Invoice.customer_id == customer_id, Invoice.kind == "top_up", Invoice.finalized_at >= set_at)
        .order_by(Invoice.finalized_at.desc(), Invoice.number_seq.desc())
        .limit(1)
    )
    return state in ("void", "uncollectible")
