"""Money that moves after an invoice is final: movements, credit notes, refunds, disputes, payouts; tasks for people.

Why: what was billed is never edited, so every later change is a document of its own with entries of its own. The rules
that protect money stand here as triggers: a movement above the limit does nothing before a second person agreed, what
is credited never exceeds the invoice, what is refunded never exceeds the payment, and no state goes backwards.
Locks: ACCESS EXCLUSIVE on invoices for as long as a change of the catalogue takes; the new column has a constant
default, so no row is rewritten. The new constraints are read against every invoice once.
Undo: drops the tables and the column. Refused once there is a movement, credit note, refund, dispute or payout.
"""

from migrations.sql import run

revision = "0007"
down_revision = "0006"

TABLES = """
ALTER TABLE invoices
    ADD COLUMN amount_credited numeric NOT NULL DEFAULT 0 CHECK (amount_credited >= 0),
    DROP CONSTRAINT invoices_paid_in_full,
    ADD CONSTRAINT invoices_paid_in_full CHECK (state <> 'paid' OR amount_paid + amount_credited = amount_due),
    ADD CONSTRAINT invoices_never_below_zero CHECK (amount_paid + amount_credited <= coalesce(amount_due, 0));
COMMENT ON COLUMN invoices.amount_credited IS
    'What credit notes took off the open amount; the parts of them that were paid already are not in it.';

CREATE TABLE movements (
    customer_id    uuid NOT NULL,
    id             uuid NOT NULL,
    invoice_id     uuid NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('credit_note', 'refund_unapplied', 'keep_unapplied', 'void',
                                                 'write_off', 'outside_payment', 'accept_dispute')),
    amount         numeric NOT NULL CHECK (amount > 0 AND amount < 1e15),
    options        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
    draft_window_s integer CHECK (draft_window_s BETWEEN 0 AND 50 * 86400),
    reason         text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor          text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    requested_at   timestamptz NOT NULL,
    needs_approval boolean NOT NULL,
    approved_by    text CHECK (length(approved_by) BETWEEN 1 AND 200),
    approved_at    timestamptz,
    state          text NOT NULL CHECK (state IN ('awaiting_approval', 'working', 'done', 'refused', 'withdrawn')),
    decided_at     timestamptz,
    external_id    text CHECK (length(external_id) BETWEEN 1 AND 255),
    code           text CHECK (length(code) BETWEEN 1 AND 200),
    note           text CHECK (length(note) <= 2000),
    PRIMARY KEY (customer_id, id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CHECK (num_nonnulls(approved_by, approved_at) IN (0, 2)),
    CHECK ((decided_at IS NOT NULL) = (state IN ('done', 'refused', 'withdrawn'))),
    CHECK ((code IS NOT NULL) = (state = 'refused')),
    CHECK ((draft_window_s IS NOT NULL) = (kind = 'void')),
    CONSTRAINT movements_second_person CHECK (approved_by IS NULL OR approved_by <> actor),
    CONSTRAINT movements_approved_first CHECK (CASE
        WHEN state IN ('awaiting_approval', 'withdrawn') THEN needs_approval AND approved_by IS NULL
        ELSE needs_approval = (approved_by IS NOT NULL) END)
);
COMMENT ON TABLE movements IS 'What staff or a program began with a final invoice, from the wish to its end.';
CREATE INDEX movements_by_invoice ON movements (customer_id, invoice_id, requested_at);
CREATE INDEX movements_awaiting ON movements (requested_at) WHERE state = 'awaiting_approval';
CREATE INDEX movements_under_way ON movements (customer_id, invoice_id) WHERE state IN ('awaiting_approval', 'working');

CREATE TABLE credit_notes (
    customer_id  uuid NOT NULL,
    id           uuid NOT NULL,
    invoice_id   uuid NOT NULL,
    movement_id  uuid,
    seq          integer NOT NULL CHECK (seq > 0),
    number       text NOT NULL CHECK (length(number) BETWEEN 5 AND 40),
    amount       numeric NOT NULL CHECK (amount > 0 AND amount < 1e15),
    unpaid_part  numeric NOT NULL CHECK (unpaid_part >= 0),
    cash_part    numeric NOT NULL CHECK (cash_part >= 0),
    credits_part numeric NOT NULL CHECK (credits_part >= 0),
    disposition  text NOT NULL CHECK (disposition IN ('refund', 'keep')),
    reason       text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor        text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    issued_at    timestamptz NOT NULL,
    PRIMARY KEY (customer_id, id),
    UNIQUE (customer_id, invoice_id, seq),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    FOREIGN KEY (customer_id, movement_id) REFERENCES movements (customer_id, id),
    FOREIGN KEY (customer_id, id) REFERENCES ledger_documents (customer_id, id),
    CONSTRAINT credit_notes_add_up CHECK (amount = unpaid_part + cash_part + credits_part)
);
CREATE UNIQUE INDEX credit_notes_one_of_a_movement ON credit_notes (customer_id, movement_id)
    WHERE movement_id IS NOT NULL;
CREATE INDEX credit_notes_by_number ON credit_notes (number);

CREATE TABLE refunds (
    customer_id         uuid NOT NULL,
    id                  uuid NOT NULL,
    invoice_id          uuid NOT NULL,
    credit_note_id      uuid,
    movement_id         uuid,
    provider            text NOT NULL,
    payment_external_id text NOT NULL,
    amount              numeric NOT NULL CHECK (amount > 0 AND amount < 1e15),
    reason              text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor               text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    requested_at        timestamptz NOT NULL,
    state               text NOT NULL DEFAULT 'requested'
        CHECK (state IN ('requested', 'pending', 'succeeded', 'failed', 'canceled')),
    external_id         text CHECK (length(external_id) BETWEEN 1 AND 255),
    failure_code        text CHECK (length(failure_code) <= 200),
    failure_reason      text CHECK (length(failure_reason) <= 2000),
    settled_at          timestamptz,
    failed_at           timestamptz,
    PRIMARY KEY (customer_id, id),
    UNIQUE (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    FOREIGN KEY (customer_id, provider, payment_external_id) REFERENCES payments (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, credit_note_id) REFERENCES credit_notes (customer_id, id),
    FOREIGN KEY (customer_id, movement_id) REFERENCES movements (customer_id, id),
    FOREIGN KEY (customer_id, id) REFERENCES ledger_documents (customer_id, id),
    CHECK ((failed_at IS NOT NULL) = (state IN ('failed', 'canceled'))),
    CHECK (settled_at IS NOT NULL OR state <> 'succeeded'),
    CHECK (settled_at IS NULL OR state IN ('succeeded', 'failed'))
);
CREATE INDEX refunds_by_payment ON refunds (customer_id, provider, payment_external_id);
CREATE INDEX refunds_by_invoice ON refunds (customer_id, invoice_id, requested_at);
CREATE INDEX refunds_by_movement ON refunds (customer_id, movement_id) WHERE movement_id IS NOT NULL;
CREATE INDEX refunds_by_external_id ON refunds (external_id) WHERE external_id IS NOT NULL;

CREATE TABLE disputes (
    customer_id         uuid NOT NULL,
    id                  uuid NOT NULL,
    provider            text NOT NULL,
    external_id         text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    invoice_id          uuid,
    payment_external_id text,
    amount              numeric CHECK (amount > 0 AND amount < 1e15),
    currency            text CHECK (currency ~ '^[A-Z]{3}$'),
    reason              text CHECK (length(reason) <= 2000),
    status              text CHECK (status IN ('warning_needs_response', 'warning_under_review', 'warning_closed',
                                               'needs_response', 'under_review', 'prevented', 'lost', 'won')),
    evidence_due_at     timestamptz,
    opened_at           timestamptz,
    closed_at           timestamptz,
    withdrawn           numeric NOT NULL DEFAULT 0 CHECK (withdrawn >= 0),
    reinstated          numeric NOT NULL DEFAULT 0 CHECK (reinstated >= 0),
    fees                numeric NOT NULL DEFAULT 0,
    updated_at          timestamptz NOT NULL,
    PRIMARY KEY (customer_id, id),
    UNIQUE (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    FOREIGN KEY (customer_id, id) REFERENCES ledger_documents (customer_id, id),
    -- Money may be withdrawn before anybody told us of the dispute; then the facts follow together.
    CONSTRAINT disputes_facts_come_together CHECK (
        num_nonnulls(invoice_id, payment_external_id, amount, currency, reason, status, opened_at) IN (0, 7)),
    CHECK ((closed_at IS NOT NULL) = (coalesce(status, '') IN ('warning_closed', 'prevented', 'lost', 'won')))
);
CREATE INDEX disputes_by_invoice ON disputes (customer_id, invoice_id);
CREATE INDEX disputes_by_external_id ON disputes (external_id);

CREATE TABLE payouts (
    customer_id   uuid NOT NULL REFERENCES ledger_books,
    id            uuid NOT NULL,
    provider      text NOT NULL,
    account       text NOT NULL,
    currency      text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    external_id   text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    amount        numeric NOT NULL CHECK (amount <> 0 AND abs(amount) < 1e15),
    status        text NOT NULL CHECK (status IN ('pending', 'in_transit', 'paid', 'canceled', 'failed')),
    arrival_at    timestamptz,
    paid_at       timestamptz,
    failed_at     timestamptz,
    reconciled_at timestamptz,
    PRIMARY KEY (customer_id, id),
    UNIQUE (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, id) REFERENCES ledger_documents (customer_id, id),
    CHECK (paid_at IS NOT NULL OR status <> 'paid'),
    CHECK ((failed_at IS NOT NULL) = (status IN ('canceled', 'failed')))
);
COMMENT ON TABLE payouts IS
    'In the house''s books: money on its way from the provider to the bank, or (negative) back.';
CREATE INDEX payouts_unreconciled ON payouts (arrival_at) WHERE reconciled_at IS NULL;
CREATE INDEX payouts_by_external_id ON payouts (external_id);

CREATE TABLE tasks (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (length(kind) BETWEEN 1 AND 100),
    subject     text NOT NULL CHECK (length(subject) BETWEEN 1 AND 500),
    customer_id uuid REFERENCES ledger_books,
    invoice_id  uuid,
    title       text NOT NULL CHECK (length(title) BETWEEN 1 AND 300),
    text        text NOT NULL CHECK (length(text) BETWEEN 1 AND 4000),
    cause       text NOT NULL CHECK (length(cause) BETWEEN 1 AND 500),
    details     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    opened_at   timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    seen        integer NOT NULL DEFAULT 1 CHECK (seen > 0),
    resolved_at timestamptz,
    resolved_by text CHECK (length(resolved_by) BETWEEN 1 AND 200),
    resolution  text CHECK (length(resolution) BETWEEN 1 AND 2000),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CHECK (invoice_id IS NULL OR customer_id IS NOT NULL),
    CHECK (num_nonnulls(resolved_at, resolved_by, resolution) IN (0, 3))
);
COMMENT ON TABLE tasks IS 'What only a person can settle; found again while it is open, it is the same task.';
CREATE UNIQUE INDEX tasks_one_open ON tasks (kind, subject) WHERE resolved_at IS NULL;
CREATE INDEX tasks_open ON tasks (opened_at) WHERE resolved_at IS NULL;
CREATE INDEX tasks_of_customer ON tasks (customer_id, opened_at) WHERE customer_id IS NOT NULL;
"""

KEPT = "".join(
    f"""
CREATE TRIGGER {name} BEFORE {events} ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();"""
    for table, name, events in (
        ("movements", "kept", "DELETE OR TRUNCATE"),
        ("credit_notes", "append_only", "UPDATE OR DELETE OR TRUNCATE"),
        ("refunds", "kept", "DELETE OR TRUNCATE"),
        ("disputes", "kept", "DELETE OR TRUNCATE"),
        ("payouts", "kept", "DELETE OR TRUNCATE"),
        ("tasks", "kept", "DELETE OR TRUNCATE"),
    )
)

GUARDS = """
-- What an invoice says was paid and credited is what its payments and credit notes add up to, and only rises. Neither
-- of the endings is written before the books have followed: nothing is left of the receivable.
CREATE FUNCTION invoices_money_moved() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    paid     numeric;
    credited numeric;
BEGIN
    IF (NEW.amount_paid, NEW.amount_credited) IS DISTINCT FROM (OLD.amount_paid, OLD.amount_credited) THEN
        SELECT coalesce(sum(applied), 0) INTO paid FROM payments
         WHERE customer_id = NEW.customer_id AND invoice_id = NEW.id;
        SELECT coalesce(sum(unpaid_part), 0) INTO credited FROM credit_notes
         WHERE customer_id = NEW.customer_id AND invoice_id = NEW.id;
        IF OLD.state NOT IN ('final', 'uncollectible')
           OR NEW.amount_paid < OLD.amount_paid OR NEW.amount_credited < OLD.amount_credited
           OR NEW.amount_paid <> paid OR NEW.amount_credited <> credited THEN
            RAISE EXCEPTION 'invoice % refused: paid % and credited % are not what payments (%) and notes (%) say',
                OLD.id, NEW.amount_paid, NEW.amount_credited, paid, credited
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
    IF NEW.state IN ('void', 'uncollectible') AND NEW.state <> OLD.state THEN
        IF NEW.state = 'void' AND (
               EXISTS (SELECT FROM payments p WHERE p.customer_id = NEW.customer_id AND p.invoice_id = NEW.id)
            OR EXISTS (SELECT FROM credit_notes c WHERE c.customer_id = NEW.customer_id AND c.invoice_id = NEW.id)
            OR EXISTS (SELECT FROM disputes d WHERE d.customer_id = NEW.customer_id AND d.invoice_id = NEW.id)) THEN
            RAISE EXCEPTION 'invoice % refused: money moved for it, so it is never void; credit it instead', OLD.id
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        IF (SELECT sum(CASE WHEN t.debit_account = 'assets:receivable' THEN t.amount ELSE -t.amount END)
              FROM ledger_totals t
             WHERE t.customer_id = NEW.customer_id AND t.document_id = NEW.id
               AND 'assets:receivable' IN (t.debit_account, t.credit_account)) <> 0 THEN
            RAISE EXCEPTION 'invoice % refused: it becomes % only after the books gave its receivable up', OLD.id,
                NEW.state USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER money_moved BEFORE UPDATE ON invoices FOR EACH ROW
    WHEN (OLD.amount_paid <> NEW.amount_paid OR OLD.amount_credited <> NEW.amount_credited OR OLD.state <> NEW.state)
    EXECUTE FUNCTION invoices_money_moved();
CREATE FUNCTION invoices_credited_at_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'invoice % refused: a new draft was never credited', NEW.id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER starts_uncredited BEFORE INSERT ON invoices FOR EACH ROW
    WHEN (NEW.amount_credited <> 0) EXECUTE FUNCTION invoices_credited_at_once();

-- The invoice is written, not only locked: a transaction whose snapshot is older (REPEATABLE READ) then fails instead
-- of adding up rows that it cannot see yet.
CREATE FUNCTION invoice_taken(of_customer uuid, taken uuid) RETURNS invoices LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    found_invoice invoices;
BEGIN
    UPDATE invoices SET version = version WHERE customer_id = of_customer AND id = taken
    RETURNING * INTO found_invoice;
    RETURN found_invoice;
END $$;

CREATE FUNCTION movements_started() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    about invoices := invoice_taken(NEW.customer_id, NEW.invoice_id);
BEGIN
    IF NEW.state <> (CASE WHEN NEW.needs_approval THEN 'awaiting_approval' ELSE 'working' END)
       OR NEW.external_id IS NOT NULL THEN
        RAISE EXCEPTION 'movement % refused: it begins with approval, or at once if it needs none', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF about.number IS NULL THEN
        RAISE EXCEPTION 'movement % refused: invoice % is not final', NEW.id, NEW.invoice_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (SELECT FROM movements m
                WHERE m.customer_id = NEW.customer_id AND m.invoice_id = NEW.invoice_id
                  AND m.state IN ('awaiting_approval', 'working')
                  AND (m.kind IN ('void', 'write_off', 'outside_payment')
                       OR NEW.kind IN ('void', 'write_off', 'outside_payment'))) THEN
        RAISE EXCEPTION 'movement % refused: another one that it excludes is under way', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER begins BEFORE INSERT ON movements FOR EACH ROW EXECUTE FUNCTION movements_started();

CREATE FUNCTION movements_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.customer_id, NEW.id, NEW.invoice_id, NEW.kind, NEW.amount, NEW.options, NEW.draft_window_s, NEW.reason,
        NEW.actor, NEW.requested_at, NEW.needs_approval)
       IS DISTINCT FROM (OLD.customer_id, OLD.id, OLD.invoice_id, OLD.kind, OLD.amount, OLD.options,
        OLD.draft_window_s, OLD.reason, OLD.actor, OLD.requested_at, OLD.needs_approval)
       OR (OLD.approved_by IS NOT NULL
           AND (NEW.approved_by, NEW.approved_at) IS DISTINCT FROM (OLD.approved_by, OLD.approved_at))
       OR (OLD.external_id IS NOT NULL AND NEW.external_id IS DISTINCT FROM OLD.external_id) THEN
        RAISE EXCEPTION 'movement % refused: what was asked and who agreed never changes', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF (OLD.state, NEW.state) NOT IN (
        ('awaiting_approval', 'working'), ('awaiting_approval', 'withdrawn'), ('working', 'done'),
        ('working', 'refused')) THEN
        RAISE EXCEPTION 'movement % refused: % never becomes %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON movements FOR EACH ROW EXECUTE FUNCTION movements_changed();

CREATE FUNCTION credit_notes_issued() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    about  invoices := invoice_taken(NEW.customer_id, NEW.invoice_id);
    before record;
BEGIN
    SELECT count(*) AS notes, coalesce(sum(amount), 0) AS amount, coalesce(sum(cash_part), 0) AS cash_part,
           coalesce(sum(credits_part), 0) AS credits_part INTO before
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
CREATE TRIGGER within_the_invoice BEFORE INSERT ON credit_notes
    FOR EACH ROW EXECUTE FUNCTION credit_notes_issued();

CREATE FUNCTION refunds_requested() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    about   invoices := invoice_taken(NEW.customer_id, NEW.invoice_id);
    paid    record;
    before  numeric;
BEGIN
    IF NEW.state <> 'requested' OR num_nonnulls(NEW.settled_at, NEW.failed_at, NEW.failure_code) > 0 THEN
        RAISE EXCEPTION 'refund % refused: it begins as requested', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT invoice_id, amount INTO paid FROM payments
     WHERE customer_id = NEW.customer_id AND provider = NEW.provider AND external_id = NEW.payment_external_id;
    SELECT coalesce(sum(amount), 0) INTO before FROM refunds
     WHERE customer_id = NEW.customer_id AND provider = NEW.provider
       AND payment_external_id = NEW.payment_external_id AND state NOT IN ('failed', 'canceled');
    IF about.id IS NULL OR paid.invoice_id IS DISTINCT FROM NEW.invoice_id OR before + NEW.amount > paid.amount THEN
        RAISE EXCEPTION 'refund % refused: payment % of invoice % has % and % of it was refunded', NEW.id,
            NEW.payment_external_id, NEW.invoice_id, paid.amount, before
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.credit_note_id IS NOT NULL AND NOT EXISTS (
           SELECT FROM credit_notes c WHERE c.customer_id = NEW.customer_id AND c.id = NEW.credit_note_id
              AND c.invoice_id = NEW.invoice_id) THEN
        RAISE EXCEPTION 'refund % refused: its credit note is another invoice''s', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER within_the_payment BEFORE INSERT ON refunds FOR EACH ROW EXECUTE FUNCTION refunds_requested();

CREATE FUNCTION refunds_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.customer_id, NEW.id, NEW.invoice_id, NEW.credit_note_id, NEW.movement_id, NEW.provider,
        NEW.payment_external_id, NEW.amount, NEW.reason, NEW.actor, NEW.requested_at)
       IS DISTINCT FROM (OLD.customer_id, OLD.id, OLD.invoice_id, OLD.credit_note_id, OLD.movement_id, OLD.provider,
        OLD.payment_external_id, OLD.amount, OLD.reason, OLD.actor, OLD.requested_at)
       OR (OLD.external_id IS NOT NULL AND NEW.external_id IS DISTINCT FROM OLD.external_id)
       OR (OLD.settled_at IS NOT NULL AND NEW.settled_at IS DISTINCT FROM OLD.settled_at) THEN
        RAISE EXCEPTION 'refund % refused: what goes back, and where it came from, never changes', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('requested', 'pending'), ('requested', 'succeeded'), ('requested', 'failed'), ('requested', 'canceled'),
        ('pending', 'succeeded'), ('pending', 'failed'), ('pending', 'canceled'), ('succeeded', 'failed')) THEN
        RAISE EXCEPTION 'refund % refused: % never becomes %', OLD.id, OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON refunds FOR EACH ROW EXECUTE FUNCTION refunds_changed();

-- Events come in any order, so a status is never less decided than before; a late win follows a loss.
CREATE FUNCTION disputes_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ranks text[] := ARRAY['warning_needs_response', 'warning_under_review', 'warning_closed', 'needs_response',
                          'under_review', 'prevented', 'lost', 'won'];
BEGIN
    IF (NEW.customer_id, NEW.id, NEW.provider, NEW.external_id)
       IS DISTINCT FROM (OLD.customer_id, OLD.id, OLD.provider, OLD.external_id)
       OR (OLD.status IS NOT NULL AND (NEW.invoice_id, NEW.payment_external_id, NEW.currency, NEW.opened_at)
           IS DISTINCT FROM (OLD.invoice_id, OLD.payment_external_id, OLD.currency, OLD.opened_at))
       OR NEW.withdrawn < OLD.withdrawn OR NEW.reinstated < OLD.reinstated
       OR coalesce(array_position(ranks, NEW.status), 0) < coalesce(array_position(ranks, OLD.status), 0) THEN
        RAISE EXCEPTION 'dispute % refused: it stays what it is about, and never goes back', OLD.external_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON disputes FOR EACH ROW EXECUTE FUNCTION disputes_changed();
CREATE FUNCTION disputes_opened() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'dispute % refused: no money moved for it before it was there', NEW.external_id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER begins BEFORE INSERT ON disputes FOR EACH ROW
    WHEN ((NEW.withdrawn, NEW.reinstated, NEW.fees) <> (0, 0, 0)) EXECUTE FUNCTION disputes_opened();

CREATE FUNCTION payouts_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ranks text[] := ARRAY['pending', 'in_transit', 'paid', 'canceled', 'failed'];
BEGIN
    IF (NEW.customer_id, NEW.id, NEW.provider, NEW.account, NEW.currency, NEW.external_id, NEW.amount)
       IS DISTINCT FROM (OLD.customer_id, OLD.id, OLD.provider, OLD.account, OLD.currency, OLD.external_id, OLD.amount)
       OR (OLD.paid_at IS NOT NULL AND NEW.paid_at IS DISTINCT FROM OLD.paid_at)
       OR (OLD.reconciled_at IS NOT NULL AND NEW.reconciled_at IS DISTINCT FROM OLD.reconciled_at)
       OR array_position(ranks, NEW.status) < array_position(ranks, OLD.status) THEN
        RAISE EXCEPTION 'payout % refused: its amount stays, and it never goes back', OLD.external_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON payouts FOR EACH ROW EXECUTE FUNCTION payouts_changed();

CREATE FUNCTION tasks_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.resolved_at IS NOT NULL
       OR (NEW.id, NEW.kind, NEW.subject, NEW.opened_at) IS DISTINCT FROM (OLD.id, OLD.kind, OLD.subject, OLD.opened_at)
       OR NEW.seen < OLD.seen THEN
        RAISE EXCEPTION 'task % refused: a resolved one stays as it is, an open one what it is about', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION tasks_changed();
"""

RIGHTS = """
GRANT SELECT, INSERT ON movements, credit_notes, refunds, disputes, payouts, tasks TO billing_app;
GRANT UPDATE ON movements, refunds, disputes, payouts, tasks TO billing_app;
"""

READ_BY_CUSTOMER = ("credit_notes", "refunds", "disputes")

POLICIES = "".join(
    f"""
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON {table} TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON {table} FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT ON {table} TO billing_panel;
"""
    for table in READ_BY_CUSTOMER
)


def upgrade() -> None:
    for part in (TABLES, KEPT, GUARDS, RIGHTS, POLICIES):
        run(part)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM movements) OR EXISTS (SELECT FROM credit_notes) OR EXISTS (SELECT FROM refunds)
               OR EXISTS (SELECT FROM disputes) OR EXISTS (SELECT FROM payouts) THEN
                RAISE EXCEPTION 'money moved after invoices were final: its documents are never thrown away';
            END IF;
        END $$;
        DROP TRIGGER money_moved ON invoices;
        DROP TRIGGER starts_uncredited ON invoices;
        DROP TABLE tasks, payouts, disputes, refunds, credit_notes, movements;
        DROP FUNCTION invoices_money_moved, invoices_credited_at_once, movements_started, movements_changed,
                      credit_notes_issued, refunds_requested, refunds_changed, disputes_changed, disputes_opened,
                      payouts_changed, tasks_changed, invoice_taken;
        ALTER TABLE invoices
            DROP CONSTRAINT invoices_never_below_zero,
            DROP CONSTRAINT invoices_paid_in_full,
            DROP COLUMN amount_credited,
            ADD CONSTRAINT invoices_paid_in_full CHECK (state <> 'paid' OR amount_paid = amount_due);
    """)
