"""Who collects from each customer, and what the second provider needs: letters to send, lines of our bank statement.

Why: not every customer pays by card. Who collects is chosen per customer and written on each invoice when it becomes
final, so that a customer who changes does not move invoices that are already being collected. A line of a bank
statement is kept as it came, and settles at most one thing, once.
Locks: ACCESS EXCLUSIVE on customers and invoices for as long as a change of the catalogue takes; then every numbered
invoice is written once, which takes about a minute per million and keeps nobody from reading.
Undo: drops the columns and tables. Refused once an invoice is collected by somebody else than Stripe, or a line of a
bank statement was taken in: they would be forgotten.
"""

from migrations.sql import run

revision = "0011"
down_revision = "0010"

PROVIDERS = """
ALTER TABLE customers
    ADD COLUMN provider text NOT NULL DEFAULT 'stripe' CHECK (provider ~ '^[a-z_]{1,40}$');
ALTER TABLE invoices ADD COLUMN provider text CHECK (provider ~ '^[a-z_]{1,40}$');
COMMENT ON COLUMN invoices.provider IS 'Who collects it, from the moment on which it is final.';
UPDATE invoices SET provider = 'stripe' WHERE number IS NOT NULL;
ALTER TABLE invoices ADD CONSTRAINT invoices_numbered_has_provider CHECK (number IS NULL OR provider IS NOT NULL);

CREATE FUNCTION invoices_provider_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'invoice % refused: % collects it, and nobody else', OLD.id, OLD.provider
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER one_provider BEFORE UPDATE ON invoices FOR EACH ROW
    WHEN (OLD.provider IS NOT NULL AND NEW.provider IS DISTINCT FROM OLD.provider)
    EXECUTE FUNCTION invoices_provider_changed();
"""

LETTERS = """
CREATE TABLE manual_letters (
    customer_id     uuid NOT NULL,
    invoice_id      uuid NOT NULL,
    number          text NOT NULL,
    recipient       text,
    subject         text NOT NULL CHECK (length(subject) BETWEEN 1 AND 200),
    body            text NOT NULL CHECK (length(body) <= 200000),
    state           text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'waiting', 'parked', 'done')),
    fence           bigint NOT NULL DEFAULT 0 CHECK (fence >= 0),
    lease_until     timestamptz,
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz NOT NULL,
    last_error      text,
    created_at      timestamptz NOT NULL,
    sent_at         timestamptz,
    PRIMARY KEY (customer_id, invoice_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CHECK ((state = 'done') = (sent_at IS NOT NULL))
);
COMMENT ON TABLE manual_letters IS
    'One letter per invoice that the customer pays by bank transfer, as it was or will be sent.';
CREATE INDEX manual_letters_due ON manual_letters (next_attempt_at, customer_id) WHERE state IN ('due', 'waiting');
CREATE INDEX manual_letters_parked ON manual_letters (created_at) WHERE state = 'parked';

CREATE FUNCTION manual_letters_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.customer_id, NEW.invoice_id, NEW.number, NEW.subject, NEW.body, NEW.created_at)
       IS DISTINCT FROM (OLD.customer_id, OLD.invoice_id, OLD.number, OLD.subject, OLD.body, OLD.created_at)
       OR NEW.fence < OLD.fence
       OR (OLD.state = 'done' AND (NEW.state, NEW.recipient, NEW.sent_at)
           IS DISTINCT FROM (OLD.state, OLD.recipient, OLD.sent_at)) THEN
        RAISE EXCEPTION 'letter of invoice % refused: what it says is frozen, and what is sent stays sent', OLD.number
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER frozen BEFORE UPDATE ON manual_letters FOR EACH ROW EXECUTE FUNCTION manual_letters_changed();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON manual_letters
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
"""

BANK = """
CREATE TABLE bank_lines (
    id          uuid PRIMARY KEY,
    account     text NOT NULL CHECK (length(account) BETWEEN 1 AND 100),
    external_id text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    booked_on   date NOT NULL,
    amount      numeric NOT NULL CHECK (amount <> 0 AND abs(amount) < 1e15),
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    payer       text NOT NULL CHECK (length(payer) <= 500),
    reference   text NOT NULL CHECK (length(reference) <= 2000),
    imported_at timestamptz NOT NULL,
    imported_by text NOT NULL,
    state       text NOT NULL CHECK (state IN ('open', 'settled', 'set_aside')),
    customer_id uuid,
    invoice_id  uuid,
    decided_at  timestamptz,
    decided_by  text,
    note        text CHECK (length(note) <= 2000),
    UNIQUE (account, external_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CHECK ((state = 'settled') = (invoice_id IS NOT NULL) AND (invoice_id IS NULL) = (customer_id IS NULL)),
    CHECK ((state = 'open') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)),
    CONSTRAINT bank_lines_only_income_settles CHECK (state <> 'settled' OR amount > 0)
);
COMMENT ON TABLE bank_lines IS
    'Lines of our own bank statements, as they came. No key begins with a customer: most lines arrive without one.';
CREATE INDEX bank_lines_open ON bank_lines (booked_on, id) WHERE state = 'open';
CREATE INDEX bank_lines_by_time ON bank_lines (imported_at DESC, id);

CREATE FUNCTION bank_lines_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.account, NEW.external_id, NEW.booked_on, NEW.amount, NEW.currency, NEW.payer, NEW.reference,
        NEW.imported_at, NEW.imported_by)
       IS DISTINCT FROM (OLD.id, OLD.account, OLD.external_id, OLD.booked_on, OLD.amount, OLD.currency, OLD.payer,
        OLD.reference, OLD.imported_at, OLD.imported_by) OR OLD.state = 'settled' THEN
        RAISE EXCEPTION 'bank line % refused: it stays as it came, and settles one thing once', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER as_it_came BEFORE UPDATE ON bank_lines FOR EACH ROW EXECUTE FUNCTION bank_lines_changed();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON bank_lines
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

GRANT SELECT, INSERT, UPDATE ON manual_letters, bank_lines TO billing_app;
"""


def upgrade() -> None:
    run(PROVIDERS)
    run(LETTERS)
    run(BANK)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM invoices WHERE provider <> 'stripe') OR EXISTS (SELECT FROM bank_lines) THEN
                RAISE EXCEPTION 'invoices are collected by bank transfer: who collects them would be forgotten';
            END IF;
        END $$;
        DROP TABLE bank_lines, manual_letters;
        DROP FUNCTION bank_lines_changed, manual_letters_changed;
        DROP TRIGGER one_provider ON invoices;
        DROP FUNCTION invoices_provider_changed;
        ALTER TABLE invoices DROP COLUMN provider;
        ALTER TABLE customers DROP COLUMN provider;
    """)
