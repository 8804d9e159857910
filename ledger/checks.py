"""Checks: each rule of the books as a query that returns the offenders. An empty answer means that the rule holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.guards import IN_PLACE

MAX_OFFENDERS = 20
"""Rows listed per failing check; the count says how many there are in all."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    name: str
    count: int
    """All offenders; `offenders` has the first MAX_OFFENDERS of them."""
    offenders: list[dict[str, Any]]

    @property
    def holds(self) -> bool:
        return self.count == 0


_SUMS = """
    SELECT e.customer_id, e.period_start, e.usage_period_start, e.document_id, e.debit_account, e.credit_account,
           e.item, e.price_id, (e.effective_at AT TIME ZONE coalesce(p.time_zone, 'UTC'))::date AS day,
           e.labels ->> 'app' AS app, e.labels ->> 'region' AS region,
           sum(e.amount) AS amount, coalesce(sum(e.quantity), 0) AS quantity, count(*) AS entries
      FROM ledger_entries e
      LEFT JOIN ledger_periods p ON p.customer_id = e.customer_id AND p.start_at = e.usage_period_start
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
"""

CHECKS: Mapping[str, str] = {
    # EXCEPT ALL both ways: whole rows are compared, nulls count as equal, and no join key can hide a difference.
    "running totals equal the entries they sum": f"""
        WITH sums AS ({_SUMS}),
             kept AS (SELECT customer_id, period_start, usage_period_start, document_id, debit_account, credit_account,
                             item, price_id, day, app, region, amount, quantity, entries FROM ledger_totals)
        (SELECT 'entries say' AS source, x.* FROM (TABLE sums EXCEPT ALL TABLE kept) x)
        UNION ALL
        (SELECT 'totals say', x.* FROM (TABLE kept EXCEPT ALL TABLE sums) x)""",  # noqa: S608 - constants only
    "sequence numbers have no gap": """
        SELECT b.customer_id, b.last_seq, count(e.seq) AS entries, min(e.seq) AS lowest, max(e.seq) AS highest
          FROM ledger_books b LEFT JOIN ledger_entries e USING (customer_id)
         GROUP BY b.customer_id, b.last_seq
        HAVING b.last_seq <> count(e.seq) OR b.last_seq <> coalesce(max(e.seq), 0)
            OR count(e.seq) <> count(DISTINCT e.seq) OR min(e.seq) <> 1""",
    "every entry has its books and known accounts": """
        SELECT e.customer_id, e.id, e.debit_account, e.credit_account
          FROM ledger_entries e
          LEFT JOIN ledger_books b USING (customer_id)
          LEFT JOIN ledger_accounts d ON d.code = e.debit_account AND d.holder IN (b.holder, 'both')
          LEFT JOIN ledger_accounts c ON c.code = e.credit_account AND c.holder IN (b.holder, 'both')
         WHERE b.customer_id IS NULL OR d.code IS NULL OR c.code IS NULL""",
    "every charge lies in a known period, not after its end": """
        SELECT e.customer_id, e.id, e.period_start, e.usage_period_start, e.effective_at
          FROM ledger_entries e
          LEFT JOIN ledger_periods p ON p.customer_id = e.customer_id AND p.start_at = e.period_start
          LEFT JOIN ledger_periods u ON u.customer_id = e.customer_id AND u.start_at = e.usage_period_start
         WHERE e.period_start IS NOT NULL
           AND (p.start_at IS NULL OR u.start_at IS NULL OR u.start_at > p.start_at OR e.effective_at >= p.end_at
                OR (e.kind <> 'carry' AND (e.effective_at < u.start_at OR e.effective_at >= u.end_at)))""",
    "no charge came into a period after it closed": """
        SELECT e.customer_id, e.id, e.period_start, e.seq, p.closed_seq, e.recorded_at, p.closed_at
          FROM ledger_entries e
          JOIN ledger_periods p ON p.customer_id = e.customer_id AND p.start_at = e.period_start
         WHERE p.state = 'closed' AND e.seq > p.closed_seq""",
    "every closing was counted": """
        SELECT b.customer_id, b.closings, count(p.start_at) AS closed, b.last_seq, max(p.closed_seq) AS closed_seq
          FROM ledger_books b
          LEFT JOIN ledger_periods p ON p.customer_id = b.customer_id AND p.state = 'closed'
         GROUP BY b.customer_id, b.closings, b.last_seq
        HAVING b.closings <> count(p.start_at) OR max(p.closed_seq) > b.last_seq""",
    "periods do not overlap": """
        SELECT customer_id, start_at, end_at, next_start_at FROM (
            SELECT customer_id, start_at, end_at,
                   lead(start_at) OVER (PARTITION BY customer_id ORDER BY start_at) AS next_start_at
              FROM ledger_periods) x
         WHERE end_at > next_start_at""",
    "every entry about a document has that document": """
        SELECT e.customer_id, e.id, e.document_id
          FROM ledger_entries e LEFT JOIN ledger_documents d ON d.customer_id = e.customer_id AND d.id = e.document_id
         WHERE e.document_id IS NOT NULL AND d.id IS NULL""",
    "every document has its books and its period": """
        SELECT d.customer_id, d.id, d.period_start
          FROM ledger_documents d
          LEFT JOIN ledger_books b USING (customer_id)
          LEFT JOIN ledger_periods p ON p.customer_id = d.customer_id AND p.start_at = d.period_start
         WHERE b.customer_id IS NULL OR (d.period_start IS NOT NULL AND p.start_at IS NULL)""",
    "every reversal mirrors one entry that is none itself": """
        SELECT e.customer_id, e.id, e.reverses_id
          FROM ledger_entries e
          LEFT JOIN ledger_entries o ON o.customer_id = e.customer_id AND o.id = e.reverses_id
         WHERE e.reverses_id IS NOT NULL
           AND (o.id IS NULL OR o.reverses_id IS NOT NULL OR o.amount <> e.amount OR o.seq >= e.seq
                OR o.debit_account <> e.credit_account OR o.credit_account <> e.debit_account
                OR o.document_id IS DISTINCT FROM e.document_id OR o.item IS DISTINCT FROM e.item
                OR o.quantity IS DISTINCT FROM e.quantity)""",
    "no entry was reversed twice": """
        SELECT customer_id, reverses_id, count(*) AS reversals FROM ledger_entries
         WHERE reverses_id IS NOT NULL GROUP BY customer_id, reverses_id HAVING count(*) > 1""",
    "recorded_at never runs backwards within the books": """
        SELECT customer_id, id, seq, recorded_at FROM (
            SELECT customer_id, id, seq, recorded_at,
                   lag(recorded_at) OVER (PARTITION BY customer_id ORDER BY seq) AS before FROM ledger_entries) x
         WHERE recorded_at < before
        UNION ALL
        SELECT b.customer_id, NULL, b.last_seq, b.last_recorded_at
          FROM ledger_books b LEFT JOIN ledger_entries e ON e.customer_id = b.customer_id AND e.seq = b.last_seq
         WHERE b.last_recorded_at IS DISTINCT FROM e.recorded_at""",
    "every guard is in place": IN_PLACE,
}


def run_checks(session: Session, checks: Mapping[str, str] = CHECKS) -> list[CheckResult]:
    """Run each check, and return every result in order. Each sees one snapshot of its own. Writes nothing."""
    results = []
    for name, query in checks.items():
        # The window counts all offenders while only a few of them are sent.
        limited = text(f"SELECT count(*) OVER () AS all_offenders, q.* FROM ({query}) q LIMIT {MAX_OFFENDERS}")  # noqa: S608 - queries are constants of ours
        rows = [dict(row) for row in session.execute(limited).mappings()]
        count = rows[0]["all_offenders"] if rows else 0
        results.append(
            CheckResult(name, count, [{k: v for k, v in row.items() if k != "all_offenders"} for row in rows])
        )
    return results
