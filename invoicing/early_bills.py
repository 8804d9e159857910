"""Early bills: a period closed before its end: the customer leaves, pays early, or passed a spending threshold."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Engine, Identity, Row, func, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from invoicing.customers import get_customer
from invoicing.cycles import compile_drafts
from invoicing.drafts import checked_reason
from invoicing.errors import InvoicingError
from invoicing.history import record
from invoicing.one_by_one import by_itself
from invoicing.rating.periods import rating_start_of
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger.books import lock_books
from ledger.money import invoice_exponent, plain
from ledger.orm import Base
from ledger.periods import PeriodNotCut, close_early
from ledger.tables import UNBILLED_TOTALS, PeriodRow

CAUSES = {"leaving": "leaves", "early": "pays early", "threshold": "passed the spending threshold"}
THRESHOLD_LIMIT = Decimal(10) ** 12  # exclusive, major units
THRESHOLD_ACTOR = "billing cycle thresholds"


class EarlyBillRow(Base):
    """A period that was cut: what is left of it counts allowances and tiers from `rating_start` on."""

    __tablename__ = "early_bills"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    cut_at: Mapped[datetime]
    rating_start: Mapped[datetime]
    invoice_id: Mapped[UUID]
    cause: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime]


class SpendingThreshold(Base):
    """From which unbilled amount on a customer is billed at once; the last row counts, None lifts it."""

    __tablename__ = "spending_thresholds"
    customer_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    amount: Mapped[Decimal | None]
    reason: Mapped[str]
    actor: Mapped[str]
    set_at: Mapped[datetime]


class NothingToBill(InvoicingError):
    """There is nothing unbilled in the current period. Nothing was closed."""

    code = "nothing_to_bill"


class PeriodMoved(InvoicingError):
    """The period that you saw is not the current one any more. Look at what is unbilled now, then decide again."""

    code = "period_moved"


class CannotBillNow(InvoicingError):
    """The period cannot end now: it has only begun, or it ends in a moment anyway."""

    code = "cannot_bill_now"


class ThresholdRefused(InvoicingError):
    """The threshold is no amount above 0 in whole minor units of the customer's currency."""

    code = "threshold_refused"


def bill_now(
    session: Session,
    *,
    customer_id: UUID,
    cause: str,
    reason: str,
    actor: str,
    settings: Settings,
    now: datetime,
    period_start: datetime | None = None,
) -> EarlyBillRow:
    """Close the current period at `now` and compile its draft, due to be final at once. The caller commits.

    The next period begins where this one ends; tiers, allowances and a plan's included usage go on counting from the
    start of the calendar's period. `cause` is one of CAUSES. `period_start` names the period that the caller saw: once
    it was billed early, asking for it again returns that bill, so a double click makes one.

    Raises:
        CustomerNotFound, ReasonMissing, CannotBillNow.
        NothingToBill: no charge in the current period, or they add up to nothing above 0.
        PeriodMoved: `period_start` names neither the current period nor one that was billed early.
    """
    reason = checked_reason(reason)
    get_customer(session, customer_id=customer_id)
    lock_books(session, [customer_id])
    current = session.scalar(
        select(PeriodRow.start_at).where(
            PeriodRow.customer_id == customer_id,
            PeriodRow.start_at <= now,
            PeriodRow.end_at > now,
            PeriodRow.state == "open",
        )
    )
    if period_start is not None and period_start != current:
        billed = session.get(EarlyBillRow, (customer_id, period_start))
        if billed is None:
            raise PeriodMoved(
                f"The period from {period_start.isoformat()} is not the current one and was not billed early. Look at "
                "what is unbilled now, then decide again."
            )
        return billed
    if current is None or unbilled_total(session, customer_id=customer_id, period_start=current) <= 0:
        raise NothingToBill("There is nothing to bill in the current period. Nothing was closed.")
    rating_start = rating_start_of(session, customer_id=customer_id, period_start=current)
    try:
        closed = close_early(session, customer_id=customer_id, now=now)
    except PeriodNotCut as refusal:
        raise CannotBillNow(str(refusal)) from refusal
    drafts = compile_drafts(session, [closed], settings=settings, now=now, actor=actor)
    if drafts.count != 1:
        raise AssertionError(f"the period of {customer_id} from {current} has charges but made {drafts.count} drafts")
    invoice = session.scalars(
        select(Invoice)
        .where(Invoice.customer_id == customer_id, Invoice.period_start == closed.start, Invoice.kind == "cycle")
        .where(Invoice.state == "draft")
    ).one()
    # The window is for what nobody looked at; here somebody, or the customer's own threshold, wants the bill now.
    session.execute(
        update(Invoice)
        .where(Invoice.customer_id == customer_id, Invoice.id == invoice.id)
        .values(finalize_after=now)
        .execution_options(synchronize_session="fetch")
    )
    record(session, invoice, action="billed early", actor=actor, now=now, reason=reason, details={"cause": cause})
    row = EarlyBillRow(
        customer_id=customer_id,
        period_start=closed.start,
        cut_at=closed.end,
        rating_start=rating_start,
        invoice_id=invoice.id,
        cause=cause,
        reason=reason,
        actor=actor,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def unbilled_total(session: Session, *, customer_id: UUID, period_start: datetime) -> Decimal:
    """The exact sum of a period's charges, in major units; 0 after they were billed."""
    view = UNBILLED_TOTALS.c
    total = session.scalar(
        select(func.coalesce(func.sum(view.amount), 0)).where(
            view.customer_id == customer_id, view.period_start == period_start, view.document_id.is_(None)
        )
    )
    return Decimal(total or 0)


def early_bills_of(session: Session, *, customer_id: UUID, limit: int = 50) -> list[EarlyBillRow]:
    """The customer's periods that were billed before their end, the newest first."""
    return list(
        session.scalars(
            select(EarlyBillRow)
            .where(EarlyBillRow.customer_id == customer_id)
            .order_by(EarlyBillRow.period_start.desc())
            .limit(limit)
        )
    )


def set_threshold(
    session: Session, *, customer_id: UUID, amount: Decimal | None, reason: str, actor: str, now: datetime
) -> SpendingThreshold:
    """From `amount` unbilled on, in major units, the customer is billed at once; None lifts it. The caller commits.

    The same threshold again changes nothing.

    Raises:
        CustomerNotFound, ReasonMissing, ThresholdRefused.
    """
    reason = checked_reason(reason)
    customer = get_customer(session, customer_id=customer_id)
    exponent = invoice_exponent(customer.currency)
    if amount is not None and (
        not amount.is_finite() or not 0 < amount < THRESHOLD_LIMIT or amount != round(amount, exponent)
    ):
        raise ThresholdRefused(
            f"Give an amount above 0, below {THRESHOLD_LIMIT:,}, with at most {exponent} decimals in "
            f"{customer.currency}, or none to lift the threshold."
        )
    lock_books(session, [customer_id])
    known = threshold_of(session, customer_id=customer_id)
    if known is not None and known.amount == amount:
        return known
    row = SpendingThreshold(customer_id=customer_id, amount=amount, reason=reason, actor=actor, set_at=now)
    session.add(row)
    session.flush()
    return row


def threshold_of(session: Session, *, customer_id: UUID) -> SpendingThreshold | None:
    """What was said last about the customer's spending threshold; its `amount` None, or no row: there is none."""
    return session.scalar(
        select(SpendingThreshold)
        .where(SpendingThreshold.customer_id == customer_id)
        .order_by(SpendingThreshold.id.desc())
        .limit(1)
    )


@dataclass(slots=True)
class ThresholdSummary:
    """What one run found: customers above their threshold, billed now; those where that failed, or who were busy."""

    billed: int = 0
    failed: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)


_ABOVE = text("""
    SELECT t.customer_id, t.amount, p.start_at, u.total
      FROM (SELECT DISTINCT ON (customer_id) customer_id, amount FROM spending_thresholds
             ORDER BY customer_id, id DESC) t
      JOIN ledger_periods p ON p.customer_id = t.customer_id AND p.state = 'open' AND p.start_at <= :now
                           AND p.end_at > :now
     CROSS JOIN LATERAL (
           SELECT sum(u.amount) AS total FROM ledger_unbilled u
            WHERE u.customer_id = p.customer_id AND u.period_start = p.start_at AND u.document_id IS NULL) u
     WHERE u.total >= t.amount
     ORDER BY t.customer_id
""")


def bill_above_thresholds(engine: Engine, *, settings: Settings, now: datetime) -> ThresholdSummary:
    """Bill every customer at once whose unbilled charges reached their threshold. Commits per customer.

    Running it again, or twice at once, bills nobody twice: what was billed is unbilled no more. One that fails is
    named and does not keep the others waiting.
    """
    summary = ThresholdSummary()
    with Session(engine) as session:
        above = session.execute(_ABOVE, {"now": now}).all()
    for row in above:

        def bill(session: Session, row: Row[Any] = row) -> EarlyBillRow:
            return bill_now(
                session,
                customer_id=row.customer_id,
                cause="threshold",
                reason=f"{plain(round(row.total, 2))} unbilled: the threshold is {plain(row.amount)}",
                actor=THRESHOLD_ACTOR,
                settings=settings,
                now=now,
                period_start=row.start_at,
            )

        made = by_itself(engine, bill, about=f"customer {row.customer_id}", trouble=summary)
        summary.billed += made is not None and made.created_at == now  # another process may have been first
    summary.failed = len(summary.problems)
    return summary
