"""What the owner of the tables can do by changing the tables themselves: it is not refused, but it is noticed."""

import pytest
from psycopg import errors

from ledger.checks import CHECKS
from tests.integration.ledger.guards.attacks import Target

GUARDS = "every guard is in place"

PUT_ASIDE = {
    "a trigger is switched off": (
        "ALTER TABLE ledger_entries DISABLE TRIGGER append_only", "ledger_entries", "trigger append_only",
        "is switched off",
    ),
    "another room's trigger is switched off": (
        "ALTER TABLE invoices DISABLE TRIGGER USER", "invoices", "trigger along_its_states", "is switched off",
    ),
    "a trigger fires for replicas only": (
        "ALTER TABLE ledger_totals ENABLE REPLICA TRIGGER follow_entries", "ledger_totals", "trigger follow_entries",
        "is switched off",
    ),
    "a trigger is dropped": (
        "DROP TRIGGER entries_posted ON ledger_entries", "ledger_entries", "trigger entries_posted", "is missing",
    ),
    "a trigger too many": (
        "CREATE TRIGGER mine BEFORE INSERT ON ledger_entries FOR EACH ROW "
        "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ledger_entries", "trigger mine", "is none of ours",
    ),
    "a constraint is dropped": (
        "ALTER TABLE ledger_entries DROP CONSTRAINT ledger_entries_two_accounts", "ledger_entries",
        "constraint ledger_entries_two_accounts", "is missing, or old rows were not held against it",
    ),
    "a constraint of a type is dropped": (
        "ALTER DOMAIN ledger_amount DROP CONSTRAINT ledger_entries_amount", "ledger_entries",
        "constraint ledger_entries_amount", "is missing on amount, or old rows were not held against it",
    ),
    "a column of another type": (
        "ALTER TABLE ledger_entries ALTER COLUMN amount TYPE numeric", "ledger_entries",
        "constraint ledger_entries_amount", "is missing on amount, or old rows were not held against it",
    ),
    "a constraint that spares old rows": (
        "ALTER DOMAIN ledger_amount DROP CONSTRAINT ledger_entries_amount; ALTER DOMAIN ledger_amount ADD CONSTRAINT "
        "ledger_entries_amount CHECK (VALUE >= 0) NOT VALID",
        "ledger_entries", "constraint ledger_entries_amount",
        "is missing on amount, or old rows were not held against it",
    ),
    "an index is dropped": (
        "DROP INDEX ledger_entries_reversed_once", "ledger_entries", "index ledger_entries_reversed_once",
        "is missing or not unique",
    ),
    "a rule": (
        "CREATE RULE mine AS ON INSERT TO ledger_entries DO INSTEAD NOTHING", "ledger_entries", "rule mine",
        "rewrites statements",
    ),
    "rows in a child": (
        "CREATE TABLE child () INHERITS (ledger_entries); INSERT INTO child SELECT * FROM ledger_entries",
        "ledger_entries", "table child", "inherits from it",
    ),
    "rows in a temporary child": (
        "CREATE TEMP TABLE child () INHERITS (ledger_totals); INSERT INTO child SELECT * FROM ledger_totals",
        "ledger_totals", "table child", "inherits from it",
    ),
    "policies are switched off": (
        "ALTER TABLE invoices DISABLE ROW LEVEL SECURITY", "invoices", "row-level security", "is switched off",
    ),
    "a policy too many": (
        "CREATE POLICY mine ON ledger_entries FOR SELECT TO billing_panel USING (true)", "ledger_entries",
        "policy mine", "is none of ours",
    ),
    "a right too many": (
        "GRANT UPDATE ON ledger_entries TO billing_app", "ledger_entries", "rights of billing_app", "include UPDATE",
    ),
    "a right to write totals": (
        "GRANT INSERT ON ledger_totals TO billing_app", "ledger_totals", "rights of billing_app", "include INSERT",
    ),
    "a right on one column": (
        "GRANT UPDATE (last_seq) ON ledger_books TO billing_app", "ledger_books", "rights of billing_app",
        "include UPDATE of last_seq",
    ),
    "a right for the panel": (
        "GRANT INSERT ON ledger_entries TO billing_panel", "ledger_entries", "rights of billing_panel",
        "include INSERT",
    ),
    "a right for everybody": (
        "GRANT SELECT ON ledger_entries TO PUBLIC", "ledger_entries", "rights of everybody", "include SELECT",
    ),
    "the guards' rights for everybody": (
        "GRANT EXECUTE ON FUNCTION ledger_entries_posted() TO PUBLIC", None, "function ledger_entries_posted",
        "runs with its owner's rights for everybody",
    ),
}  # fmt: skip


@pytest.mark.parametrize("prepared", ["owner"], indirect=True)
@pytest.mark.parametrize(("statement", "table", "guard", "problem"), PUT_ASIDE.values(), ids=PUT_ASIDE.keys())
def test_a_guard_that_was_put_aside_is_named(
    target: Target, statement: str, table: str | None, guard: str, problem: str
) -> None:
    assert target.connection.execute(CHECKS[GUARDS].encode()).fetchall() == []
    target.connection.execute(statement.encode())
    assert (table, guard, problem) in target.connection.execute(CHECKS[GUARDS].encode()).fetchall()


@pytest.mark.parametrize("prepared", ["owner"], indirect=True)
def test_totals_written_from_a_trigger_of_the_owners_own_are_named(target: Target) -> None:
    """The guard of the totals asks whether a trigger is at work, and the owner can make one. The sums still tell."""
    target.connection.execute(
        "CREATE TEMP TABLE fake (n int); CREATE FUNCTION pg_temp.write() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN UPDATE public.ledger_totals SET amount = amount + 1; RETURN NEW; END $$; "
        "CREATE TRIGGER t BEFORE INSERT ON fake FOR EACH ROW EXECUTE FUNCTION pg_temp.write(); "
        "INSERT INTO fake VALUES (1)"
    )
    assert target.connection.execute(CHECKS["running totals equal the entries they sum"].encode()).fetchall() != []


@pytest.mark.parametrize("prepared", ["owner"], indirect=True)
def test_the_owner_cannot_switch_off_what_belongs_to_postgres(target: Target) -> None:
    target.refuses("ALTER TABLE ledger_periods DISABLE TRIGGER ALL", errors.InsufficientPrivilege)
    target.refuses("UPDATE pg_catalog.pg_trigger SET tgenabled = 'D'", errors.InsufficientPrivilege)
