"""Bills before a period's end: a period may be cut short as it closes, and spending thresholds.

Why: a customer who leaves, pays early or spends past a threshold is billed at once. The period then ends at that moment
and the next one begins there, so no period ever overlaps or leaves a gap, and what is used later is billed by its own.
A period gets shorter only in the statement that closes it, never below what was charged in it. `early_bills` keeps from
where allowances and tiers of the remainder are counted: not anew, or billing early would give them twice.
Locks: ACCESS EXCLUSIVE on ledger_periods while its triggers change, for as long as a change of the catalogue takes.
Undo: refused once a period was cut: its end could not be told from a calendar's any more.
"""

from migrations.sql import run

revision = "0019"
down_revision = "0018"

CUTS = """
DROP TRIGGER closes_once ON ledger_periods;
CREATE TRIGGER closes_once BEFORE UPDATE ON ledger_periods FOR EACH ROW
    WHEN (OLD.state <> 'open' OR NEW.state <> 'closed' OR NEW.end_at > OLD.end_at
          OR (NEW.customer_id, NEW.start_at, NEW.time_zone, NEW.opened_at)
             IS DISTINCT FROM (OLD.customer_id, OLD.start_at, OLD.time_zone, OLD.opened_at))
    EXECUTE FUNCTION ledger_periods_refused();

-- Under the lock of the books, or closed_seq is not the last entry and the closing is refused after all.
CREATE FUNCTION ledger_periods_cut() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (SELECT FROM ledger_entries e
                WHERE e.customer_id = NEW.customer_id AND e.period_start = NEW.start_at
                  AND e.effective_at >= NEW.end_at) THEN
        RAISE EXCEPTION 'period % refused: it cannot end at %, it has charges after that', NEW.start_at, NEW.end_at
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keeps_its_charges BEFORE UPDATE ON ledger_periods FOR EACH ROW
    WHEN (NEW.end_at < OLD.end_at) EXECUTE FUNCTION ledger_periods_cut();
GRANT UPDATE (end_at) ON ledger_periods TO billing_app;
"""

TABLES = """
CREATE TABLE early_bills (
    customer_id  uuid NOT NULL,
    period_start timestamptz NOT NULL,
    cut_at       timestamptz NOT NULL,
    rating_start timestamptz NOT NULL,
    invoice_id   uuid NOT NULL,
    cause        text NOT NULL CHECK (cause IN ('leaving', 'early', 'threshold')),
    reason       text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor        text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (customer_id, period_start),
    UNIQUE (customer_id, cut_at),
    FOREIGN KEY (customer_id, period_start) REFERENCES ledger_periods (customer_id, start_at),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CHECK (rating_start <= period_start AND period_start < cut_at)
);
COMMENT ON COLUMN early_bills.rating_start IS
    'The start of the calendar''s period: from there the remainder, too, counts allowances and tiers.';

CREATE TABLE spending_thresholds (
    customer_id uuid NOT NULL REFERENCES customers,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    amount      numeric CHECK (amount > 0 AND amount < 1e12),
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    set_at      timestamptz NOT NULL,
    PRIMARY KEY (customer_id, id)
);
COMMENT ON TABLE spending_thresholds IS 'The last row of a customer counts; without an amount there is no threshold.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON early_bills
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON spending_thresholds
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
GRANT SELECT, INSERT ON early_bills, spending_thresholds TO billing_app;
-- As in migration 0006: the panel explains from when on a remainder counts. Who cut the period, and why, it does not.
ALTER TABLE early_bills ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON early_bills TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON early_bills FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT (customer_id, period_start, cut_at, rating_start, invoice_id) ON early_bills TO billing_panel;

-- The remainder of a period that was billed early goes on counting where the calendar's period began.
CREATE OR REPLACE FUNCTION rating_start(customer uuid, period_start timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT e.rating_start FROM public.early_bills e
                      WHERE e.customer_id = $1 AND e.cut_at = $2), $2)
$$;
"""


def upgrade() -> None:
    run(CUTS)
    run(TABLES)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM early_bills) THEN
                RAISE EXCEPTION 'periods were billed before their end: the calendar cannot be put back';
            END IF;
        END $$;
        CREATE OR REPLACE FUNCTION rating_start(customer uuid, period_start timestamptz) RETURNS timestamptz
            LANGUAGE sql STABLE AS 'SELECT period_start';
        DROP TABLE spending_thresholds, early_bills;
        REVOKE UPDATE (end_at) ON ledger_periods FROM billing_app;
        DROP TRIGGER keeps_its_charges ON ledger_periods;
        DROP FUNCTION ledger_periods_cut;
        DROP TRIGGER closes_once ON ledger_periods;
        CREATE TRIGGER closes_once BEFORE UPDATE ON ledger_periods FOR EACH ROW
            WHEN (OLD.state <> 'open' OR NEW.state <> 'closed'
                  OR (NEW.customer_id, NEW.start_at, NEW.end_at, NEW.time_zone, NEW.opened_at)
                     IS DISTINCT FROM (OLD.customer_id, OLD.start_at, OLD.end_at, OLD.time_zone, OLD.opened_at))
            EXECUTE FUNCTION ledger_periods_refused();
    """)
