"""What is asked of Stripe after an invoice stands there.

Why: a refund, a credit note, a void or an accepted dispute is one write at Stripe, and needs what the three writes of
an invoice have: the intent in the transaction of the books, a frozen request, a lease with a fence, and an outcome that
may be unknown. A sync can be canceled, because an invoice may be voided before it ever stood at Stripe. Objects say
which payment they are a part of, since neither a charge nor a dispute carries our ids. Effects of payouts stand in the
house's books, which have no customer at Stripe.
Locks: the new rules on stripe_syncs, stripe_requests, stripe_objects and stripe_effects take ACCESS EXCLUSIVE while
they are checked; each reads its table once (about a second for a million rows).
Undo: drops the operations. Refused once one of them was sent: without its row it would be sent a second time.
"""

from migrations.sql import run

revision = "0008"
down_revision = "0007"

TABLES = """
CREATE TABLE stripe_operations (
    customer_id     uuid NOT NULL REFERENCES customers,
    id              uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN (
        'void', 'uncollectible', 'pay_outside', 'refund', 'credit_note', 'balance', 'close_dispute')),
    invoice_id      uuid,
    movement_id     uuid,
    currency        text CHECK (currency ~ '^[A-Z]{3}$'),
    amount_minor    bigint CHECK (amount_minor > 0),
    intent          text NOT NULL,
    step            text NOT NULL DEFAULT 'prepare' CHECK (step IN ('prepare', 'send', 'done')),
    state           text NOT NULL DEFAULT 'due'
        CHECK (state IN ('due', 'waiting', 'unknown', 'parked', 'done', 'refused')),
    generation      smallint NOT NULL DEFAULT 1 CHECK (generation > 0),
    external_id     text,
    external_status text,
    fence           bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    lease_until     timestamptz,
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz NOT NULL,
    unsure_at       timestamptz,
    last_code       text,
    last_error      text,
    created_at      timestamptz NOT NULL,
    done_at         timestamptz,
    PRIMARY KEY (customer_id, id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CONSTRAINT stripe_operations_end_is_complete CHECK ((state IN ('done', 'refused')) = (step = 'done')
        AND (step = 'done') = (done_at IS NOT NULL) AND (state <> 'refused' OR last_code IS NOT NULL)),
    CONSTRAINT stripe_operations_about_an_invoice CHECK (kind = 'balance' OR invoice_id IS NOT NULL),
    CONSTRAINT stripe_operations_of_money CHECK (
        kind NOT IN ('refund', 'credit_note', 'pay_outside') OR (currency IS NOT NULL AND amount_minor IS NOT NULL))
);
COMMENT ON TABLE stripe_operations IS
    'The second outbox: one row per write that is asked of Stripe about an invoice that stands there.';
CREATE INDEX stripe_operations_due ON stripe_operations (next_attempt_at, customer_id)
    WHERE state IN ('due', 'waiting', 'unknown');
CREATE INDEX stripe_operations_problems ON stripe_operations (created_at) WHERE state IN ('parked', 'unknown');
CREATE INDEX stripe_operations_by_invoice ON stripe_operations (customer_id, invoice_id);
CREATE UNIQUE INDEX stripe_operations_by_object ON stripe_operations (customer_id, external_id)
    WHERE kind IN ('refund', 'credit_note') AND external_id IS NOT NULL;

ALTER TABLE stripe_syncs DROP CONSTRAINT stripe_syncs_state_check;
ALTER TABLE stripe_syncs ADD CONSTRAINT stripe_syncs_state_check
    CHECK (state IN ('due', 'waiting', 'unknown', 'parked', 'done', 'canceled'));

ALTER TABLE stripe_requests DROP CONSTRAINT stripe_requests_step_check;
ALTER TABLE stripe_requests ADD CONSTRAINT stripe_requests_step_check CHECK (step IN ('customer', 'create', 'lines',
    'finalize', 'void', 'uncollectible', 'pay_outside', 'refund', 'credit_note', 'balance', 'close_dispute'));

ALTER TABLE stripe_objects ADD COLUMN part_of text;
COMMENT ON COLUMN stripe_objects.part_of IS
    'The invoice payment that this intent, charge, refund or dispute belongs to.';
ALTER TABLE stripe_objects DROP CONSTRAINT stripe_objects_kind_check;
ALTER TABLE stripe_objects ADD CONSTRAINT stripe_objects_kind_check CHECK (kind IN (
    'customer', 'invoice', 'payment_intent', 'charge', 'invoice_payment', 'refund', 'credit_note', 'dispute'));

ALTER TABLE stripe_effects DROP CONSTRAINT stripe_effects_customer_id_fkey;
ALTER TABLE stripe_effects ADD CONSTRAINT stripe_effects_customer_id_fkey
    FOREIGN KEY (customer_id) REFERENCES ledger_books;
"""

GUARDS = """
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON stripe_operations
    FOR EACH STATEMENT EXECUTE FUNCTION stripe_refuse_change();

CREATE FUNCTION stripe_operations_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.customer_id, NEW.id, NEW.kind, NEW.invoice_id, NEW.movement_id, NEW.currency, NEW.amount_minor, NEW.intent,
        NEW.created_at)
       IS DISTINCT FROM (OLD.customer_id, OLD.id, OLD.kind, OLD.invoice_id, OLD.movement_id, OLD.currency,
        OLD.amount_minor, OLD.intent, OLD.created_at) THEN
        RAISE EXCEPTION 'operation % refused: what is asked of Stripe is frozen', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.fence < OLD.fence OR NEW.generation < OLD.generation THEN
        RAISE EXCEPTION 'operation % refused: fence and generation only rise', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.state IN ('done', 'refused')
       AND (NEW.state <> OLD.state OR NEW.external_id IS DISTINCT FROM OLD.external_id) THEN
        RAISE EXCEPTION 'operation % refused: it is % and stays so', OLD.id, OLD.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON stripe_operations
    FOR EACH ROW EXECUTE FUNCTION stripe_operations_changed();

CREATE OR REPLACE FUNCTION stripe_syncs_changed() RETURNS trigger LANGUAGE plpgsql AS $$
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
    IF OLD.state = 'canceled' AND NEW.state <> 'canceled' THEN
        RAISE EXCEPTION 'sync of invoice % refused: it is canceled and stays canceled', OLD.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

GRANT SELECT, INSERT, UPDATE ON stripe_operations TO billing_app;
"""


def upgrade() -> None:
    run(TABLES)
    run(GUARDS)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM stripe_requests WHERE step NOT IN ('customer', 'create', 'lines', 'finalize')) THEN
                RAISE EXCEPTION 'operations were sent to Stripe: without their rows they would be sent again';
            END IF;
            IF EXISTS (SELECT FROM stripe_syncs WHERE state = 'canceled') THEN
                RAISE EXCEPTION 'syncs are canceled: the older schema would send their invoices';
            END IF;
        END $$;
        DROP TABLE stripe_operations;
        DROP FUNCTION stripe_operations_changed;
        ALTER TABLE stripe_syncs DROP CONSTRAINT stripe_syncs_state_check;
        ALTER TABLE stripe_syncs ADD CONSTRAINT stripe_syncs_state_check
            CHECK (state IN ('due', 'waiting', 'unknown', 'parked', 'done'));
        ALTER TABLE stripe_requests DROP CONSTRAINT stripe_requests_step_check;
        ALTER TABLE stripe_requests ADD CONSTRAINT stripe_requests_step_check
            CHECK (step IN ('customer', 'create', 'lines', 'finalize'));
        ALTER TABLE stripe_objects DROP CONSTRAINT stripe_objects_kind_check;
        ALTER TABLE stripe_objects ADD CONSTRAINT stripe_objects_kind_check
            CHECK (kind IN ('customer', 'invoice', 'payment_intent', 'charge', 'invoice_payment')) NOT VALID;
        ALTER TABLE stripe_objects DROP COLUMN part_of;
        ALTER TABLE stripe_effects DROP CONSTRAINT stripe_effects_customer_id_fkey;
        ALTER TABLE stripe_effects ADD CONSTRAINT stripe_effects_customer_id_fkey
            FOREIGN KEY (customer_id) REFERENCES stripe_customers NOT VALID;
    """)
