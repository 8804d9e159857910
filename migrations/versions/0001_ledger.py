"""The ledger: accounts, books, periods, documents, entries, running totals, and their guards.

Why: the journal is the source of truth for money, so its rules live where nobody can go round them. One statement-level
trigger checks each batch as a set; row-level foreign keys would check the same row by row at several times the cost.
Locks: none that matter; all tables are new.
Undo: drops the tables. Refused once an entry exists: a journal is never thrown away.
"""

from migrations.sql import run

revision = "0001"
down_revision = None

TABLES = """
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE ledger_accounts (
    code    text PRIMARY KEY CHECK (code ~ '^(assets|liabilities|income|expenses|equity):[a-z_]+(:[a-z_]+)?$'),
    holder  text NOT NULL CHECK (holder IN ('customer', 'house', 'both')),
    title   text NOT NULL
);

-- What one value has to be is the rule of its type: Postgres keeps a type's rule ready, while it reads a table's CHECK
-- anew for every statement, and an entry posted alone pays for that.
CREATE DOMAIN ledger_currency AS text CONSTRAINT ledger_currency CHECK (VALUE ~ '^[A-Z]{3}$');
CREATE DOMAIN ledger_holder AS text CONSTRAINT ledger_holder CHECK (VALUE IN ('customer', 'house'));
CREATE DOMAIN ledger_count AS bigint CONSTRAINT ledger_count CHECK (VALUE >= 0);
CREATE DOMAIN ledger_tally AS bigint CONSTRAINT ledger_tally CHECK (VALUE > 0);
CREATE DOMAIN ledger_sum AS numeric CONSTRAINT ledger_sum CHECK (VALUE >= 0);
-- NaN and the infinities sort above every number, so the upper bounds refuse them as well.
CREATE DOMAIN ledger_amount AS numeric CONSTRAINT ledger_entries_amount
    CHECK (VALUE >= 0 AND VALUE < 1e15 AND scale(trim_scale(VALUE)) <= 30);
CREATE DOMAIN ledger_quantity AS numeric CONSTRAINT ledger_entries_quantity
    CHECK (VALUE >= 0 AND VALUE < 1e18 AND scale(trim_scale(VALUE)) <= 18);
CREATE DOMAIN ledger_effective AS timestamptz CONSTRAINT ledger_entries_times
    CHECK (VALUE >= '2000-01-01Z' AND VALUE < '2200-01-01Z');
CREATE DOMAIN ledger_name AS text CONSTRAINT ledger_entries_names CHECK (length(VALUE) BETWEEN 1 AND 200);
CREATE DOMAIN ledger_reason AS text CONSTRAINT ledger_entries_reason CHECK (length(VALUE) <= 2000);
CREATE DOMAIN ledger_digest AS bytea CONSTRAINT ledger_entries_digest CHECK (length(VALUE) = 32);
CREATE DOMAIN ledger_labels AS jsonb
    CONSTRAINT ledger_entries_labels CHECK (
        jsonb_typeof(VALUE) = 'object' AND length(VALUE::text) <= 8192
        AND NOT jsonb_path_exists(VALUE, '$.* ? (@.type() != "string")'))
    -- These two are part of the key of the running totals, and an index entry has to fit into a third of a page.
    CONSTRAINT ledger_entries_dimensions CHECK (length(VALUE ->> 'app') <= 200 AND length(VALUE ->> 'region') <= 200);
CREATE DOMAIN ledger_kind AS text CONSTRAINT ledger_entries_kind CHECK (VALUE IN (
    'usage', 'plan', 'carry', 'adjustment', 'rounding', 'finalization', 'tax', 'credit', 'grant', 'cash', 'fee',
    'refund', 'credit_note', 'dispute', 'payout', 'void', 'write_off', 'opening'));

CREATE TABLE ledger_books (
    customer_id      uuid PRIMARY KEY,
    holder           ledger_holder NOT NULL,
    currency         ledger_currency NOT NULL,
    time_zone        text NOT NULL,
    anchor_day       smallint NOT NULL CHECK (anchor_day BETWEEN 1 AND 31),
    last_seq         ledger_count NOT NULL DEFAULT 0,
    last_recorded_at timestamptz,
    closings         ledger_count NOT NULL DEFAULT 0,
    opened_at        timestamptz NOT NULL,
    CHECK ((last_seq = 0) = (last_recorded_at IS NULL))
) WITH (fillfactor = 70);  -- each posting updates its row; the free space keeps that update within the page

CREATE TABLE ledger_periods (
    customer_id uuid NOT NULL REFERENCES ledger_books,
    start_at    timestamptz NOT NULL,
    end_at      timestamptz NOT NULL,
    time_zone   text NOT NULL,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    opened_at   timestamptz NOT NULL,
    closed_at   timestamptz,
    closed_seq  bigint,
    PRIMARY KEY (customer_id, start_at),
    CHECK (start_at < end_at),
    CHECK (num_nonnulls(closed_at, closed_seq) = CASE state WHEN 'closed' THEN 2 ELSE 0 END),
    CONSTRAINT ledger_periods_do_not_overlap
        EXCLUDE USING gist (customer_id WITH =, tstzrange(start_at, end_at) WITH &&)
);
COMMENT ON COLUMN ledger_periods.closed_seq IS
    'The last entry of the books when the period closed: no entry of the period may come after it.';
CREATE INDEX ledger_periods_open ON ledger_periods (customer_id, end_at) WHERE state = 'open';

CREATE TABLE ledger_documents (
    customer_id  uuid NOT NULL,
    id           uuid NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('invoice', 'credit_note', 'refund', 'dispute', 'payout', 'grant')),
    period_start timestamptz,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (customer_id, id)
);

CREATE TABLE ledger_entries (
    customer_id        uuid NOT NULL,
    id                 uuid NOT NULL,
    transaction_id     uuid NOT NULL,
    seq                bigint NOT NULL CHECK (seq > 0),
    debit_account      text NOT NULL,
    credit_account     text NOT NULL,
    amount             ledger_amount NOT NULL,
    effective_at       ledger_effective NOT NULL,
    recorded_at        timestamptz NOT NULL,
    period_start       timestamptz,
    usage_period_start timestamptz,
    document_id        uuid,
    item               ledger_name,
    price_id           uuid,
    quantity           ledger_quantity,
    labels             ledger_labels NOT NULL DEFAULT '{}',
    kind               ledger_kind NOT NULL,
    reverses_id        uuid,
    actor              ledger_name NOT NULL,
    reason             ledger_reason,
    digest             ledger_digest NOT NULL,
    PRIMARY KEY (customer_id, id),
    UNIQUE (customer_id, seq),
    CONSTRAINT ledger_entries_zero_needs_quantity CHECK (amount > 0 OR quantity IS NOT NULL),
    CONSTRAINT ledger_entries_two_accounts CHECK (debit_account <> credit_account),
    -- A charge moves assets:unbilled and is about no document; exactly the charges belong to a period.
    CONSTRAINT ledger_entries_charge_has_period CHECK (
        (document_id IS NULL AND 'assets:unbilled' IN (debit_account, credit_account)) = (period_start IS NOT NULL)),
    -- What was carried may lie in a later period than its usage; nothing else may call itself carried to get there.
    CONSTRAINT ledger_entries_carry_is_from_carried CHECK (
        period_start IS NULL OR (kind = 'carry') = ('assets:carried' IN (debit_account, credit_account))),
    CHECK ((period_start IS NULL) = (usage_period_start IS NULL))
);
CREATE UNIQUE INDEX ledger_entries_reversed_once ON ledger_entries (customer_id, reverses_id)
    WHERE reverses_id IS NOT NULL;
CREATE INDEX ledger_entries_by_period ON ledger_entries (customer_id, period_start, item)
    WHERE period_start IS NOT NULL;
CREATE INDEX ledger_entries_by_document ON ledger_entries (customer_id, document_id) WHERE document_id IS NOT NULL;

CREATE TABLE ledger_totals (
    customer_id        uuid NOT NULL,
    period_start       timestamptz,
    usage_period_start timestamptz,
    document_id        uuid,
    debit_account      text NOT NULL,
    credit_account     text NOT NULL,
    item               text,
    price_id           uuid,
    day                date NOT NULL,
    app                text,
    region             text,
    amount             ledger_sum NOT NULL,
    quantity           ledger_sum NOT NULL,
    entries            ledger_tally NOT NULL,
    CONSTRAINT ledger_totals_key UNIQUE NULLS NOT DISTINCT
        (customer_id, period_start, document_id, usage_period_start, debit_account, credit_account, item, price_id,
         day, app, region)
) WITH (fillfactor = 80);
COMMENT ON TABLE ledger_totals IS 'Running sums of ledger_entries, kept by its trigger in the same transaction.';

CREATE VIEW ledger_unbilled AS
    SELECT customer_id, period_start, usage_period_start, document_id, item, price_id, day, app, region, entries,
           CASE WHEN debit_account = 'assets:unbilled' THEN credit_account ELSE debit_account END AS contra_account,
           CASE WHEN debit_account = 'assets:unbilled' THEN amount ELSE -amount END AS amount,
           CASE WHEN debit_account = 'assets:unbilled' THEN quantity ELSE -quantity END AS quantity
      FROM ledger_totals
     WHERE 'assets:unbilled' IN (debit_account, credit_account);
COMMENT ON VIEW ledger_unbilled IS 'What moved assets:unbilled, signed: positive where it was debited.';
"""

GUARDS = """
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % refused: the journal is append-only; post a reversing entry', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- Runs once per statement over the whole batch. SECURITY DEFINER, because the application may not write the sequence
-- numbers of books or the running totals itself: only a posting does. pg_temp stands last in the search path, or a
-- temporary table could take the place of one of ours. Plans are kept for the session, and the first batch decides
-- them: index look-ups are right for every later one too, a hash over the whole journal is not. A batch of one entry
-- costs mostly the start of each statement, so there are three of them, not one for each rule.
CREATE FUNCTION ledger_entries_posted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    books     bigint;
    numbered  bigint;
    reversals bigint;
    offender  record;
BEGIN
    IF TG_RELID <> 'public.ledger_entries'::regclass THEN
        RAISE EXCEPTION 'posting refused: % is not the journal', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    -- Takes the lock of each of the books (posting took it before, in customer order) and proves that seq has no gap.
    -- recorded_at is the clock's reading after the lock was taken, or the previous posting's if the clock was set back.
    WITH p AS (
        SELECT customer_id, count(*) AS n, min(seq) AS low, max(seq) AS high, min(recorded_at) AS earliest,
               max(recorded_at) AS latest, count(reverses_id) AS reversals
          FROM posted GROUP BY customer_id
    ), counted AS (
        UPDATE ledger_books b SET last_seq = b.last_seq + p.n, last_recorded_at = p.latest
          FROM p
         WHERE b.customer_id = p.customer_id AND p.low = b.last_seq + 1 AND p.high = b.last_seq + p.n
           AND p.earliest = p.latest
           AND p.latest BETWEEN greatest(now(), b.last_recorded_at)
                            AND greatest(now(), b.last_recorded_at, clock_timestamp())
        RETURNING 1
    )
    SELECT count(*), (SELECT count(*) FROM counted), sum(p.reversals) INTO books, numbered, reversals FROM p;
    IF books = 0 THEN RETURN NULL; END IF;
    IF numbered <> books THEN
        RAISE EXCEPTION 'entries refused: no books, or a gap in seq, or recorded_at is not the present'
            USING ERRCODE = 'integrity_constraint_violation', DETAIL = (
                SELECT string_agg(format('books of %s: seq %s to %s, recorded_at %s to %s',
                                         customer_id, low, high, earliest, latest), '; ')
                  FROM (SELECT customer_id, min(seq) AS low, max(seq) AS high,
                               min(recorded_at) AS earliest, max(recorded_at) AS latest
                          FROM posted GROUP BY customer_id LIMIT 20) p);
    END IF;

    -- Known accounts, a known document, and the right period: a charge is billed by the period of its usage while that
    -- is open, else by the earliest open one after it.
    SELECT p.*, d.code IS NULL OR c.code IS NULL AS strange_account,
           p.document_id IS NOT NULL AND x.id IS NULL AS strange_document INTO offender
      FROM (SELECT customer_id, debit_account, credit_account, document_id, period_start, usage_period_start,
                   kind = 'carry' AS carried, min(effective_at) AS earliest, max(effective_at) AS latest
              FROM posted GROUP BY 1, 2, 3, 4, 5, 6, 7) p
      JOIN ledger_books b ON b.customer_id = p.customer_id
      LEFT JOIN ledger_accounts d ON d.code = p.debit_account AND d.holder IN (b.holder, 'both')
      LEFT JOIN ledger_accounts c ON c.code = p.credit_account AND c.holder IN (b.holder, 'both')
      LEFT JOIN ledger_documents x ON x.customer_id = p.customer_id AND x.id = p.document_id
      LEFT JOIN ledger_periods billed ON billed.customer_id = p.customer_id AND billed.start_at = p.period_start
      LEFT JOIN ledger_periods used ON used.customer_id = p.customer_id AND used.start_at = p.usage_period_start
     WHERE d.code IS NULL OR c.code IS NULL
        OR (p.document_id IS NOT NULL AND x.id IS NULL)
        OR (p.period_start IS NOT NULL AND (
               billed.state IS DISTINCT FROM 'open'
            OR used.start_at IS NULL
            OR p.usage_period_start > p.period_start
            OR p.latest >= billed.end_at
            OR (NOT p.carried AND (
                   p.earliest < used.start_at OR p.latest >= used.end_at
                   OR (used.start_at < billed.start_at AND EXISTS (
                          SELECT FROM ledger_periods earlier
                           WHERE earlier.customer_id = p.customer_id AND earlier.state = 'open'
                             AND earlier.start_at >= used.start_at AND earlier.start_at < billed.start_at))))))
     LIMIT 1;
    IF NOT FOUND THEN
        NULL;
    ELSIF offender.strange_account THEN
        RAISE EXCEPTION 'entries of % refused: unknown account in these books: % / %',
            offender.customer_id, offender.debit_account, offender.credit_account
            USING ERRCODE = 'foreign_key_violation';
    ELSIF offender.strange_document THEN
        RAISE EXCEPTION 'entries of % refused: these books have no document %', offender.customer_id,
            offender.document_id USING ERRCODE = 'foreign_key_violation';
    ELSE
        RAISE EXCEPTION 'entries of % refused: period % is not the one for a charge of %',
            offender.customer_id, offender.period_start, offender.earliest USING ERRCODE = 'check_violation';
    END IF;

    IF reversals > 0 THEN
        SELECT p.id, p.reverses_id INTO offender
          FROM posted p
          LEFT JOIN ledger_entries o ON o.customer_id = p.customer_id AND o.id = p.reverses_id
         WHERE p.reverses_id IS NOT NULL
           AND (o.id IS NULL OR o.reverses_id IS NOT NULL OR o.amount <> p.amount OR o.seq >= p.seq
                OR o.debit_account <> p.credit_account OR o.credit_account <> p.debit_account
                OR o.document_id IS DISTINCT FROM p.document_id OR o.item IS DISTINCT FROM p.item
                OR o.quantity IS DISTINCT FROM p.quantity) LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'entry % refused: it does not mirror %, or that one is a reversal itself',
                offender.id, offender.reverses_id USING ERRCODE = 'check_violation';
        END IF;
    END IF;

    INSERT INTO ledger_totals AS t (customer_id, period_start, usage_period_start, document_id, debit_account,
                                    credit_account, item, price_id, day, app, region, amount, quantity, entries)
    SELECT p.customer_id, p.period_start, p.usage_period_start, p.document_id, p.debit_account, p.credit_account,
           p.item, p.price_id, (p.effective_at AT TIME ZONE coalesce(z.time_zone, 'UTC'))::date AS day,
           p.labels ->> 'app' AS app, p.labels ->> 'region' AS region,
           sum(p.amount), coalesce(sum(p.quantity), 0), count(*)
      FROM posted p
      LEFT JOIN ledger_periods z ON z.customer_id = p.customer_id AND z.start_at = p.usage_period_start
     GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
    ON CONFLICT ON CONSTRAINT ledger_totals_key DO UPDATE
       SET amount = t.amount + excluded.amount,
           quantity = t.quantity + excluded.quantity,
           entries = t.entries + excluded.entries;
    RETURN NULL;
END $$;

CREATE TRIGGER entries_posted AFTER INSERT ON ledger_entries
    REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_posted();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_documents
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON ledger_totals
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON ledger_periods
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only BEFORE DELETE OR TRUNCATE ON ledger_books
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse_change();

-- A running total only ever grows, and only from inside a posting: there the depth is 1.
CREATE FUNCTION ledger_totals_written() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of ledger_totals refused: running totals follow the entries', TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER follow_entries BEFORE INSERT OR UPDATE ON ledger_totals
    FOR EACH STATEMENT WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION ledger_totals_written();

CREATE FUNCTION ledger_books_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'books of % refused: holder and currency are for life, and only postings and closings count on',
        OLD.customer_id USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER for_life BEFORE UPDATE ON ledger_books FOR EACH ROW
    WHEN ((NEW.customer_id, NEW.holder, NEW.currency, NEW.opened_at)
          IS DISTINCT FROM (OLD.customer_id, OLD.holder, OLD.currency, OLD.opened_at))
    EXECUTE FUNCTION ledger_books_changed();
CREATE TRIGGER counted BEFORE UPDATE ON ledger_books FOR EACH ROW
    WHEN (pg_trigger_depth() < 1 AND (NEW.last_seq, NEW.last_recorded_at, NEW.closings)
          IS DISTINCT FROM (OLD.last_seq, OLD.last_recorded_at, OLD.closings))
    EXECUTE FUNCTION ledger_books_changed();

CREATE FUNCTION ledger_books_opened() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' AND (NEW.last_seq, NEW.closings) <> (0, 0) THEN
        RAISE EXCEPTION 'books of % refused: new books are empty', NEW.customer_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- An unknown zone fails here, by name, and not in the middle of a posting.
    PERFORM now() AT TIME ZONE NEW.time_zone;
    RETURN NEW;
END $$;
CREATE TRIGGER opened BEFORE INSERT OR UPDATE OF time_zone ON ledger_books
    FOR EACH ROW EXECUTE FUNCTION ledger_books_opened();

-- A period opens open, closes once, and changes in nothing else: conditions of triggers, tested without a call.
CREATE FUNCTION ledger_periods_refused() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'period % refused: a period opens open, may only be closed, and a closed one never changes',
        NEW.start_at USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER opens_open BEFORE INSERT ON ledger_periods FOR EACH ROW
    WHEN (NEW.state <> 'open') EXECUTE FUNCTION ledger_periods_refused();
CREATE TRIGGER closes_once BEFORE UPDATE ON ledger_periods FOR EACH ROW
    WHEN (OLD.state <> 'open' OR NEW.state <> 'closed'
          OR (NEW.customer_id, NEW.start_at, NEW.end_at, NEW.time_zone, NEW.opened_at)
             IS DISTINCT FROM (OLD.customer_id, OLD.start_at, OLD.end_at, OLD.time_zone, OLD.opened_at))
    EXECUTE FUNCTION ledger_periods_refused();

-- Closing writes to the books, and so waits for their lock: no posting that still saw the period open can commit after
-- its draft was compiled. Writing, not only locking, since a posting whose snapshot is older than the closing
-- (REPEATABLE READ) then fails instead of seeing it open. Whoever closes says which entry was the last; here, under
-- the lock, it is that entry or the closing is refused.
CREATE FUNCTION ledger_periods_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    books   bigint;
    counted bigint;
BEGIN
    IF TG_RELID <> 'public.ledger_periods'::regclass THEN
        RAISE EXCEPTION 'closing refused: % holds no periods', TG_RELID::regclass
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT count(DISTINCT customer_id) INTO books FROM closed;
    UPDATE ledger_books b SET closings = b.closings + c.periods
      FROM (SELECT customer_id, count(*) AS periods, min(closed_seq) AS low, max(closed_seq) AS high
              FROM closed GROUP BY customer_id) c
     WHERE b.customer_id = c.customer_id AND c.low = b.last_seq AND c.high = b.last_seq;
    GET DIAGNOSTICS counted = ROW_COUNT;
    IF counted <> books THEN
        RAISE EXCEPTION 'closing refused: closed_seq is not the last entry of the books'
            USING ERRCODE = 'integrity_constraint_violation', DETAIL = (
                SELECT string_agg(format('books of %s: closed_seq %s to %s, last_seq %s', c.customer_id, c.low, c.high,
                                         b.last_seq), '; ')
                  FROM (SELECT customer_id, min(closed_seq) AS low, max(closed_seq) AS high
                          FROM closed GROUP BY customer_id) c
                  JOIN ledger_books b USING (customer_id)
                 WHERE c.low <> b.last_seq OR c.high <> b.last_seq);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER counts_closings AFTER UPDATE ON ledger_periods
    REFERENCING NEW TABLE AS closed FOR EACH STATEMENT EXECUTE FUNCTION ledger_periods_changed();

-- The foreign keys of documents, asked once for a statement: the close opens one for each draft. Books and periods are
-- never removed or renamed, so there is nothing to lock.
CREATE FUNCTION ledger_documents_opened() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    offender record;
BEGIN
    SELECT a.customer_id, a.id, a.period_start INTO offender
      FROM added a
      LEFT JOIN ledger_books b ON b.customer_id = a.customer_id
      LEFT JOIN ledger_periods p ON p.customer_id = a.customer_id AND p.start_at = a.period_start
     WHERE b.customer_id IS NULL OR (a.period_start IS NOT NULL AND p.start_at IS NULL) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'document % refused: there are no books of %, or they have no period %', offender.id,
            offender.customer_id, offender.period_start USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER names_what_exists AFTER INSERT ON ledger_documents
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ledger_documents_opened();
"""

POSTING = """
-- One round trip for a whole batch: lock the books in customer order, and only then, in a statement of its own, look
-- up what is in the journal already, find each charge's period, number and write. `n` counts the entries of each books
-- from 1. It guards nothing: whatever it or anybody else inserts is judged by ledger_entries_posted. It runs with the
-- rights of its caller. `unusual` counts what it leaves to ledger/posting.py, which says why, opens the missing period
-- or drops what is known of a batch that is partly new; then nothing was written.
CREATE FUNCTION ledger_post(customers uuid[], sent json, any_holder boolean,
                            OUT posted bigint, OUT replayed bigint, OUT unusual bigint) LANGUAGE plpgsql
    SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    locked  bigint;
    read_at timestamptz;
BEGIN
    SELECT count(*) FILTER (WHERE any_holder OR b.holder = 'customer') INTO locked
      FROM (SELECT k.holder FROM public.ledger_books k WHERE k.customer_id = ANY (customers)
             ORDER BY k.customer_id FOR NO KEY UPDATE) b;
    IF locked <> cardinality(customers) THEN
        posted := 0; replayed := 0; unusual := cardinality(customers) - locked;
        RETURN;
    END IF;
    read_at := greatest(clock_timestamp(), now());
    WITH looked AS MATERIALIZED (
        SELECT s.*, e.digest AS known, b.last_seq,
               -- The clock may have been set back since the last posting; within the books it never runs backwards.
               greatest(read_at, b.last_recorded_at) AS recorded_at,
               CASE WHEN s.charge THEN coalesce(s.usage_period_start, u.start_at) END AS used_start,
               CASE WHEN s.charge THEN coalesce(
                   s.period_start,
                   CASE WHEN u.state = 'open' THEN u.start_at
                        ELSE (SELECT min(l.start_at) FROM public.ledger_periods l
                               WHERE l.customer_id = s.customer_id AND l.state = 'open' AND l.start_at > u.start_at)
                   END) END AS billed_start
          FROM (SELECT r.*, r.document_id IS NULL AND 'assets:unbilled' IN (r.debit_account, r.credit_account) AS charge
                  FROM json_to_recordset(sent) AS r (
                       n int, customer_id uuid, id uuid, transaction_id uuid, debit_account text, credit_account text,
                       amount numeric, effective_at timestamptz, period_start timestamptz,
                       usage_period_start timestamptz, document_id uuid, item text, price_id uuid, quantity numeric,
                       labels jsonb, kind text, reverses_id uuid, actor text, reason text, digest bytea)) s
          JOIN public.ledger_books b ON b.customer_id = s.customer_id
          LEFT JOIN public.ledger_entries e ON e.customer_id = s.customer_id AND e.id = s.id
          LEFT JOIN public.ledger_periods u
            ON s.charge AND s.usage_period_start IS NULL AND u.customer_id = s.customer_id AND u.start_at = (
               SELECT max(p.start_at) FROM public.ledger_periods p
                WHERE p.customer_id = s.customer_id AND p.start_at <= s.effective_at)
           AND s.effective_at < u.end_at
    ), judged AS (
        SELECT count(known) AS old,
               count(*) FILTER (WHERE known <> digest OR (known IS NULL AND charge AND billed_start IS NULL))
               + CASE WHEN count(known) < count(*) THEN count(known) ELSE 0 END AS odd
          FROM looked
    ), written AS (
        INSERT INTO public.ledger_entries (
               customer_id, id, transaction_id, seq, debit_account, credit_account, amount, effective_at, recorded_at,
               period_start, usage_period_start, document_id, item, price_id, quantity, labels, kind, reverses_id,
               actor, reason, digest)
        SELECT l.customer_id, l.id, l.transaction_id, l.last_seq + l.n,
               l.debit_account, l.credit_account, l.amount, l.effective_at, l.recorded_at, l.billed_start, l.used_start,
               l.document_id, l.item, l.price_id, l.quantity, coalesce(l.labels, '{}'), l.kind, l.reverses_id, l.actor,
               l.reason, l.digest
          FROM looked l, judged j
         WHERE l.known IS NULL AND j.odd = 0
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written), j.old, j.odd INTO posted, replayed, unusual FROM judged j;
END $$;
"""

# Roles belong to the whole cluster, databases come and go: the role may be there already.
ROLES = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_app') THEN
        CREATE ROLE billing_app NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'billing_app', 'SET') THEN
        EXECUTE format('GRANT billing_app TO %I', current_user);
    END IF;
EXCEPTION WHEN undefined_object OR invalid_parameter_value THEN  -- before Postgres 16 there is no SET option to ask for
    EXECUTE format('GRANT billing_app TO %I', current_user);
END $$;
GRANT USAGE ON SCHEMA public TO billing_app;
-- Whoever may execute a trigger's function may hang it on a table of their own: these two run as their owner.
REVOKE EXECUTE ON FUNCTION ledger_entries_posted, ledger_periods_changed FROM PUBLIC;
GRANT SELECT ON ledger_accounts, ledger_books, ledger_periods, ledger_documents, ledger_entries, ledger_totals,
                ledger_unbilled TO billing_app;
GRANT INSERT ON ledger_books, ledger_periods, ledger_documents, ledger_entries TO billing_app;
GRANT UPDATE (time_zone, anchor_day) ON ledger_books TO billing_app;
GRANT UPDATE (state, closed_at, closed_seq) ON ledger_periods TO billing_app;
"""

ACCOUNTS = """
INSERT INTO ledger_accounts (code, holder, title) VALUES
    ('assets:unbilled', 'customer', 'Used, not yet invoiced'),
    ('assets:carried', 'customer', 'Carried between invoices'),
    ('assets:receivable', 'customer', 'Invoiced, not yet paid'),
    ('assets:stripe', 'both', 'Money that Stripe holds for us'),
    ('assets:bank', 'both', 'Money in the bank'),
    ('assets:disputed', 'customer', 'Withdrawn by a dispute, not yet decided'),
    ('assets:house', 'customer', 'Settled with the house'),
    ('liabilities:credits:promotional', 'customer', 'Promotional credit'),
    ('liabilities:credits:goodwill', 'customer', 'Goodwill credit'),
    ('liabilities:credits:prepaid', 'customer', 'Prepaid credit'),
    ('liabilities:tax', 'customer', 'Tax owed to the authorities'),
    ('liabilities:unapplied', 'customer', 'The customer''s money, not yet used'),
    ('liabilities:deferred', 'customer', 'Invoiced, not yet earned'),
    ('income:usage', 'customer', 'Usage'),
    ('income:plans', 'customer', 'Plan fees'),
    ('income:adjustments', 'customer', 'Corrections by staff'),
    ('income:promotions', 'customer', 'Credit given away'),
    ('income:rounding', 'customer', 'Rounding of invoices'),
    ('income:tax_included', 'customer', 'Tax included in prices'),
    ('income:breakage', 'customer', 'Prepaid credit that expired'),
    ('expenses:payment_fees', 'customer', 'Payment processing fees'),
    ('expenses:dispute_fees', 'customer', 'Dispute fees'),
    ('expenses:chargebacks', 'customer', 'Disputes lost'),
    ('expenses:bad_debt', 'customer', 'Receivables given up'),
    ('equity:opening', 'both', 'Opening balances'),
    ('assets:customers', 'house', 'Settled with customers'),
    ('assets:suspense', 'house', 'Money whose cause is not known yet'),
    ('expenses:provider_fees', 'house', 'Fees of the provider itself'),
    ('income:exchange', 'house', 'Exchange differences');
"""


def upgrade() -> None:
    for part in (TABLES, ACCOUNTS, GUARDS, POSTING, ROLES):
        run(part)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM ledger_entries) THEN
                RAISE EXCEPTION 'the journal holds entries: it is never thrown away';
            END IF;
        END $$;
        DROP FUNCTION ledger_post;
        DROP VIEW ledger_unbilled;
        DROP TABLE ledger_totals, ledger_entries, ledger_documents, ledger_periods, ledger_books, ledger_accounts;
        DROP DOMAIN ledger_currency, ledger_holder, ledger_count, ledger_tally, ledger_sum, ledger_amount,
                    ledger_quantity, ledger_effective, ledger_name, ledger_reason, ledger_digest, ledger_labels,
                    ledger_kind;
        DROP FUNCTION ledger_entries_posted, ledger_refuse_change, ledger_totals_written, ledger_books_changed,
                      ledger_books_opened, ledger_periods_refused, ledger_periods_changed, ledger_documents_opened;
    """)
