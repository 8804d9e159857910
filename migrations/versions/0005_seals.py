"""Seals over the journal, and one root over all seals per day.

Why: whoever can switch the guards off can rewrite the journal; a seal makes that visible, and a root that was printed
or mailed away makes it visible even if the seals were rewritten too. Postgres computes both itself, so the application
can neither forge one nor forget an entry. docs/tamper-evidence.md says what exactly is hashed; a change of that needs
a new `form`.
Locks: none that matter; all tables are new.
Undo: drops the tables; the journal itself is untouched, but what was printed can no longer be compared.
"""

from migrations.sql import run

revision = "0005"
down_revision = "0004"

TABLES = """
-- No foreign key to the books: its check would lock their row, and every posting updates that. The trigger looks.
CREATE TABLE ledger_seals (
    customer_id   uuid NOT NULL,
    first_seq     bigint NOT NULL CHECK (first_seq > 0),
    last_seq      bigint NOT NULL,
    form          smallint NOT NULL CHECK (form = 1),
    previous_head bytea NOT NULL CHECK (length(previous_head) = 32),
    head          bytea NOT NULL CHECK (length(head) = 32),
    sealed_at     timestamptz NOT NULL,
    entries       bytea NOT NULL,
    PRIMARY KEY (customer_id, first_seq),
    CONSTRAINT ledger_seals_last_seq UNIQUE (customer_id, last_seq),
    CONSTRAINT ledger_seals_range CHECK (last_seq >= first_seq AND last_seq < first_seq + 1000),
    CONSTRAINT ledger_seals_entries CHECK (length(entries) = 48 * (last_seq - first_seq + 1))
);
-- Hashes do not compress, so do not try.
ALTER TABLE ledger_seals ALTER COLUMN entries SET STORAGE EXTERNAL;
COMMENT ON COLUMN ledger_seals.entries IS 'For each entry, in order of seq: its id (16 bytes), its hash (32 bytes).';
COMMENT ON COLUMN ledger_seals.head IS 'Over previous_head and everything else in this row.';

CREATE TABLE ledger_root_heads (
    customer_id uuid NOT NULL,
    day         date NOT NULL,
    last_seq    bigint NOT NULL CHECK (last_seq > 0),
    head        bytea NOT NULL CHECK (length(head) = 32),
    PRIMARY KEY (customer_id, day)
);
COMMENT ON TABLE ledger_root_heads IS 'Heads that changed since the root before; a root is over each newest one.';

-- About the whole company, and so one of the few keys without a customer.
CREATE TABLE ledger_roots (
    day           date PRIMARY KEY CHECK (day BETWEEN '2000-01-01' AND '2199-12-31'),
    form          smallint NOT NULL CHECK (form = 1),
    previous_root bytea NOT NULL UNIQUE CHECK (length(previous_root) = 32),
    root          bytea NOT NULL UNIQUE CHECK (length(root) = 32),
    books         bigint NOT NULL CHECK (books > 0),
    entries       bigint NOT NULL CHECK (entries >= books),
    made_at       timestamptz NOT NULL
);
"""

GUARDS = """
CREATE FUNCTION ledger_refuse_unsealing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: seals and roots are never changed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_seals
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_unsealing();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_root_heads
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_unsealing();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_roots
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_unsealing();
-- Heads are written with their root, by its trigger: there the depth is 1.
CREATE TRIGGER follow_root BEFORE INSERT ON ledger_root_heads
    FOR EACH STATEMENT WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION ledger_refuse_unsealing();

-- Whoever seals names the books and the last entry; everything else is computed here, from the journal. A row is up to
-- 1,000 entries, so the trigger is not what sealing costs. Of two who seal the same, the second finds nothing left to
-- do, or waits for the first one's key and then has a conflict.
CREATE FUNCTION ledger_seal_entries() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp
    SET enable_seqscan = off SET jit = off AS $$
DECLARE
    before   record;
    books    record;
    existing bigint;
BEGIN
    SELECT s.last_seq, s.head INTO before FROM ledger_seals s
     WHERE s.customer_id = NEW.customer_id ORDER BY s.first_seq DESC LIMIT 1;
    NEW.first_seq := coalesce(before.last_seq, 0) + 1;
    IF NEW.last_seq < NEW.first_seq THEN
        RETURN NULL;
    END IF;
    IF NEW.last_seq >= NEW.first_seq + 1000 THEN
        RAISE EXCEPTION 'seal of books % refused: % to % are more than 1,000 entries',
            NEW.customer_id, NEW.first_seq, NEW.last_seq USING ERRCODE = 'check_violation';
    END IF;
    SELECT b.last_seq, b.currency INTO books FROM ledger_books b WHERE b.customer_id = NEW.customer_id;
    SELECT count(*),
           string_agg(uuid_send(e.id) || sha256(convert_to(json_build_array(
               e.customer_id, e.seq::text, e.id, e.transaction_id,
               extract(epoch FROM e.effective_at)::text, extract(epoch FROM e.recorded_at)::text,
               e.debit_account, e.credit_account, trim_scale(e.amount)::text, books.currency, e.item,
               trim_scale(e.quantity)::text, e.kind, extract(epoch FROM e.period_start)::text,
               extract(epoch FROM e.usage_period_start)::text, e.document_id, e.price_id, e.reverses_id, e.actor,
               e.reason, e.labels, encode(e.digest, 'hex'))::text, 'UTF8')), ''::bytea ORDER BY e.seq)
      INTO existing, NEW.entries
      FROM ledger_entries e
     WHERE e.customer_id = NEW.customer_id AND e.seq BETWEEN NEW.first_seq AND NEW.last_seq;
    IF existing <> NEW.last_seq - NEW.first_seq + 1 OR books.last_seq IS NULL OR books.last_seq < NEW.last_seq THEN
        RAISE EXCEPTION 'seal of books % refused: of entries % to % the journal has %, and the books count up to %',
            NEW.customer_id, NEW.first_seq, NEW.last_seq, existing, books.last_seq
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    NEW.form := 1;
    NEW.previous_head := coalesce(before.head, decode(repeat('00', 32), 'hex'));
    NEW.sealed_at := clock_timestamp();
    NEW.head := sha256(convert_to('fly-billing seal 1', 'UTF8') || NEW.previous_head || uuid_send(NEW.customer_id)
                       || int8send(NEW.first_seq) || int8send(NEW.last_seq)
                       || int8send((extract(epoch FROM NEW.sealed_at) * 1000000)::bigint) || NEW.entries);
    RETURN NEW;
END $$;
CREATE TRIGGER seal_entries BEFORE INSERT ON ledger_seals
    FOR EACH ROW EXECUTE FUNCTION ledger_seal_entries();

-- Whoever makes a root names the day. SECURITY DEFINER, because nobody else writes heads of roots. Two at once meet at
-- a unique key, and the second one is refused as a whole.
CREATE FUNCTION ledger_make_root() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET enable_seqscan = off SET jit = off AS $$
DECLARE
    before record;
    heads  bytea;
BEGIN
    IF TG_RELID <> 'public.ledger_roots'::regclass THEN
        RAISE EXCEPTION 'root refused: % holds no roots', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT r.day, r.root INTO before FROM ledger_roots r ORDER BY r.day DESC LIMIT 1;
    NEW.made_at := clock_timestamp();
    IF NEW.day <= before.day OR NEW.day >= (NEW.made_at AT TIME ZONE 'UTC')::date THEN
        RAISE EXCEPTION 'root of % refused: a root is of a day that is over, after that of %', NEW.day, before.day
            USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO ledger_root_heads (customer_id, day, last_seq, head)
    SELECT b.customer_id, NEW.day, s.last_seq, s.head
      FROM ledger_books b
     CROSS JOIN LATERAL (SELECT last_seq, head FROM ledger_seals
                          WHERE customer_id = b.customer_id ORDER BY first_seq DESC LIMIT 1) s
      LEFT JOIN LATERAL (SELECT last_seq FROM ledger_root_heads
                          WHERE customer_id = b.customer_id ORDER BY day DESC LIMIT 1) h ON true
     WHERE h.last_seq IS DISTINCT FROM s.last_seq;
    SELECT count(*), sum(h.last_seq),
           string_agg(uuid_send(b.customer_id) || int8send(h.last_seq) || h.head, ''::bytea ORDER BY b.customer_id)
      INTO NEW.books, NEW.entries, heads
      FROM ledger_books b
     CROSS JOIN LATERAL (SELECT last_seq, head FROM ledger_root_heads
                          WHERE customer_id = b.customer_id ORDER BY day DESC LIMIT 1) h;
    IF heads IS NULL THEN
        RAISE EXCEPTION 'root of % refused: nothing is sealed yet', NEW.day USING ERRCODE = 'check_violation';
    END IF;
    NEW.form := 1;
    NEW.previous_root := coalesce(before.root, decode(repeat('00', 32), 'hex'));
    NEW.root := sha256(convert_to('fly-billing root 1' || to_char(NEW.day, 'YYYY-MM-DD'), 'UTF8') || NEW.previous_root
                       || int8send((extract(epoch FROM NEW.made_at) * 1000000)::bigint)
                       || int8send(NEW.books) || int8send(NEW.entries) || heads);
    RETURN NEW;
END $$;
CREATE TRIGGER make_root BEFORE INSERT ON ledger_roots
    FOR EACH ROW EXECUTE FUNCTION ledger_make_root();
"""

ROLES = """
REVOKE EXECUTE ON FUNCTION ledger_make_root FROM PUBLIC;
GRANT SELECT ON ledger_seals, ledger_root_heads, ledger_roots TO billing_app;
GRANT INSERT (customer_id, last_seq) ON ledger_seals TO billing_app;
GRANT INSERT (day) ON ledger_roots TO billing_app;
"""


def upgrade() -> None:
    for part in (TABLES, GUARDS, ROLES):
        run(part)


def downgrade() -> None:
    run("""
        DROP TABLE ledger_roots, ledger_root_heads, ledger_seals;
        DROP FUNCTION ledger_make_root, ledger_seal_entries, ledger_refuse_unsealing;
    """)
