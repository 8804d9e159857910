"""Checks of what happens after an invoice is final: each rule as a query that returns the offenders."""

_UNAPPLIED = """
    SELECT d.customer_id, d.invoice_id,
           sum(CASE WHEN t.credit_account = 'liabilities:unapplied' THEN t.amount ELSE -t.amount END) AS amount
      FROM (SELECT customer_id, id AS invoice_id, id FROM invoices
            UNION ALL SELECT customer_id, invoice_id, id FROM credit_notes
            UNION ALL SELECT customer_id, invoice_id, id FROM refunds) d
      JOIN ledger_totals t ON t.customer_id = d.customer_id AND t.document_id = d.id
     WHERE 'liabilities:unapplied' IN (t.debit_account, t.credit_account)
     GROUP BY d.customer_id, d.invoice_id
"""

# ruff: noqa: S608 - the queries are put together from constants of this file only
CHECKS: dict[str, str] = {
    "credit notes add up to what the invoice says is credited": """
        SELECT i.customer_id, i.id, i.number, i.amount_credited, n.unpaid, n.amount, i.total, r.amount AS entries
          FROM invoices i
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(c.unpaid_part), 0) AS unpaid, coalesce(sum(c.amount), 0) AS amount
                 FROM credit_notes c
                WHERE c.customer_id = i.customer_id AND c.invoice_id = i.id AND c.voided_at IS NULL) n ON true
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(t.amount), 0) AS amount FROM ledger_totals t
                WHERE t.customer_id = i.customer_id AND t.document_id = i.id
                  AND t.debit_account = 'income:adjustments' AND t.credit_account = 'assets:receivable') r ON true
         WHERE i.amount_credited <> n.unpaid OR r.amount <> n.unpaid OR n.amount > coalesce(i.total, 0)""",
    "every credit note has its entries": """
        SELECT c.customer_id, c.id, c.number, c.cash_part, e.cash, c.credits_part, e.credits, c.disposition, e.kept,
               c.voided_at, e.taken_back
          FROM credit_notes c
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(t.amount) FILTER (WHERE t.debit_account = 'income:adjustments'
                          AND t.credit_account = 'liabilities:unapplied'), 0) AS cash,
                      coalesce(sum(t.amount) FILTER (WHERE t.debit_account = 'income:adjustments'
                          AND t.credit_account LIKE 'liabilities:credits:%'), 0) AS credits,
                      coalesce(sum(t.amount) FILTER (WHERE t.debit_account = 'liabilities:unapplied'
                          AND t.credit_account = 'liabilities:credits:prepaid'), 0) AS kept,
                      coalesce(sum(t.amount) FILTER (WHERE t.debit_account = 'liabilities:unapplied'
                          AND t.credit_account = 'income:adjustments'), 0) AS taken_back,
                      coalesce(sum(t.amount) FILTER (
                          WHERE 'liabilities:tax' NOT IN (t.debit_account, t.credit_account)), 0) AS everything
                 FROM ledger_totals t WHERE t.customer_id = c.customer_id AND t.document_id = c.id) e ON true
         WHERE c.cash_part <> e.cash OR c.credits_part <> e.credits
            OR e.kept <> CASE c.disposition WHEN 'keep' THEN c.cash_part ELSE 0 END
            OR e.taken_back <> CASE WHEN c.voided_at IS NULL THEN 0 ELSE c.cash_part END
            OR e.everything <> e.cash + e.credits + e.kept + e.taken_back""",
    "every void credit note is of a refund that did not arrive": """
        SELECT c.customer_id, c.id, c.number, c.void_reason, r.external_id, r.state
          FROM credit_notes c
          LEFT JOIN refunds r ON r.customer_id = c.customer_id AND r.credit_note_id = c.id
         WHERE c.voided_at IS NOT NULL
           AND (r.id IS NULL OR r.movement_id IS NOT NULL OR r.state NOT IN ('failed', 'canceled'))""",
    "what refunds sent back has left the books, and nothing else": """
        SELECT r.customer_id, r.id, r.state, r.amount, e.sent
          FROM refunds r
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(CASE 'liabilities:unapplied' WHEN t.debit_account THEN t.amount
                                   WHEN t.credit_account THEN -t.amount END), 0) AS sent
                 FROM ledger_totals t
                WHERE t.customer_id = r.customer_id AND t.document_id = r.id
                  AND (t.debit_account IN ('assets:stripe', 'assets:bank')
                       OR t.credit_account IN ('assets:stripe', 'assets:bank'))) e ON true
         WHERE e.sent <> CASE r.state WHEN 'succeeded' THEN r.amount ELSE 0 END""",
    "no payment is refunded beyond its amount": """
        SELECT p.customer_id, p.provider, p.external_id, p.amount, sum(r.amount) AS refunded
          FROM payments p
          JOIN refunds r ON r.customer_id = p.customer_id AND r.provider = p.provider
                        AND r.payment_external_id = p.external_id AND r.state NOT IN ('failed', 'canceled')
         GROUP BY p.customer_id, p.provider, p.external_id, p.amount HAVING sum(r.amount) > p.amount""",
    "no customer's money is promised twice": f"""
        SELECT i.customer_id, i.id, i.number, coalesce(u.amount, 0) AS unapplied, p.amount AS promised
          FROM invoices i
          LEFT JOIN ({_UNAPPLIED}) u ON u.customer_id = i.customer_id AND u.invoice_id = i.id
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(r.amount), 0) AS amount FROM refunds r
                WHERE r.customer_id = i.customer_id AND r.invoice_id = i.id AND r.state IN ('requested', 'pending')
               ) p ON true
         WHERE coalesce(u.amount, 0) < p.amount""",
    "every customer's unapplied money is of an invoice": f"""
        SELECT coalesce(b.customer_id, u.customer_id) AS customer_id, b.amount AS unapplied, u.amount AS of_invoices
          FROM (SELECT customer_id,
                       sum(CASE WHEN credit_account = 'liabilities:unapplied' THEN amount ELSE -amount END) AS amount
                  FROM ledger_totals WHERE 'liabilities:unapplied' IN (debit_account, credit_account)
                 GROUP BY customer_id) b
          FULL JOIN (SELECT customer_id, sum(amount) AS amount FROM ({_UNAPPLIED}) x GROUP BY customer_id) u
            ON u.customer_id = b.customer_id
         WHERE b.amount IS DISTINCT FROM u.amount""",
    "every dispute's money is where its row says": """
        SELECT d.customer_id, d.id, d.external_id, d.status, d.withdrawn, d.reinstated, d.fees, e.disputed, e.lost,
               e.fee
          FROM disputes d
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(CASE 'assets:disputed' WHEN t.debit_account THEN t.amount
                                   WHEN t.credit_account THEN -t.amount END), 0) AS disputed,
                      coalesce(sum(CASE 'expenses:chargebacks' WHEN t.debit_account THEN t.amount
                                   WHEN t.credit_account THEN -t.amount END), 0) AS lost,
                      coalesce(sum(CASE 'expenses:dispute_fees' WHEN t.debit_account THEN t.amount
                                   WHEN t.credit_account THEN -t.amount END), 0) AS fee
                 FROM ledger_totals t WHERE t.customer_id = d.customer_id AND t.document_id = d.id) e ON true
         WHERE e.fee <> d.fees OR e.disputed + e.lost <> d.withdrawn - d.reinstated
            OR e.lost <> CASE d.status WHEN 'lost' THEN greatest(d.withdrawn - d.reinstated, 0) ELSE 0 END""",
    "every payout's money is where its row says": """
        SELECT p.customer_id, p.id, p.external_id, p.status, p.amount, e.bank
          FROM payouts p
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(CASE 'assets:bank' WHEN t.debit_account THEN t.amount
                                   WHEN t.credit_account THEN -t.amount END), 0) AS bank
                 FROM ledger_totals t WHERE t.customer_id = p.customer_id AND t.document_id = p.id) e ON true
         WHERE e.bank <> CASE p.status WHEN 'paid' THEN p.amount ELSE 0 END""",
    "what customers settled with the house, the house settled with customers": """
        SELECT b.currency,
               sum(CASE 'assets:house' WHEN t.debit_account THEN t.amount WHEN t.credit_account THEN -t.amount END)
               AS customers,
               sum(CASE 'assets:customers' WHEN t.debit_account THEN t.amount WHEN t.credit_account THEN -t.amount END)
               AS house
          FROM ledger_totals t JOIN ledger_books b USING (customer_id)
         WHERE 'assets:house' IN (t.debit_account, t.credit_account)
            OR 'assets:customers' IN (t.debit_account, t.credit_account)
         GROUP BY b.currency
        HAVING sum(CASE WHEN t.debit_account IN ('assets:house', 'assets:customers') THEN t.amount ELSE -t.amount END)
               <> 0""",
    "what was exchanged stands in the customer's books and in both of the house's, and nothing else does": """
        SELECT transaction, customer_id, currency, sum(passed) AS passed, sum(given) AS given, sum(got) AS got,
               sum(kept) AS kept
          FROM (SELECT external_id AS transaction, customer_id, currency, amount AS passed, 0 AS given, 0 AS got,
                       0 AS kept
                  FROM exchanges
                 UNION ALL
                SELECT external_id, NULL, currency, 0, amount, 0, 0 FROM exchanges
                 UNION ALL
                SELECT external_id, NULL, settled_currency, 0, 0, settled, fee FROM exchanges
                 UNION ALL
                SELECT e.labels ->> 'transaction', CASE b.holder WHEN 'customer' THEN b.customer_id END, b.currency,
                       CASE (e.debit_account, e.credit_account)::text WHEN '(assets:house,assets:stripe)' THEN -e.amount
                            WHEN '(assets:stripe,assets:house)' THEN e.amount ELSE 0 END,
                       CASE (e.debit_account, e.credit_account)::text
                            WHEN '(income:exchange,assets:customers)' THEN -e.amount
                            WHEN '(assets:customers,income:exchange)' THEN e.amount ELSE 0 END,
                       CASE (e.debit_account, e.credit_account)::text
                            WHEN '(assets:stripe,income:exchange)' THEN -e.amount
                            WHEN '(income:exchange,assets:stripe)' THEN e.amount ELSE 0 END,
                       CASE (e.debit_account, e.credit_account)::text
                            WHEN '(expenses:provider_fees,assets:stripe)' THEN -e.amount
                            WHEN '(assets:stripe,expenses:provider_fees)' THEN e.amount ELSE 0 END
                  FROM ledger_entries e JOIN ledger_books b USING (customer_id)
                 WHERE e.kind IN ('payout', 'fee')
                   AND (e.labels ? 'exchange' OR 'income:exchange' IN (e.debit_account, e.credit_account))) legs
         GROUP BY transaction, customer_id, currency
        HAVING sum(passed) <> 0 OR sum(given) <> 0 OR sum(got) <> 0 OR sum(kept) <> 0""",
    "every movement that is done has its effect": """
        SELECT m.customer_id, m.id, m.kind, m.state, m.amount, i.state AS invoice_state
          FROM movements m JOIN invoices i ON i.customer_id = m.customer_id AND i.id = m.invoice_id
         WHERE CASE m.kind
               WHEN 'credit_note' THEN m.state IN ('working', 'done', 'refused') AND NOT EXISTS (
                    SELECT FROM credit_notes c WHERE c.customer_id = m.customer_id AND c.movement_id = m.id
                       AND c.amount = m.amount AND c.invoice_id = m.invoice_id)
               WHEN 'refund_unapplied' THEN m.state IN ('working', 'done', 'refused') AND m.amount IS DISTINCT FROM (
                    SELECT sum(r.amount) FROM refunds r WHERE r.customer_id = m.customer_id AND r.movement_id = m.id)
               WHEN 'outside_payment' THEN m.state IN ('working', 'done', 'refused') AND NOT EXISTS (
                    SELECT FROM payments p WHERE p.customer_id = m.customer_id AND p.provider = 'manual'
                       AND p.external_id = btrim(m.options ->> 'reference') AND p.invoice_id = m.invoice_id
                       AND p.amount = m.amount)
               WHEN 'void' THEN m.state = 'done' AND i.state <> 'void'
               WHEN 'write_off' THEN m.state = 'done' AND i.state NOT IN ('uncollectible', 'paid', 'void')
               ELSE false END""",
    "what was kept as credit was asked for": """
        SELECT i.customer_id, i.id, i.number, coalesce(m.amount, 0) AS asked, coalesce(t.amount, 0) AS kept
          FROM invoices i
          LEFT JOIN LATERAL (
               SELECT sum(m.amount) AS amount FROM movements m
                WHERE m.customer_id = i.customer_id AND m.invoice_id = i.id AND m.kind = 'keep_unapplied'
                  AND m.state = 'done') m ON true
          LEFT JOIN LATERAL (
               SELECT sum(t.amount) AS amount FROM ledger_totals t
                WHERE t.customer_id = i.customer_id AND t.document_id = i.id
                  AND t.debit_account = 'liabilities:unapplied'
                  AND t.credit_account = 'liabilities:credits:prepaid') t ON true
         WHERE coalesce(m.amount, 0) <> coalesce(t.amount, 0)""",
    "every ended invoice was ended by a movement": """
        SELECT i.customer_id, i.id, i.number, i.state
          FROM invoices i
         WHERE i.state IN ('void', 'uncollectible') AND NOT EXISTS (
               SELECT FROM movements m
                WHERE m.customer_id = i.customer_id AND m.invoice_id = i.id AND m.state = 'done'
                  AND m.kind = CASE i.state WHEN 'void' THEN 'void' ELSE 'write_off' END)""",
    "what was made void is billed again or given up": """
        SELECT i.customer_id, i.id, i.number, i.period_start, u.charges
          FROM invoices i
          LEFT JOIN LATERAL (
               SELECT coalesce(sum(u.amount), 0) AS charges FROM ledger_unbilled u
                WHERE u.customer_id = i.customer_id
                  AND (u.document_id = i.id OR (u.document_id IS NULL AND u.period_start = i.period_start))) u ON true
         WHERE i.state = 'void' AND i.kind = 'cycle' AND u.charges <> 0 AND NOT EXISTS (
               SELECT FROM invoices later
                WHERE later.customer_id = i.customer_id AND later.period_start = i.period_start
                  AND later.kind = i.kind AND later.generation > i.generation)""",
}
