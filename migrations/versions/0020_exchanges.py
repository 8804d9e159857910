"""Exchanges: money that met the provider's balance in another currency than the customer pays in.

Why: an account at the provider settles in its own currency. A payment of 100 USD is 92 EUR there, its refund may be at
another rate. Each movement is exchanged by itself: out of the customer's books at what the customer paid, into the
house's at what the provider made of it. One row keeps both sides and the rate beside its entries, so that no book ever
holds two currencies and the difference between two rates can be explained to the cent. A row stands only with the entry
in its customer's books, is one customer's alone, and never changes.
Locks: none on tables that exist.
Undo: drops the table, and refuses once something was exchanged: the entries could not be explained any more.
"""

from migrations.sql import run

revision = "0020"
down_revision = "0019"

TABLE = """
CREATE TABLE exchanges (
    customer_id         uuid NOT NULL,
    provider            text NOT NULL CHECK (provider <> ''),
    external_id         text NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    account             text NOT NULL CHECK (account <> ''),
    invoice_id          uuid NOT NULL,
    payment_external_id text NOT NULL CHECK (length(payment_external_id) BETWEEN 1 AND 255),
    category            text NOT NULL CHECK (length(category) BETWEEN 1 AND 100),
    currency            text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount              numeric NOT NULL CHECK (abs(amount) < 1e15),
    settled_currency    text NOT NULL CHECK (settled_currency ~ '^[A-Z]{3}$'),
    settled             numeric NOT NULL CHECK (abs(settled) < 1e15),
    fee                 numeric NOT NULL CHECK (abs(fee) < 1e15),
    rate                numeric CHECK (rate > 0),
    entry_id            uuid,
    exchanged_at        timestamptz NOT NULL,
    recorded_at         timestamptz NOT NULL,
    PRIMARY KEY (customer_id, provider, external_id),
    FOREIGN KEY (customer_id, invoice_id) REFERENCES invoices (customer_id, id),
    CONSTRAINT exchanges_between_two_currencies CHECK (currency <> settled_currency),
    CONSTRAINT exchanges_one_way CHECK (amount * settled >= 0 AND (amount <> 0 OR settled = 0)),
    CONSTRAINT exchanges_move_something CHECK (amount <> 0 OR fee <> 0),
    CONSTRAINT exchanges_entry CHECK ((entry_id IS NOT NULL) = (amount <> 0))
);
COMMENT ON TABLE exchanges IS
    'A movement of a customer''s money that met the provider''s balance in another currency. Amounts in major units.';
COMMENT ON COLUMN exchanges.amount IS
    'In the customer''s currency: above 0 came in, below 0 went back; 0 where only a fee moved.';
COMMENT ON COLUMN exchanges.settled IS 'What the provider made of it, before its fee, with the same sign.';
COMMENT ON COLUMN exchanges.fee IS 'What the provider kept of it, in the settled currency; below 0 was given back.';
COMMENT ON COLUMN exchanges.entry_id IS 'The entry in the customer''s books that passes the amount on to the house.';
CREATE INDEX exchanges_by_external_id ON exchanges (external_id);
CREATE INDEX exchanges_by_payment ON exchanges (customer_id, payment_external_id);
"""

GUARDS = """
CREATE FUNCTION exchanges_booked() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger_books b
                    WHERE b.customer_id = NEW.customer_id AND b.holder = 'customer' AND b.currency = NEW.currency) THEN
        RAISE EXCEPTION 'exchange % refused: its customer''s books are not in %', NEW.external_id, NEW.currency
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.amount <> 0 AND NOT EXISTS (
        SELECT FROM ledger_entries e
         WHERE e.customer_id = NEW.customer_id AND e.id = NEW.entry_id AND e.amount = abs(NEW.amount)
           AND e.debit_account = CASE WHEN NEW.amount > 0 THEN 'assets:house' ELSE 'assets:stripe' END
           AND e.credit_account = CASE WHEN NEW.amount > 0 THEN 'assets:stripe' ELSE 'assets:house' END) THEN
        RAISE EXCEPTION 'exchange % refused: its amount has not left its customer''s books', NEW.external_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF EXISTS (SELECT FROM exchanges x
                WHERE x.external_id = NEW.external_id AND x.provider = NEW.provider
                  AND x.customer_id <> NEW.customer_id) THEN
        RAISE EXCEPTION 'exchange % refused: it is another customer''s', NEW.external_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER booked BEFORE INSERT ON exchanges FOR EACH ROW EXECUTE FUNCTION exchanges_booked();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON exchanges
    FOR EACH STATEMENT EXECUTE FUNCTION invoicing_refuse_change();
GRANT SELECT, INSERT ON exchanges TO billing_app;
"""


def upgrade() -> None:
    run(TABLE)
    run(GUARDS)


def downgrade() -> None:
    run("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM exchanges) THEN
                RAISE EXCEPTION 'money was exchanged: its entries could not be explained any more';
            END IF;
        END $$;
        DROP TABLE exchanges;
        DROP FUNCTION exchanges_booked;
    """)
