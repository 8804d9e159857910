"""Journals of any length, filled by a few set-based INSERTs that pass every guard."""

from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from ledger.posting import open_periods

YEAR = 2025
AT_ONCE = 100_000
"""Entries per INSERT."""

# A month has one period, the customer's zone is UTC, each of the 25 items is used on every day of the year in turn.
_FILL = text("""
    INSERT INTO ledger_entries (customer_id, id, transaction_id, seq, debit_account, credit_account, amount,
                                effective_at, recorded_at, period_start, usage_period_start, item, quantity, labels,
                                kind, actor, digest)
    SELECT b.customer_id, gen_random_uuid(), gen_random_uuid(), b.last_seq + n, 'assets:unbilled', 'income:usage',
           n * 0.0000008, at, now(), date_trunc('month', at), date_trunc('month', at),
           'item-' || n % 25, n, '{}', 'usage', 'fill', sha256(CAST(CAST(n AS text) AS bytea))
      FROM ledger_books b,
           generate_series(1, :entries) AS n,
           LATERAL (SELECT CAST('2025-01-01Z' AS timestamptz) + (b.last_seq + n) * 104729 % 525600
                           * interval '1 minute') AS moment (at)
     WHERE b.customer_id = :customer_id
""")


def fill(engine: Engine, customer_id: UUID, *, entries: int) -> None:
    """Post so many entries of usage all over 2025 for a customer with monthly books in UTC and no entries yet."""
    months = [datetime(YEAR + month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in range(13)]
    with Session(engine) as session, session.begin():
        open_periods(
            session,
            [(customer_id, start, end, "UTC") for start, end in pairwise(months)],
            now=months[0],
        )
    for done in range(0, entries, AT_ONCE):
        with Session(engine) as session, session.begin():
            session.execute(_FILL, {"customer_id": customer_id, "entries": min(AT_ONCE, entries - done)})


_OPEN = text("""
    INSERT INTO ledger_books (customer_id, holder, currency, time_zone, anchor_day, opened_at)
    SELECT gen_random_uuid(), 'customer', 'CHF', 'UTC', 1, now() FROM generate_series(1, :customers)
""")
_OPENING = text("""
    INSERT INTO ledger_entries (customer_id, id, transaction_id, seq, debit_account, credit_account, amount,
                                effective_at, recorded_at, labels, kind, actor, digest)
    SELECT b.customer_id, gen_random_uuid(), gen_random_uuid(), b.last_seq + n,
           CASE n WHEN 1 THEN 'assets:receivable' ELSE 'equity:opening' END,
           CASE n WHEN 1 THEN 'equity:opening' ELSE 'liabilities:credits:prepaid' END,
           n * 1.25, '2025-06-01Z', now(), '{}', 'opening', 'fill', sha256('opening')
      FROM ledger_books b, generate_series(1, 2) AS n
     WHERE b.currency = 'CHF'
""")


def fill_openings(engine: Engine, *, customers: int) -> None:
    """Open so many books in CHF, and bring an open receivable and a prepaid credit into each."""
    with Session(engine) as session, session.begin():
        session.execute(_OPEN, {"customers": customers})
        session.execute(_OPENING)
