"""Customers, the price book, invoices with their lines, adjustments, history, payments, parked work.

Why: what is billed, to whom, and what staff did to it. The rules that protect a final invoice stand here as triggers:
an invoice moves only along its states, its number and totals are written once, its lines are frozen when it is final.
What the close of a cycle writes by the thousand, invoices and their lines, has no row-level foreign keys: a trigger
checks each statement's rows as a set (docs/decisions/0006-statement-level-guards.md).
Locks: none that matter; all tables are new.
Undo: drops the tables. Refused once an invoice has a number: a legal document is never thrown away.
"""

from migrations.sql import run

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE invoice_prefixes (
    prefix      text PRIMARY KEY CHECK (prefix ~ '^[0-9A-Z]{6,12}$'),
    customer_id uuid NOT NULL UNIQUE
);
COMMENT ON TABLE invoice_prefixes IS 'Claims: a prefix is given out once, over all customers.';

CREATE TABLE customers (
    customer_id         uuid PRIMARY KEY REFERENCES ledger_books,
    external_id         text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 200),
    name                text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    email               text CHECK (length(email) <= 320),
    collection_method   text NOT NULL DEFAULT 'automatic' CHECK (collection_method IN ('automatic', 'send_invoice')),
    draft_window_s      integer CHECK (draft_window_s BETWEEN 0 AND 50 * 86400),
    invoice_prefix      text NOT NULL REFERENCES invoice_prefixes,
    last_invoice_number integer NOT NULL DEFAULT 0 CHECK (last_invoice_number >= 0),
    created_at          timestamptz NOT NULL,
    created_by          text NOT NULL
);
CREATE INDEX customers_by_external_id ON customers (external_id);
CREATE INDEX customers_by_name ON customers (lower(name));

CREATE TABLE items (
    code       text PRIMARY KEY CHECK (length(code) BETWEEN 1 AND 200),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 500),
    unit       text NOT NULL DEFAULT '' CHECK (length(unit) <= 100),
    created_at timestamptz NOT NULL
);

CREATE TABLE prices (
    id          uuid PRIMARY KEY,
    item        text NOT NULL REFERENCES items,
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    unit_amount numeric NOT NULL
        CHECK (unit_amount >= 0 AND unit_amount < 1e9 AND scale(trim_scale(unit_amount)) <= 12),
    valid_from  timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    created_by  text NOT NULL,
    UNIQUE (item, currency, valid_from)
);

CREATE TABLE invoices (
    customer_id     uuid NOT NULL,
    id              uuid NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('cycle', 'top_up')),
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    generation      smallint NOT NULL DEFAULT 1 CHECK (generation > 0),
    state           text NOT NULL DEFAULT 'draft'
        CHECK (state IN ('draft', 'final', 'paid', 'void', 'uncollectible', 'carried_forward', 'empty')),
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    version         integer NOT NULL DEFAULT 1 CHECK (version > 0),
    compiled_at     timestamptz NOT NULL,
    finalize_after  timestamptz NOT NULL,
    held_at         timestamptz,
    held_by         text,
    hold_reason     text CHECK (length(hold_reason) BETWEEN 1 AND 2000),
    number          text CHECK (length(number) BETWEEN 3 AND 26),
    number_seq      integer CHECK (number_seq > 0),
    exact_total     numeric,
    total           numeric,
    credits_applied numeric CHECK (credits_applied >= 0),
    amount_due      numeric CHECK (amount_due >= 0),
    amount_paid     numeric NOT NULL DEFAULT 0 CHECK (amount_paid >= 0),
    finalized_at    timestamptz,
    paid_at         timestamptz,
    PRIMARY KEY (customer_id, id),
    UNIQUE (customer_id, period_start, kind, generation),
    CHECK (num_nonnulls(held_at, held_by, hold_reason) IN (0, 3)),
    CHECK (num_nonnulls(number, number_seq) IN (0, 2)),
    CONSTRAINT invoices_final_is_complete CHECK (
        state NOT IN ('final', 'paid', 'void', 'uncollectible')
        OR num_nulls(number, exact_total, total, credits_applied, amount_due, finalized_at) = 0),
    CONSTRAINT invoices_due_adds_up CHECK (amount_due = total - credits_applied),
    CONSTRAINT invoices_paid_in_full CHECK (state <> 'paid' OR amount_paid = amount_due)
);
CREATE UNIQUE INDEX invoices_one_not_void ON invoices (customer_id, period_start, kind) WHERE state <> 'void';
CREATE UNIQUE INDEX invoices_number_seq ON invoices (customer_id, number_seq) WHERE number_seq IS NOT NULL;
CREATE INDEX invoices_due ON invoices (finalize_after, customer_id) WHERE state = 'draft' AND held_at IS NULL;
CREATE INDEX invoices_by_state ON invoices (state, compiled_at);
CREATE INDEX invoices_by_number ON invoices (number) WHERE number IS NOT NULL;

CREATE TABLE adjustments (
    customer_id    uuid NOT NULL,
    id             uuid NOT NULL,
    invoice_id     uuid NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('charge', 'credit', 'waive')),
    line_id        uuid,
    amount         numeric NOT NULL CHECK (amount <> 0),
    description    text NOT NULL CHECK (length(description) BETWEEN 1 AND 500),
    reason         text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor          text NOT NULL,
    created_at     timestamptz NOT NULL,
    entry_id       uuid NOT NULL,
    needs_approval boolean NOT NULL,
    approved_by    text,
    approved_at    timestamptz,
    undone_by      text,
    undone_at      timestamptz,
    undo_reason    text,
    PRIMARY KEY (customer_id, id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CHECK ((kind = 'charge') = (amount > 0)),
    CHECK ((kind = 'charge') = (line_id IS NULL)),
    CHECK (num_nonnulls(approved_by, approved_at) IN (0, 2)),
    CHECK (num_nonnulls(undone_by, undone_at, undo_reason) IN (0, 3)),
    CONSTRAINT adjustments_second_person CHECK (approved_by IS NULL OR approved_by <> actor)
);
CREATE INDEX adjustments_by_invoice ON adjustments (customer_id, invoice_id, created_at);

CREATE TABLE invoice_lines (
    customer_id        uuid NOT NULL,
    invoice_id         uuid NOT NULL,
    id                 uuid NOT NULL DEFAULT gen_random_uuid(),
    position           integer NOT NULL CHECK (position > 0),
    contra_account     text NOT NULL,
    item               text,
    price_id           uuid,
    usage_period_start timestamptz NOT NULL,
    description        text NOT NULL,
    quantity           numeric,
    amount             numeric NOT NULL,
    rounded            numeric,
    adjustment_id      uuid,
    PRIMARY KEY (customer_id, invoice_id, id),
    CONSTRAINT invoice_lines_key UNIQUE NULLS NOT DISTINCT
        (customer_id, invoice_id, contra_account, item, price_id, usage_period_start, adjustment_id)
);

CREATE TABLE invoice_history (
    customer_id uuid NOT NULL,
    invoice_id  uuid NOT NULL,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    at          timestamptz NOT NULL,
    actor       text NOT NULL,
    action      text NOT NULL,
    from_state  text,
    to_state    text,
    reason      text,
    details     jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (customer_id, invoice_id, id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id)
);

CREATE TABLE credit_grants (
    customer_id uuid NOT NULL REFERENCES customers,
    id          uuid NOT NULL,
    account     text NOT NULL CHECK (account IN ('liabilities:credits:promotional', 'liabilities:credits:goodwill')),
    amount      numeric NOT NULL CHECK (amount > 0),
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor       text NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (customer_id, id),
    FOREIGN KEY (customer_id, id) REFERENCES ledger_documents (customer_id, id)
);

CREATE TABLE payments (
    customer_id uuid NOT NULL,
    provider    text NOT NULL,
    external_id text NOT NULL,
    invoice_id  uuid NOT NULL,
    amount      numeric NOT NULL CHECK (amount > 0),
    applied     numeric NOT NULL CHECK (applied >= 0 AND applied <= amount),
    received_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id)
);
CREATE INDEX payments_by_invoice ON payments (customer_id, invoice_id);

CREATE TABLE payment_failures (
    customer_id     uuid NOT NULL,
    provider        text NOT NULL,
    external_id     text NOT NULL,
    invoice_id      uuid NOT NULL,
    attempt         integer NOT NULL CHECK (attempt >= 0),
    code            text,
    message         text,
    failed_at       timestamptz NOT NULL,
    next_attempt_at timestamptz,
    PRIMARY KEY (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id)
);
CREATE INDEX payment_failures_by_invoice ON payment_failures (customer_id, invoice_id, attempt);

CREATE TABLE parked_work (
    customer_id uuid NOT NULL REFERENCES ledger_books,
    stage       text NOT NULL CHECK (stage IN ('close', 'finalize')),
    subject     text NOT NULL,
    code        text NOT NULL,
    reason      text NOT NULL,
    attempts    integer NOT NULL DEFAULT 1,
    parked_at   timestamptz NOT NULL,
    released_at timestamptz,
    released_by text,
    PRIMARY KEY (customer_id, stage, subject)
);
COMMENT ON TABLE parked_work IS 'One customer set aside with a reason while all others go on; released by a person.';
"""

GUARDS = """
CREATE FUNCTION invoicing_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: these rows are never changed or removed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_history
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON payments
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_grants
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON prices
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_prefixes
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON invoices
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON adjustments
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON customers
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER kept BEFORE TRUNCATE ON invoice_lines
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

-- A condition of the trigger is tested without a call of its function: a thousand drafts pay for none.
CREATE FUNCTION invoices_started() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'invoice % refused: an invoice starts as a draft', NEW.id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER starts_as_draft BEFORE INSERT ON invoices FOR EACH ROW
    WHEN (NEW.state <> 'draft' OR NEW.number IS NOT NULL OR NEW.amount_paid <> 0)
    EXECUTE FUNCTION invoices_started();

-- The three foreign keys of an invoice, asked once for a statement. Nothing that they name is ever removed or renamed,
-- so there is nothing to lock. Plans are kept for the session and the first statement decides them: look-ups by key
-- are right for every later one too. pg_temp stands last, or a temporary table could take the place of one of ours.
CREATE FUNCTION invoices_compiled() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    offender record;
BEGIN
    SELECT a.customer_id, a.id, a.period_start INTO offender
      FROM added a
      LEFT JOIN customers c ON c.customer_id = a.customer_id
      LEFT JOIN ledger_documents d ON d.customer_id = a.customer_id AND d.id = a.id
      LEFT JOIN ledger_periods p ON p.customer_id = a.customer_id AND p.start_at = a.period_start
     WHERE c.customer_id IS NULL OR d.id IS NULL OR p.start_at IS NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'invoice % refused: customer % does not exist, or has no such document or period %',
            offender.id, offender.customer_id, offender.period_start USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER names_what_exists AFTER INSERT ON invoices
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION invoices_compiled();

CREATE FUNCTION invoices_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.customer_id, NEW.id, NEW.kind, NEW.period_start, NEW.period_end, NEW.generation, NEW.currency,
        NEW.compiled_at)
       IS DISTINCT FROM (OLD.customer_id, OLD.id, OLD.kind, OLD.period_start, OLD.period_end, OLD.generation,
        OLD.currency, OLD.compiled_at) THEN
        RAISE EXCEPTION 'invoice % refused: what it bills never changes', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('draft', 'final'), ('draft', 'carried_forward'), ('draft', 'empty'), ('final', 'paid'), ('final', 'void'),
        ('final', 'uncollectible'), ('uncollectible', 'paid'), ('uncollectible', 'void')) THEN
        RAISE EXCEPTION 'invoice % refused: % never becomes %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.state <> 'draft' AND
       (NEW.number, NEW.number_seq, NEW.exact_total, NEW.total, NEW.credits_applied, NEW.amount_due,
        NEW.finalized_at)
       IS DISTINCT FROM
       (OLD.number, OLD.number_seq, OLD.exact_total, OLD.total, OLD.credits_applied, OLD.amount_due,
        OLD.finalized_at) THEN
        RAISE EXCEPTION 'invoice % refused: number and totals are written once', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state IN ('final', 'paid') AND OLD.state = 'draft' AND
       (NEW.held_at IS NOT NULL
        OR EXISTS (SELECT FROM public.adjustments a WHERE a.customer_id = NEW.customer_id AND a.invoice_id = NEW.id
                      AND a.needs_approval AND a.approved_at IS NULL AND a.undone_at IS NULL)) THEN
        RAISE EXCEPTION 'invoice % refused: it is held or awaits approval', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER along_its_states BEFORE UPDATE ON invoices
    FOR EACH ROW EXECUTE FUNCTION invoices_changed();

-- The state is read with a lock: an invoice that is being finalized at this moment is waited for, and then no draft.
CREATE FUNCTION invoice_parts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    part  record := coalesce(NEW, OLD);
    found_state text;
BEGIN
    SELECT state INTO found_state FROM public.invoices
     WHERE customer_id = part.customer_id AND id = part.invoice_id FOR SHARE;
    IF found_state IS DISTINCT FROM 'draft' THEN
        RAISE EXCEPTION '% of % refused: invoice % is no draft', TG_OP, TG_TABLE_NAME, part.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN part;
END $$;
CREATE TRIGGER only_in_drafts BEFORE UPDATE OR DELETE ON invoice_lines
    FOR EACH ROW EXECUTE FUNCTION invoice_parts_changed();
CREATE TRIGGER only_in_drafts BEFORE INSERT OR UPDATE ON adjustments
    FOR EACH ROW EXECUTE FUNCTION invoice_parts_changed();

-- The same for new lines, which come by the thousand, and their foreign keys, once for a statement. The state is
-- asked of the row that the primary key finds: an index on states would find every draft there is.
CREATE FUNCTION invoice_lines_added() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    offender record;
BEGIN
    SELECT a.invoice_id INTO offender
      FROM (SELECT DISTINCT customer_id, invoice_id FROM added) a
      LEFT JOIN LATERAL (SELECT i.state FROM invoices i
                          WHERE i.customer_id = a.customer_id AND i.id = a.invoice_id FOR SHARE) i ON true
     WHERE i.state IS DISTINCT FROM 'draft' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '% of % refused: invoice % is no draft', TG_OP, TG_TABLE_NAME, offender.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT a.invoice_id, a.adjustment_id INTO offender
      FROM added a
      LEFT JOIN adjustments j ON j.customer_id = a.customer_id AND j.id = a.adjustment_id
                             AND j.invoice_id = a.invoice_id
     WHERE a.adjustment_id IS NOT NULL AND j.id IS NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'line refused: invoice % has no adjustment %', offender.invoice_id, offender.adjustment_id
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER only_into_drafts AFTER INSERT ON invoice_lines
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION invoice_lines_added();

-- A part never moves to another invoice: out of a final one it would be taken away, into a draft it would be slipped.
CREATE FUNCTION invoice_parts_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'UPDATE of % refused: a part of invoice % stays what it is and where it is', TG_TABLE_NAME,
        OLD.invoice_id USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER stays BEFORE UPDATE ON invoice_lines FOR EACH ROW
    WHEN ((NEW.customer_id, NEW.invoice_id, NEW.id, NEW.adjustment_id)
          IS DISTINCT FROM (OLD.customer_id, OLD.invoice_id, OLD.id, OLD.adjustment_id))
    EXECUTE FUNCTION invoice_parts_moved();
CREATE TRIGGER stays BEFORE UPDATE ON adjustments FOR EACH ROW
    WHEN ((NEW.customer_id, NEW.invoice_id, NEW.id) IS DISTINCT FROM (OLD.customer_id, OLD.invoice_id, OLD.id))
    EXECUTE FUNCTION invoice_parts_moved();

CREATE FUNCTION customers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.customer_id, NEW.external_id, NEW.invoice_prefix)
       IS DISTINCT FROM (OLD.customer_id, OLD.external_id, OLD.invoice_prefix)
       OR NEW.last_invoice_number NOT IN (OLD.last_invoice_number, OLD.last_invoice_number + 1) THEN
        RAISE EXCEPTION 'customer % refused: ids and prefix are for life, numbers are given out one by one',
            OLD.customer_id USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER for_life BEFORE UPDATE ON customers FOR EACH ROW EXECUTE FUNCTION customers_changed();

GRANT SELECT, INSERT ON invoice_prefixes, customers, items, prices, invoices, adjustments, invoice_lines,
    invoice_history, credit_grants, payments, payment_failures, parked_work TO billing_app;
GRANT UPDATE ON customers, items, invoices, adjustments, invoice_lines, payment_failures, parked_work TO billing_app;
GRANT DELETE ON invoice_lines TO billing_app;
"""


def upgrade() -> None:
    run(TABLES)
    run(GUARDS)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM invoices WHERE number IS NOT NULL) THEN
                RAISE EXCEPTION 'invoices with numbers exist: they are never thrown away';
            END IF;
        END $$;
        DROP TABLE parked_work, payment_failures, payments, credit_grants, invoice_history, invoice_lines, adjustments,
                   invoices, prices, items, customers, invoice_prefixes;
        DROP FUNCTION invoicing_refuse_change, invoices_started, invoices_compiled, invoices_changed,
                      invoice_parts_changed, invoice_lines_added, invoice_parts_moved, customers_changed;
    """)
