"""Checks of credit: each rule as a query that returns the offenders."""

MONEY_GONE = """
        SELECT i.customer_id, i.id, i.number, l.remaining, m.credited, m.lost, t.for_credited, t.for_lost
          FROM invoices i
          JOIN credit_lots l ON l.customer_id = i.customer_id AND l.id = i.id
         CROSS JOIN LATERAL (
               SELECT (SELECT coalesce(sum(c.amount), 0) FROM credit_notes c
                        WHERE c.customer_id = i.customer_id AND c.invoice_id = i.id AND c.voided_at IS NULL)
                      AS credited,
                      (SELECT coalesce(sum(greatest(d.withdrawn - d.reinstated, 0)), 0) FROM disputes d
                        WHERE d.customer_id = i.customer_id AND d.invoice_id = i.id AND d.status = 'lost') AS lost) m
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(CASE t.debit_account WHEN 'income:adjustments' THEN -t.amount
                                   ELSE CASE t.credit_account WHEN 'income:adjustments' THEN t.amount END END), 0)
                      AS for_credited,
                      coalesce(sum(CASE t.debit_account WHEN 'expenses:chargebacks' THEN -t.amount
                                   ELSE CASE t.credit_account WHEN 'expenses:chargebacks' THEN t.amount END END), 0)
                      AS for_lost
                 FROM ledger_totals t
                WHERE t.customer_id = i.customer_id AND t.document_id = i.id
                  AND 'liabilities:credits:prepaid' IN (t.debit_account, t.credit_account)) t
         CROSS JOIN LATERAL (SELECT l.remaining + t.for_credited + t.for_lost AS amount) there
         WHERE i.kind = 'top_up'
           AND (t.for_credited <> least(there.amount, m.credited)
                OR t.for_lost <> least(there.amount - least(there.amount, m.credited), m.lost))"""
"""Top-ups whose lot does not say what follows from money that went back, as `follow_money_gone` makes it do."""

CHECKS: dict[str, str] = {
    "credit whose money went back is gone as far as it is left": MONEY_GONE,
    "no lot of credit is used beyond its amount": """
        SELECT customer_id, id, account, amount, remaining FROM credit_lots
         WHERE remaining < 0 OR remaining > amount""",
    "what is left of the lots stands in the books": """
        SELECT l.customer_id, l.account, l.remaining, b.balance
          FROM (SELECT customer_id, account, sum(remaining) AS remaining FROM credit_lots
                 GROUP BY customer_id, account) l
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(CASE l.account WHEN t.credit_account THEN t.amount ELSE -t.amount END), 0) AS balance
                 FROM ledger_totals t
                WHERE t.customer_id = l.customer_id AND l.account IN (t.credit_account, t.debit_account)) b
         WHERE l.remaining > b.balance""",
    "every lot of credit was granted or sold by its entry": """
        SELECT g.customer_id, g.id, g.account, g.amount, e.amount AS posted
          FROM credit_grants g
          LEFT JOIN LATERAL (
               SELECT sum(e.amount) AS amount FROM ledger_entries e
                WHERE e.customer_id = g.customer_id AND e.document_id = g.id AND e.credit_account = g.account
                  AND e.reverses_id IS NULL
                  AND e.debit_account = CASE WHEN g.invoice_id IS NULL THEN 'income:promotions'
                                             ELSE 'assets:receivable' END) e ON true
         WHERE e.amount IS DISTINCT FROM g.amount""",
    "every use of credit is its entry": """
        SELECT u.customer_id, u.id, u.grant_id, u.kind, u.amount, e.amount AS posted, e.debit_account, e.credit_account
          FROM credit_uses u
          JOIN credit_grants g ON g.customer_id = u.customer_id AND g.id = u.grant_id
          LEFT JOIN ledger_entries e ON e.customer_id = u.customer_id AND e.id = u.entry_id
         WHERE e.id IS NULL OR u.amount > e.amount
            OR (CASE u.kind WHEN 'returned' THEN e.credit_account ELSE e.debit_account END) <> g.account
            OR (u.kind = 'applied' AND (e.credit_account <> 'assets:receivable' OR e.document_id <> u.invoice_id))""",
    "no entry is more than one use of credit, but those from before there were lots": """
        SELECT u.customer_id, u.entry_id, sum(u.amount) AS uses, e.amount
          FROM credit_uses u JOIN ledger_entries e ON e.customer_id = u.customer_id AND e.id = u.entry_id
         GROUP BY u.customer_id, u.entry_id, e.amount HAVING sum(u.amount) > e.amount""",
    "what lots paid of an invoice is within what credits paid": """
        SELECT i.customer_id, i.id, i.number, i.state, i.credits_applied, u.amount
          FROM invoices i
          JOIN LATERAL (
               SELECT sum(CASE u.kind WHEN 'applied' THEN u.amount WHEN 'returned' THEN -u.amount END) AS amount
                 FROM credit_uses u WHERE u.customer_id = i.customer_id AND u.invoice_id = i.id) u ON true
         WHERE i.kind = 'cycle' AND u.amount IS NOT NULL
           AND (CASE WHEN i.state = 'void' THEN u.amount <> 0
                     ELSE u.amount < 0 OR u.amount > coalesce(i.credits_applied, 0) END)""",
    "a top-up sells one lot, for what it bills": """
        SELECT i.customer_id, i.id, i.number, i.state, i.total, g.amount
          FROM invoices i LEFT JOIN credit_grants g ON g.customer_id = i.customer_id AND g.id = i.id
         WHERE i.kind = 'top_up'
           AND (g.id IS NULL OR g.amount IS DISTINCT FROM i.total OR g.invoice_id IS DISTINCT FROM i.id
                OR i.state NOT IN ('final', 'paid', 'void', 'uncollectible'))""",
    "credit that was bought is paid for or taken back": """
        SELECT i.customer_id, i.id, i.number, i.state, l.remaining
          FROM invoices i JOIN credit_lots l ON l.customer_id = i.customer_id AND l.id = i.id
         WHERE i.kind = 'top_up'
           AND ((i.state = 'void' AND l.remaining <> 0)
                OR (i.state = 'uncollectible' AND l.remaining > i.amount_paid))""",
}
