"""Endings of credit: what expires without having been used, and what staff take back. Both are posted."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, exists, or_, select, text
from sqlalchemy.orm import Session

from invoicing.booking import Booking
from invoicing.credit.bought import follow_money_gone
from invoicing.credit.checks import MONEY_GONE
from invoicing.credit.lots import CREDIT_LOTS, NAMES, write_use
from invoicing.drafts import checked_reason
from invoicing.errors import InvoicingError
from invoicing.one_by_one import by_itself
from invoicing.tables import CreditGrant, CreditUse, Invoice
from ledger import accounts
from ledger.books import lock_books
from ledger.entries import entry_id
from ledger.tables import PeriodRow

SYSTEM = "billing credits expire"
PAGE = 500  # lots read ahead at once


class CreditNotFound(InvoicingError):
    """The customer has no such credit. Reload the customer's credits."""

    code = "unknown_credit"


class NothingLeftOfCredit(InvoicingError):
    """Nothing is left of this credit: it is used up or expired. What it paid for is corrected by a credit note."""

    code = "nothing_left_of_credit"


class CreditDisputed(InvoicingError):
    """The payment of the top-up that sold this credit is disputed. Wait until its bank has decided."""

    code = "credit_disputed"


class CreditNotPaid(InvoicingError):
    """The top-up that sells this credit is not paid yet. Make its invoice void instead."""

    code = "credit_not_paid"


@dataclass(slots=True)
class ExpirySummary:
    """What one run did, in lots: expired, and kept for an invoice of a period that ended before they did."""

    expired: int = 0
    kept: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)


def revoke_credit(
    session: Session, *, customer_id: UUID, grant_id: UUID, reason: str, actor: str, now: datetime
) -> CreditUse:
    """Take back what is left of a lot, for a reason that stands in the journal. The caller commits.

    What was given goes back where it came from; what was bought is ours: income:breakage. Revoked before, and with
    nothing left, it answers that revocation. Credit that comes back to the lot later, since an invoice was made void,
    is there for the invoice that replaces it.

    Raises:
        CreditNotFound, NothingLeftOfCredit, CreditNotPaid, CreditDisputed, ReasonMissing.
    """
    reason = checked_reason(reason)
    lock_books(session, [customer_id])
    lot = session.execute(
        select(CREDIT_LOTS).where(CREDIT_LOTS.c.customer_id == customer_id, CREDIT_LOTS.c.id == grant_id)
    ).one_or_none()
    if lot is None:
        raise CreditNotFound("The customer has no such credit. Reload the customer's credits.")
    if lot.remaining == 0:
        before = session.scalar(
            select(CreditUse)
            .where(CreditUse.customer_id == customer_id, CreditUse.grant_id == grant_id, CreditUse.kind == "revoked")
            .order_by(CreditUse.at.desc())
            .limit(1)
        )
        if before is None:
            raise NothingLeftOfCredit(
                "Nothing is left of this credit: it is used up or expired. What it paid for is corrected by a credit "
                "note on that invoice."
            )
        return before
    if not lot.is_paid:
        raise CreditNotPaid("The top-up that sells this credit is not paid yet. Make its invoice void instead.")
    if lot.is_disputed:
        raise CreditDisputed(
            "The payment of the top-up that sold this credit is disputed. Nobody can use it until the bank has "
            "decided; if the dispute is lost it is gone by itself."
        )
    return _end(session, lot.customer_id, lot.id, "revoked", lot.remaining, actor=actor, reason=reason, now=now)


def expire_due(engine: Engine, *, now: datetime) -> ExpirySummary:
    """Post the expiry of every lot whose time is over. Commits per lot; safe to run twice or at once.

    Credit whose money went back is taken back first. A lot is kept while a period that ended before it did is not
    closed, or its draft is not final: that invoice may still use it. Promotional and goodwill credit goes back to
    income:promotions, prepaid credit is income:breakage.
    """
    summary = ExpirySummary()
    _follow_due(engine, now=now, summary=summary)
    view = CREDIT_LOTS.c
    after: tuple[UUID, UUID] | None = None
    while True:
        query = select(view.customer_id, view.id).where(view.expires_at <= now, view.remaining > 0)
        if after is not None:
            query = query.where(or_(view.customer_id > after[0], (view.customer_id == after[0]) & (view.id > after[1])))
        with Session(engine) as session:
            page = session.execute(query.order_by(view.customer_id, view.id).limit(PAGE)).all()
        if not page:
            return summary
        for customer_id, grant_id in page:
            after = (customer_id, grant_id)
            _expire_one(engine, customer_id, grant_id, now=now, summary=summary)


def _follow_due(engine: Engine, *, now: datetime, summary: ExpirySummary) -> None:
    """Take back credit whose money went back before this followed from it at once. Commits per top-up."""
    with Session(engine) as session:
        due = session.execute(text(MONEY_GONE)).all()
    for row in due:

        def follow(session: Session, row: Row[Any] = row) -> None:
            lock_books(session, [row.customer_id])
            bought = session.get_one(Invoice, (row.customer_id, row.id))
            follow_money_gone(session, bought, at=now, actor=SYSTEM, reason="Its money went back", now=now)

        by_itself(engine, follow, about=f"credit {row.id} of customer {row.customer_id}", trouble=summary)


def _expire_one(engine: Engine, customer_id: UUID, grant_id: UUID, *, now: datetime, summary: ExpirySummary) -> None:
    outcome = by_itself(
        engine,
        lambda session: expire_lot(session, customer_id=customer_id, grant_id=grant_id, now=now),
        about=f"credit {grant_id} of customer {customer_id}",
        trouble=summary,
    )
    summary.expired += outcome == "expired"
    summary.kept += outcome == "kept"


def expire_lot(session: Session, *, customer_id: UUID, grant_id: UUID, now: datetime) -> str:
    """Let what is left of one lot expire: "expired", "kept" for an invoice that may still use it, or "nothing left".

    One whose payment is disputed is kept until the bank has decided: it may be no one's to expire. The caller commits.
    """
    lock_books(session, [customer_id])
    lot = session.execute(
        select(CREDIT_LOTS).where(CREDIT_LOTS.c.customer_id == customer_id, CREDIT_LOTS.c.id == grant_id)
    ).one()
    if lot.remaining <= 0 or lot.expires_at is None or lot.expires_at > now:
        return "nothing left"
    if not lot.is_paid or lot.is_disputed or _may_still_be_used(session, customer_id, lot.expires_at):
        return "kept"
    name = NAMES[lot.account].lower()
    reason = f"The {name} expired at {lot.expires_at.isoformat()}"
    _end(session, customer_id, grant_id, "expired", lot.remaining, actor=SYSTEM, reason=reason, now=now)
    return "expired"


def _may_still_be_used(session: Session, customer_id: UUID, expires_at: datetime) -> bool:
    """Whether a period that ended by then is not closed, or its draft not final."""
    draft = exists().where(
        Invoice.customer_id == customer_id,
        Invoice.kind == "cycle",
        Invoice.state == "draft",
        Invoice.period_end <= expires_at,
    )
    ended = exists().where(
        PeriodRow.customer_id == customer_id, PeriodRow.state == "open", PeriodRow.end_at <= expires_at
    )
    return bool(session.scalar(select(draft | ended)))


def _end(
    session: Session,
    customer_id: UUID,
    grant_id: UUID,
    kind: str,
    amount: Decimal,
    *,
    actor: str,
    reason: str,
    now: datetime,
) -> CreditUse:
    grant = session.get_one(CreditGrant, (customer_id, grant_id))
    # A lot may end more than once: what came back to it after it had expired expires again.
    ends = len(
        session.scalars(
            select(CreditUse.id).where(CreditUse.customer_id == customer_id, CreditUse.grant_id == grant_id)
        ).all()
    )
    booking = Booking(
        customer_id,
        source=f"invoicing:credit_{kind}",
        event_id=f"{grant_id}:{ends}",
        kind="grant",
        at=now,
        actor=actor,
        reason=reason,
    )
    contra = accounts.BREAKAGE if grant.account == accounts.CREDITS_PREPAID else accounts.PROMOTIONS
    booking.move(kind, amount, debit=grant.account, credit=contra, document_id=grant_id)
    booking.post(session, now=now)
    entry = entry_id(booking.transaction_id, kind)
    write_use(
        session,
        customer_id=customer_id,
        grant_id=grant_id,
        kind=kind,
        amount=amount,
        entry=entry,
        at=now,
        actor=actor,
        reason=reason,
    )
    return session.get_one(CreditUse, (customer_id, entry))
