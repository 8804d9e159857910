"""What was sold, agreed or rated cannot be spent, kept or priced anew behind the books' back.

Why: credit whose payment is disputed must not pay for anything until the bank has decided: the money may be gone.
Locks: none that matter; a function, a trigger and the view `credit_lots` are replaced.
Undo: puts the view back; nothing is lost.
"""

from migrations.sql import run

revision = "0021"
down_revision = "0020"

LOTS = """
-- Whether the bank may still take the payment of a top-up away: its dispute is undecided, or lost before the withdrawal
-- of its money became known. Afterwards the loss has its entries, and what is left of the lot is paid for.
CREATE FUNCTION credit_disputed(customer uuid, top_up uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM public.disputes d
                    WHERE d.customer_id = $1 AND d.invoice_id = $2
                      AND (d.status IN ('needs_response', 'under_review') OR (d.status = 'lost' AND d.withdrawn = 0)))
$$;

CREATE OR REPLACE VIEW credit_lots WITH (security_invoker = true) AS
    SELECT g.customer_id, g.id, g.account, g.amount, g.currency, g.priority, g.expires_at, g.items, g.invoice_id,
           g.created_at,
           g.amount - coalesce((SELECT sum(CASE u.kind WHEN 'returned' THEN -u.amount ELSE u.amount END)
                                  FROM credit_uses u
                                 WHERE u.customer_id = g.customer_id AND u.grant_id = g.id), 0) AS remaining,
           g.invoice_id IS NULL OR i.state IN ('paid', 'uncollectible') AS is_paid,
           g.invoice_id IS NOT NULL AND credit_disputed(g.customer_id, g.invoice_id) AS is_disputed
      FROM credit_grants g
      LEFT JOIN invoices i ON i.customer_id = g.customer_id AND i.id = g.invoice_id;

CREATE FUNCTION credit_uses_undisputed() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF credit_disputed(NEW.customer_id, NEW.grant_id) THEN
        RAISE EXCEPTION 'use % of credit % refused: the payment of its top-up is disputed', NEW.id, NEW.grant_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER undisputed BEFORE INSERT ON credit_uses FOR EACH ROW
    WHEN (NEW.kind = 'applied') EXECUTE FUNCTION credit_uses_undisputed();
"""


def upgrade() -> None:
    run(LOTS)


def downgrade() -> None:
    run("""
        DROP TRIGGER undisputed ON credit_uses;
        DROP FUNCTION credit_uses_undisputed;
        DROP VIEW credit_lots;
        CREATE VIEW credit_lots WITH (security_invoker = true) AS
            SELECT g.customer_id, g.id, g.account, g.amount, g.currency, g.priority, g.expires_at, g.items,
                   g.invoice_id, g.created_at,
                   g.amount - coalesce((SELECT sum(CASE u.kind WHEN 'returned' THEN -u.amount ELSE u.amount END)
                                          FROM credit_uses u
                                         WHERE u.customer_id = g.customer_id AND u.grant_id = g.id), 0) AS remaining,
                   g.invoice_id IS NULL OR i.state IN ('paid', 'uncollectible') AS is_paid
              FROM credit_grants g
              LEFT JOIN invoices i ON i.customer_id = g.customer_id AND i.id = g.invoice_id;
        COMMENT ON VIEW credit_lots IS
            'Every lot of credit with what is left of it, and whether it is paid or was given.';
        GRANT SELECT ON credit_lots TO billing_app, billing_panel;
        DROP FUNCTION credit_disputed;
    """)
