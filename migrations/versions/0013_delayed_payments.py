"""Payments that take their time, and payments in part: debits under way, and parts that came past the provider.

Why: a debit moves no money until the bank has answered, so nothing about it is in the books; but who reads the invoice
has to know, and nobody may collect the same money a second way meanwhile. Stripe writes a balance transaction as soon
as a debit begins and takes it back if it fails: until the answer it is no movement of the money. A part of an invoice
that came by bank transfer is told to Stripe by an operation of its own kind, `pay_part`.
Locks: ACCESS EXCLUSIVE on stripe_transactions for as long as a column with a constant default takes,
and on stripe_operations and stripe_requests while their rows are checked.
Undo: drops the table and the column, and refuses where a part was told to Stripe. What is under way then shows as open,
until the bank's answer.
"""

from migrations.sql import run

revision = "0013"
down_revision = "0012"

DEBITS = """
CREATE TABLE payments_under_way (
    customer_id uuid NOT NULL,
    provider    text NOT NULL,
    external_id text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    invoice_id  uuid NOT NULL,
    amount      numeric NOT NULL CHECK (amount > 0),
    method      text NOT NULL CHECK (method <> ''),
    began_at    timestamptz NOT NULL,
    noted_at    timestamptz NOT NULL,
    state       text NOT NULL CHECK (state IN ('under_way', 'paid', 'failed')),
    ended_at    timestamptz,
    PRIMARY KEY (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CONSTRAINT payments_under_way_end_has_a_time CHECK ((state = 'under_way') = (ended_at IS NULL))
);
COMMENT ON TABLE payments_under_way IS
    'Debits that a bank answers only after days, one row for each attempt. They move no money: payments does.';
COMMENT ON COLUMN payments_under_way.ended_at IS 'When we heard of the end, by the caller''s clock.';
CREATE INDEX payments_under_way_by_invoice ON payments_under_way (customer_id, invoice_id);
CREATE INDEX payments_under_way_waiting ON payments_under_way (provider, external_id) WHERE state = 'under_way';

CREATE FUNCTION payments_under_way_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'under_way'
       OR (NEW.customer_id, NEW.provider, NEW.external_id, NEW.invoice_id, NEW.amount, NEW.method, NEW.began_at,
           NEW.noted_at)
          IS DISTINCT FROM (OLD.customer_id, OLD.provider, OLD.external_id, OLD.invoice_id, OLD.amount, OLD.method,
           OLD.began_at, OLD.noted_at) THEN
        RAISE EXCEPTION 'debit % refused: it stays as it began, and a bank answers once', OLD.external_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON payments_under_way
    FOR EACH ROW EXECUTE FUNCTION payments_under_way_changed();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON payments_under_way
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

GRANT SELECT, INSERT, UPDATE ON payments_under_way TO billing_app;
ALTER TABLE payments_under_way ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON payments_under_way TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON payments_under_way FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT ON payments_under_way TO billing_panel;
"""

TRANSACTIONS = """
ALTER TABLE stripe_transactions ADD COLUMN is_under_way boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN stripe_transactions.is_under_way IS
    'Of a debit whose bank has not answered: it counts as no movement of the money until then.';
CREATE INDEX stripe_transactions_under_way ON stripe_transactions (source) WHERE is_under_way;
CREATE FUNCTION stripe_transactions_settled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'balance transaction % refused: what has moved is not under way again', OLD.id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER settled_once BEFORE UPDATE OF is_under_way ON stripe_transactions
    FOR EACH ROW WHEN (NEW.is_under_way AND NOT OLD.is_under_way) EXECUTE FUNCTION stripe_transactions_settled();
"""

_KINDS = "'void', 'uncollectible', 'pay_outside', 'refund', 'credit_note', 'balance', 'close_dispute'"
_STEPS = f"'customer', 'create', 'lines', 'finalize', {_KINDS}"


def _parts(extra: str) -> str:
    """What operations and their requests may be; `extra` is a comma and more kinds, or nothing."""
    return f"""
        ALTER TABLE stripe_operations DROP CONSTRAINT stripe_operations_kind_check;
        ALTER TABLE stripe_operations ADD CONSTRAINT stripe_operations_kind_check CHECK (kind IN ({_KINDS}{extra}));
        ALTER TABLE stripe_operations DROP CONSTRAINT stripe_operations_of_money;
        ALTER TABLE stripe_operations ADD CONSTRAINT stripe_operations_of_money CHECK (
            kind NOT IN ('refund', 'credit_note', 'pay_outside'{extra})
            OR (currency IS NOT NULL AND amount_minor IS NOT NULL));
        ALTER TABLE stripe_requests DROP CONSTRAINT stripe_requests_step_check;
        ALTER TABLE stripe_requests ADD CONSTRAINT stripe_requests_step_check CHECK (step IN ({_STEPS}{extra}));
    """


def upgrade() -> None:
    run(DEBITS)
    run(TRANSACTIONS)
    run(_parts(", 'pay_part'"))


def downgrade() -> None:
    run(_parts(""))
    run("""
        DROP TRIGGER settled_once ON stripe_transactions;
        DROP FUNCTION stripe_transactions_settled;
        ALTER TABLE stripe_transactions DROP COLUMN is_under_way;
        DROP TABLE payments_under_way;
        DROP FUNCTION payments_under_way_changed;
    """)
