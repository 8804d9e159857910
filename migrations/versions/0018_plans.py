"""Plans and who has them: fees in advance or in arrears, included usage, trials; changed and ended to the second.

Why: a plan is rows, and never a constant: a version never changes, and a phase says who had which version from when
until when, up to where its fee was charged, and how much of it is still deferred. A customer has one plan at a time.
Locks: none that matter; all tables are new.
Undo: drops the tables. Refused once somebody has a plan: its entries could not be explained any more.
"""

from migrations.sql import run

revision = "0018"
down_revision = "0017"

TABLES = """
CREATE TABLE plans (
    code       text PRIMARY KEY CHECK (code ~ '^[a-z0-9][a-z0-9_-]{0,59}$'),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200)
);

CREATE TABLE plan_versions (
    id              uuid PRIMARY KEY,
    plan            text NOT NULL REFERENCES plans,
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    fee             numeric NOT NULL CHECK (fee >= 0 AND fee < 1e9 AND scale(trim_scale(fee)) <= 3),
    "interval"      text NOT NULL CHECK ("interval" IN ('month', 'year')),
    timing          text NOT NULL CHECK (timing IN ('advance', 'arrears')),
    included_usage  numeric NOT NULL
        CHECK (included_usage >= 0 AND included_usage < 1e9 AND scale(trim_scale(included_usage)) <= 3),
    trial_days      smallint NOT NULL CHECK (trial_days BETWEEN 0 AND 365),
    valid_from      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    created_by      text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    UNIQUE (plan, currency, "interval", valid_from)
);

CREATE TABLE plan_phases (
    customer_id     uuid NOT NULL REFERENCES customers,
    id              uuid NOT NULL,
    plan_version_id uuid NOT NULL REFERENCES plan_versions,
    starts_at       timestamptz NOT NULL,
    ends_at         timestamptz,
    charged_from    timestamptz NOT NULL,
    window_start    timestamptz,
    term_start      timestamptz,
    term_end        timestamptz,
    released_until  timestamptz,
    earns_at        timestamptz,
    deferred        numeric NOT NULL DEFAULT 0 CHECK (deferred >= 0),
    reason          text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    created_at      timestamptz NOT NULL,
    end_reason      text CHECK (length(end_reason) BETWEEN 1 AND 2000),
    ended_by        text CHECK (length(ended_by) BETWEEN 1 AND 200),
    withdrawn_at    timestamptz,
    PRIMARY KEY (customer_id, id),
    CHECK (ends_at > starts_at AND charged_from >= starts_at),
    CHECK (num_nonnulls(ends_at, end_reason, ended_by) IN (0, 3)),
    CHECK (num_nonnulls(window_start, term_start, term_end, released_until) IN (0, 4)),
    CHECK (window_start <= term_start AND term_start < term_end AND released_until BETWEEN term_start AND term_end),
    -- While something is deferred, there is a time at which more of it is earned.
    CHECK (deferred = 0 OR earns_at > released_until),
    CONSTRAINT plan_phases_withdrawn_before_charged CHECK (withdrawn_at IS NULL OR term_start IS NULL),
    CONSTRAINT plan_phases_one_at_a_time EXCLUDE USING gist
        (customer_id WITH =, tstzrange(starts_at, ends_at) WITH &&) WHERE (withdrawn_at IS NULL)
);
COMMENT ON COLUMN plan_phases.charged_from IS 'The end of the trial; from then on there is a fee.';
COMMENT ON COLUMN plan_phases.window_start IS
    'The calendar''s beginning of the term that was charged last: a part of it costs its part of the seconds.';
COMMENT ON COLUMN plan_phases.earns_at IS 'The end of the customer''s month in which what is deferred is being earned.';
COMMENT ON COLUMN plan_phases.deferred IS 'What was charged in advance and is not earned yet, in major units.';
CREATE INDEX plan_phases_running ON plan_phases (charged_from, customer_id) WHERE withdrawn_at IS NULL;
"""

GUARDS = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON plan_versions
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON plans
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON plan_phases
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

CREATE FUNCTION plan_phases_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND
       ((NEW.customer_id, NEW.id, NEW.plan_version_id, NEW.starts_at, NEW.charged_from, NEW.reason, NEW.actor,
         NEW.created_at)
        IS DISTINCT FROM
        (OLD.customer_id, OLD.id, OLD.plan_version_id, OLD.starts_at, OLD.charged_from, OLD.reason, OLD.actor,
         OLD.created_at)
        OR (OLD.withdrawn_at IS NOT NULL)
        OR NEW.term_end < OLD.term_end OR (OLD.term_end IS NOT NULL AND NEW.term_end IS NULL)) THEN
        RAISE EXCEPTION 'phase % refused: what a customer had, and what was charged for it, never changes', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NOT EXISTS (SELECT FROM public.plan_versions v JOIN public.ledger_books b ON b.customer_id = NEW.customer_id
                    WHERE v.id = NEW.plan_version_id AND v.currency = b.currency) THEN
        RAISE EXCEPTION 'phase % refused: the plan is not in the currency of customer %', NEW.id, NEW.customer_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE INSERT OR UPDATE ON plan_phases
    FOR EACH ROW EXECUTE FUNCTION plan_phases_changed();

GRANT SELECT, INSERT ON plans, plan_versions, plan_phases TO billing_app;
GRANT UPDATE (ends_at, end_reason, ended_by, window_start, term_start, term_end, released_until, earns_at,
              deferred, withdrawn_at) ON plan_phases TO billing_app;
ALTER TABLE plan_phases ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON plan_phases TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON plan_phases FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT (customer_id, id, plan_version_id, starts_at, ends_at, charged_from, term_end, withdrawn_at)
    ON plan_phases TO billing_panel;
-- What is offered is the same for everybody; who wrote it is nobody's business.
GRANT SELECT (code, name) ON plans TO billing_panel;
GRANT SELECT (id, plan, currency, fee, "interval", timing, included_usage, trial_days, valid_from) ON plan_versions
    TO billing_panel;
"""


def upgrade() -> None:
    run(TABLES)
    run(GUARDS)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM plan_phases) THEN
                RAISE EXCEPTION 'customers have plans: they are never thrown away';
            END IF;
        END $$;
        DROP TABLE plan_phases, plan_versions, plans;
        DROP FUNCTION plan_phases_changed;
    """)
