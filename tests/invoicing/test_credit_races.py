"""Credit under processes that race: whoever comes first, no more of it is used than there is."""

from datetime import timedelta
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.database import create_engine
from invoicing.credit.endings import NothingLeftOfCredit, expire_due, revoke_credit
from invoicing.credit.lots import CREDIT_LOTS
from invoicing.credit.refills import refill_due
from invoicing.finalization import finalize
from invoicing.tables import CreditUse, Invoice
from ledger import accounts
from ledger.balances import balance
from tests.fakes.provider import RememberingProvider
from tests.invoicing.conftest import Company, at
from tests.invoicing.test_credit_lots import grant
from tests.invoicing.test_top_ups import want
from tests.processes.forks import FORKS

WAIT_S = 300


def _finalize(url: str, customer_id: UUID, invoice_id: UUID, together: Barrier) -> None:
    engine = create_engine(url)
    together.wait(WAIT_S)
    with Session(engine) as session, session.begin():
        finalize(
            session,
            customer_id=customer_id,
            invoice_id=invoice_id,
            provider=RememberingProvider(),
            actor="test",
            now=at("2025-09-02"),
        )
    engine.dispose()


def _revoke(url: str, customer_id: UUID, grant_id: UUID, together: Barrier) -> None:
    engine = create_engine(url)
    together.wait(WAIT_S)
    try:
        with Session(engine) as session, session.begin():
            revoke_credit(
                session, customer_id=customer_id, grant_id=grant_id, reason="Abuse", actor="test", now=at("2025-09-02")
            )
    except NothingLeftOfCredit:
        pass  # all of it was used before
    engine.dispose()


def _expire_and_refill(url: str, together: Barrier) -> None:
    engine = create_engine(url)
    together.wait(WAIT_S)
    assert expire_due(engine, now=at("2025-09-02")).problems == []
    assert refill_due(engine, provider=RememberingProvider(), now=at("2025-09-02")).problems == []
    engine.dispose()


def test_processes_that_finalize_revoke_expire_and_refill_at_once_use_no_credit_twice(
    company: Company, database_url: str
) -> None:
    """Three drafts over 30 each, 50 of credit in two lots, one of them expired by now; a refill is due."""
    customer_id = company.customer("acme")
    ended = grant(company, "20", until="2025-09-01")
    taken = grant(company, "30")
    want(company, "20", "50")
    for month in ("06", "07", "08"):
        company.use("acme", f"2025-{month}-03", "30")
    company.close("2025-09-01")
    with Session(company.engine) as session:
        drafts = session.scalars(select(Invoice.id).order_by(Invoice.period_start)).all()
    together = FORKS.Barrier(6)
    url = database_url
    racing = [FORKS.Process(target=_finalize, args=(url, customer_id, draft, together)) for draft in drafts]
    racing.append(FORKS.Process(target=_revoke, args=(url, customer_id, taken, together)))
    racing += [FORKS.Process(target=_expire_and_refill, args=(url, together)) for _ in range(2)]
    for process in racing:
        process.start()
    for process in racing:
        process.join(WAIT_S)
    assert [process.exitcode for process in racing] == [0] * 6
    expire_due(company.engine, now=at("2025-09-02") + timedelta(hours=1))
    with Session(company.engine) as session:
        sums = dict(
            session.execute(select(CreditUse.grant_id, func.sum(CreditUse.amount)).group_by(CreditUse.grant_id)).all()
        )
        left = session.scalars(select(CREDIT_LOTS.c.remaining).where(CREDIT_LOTS.c.invoice_id.is_(None))).all()
        top_ups = session.scalars(select(Invoice).where(Invoice.kind == "top_up")).all()
        assert balance(session, customer_id=customer_id, account=accounts.CREDITS_PROMOTIONAL) == 0
    assert sums == {ended: Decimal(20), taken: Decimal(30)}
    assert left == [0, 0]
    assert len(top_ups) == 1
    company.check()
