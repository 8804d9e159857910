"""Finalizing what is due: every draft whose window is over, each in a transaction of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, select, tuple_
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from invoicing.drafts import DraftChanged, NotADraft
from invoicing.finalization import ApprovalPending, DraftHeld, finalize
from invoicing.parking import park, parked_subjects
from invoicing.provider import Provider
from invoicing.tables import Invoice
from ledger.books import was_busy

PAGE = 500  # drafts read ahead at once
SYSTEM = "billing invoices finalize"


@dataclass(slots=True)
class FinalizeSummary:
    """What one run did, in invoices. `skipped` were held, awaited approval, or were busy: the next run looks again."""

    final: int = 0
    paid: int = 0
    carried_forward: int = 0
    empty: int = 0
    parked: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)


def finalize_due(
    engine: Engine,
    *,
    provider: Provider,
    as_of: datetime,
    progress: Callable[[FinalizeSummary], None] | None = None,
) -> FinalizeSummary:
    """Finalize every draft whose window ended by `as_of`, that is not held, parked or awaiting approval.

    Commits per invoice, in order of customer and period, so that what one invoice carries forward is never behind its
    customer's next one. Safe to run twice or at once: whoever comes second finds the invoice final.
    """
    summary = FinalizeSummary()
    with Session(engine) as session:
        aside = parked_subjects(session, stage="finalize")
    after: tuple[UUID, datetime, UUID] | None = None
    while page := _due(engine, as_of=as_of, after=after):
        for customer_id, period_start, invoice_id in page:
            after = (customer_id, period_start, invoice_id)
            if (customer_id, str(invoice_id)) in aside:
                continue
            _finalize_one(engine, customer_id, invoice_id, provider=provider, now=as_of, summary=summary)
            if progress:
                progress(summary)
    return summary


def _due(
    engine: Engine, *, as_of: datetime, after: tuple[UUID, datetime, UUID] | None
) -> list[tuple[UUID, datetime, UUID]]:
    key = (Invoice.customer_id, Invoice.period_start, Invoice.id)
    query = (
        select(*key)
        .where(Invoice.state == "draft", Invoice.held_at.is_(None), Invoice.finalize_after <= as_of)
        .order_by(*key)
        .limit(PAGE)
    )
    if after is not None:
        query = query.where(tuple_(*key) > after)
    with Session(engine) as session:
        return [(customer_id, start, invoice_id) for customer_id, start, invoice_id in session.execute(query)]


def _finalize_one(
    engine: Engine, customer_id: UUID, invoice_id: UUID, *, provider: Provider, now: datetime, summary: FinalizeSummary
) -> None:
    try:
        with Session(engine) as session, session.begin():
            state = finalize(
                session, customer_id=customer_id, invoice_id=invoice_id, provider=provider, actor=SYSTEM, now=now
            ).state
    except (DraftHeld, ApprovalPending, NotADraft, DraftChanged):
        summary.skipped += 1  # a person, or another run, was faster
    except OperationalError as error:
        if not was_busy(error):
            raise
        summary.skipped += 1
    except Exception as error:  # noqa: BLE001 - one customer's trouble must not keep the others from their invoices
        with Session(engine) as session, session.begin():
            park(session, customer_id=customer_id, stage="finalize", subject=str(invoice_id), error=error, now=now)
        summary.parked += 1
        summary.problems.append(f"invoice {invoice_id} of customer {customer_id}: {error}")
    else:
        setattr(summary, state, getattr(summary, state) + 1)
