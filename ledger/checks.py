"""Checks: each rule of the books as a query that returns the offenders. An empty answer means that the rule holds."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

MAX_OFFENDERS = 20
"""Rows listed per failing check; the count says how many there are in all."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    name: str
    count: int
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

CHECKS: dict[str, str] = {
    # EXCEPT ALL both ways: whole rows are compared, nulls count as equal, and no join key can hide a difference.
    "running totals equal the entries they sum": f"""
        WITH sums AS ({_SUMS}),
             kept AS (SELECT customer_id, period_start, usage_period_start, document_id, debit_account, credit_account,
                             item, price_id, day, app, region, amount, quantity, entries FROM ledger_totals)
        (SELECT 'entries say' AS source, x.* FROM (TABLE sums EXCEPT ALL TABLE kept) x)
        UNION ALL
        (SELECT 'totals say', x.* FROM (TABLE kept EXCEPT ALL TABLE sums) x)""",  # noqa: S608 - constants only
    "sequence numbers have no gap": """
        SELECT b.customer_id, b.last_seq, count(e.seq) AS entries, max(e.seq) AS highest
          FROM ledger_books b LEFT JOIN ledger_entries e USING (customer_id)
         GROUP BY b.customer_id, b.last_seq
        HAVING b.last_seq <> count(e.seq) OR b.last_seq <> coalesce(max(e.seq), 0)""",
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
    "every entry about a document has that document": """
        SELECT e.customer_id, e.id, e.document_id
          FROM ledger_entries e LEFT JOIN ledger_documents d ON d.customer_id = e.customer_id AND d.id = e.document_id
         WHERE e.document_id IS NOT NULL AND d.id IS NULL""",
    "every reversal mirrors one entry that is none itself": """
        SELECT e.customer_id, e.id, e.reverses_id
          FROM ledger_entries e
          LEFT JOIN ledger_entries o ON o.customer_id = e.customer_id AND o.id = e.reverses_id
         WHERE e.reverses_id IS NOT NULL
           AND (o.id IS NULL OR o.reverses_id IS NOT NULL OR o.amount <> e.amount OR o.seq >= e.seq
                OR o.debit_account <> e.credit_account OR o.credit_account <> e.debit_account
                OR o.document_id IS DISTINCT FROM e.document_id)""",
    "recorded_at never runs backwards within the books": """
        SELECT customer_id, id, seq, recorded_at FROM (
            SELECT customer_id, id, seq, recorded_at,
                   lag(recorded_at) OVER (PARTITION BY customer_id ORDER BY seq) AS before FROM ledger_entries) x
         WHERE recorded_at < before""",
}


def run_checks(session: Session, checks: dict[str, str] = CHECKS) -> list[CheckResult]:
    """Run each check in this session's snapshot and return every result, in order. Writes nothing."""
    results = []
    for name, query in checks.items():
        rows = [dict(row) for row in session.execute(text(query)).mappings()]
        results.append(CheckResult(name, len(rows), rows[:MAX_OFFENDERS]))
    return results
