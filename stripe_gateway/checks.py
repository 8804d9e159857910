"""Checks: each rule that ties the outbox and the inbox to invoices and payments, as a query that returns the offenders.

Empty means that the rule holds. They look at our side alone; `reconciliation` asks Stripe.
"""

CHECKS: dict[str, str] = {
    "every payment from Stripe has its cause written down, and every such cause its payment": """
        SELECT coalesce(p.customer_id, e.customer_id) AS customer_id, p.external_id, e.key
          FROM (SELECT customer_id, external_id, 'ip:' || external_id AS key FROM payments WHERE provider = 'stripe') p
          FULL JOIN (SELECT customer_id, key FROM stripe_effects WHERE starts_with(key, 'ip:')) e
            ON e.customer_id = p.customer_id AND e.key = p.key
         WHERE p.key IS NULL OR e.key IS NULL""",
    "what was submitted to Stripe is a numbered invoice with that number and currency": """
        SELECT s.customer_id, s.invoice_id, s.number
          FROM stripe_syncs s
          JOIN invoices i ON i.customer_id = s.customer_id AND i.id = s.invoice_id
         WHERE (i.number, i.currency) IS DISTINCT FROM (s.number, s.currency) OR i.amount_due <= 0""",
    "an invoice that stands at Stripe was asked for by frozen requests": """
        SELECT s.customer_id, s.invoice_id, s.number
          FROM stripe_syncs s
         WHERE s.state = 'done' AND NOT EXISTS (
               SELECT FROM stripe_requests r
                WHERE r.customer_id = s.customer_id AND r.subject_id = s.invoice_id AND r.step = 'create')""",
    "an operation at Stripe and the movement that asked for it ended together": """
        SELECT o.customer_id, o.id, o.kind, o.state, m.state AS movement
          FROM stripe_operations o
          JOIN movements m ON m.customer_id = o.customer_id AND m.id = o.movement_id
         WHERE o.kind <> 'refund' AND (o.state IN ('done', 'refused')) <> (m.state IN ('done', 'refused'))""",
    "a refund that was asked of Stripe is the one in the books, and one that Stripe refused has failed": """
        SELECT o.customer_id, o.id, o.state, o.external_id, r.state AS refund
          FROM stripe_operations o
          LEFT JOIN refunds r ON r.customer_id = o.customer_id AND r.id = o.id
         WHERE o.kind = 'refund' AND (r.id IS NULL
               OR (o.state = 'done' AND r.external_id IS DISTINCT FROM o.external_id)
               OR (o.state = 'refused' AND r.state <> 'failed'))""",
    "an operation that was sent was asked for by a frozen request": """
        SELECT o.customer_id, o.id, o.kind
          FROM stripe_operations o
         WHERE o.step = 'send' AND NOT EXISTS (
               SELECT FROM stripe_requests r
                WHERE r.customer_id = o.customer_id AND r.subject_id = o.id AND r.generation = o.generation)""",
    "an invoice whose sync was canceled is void, or about to be": """
        SELECT s.customer_id, s.invoice_id, s.number, i.state
          FROM stripe_syncs s
          JOIN invoices i ON i.customer_id = s.customer_id AND i.id = s.invoice_id
         WHERE s.state = 'canceled' AND i.state <> 'void' AND NOT EXISTS (
               SELECT FROM stripe_operations o
                WHERE o.customer_id = s.customer_id AND o.invoice_id = s.invoice_id AND o.kind = 'void'
                  AND o.state NOT IN ('done', 'refused'))""",
}
