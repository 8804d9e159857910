"""Attempts to change what is written, or to put the guards aside, by plain SQL."""

from datetime import UTC, datetime

import pytest
from psycopg import errors, sql

from ledger.accounts import CUSTOMER_ACCOUNTS, HOUSE_ACCOUNTS
from ledger.entries import KINDS
from tests.integration.ledger.guards.attacks import MAY, Target, late

CHANGES = {
    "edit an amount": "UPDATE ledger_entries SET amount = amount + 1",
    "edit a date": "UPDATE ledger_entries SET effective_at = effective_at + interval '1 day'",
    "edit a label": "UPDATE ledger_entries SET labels = '{}'",
    "edit by upsert": "INSERT INTO ledger_entries SELECT * FROM ledger_entries ON CONFLICT (customer_id, id) "
    "DO UPDATE SET amount = 7",
    "edit in a part of a query": "WITH x AS (UPDATE ledger_entries SET amount = 7 RETURNING 1) SELECT * FROM x",
    "delete in a part of a query": "WITH x AS (DELETE FROM ledger_entries RETURNING 1) SELECT * FROM x",
    "edit by cursor": "DECLARE c CURSOR FOR SELECT * FROM ledger_entries FOR UPDATE; FETCH c; "
    "UPDATE ledger_entries SET amount = 7 WHERE CURRENT OF c",
    "edit in a block": "DO $$ BEGIN UPDATE ledger_entries SET amount = 7; END $$",
    "edit the sides": "UPDATE ledger_entries SET debit_account = credit_account, credit_account = debit_account",
    "edit the number": "UPDATE ledger_entries SET seq = seq + 100",
    "move to another customer": "UPDATE ledger_entries SET customer_id = (SELECT min(customer_id::text)::uuid "
    "FROM ledger_books)",
    "edit to the same": "UPDATE ledger_entries SET amount = amount",
    "edit nothing at all": "UPDATE ledger_entries SET amount = amount WHERE false",
    "delete by merge": "MERGE INTO ledger_entries t USING ledger_books s ON t.customer_id = s.customer_id "
    "WHEN MATCHED THEN DELETE",
    "edit a total by merge": "MERGE INTO ledger_totals t USING ledger_books s ON t.customer_id = s.customer_id "
    "WHEN MATCHED THEN UPDATE SET amount = 0",
    "edit a total by upsert": "INSERT INTO ledger_totals SELECT * FROM ledger_totals ON CONFLICT ON CONSTRAINT "
    "ledger_totals_key DO UPDATE SET amount = 0",
    "edit a total through its view": "UPDATE ledger_unbilled SET item = 'gift'",
    "delete a total through its view": "DELETE FROM ledger_unbilled",
    "add a total through its view": "INSERT INTO ledger_unbilled (customer_id, item, day) "
    "SELECT customer_id, 'gift', '2025-06-01' FROM ledger_books",
    "edit by merge": "MERGE INTO ledger_entries t USING ledger_entries s ON t.id = s.id "
    "WHEN MATCHED THEN UPDATE SET amount = 7",
    "delete an entry": "DELETE FROM ledger_entries WHERE seq = 1",
    "truncate the journal": "TRUNCATE ledger_entries",
    "truncate everything": "TRUNCATE ledger_books CASCADE",
    "edit a total": "UPDATE ledger_totals SET amount = amount + 1",
    "add a total": "INSERT INTO ledger_totals SELECT customer_id, period_start, usage_period_start, NULL, "
    "debit_account, credit_account, 'gift', NULL, day, NULL, NULL, 1, 1, 1 FROM ledger_totals LIMIT 1",
    "delete a total": "DELETE FROM ledger_totals",
    "truncate totals": "TRUNCATE ledger_totals",
    "edit seq": "UPDATE ledger_books SET last_seq = last_seq + 1",
    "edit the last time": "UPDATE ledger_books SET last_recorded_at = now() + interval '1 year'",
    "edit the closings": "UPDATE ledger_books SET closings = closings + 1",
    "change the currency": "UPDATE ledger_books SET currency = 'EUR'",
    "change the holder": "UPDATE ledger_books SET holder = 'house'",
    "change the opening": "UPDATE ledger_books SET opened_at = now()",
    "take over books": "UPDATE ledger_books SET customer_id = gen_random_uuid()",
    "delete books": "DELETE FROM ledger_books",
    "change the currency by upsert": "INSERT INTO ledger_books (customer_id, holder, currency, time_zone, anchor_day, "
    "opened_at) SELECT customer_id, holder, 'EUR', time_zone, anchor_day, opened_at FROM ledger_books "
    "ON CONFLICT (customer_id) DO UPDATE SET currency = 'EUR'",
    "change the currency by new books": "WITH gone AS (DELETE FROM ledger_books RETURNING *) INSERT INTO ledger_books "
    "(customer_id, holder, currency, time_zone, anchor_day, opened_at) SELECT customer_id, holder, 'EUR', time_zone, "
    "anchor_day, opened_at FROM gone",
    "second books": "INSERT INTO ledger_books (customer_id, holder, currency, time_zone, anchor_day, opened_at) "
    "SELECT customer_id, holder, 'EUR', time_zone, anchor_day, opened_at FROM ledger_books",
    "books in no currency": "INSERT INTO ledger_books (customer_id, holder, currency, time_zone, anchor_day, "
    "opened_at) VALUES (gen_random_uuid(), 'customer', 'dollars', 'UTC', 1, now())",
    "start the numbers again": "UPDATE ledger_books SET last_seq = 0, last_recorded_at = NULL",
    "an unknown time zone": "UPDATE ledger_books SET time_zone = 'Mars/Olympus'",
    "books with a past": "INSERT INTO ledger_books (customer_id, holder, currency, time_zone, anchor_day, last_seq, "
    "last_recorded_at, opened_at) VALUES (gen_random_uuid(), 'customer', 'USD', 'UTC', 1, 7, now(), now())",
    "reopen a period": "UPDATE ledger_periods SET state = 'open', closed_at = NULL WHERE state = 'closed'",
    "close a period twice": "UPDATE ledger_periods SET closed_at = now() WHERE state = 'closed'",
    "move a period": "UPDATE ledger_periods SET end_at = end_at + interval '1 day' WHERE state = 'open'",
    "forge a closing": "UPDATE ledger_periods SET closed_seq = 99 WHERE state = 'closed'",
    "delete a period": "DELETE FROM ledger_periods",
    "close a period in the past": "UPDATE ledger_periods SET state = 'closed', closed_at = now(), closed_seq = 1 "
    "WHERE state = 'open'",
    "close a period in the future": "UPDATE ledger_periods SET state = 'closed', closed_at = now(), closed_seq = 999 "
    "WHERE state = 'open'",
    "close a period without its last entry": "UPDATE ledger_periods SET state = 'closed', closed_at = now() "
    "WHERE state = 'open'",
    "close a period at no time": "UPDATE ledger_periods SET state = 'closed', closed_seq = 4 WHERE state = 'open'",
    "reopen by upsert": "INSERT INTO ledger_periods SELECT customer_id, start_at, end_at, time_zone, 'open', opened_at "
    "FROM ledger_periods ON CONFLICT (customer_id, start_at) DO UPDATE SET state = 'open', closed_at = NULL, "
    "closed_seq = NULL",
    "take a period to another customer": "UPDATE ledger_periods SET customer_id = gen_random_uuid()",
    "a period of nobody": "INSERT INTO ledger_periods VALUES (gen_random_uuid(), '2030-01-01Z', '2030-02-01Z', 'UTC', "
    "'open', now())",
    "a period born closed": "INSERT INTO ledger_periods SELECT customer_id, '2030-01-01Z', '2030-02-01Z', 'UTC', "
    "'closed', now(), now(), 1 FROM ledger_books LIMIT 1",
    "a period over another": "INSERT INTO ledger_periods SELECT customer_id, start_at + interval '1 day', end_at, "
    "'UTC', 'open', now() FROM ledger_periods LIMIT 1",
    "a period backwards": "INSERT INTO ledger_periods SELECT customer_id, '2031-01-01Z', '2030-01-01Z', 'UTC', "
    "'open', now() FROM ledger_books LIMIT 1",
    "move a document": "UPDATE ledger_documents SET customer_id = gen_random_uuid()",
    "delete a document": "DELETE FROM ledger_documents",
    "a document of nobody": "INSERT INTO ledger_documents VALUES (gen_random_uuid(), gen_random_uuid(), 'invoice', "
    "NULL, now())",
    "a document of a period that never was": "INSERT INTO ledger_documents SELECT customer_id, gen_random_uuid(), "
    "'invoice', '1999-01-01Z', now() FROM ledger_books",
    "a document twice": "INSERT INTO ledger_documents SELECT * FROM ledger_documents",
    "rename an account": "UPDATE ledger_accounts SET code = 'assets:mine' WHERE code = 'assets:bank'",
    "delete an account": "DELETE FROM ledger_accounts",
}


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_written_is_never_changed_or_removed(target: Target, statement: str) -> None:
    target.refuses(statement)


APP_ONLY = {
    "disable the guards": "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
    "drop a guard": "DROP TRIGGER append_only ON ledger_entries",
    "replace a guard": "CREATE OR REPLACE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql "
    "AS 'BEGIN RETURN NULL; END'",
    "disable ours alone": "ALTER TABLE ledger_entries DISABLE TRIGGER append_only",
    "make it fire for replicas only": "ALTER TABLE ledger_totals ENABLE REPLICA TRIGGER follow_entries",
    "drop a constraint": "ALTER TABLE ledger_entries DROP CONSTRAINT ledger_entries_two_accounts",
    "drop a constraint of a type": "ALTER DOMAIN ledger_amount DROP CONSTRAINT ledger_entries_amount",
    "drop the table": "DROP TABLE ledger_entries",
    "drop everything": "DROP SCHEMA public CASCADE",
    "drop an index": "DROP INDEX ledger_entries_reversed_once",
    "another trigger": "CREATE TRIGGER mine BEFORE INSERT ON ledger_entries FOR EACH ROW "
    "EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "a rule": "CREATE RULE mine AS ON INSERT TO ledger_entries DO INSTEAD NOTHING",
    "another column": "ALTER TABLE ledger_entries ADD COLUMN note text",
    "another owner": "ALTER TABLE ledger_entries OWNER TO billing_app",
    "another schema": "ALTER TABLE ledger_entries SET SCHEMA pg_catalog",
    "rename it": "ALTER TABLE ledger_entries RENAME TO ledger_old",
    "rows in a child": "CREATE TEMP TABLE child () INHERITS (ledger_entries)",
    "become a child": "CREATE TEMP TABLE child (LIKE ledger_entries); ALTER TABLE child INHERIT ledger_entries",
    "switch the policies off": "ALTER TABLE ledger_entries DISABLE ROW LEVEL SECURITY",
    "replace the view": "CREATE OR REPLACE VIEW ledger_unbilled AS SELECT * FROM ledger_totals",
    "change a guard's settings": "ALTER FUNCTION ledger_entries_posted() SECURITY INVOKER",
    "edit the catalogue": "UPDATE pg_trigger SET tgenabled = 'D'",
    "write totals from a trigger of its own": "CREATE TEMP TABLE fake (n int); CREATE FUNCTION pg_temp.write() RETURNS "
    "trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE public.ledger_totals SET amount = 1; RETURN NEW; END $$; "
    "CREATE TRIGGER t BEFORE INSERT ON fake FOR EACH ROW EXECUTE FUNCTION pg_temp.write(); INSERT INTO fake VALUES (1)",
    "write books from a trigger of its own": "CREATE TEMP TABLE fake (n int); CREATE FUNCTION pg_temp.write() RETURNS "
    "trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE public.ledger_books SET last_seq = 0; RETURN NEW; END $$; "
    "CREATE TRIGGER t BEFORE INSERT ON fake FOR EACH ROW EXECUTE FUNCTION pg_temp.write(); INSERT INTO fake VALUES (1)",
    "skip the guards": "SET session_replication_role = replica",
    "invent an account": "INSERT INTO ledger_accounts VALUES ('assets:mine', 'customer', 'Mine')",
    "grant itself more": "GRANT ALL ON ledger_totals TO billing_app; UPDATE ledger_totals SET amount = 1",
    "a table of its own in our schema": "CREATE TABLE public.ledger_notes (note text)",
    "hang the posting on its own table": "CREATE TEMP TABLE fake (LIKE ledger_entries); CREATE TRIGGER t AFTER INSERT "
    "ON fake REFERENCING NEW TABLE AS posted FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_posted()",
    "hang the closing on its own table": "CREATE TEMP TABLE fake (LIKE ledger_periods); CREATE TRIGGER t BEFORE UPDATE "
    "ON fake FOR EACH ROW EXECUTE FUNCTION ledger_periods_changed()",
}


@pytest.mark.parametrize("prepared", ["app"], indirect=True)
@pytest.mark.parametrize("statement", APP_ONLY.values(), ids=APP_ONLY.keys())
def test_the_application_cannot_put_the_guards_aside(target: Target, statement: str) -> None:
    target.refuses(statement, errors.InsufficientPrivilege)


@pytest.mark.parametrize("prepared", ["owner"], indirect=True)
def test_even_the_owner_cannot_hang_the_posting_on_another_table(target: Target) -> None:
    target.connection.execute(
        "CREATE TEMP TABLE fake (LIKE ledger_entries); CREATE TRIGGER t AFTER INSERT ON fake REFERENCING NEW TABLE AS "
        "posted FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_posted()"
    )
    with pytest.raises(errors.InsufficientPrivilege, match="is not the journal"):
        target.connection.execute("INSERT INTO fake SELECT * FROM ledger_entries")


def test_temporary_tables_do_not_take_the_place_of_ours(target: Target) -> None:
    """Without pg_temp last in the guards' search path they would ask the attacker's tables."""
    for table in ("ledger_accounts", "ledger_books", "ledger_periods", "ledger_documents", "ledger_totals"):
        name = sql.Identifier(table)
        target.connection.execute(sql.SQL("CREATE TEMP TABLE {} AS SELECT * FROM public.{}").format(name, name))
    target.connection.execute("INSERT INTO pg_temp.ledger_accounts VALUES ('income:gifts', 'customer', 'Gifts')")
    target.connection.execute("UPDATE pg_temp.ledger_periods SET state = 'open'")
    with pytest.raises(errors.ForeignKeyViolation, match="unknown account"):
        target.insert(target.row(credit_account="income:gifts"))
    with pytest.raises(errors.CheckViolation, match="is not the one"):
        target.insert(late(target, period_start=MAY))
    target.insert(target.row())
    totals = target.connection.execute(
        "SELECT (SELECT sum(entries) FROM public.ledger_totals), (SELECT sum(entries) FROM pg_temp.ledger_totals)"
    ).fetchone()
    assert totals == (5, 4)


@pytest.mark.parametrize("prepared", ["owner"], indirect=True)
def test_copy_is_guarded_like_insert(target: Target) -> None:
    row = target.row(seq=9, recorded_at=datetime.now(UTC), labels="{}")
    columns = sql.SQL(", ").join(map(sql.Identifier, row))
    copy_in = sql.SQL("COPY ledger_entries ({}) FROM STDIN").format(columns)
    with (
        pytest.raises(errors.IntegrityConstraintViolation, match="a gap in seq"),
        target.connection.cursor() as cursor,
        cursor.copy(copy_in) as copy,
    ):
        copy.write_row(list(row.values()))


def test_the_database_knows_the_same_accounts_and_kinds_as_the_code(target: Target) -> None:
    connection = target.connection
    rows = connection.execute("SELECT code, holder FROM ledger_accounts").fetchall()
    both = CUSTOMER_ACCOUNTS & HOUSE_ACCOUNTS
    assert {code for code, holder in rows if holder in ("customer", "both")} == CUSTOMER_ACCOUNTS
    assert {code for code, holder in rows if holder in ("house", "both")} == HOUSE_ACCOUNTS
    assert {code for code, holder in rows if holder == "both"} == both
    check = connection.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'ledger_entries_kind'"
    ).fetchone()
    assert check is not None
    assert {kind for kind in check[0].split("'")[1::2] if kind != "text"} == KINDS
