"""Checks of tax: each rule as a query that returns the offenders."""

from ledger.money import MINOR_UNITS

_WITHOUT_CENTS = ", ".join(f"'{currency}'" for currency, units in sorted(MINOR_UNITS.items()) if units == 0)

# ruff: noqa: S608 - the queries are put together from constants of this file only
CHECKS: dict[str, str] = {
    "what every invoice owes to tax offices stands in the books": """
        SELECT i.customer_id, i.id, i.number, i.state, i.tax, i.tax_included, b.owed, b.inside
          FROM invoices i
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(CASE 'liabilities:tax' WHEN t.credit_account THEN t.amount
                                   WHEN t.debit_account THEN -t.amount END), 0) AS owed,
                      coalesce(sum(CASE 'income:tax_included' WHEN t.debit_account THEN t.amount
                                   WHEN t.credit_account THEN -t.amount END), 0) AS inside
                 FROM ledger_totals t
                WHERE t.customer_id = i.customer_id AND t.document_id = i.id
                  AND ('liabilities:tax' IN (t.debit_account, t.credit_account)
                       OR 'income:tax_included' IN (t.debit_account, t.credit_account))) b
         WHERE b.owed <> CASE WHEN i.state = 'void' THEN 0 ELSE i.tax + i.tax_included END
            OR b.inside <> CASE WHEN i.state = 'void' THEN 0 ELSE i.tax_included END""",
    "what every credit note gave back of tax stands in the books": """
        SELECT c.customer_id, c.id, c.number, c.voided_at, g.amount, b.given
          FROM credit_notes c
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(t.amount), 0) AS amount FROM credit_note_taxes t
                WHERE t.customer_id = c.customer_id AND t.credit_note_id = c.id) g
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(CASE 'liabilities:tax' WHEN t.debit_account THEN t.amount
                                   WHEN t.credit_account THEN -t.amount END), 0) AS given
                 FROM ledger_totals t
                WHERE t.customer_id = c.customer_id AND t.document_id = c.id
                  AND 'liabilities:tax' IN (t.debit_account, t.credit_account)) b
         WHERE b.given <> CASE WHEN c.voided_at IS NULL THEN g.amount ELSE 0 END""",
    "what is credited in full is taxed no more": """
        SELECT x.customer_id, x.invoice_id, t.name, t.amount, coalesce(g.amount, 0) AS given_back
          FROM (SELECT c.customer_id, c.invoice_id, sum(c.amount) AS amount
                  FROM credit_notes c WHERE c.voided_at IS NULL GROUP BY c.customer_id, c.invoice_id) x
          JOIN invoices i ON i.customer_id = x.customer_id AND i.id = x.invoice_id AND i.total = x.amount
          JOIN invoice_taxes t ON t.customer_id = i.customer_id AND t.invoice_id = i.id
          LEFT JOIN LATERAL (
               SELECT sum(g.amount) AS amount
                 FROM credit_note_taxes g
                 JOIN credit_notes c ON c.customer_id = g.customer_id AND c.id = g.credit_note_id
                                    AND c.voided_at IS NULL
                WHERE g.customer_id = t.customer_id AND g.invoice_id = t.invoice_id AND g.invoice_tax_id = t.id) g
            ON true
         WHERE coalesce(g.amount, 0) <> t.amount""",
    "tax is owed by invoices and credit notes only": """
        SELECT t.customer_id, t.document_id, t.debit_account, t.credit_account, t.amount
          FROM ledger_totals t
         WHERE 'liabilities:tax' IN (t.debit_account, t.credit_account)
           AND NOT EXISTS (SELECT FROM invoices i WHERE i.customer_id = t.customer_id AND i.id = t.document_id)
           AND NOT EXISTS (SELECT FROM credit_notes c WHERE c.customer_id = t.customer_id AND c.id = t.document_id)""",
    # Half a unit is what rounding may take; the last digits are those that a division leaves open.
    "each tax is its rate of its lines, rounded once": f"""
        SELECT t.customer_id, t.invoice_id, t.name, t.percent, t.inclusive, t.amount, e.exact
          FROM invoice_taxes t
          JOIN invoices i ON i.customer_id = t.customer_id AND i.id = t.invoice_id
         CROSS JOIN LATERAL (
               SELECT sum(l.amount * t.percent / (CASE WHEN t.inclusive THEN 100 + p.percent ELSE 100 END)) AS exact
                 FROM invoice_line_taxes s
                 JOIN invoice_lines l ON l.customer_id = s.customer_id AND l.invoice_id = s.invoice_id
                                     AND l.id = s.line_id
                CROSS JOIN LATERAL (
                      SELECT sum(o.percent) AS percent
                        FROM invoice_line_taxes q
                        JOIN invoice_taxes o ON o.customer_id = q.customer_id AND o.invoice_id = q.invoice_id
                                            AND o.id = q.invoice_tax_id
                       WHERE q.customer_id = s.customer_id AND q.invoice_id = s.invoice_id
                         AND q.line_id = s.line_id) p
                WHERE s.customer_id = t.customer_id AND s.invoice_id = t.invoice_id AND s.invoice_tax_id = t.id) e
         WHERE t.tax_rate_id IS NOT NULL
           AND abs(t.amount - coalesce(e.exact, 0))
               > (CASE WHEN i.currency IN ({_WITHOUT_CENTS}) THEN 0.5 ELSE 0.005 END) + 1e-9""",
}
