"""Tax: rates by place and time, customers' tax profiles, and the tax of each invoice, line and credit note.

Why: what is owed to tax offices is nobody's income, so it is billed and booked apart. Rates and profiles are rows with
validity in time; what an invoice was taxed with is copied and frozen with it, so that no later rate changes it. The
rules that hold the sums together stand here: lines and tax make the total, the lines' shares make each tax, no rate is
valid twice at once, and credit notes never give back more tax than there was.
Locks: ACCESS EXCLUSIVE on invoices and invoice_lines for as long as a change of the catalogue takes: the new columns
have constant defaults, so no row is rewritten. One constraint is read against every invoice once.
Undo: drops the tables and columns. Refused once an invoice is taxed or a profile was written: it would be forgotten.
"""

from migrations.sql import run

revision = "0016"
down_revision = "0015"

# What a tax id looks like, by type. invoicing/tax_ids.py has the same forms with their sources, and check digits
# besides; a test compares the two.
FORMS = {
    "eu_vat": (
        "^(ATU[0-9]{8}|BE[01][0-9]{9}|BG[0-9]{9,10}|CY[0-9]{8}[A-Z]|CZ[0-9]{8,10}|DE[0-9]{9}|DK[0-9]{8}|EE[0-9]{9}"
        "|EL[0-9]{9}|ES[0-9A-Z][0-9]{7}[0-9A-Z]|FI[0-9]{8}|FR[0-9A-Z]{2}[0-9]{9}|HR[0-9]{11}|HU[0-9]{8}"
        "|IE([0-9][0-9A-Z+*][0-9]{5}[A-Z]|[0-9]{7}[A-Z]{2})|IT[0-9]{11}|LT([0-9]{9}|[0-9]{12})|LU[0-9]{8}|LV[0-9]{11}"
        "|MT[0-9]{8}|NL[0-9A-Z+*]{9}B[0-9A-Z+*]{2}|PL[0-9]{10}|PT[0-9]{9}|RO[0-9]{2,10}|SE[0-9]{12}|SI[0-9]{8}"
        "|SK[0-9]{10})$"
    ),
    "gb_vat": "^GB([0-9]{9}|[0-9]{12}|GD[0-4][0-9]{2}|HA[5-9][0-9]{2})$",
    "us_ein": "^[0-9]{2}-[0-9]{7}$",
    "ch_uid": "^CHE[0-9]{9}$",
    "au_abn": "^[1-9][0-9]{10}$",
}
EU = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"

FORM = " ".join(f"WHEN '{kind}' THEN tax_id ~ '{pattern}'" for kind, pattern in FORMS.items())

RATES = """
CREATE TABLE tax_rates (
    id           uuid PRIMARY KEY,
    jurisdiction text NOT NULL CONSTRAINT tax_rates_have_a_jurisdiction
        CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    percent      numeric NOT NULL CONSTRAINT tax_rates_are_percentages
        CHECK (percent BETWEEN 0 AND 100 AND scale(trim_scale(percent)) <= 4),
    item         text REFERENCES items,
    valid_from   timestamptz NOT NULL,
    valid_until  timestamptz CHECK (valid_until > valid_from),
    created_at   timestamptz NOT NULL,
    created_by   text NOT NULL CHECK (length(created_by) BETWEEN 1 AND 200),
    CONSTRAINT tax_rates_do_not_overlap EXCLUDE USING gist (
        jurisdiction WITH =, name WITH =, coalesce(item, '') WITH =, tstzrange(valid_from, valid_until) WITH &&)
);
COMMENT ON TABLE tax_rates IS 'What a country (DE), and a state of one (US-CA), takes of what is sold there, and when.';
COMMENT ON COLUMN tax_rates.item IS 'Only for this item, in place of the rate of the same name for all others.';

CREATE FUNCTION tax_rates_changed() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF (NEW.id, NEW.jurisdiction, NEW.name, NEW.percent, NEW.item, NEW.valid_from, NEW.created_at, NEW.created_by)
       IS DISTINCT FROM (OLD.id, OLD.jurisdiction, OLD.name, OLD.percent, OLD.item, OLD.valid_from, OLD.created_at,
        OLD.created_by) OR OLD.valid_until IS NOT NULL OR NEW.valid_until IS NULL THEN
        RAISE EXCEPTION 'tax rate % of % refused: a rate never changes, it only ends, once', OLD.name,
            OLD.jurisdiction USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (SELECT FROM invoice_taxes t JOIN invoices i ON i.customer_id = t.customer_id AND i.id = t.invoice_id
                WHERE t.tax_rate_id = OLD.id AND i.state NOT IN ('void') AND i.period_end > NEW.valid_until) THEN
        RAISE EXCEPTION 'tax rate % of % refused: an invoice was taxed with it after %', OLD.name, OLD.jurisdiction,
            NEW.valid_until USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE ON tax_rates FOR EACH ROW EXECUTE FUNCTION tax_rates_changed();
CREATE TRIGGER kept BEFORE DELETE OR TRUNCATE ON tax_rates
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
"""

PROFILES = f"""
CREATE TABLE tax_profiles (
    customer_id uuid NOT NULL REFERENCES customers,
    seq         bigint NOT NULL CHECK (seq > 0),
    country     text NOT NULL CHECK (country ~ '^[A-Z]{{2}}$'),
    state       text CHECK (state ~ '^[A-Z0-9]{{1,3}}$'),
    tax_id      text CHECK (length(tax_id) <= 30),
    tax_id_type text,
    status      text NOT NULL CHECK (status IN ('taxable', 'exempt', 'reverse_charge')),
    legal_note  text CHECK (length(legal_note) BETWEEN 1 AND 500),
    valid_from  timestamptz NOT NULL,
    reason      text NOT NULL CHECK (length(reason) BETWEEN 1 AND 2000),
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, seq),
    CHECK (num_nonnulls(tax_id, tax_id_type) IN (0, 2)),
    CONSTRAINT tax_profiles_say_why_untaxed CHECK ((legal_note IS NOT NULL) = (status <> 'taxable')),
    CONSTRAINT tax_profiles_tax_id_form CHECK (
        tax_id IS NULL OR coalesce(CASE tax_id_type {FORM} ELSE false END, false)),
    CONSTRAINT tax_profiles_reverse_charge CHECK (
        status <> 'reverse_charge'
        OR (tax_id_type IS NOT DISTINCT FROM 'eu_vat' AND country = ANY (string_to_array('{EU}', ' '))))
);
COMMENT ON TABLE tax_profiles IS
    'Where a customer is taxed, from valid_from on. Of several from the same time the one written last counts.';
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tax_profiles
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

-- A closed period is on its way to the customer: what it is taxed with is settled.
CREATE FUNCTION tax_profiles_added() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    closed_until timestamptz;
BEGIN
    SELECT max(end_at) INTO closed_until FROM ledger_periods
     WHERE customer_id = NEW.customer_id AND state = 'closed';
    IF NEW.valid_from < closed_until THEN
        RAISE EXCEPTION 'tax profile of % refused: it begins at %, in a closed period; begin at % or later',
            NEW.customer_id, NEW.valid_from, closed_until USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER in_open_periods BEFORE INSERT ON tax_profiles FOR EACH ROW EXECUTE FUNCTION tax_profiles_added();
"""  # noqa: S608 - constants of this file

INVOICES = """
ALTER TABLE invoices
    ADD COLUMN tax numeric NOT NULL DEFAULT 0,
    ADD COLUMN tax_included numeric NOT NULL DEFAULT 0,
    ADD CONSTRAINT invoices_taxed_when_final CHECK (number IS NOT NULL OR (tax = 0 AND tax_included = 0));
COMMENT ON COLUMN invoices.tax IS 'Tax on top of the lines: total is the lines'' rounded sum plus this.';
COMMENT ON COLUMN invoices.tax_included IS 'Tax inside lines whose prices include it: part of total already.';
ALTER TABLE invoice_lines ADD COLUMN tax_inclusive boolean NOT NULL DEFAULT false;

CREATE TABLE invoice_taxes (
    customer_id  uuid NOT NULL,
    invoice_id   uuid NOT NULL,
    id           uuid NOT NULL,
    position     smallint NOT NULL CHECK (position > 0),
    treatment    text NOT NULL CHECK (treatment IN ('rate', 'reverse_charge', 'exempt')),
    tax_rate_id  uuid REFERENCES tax_rates,
    jurisdiction text NOT NULL CHECK (jurisdiction ~ '^[A-Z]{2}(-[A-Z0-9]{1,3})?$'),
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    percent      numeric NOT NULL CHECK (percent BETWEEN 0 AND 100 AND scale(trim_scale(percent)) <= 4),
    inclusive    boolean NOT NULL,
    taxable      numeric NOT NULL,
    amount       numeric NOT NULL,
    legal_note   text CHECK (length(legal_note) BETWEEN 1 AND 500),
    PRIMARY KEY (customer_id, invoice_id, id),
    UNIQUE (customer_id, invoice_id, position),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CONSTRAINT invoice_taxes_say_why_untaxed CHECK (
        treatment = 'rate'
        OR (tax_rate_id IS NULL AND percent = 0 AND amount = 0 AND NOT inclusive AND legal_note IS NOT NULL))
);
COMMENT ON COLUMN invoice_taxes.taxable IS 'The rounded amount without this tax that it was taken of.';
CREATE INDEX invoice_taxes_by_rate ON invoice_taxes (tax_rate_id) WHERE tax_rate_id IS NOT NULL;

CREATE TABLE invoice_line_taxes (
    customer_id    uuid NOT NULL,
    invoice_id     uuid NOT NULL,
    invoice_tax_id uuid NOT NULL,
    line_id        uuid NOT NULL,
    taxable        numeric NOT NULL,
    amount         numeric NOT NULL,
    PRIMARY KEY (customer_id, invoice_id, invoice_tax_id, line_id),
    FOREIGN KEY (customer_id, invoice_id, invoice_tax_id) REFERENCES invoice_taxes (customer_id, invoice_id, id),
    FOREIGN KEY (customer_id, invoice_id, line_id) REFERENCES invoice_lines (customer_id, invoice_id, id)
);
COMMENT ON TABLE invoice_line_taxes IS 'Each line''s share of each tax of its invoice; the shares add up to it.';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_taxes
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON invoice_line_taxes
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

-- Taxes are written in the transaction that makes the invoice final, just before: to a final one none is added.
CREATE FUNCTION invoice_taxes_added() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
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
    RETURN NULL;
END $$;
CREATE TRIGGER only_into_drafts AFTER INSERT ON invoice_taxes
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION invoice_taxes_added();
CREATE TRIGGER only_into_drafts AFTER INSERT ON invoice_line_taxes
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION invoice_taxes_added();

CREATE FUNCTION invoices_tax_adds_up() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    lines    numeric;
    on_top   numeric;
    inside   numeric;
    offender record;
BEGIN
    SELECT coalesce(sum(rounded), 0) INTO lines FROM invoice_lines
     WHERE customer_id = NEW.customer_id AND invoice_id = NEW.id;
    SELECT coalesce(sum(amount) FILTER (WHERE NOT inclusive), 0), coalesce(sum(amount) FILTER (WHERE inclusive), 0)
      INTO on_top, inside FROM invoice_taxes WHERE customer_id = NEW.customer_id AND invoice_id = NEW.id;
    IF NEW.total <> lines + NEW.tax OR NEW.tax <> on_top OR NEW.tax_included <> inside THEN
        RAISE EXCEPTION 'invoice % refused: total %, tax % and % included are not what lines (%) and taxes (%, %) say',
            OLD.id, NEW.total, NEW.tax, NEW.tax_included, lines, on_top, inside
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT t.name, t.taxable, t.amount, sum(l.taxable) AS of_lines, sum(l.amount) AS shares INTO offender
      FROM invoice_taxes t
      LEFT JOIN invoice_line_taxes l ON l.customer_id = t.customer_id AND l.invoice_id = t.invoice_id
                                    AND l.invoice_tax_id = t.id
     WHERE t.customer_id = NEW.customer_id AND t.invoice_id = NEW.id
     GROUP BY t.id, t.name, t.taxable, t.amount
    HAVING coalesce(sum(l.taxable), 0) <> t.taxable OR coalesce(sum(l.amount), 0) <> t.amount LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'invoice % refused: of % the lines have % of %, and the tax is % of %', OLD.id, offender.name,
            offender.shares, offender.of_lines, offender.amount, offender.taxable
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER tax_adds_up BEFORE UPDATE ON invoices FOR EACH ROW
    WHEN (OLD.state = 'draft' AND NEW.state IN ('final', 'paid')) EXECUTE FUNCTION invoices_tax_adds_up();

CREATE FUNCTION invoices_tax_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'invoice % refused: its tax is written once', OLD.id
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER tax_written_once BEFORE UPDATE ON invoices FOR EACH ROW
    WHEN (OLD.state <> 'draft' AND (NEW.tax <> OLD.tax OR NEW.tax_included <> OLD.tax_included))
    EXECUTE FUNCTION invoices_tax_changed();
"""

NOTES = """
CREATE TABLE credit_note_taxes (
    customer_id    uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    invoice_id     uuid NOT NULL,
    invoice_tax_id uuid NOT NULL,
    amount         numeric NOT NULL CHECK (amount <> 0),
    PRIMARY KEY (customer_id, credit_note_id, invoice_tax_id),
    FOREIGN KEY (customer_id, credit_note_id) REFERENCES credit_notes (customer_id, id),
    FOREIGN KEY (customer_id, invoice_id, invoice_tax_id) REFERENCES invoice_taxes (customer_id, invoice_id, id)
);
COMMENT ON TABLE credit_note_taxes IS 'How much of each tax of its invoice a credit note gives back.';
CREATE INDEX credit_note_taxes_by_tax ON credit_note_taxes (customer_id, invoice_id, invoice_tax_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON credit_note_taxes
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();

-- Notes of one invoice come one after the other, since each takes the invoice (migration 0007). A void one counts no
-- more: its tax is owed again.
CREATE FUNCTION credit_note_taxes_added() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tax    numeric;
    before numeric;
BEGIN
    PERFORM invoice_taken(NEW.customer_id, NEW.invoice_id);
    SELECT amount INTO tax FROM invoice_taxes
     WHERE customer_id = NEW.customer_id AND invoice_id = NEW.invoice_id AND id = NEW.invoice_tax_id;
    SELECT coalesce(sum(t.amount), 0) INTO before
      FROM credit_note_taxes t
      JOIN credit_notes c ON c.customer_id = t.customer_id AND c.id = t.credit_note_id AND c.voided_at IS NULL
     WHERE t.customer_id = NEW.customer_id AND t.invoice_id = NEW.invoice_id
       AND t.invoice_tax_id = NEW.invoice_tax_id;
    IF sign(NEW.amount) <> sign(tax) OR abs(before + NEW.amount) > abs(tax)
       OR NOT EXISTS (SELECT FROM credit_notes c WHERE c.customer_id = NEW.customer_id AND c.id = NEW.credit_note_id
                         AND c.invoice_id = NEW.invoice_id) THEN
        RAISE EXCEPTION 'tax of credit note % refused: % after % is more than the % that the invoice has',
            NEW.credit_note_id, NEW.amount, before, tax USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER within_the_invoice BEFORE INSERT ON credit_note_taxes
    FOR EACH ROW EXECUTE FUNCTION credit_note_taxes_added();
"""

RIGHTS = """
GRANT SELECT, INSERT ON tax_rates, tax_profiles, invoice_taxes, invoice_line_taxes, credit_note_taxes TO billing_app;
GRANT UPDATE ON tax_rates TO billing_app;
-- Rates are the same for everybody; who wrote them is nobody's business.
GRANT SELECT (id, jurisdiction, name, percent, item, valid_from, valid_until) ON tax_rates TO billing_panel;
"""

# As in migration 0006. Who wrote a profile, and why, is none of the customer's business.
READ_BY_CUSTOMER = {
    "tax_profiles": "(customer_id, seq, country, state, tax_id, tax_id_type, status, legal_note, valid_from)",
    "invoice_taxes": "",
    "invoice_line_taxes": "",
    "credit_note_taxes": "",
}
POLICIES = "".join(
    f"""
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_everyone ON {table} TO billing_app USING (true) WITH CHECK (true);
CREATE POLICY of_one_customer ON {table} FOR SELECT TO billing_panel
    USING (customer_id = (SELECT public.panel_customer()));
GRANT SELECT {columns} ON {table} TO billing_panel;
"""
    for table, columns in READ_BY_CUSTOMER.items()
)


def upgrade() -> None:
    for part in (RATES, PROFILES, INVOICES, NOTES, RIGHTS, POLICIES):
        run(part)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM invoice_taxes) OR EXISTS (SELECT FROM tax_profiles) THEN
                RAISE EXCEPTION 'invoices are taxed, or customers have tax profiles: they would be forgotten';
            END IF;
        END $$;
        DROP TRIGGER tax_adds_up ON invoices;
        DROP TRIGGER tax_written_once ON invoices;
        DROP TABLE credit_note_taxes, invoice_line_taxes, invoice_taxes, tax_profiles, tax_rates;
        DROP FUNCTION tax_rates_changed, tax_profiles_added, invoice_taxes_added, invoices_tax_adds_up,
                      invoices_tax_changed, credit_note_taxes_added;
        ALTER TABLE invoice_lines DROP COLUMN tax_inclusive;
        ALTER TABLE invoices DROP COLUMN tax, DROP COLUMN tax_included;
    """)
