"""The customer panel's role, which Postgres keeps inside one customer; views that no longer lend out their owner.

Why: each process may do only what it is there for, whatever SQL somebody makes it run. The panel shows customers their
own figures on the open internet, so it reads as `billing_panel`: row-level security shows it the rows of the customer
whose session key it presents, and none without. The key is known to the visitor's browser alone; the database keeps
its hash, in a table that the role cannot read. docs/decisions/0007-database-roles.md has the reasons.
Locks: ACCESS EXCLUSIVE on each table of the list below, for as long as a change of the catalogue takes.
Undo: takes the policies, the role's rights and the session columns back; open panel sessions end. The role itself
belongs to the whole cluster and stays.
"""

from migrations.sql import run

revision = "0006"
down_revision = "0005"

READ_BY_CUSTOMER = (
    "ledger_books", "ledger_periods", "ledger_entries", "ledger_totals", "customers", "invoices", "invoice_lines",
    "adjustments", "invoice_history", "payments", "payment_failures",
)  # fmt: skip

# Roles belong to the whole cluster, databases come and go: the role may be there already.
ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'billing_panel') THEN
        CREATE ROLE billing_panel NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$;
-- With one login for everything, it takes on this role for the panel as it takes on billing_app for all else.
DO $$ BEGIN
    IF NOT pg_has_role(current_user, 'billing_panel', 'SET') THEN
        EXECUTE format('GRANT billing_panel TO %I', current_user);
    END IF;
EXCEPTION WHEN undefined_object OR invalid_parameter_value THEN  -- before Postgres 16 there is no SET option to ask for
    EXECUTE format('GRANT billing_panel TO %I', current_user);
END $$;
-- A database that began before Postgres 15 lets everybody make tables here.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO billing_panel;
"""

SESSIONS = """
ALTER TABLE panel_links
    ADD COLUMN session_hash  text UNIQUE CHECK (length(session_hash) = 64),
    ADD COLUMN session_until timestamptz,
    ADD CONSTRAINT panel_links_session_is_complete CHECK (
        num_nonnulls(session_hash, session_until) IN (0, 2) AND (session_hash IS NULL OR used_at IS NOT NULL));
COMMENT ON COLUMN panel_links.session_hash IS
    'SHA-256 of the key in the visitor''s cookie; the key itself is not kept.';
COMMENT ON COLUMN panel_links.session_until IS
    'By this server''s own clock: a guard that is told the time guards nothing.';

-- Whose rows the panel may see. Whoever writes SQL in the panel's connection can set the setting to anything, so it
-- holds a key and not a customer's id. The body is bound to our tables when it is made: no search path can redirect it.
CREATE FUNCTION panel_customer() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT customer_id FROM public.panel_links
     WHERE session_hash = encode(sha256(convert_to(current_setting('billing.panel_session', true), 'UTF8')), 'hex')
       AND session_until > clock_timestamp();
END;
REVOKE EXECUTE ON FUNCTION panel_customer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION panel_customer TO billing_panel;
"""

# `(SELECT f())` is asked once for a query and not once for a row. The application sees all rows: a policy that is
# always true costs it nothing, since the planner drops it. The owner is not subject to policies.
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

# A view reads with its owner's rights unless it says otherwise, and policies do not bind the owner.
VIEWS = """
ALTER VIEW ledger_unbilled SET (security_invoker = true);
GRANT SELECT ON ledger_unbilled TO billing_panel;
-- The price book is the same for everybody; who wrote it is nobody's business.
GRANT SELECT (code, name, unit) ON items TO billing_panel;
GRANT SELECT (id, item, currency, unit_amount, valid_from) ON prices TO billing_panel;
"""


def upgrade() -> None:
    for part in (ROLE, SESSIONS, POLICIES, VIEWS):
        run(part)


def downgrade() -> None:
    run("""
        REVOKE SELECT (code, name, unit) ON items FROM billing_panel;
        REVOKE SELECT (id, item, currency, unit_amount, valid_from) ON prices FROM billing_panel;
        REVOKE SELECT ON ledger_unbilled FROM billing_panel;
        ALTER VIEW ledger_unbilled RESET (security_invoker);
    """)
    for table in READ_BY_CUSTOMER:
        run(f"REVOKE SELECT ON {table} FROM billing_panel")  # noqa: S608 - names of our own tables
        run(f"DROP POLICY of_one_customer ON {table}")
        run(f"DROP POLICY of_everyone ON {table}")
        run(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    run("""
        DROP FUNCTION panel_customer;
        ALTER TABLE panel_links DROP CONSTRAINT panel_links_session_is_complete,
            DROP COLUMN session_hash, DROP COLUMN session_until;
        REVOKE USAGE ON SCHEMA public FROM billing_panel;
    """)
