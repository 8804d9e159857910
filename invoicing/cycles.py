"""Closing the billing cycle: every period that is over becomes one draft, in chunks, whoever runs it how often."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from invoicing.parking import park, parked_customers
from invoicing.settings import Settings
from ledger.documents import open_invoice_documents
from ledger.periods import ClosedPeriod, due_customers
from ledger.periods import close_due as close_due_periods

CHUNK_SIZE = 500  # customers whose books are locked together; a chunk takes well under a second
SYSTEM = "billing cycle close"


@dataclass(slots=True)
class CloseSummary:
    """What one run of the close did: periods closed, drafts compiled, those held for a person, customers parked."""

    closed: int = 0
    drafts: int = 0
    without_charges: int = 0
    held: int = 0
    parked: int = 0
    busy: int = 0
    problems: list[str] = field(default_factory=list)


def close_due(
    engine: Engine,
    *,
    as_of: datetime,
    settings: Settings,
    chunk_size: int = CHUNK_SIZE,
    dry_run: bool = False,
    progress: Callable[[CloseSummary], None] | None = None,
) -> CloseSummary:
    """Close every period that ended at least the grace time before `as_of`, and compile its draft.

    Commits per chunk. Running it again, in two processes or after a kill gives the same drafts: closing happens once,
    under the lock of the books, and in the transaction that compiles. A customer that fails is parked with the reason
    and stays parked until released; one whose books stay locked too long is left for the next run (`busy`). With
    `dry_run` every chunk is rolled back.
    """
    summary = CloseSummary()
    ended_by = as_of - settings.grace
    after: UUID | None = None
    while True:
        with Session(engine) as session:
            found = due_customers(session, ended_by=ended_by, after=after, limit=chunk_size)
            aside = parked_customers(session, stage="close", customer_ids=found)
        if not found:
            return summary
        after = found[-1]
        chunk = [customer_id for customer_id in found if customer_id not in aside]
        _close_chunk(engine, chunk, ended_by=ended_by, now=as_of, settings=settings, dry_run=dry_run, summary=summary)
        if progress:
            progress(summary)


def _close_chunk(
    engine: Engine,
    chunk: Sequence[UUID],
    *,
    ended_by: datetime,
    now: datetime,
    settings: Settings,
    dry_run: bool,
    summary: CloseSummary,
) -> None:
    try:
        with Session(engine) as session:
            counts = _close_in(session, chunk, ended_by=ended_by, now=now, settings=settings)
            if not dry_run:
                session.commit()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the other customers from their bills
        if len(chunk) > 1:
            for customer_id in chunk:
                _close_chunk(
                    engine,
                    [customer_id],
                    ended_by=ended_by,
                    now=now,
                    settings=settings,
                    dry_run=dry_run,
                    summary=summary,
                )
            return
        _set_aside(engine, chunk[0], error, ended_by=ended_by, now=now, summary=summary)
        return
    summary.closed += counts["closed"]
    summary.drafts += counts["drafts"]
    summary.held += counts["held"]
    summary.without_charges += counts["closed"] - counts["drafts"]


def _set_aside(
    engine: Engine, customer_id: UUID, error: Exception, *, ended_by: datetime, now: datetime, summary: CloseSummary
) -> None:
    if isinstance(error, OperationalError):
        # Lost connection, lock timeout, restart: nothing is wrong with this customer, the next run tries again.
        if getattr(error.orig, "sqlstate", None) not in ("55P03", "40P01", "40001"):
            raise error
        summary.busy += 1
        return
    with Session(engine) as session, session.begin():
        park(session, customer_id=customer_id, stage="close", subject=ended_by.isoformat(), error=error, now=now)
    summary.parked += 1
    summary.problems.append(f"customer {customer_id}: {type(error).__name__}: {str(error).splitlines()[0]}")


def _close_in(
    session: Session, customer_ids: Sequence[UUID], *, ended_by: datetime, now: datetime, settings: Settings
) -> dict[str, int]:
    closed = close_due_periods(session, customer_ids=customer_ids, ended_by=ended_by, now=now)
    drafts = compile_drafts(session, closed, settings=settings, now=now)
    held = hold_anomalies(session, drafts, settings=settings, now=now)
    return {"closed": len(closed), "drafts": len(drafts), "held": held}


_COMPILE_INVOICES = text("""
    INSERT INTO invoices (customer_id, id, kind, period_start, period_end, currency, compiled_at, finalize_after)
    SELECT d.customer_id, d.id, 'cycle', p.start_at, p.end_at, b.currency, :now,
           :now + make_interval(secs => coalesce(c.draft_window_s, :draft_window_s))
      FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[]), CAST(:starts AS timestamptz[]))
           AS d (customer_id, id, start_at)
      JOIN ledger_periods p USING (customer_id, start_at)
      JOIN ledger_books b USING (customer_id)
      JOIN customers c USING (customer_id)
""")

_COMPILE_LINES = text("""
    INSERT INTO invoice_lines (customer_id, invoice_id, position, contra_account, item, price_id, usage_period_start,
                               description, quantity, amount)
    SELECT t.customer_id, t.invoice_id,
           row_number() OVER (PARTITION BY t.customer_id, t.invoice_id
                              ORDER BY t.contra_account = 'assets:carried', t.usage_period_start DESC, t.item,
                                       t.price_id),
           t.contra_account, t.item, t.price_id, t.usage_period_start,
           concat(CASE WHEN t.contra_account = 'assets:carried' THEN 'Carried forward: ' END,
                  coalesce(i.name, t.item, 'Adjustment'),
                  CASE WHEN t.contra_account = 'assets:carried' THEN ' (from '
                       WHEN t.usage_period_start <> t.period_start THEN ' (late, used in ' END,
                  CASE WHEN t.contra_account = 'assets:carried' OR t.usage_period_start <> t.period_start
                       THEN to_char(t.usage_period_start AT TIME ZONE p.time_zone, 'FMMonth YYYY') || ')' END),
           t.quantity, t.amount
      FROM (SELECT u.customer_id, d.id AS invoice_id, u.period_start, u.contra_account, u.item, u.price_id,
                   u.usage_period_start, sum(u.amount) AS amount, sum(u.quantity) AS quantity
              FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[]), CAST(:starts AS timestamptz[]))
                   AS d (customer_id, id, start_at)
              JOIN ledger_unbilled u ON u.customer_id = d.customer_id AND u.period_start = d.start_at
                                    AND u.document_id IS NULL
             GROUP BY 1, 2, 3, 4, 5, 6, 7) t
      JOIN ledger_periods p ON p.customer_id = t.customer_id AND p.start_at = t.usage_period_start
      LEFT JOIN items i ON i.code = t.item
""")

_COMPILE_HISTORY = text("""
    INSERT INTO invoice_history (customer_id, invoice_id, at, actor, action, to_state)
    SELECT d.customer_id, d.id, :now, :actor, 'compiled', 'draft'
      FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS d (customer_id, id)
""")


@dataclass(frozen=True, slots=True)
class DraftKey:
    customer_id: UUID
    invoice_id: UUID


def compile_drafts(
    session: Session, closed: Sequence[ClosedPeriod], *, settings: Settings, now: datetime
) -> list[DraftKey]:
    """Compile one draft for each of these just-closed periods that has charges, from the running totals.

    Costs as much as there are lines, not entries. The caller holds the books' locks and commits.
    """
    documents = open_invoice_documents(session, closed, now=now)
    if not documents:
        return []
    keys = {
        "customers": [customer_id for customer_id, _, _ in documents],
        "ids": [document_id for _, document_id, _ in documents],
        "starts": [start for _, _, start in documents],
    }
    session.execute(_COMPILE_INVOICES, {**keys, "now": now, "draft_window_s": settings.draft_window.total_seconds()})
    session.execute(_COMPILE_LINES, keys)
    session.execute(_COMPILE_HISTORY, {"customers": keys["customers"], "ids": keys["ids"], "now": now, "actor": SYSTEM})
    return [DraftKey(customer_id, document_id) for customer_id, document_id, _ in documents]


# The usual amount is the mean of the last six invoices that were billed, known from the third on.
_HOLD_ANOMALIES = text("""
    WITH drafts AS (
        SELECT d.customer_id, d.id,
               (SELECT coalesce(sum(l.amount), 0) FROM invoice_lines l
                 WHERE l.customer_id = d.customer_id AND l.invoice_id = d.id) AS total
          FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS d (customer_id, id)
    ), judged AS (
        SELECT d.*, u.invoices, u.usual,
               CASE WHEN u.invoices >= 3 AND abs(d.total - u.usual) > :floor AND d.total > u.usual * :factor
                    THEN 'Unusually high: ' || round(d.total, 2) || ' against a usual ' || round(u.usual, 2)
                    WHEN u.invoices >= 3 AND abs(d.total - u.usual) > :floor AND d.total * :factor < u.usual
                    THEN 'Unusually low: ' || round(d.total, 2) || ' against a usual ' || round(u.usual, 2)
                    WHEN u.invoices < 3 AND d.total > CAST(:first_limit AS numeric)
                    THEN 'A first invoice above the limit: ' || round(d.total, 2)
               END AS finding
          FROM drafts d
          CROSS JOIN LATERAL (
               SELECT count(*) AS invoices, avg(total) AS usual
                 FROM (SELECT i.total FROM invoices i
                        WHERE i.customer_id = d.customer_id AND i.kind = 'cycle' AND i.state IN ('final', 'paid')
                        ORDER BY i.period_start DESC LIMIT 6) earlier) u
    ), held AS (
        UPDATE invoices i SET held_at = :now, held_by = :actor, hold_reason = j.finding, version = i.version + 1
          FROM judged j
         WHERE i.customer_id = j.customer_id AND i.id = j.id AND j.finding IS NOT NULL
        RETURNING i.customer_id, i.id, i.hold_reason
    )
    INSERT INTO invoice_history (customer_id, invoice_id, at, actor, action, reason)
    SELECT customer_id, id, :now, :actor, 'held', hold_reason FROM held
    RETURNING id
""")


def hold_anomalies(session: Session, drafts: Sequence[DraftKey], *, settings: Settings, now: datetime) -> int:
    """Hold those of these drafts that a person should look at first; says how many. The caller commits."""
    if not drafts:
        return 0
    held = session.execute(
        _HOLD_ANOMALIES,
        {
            "customers": [draft.customer_id for draft in drafts],
            "ids": [draft.invoice_id for draft in drafts],
            "now": now,
            "actor": SYSTEM,
            "factor": settings.anomaly_factor,
            "floor": settings.anomaly_floor,
            "first_limit": settings.first_invoice_limit,
        },
    )
    return len(held.all())
