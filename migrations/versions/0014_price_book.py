"""The price book: lists, models with tiers and allowances, regions, agreements, discounts, changes by two people.

Why: a cloud platform sells more than quantity times price. Prices stay rows that never change: a change is a new
version, drafted by one person and published by another, and it follows the version before it without gap or overlap.
Usage that was rated stays as it was rated, so whoever rates holds the book (a shared lock) until the entries are in.
Locks: ACCESS EXCLUSIVE on prices for as long as a change of the catalogue takes; every new column has a constant
default, so no row is rewritten.
Undo: drops the tables and columns. Refused once a price, agreement or discount needs them: it would mean another price.
"""

from migrations.sql import run

revision = "0014"
down_revision = "0013"

CHANGES = """
CREATE TABLE price_changes (
    id         uuid PRIMARY KEY,
    title      text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    content    jsonb NOT NULL CHECK (jsonb_typeof(content) = 'object'),
    state      text NOT NULL DEFAULT 'drafted' CHECK (state IN ('drafted', 'published', 'withdrawn')),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    decided_at timestamptz,
    decided_by text CHECK (length(decided_by) BETWEEN 1 AND 200),
    CHECK ((state = 'drafted') = (decided_at IS NULL) AND (decided_at IS NULL) = (decided_by IS NULL)),
    CONSTRAINT price_changes_second_person CHECK (state <> 'published' OR decided_by <> created_by)
);
COMMENT ON TABLE price_changes IS 'New prices as they were drafted; they hold once a second person published them.';
CREATE INDEX price_changes_open ON price_changes (created_at) WHERE state = 'drafted';

CREATE FUNCTION price_changes_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        RAISE EXCEPTION 'price change % refused: a change starts as a draft', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF OLD.state <> 'drafted' OR (NEW.id, NEW.title, NEW.content, NEW.created_at, NEW.created_by)
       IS DISTINCT FROM (OLD.id, OLD.title, OLD.content, OLD.created_at, OLD.created_by) THEN
        RAISE EXCEPTION 'price change % refused: what was drafted is frozen, and what is decided stays decided', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER starts_as_draft BEFORE INSERT ON price_changes FOR EACH ROW
    WHEN (NEW.state <> 'drafted') EXECUTE FUNCTION price_changes_decided();
CREATE TRIGGER only_forward BEFORE UPDATE ON price_changes FOR EACH ROW EXECUTE FUNCTION price_changes_decided();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON price_changes
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
"""

PRICES = """
CREATE TABLE price_lists (
    code       text PRIMARY KEY CHECK (code ~ '^[a-z0-9][a-z0-9_.-]{0,99}$'),
    name       text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);
INSERT INTO price_lists VALUES
    ('public', 'Public price list', now(), 'billing'),
    ('own', 'Prices of single customers', now(), 'billing');

CREATE TABLE region_zones (
    region     text PRIMARY KEY CHECK (length(region) BETWEEN 1 AND 100),
    zone       text NOT NULL CHECK (length(zone) BETWEEN 1 AND 100 AND zone <> region),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL
);
COMMENT ON TABLE region_zones IS
    'In which zone a region lies, for life: a price may be a region''s or a whole zone''s.';

ALTER TABLE prices
    ADD COLUMN price_list        text NOT NULL DEFAULT 'public' REFERENCES price_lists,
    ADD COLUMN customer_id       uuid REFERENCES customers,
    ADD COLUMN region            text CHECK (length(region) BETWEEN 1 AND 100),
    ADD COLUMN model             text NOT NULL DEFAULT 'per_unit'
        CHECK (model IN ('per_unit', 'graduated', 'volume', 'package')),
    ADD COLUMN package_size      numeric
        CHECK (package_size > 0 AND package_size < 1e18 AND scale(trim_scale(package_size)) <= 18),
    ADD COLUMN included          numeric NOT NULL DEFAULT 0
        CHECK (included >= 0 AND included < 1e18 AND scale(trim_scale(included)) <= 18),
    ADD COLUMN included_item     text REFERENCES items,
    ADD COLUMN included_per_unit numeric NOT NULL DEFAULT 0
        CHECK (included_per_unit >= 0 AND included_per_unit < 1e18 AND scale(trim_scale(included_per_unit)) <= 18),
    ADD COLUMN minimum           numeric
        CHECK (minimum >= 0 AND minimum < 1e9 AND scale(trim_scale(minimum)) <= 12),
    ADD COLUMN maximum           numeric
        CHECK (maximum >= 0 AND maximum < 1e9 AND scale(trim_scale(maximum)) <= 12),
    ADD COLUMN valid_until       timestamptz CHECK (valid_until > valid_from),
    ADD COLUMN tax_inclusive     boolean NOT NULL DEFAULT false,
    ADD COLUMN change_id         uuid REFERENCES price_changes,
    ADD CONSTRAINT prices_own_names_its_customer CHECK ((price_list = 'own') = (customer_id IS NOT NULL)),
    ADD CONSTRAINT prices_package_has_a_size CHECK ((model = 'package') = (package_size IS NOT NULL)),
    ADD CONSTRAINT prices_tiers_have_the_amounts CHECK (model NOT IN ('graduated', 'volume') OR unit_amount = 0),
    ADD CONSTRAINT prices_allowance_names_its_item CHECK ((included_item IS NULL) = (included_per_unit = 0)),
    ADD CONSTRAINT prices_minimum_below_maximum CHECK (minimum <= maximum),
    DROP CONSTRAINT prices_item_currency_valid_from_key,
    ADD CONSTRAINT prices_key UNIQUE NULLS NOT DISTINCT (price_list, customer_id, item, region, currency, valid_from);
CREATE INDEX prices_by_item ON prices (item, currency);
CREATE INDEX prices_by_included_item ON prices (included_item, currency) WHERE included_item IS NOT NULL;

CREATE TABLE price_tiers (
    price_id    uuid NOT NULL REFERENCES prices DEFERRABLE INITIALLY DEFERRED,
    position    smallint NOT NULL CHECK (position BETWEEN 1 AND 100),
    first       numeric NOT NULL CHECK (first >= 0 AND first < 1e18 AND scale(trim_scale(first)) <= 18),
    unit_amount numeric NOT NULL
        CHECK (unit_amount >= 0 AND unit_amount < 1e9 AND scale(trim_scale(unit_amount)) <= 12),
    flat_amount numeric NOT NULL DEFAULT 0
        CHECK (flat_amount >= 0 AND flat_amount < 1e9 AND scale(trim_scale(flat_amount)) <= 12),
    PRIMARY KEY (price_id, position)
);
COMMENT ON TABLE price_tiers IS 'Written before their price, which looks at them when it comes and takes none after.';
"""

AGREEMENTS = """
CREATE TABLE customer_price_lists (
    customer_id uuid NOT NULL REFERENCES customers,
    price_list  text NOT NULL REFERENCES price_lists CHECK (price_list <> 'own'),
    valid_from  timestamptz NOT NULL,
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    created_at  timestamptz NOT NULL,
    created_by  text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    PRIMARY KEY (customer_id, valid_from)
);
COMMENT ON TABLE customer_price_lists IS 'Which list holds for a customer from when on; the next row takes over.';

CREATE TABLE discounts (
    customer_id uuid NOT NULL REFERENCES customers,
    id          uuid NOT NULL UNIQUE,
    item        text REFERENCES items,
    percent     numeric NOT NULL CHECK (percent > 0 AND percent <= 100 AND scale(trim_scale(percent)) <= 2),
    valid_from  timestamptz NOT NULL,
    valid_until timestamptz CHECK (valid_until > valid_from),
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    created_at  timestamptz NOT NULL,
    created_by  text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    PRIMARY KEY (customer_id, id)
);
COMMENT ON TABLE discounts IS 'Off one item, or off everything where there is no item; one item''s goes before.';
"""

GUARDS = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_lists
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON region_zones
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON price_tiers
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON customer_price_lists
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON discounts
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

CREATE FUNCTION price_tiers_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.prices p WHERE p.id = NEW.price_id) THEN
        RAISE EXCEPTION 'tier % of price % refused: a published price takes no more tiers', NEW.position, NEW.price_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER before_their_price BEFORE INSERT ON price_tiers
    FOR EACH ROW EXECUTE FUNCTION price_tiers_added();

CREATE FUNCTION region_zones_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.region_zones z WHERE z.zone = NEW.region OR z.region = NEW.zone) THEN
        RAISE EXCEPTION 'region % in zone % refused: one of the names is both a region and a zone', NEW.region, NEW.zone
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_or_the_other BEFORE INSERT ON region_zones FOR EACH ROW EXECUTE FUNCTION region_zones_added();

-- Two who publish at once would not see each other's versions: the book's lock lets one through at a time.
CREATE FUNCTION prices_published() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    neighbour record;
    tier record;
    expected_position integer := 1;
    last_first numeric := NULL;
BEGIN
    PERFORM pg_advisory_xact_lock(7074692024);
    IF EXISTS (SELECT FROM public.prices p
                WHERE (p.price_list, p.item, p.currency, p.valid_from)
                      = (NEW.price_list, NEW.item, NEW.currency, NEW.valid_from)
                  AND p.customer_id IS NOT DISTINCT FROM NEW.customer_id AND p.region IS NOT DISTINCT FROM NEW.region)
    THEN
        RETURN NEW;  -- the unique key has the word
    END IF;
    IF NEW.customer_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM public.ledger_books b WHERE b.customer_id = NEW.customer_id AND b.currency = NEW.currency) THEN
        RAISE EXCEPTION 'price % refused: customer % is not billed in %', NEW.id, NEW.customer_id, NEW.currency
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT p.valid_from, p.valid_until INTO neighbour FROM public.prices p
     WHERE (p.price_list, p.item, p.currency) = (NEW.price_list, NEW.item, NEW.currency)
       AND p.customer_id IS NOT DISTINCT FROM NEW.customer_id AND p.region IS NOT DISTINCT FROM NEW.region
       AND p.valid_from < NEW.valid_from ORDER BY p.valid_from DESC LIMIT 1;
    IF neighbour.valid_until IS NOT NULL AND neighbour.valid_until <> NEW.valid_from THEN
        RAISE EXCEPTION 'price % refused: the version before it ends at %, and this one begins at %: %',
            NEW.id, neighbour.valid_until, NEW.valid_from,
            CASE WHEN neighbour.valid_until < NEW.valid_from THEN 'a gap' ELSE 'an overlap' END
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT p.valid_from INTO neighbour FROM public.prices p
     WHERE (p.price_list, p.item, p.currency) = (NEW.price_list, NEW.item, NEW.currency)
       AND p.customer_id IS NOT DISTINCT FROM NEW.customer_id AND p.region IS NOT DISTINCT FROM NEW.region
       AND p.valid_from > NEW.valid_from ORDER BY p.valid_from LIMIT 1;
    IF FOUND AND NEW.valid_until IS NOT NULL AND NEW.valid_until <> neighbour.valid_from THEN
        RAISE EXCEPTION 'price % refused: it ends at %, and the version after it begins at %',
            NEW.id, NEW.valid_until, neighbour.valid_from USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- The first prices of an item come together; whatever comes later changes what somebody pays.
    IF EXISTS (SELECT FROM public.prices p WHERE p.item = NEW.item AND p.currency = NEW.currency
                  AND p.created_at <> NEW.created_at)
       AND NOT EXISTS (SELECT FROM public.price_changes c WHERE c.id = NEW.change_id AND c.state = 'published') THEN
        RAISE EXCEPTION 'price % refused: % has prices in %, and a second person publishes what changes them', NEW.id,
            NEW.item, NEW.currency USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.included_item IS NOT NULL AND EXISTS (
        WITH RECURSIVE chain(item) AS (
            SELECT NEW.included_item
             UNION
            SELECT p.included_item FROM public.prices p JOIN chain c ON p.item = c.item
             WHERE p.currency = NEW.currency AND p.included_item IS NOT NULL)
        SELECT FROM chain WHERE item = NEW.item) THEN
        RAISE EXCEPTION 'price % refused: the allowance of % depends on itself', NEW.id, NEW.item
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    FOR tier IN SELECT t.position, t.first FROM public.price_tiers t WHERE t.price_id = NEW.id ORDER BY t.position LOOP
        IF tier.position <> expected_position OR tier.first <= last_first
           OR (last_first IS NULL AND tier.first <> 0) THEN
            RAISE EXCEPTION 'price % refused: its tiers do not start at 0 and rise', NEW.id
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        expected_position := expected_position + 1;
        last_first := tier.first;
    END LOOP;
    IF (NEW.model IN ('graduated', 'volume')) <> (last_first IS NOT NULL) THEN
        RAISE EXCEPTION 'price % refused: exactly the tiered models have tiers', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fits_the_book BEFORE INSERT ON prices FOR EACH ROW EXECUTE FUNCTION prices_published();

CREATE FUNCTION discounts_given() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(7074692024);
    IF EXISTS (SELECT FROM public.discounts d
                WHERE d.customer_id = NEW.customer_id AND d.id <> NEW.id AND d.item IS NOT DISTINCT FROM NEW.item
                  AND d.valid_from < coalesce(NEW.valid_until, 'infinity')
                  AND NEW.valid_from < coalesce(d.valid_until, 'infinity')) THEN
        RAISE EXCEPTION 'discount % refused: another one on the same thing holds at the same time', NEW.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER one_at_a_time BEFORE INSERT ON discounts FOR EACH ROW EXECUTE FUNCTION discounts_given();
"""

# Every query of a volatile function sees what was committed when it begins, so these see what the lock waited for.
READING = """
CREATE FUNCTION price_book(customers uuid[], currencies text[], codes text[], hold boolean,
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
               'valid_from', d.valid_from, 'valid_until', d.valid_until)), '[]')
      INTO discounts FROM public.discounts d
     WHERE d.customer_id = ANY(customers)
       AND (d.item IS NULL OR d.item = ANY(codes)
            OR d.item IN (SELECT p.item FROM public.prices p
                           WHERE p.included_item = ANY(codes) AND p.currency = ANY(currencies)));
    SELECT coalesce(jsonb_object_agg(z.region, z.zone), '{}') INTO zones FROM public.region_zones z;
END $$;
REVOKE EXECUTE ON FUNCTION price_book FROM PUBLIC;
GRANT EXECUTE ON FUNCTION price_book TO billing_app;
"""

RIGHTS = """
GRANT SELECT, INSERT ON price_changes, price_lists, region_zones, price_tiers, customer_price_lists, discounts
    TO billing_app;
GRANT UPDATE (state, decided_at, decided_by) ON price_changes TO billing_app;

-- What another customer agreed to pay is nobody's business.
ALTER TABLE customer_price_lists ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON customer_price_lists TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON customer_price_lists FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT (customer_id, price_list, valid_from) ON customer_price_lists TO billing_panel;

ALTER TABLE discounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON discounts TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON discounts FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT (customer_id, id, item, percent, valid_from, valid_until) ON discounts TO billing_panel;

ALTER TABLE prices ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON prices TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON prices FOR SELECT TO billing_panel
    USING (price_list = 'public' OR customer_id = (SELECT public.panel_customer())
           OR price_list IN (SELECT l.price_list FROM public.customer_price_lists l));
GRANT SELECT (price_list, region, model, package_size, included, included_item, included_per_unit, minimum, maximum,
    valid_until, tax_inclusive) ON prices TO billing_panel;

ALTER TABLE price_tiers ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON price_tiers TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON price_tiers FOR SELECT TO billing_panel
    USING (price_id IN (SELECT p.id FROM public.prices p));
GRANT SELECT (price_id, position, first, unit_amount, flat_amount) ON price_tiers TO billing_panel;
GRANT SELECT (region, zone) ON region_zones TO billing_panel;
"""


def upgrade() -> None:
    for part in (CHANGES, PRICES, AGREEMENTS, GUARDS, READING, RIGHTS):
        run(part)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM prices WHERE price_list <> 'public' OR region IS NOT NULL OR model <> 'per_unit'
                          OR included > 0 OR included_item IS NOT NULL OR minimum IS NOT NULL OR maximum IS NOT NULL
                          OR valid_until IS NOT NULL OR tax_inclusive)
               OR EXISTS (SELECT FROM customer_price_lists) OR EXISTS (SELECT FROM discounts) THEN
                RAISE EXCEPTION 'prices exist that are more than an amount per unit: they would mean something else';
            END IF;
        END $$;
        DROP FUNCTION price_book;
        DROP POLICY of_one_customer ON prices;
        DROP POLICY of_everyone ON prices;
        ALTER TABLE prices DISABLE ROW LEVEL SECURITY;
        DROP TRIGGER fits_the_book ON prices;
        DROP TABLE discounts, customer_price_lists, price_tiers, region_zones;
        DROP FUNCTION discounts_given, prices_published, region_zones_added, price_tiers_added;
        DROP INDEX prices_by_item;
        ALTER TABLE prices
            DROP CONSTRAINT prices_key, DROP COLUMN price_list, DROP COLUMN customer_id, DROP COLUMN region,
            DROP COLUMN model, DROP COLUMN package_size, DROP COLUMN included, DROP COLUMN included_item,
            DROP COLUMN included_per_unit, DROP COLUMN minimum, DROP COLUMN maximum, DROP COLUMN valid_until,
            DROP COLUMN tax_inclusive, DROP COLUMN change_id,
            ADD CONSTRAINT prices_item_currency_valid_from_key UNIQUE (item, currency, valid_from);
        DROP TABLE price_lists, price_changes;
        DROP FUNCTION price_changes_decided;
    """)
