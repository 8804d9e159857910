"""Counters beside the running totals: how much of a price's tiers, allowance and included credit a customer has used.

Why: with tiers, an event's charge is what the running total costs after it minus what it cost before it. Summing the
ledger's totals for each event would read a customer's whole month a thousand times a batch; a counter is one row, and
changes in the transaction of the entries that it counts. docs/decisions/0012-rating-by-running-totals.md has the rest.
Locks: none that matter; all tables are new.
Undo: drops the counters; nothing is lost, since all of them follow from the ledger's totals.
"""

from migrations.sql import run

revision = "0015"
down_revision = "0014"

TABLES = """
CREATE TABLE rating_counters (
    customer_id  uuid NOT NULL,
    rating_start timestamptz NOT NULL,
    price_id     uuid NOT NULL,
    item         text NOT NULL,
    quantity     numeric NOT NULL CHECK (abs(quantity) < 1e30),
    amount       numeric NOT NULL CHECK (abs(amount) < 1e30),
    PRIMARY KEY (customer_id, rating_start, price_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE rating_counters IS
    'What a customer used at one price in one rating period and what it cost, of prices that count a whole period.';

CREATE TABLE rated_quantities (
    customer_id  uuid NOT NULL,
    rating_start timestamptz NOT NULL,
    item         text NOT NULL,
    quantity     numeric NOT NULL CHECK (abs(quantity) < 1e30),
    PRIMARY KEY (customer_id, rating_start, item)
) WITH (fillfactor = 70);
COMMENT ON TABLE rated_quantities IS
    'What a customer used of an item on which another item''s allowance depends, at whatever price.';

CREATE TABLE usage_charges (
    customer_id     uuid NOT NULL REFERENCES ledger_books,
    rating_start    timestamptz NOT NULL,
    amount          numeric NOT NULL CHECK (abs(amount) < 1e30),
    included        numeric NOT NULL CHECK (included >= 0 AND included < 1e15),
    credited        numeric NOT NULL,
    plan_version_id uuid NOT NULL,
    item            text NOT NULL,
    PRIMARY KEY (customer_id, rating_start),
    CONSTRAINT usage_charges_credit_follows_usage CHECK (credited = least(included, greatest(amount, 0)))
) WITH (fillfactor = 70);
COMMENT ON TABLE usage_charges IS
    'What usage cost so far, of customers whose plan ever included usage, and how much of it the plan gave back.';
"""

GUARDS = """
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON rating_counters
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON rated_quantities
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON usage_charges
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

CREATE FUNCTION rating_counter_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'UPDATE of % refused: what is counted, for whom and in which period, is for life', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER stays BEFORE UPDATE ON rating_counters FOR EACH ROW
    WHEN ((NEW.customer_id, NEW.rating_start, NEW.price_id, NEW.item)
          IS DISTINCT FROM (OLD.customer_id, OLD.rating_start, OLD.price_id, OLD.item))
    EXECUTE FUNCTION rating_counter_moved();
CREATE TRIGGER stays BEFORE UPDATE ON rated_quantities FOR EACH ROW
    WHEN ((NEW.customer_id, NEW.rating_start, NEW.item)
          IS DISTINCT FROM (OLD.customer_id, OLD.rating_start, OLD.item))
    EXECUTE FUNCTION rating_counter_moved();
CREATE TRIGGER stays BEFORE UPDATE ON usage_charges FOR EACH ROW
    WHEN ((NEW.customer_id, NEW.rating_start) IS DISTINCT FROM (OLD.customer_id, OLD.rating_start))
    EXECUTE FUNCTION rating_counter_moved();

-- A counter follows entries: what changes it has posted to the customer's books since its transaction began. Asked once
-- for a statement, and instead of a foreign key: counters come by the thousand. Plans are kept for the session, and
-- look-ups by key are right for every batch.
CREATE FUNCTION rating_counters_written() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    offender record;
BEGIN
    SELECT w.customer_id INTO offender
      FROM (SELECT DISTINCT customer_id FROM written) w
      LEFT JOIN ledger_books b ON b.customer_id = w.customer_id
     WHERE b.last_recorded_at IS NULL OR b.last_recorded_at < now() LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% of % refused: nothing was posted to the books of %, and counters follow the entries', TG_OP,
            TG_TABLE_NAME, offender.customer_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follows_entries AFTER INSERT ON rating_counters
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION rating_counters_written();
CREATE TRIGGER follows_entries_on AFTER UPDATE ON rating_counters
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION rating_counters_written();
CREATE TRIGGER follows_entries AFTER INSERT ON rated_quantities
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION rating_counters_written();
CREATE TRIGGER follows_entries_on AFTER UPDATE ON rated_quantities
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION rating_counters_written();

-- Charges begin to be counted when a plan begins, from what was posted before, without an entry of their own; from then
-- on what was charged and what was given back only changes with entries.
CREATE FUNCTION usage_charges_written() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger_books b WHERE b.customer_id = NEW.customer_id
                  AND (b.last_recorded_at IS NULL OR b.last_recorded_at < now())) THEN
        RAISE EXCEPTION '% of % refused: nothing was posted to the books of %, and counters follow the entries', TG_OP,
            TG_TABLE_NAME, NEW.customer_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follows_entries AFTER INSERT ON usage_charges FOR EACH ROW
    WHEN (NEW.credited <> 0) EXECUTE FUNCTION usage_charges_written();
CREATE TRIGGER follows_entries_on AFTER UPDATE ON usage_charges FOR EACH ROW
    WHEN ((NEW.amount, NEW.credited) IS DISTINCT FROM (OLD.amount, OLD.credited))
    EXECUTE FUNCTION usage_charges_written();
"""

FUNCTIONS = """
-- From when on the period that starts at `period_start` counts tiers and allowances: its own start, unless an earlier
-- part of the same calendar's period was billed before its end (0019 says so).
CREATE FUNCTION rating_start(customer uuid, period_start timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT period_start';

-- One round trip before a batch that nothing seems to count: the locks of the books in customer order, and only then,
-- in a statement of its own, whether charges of one of these customers are counted.
CREATE FUNCTION rating_lock(customers uuid[]) RETURNS boolean LANGUAGE plpgsql
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    PERFORM FROM public.ledger_books b WHERE b.customer_id = ANY (customers)
      ORDER BY b.customer_id FOR NO KEY UPDATE;
    RETURN EXISTS (SELECT FROM public.usage_charges c WHERE c.customer_id = ANY (customers));
END $$;

GRANT SELECT, INSERT ON rating_counters, rated_quantities, usage_charges TO billing_app;
GRANT UPDATE (quantity, amount) ON rating_counters TO billing_app;
GRANT UPDATE (quantity) ON rated_quantities TO billing_app;
GRANT UPDATE (amount, included, credited, plan_version_id, item) ON usage_charges TO billing_app;
"""


def upgrade() -> None:
    for part in (TABLES, GUARDS, FUNCTIONS):
        run(part)


def downgrade() -> None:
    run("""
        DROP FUNCTION rating_lock, rating_start;
        DROP TABLE usage_charges, rated_quantities, rating_counters;
        DROP FUNCTION usage_charges_written, rating_counters_written, rating_counter_moved;
    """)
