"""What SQL of a visitor's own could reach in the panel's connection: one customer's rows, and no way to change any.

The walls are Postgres's own, so they are attacked here with plain SQL, as if a page had let it through.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from psycopg import errors, sql
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.panel.links import SESSION_TTL, claim_link, create_link, hash_token
from app.panel.sessions import open_reader
from invoicing.customers import CustomerNotFound, get_customer
from tests.panel.conftest import Site
from tests.panel.walls import Panel, open_panel

OF_EVERYONE = {
    "items": ["code", "name", "unit"],
    "plan_versions": [
        "id", "plan", "currency", "fee", "interval", "timing", "included_usage", "trial_days", "valid_from",
        "tax_inclusive",
    ],
    "plans": ["code", "name"],
    "price_tiers": ["price_id", "position", "first", "unit_amount", "flat_amount"],
    "prices": [
        "id", "item", "currency", "unit_amount", "valid_from", "price_list", "region", "model", "package_size",
        "included", "included_item", "included_per_unit", "minimum", "maximum", "valid_until", "tax_inclusive",
    ],
    "region_zones": ["region", "zone"],
    "tax_rates": ["id", "jurisdiction", "name", "percent", "item", "valid_from", "valid_until"],
}  # fmt: skip
"""What the panel reads that belongs to no customer, and which columns of it."""


@pytest.fixture
def panel(site: Site, database_url: str) -> Iterator[Panel]:
    with open_panel(site, database_url) as opened:
        yield opened


def test_every_table_and_view_shows_one_customer_and_nobody_else(panel: Panel) -> None:
    panel.present(panel.key)
    of_customers = [table for table in panel.tables() if table not in OF_EVERYONE]
    assert len(of_customers) >= 12
    for table in of_customers:
        assert {panel.acme, panel.other} <= panel.seen(table, connection=panel.owner), f"{table} proves nothing"
        assert panel.seen(table) == {panel.acme}, table
    panel.present(panel.others_key)
    assert [table for table in of_customers if panel.seen(table) != {panel.other}] == []


def test_what_belongs_to_nobody_is_the_price_list(panel: Panel) -> None:
    assert {table: panel.columns(table) for table in panel.tables() if "customer_id" not in panel.columns(table)} == (
        OF_EVERYONE
    )


def test_what_was_agreed_with_others_is_nobodys_business(panel: Panel) -> None:
    """Of prices everybody sees the public ones, a customer the own ones and those of the agreed list, with tiers."""
    panel.present(panel.key)
    seen = panel.connection.execute("SELECT item, price_list FROM prices WHERE item LIKE 'secret:%' ORDER BY 1, 2")
    assert seen.fetchall() == [
        ("secret:acme", "acme-list"),
        ("secret:acme", "own"),
        ("secret:acme", "public"),
        ("secret:other", "public"),
    ]
    query = "SELECT p.item FROM price_tiers t LEFT JOIN prices p ON p.id = t.price_id"
    assert panel.connection.execute(query).fetchall() == [("secret:acme",)]
    panel.present("")
    assert panel.connection.execute("SELECT count(*) FROM prices WHERE price_list <> 'public'").fetchone() == (0,)


@pytest.mark.parametrize("presented", ["nothing", "another's id", "another's hash", "the link", "a guess"])
def test_without_the_key_of_a_session_there_are_no_rows(panel: Panel, site: Site, presented: str) -> None:
    with Session(site.engine) as session, session.begin():
        token = create_link(session, customer_id=panel.other, return_url=None, now=site.now)
        claim_link(session, token=token, now=site.now)
    key = {
        "nothing": "",
        "another's id": str(panel.other),
        "another's hash": hash_token(panel.others_key),
        "the link": token,
        "a guess": "' OR true --",
    }[presented]
    for keys in ((), (key,)):  # as a fresh connection, and with the setting set
        for one in keys:
            panel.present(one)
        assert {
            table: panel.seen(table) for table in panel.tables() if table not in OF_EVERYONE and panel.seen(table)
        } == {}


def test_a_session_that_is_over_shows_nothing_more(panel: Panel) -> None:
    panel.present(panel.key)
    assert panel.seen("invoices") == {panel.acme}
    panel.owner.execute(
        "UPDATE panel_links SET session_until = session_until - %s WHERE customer_id = %s", [SESSION_TTL, panel.acme]
    )
    assert panel.seen("invoices") == set()
    panel.present(panel.others_key)
    assert panel.seen("invoices") == {panel.other}
    panel.owner.execute("DELETE FROM panel_links WHERE customer_id = %s", [panel.other])
    assert panel.seen("invoices") == set()


def test_no_page_shows_anything_once_postgres_says_the_session_is_over(panel: Panel, site: Site) -> None:
    """Not even to an application whose clock is slow: the pages read behind the wall, all of them."""
    invoice_id = site.invoice_id("acme", "2026-09")
    pages = ["", "current", "breakdown", "breakdown.csv", "invoices", f"invoices/{invoice_id}"]
    site.open("acme")
    for page in pages:
        site.get(f"/billing/{page}")
    panel.owner.execute("UPDATE panel_links SET session_until = session_until - %s", [SESSION_TTL])
    for page in pages:
        assert "acme" not in site.get(f"/billing/{page}", status=401)


def test_a_session_lasts_by_the_servers_clock(panel: Panel) -> None:
    """An hour from the claim, whatever time the application believes it is."""
    (left,) = panel.owner.execute("SELECT max(session_until) - clock_timestamp() FROM panel_links").fetchone() or ()
    assert SESSION_TTL - timedelta(minutes=2) < left <= SESSION_TTL


WRITES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


def test_the_panel_writes_to_no_table_at_all(panel: Panel) -> None:
    found = panel.owner.execute(
        "SELECT c.relname, p.name FROM pg_class c, unnest(%s::text[]) AS p (name) WHERE c.relnamespace = "
        "'public'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f') "
        "AND (has_table_privilege('billing_panel', c.oid, p.name) OR (p.name IN ('INSERT', 'UPDATE', 'REFERENCES') "
        "AND has_any_column_privilege('billing_panel', c.oid, p.name)))",
        [list(WRITES)],
    ).fetchall()
    assert found == []


ATTEMPTS = {
    "read the staff": "SELECT * FROM staff_users",
    "read API tokens": "SELECT * FROM api_tokens",
    "read the sessions": "SELECT * FROM panel_links",
    "read what Stripe said": "SELECT * FROM stripe_events",
    "read the syncs": "SELECT * FROM stripe_syncs",
    "read who wrote a price": "SELECT created_by FROM prices",
    "read whose price it is": "SELECT customer_id FROM prices",
    "read why a discount was given": "SELECT reason FROM discounts",
    "read why a period was billed early": "SELECT reason FROM early_bills",
    "read why credit was granted": "SELECT reason FROM credit_grants",
    "read why a plan was given": "SELECT reason FROM plan_phases",
    "read drafts of prices": "SELECT * FROM price_changes",
    "pay": "UPDATE invoices SET state = 'paid'",
    "post": "INSERT INTO ledger_entries SELECT * FROM ledger_entries",
    "lock": "SELECT * FROM invoices FOR UPDATE",
    "lock a table": "BEGIN; LOCK TABLE invoices IN EXCLUSIVE MODE",
    "drop a policy": "DROP POLICY of_one_customer ON invoices",
    "add a policy": "CREATE POLICY mine ON invoices TO billing_panel USING (true)",
    "switch the policies off": "ALTER TABLE invoices DISABLE ROW LEVEL SECURITY",
    "replace the function": "CREATE OR REPLACE FUNCTION public.panel_customer() RETURNS uuid LANGUAGE sql "
    "AS 'SELECT NULL::uuid'",
    "skip the triggers": "SET session_replication_role = replica",
    "a table of its own": "CREATE TABLE public.notes (note text)",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "become a role of the server": "SET ROLE pg_read_all_data",
}


@pytest.mark.parametrize("statement", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_everything_else_is_refused(panel: Panel, statement: str) -> None:
    panel.present(panel.key)
    with pytest.raises(errors.InsufficientPrivilege):
        panel.connection.execute(statement.encode())


def test_skipping_row_security_is_an_error_and_not_a_way_round_it(panel: Panel) -> None:
    panel.present(panel.key)
    panel.connection.execute("SET row_security = off")
    with pytest.raises(errors.InsufficientPrivilege):
        panel.seen("invoices")


def test_a_function_in_the_condition_is_not_shown_other_rows(panel: Panel) -> None:
    """The planner may ask a cheap condition first; not before the policy has had its say."""
    panel.present(panel.key)
    panel.connection.execute(
        "CREATE FUNCTION pg_temp.tell(id uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
        "$$ BEGIN RAISE NOTICE '%', id; RETURN true; END $$"
    )
    told: set[str] = set()
    panel.connection.add_notice_handler(lambda notice: told.add(notice.message_primary or ""))
    for table in ("invoices", "ledger_totals", "ledger_unbilled", "ledger_entries", "customers"):
        name = sql.Identifier(table)
        panel.connection.execute(sql.SQL("SELECT count(*) FROM {} WHERE pg_temp.tell(customer_id)").format(name))
    assert told == {str(panel.acme)}


def test_a_table_of_the_visitors_own_does_not_answer_for_the_sessions(panel: Panel) -> None:
    panel.connection.execute(
        "CREATE TEMP TABLE panel_links (session_hash text, session_until timestamptz, customer_id uuid)"
    )
    panel.connection.execute(
        "INSERT INTO pg_temp.panel_links VALUES (%s, 'infinity', %s)", [hash_token("mine"), panel.other]
    )
    panel.connection.execute("SET search_path = pg_temp, public")
    panel.present("mine")
    assert panel.seen("invoices") == set()


def test_the_planners_statistics_show_no_values(panel: Panel) -> None:
    panel.owner.execute("ANALYZE")
    panel.present(panel.key)
    found = panel.connection.execute(
        "SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = 'public' AND tablename <> ALL(%s)", [[*OF_EVERYONE]]
    ).fetchall()
    assert found == []


def test_no_function_lends_the_panel_its_owners_rights_but_the_one_that_knows_sessions(panel: Panel) -> None:
    found = panel.owner.execute(
        "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace "
        "AND has_function_privilege('billing_panel', oid, 'EXECUTE')"
    ).fetchall()
    assert found == [("panel_customer",)]
    assert panel.owner.execute(
        "SELECT has_function_privilege('billing_app', 'panel_customer()', 'EXECUTE')"
    ).fetchone() == (False,)


def test_every_view_reads_with_the_rights_of_whoever_asks(panel: Panel) -> None:
    found = panel.owner.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' "
        "AND NOT coalesce('security_invoker=true' = ANY (reloptions), false)"
    ).fetchall()
    assert found == []


def test_whose_rows_they_are_is_asked_once_for_a_query(panel: Panel) -> None:
    panel.present(panel.key)
    plan = "\n".join(row[0] for row in panel.connection.execute("EXPLAIN SELECT * FROM ledger_unbilled"))
    assert "InitPlan" in plan
    assert plan.count("panel_customer") <= 1


def test_a_connection_that_goes_back_to_the_pool_remembers_nobody(panel: Panel) -> None:
    reader = open_reader(panel.engine, key=panel.key)
    assert reader.scalars(text("SELECT DISTINCT customer_id FROM invoices")).all() == [panel.acme]
    pid = reader.scalar(text("SELECT pg_backend_pid()"))
    reader.commit()
    assert reader.scalars(text("SELECT DISTINCT customer_id FROM invoices")).all() == [panel.acme]
    reader.close()
    with panel.engine.connect() as next_one:
        assert next_one.scalar(text("SELECT pg_backend_pid()")) == pid
        assert next_one.scalar(text("SELECT count(*) FROM invoices")) == 0
        assert not next_one.scalar(text("SELECT current_setting('billing.panel_session', true)"))


def test_a_page_that_asked_for_another_customer_would_find_nobody(panel: Panel) -> None:
    with open_reader(panel.engine, key=panel.key) as reader:
        assert get_customer(reader, customer_id=panel.acme).customer_id == panel.acme
        with pytest.raises(CustomerNotFound):
            get_customer(reader, customer_id=panel.other)


def test_the_key_is_in_no_list_of_running_statements(panel: Panel) -> None:
    with open_reader(panel.engine, key=panel.key) as reader:
        reader.connection()
        shown = panel.owner.execute("SELECT query FROM pg_stat_activity WHERE datname = current_database()").fetchall()
    assert any("set_config('billing.panel_session'" in query for (query,) in shown)
    assert not any(panel.key in query for (query,) in shown)
