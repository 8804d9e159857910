"""Credit notes that are void: those of a refund made at the provider that never arrived.

Why: a refund that somebody makes at the provider gets its credit note when we hear of it. If it fails afterwards the
note must not stand, or the books would depend on whether we heard in time. It keeps its number, says who made it void
and why, and counts no more. Nothing else of a credit note ever changes, and only such a note can become void.
Locks: ACCESS EXCLUSIVE on credit_notes while two constraints are read against its rows: well below a second per
million. The function of the guard on new notes is replaced in place.
Undo: drops the columns and puts the guards back. Refused once a credit note is void: it would count again.
"""

from migrations.sql import run

revision = "0012"
down_revision = "0011"

COLUMNS = """
ALTER TABLE credit_notes
    ADD COLUMN voided_at timestamptz,
    ADD COLUMN voided_by text CHECK (length(voided_by) BETWEEN 1 AND 200),
    ADD COLUMN void_reason text CHECK (length(void_reason) BETWEEN 1 AND 2000),
    ADD CONSTRAINT credit_notes_void_at_once CHECK (num_nonnulls(voided_at, voided_by, void_reason) IN (0, 3)),
    -- Only what cash had paid: so an invoice's amount_credited, and with it its state, never depends on a void note.
    ADD CONSTRAINT credit_notes_only_foreign_ones_are_void CHECK (
        voided_at IS NULL
        OR (movement_id IS NULL AND disposition = 'refund' AND unpaid_part = 0 AND credits_part = 0));
COMMENT ON COLUMN credit_notes.voided_at IS
    'When the refund behind it turned out not to have arrived. From then on the note counts nowhere.';
"""

GUARDS = """
DROP TRIGGER append_only ON credit_notes;
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON credit_notes
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

CREATE FUNCTION credit_notes_changed() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.customer_id, NEW.id, NEW.invoice_id, NEW.movement_id, NEW.seq, NEW.number, NEW.amount, NEW.unpaid_part,
        NEW.cash_part, NEW.credits_part, NEW.disposition, NEW.reason, NEW.actor, NEW.issued_at)
       IS DISTINCT FROM (OLD.customer_id, OLD.id, OLD.invoice_id, OLD.movement_id, OLD.seq, OLD.number, OLD.amount,
        OLD.unpaid_part, OLD.cash_part, OLD.credits_part, OLD.disposition, OLD.reason, OLD.actor, OLD.issued_at)
       OR OLD.voided_at IS NOT NULL OR NEW.voided_at IS NULL THEN
        RAISE EXCEPTION 'credit note % refused: what it says never changes, and it becomes void once', OLD.number
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NOT EXISTS (SELECT FROM refunds r WHERE r.customer_id = NEW.customer_id AND r.credit_note_id = NEW.id)
       OR EXISTS (SELECT FROM refunds r WHERE r.customer_id = NEW.customer_id AND r.credit_note_id = NEW.id
                     AND (r.movement_id IS NOT NULL OR r.state NOT IN ('failed', 'canceled'))) THEN
        RAISE EXCEPTION 'credit note % refused: it is void only if its refund, made at the provider, did not arrive',
            OLD.number USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (SELECT coalesce(sum(CASE WHEN t.credit_account = 'liabilities:unapplied' THEN t.amount ELSE -t.amount END), 0)
          FROM ledger_totals t
         WHERE t.customer_id = NEW.customer_id AND t.document_id = NEW.id
           AND 'liabilities:unapplied' IN (t.debit_account, t.credit_account)) <> 0 THEN
        RAISE EXCEPTION 'credit note % refused: it becomes void only after its entries were taken back', OLD.number
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON credit_notes FOR EACH ROW EXECUTE FUNCTION credit_notes_changed();

CREATE FUNCTION refunds_note_stands() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM credit_notes c WHERE c.customer_id = NEW.customer_id AND c.id = NEW.credit_note_id
                  AND c.voided_at IS NOT NULL) THEN
        RAISE EXCEPTION 'refund % refused: its credit note is void', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER of_a_standing_note BEFORE INSERT ON refunds FOR EACH ROW
    WHEN (NEW.credit_note_id IS NOT NULL) EXECUTE FUNCTION refunds_note_stands();

GRANT UPDATE (voided_at, voided_by, void_reason) ON credit_notes TO billing_app;
"""


# All notes have had a number; only those that stand count against the invoice.
COUNTED = " FILTER (WHERE voided_at IS NULL)"
WITHIN_THE_INVOICE = """
CREATE OR REPLACE FUNCTION credit_notes_issued() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    about  invoices := invoice_taken(NEW.customer_id, NEW.invoice_id);
    before record;
BEGIN
    SELECT count(*) AS notes, coalesce(sum(amount) FILTER (WHERE voided_at IS NULL), 0) AS amount,
           coalesce(sum(cash_part) FILTER (WHERE voided_at IS NULL), 0) AS cash_part,
           coalesce(sum(credits_part) FILTER (WHERE voided_at IS NULL), 0) AS credits_part INTO before
      FROM credit_notes WHERE customer_id = NEW.customer_id AND invoice_id = NEW.invoice_id;
    IF about.state IS NULL OR about.state NOT IN ('final', 'paid', 'uncollectible') THEN
        RAISE EXCEPTION 'credit note % refused: invoice % is %', NEW.number, NEW.invoice_id, about.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.seq <> before.notes + 1 OR NEW.number <> about.number || '-C' || NEW.seq THEN
        RAISE EXCEPTION 'credit note % refused: its number follows the invoice and has no gap', NEW.number
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF before.amount + NEW.amount > about.total
       OR NEW.unpaid_part > (CASE about.state WHEN 'final' THEN about.amount_due - about.amount_credited
                                                                 - about.amount_paid ELSE 0 END)
       OR before.cash_part + NEW.cash_part > about.amount_paid
       OR before.credits_part + NEW.credits_part > about.credits_applied THEN
        RAISE EXCEPTION 'credit note % refused: it is more than what is left of the invoice to credit', NEW.number
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
"""


# A note begins standing; becoming void is a step of its own, with guards of its own.
ISSUED = """
CREATE FUNCTION credit_notes_void_at_birth() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'credit note % refused: it is issued before it becomes void', NEW.number
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER begins BEFORE INSERT ON credit_notes FOR EACH ROW
    WHEN (NEW.voided_at IS NOT NULL) EXECUTE FUNCTION credit_notes_void_at_birth();
"""


def upgrade() -> None:
    for part in (COLUMNS, GUARDS, WITHIN_THE_INVOICE, ISSUED):
        run(part)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM credit_notes WHERE voided_at IS NOT NULL) THEN
                RAISE EXCEPTION 'credit notes are void: they would count again';
            END IF;
        END $$;
        DROP TRIGGER of_a_standing_note ON refunds;
        DROP TRIGGER only_forward ON credit_notes;
        DROP TRIGGER begins ON credit_notes;
        DROP TRIGGER kept ON credit_notes;
        DROP FUNCTION refunds_note_stands, credit_notes_changed, credit_notes_void_at_birth;
        REVOKE UPDATE (voided_at, voided_by, void_reason) ON credit_notes FROM billing_app;
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_notes
            FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
    """)
    run(WITHIN_THE_INVOICE.replace(COUNTED, ""))
    run("ALTER TABLE credit_notes DROP COLUMN voided_at, DROP COLUMN voided_by, DROP COLUMN void_reason;")
