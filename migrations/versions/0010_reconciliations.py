"""Reconciliation with Stripe: how far a run is, what it found, and every movement of Stripe's balance.

Why: a run over years of invoices takes longer than a process may live, so its place stands here after every page, and
another process goes on from there. What was found and what was repaired is kept: each repair names its cause. The
balance transactions are Stripe's own account of the money; with them at hand "does every cent agree" is one query.
Locks: none that matter; all tables are new.
Undo: drops the tables. The next run after that compares everything from the beginning; no money depends on them.
"""

from migrations.sql import run

revision = "0010"
down_revision = "0009"

TABLES = """
CREATE TABLE stripe_reconciliations (
    id            uuid PRIMARY KEY,
    is_full       boolean NOT NULL,
    asked_from    timestamptz,
    asked_to      timestamptz,
    window_from   timestamptz NOT NULL,
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'given_up')),
    stage         text NOT NULL,
    cursor        text,
    counts        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(counts) = 'object'),
    fence         bigint NOT NULL DEFAULT 1 CHECK (fence > 0),
    started_at    timestamptz NOT NULL,
    progressed_at timestamptz NOT NULL,
    finished_at   timestamptz,
    CHECK (asked_from IS NULL OR asked_to IS NULL OR asked_from < asked_to),
    CHECK ((state = 'done') = (finished_at IS NOT NULL))
);
COMMENT ON TABLE stripe_reconciliations IS 'Runs of the comparison with Stripe, and where each of them stands.';
COMMENT ON COLUMN stripe_reconciliations.started_at IS
    'The mark: what stood at Stripe by then was compared once the run is done. By the caller''s clock.';
CREATE UNIQUE INDEX stripe_reconciliations_one_at_work ON stripe_reconciliations (state) WHERE state = 'running';
CREATE INDEX stripe_reconciliations_by_time ON stripe_reconciliations (started_at);

CREATE TABLE stripe_seen (
    run_id      uuid NOT NULL REFERENCES stripe_reconciliations,
    external_id text NOT NULL,
    PRIMARY KEY (run_id, external_id)
);
COMMENT ON TABLE stripe_seen IS
    'What a run at work has found in Stripe''s lists, so that it knows at the end what was missing there. Emptied when '
    'the run is done.';

CREATE TABLE stripe_differences (
    run_id      uuid NOT NULL REFERENCES stripe_reconciliations,
    kind        text NOT NULL CHECK (kind ~ '^[a-z_]+$'),
    subject     text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    outcome     text NOT NULL CHECK (outcome IN ('repaired', 'task', 'explained')),
    text        text NOT NULL CHECK (text <> ''),
    customer_id uuid,
    invoice_id  uuid,
    found_at    timestamptz NOT NULL,
    PRIMARY KEY (run_id, kind, subject, outcome)
);
COMMENT ON TABLE stripe_differences IS
    'What each run found. A repair is written in the transaction that repairs, so neither is ever without the other.';
CREATE INDEX stripe_differences_by_subject ON stripe_differences (subject);

CREATE TABLE stripe_transactions (
    id           text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 255),
    type         text NOT NULL,
    category     text NOT NULL,
    source       text,
    currency     text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount       numeric NOT NULL,
    fee          numeric NOT NULL,
    net          numeric NOT NULL CHECK (net = amount - fee),
    created_at   timestamptz NOT NULL,
    available_at timestamptz NOT NULL,
    customer_id  uuid,
    invoice_id   uuid,
    payout       text,
    seen_at      timestamptz NOT NULL,
    CHECK (invoice_id IS NULL OR customer_id IS NOT NULL)
);
COMMENT ON TABLE stripe_transactions IS
    'Every movement of the balance at Stripe, in major units, signed as Stripe signs them; whose it is, once known.';
COMMENT ON COLUMN stripe_transactions.payout IS 'Of a movement that is a payout itself: its id.';
CREATE INDEX stripe_transactions_by_customer ON stripe_transactions (customer_id, currency);
CREATE INDEX stripe_transactions_by_source ON stripe_transactions (source);
"""

GUARDS = """
CREATE FUNCTION stripe_reconciliations_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'running' OR NEW.fence < OLD.fence
       OR (NEW.id, NEW.is_full, NEW.asked_from, NEW.asked_to, NEW.window_from, NEW.started_at)
          IS DISTINCT FROM (OLD.id, OLD.is_full, OLD.asked_from, OLD.asked_to, OLD.window_from, OLD.started_at) THEN
        RAISE EXCEPTION 'reconciliation % refused: it is over, or its window would change', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON stripe_reconciliations
    FOR EACH ROW EXECUTE FUNCTION stripe_reconciliations_changed();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON stripe_reconciliations
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stripe_differences
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();

CREATE FUNCTION stripe_transactions_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.type, NEW.source, NEW.currency, NEW.amount, NEW.fee, NEW.net, NEW.created_at)
       IS DISTINCT FROM (OLD.id, OLD.type, OLD.source, OLD.currency, OLD.amount, OLD.fee, OLD.net, OLD.created_at)
       OR (OLD.customer_id IS NOT NULL
           AND (NEW.customer_id, NEW.invoice_id) IS DISTINCT FROM (OLD.customer_id, OLD.invoice_id)) THEN
        RAISE EXCEPTION 'balance transaction % refused: money that moved at Stripe stays as it was', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON stripe_transactions
    FOR EACH ROW EXECUTE FUNCTION stripe_transactions_changed();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON stripe_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();

GRANT SELECT, INSERT ON stripe_reconciliations, stripe_seen, stripe_differences, stripe_transactions TO billing_app;
GRANT UPDATE ON stripe_reconciliations, stripe_transactions TO billing_app;
GRANT DELETE ON stripe_seen TO billing_app;
"""


def upgrade() -> None:
    run(TABLES)
    run(GUARDS)


def downgrade() -> None:
    run("""
        DROP TABLE stripe_transactions, stripe_differences, stripe_seen, stripe_reconciliations;
        DROP FUNCTION stripe_reconciliations_changed, stripe_transactions_changed;
    """)
