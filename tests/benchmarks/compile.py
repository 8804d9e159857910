"""Closing a cycle: drafts from running totals, beside plain SQL into tables without any guard."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
from sqlalchemy import Engine

from invoicing.cycles import close_due
from invoicing.settings import Settings
from tests.benchmarks.rounds import Way
from tests.benchmarks.sizes import FULL, Sizes

LINES = 12  # of each customer's invoice
FEW = 100  # entries of the customer who is closed alone
FIRST_YEAR = 2010  # every round has months of its own, before all that other benchmarks post
BATCH = 10_000  # entries

PLAIN = "compile in plain SQL, bare tables and indexes"
CLOSE, CLOSE_TWO = "cycle close, 12 lines each", "cycle close, 12 lines each, --jobs 2"
CLOSE_FEW, CLOSE_MANY = f"cycle close, one customer, {FEW} entries", f"cycle close, one customer, {FULL.many:,} entries"

CUSTOMERS = """
    WITH opened AS (
        INSERT INTO ledger_books (customer_id, holder, currency, time_zone, anchor_day, opened_at)
        SELECT unnest(%(ids)s::uuid[]), 'customer', 'USD', 'UTC', 1, '2010-01-01Z' RETURNING customer_id
    ), prefixes AS (
        INSERT INTO invoice_prefixes (customer_id, prefix)
        SELECT customer_id, upper(left(replace(customer_id::text, '-', ''), 12)) FROM opened RETURNING *
    )
    INSERT INTO customers (customer_id, external_id, name, invoice_prefix, created_at, created_by)
    SELECT customer_id, prefix, prefix, prefix, '2010-01-01Z', 'benchmark' FROM prefixes
"""

PERIODS = """
    INSERT INTO ledger_periods (customer_id, start_at, end_at, time_zone, opened_at)
    SELECT unnest(%(ids)s::uuid[]), %(start)s, %(end)s, 'UTC', %(start)s
"""

# Through the journal's guards like any other entry, though not through ledger.post: what is measured comes afterwards.
CHARGES = """
    INSERT INTO ledger_entries (customer_id, id, transaction_id, seq, debit_account, credit_account, amount,
                                effective_at, recorded_at, period_start, usage_period_start, item, quantity, labels,
                                kind, actor, digest)
    SELECT b.customer_id, md5(format('%%s %%s', b.customer_id, b.last_seq + n))::uuid, md5(n::text)::uuid,
           b.last_seq + n, 'assets:unbilled', 'income:usage', n * 0.0000008, %(start)s, statement_timestamp(),
           %(start)s, %(start)s, 'item-' || n %% %(items)s, n, '{"app": "web", "region": "ams"}', 'usage', 'benchmark',
           sha256(int8send(n))
      FROM ledger_books b, generate_series(1, %(each)s::bigint) n
     WHERE b.customer_id = ANY(%(ids)s::uuid[])
"""

PLAIN_SQL = """
    WITH drafts AS (
        INSERT INTO bare_invoices (customer_id, id, kind, period_start, period_end, generation, state, currency,
                                   version, compiled_at, finalize_after, amount_paid)
        SELECT p.customer_id, gen_random_uuid(), 'cycle', p.start_at, p.end_at, 1, 'draft', b.currency, 1, now(),
               now(), 0
          FROM ledger_periods p JOIN ledger_books b USING (customer_id)
         WHERE p.customer_id = ANY(%(ids)s::uuid[]) AND p.start_at = %(start)s
        RETURNING customer_id, id, period_start
    )
    INSERT INTO bare_lines (customer_id, invoice_id, id, position, contra_account, item, price_id, usage_period_start,
                            description, quantity, amount)
    SELECT d.customer_id, d.id, md5(format('%%s %%s', d.id, row_number() OVER ()))::uuid, 1, u.contra_account, u.item,
           u.price_id, u.usage_period_start, coalesce(i.name, u.item), sum(u.quantity), sum(u.amount)
      FROM drafts d
      JOIN ledger_unbilled u ON u.customer_id = d.customer_id AND u.period_start = d.period_start
                            AND u.document_id IS NULL
      LEFT JOIN items i ON i.code = u.item
     GROUP BY d.customer_id, d.id, u.contra_account, u.item, u.price_id, u.usage_period_start, i.name
"""


def month_of(turn: int, number: int) -> tuple[datetime, datetime]:
    """The start and the end of one of the four months that a round has to itself."""
    months = 4 * turn + number
    start, after = (datetime(FIRST_YEAR + m // 12, m % 12 + 1, 1, tzinfo=UTC) for m in (months, months + 1))
    return start, after


class Cycles:
    def __init__(self, engine: Engine, owner: psycopg.Connection, sizes: Sizes) -> None:
        self.engine, self.owner, self.sizes = engine, owner, sizes
        self.many: list[UUID] = sorted(uuid4() for _ in range(sizes.billed))
        self.one = [uuid4()]
        owner.execute("CREATE TABLE bare_invoices (LIKE invoices INCLUDING INDEXES INCLUDING DEFAULTS)")
        owner.execute("CREATE TABLE bare_lines (LIKE invoice_lines INCLUDING INDEXES INCLUDING DEFAULTS)")
        owner.execute(CUSTOMERS, {"ids": self.many + self.one})

    def charge(self, turn: int) -> int:
        """What the four ways of this round will bill."""
        for number, (customers, each) in enumerate(
            [(self.many, LINES), (self.many, LINES), (self.one, FEW), (self.one, self.sizes.many)]
        ):
            start, end = month_of(turn, number)
            self.owner.execute(PERIODS, {"ids": customers, "start": start, "end": end})
            at_once = max(1, BATCH // each)
            for place in range(0, len(customers), at_once):
                ids = customers[place : place + at_once]
                for _ in range(max(1, each // BATCH)):
                    self.owner.execute(CHARGES, {"ids": ids, "start": start, "each": min(each, BATCH), "items": LINES})
        return 1

    def plain(self, turn: int) -> int:
        start, _ = month_of(turn, 0)
        self.owner.execute(PLAIN_SQL, {"ids": self.many, "start": start})
        return self.sizes.billed

    def close(self, turn: int, number: int, *, jobs: int = 1) -> int:
        """Close what ended with this month: its predecessors are closed already."""
        _, end = month_of(turn, number)
        summary = close_due(self.engine, as_of=end + timedelta(days=1), settings=Settings(), jobs=jobs)
        assert summary.drafts == (self.sizes.billed if number < 2 else 1), summary
        return summary.drafts


def ways(engine: Engine, owner: psycopg.Connection, *, sizes: Sizes = FULL) -> list[Way]:
    cycles = Cycles(engine, owner, sizes)
    return [
        Way("charges to close", "", cycles.charge),
        Way(PLAIN, "invoices", cycles.plain),
        Way(CLOSE, "invoices", lambda turn: cycles.close(turn, 0), beside=PLAIN),
        Way(CLOSE_TWO, "invoices", lambda turn: cycles.close(turn, 1, jobs=2), beside=CLOSE),
        Way(CLOSE_FEW, "invoices", lambda turn: cycles.close(turn, 2)),
        Way(CLOSE_MANY, "invoices", lambda turn: cycles.close(turn, 3), beside=CLOSE_FEW),
    ]
