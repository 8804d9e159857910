"""Credit in lots: each grant has an order, an expiry, items it pays for, and a record of every use of it.

Why: a customer is told which credit paid for what and when the rest expires, and no credit is ever used beyond its
amount. A grant becomes a lot; each use of it, its expiry and its revocation is a row with its entry. A lot of prepaid
credit is bought by an invoice of the kind top_up and counts from the moment on which that is paid. What credit paid
before is attributed to the grants that existed by then, the oldest first. What stands on a credit account beyond its
lots (opening balances, kept credit notes) has no row: it is used last and never expires.
Locks: ACCESS EXCLUSIVE on credit_grants while its rows get their currency; on invoices writes wait while an index is
built: about a second for a million invoices.
Undo: drops the columns and the new tables. Refused once a lot was bought, expired or revoked, or has an expiry or a
restriction: the customer would be left without them.
"""

from migrations.sql import run

revision = "0017"
down_revision = "0016"

LOTS = """
-- Several top-ups may begin in one period, so only what bills a period has to be alone in it.
DROP INDEX invoices_one_not_void;
CREATE UNIQUE INDEX invoices_one_not_void ON invoices (customer_id, period_start, kind)
    WHERE state <> 'void' AND kind = 'cycle';
CREATE INDEX invoices_top_ups ON invoices (customer_id, state) WHERE kind = 'top_up';

ALTER TABLE credit_grants
    ADD COLUMN currency   text,
    ADD COLUMN priority   smallint NOT NULL DEFAULT 100 CHECK (priority BETWEEN 0 AND 1000),
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN items      text[],
    ADD COLUMN invoice_id uuid;
ALTER TABLE credit_grants DISABLE TRIGGER append_only;
UPDATE credit_grants g SET currency = b.currency FROM ledger_books b WHERE b.customer_id = g.customer_id;
ALTER TABLE credit_grants ENABLE TRIGGER append_only;
-- Two decimals at most, none where the currency has none: what an invoice is rounded to.
CREATE FUNCTION credit_decimals(currency text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'MGA', 'PYG', 'RWF', 'UGX',
                                  'VND', 'VUV', 'XAF', 'XOF', 'XPF') THEN 0 ELSE 2 END
$$;
ALTER TABLE credit_grants
    ALTER COLUMN currency SET NOT NULL,
    DROP CONSTRAINT credit_grants_account_check,
    ADD CONSTRAINT credit_grants_account_check CHECK (account IN (
        'liabilities:credits:promotional', 'liabilities:credits:goodwill', 'liabilities:credits:prepaid')),
    ADD CONSTRAINT credit_grants_whole_units CHECK (amount = round(amount, public.credit_decimals(currency))),
    ADD CONSTRAINT credit_grants_expire_later CHECK (expires_at > created_at),
    ADD CONSTRAINT credit_grants_items CHECK (
        cardinality(items) BETWEEN 1 AND 100 AND array_position(items, NULL) IS NULL),
    -- Bought money pays for everything; and only what was bought has an invoice, which has the lot's own id.
    ADD CONSTRAINT credit_grants_bought CHECK (
        (account = 'liabilities:credits:prepaid') = (invoice_id IS NOT NULL) AND (invoice_id IS NULL OR items IS NULL)
        AND (invoice_id IS NULL OR invoice_id = id)),
    ADD FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id);
CREATE INDEX credit_grants_expiring ON credit_grants (expires_at, customer_id) WHERE expires_at IS NOT NULL;
COMMENT ON COLUMN credit_grants.priority IS 'Lower is used first; of equals the one that expires first.';
COMMENT ON COLUMN credit_grants.items IS 'The items that it pays for; none: everything.';
COMMENT ON COLUMN credit_grants.invoice_id IS 'The top-up that sold it: usable once that is paid.';

CREATE FUNCTION credit_grants_added() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    books_currency text;
    unknown_item   text;
BEGIN
    SELECT currency INTO books_currency FROM ledger_books WHERE customer_id = NEW.customer_id;
    IF NEW.currency IS DISTINCT FROM books_currency THEN
        RAISE EXCEPTION 'credit % refused: it is in %, the customer is billed in %', NEW.id, NEW.currency,
            books_currency USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT i INTO unknown_item FROM unnest(NEW.items) i WHERE NOT EXISTS (SELECT FROM items k WHERE k.code = i) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'credit % refused: there is no item %', NEW.id, unknown_item
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.invoice_id IS NOT NULL AND NOT EXISTS (
           SELECT FROM invoices i WHERE i.customer_id = NEW.customer_id AND i.id = NEW.invoice_id
              AND i.kind = 'top_up' AND i.total = NEW.amount) THEN
        RAISE EXCEPTION 'credit % refused: invoice % sells no such credit', NEW.id, NEW.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER names_what_exists BEFORE INSERT ON credit_grants FOR EACH ROW EXECUTE FUNCTION credit_grants_added();
"""

USES = """
CREATE TABLE credit_uses (
    customer_id uuid NOT NULL,
    id          uuid NOT NULL,
    grant_id    uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('applied', 'expired', 'revoked', 'returned')),
    invoice_id  uuid,
    amount      numeric NOT NULL CHECK (amount > 0),
    entry_id    uuid NOT NULL,
    at          timestamptz NOT NULL,
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    reason      text CHECK (length(reason) BETWEEN 1 AND 2000),
    PRIMARY KEY (customer_id, id),
    FOREIGN KEY (customer_id, grant_id) REFERENCES credit_grants (customer_id, id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    FOREIGN KEY (customer_id, entry_id) REFERENCES ledger_entries (customer_id, id),
    CONSTRAINT credit_uses_name_their_invoice CHECK (kind NOT IN ('applied', 'returned') OR invoice_id IS NOT NULL),
    CONSTRAINT credit_uses_revoked_for_a_reason CHECK (kind <> 'revoked' OR reason IS NOT NULL)
);
CREATE INDEX credit_uses_by_grant ON credit_uses (customer_id, grant_id);
CREATE INDEX credit_uses_by_invoice ON credit_uses (customer_id, invoice_id) WHERE invoice_id IS NOT NULL;
CREATE INDEX credit_uses_by_entry ON credit_uses (customer_id, entry_id);
COMMENT ON TABLE credit_uses IS
    'What became of each lot of credit: applied to an invoice, expired, revoked; returned gives it back.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_uses
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

-- The grant's row is locked, so that of two uses at once the second sees the first. With its owner's rights, since the
-- application may not lock what it may not change. pg_temp stands last: no temporary table can take our tables' place.
CREATE FUNCTION credit_uses_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    lot   credit_grants;
    entry ledger_entries;
    left_ numeric;
    back  numeric;
BEGIN
    SELECT * INTO lot FROM credit_grants WHERE customer_id = NEW.customer_id AND id = NEW.grant_id FOR UPDATE;
    SELECT * INTO entry FROM ledger_entries WHERE customer_id = NEW.customer_id AND id = NEW.entry_id;
    IF lot.id IS NULL OR entry.id IS NULL THEN
        RAISE EXCEPTION 'use % of credit refused: there is no credit % or no entry %', NEW.id, NEW.grant_id,
            NEW.entry_id USING ERRCODE = 'foreign_key_violation';
    END IF;
    SELECT lot.amount - coalesce(sum(CASE kind WHEN 'returned' THEN -amount ELSE amount END), 0),
           coalesce(sum(CASE kind WHEN 'returned' THEN -amount ELSE amount END)
                    FILTER (WHERE invoice_id = NEW.invoice_id), 0)
      INTO left_, back
      FROM credit_uses WHERE customer_id = NEW.customer_id AND grant_id = NEW.grant_id;
    IF NEW.kind <> 'returned' AND NEW.amount > left_ THEN
        RAISE EXCEPTION 'use % of credit % refused: % is more than the % that are left of it', NEW.id, NEW.grant_id,
            NEW.amount, left_ USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.kind = 'returned' AND NEW.amount > back THEN
        RAISE EXCEPTION 'use % of credit % refused: invoice % took %, it cannot give % back', NEW.id, NEW.grant_id,
            NEW.invoice_id, back, NEW.amount USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.kind = 'expired' AND (lot.expires_at IS NULL OR NEW.at < lot.expires_at) THEN
        RAISE EXCEPTION 'use % of credit % refused: it has not expired', NEW.id, NEW.grant_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.kind = 'applied' AND lot.invoice_id IS NOT NULL AND NOT EXISTS (
           SELECT FROM invoices i WHERE i.customer_id = lot.customer_id AND i.id = lot.invoice_id
              AND i.state IN ('paid', 'uncollectible')) THEN
        RAISE EXCEPTION 'use % of credit % refused: the top-up that sells it is not paid', NEW.id, NEW.grant_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (CASE NEW.kind WHEN 'returned' THEN entry.credit_account ELSE entry.debit_account END) <> lot.account
       OR (NEW.kind = 'applied' AND (entry.credit_account <> 'assets:receivable'
                                     OR entry.document_id IS DISTINCT FROM NEW.invoice_id))
       OR entry.amount < NEW.amount + (SELECT coalesce(sum(u.amount), 0) FROM credit_uses u
                                        WHERE u.customer_id = NEW.customer_id AND u.entry_id = NEW.entry_id) THEN
        RAISE EXCEPTION 'use % of credit % refused: entry % is not what it says', NEW.id, NEW.grant_id, NEW.entry_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION credit_uses_added FROM PUBLIC;
CREATE TRIGGER within_the_lot BEFORE INSERT ON credit_uses FOR EACH ROW EXECUTE FUNCTION credit_uses_added();
GRANT SELECT, INSERT ON credit_uses TO billing_app;

CREATE VIEW credit_lots WITH (security_invoker = true) AS
    SELECT g.customer_id, g.id, g.account, g.amount, g.currency, g.priority, g.expires_at, g.items, g.invoice_id,
           g.created_at,
           g.amount - coalesce((SELECT sum(CASE u.kind WHEN 'returned' THEN -u.amount ELSE u.amount END)
                                  FROM credit_uses u
                                 WHERE u.customer_id = g.customer_id AND u.grant_id = g.id), 0) AS remaining,
           g.invoice_id IS NULL OR i.state IN ('paid', 'uncollectible') AS is_paid
      FROM credit_grants g
      LEFT JOIN invoices i ON i.customer_id = g.customer_id AND i.id = g.invoice_id;
COMMENT ON VIEW credit_lots IS 'Every lot of credit with what is left of it, and whether it is paid or was given.';
GRANT SELECT ON credit_lots TO billing_app, billing_panel;
"""

# The one place where uses are written that have an entry in common: before there were lots, an invoice had one entry
# for each kind of credit. An entry takes from the grants that were posted before it, the oldest first.
BACKFILL = """
DO $$
DECLARE
    entry record;
    lot   record;
    left_ numeric;
    part  numeric;
BEGIN
    FOR entry IN
        SELECT e.customer_id, e.id, e.seq, e.debit_account, e.amount, e.document_id, e.effective_at, e.actor
          FROM ledger_entries e
         WHERE e.kind = 'credit' AND e.credit_account = 'assets:receivable' AND e.reverses_id IS NULL
           AND EXISTS (SELECT FROM credit_grants g WHERE g.customer_id = e.customer_id AND g.account = e.debit_account)
           AND NOT EXISTS (SELECT FROM ledger_entries r WHERE r.customer_id = e.customer_id AND r.reverses_id = e.id)
         ORDER BY e.customer_id, e.seq
    LOOP
        left_ := entry.amount;
        FOR lot IN
            SELECT l.id, l.remaining
              FROM credit_lots l
              JOIN ledger_entries e ON e.customer_id = l.customer_id AND e.document_id = l.id AND e.kind = 'grant'
             WHERE l.customer_id = entry.customer_id AND l.account = entry.debit_account AND l.remaining > 0
               AND e.seq < entry.seq
             ORDER BY e.seq
        LOOP
            EXIT WHEN left_ = 0;
            part := least(left_, lot.remaining);
            INSERT INTO credit_uses (customer_id, id, grant_id, kind, invoice_id, amount, entry_id, at, actor)
            VALUES (entry.customer_id, gen_random_uuid(), lot.id, 'applied', entry.document_id, part, entry.id,
                    entry.effective_at, entry.actor);
            left_ := left_ - part;
        END LOOP;
    END LOOP;
END $$;
"""

REFILLS = """
CREATE TABLE refill_rules (
    customer_id uuid NOT NULL REFERENCES customers,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    threshold   numeric CHECK (threshold >= 0 AND threshold < 1e12),
    amount      numeric CHECK (amount > 0 AND amount <= 1e6),
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    set_at      timestamptz NOT NULL,
    PRIMARY KEY (customer_id, id),
    CONSTRAINT refill_rules_are_whole CHECK (num_nonnulls(threshold, amount) IN (0, 2))
);
COMMENT ON TABLE refill_rules IS 'The last row of a customer counts; without amounts nothing is refilled.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON refill_rules
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
GRANT SELECT, INSERT ON refill_rules TO billing_app;
"""

# As in migration 0006. Who granted it, and what they wrote about it, is none of the customer's business.
READ_BY_CUSTOMER = {
    "credit_grants": (
        "(customer_id, id, account, amount, currency, priority, expires_at, items, invoice_id, created_at)"
    ),
    "credit_uses": "(customer_id, id, grant_id, kind, invoice_id, amount, entry_id, at)",
    "refill_rules": "(customer_id, id, threshold, amount, set_at)",
}
POLICIES = "".join(
    f"""
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON {table} TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON {table} FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT {columns} ON {table} TO billing_panel;
"""
    for table, columns in READ_BY_CUSTOMER.items()
)


def upgrade() -> None:
    for part in (LOTS, USES, BACKFILL, REFILLS, POLICIES):
        run(part)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM credit_grants
                        WHERE invoice_id IS NOT NULL OR items IS NOT NULL OR expires_at IS NOT NULL)
               OR EXISTS (SELECT FROM credit_uses WHERE kind IN ('expired', 'revoked')) THEN
                RAISE EXCEPTION 'credit was bought, expired, revoked or has conditions: they would be forgotten';
            END IF;
        END $$;
        DROP VIEW credit_lots;
        DROP TABLE refill_rules, credit_uses;
        DROP FUNCTION credit_uses_added;
        DROP TRIGGER names_what_exists ON credit_grants;
        DROP FUNCTION credit_grants_added;
        REVOKE SELECT (customer_id, id, account, amount, currency, priority, expires_at, items, invoice_id, created_at)
            ON credit_grants FROM billing_panel;
        DROP POLICY of_one_customer ON credit_grants;
        DROP POLICY of_everyone ON credit_grants;
        ALTER TABLE credit_grants DISABLE ROW LEVEL SECURITY;
        ALTER TABLE credit_grants DROP COLUMN currency, DROP COLUMN priority, DROP COLUMN expires_at,
            DROP COLUMN items, DROP COLUMN invoice_id, DROP CONSTRAINT credit_grants_account_check,
            ADD CONSTRAINT credit_grants_account_check
                CHECK (account IN ('liabilities:credits:promotional', 'liabilities:credits:goodwill'));
        DROP FUNCTION credit_decimals;
        DROP INDEX invoices_top_ups;
        DROP INDEX invoices_one_not_void;
        CREATE UNIQUE INDEX invoices_one_not_void ON invoices (customer_id, period_start, kind) WHERE state <> 'void';
    """)
