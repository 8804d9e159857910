"""Checks: each rule that ties invoices to the books, as a query that returns the offenders. Empty means it holds."""

from invoicing.credit import checks as of_credit
from invoicing.movements import checks as of_movements
from invoicing.rating import checks as of_rating
from invoicing.tax import checks as of_tax

_NET = """
    SELECT i.customer_id, i.id, i.state, i.number,
           (SELECT coalesce(sum(u.amount), 0) FROM ledger_unbilled u
             WHERE u.customer_id = i.customer_id AND u.period_start = i.period_start AND u.document_id IS NULL
               AND i.kind = 'cycle') AS charges,
           (SELECT coalesce(sum(u.amount), 0) FROM ledger_unbilled u
             WHERE u.customer_id = i.customer_id AND u.document_id = i.id) AS about_document,
           (SELECT coalesce(sum(l.amount), 0) FROM invoice_lines l
             WHERE l.customer_id = i.customer_id AND l.invoice_id = i.id) AS lines,
           (SELECT sum(l.rounded) FROM invoice_lines l
             WHERE l.customer_id = i.customer_id AND l.invoice_id = i.id) AS rounded,
           i.exact_total, i.total, i.tax, i.credits_applied, i.amount_due, i.amount_paid
      FROM invoices i
"""

# ruff: noqa: S608 - the queries are put together from constants of this file only
CHECKS: dict[str, str] = {
    "a draft's lines equal its charges and adjustments": f"""
        SELECT * FROM ({_NET}) x WHERE state = 'draft' AND lines <> charges + about_document""",
    "a final invoice's lines equal the exact total it was made of": f"""
        SELECT * FROM ({_NET}) x WHERE state <> 'draft' AND lines <> exact_total""",
    "a final invoice's cents and its tax add up to its total": f"""
        SELECT * FROM ({_NET}) x WHERE number IS NOT NULL AND rounded + tax IS DISTINCT FROM total""",
    "nothing is left unbilled behind a final, carried or empty invoice": f"""
        SELECT * FROM ({_NET}) x
         WHERE state <> 'draft' AND charges + about_document <> 0
           AND NOT (state = 'void' AND charges + about_document = charges)""",
    "no closed period has charges without an invoice": """
        SELECT u.customer_id, u.period_start, sum(u.amount) AS unbilled
          FROM ledger_unbilled u
          JOIN ledger_periods p ON p.customer_id = u.customer_id AND p.start_at = u.period_start AND p.state = 'closed'
          LEFT JOIN invoices i ON i.customer_id = u.customer_id AND i.period_start = u.period_start AND i.kind = 'cycle'
         WHERE u.document_id IS NULL AND i.id IS NULL
         GROUP BY u.customer_id, u.period_start""",
    "the receivable of every invoice is what is still open": """
        SELECT i.customer_id, i.id, i.number, i.state, o.open, coalesce(r.amount, 0) AS receivable
          FROM invoices i
         CROSS JOIN LATERAL (
               SELECT CASE WHEN i.state IN ('final', 'paid') THEN i.amount_due - i.amount_credited - i.amount_paid
                           ELSE 0 END AS open) o
          LEFT JOIN LATERAL (
               SELECT sum(CASE WHEN t.debit_account = 'assets:receivable' THEN t.amount ELSE -t.amount END) AS amount
                 FROM ledger_totals t
                WHERE t.customer_id = i.customer_id AND t.document_id = i.id
                  AND 'assets:receivable' IN (t.debit_account, t.credit_account)) r ON true
         WHERE coalesce(r.amount, 0) <> o.open""",
    "payments add up to what the invoice says is paid": """
        SELECT i.customer_id, i.id, i.number, i.amount_paid, coalesce(sum(p.applied), 0) AS payments
          FROM invoices i LEFT JOIN payments p ON p.customer_id = i.customer_id AND p.invoice_id = i.id
         GROUP BY i.customer_id, i.id
        HAVING i.amount_paid <> coalesce(sum(p.applied), 0)""",
    "invoice numbers have no gap": """
        SELECT c.customer_id, c.invoice_prefix, c.last_invoice_number, count(i.number_seq) AS numbers
          FROM customers c LEFT JOIN invoices i ON i.customer_id = c.customer_id AND i.number_seq IS NOT NULL
         GROUP BY c.customer_id
        HAVING count(i.number_seq) <> c.last_invoice_number
            OR coalesce(max(i.number_seq), 0) <> c.last_invoice_number""",
    "what is carried out of one invoice arrives in a period": """
        SELECT customer_id, sum(CASE WHEN debit_account = 'assets:carried' THEN amount ELSE -amount END) AS carried
          FROM ledger_totals WHERE 'assets:carried' IN (debit_account, credit_account)
         GROUP BY customer_id
        HAVING sum(CASE WHEN debit_account = 'assets:carried' THEN amount ELSE -amount END) <> 0""",
    "no credit is overdrawn": """
        SELECT customer_id, account, sum(amount) AS balance
          FROM (SELECT customer_id, credit_account AS account, amount FROM ledger_totals
                 WHERE credit_account LIKE 'liabilities:credits:%'
                UNION ALL
                SELECT customer_id, debit_account, -amount FROM ledger_totals
                 WHERE debit_account LIKE 'liabilities:credits:%') x
         GROUP BY customer_id, account HAVING sum(amount) < 0""",
    "every invoice has its customer, document and period": """
        SELECT i.customer_id, i.id, i.state, i.period_start
          FROM invoices i
          LEFT JOIN customers c USING (customer_id)
          LEFT JOIN ledger_documents d ON d.customer_id = i.customer_id AND d.id = i.id
          LEFT JOIN ledger_periods p ON p.customer_id = i.customer_id AND p.start_at = i.period_start
         WHERE c.customer_id IS NULL OR d.id IS NULL OR p.start_at IS NULL""",
    "every line has its invoice and its adjustment": """
        SELECT l.customer_id, l.invoice_id, l.id, l.adjustment_id
          FROM invoice_lines l
          LEFT JOIN invoices i ON i.customer_id = l.customer_id AND i.id = l.invoice_id
          LEFT JOIN adjustments a ON a.customer_id = l.customer_id AND a.id = l.adjustment_id
                                 AND a.invoice_id = l.invoice_id
         WHERE i.id IS NULL OR (l.adjustment_id IS NOT NULL AND a.id IS NULL)""",
    "every change of state is in the history": """
        SELECT i.customer_id, i.id, i.state, h.to_state
          FROM invoices i
          LEFT JOIN LATERAL (
               SELECT to_state FROM invoice_history h
                WHERE h.customer_id = i.customer_id AND h.invoice_id = i.id AND h.to_state IS NOT NULL
                ORDER BY h.id DESC LIMIT 1) h ON true
         WHERE h.to_state IS DISTINCT FROM i.state""",
    **of_movements.CHECKS,
    **of_credit.CHECKS,
    **of_tax.CHECKS,
    **of_rating.CHECKS,
}
