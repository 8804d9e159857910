"""Closing the billing cycle: every period that is over becomes one draft, in chunks, whoever runs it how often."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from invoicing.one_by_one import in_a_line
from invoicing.parking import park, parked_customers
from invoicing.settings import Settings
from invoicing.subscriptions import renew_due
from ledger.arrays import spell_array
from ledger.books import was_busy
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

    def add(self, part: "CloseSummary") -> None:
        self.closed += part.closed
        self.drafts += part.drafts
        self.without_charges += part.without_charges
        self.held += part.held
        self.parked += part.parked
        self.busy += part.busy
        self.problems += part.problems


def close_due(
    engine: Engine,
    *,
    as_of: datetime,
    settings: Settings,
    chunk_size: int = CHUNK_SIZE,
    jobs: int = 1,
    dry_run: bool = False,
    progress: Callable[[CloseSummary], None] | None = None,
) -> CloseSummary:
    """Close every period that ended at least the grace time before `as_of`, and compile its draft.

    Commits per chunk; `jobs` of them (from 1, at most as many as the engine has connections) are closed at once.
    Running it again, in two processes or after a kill gives the same drafts: closing happens once, under the lock of
    the books, and in the transaction that compiles. A customer that fails is parked with the reason and stays parked
    until released; one whose books stay locked too long is left for the next run (`busy`). With `dry_run` every chunk
    is rolled back.
    """
    summary = CloseSummary()
    ended_by = as_of - settings.grace
    if not dry_run:  # the fee of the month that begins stands on the invoice of the one that ended
        renewed = renew_due(engine, now=as_of)
        summary.add(CloseSummary(parked=renewed.parked, busy=renewed.busy, problems=renewed.problems))

    def close(chunk: Sequence[UUID]) -> CloseSummary:
        return _close_chunk(engine, chunk, ended_by=ended_by, now=as_of, settings=settings, dry_run=dry_run)

    for part in _at_once(close, _due_chunks(engine, ended_by=ended_by, size=chunk_size), jobs=jobs):
        summary.add(part)
        if progress:
            progress(summary)
    return summary


def _due_chunks(engine: Engine, *, ended_by: datetime, size: int) -> Iterator[list[UUID]]:
    """Who is due and not parked, `size` customers at a time, in id order."""
    after: UUID | None = None
    while True:
        with Session(engine) as session:
            found = due_customers(session, ended_by=ended_by, after=after, limit=size)
            aside = parked_customers(session, stage="close", customer_ids=found)
        if not found:
            return
        after = found[-1]
        yield [customer_id for customer_id in found if customer_id not in aside]


def _at_once(
    close: Callable[[Sequence[UUID]], CloseSummary], chunks: Iterator[list[UUID]], *, jobs: int
) -> Iterator[CloseSummary]:
    """What came of each chunk, as it ends. No two chunks share a customer, so none waits for another's locks."""
    if jobs == 1:
        yield from map(close, chunks)
        return
    with ThreadPoolExecutor(jobs, thread_name_prefix="close") as pool:
        running: set[Future[CloseSummary]] = set()
        for chunk in chunks:
            running.add(pool.submit(close, chunk))
            if len(running) > jobs:  # one waits, so that nobody is idle while the next are looked up
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ended)
        yield from (future.result() for future in as_completed(running))


def _close_chunk(
    engine: Engine, chunk: Sequence[UUID], *, ended_by: datetime, now: datetime, settings: Settings, dry_run: bool
) -> CloseSummary:
    try:
        with Session(engine) as session:
            part = _close_in(session, chunk, ended_by=ended_by, now=now, settings=settings)
            if not dry_run:
                session.commit()
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the other customers from their bills
        if len(chunk) == 1:
            return _set_aside(engine, chunk[0], error, ended_by=ended_by, now=now)
        part = CloseSummary()
        for customer_id in chunk:
            part.add(
                _close_chunk(engine, [customer_id], ended_by=ended_by, now=now, settings=settings, dry_run=dry_run)
            )
    return part


def _set_aside(
    engine: Engine, customer_id: UUID, error: Exception, *, ended_by: datetime, now: datetime
) -> CloseSummary:
    if isinstance(error, OperationalError):
        # Lost connection, lock timeout, restart: nothing is wrong with this customer, the next run tries again.
        if not was_busy(error):
            raise error
        return CloseSummary(busy=1)
    with Session(engine) as session, session.begin():
        park(session, customer_id=customer_id, stage="close", subject=ended_by.isoformat(), error=error, now=now)
    problem = f"customer {customer_id}: {type(error).__name__}: {in_a_line(error)}"
    return CloseSummary(parked=1, problems=[problem])


# A chunk looks up a few hundred customers by key, however large the tables are. Where the statistics are old, as on
# the day after a first import, the planner would rather read whole tables, once for each of them.
_BY_KEY = text("""
    SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
           set_config('enable_seqscan', 'off', true)
""")


def _close_in(
    session: Session, customer_ids: Sequence[UUID], *, ended_by: datetime, now: datetime, settings: Settings
) -> CloseSummary:
    session.execute(_BY_KEY)
    closed = close_due_periods(session, customer_ids=customer_ids, ended_by=ended_by, now=now)
    drafts = compile_drafts(session, closed, settings=settings, now=now)
    held = hold_anomalies(session, drafts, settings=settings, now=now)
    return CloseSummary(closed=len(closed), drafts=drafts.count, without_charges=len(closed) - drafts.count, held=held)


@dataclass(frozen=True, slots=True)
class Drafts:
    """Drafts that were compiled together; the arrays name them as each statement about them takes them."""

    count: int
    customers: str
    ids: str
    starts: str


_COMPILE_INVOICES = text("""
    INSERT INTO invoices (customer_id, id, kind, period_start, period_end, generation, currency, compiled_at,
                          finalize_after)
    SELECT d.customer_id, d.id, 'cycle', p.start_at, p.end_at, :generation, b.currency, :now,
           :now + make_interval(secs => coalesce(c.draft_window_s, :draft_window_s))
      FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[]), CAST(:starts AS timestamptz[]))
           AS d (customer_id, id, start_at)
      JOIN ledger_periods p USING (customer_id, start_at)
      JOIN ledger_books b USING (customer_id)
      JOIN customers c USING (customer_id)
""")

# Each draft's totals are looked up, summed and numbered by themselves (LATERAL): no plan can read more than they are.
# A line's id follows from the draft and the position: a random one costs a call of the operating system for each.
# Tax is inside a line as it is inside its price, or its plan's version; a discount, whose id stands where a price's
# would, follows the prices of its item in that period. What is taken off an item stands below it and says so.
_COMPILE_LINES = text("""
    INSERT INTO invoice_lines (customer_id, invoice_id, id, position, contra_account, item, price_id,
                               usage_period_start, description, quantity, amount, tax_inclusive)
    SELECT d.customer_id, d.id, CAST(md5(uuid_send(d.id) || int8send(t.position)) AS uuid), t.position,
           t.contra_account, t.item, t.price_id, t.usage_period_start,
           CASE WHEN t.contra_account = 'assets:carried' OR t.usage_period_start <> d.start_at
                THEN (SELECT format(CASE WHEN t.contra_account = 'assets:carried' THEN 'Carried forward: %s (from %s)'
                                         ELSE '%s (late, used in %s)' END,
                                    coalesce(i.name, t.item, 'Adjustment'),
                                    to_char(t.usage_period_start AT TIME ZONE p.time_zone, 'FMMonth YYYY'))
                        FROM ledger_periods p
                       WHERE p.customer_id = d.customer_id AND p.start_at = t.usage_period_start)
                ELSE coalesce(i.name, t.item, 'Adjustment') END
           || coalesce(', ' || trim_scale(f.percent) || ' % off', ''),
           t.quantity, t.amount,
           CASE WHEN r.id IS NOT NULL THEN r.tax_inclusive
                WHEN v.id IS NOT NULL THEN v.tax_inclusive
                WHEN t.price_id IS NULL THEN false
                ELSE coalesce((SELECT bool_and(q.tax_inclusive)
                                 FROM ledger_unbilled u JOIN prices q ON q.id = u.price_id
                                WHERE u.customer_id = d.customer_id AND u.period_start = d.start_at
                                  AND u.document_id IS NULL AND u.item = t.item
                                  AND u.usage_period_start = t.usage_period_start), false) END
      FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[]), CAST(:starts AS timestamptz[]))
           AS d (customer_id, id, start_at)
     CROSS JOIN LATERAL (
           SELECT u.contra_account, u.item, u.price_id, u.usage_period_start, sum(u.amount) AS amount,
                  sum(u.quantity) AS quantity,
                  row_number() OVER (ORDER BY u.contra_account = 'assets:carried', u.usage_period_start DESC, u.item,
                                              sum(u.amount) < 0, u.price_id, u.contra_account) AS position
             FROM ledger_unbilled u
            WHERE u.customer_id = d.customer_id AND u.period_start = d.start_at AND u.document_id IS NULL
            GROUP BY u.contra_account = 'assets:carried', u.usage_period_start, u.item, u.price_id, u.contra_account) t
      LEFT JOIN items i ON i.code = t.item
      LEFT JOIN prices r ON r.id = t.price_id
      LEFT JOIN plan_versions v ON v.id = t.price_id
      LEFT JOIN discounts f ON f.customer_id = d.customer_id AND f.id = t.price_id
""")

_COMPILE_HISTORY = text("""
    INSERT INTO invoice_history (customer_id, invoice_id, at, actor, action, to_state)
    SELECT d.customer_id, d.id, :now, :actor, 'compiled', 'draft'
      FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS d (customer_id, id)
""")


def compile_drafts(
    session: Session,
    closed: Sequence[ClosedPeriod],
    *,
    settings: Settings,
    now: datetime,
    generation: int = 1,
    actor: str = SYSTEM,
) -> Drafts:
    """Compile one draft for each of these just-closed periods that has charges, from the running totals.

    A period whose invoice was made void just now gets its next `generation`, by whoever made it void. Costs as much as
    there are totals and lines, not entries. The caller holds the books' locks and commits.
    """
    documents = open_invoice_documents(session, closed, now=now)
    drafts = Drafts(
        count=len(documents),
        customers=spell_array(customer_id for customer_id, _, _ in documents),
        ids=spell_array(document_id for _, document_id, _ in documents),
        starts=spell_array(start for _, _, start in documents),
    )
    if documents:
        keys = {"customers": drafts.customers, "ids": drafts.ids}
        periods = {**keys, "starts": drafts.starts}
        window_s = settings.draft_window.total_seconds()
        session.execute(
            _COMPILE_INVOICES, {**periods, "now": now, "draft_window_s": window_s, "generation": generation}
        )
        session.execute(_COMPILE_LINES, periods)
        session.execute(_COMPILE_HISTORY, {**keys, "now": now, "actor": actor})
    return drafts


# The usual amount is the mean of the last six invoices that were billed, known from the third on. The states are
# excluded and not listed, since an index on states, if the planner took it, would lead through everybody's invoices.
_HOLD_ANOMALIES = text("""
    WITH drafts AS (
        SELECT d.customer_id, d.id, l.total
          FROM unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS d (customer_id, id)
          CROSS JOIN LATERAL (
               SELECT coalesce(sum(l.amount), 0) AS total FROM invoice_lines l
                WHERE l.customer_id = d.customer_id AND l.invoice_id = d.id) l
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
                 FROM (SELECT i.total - i.tax AS total FROM invoices i
                        WHERE i.customer_id = d.customer_id AND i.kind = 'cycle'
                          AND i.state NOT IN ('draft', 'void', 'uncollectible', 'carried_forward', 'empty')
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


def hold_anomalies(session: Session, drafts: Drafts, *, settings: Settings, now: datetime) -> int:
    """Hold those of these drafts that a person should look at first; says how many. The caller commits."""
    if not drafts.count:
        return 0
    held = session.execute(
        _HOLD_ANOMALIES,
        {
            "customers": drafts.customers,
            "ids": drafts.ids,
            "now": now,
            "actor": SYSTEM,
            "factor": settings.anomaly_factor,
            "floor": settings.anomaly_floor,
            "first_limit": settings.first_invoice_limit,
        },
    )
    return len(held.all())
