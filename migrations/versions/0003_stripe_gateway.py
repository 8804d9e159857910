"""Stripe: customers, the sync outbox with its frozen requests, the webhook inbox with its effects.

Why: what we ask of Stripe is written down before we ask it, and what Stripe tells us before we act on it, so that a
process may die anywhere and another goes on. The rules that protect against billing twice stand here as triggers: a
frozen request never changes, a finished sync never starts again, one Stripe object belongs to one invoice of ours.
Locks: none that matter; all tables are new.
Undo: drops the tables. Refused once an invoice stands at Stripe: without these rows it would be sent a second time.
"""

from migrations.sql import run

revision = "0003"
down_revision = "0002"

TABLES = """
CREATE TABLE stripe_customers (
    customer_id            uuid PRIMARY KEY REFERENCES customers,
    external_id            text CHECK (external_id ~ '^cus_'),
    state                  text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'waiting', 'unknown', 'parked', 'done')),
    generation             smallint NOT NULL DEFAULT 1 CHECK (generation > 0),
    intent                 text NOT NULL,
    fence                  bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    lease_until            timestamptz,
    attempts               integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at        timestamptz NOT NULL,
    unsure_at              timestamptz,
    last_code              text,
    last_error             text,
    default_payment_method text,
    facts_version          bigint NOT NULL DEFAULT 0,
    deleted_at             timestamptz,
    created_at             timestamptz NOT NULL,
    done_at                timestamptz,
    CONSTRAINT stripe_customers_done_is_complete CHECK ((state = 'done') = (external_id IS NOT NULL)
        AND (state = 'done') = (done_at IS NOT NULL))
);
COMMENT ON TABLE stripe_customers IS 'One Stripe customer per customer, ever: made with the first invoice or visit.';

CREATE TABLE stripe_syncs (
    customer_id      uuid NOT NULL REFERENCES stripe_customers,
    invoice_id       uuid NOT NULL,
    number           text NOT NULL,
    currency         text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount_due_minor bigint NOT NULL CHECK (amount_due_minor > 0),
    intent           text NOT NULL,
    lines_sha        text NOT NULL,
    step             text NOT NULL DEFAULT 'customer'
        CHECK (step IN ('customer', 'create', 'lines', 'finalize', 'done')),
    state            text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'waiting', 'unknown', 'parked', 'done')),
    generation       smallint NOT NULL DEFAULT 1 CHECK (generation > 0),
    external_id      text CHECK (external_id ~ '^in_'),
    external_status  text,
    hosted_url       text,
    hosted_url_at    timestamptz,
    fence            bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    lease_until      timestamptz,
    attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at  timestamptz NOT NULL,
    unsure_at        timestamptz,
    last_code        text,
    last_error       text,
    created_at       timestamptz NOT NULL,
    done_at          timestamptz,
    PRIMARY KEY (customer_id, invoice_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    UNIQUE (customer_id, external_id),
    UNIQUE (customer_id, number),
    CONSTRAINT stripe_syncs_done_is_complete CHECK ((state = 'done') = (step = 'done')
        AND (state = 'done') = (done_at IS NOT NULL)
        AND (state <> 'done' OR (external_id IS NOT NULL AND external_status <> 'draft'))),
    CONSTRAINT stripe_syncs_steps_need_the_invoice CHECK (
        step NOT IN ('lines', 'finalize', 'done') OR external_id IS NOT NULL)
);
COMMENT ON TABLE stripe_syncs IS 'The outbox: one row per invoice that Stripe is to collect.';
CREATE INDEX stripe_syncs_due ON stripe_syncs (next_attempt_at, customer_id)
    WHERE state IN ('due', 'waiting', 'unknown');
CREATE INDEX stripe_syncs_problems ON stripe_syncs (created_at) WHERE state IN ('parked', 'unknown');
CREATE INDEX stripe_syncs_unfinished ON stripe_syncs (state) WHERE state <> 'done';

CREATE TABLE stripe_requests (
    customer_id     uuid NOT NULL REFERENCES stripe_customers,
    subject_id      uuid NOT NULL,
    step            text NOT NULL CHECK (step IN ('customer', 'create', 'lines', 'finalize')),
    generation      smallint NOT NULL CHECK (generation > 0),
    idempotency_key text NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    body            text NOT NULL,
    frozen_at       timestamptz NOT NULL,
    PRIMARY KEY (customer_id, subject_id, step, generation),
    UNIQUE (customer_id, idempotency_key)
);
COMMENT ON TABLE stripe_requests IS
    'What was sent, to the letter, and under which idempotency key; written before the first attempt, never changed.';

CREATE TABLE stripe_objects (
    external_id text PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('customer', 'invoice', 'payment_intent', 'charge', 'invoice_payment')),
    customer_id uuid NOT NULL REFERENCES stripe_customers,
    invoice_id  uuid,
    seen_at     timestamptz NOT NULL,
    CHECK ((kind = 'customer') = (invoice_id IS NULL))
);
COMMENT ON TABLE stripe_objects IS 'Claims: whose a Stripe object is. The first claim stands.';
CREATE INDEX stripe_objects_by_customer ON stripe_objects (customer_id, invoice_id);

CREATE TABLE stripe_events (
    id              text PRIMARY KEY CHECK (id ~ '^evt_' AND length(id) <= 255),
    type            text NOT NULL,
    object_id       text,
    livemode        boolean NOT NULL,
    account         text,
    payload         text NOT NULL,
    created_at      timestamptz NOT NULL,
    received_at     timestamptz NOT NULL,
    deliveries      integer NOT NULL DEFAULT 1 CHECK (deliveries > 0),
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'ignored', 'parked')),
    fence           bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    lease_until     timestamptz,
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz NOT NULL,
    handled_at      timestamptz,
    code            text,
    error           text,
    customer_id     uuid,
    CHECK (handled_at IS NOT NULL OR state IN ('pending', 'parked'))
);
COMMENT ON TABLE stripe_events IS 'The inbox: what Stripe told us, as it came, before anything is done about it.';
CREATE INDEX stripe_events_due ON stripe_events (next_attempt_at) WHERE state = 'pending';
CREATE INDEX stripe_events_by_state ON stripe_events (state, received_at);
CREATE INDEX stripe_events_by_time ON stripe_events (received_at);
CREATE INDEX stripe_events_by_customer ON stripe_events (customer_id, received_at);

CREATE TABLE stripe_effects (
    customer_id uuid NOT NULL REFERENCES stripe_customers,
    key         text NOT NULL CHECK (length(key) <= 255),
    cause       text NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (customer_id, key)
);
COMMENT ON TABLE stripe_effects IS
    'What events have done, under a business key, so that the same news under another event id does nothing.';
"""

GUARDS = """
CREATE FUNCTION stripe_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: these rows are never changed or removed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stripe_requests
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stripe_objects
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON stripe_effects
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON stripe_customers
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON stripe_syncs
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();
CREATE TRIGGER kept BEFORE TRUNCATE ON stripe_events
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();

CREATE FUNCTION stripe_customers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.customer_id <> OLD.customer_id OR NEW.created_at <> OLD.created_at
       OR (NEW.intent <> OLD.intent AND NEW.generation = OLD.generation)
       OR NEW.fence < OLD.fence OR NEW.generation < OLD.generation OR NEW.facts_version < OLD.facts_version
       OR (OLD.external_id IS NOT NULL AND NEW.external_id IS DISTINCT FROM OLD.external_id) THEN
        RAISE EXCEPTION 'Stripe customer of % refused: there is one for life, and what it was made from is frozen',
            OLD.customer_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER for_life BEFORE UPDATE ON stripe_customers
    FOR EACH ROW EXECUTE FUNCTION stripe_customers_changed();

CREATE FUNCTION stripe_syncs_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.customer_id, NEW.invoice_id, NEW.number, NEW.currency, NEW.amount_due_minor, NEW.intent, NEW.lines_sha,
        NEW.created_at)
       IS DISTINCT FROM (OLD.customer_id, OLD.invoice_id, OLD.number, OLD.currency, OLD.amount_due_minor, OLD.intent,
        OLD.lines_sha, OLD.created_at) THEN
        RAISE EXCEPTION 'sync of invoice % refused: what is sent is frozen', OLD.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.fence < OLD.fence OR NEW.generation < OLD.generation THEN
        RAISE EXCEPTION 'sync of invoice % refused: fence and generation only rise', OLD.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.state = 'done' AND (NEW.state <> 'done' OR NEW.external_id IS DISTINCT FROM OLD.external_id) THEN
        RAISE EXCEPTION 'sync of invoice % refused: it is done and stays done', OLD.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON stripe_syncs
    FOR EACH ROW EXECUTE FUNCTION stripe_syncs_changed();

CREATE FUNCTION stripe_events_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.type, NEW.payload, NEW.received_at)
       IS DISTINCT FROM (OLD.id, OLD.type, OLD.payload, OLD.received_at)
       OR NEW.fence < OLD.fence OR NEW.deliveries < OLD.deliveries THEN
        RAISE EXCEPTION 'event % refused: what Stripe said is kept as it came', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_it_came BEFORE UPDATE ON stripe_events
    FOR EACH ROW EXECUTE FUNCTION stripe_events_changed();

GRANT SELECT, INSERT ON stripe_customers, stripe_syncs, stripe_requests, stripe_objects, stripe_events, stripe_effects
    TO billing_app;
GRANT UPDATE ON stripe_customers, stripe_syncs, stripe_events TO billing_app;
"""


def upgrade() -> None:
    run(TABLES)
    run(GUARDS)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM stripe_syncs WHERE external_id IS NOT NULL) THEN
                RAISE EXCEPTION 'invoices stand at Stripe: without these rows they would be sent again';
            END IF;
        END $$;
        DROP TABLE stripe_effects, stripe_events, stripe_objects, stripe_requests, stripe_syncs, stripe_customers;
        DROP FUNCTION stripe_refuse_change, stripe_customers_changed, stripe_syncs_changed, stripe_events_changed;
    """)
