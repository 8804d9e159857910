"""Credit waits for disputes, agreements can end, no new price reaches what is rated, and fees may include their tax.

Why: credit whose payment is disputed must not pay for anything until the bank has decided: the money may be gone. A
discount without an end and a customer's own price could never be ended: a row of its own ends each now, once, after
what it rated. And usage is rated once, by one price: new prices, lists, discounts, zones and ends that would have rated
what another one rated already are refused here as well as in code.
The fee and the included usage of a plan version may have their tax inside, as prices may.
Locks: none that matter; functions, triggers and the view `credit_lots` are replaced, two small tables are new, and
plan_versions gets a column with a constant default.
Undo: puts functions and the view back. Refused once something was ended, which would hold again, or a fee includes tax.
"""

from migrations.sql import run

revision = "0021"
down_revision = "0020"

LOTS = """
-- Whether the bank may still take the payment of a top-up away: its dispute is undecided, or lost before the withdrawal
-- of its money became known. Afterwards the loss has its entries, and what is left of the lot is paid for.
CREATE FUNCTION credit_disputed(customer uuid, top_up uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM public.disputes d
                    WHERE d.customer_id = $1 AND d.invoice_id = $2
                      AND (d.status IN ('needs_response', 'under_review') OR (d.status = 'lost' AND d.withdrawn = 0)))
$$;

CREATE OR REPLACE VIEW credit_lots WITH (security_invoker = true) AS
    SELECT g.customer_id, g.id, g.account, g.amount, g.currency, g.priority, g.expires_at, g.items, g.invoice_id,
           g.created_at,
           g.amount - coalesce((SELECT sum(CASE u.kind WHEN 'returned' THEN -u.amount ELSE u.amount END)
                                  FROM credit_uses u
                                 WHERE u.customer_id = g.customer_id AND u.grant_id = g.id), 0) AS remaining,
           g.invoice_id IS NULL OR i.state IN ('paid', 'uncollectible') AS is_paid,
           g.invoice_id IS NOT NULL AND credit_disputed(g.customer_id, g.invoice_id) AS is_disputed
      FROM credit_grants g
      LEFT JOIN invoices i ON i.customer_id = g.customer_id AND i.id = g.invoice_id;

CREATE FUNCTION credit_uses_undisputed() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF credit_disputed(NEW.customer_id, NEW.grant_id) THEN
        RAISE EXCEPTION 'use % of credit % refused: the payment of its top-up is disputed', NEW.id, NEW.grant_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER undisputed BEFORE INSERT ON credit_uses FOR EACH ROW
    WHEN (NEW.kind = 'applied') EXECUTE FUNCTION credit_uses_undisputed();
"""

ENDS = """
CREATE TABLE discount_ends (
    customer_id uuid NOT NULL,
    discount_id uuid NOT NULL,
    ends_at     timestamptz NOT NULL,
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    created_at  timestamptz NOT NULL,
    created_by  text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    PRIMARY KEY (customer_id, discount_id),
    FOREIGN KEY (customer_id, discount_id) REFERENCES discounts (customer_id, id)
);
COMMENT ON TABLE discount_ends IS 'Discounts that were ended before the end they had, if they had one: once, for good.';

CREATE TABLE price_ends (
    customer_id uuid NOT NULL REFERENCES customers,
    price_id    uuid NOT NULL UNIQUE REFERENCES prices,
    ends_at     timestamptz NOT NULL,
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    created_at  timestamptz NOT NULL,
    created_by  text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    PRIMARY KEY (customer_id, price_id)
);
COMMENT ON TABLE price_ends IS
    'Customers'' own prices that were ended: from then on the list holds that holds without them.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON discount_ends
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_ends
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

-- The last usage of a customer from `since` on (and before `until`) that was rated: by `price`, if one is given, and of
-- `code`, if one is given. Charges from then on lie in periods that end after it.
CREATE FUNCTION rated_last(customer uuid, price uuid, code text, since timestamptz, until timestamptz)
    RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT max(e.effective_at)
      FROM public.ledger_periods p
      JOIN public.ledger_entries e ON e.customer_id = p.customer_id AND e.period_start = p.start_at
     WHERE p.customer_id = $1 AND p.end_at > $4 AND e.kind = 'usage' AND e.price_id IS NOT NULL
       AND ($2 IS NULL OR e.price_id = $2) AND ($3 IS NULL OR e.item = $3)
       AND e.effective_at >= $4 AND e.effective_at < coalesce($5, 'infinity')
$$;

CREATE FUNCTION discount_ends_added() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    given public.discounts;
    rated timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(7074692024);
    SELECT * INTO given FROM public.discounts d WHERE d.customer_id = NEW.customer_id AND d.id = NEW.discount_id;
    IF NEW.ends_at < given.valid_from OR NEW.ends_at >= given.valid_until THEN
        RAISE EXCEPTION 'end of discount % refused: it holds from % until %, so it does not end early at %',
            NEW.discount_id, given.valid_from, coalesce(given.valid_until, 'infinity'), NEW.ends_at
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    rated := public.rated_last(NEW.customer_id, NEW.discount_id, NULL, NEW.ends_at, NULL);
    IF rated IS NOT NULL THEN
        RAISE EXCEPTION 'end of discount % refused: it was given on usage of % already', NEW.discount_id, rated
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER after_what_was_rated BEFORE INSERT ON discount_ends
    FOR EACH ROW EXECUTE FUNCTION discount_ends_added();

CREATE FUNCTION price_ends_added() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    own   public.prices;
    rated timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(7074692024);
    SELECT * INTO own FROM public.prices p WHERE p.id = NEW.price_id;
    IF own.customer_id IS DISTINCT FROM NEW.customer_id THEN
        RAISE EXCEPTION 'end of price % refused: it is no price of customer % alone', NEW.price_id, NEW.customer_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.ends_at < own.valid_from OR NEW.ends_at >= own.valid_until THEN
        RAISE EXCEPTION 'end of price % refused: it holds from % until %, so it does not end early at %', NEW.price_id,
            own.valid_from, coalesce(own.valid_until, 'infinity'), NEW.ends_at
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    rated := public.rated_last(NEW.customer_id, NEW.price_id, NULL, NEW.ends_at, NULL);
    IF rated IS NOT NULL THEN
        RAISE EXCEPTION 'end of price % refused: it rated usage of % already', NEW.price_id, rated
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER after_what_was_rated BEFORE INSERT ON price_ends FOR EACH ROW EXECUTE FUNCTION price_ends_added();

GRANT SELECT, INSERT ON discount_ends, price_ends TO billing_app;
ALTER TABLE discount_ends ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON discount_ends TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON discount_ends FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT (customer_id, discount_id, ends_at) ON discount_ends TO billing_panel;
ALTER TABLE price_ends ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON price_ends TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON price_ends FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT (customer_id, price_id, ends_at) ON price_ends TO billing_panel;
"""

# As in 0014, but for the ends: a discount holds until the earlier of its two ends.
DISCOUNTS = """
CREATE OR REPLACE FUNCTION discounts_given() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7074692024);
    IF EXISTS (SELECT FROM public.discounts d
                 LEFT JOIN public.discount_ends e ON e.customer_id = d.customer_id AND e.discount_id = d.id
                WHERE d.customer_id = NEW.customer_id AND d.id <> NEW.id AND d.item IS NOT DISTINCT FROM NEW.item
                  AND d.valid_from < coalesce(NEW.valid_until, 'infinity')
                  AND NEW.valid_from < least(d.valid_until, e.ends_at, 'infinity')) THEN
        RAISE EXCEPTION 'discount % refused: another one on the same thing holds at the same time', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
"""

BOOK = """
CREATE OR REPLACE FUNCTION price_book(customers uuid[], currencies text[], codes text[], hold boolean,
                           OUT prices jsonb, OUT agreements jsonb, OUT discounts jsonb, OUT zones jsonb)
    LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF hold THEN
        PERFORM pg_advisory_xact_lock_shared(7074692024);
    END IF;
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'id', p.id, 'item', p.item, 'currency', p.currency, 'region', p.region, 'price_list', p.price_list,
               'customer_id', p.customer_id, 'model', p.model, 'unit_amount', p.unit_amount::text,
               'package_size', p.package_size::text, 'included', p.included::text, 'included_item', p.included_item,
               'included_per_unit', p.included_per_unit::text, 'minimum', p.minimum::text, 'maximum', p.maximum::text,
               'valid_from', p.valid_from, 'valid_until', p.valid_until, 'tax_inclusive', p.tax_inclusive,
               'ended_at', CASE WHEN p.customer_id IS NOT NULL THEN (
                   SELECT x.ends_at FROM public.price_ends x
                    WHERE x.customer_id = p.customer_id AND x.price_id = p.id) END,
               'tiers', CASE WHEN p.model IN ('graduated', 'volume') THEN (
                   SELECT jsonb_agg(jsonb_build_array(t.first::text, t.unit_amount::text, t.flat_amount::text)
                                    ORDER BY t.position)
                     FROM public.price_tiers t WHERE t.price_id = p.id) END)), '[]')
      INTO prices FROM public.prices p
     WHERE p.currency = ANY(currencies)
       AND (p.item = ANY(codes)
            OR p.item IN (SELECT d.item FROM public.prices d
                           WHERE d.included_item = ANY(codes) AND d.currency = ANY(currencies)))
       AND (p.price_list = 'public' OR p.customer_id = ANY(customers)
            OR p.price_list IN (SELECT l.price_list FROM public.customer_price_lists l
                                 WHERE l.customer_id = ANY(customers)));
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'customer_id', l.customer_id, 'price_list', l.price_list, 'valid_from', l.valid_from)), '[]')
      INTO agreements FROM public.customer_price_lists l WHERE l.customer_id = ANY(customers);
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'customer_id', d.customer_id, 'id', d.id, 'item', d.item, 'percent', d.percent::text,
               'valid_from', d.valid_from, 'valid_until', least(d.valid_until, e.ends_at))), '[]')
      INTO discounts FROM public.discounts d
      LEFT JOIN public.discount_ends e ON e.customer_id = d.customer_id AND e.discount_id = d.id
     WHERE d.customer_id = ANY(customers)
       AND (d.item IS NULL OR d.item = ANY(codes)
            OR d.item IN (SELECT p.item FROM public.prices p
                           WHERE p.included_item = ANY(codes) AND p.currency = ANY(currencies)));
    SELECT coalesce(jsonb_object_agg(z.region, z.zone), '{}') INTO zones FROM public.region_zones z;
END $$;
"""

# What the two functions above were in 0014.
BEFORE_ENDS = (
    ("least(d.valid_until, e.ends_at, 'infinity')", "coalesce(d.valid_until, 'infinity')"),
    (
        "                 LEFT JOIN public.discount_ends e ON e.customer_id = d.customer_id AND e.discount_id = d.id\n",
        "",
    ),
    ("      LEFT JOIN public.discount_ends e ON e.customer_id = d.customer_id AND e.discount_id = d.id\n", ""),
    ("'valid_until', least(d.valid_until, e.ends_at)", "'valid_until', d.valid_until"),
    (
        """               'ended_at', CASE WHEN p.customer_id IS NOT NULL THEN (
                   SELECT x.ends_at FROM public.price_ends x
                    WHERE x.customer_id = p.customer_id AND x.price_id = p.id) END,
""",
        "",
    ),
)

# What is rated is not rated again. One query for all prices of a statement, so that a whole list costs one look at the
# totals; entries are looked at only where a replaced price was used about then. Code asks before, with a kinder answer.
RATED = """
CREATE FUNCTION prices_rate_nothing_again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    offender record;
BEGIN
    WITH replacing AS MATERIALIZED (
        SELECT n.id, n.item, n.region, n.price_list, n.customer_id, n.valid_from AS begins, o.id AS replaced,
               coalesce(n.valid_until, (
                   SELECT min(f.valid_from) FROM public.prices f
                    WHERE (f.price_list, f.item, f.currency) = (n.price_list, n.item, n.currency)
                      AND f.customer_id IS NOT DISTINCT FROM n.customer_id AND f.region IS NOT DISTINCT FROM n.region
                      AND f.valid_from > n.valid_from), 'infinity') AS ends
          FROM added n
          JOIN public.prices o ON o.item = n.item AND o.currency = n.currency
                              AND NOT EXISTS (SELECT FROM added a WHERE a.id = o.id)
          LEFT JOIN public.region_zones nz ON nz.region = n.region
          LEFT JOIN public.region_zones oz ON oz.region = o.region
         WHERE n.valid_from <= clock_timestamp() + interval '1 day'  -- nobody used anything later than that
           -- A customer's own price goes before a list that was agreed, and that before the public one; within each a
           -- region before its zone before no region.
           AND (CASE n.price_list WHEN 'own' THEN 0 WHEN 'public' THEN 2 ELSE 1 END
                < CASE o.price_list WHEN 'own' THEN 0 WHEN 'public' THEN 2 ELSE 1 END
                OR (n.price_list = o.price_list AND n.customer_id IS NOT DISTINCT FROM o.customer_id
                    AND (o.region IS NULL OR o.region = n.region OR o.region = nz.zone)))
           AND (n.region IS NULL OR o.region IS NULL OR n.region = o.region OR o.region = nz.zone
                OR n.region = oz.zone)),
    used AS MATERIALIZED (
        SELECT DISTINCT t.customer_id, t.period_start, r.id, r.item, r.region, r.begins, r.ends, r.replaced
          FROM replacing r
          JOIN public.ledger_totals t ON t.price_id = r.replaced AND t.item = r.item
                                     AND t.day >= (r.begins AT TIME ZONE 'UTC')::date - 1
         WHERE r.price_list = 'public' OR t.customer_id = r.customer_id
            OR EXISTS (SELECT FROM public.customer_price_lists l
                        WHERE l.customer_id = t.customer_id AND l.price_list = r.price_list))
    SELECT u.id, u.begins, e.effective_at INTO offender
      FROM used u
     CROSS JOIN LATERAL (
           SELECT x.effective_at FROM public.ledger_entries x
            WHERE x.customer_id = u.customer_id AND x.period_start = u.period_start AND x.item = u.item
              AND x.price_id = u.replaced AND x.effective_at >= u.begins AND x.effective_at < u.ends
              AND (u.region IS NULL OR x.labels ->> 'region' = u.region
                   OR x.labels ->> 'region' IN (SELECT z.region FROM public.region_zones z WHERE z.zone = u.region))
            LIMIT 1) e
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'price % refused: it begins at %, and usage of % was rated by another one already', offender.id,
            offender.begins, offender.effective_at USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER rates_nothing_again AFTER INSERT ON prices
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION prices_rate_nothing_again();

CREATE FUNCTION agreements_rate_nothing_again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    given jsonb := to_jsonb(NEW);
    rated timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(7074692024);
    rated := public.rated_last(NEW.customer_id, NULL, given ->> 'item', NEW.valid_from,
                               (given ->> 'valid_until')::timestamptz);
    IF rated IS NOT NULL THEN
        RAISE EXCEPTION '% of % from % on refused: usage of % was rated without it already', TG_TABLE_NAME,
            NEW.customer_id, NEW.valid_from, rated USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER rates_nothing_again BEFORE INSERT ON customer_price_lists
    FOR EACH ROW EXECUTE FUNCTION agreements_rate_nothing_again();
CREATE TRIGGER rates_nothing_again BEFORE INSERT ON discounts
    FOR EACH ROW EXECUTE FUNCTION agreements_rate_nothing_again();

CREATE FUNCTION region_zones_rate_nothing_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7074692024);
    IF EXISTS (SELECT FROM public.region_zones z WHERE z.region = NEW.region) THEN
        RETURN NEW;  -- the primary key has the word
    END IF;
    IF EXISTS (SELECT FROM public.prices p WHERE p.region = NEW.zone)
       AND EXISTS (SELECT FROM public.ledger_totals t
                     JOIN public.prices p ON p.item = t.item AND p.region = NEW.zone
                                         AND p.valid_from < clock_timestamp()
                    WHERE t.region = NEW.region AND t.price_id IS NOT NULL) THEN
        RAISE EXCEPTION 'region % in zone % refused: usage there was rated without the prices of the zone already',
            NEW.region, NEW.zone USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER rates_nothing_again BEFORE INSERT ON region_zones
    FOR EACH ROW EXECUTE FUNCTION region_zones_rate_nothing_again();
"""

# As prices have it: what the fee and the included usage of a version come to has its tax inside.
PLANS = """
ALTER TABLE plan_versions ADD COLUMN tax_inclusive boolean NOT NULL DEFAULT false;
GRANT SELECT (tax_inclusive) ON plan_versions TO billing_panel;
"""


def upgrade() -> None:
    for part in (LOTS, ENDS, DISCOUNTS, BOOK, RATED, PLANS):
        run(part)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM discount_ends) OR EXISTS (SELECT FROM price_ends) THEN
                RAISE EXCEPTION 'discounts or prices were ended: they would hold again';
            END IF;
            IF EXISTS (SELECT FROM plan_versions WHERE tax_inclusive) THEN
                RAISE EXCEPTION 'fees include their tax: it would come on top';
            END IF;
        END $$;
        ALTER TABLE plan_versions DROP COLUMN tax_inclusive;
        DROP TRIGGER rates_nothing_again ON region_zones;
        DROP TRIGGER rates_nothing_again ON discounts;
        DROP TRIGGER rates_nothing_again ON customer_price_lists;
        DROP TRIGGER rates_nothing_again ON prices;
        DROP FUNCTION region_zones_rate_nothing_again, agreements_rate_nothing_again, prices_rate_nothing_again;
    """)
    for part in (DISCOUNTS, BOOK):
        for later, earlier in BEFORE_ENDS:
            part = part.replace(later, earlier)
        run(part)
    run("""
        DROP TABLE discount_ends, price_ends;
        DROP FUNCTION discount_ends_added, price_ends_added, rated_last;
        DROP TRIGGER undisputed ON credit_uses;
        DROP FUNCTION credit_uses_undisputed;
        DROP VIEW credit_lots;
        CREATE VIEW credit_lots WITH (security_invoker = true) AS
            SELECT g.customer_id, g.id, g.account, g.amount, g.currency, g.priority, g.expires_at, g.items,
                   g.invoice_id, g.created_at,
                   g.amount - coalesce((SELECT sum(CASE u.kind WHEN 'returned' THEN -u.amount ELSE u.amount END)
                                          FROM credit_uses u
                                         WHERE u.customer_id = g.customer_id AND u.grant_id = g.id), 0) AS remaining,
                   g.invoice_id IS NULL OR i.state IN ('paid', 'uncollectible') AS is_paid
              FROM credit_grants g
              LEFT JOIN invoices i ON i.customer_id = g.customer_id AND i.id = g.invoice_id;
        COMMENT ON VIEW credit_lots IS
            'Every lot of credit with what is left of it, and whether it is paid or was given.';
        GRANT SELECT ON credit_lots TO billing_app, billing_panel;
        DROP FUNCTION credit_disputed;
    """)
