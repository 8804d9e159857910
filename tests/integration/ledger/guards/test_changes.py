"""Attempts to change what is written, or to put the guards aside, by plain SQL."""

from datetime import UTC, datetime

import psycopg
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
    "an unknown time zone": "UPDATE ledger_books SET time_zone = 'Mars/Olympus'",
    "books with a past": "INSERT INTO ledger_books (customer_id, holder, currency, time_zone, anchor_day, last_seq, "
    "last_recorded_at, opened_at) VALUES (gen_random_uuid(), 'customer', 'USD', 'UTC', 1, 7, now(), now())",
    "reopen a period": "UPDATE ledger_periods SET state = 'open', closed_at = NULL WHERE state = 'closed'",
    "close a period twice": "UPDATE ledger_periods SET closed_at = now() WHERE state = 'closed'",
    "move a period": "UPDATE ledger_periods SET end_at = end_at + interval '1 day' WHERE state = 'open'",
    "forge a closing": "UPDATE ledger_periods SET closed_seq = 99 WHERE state = 'closed'",
    "delete a period": "DELETE FROM ledger_periods",
    "a period born closed": "INSERT INTO ledger_periods SELECT customer_id, '2030-01-01Z', '2030-02-01Z', 'UTC', "
    "'closed', now(), now(), 1 FROM ledger_books LIMIT 1",
    "a period over another": "INSERT INTO ledger_periods SELECT customer_id, start_at + interval '1 day', end_at, "
    "'UTC', 'open', now() FROM ledger_periods LIMIT 1",
    "a period backwards": "INSERT INTO ledger_periods SELECT customer_id, '2031-01-01Z', '2030-01-01Z', 'UTC', "
    "'open', now() FROM ledger_books LIMIT 1",
    "move a document": "UPDATE ledger_documents SET customer_id = gen_random_uuid()",
    "delete a document": "DELETE FROM ledger_documents",
    "rename an account": "UPDATE ledger_accounts SET code = 'assets:mine' WHERE code = 'assets:bank'",
    "delete an account": "DELETE FROM ledger_accounts",
}


@pytest.mark.parametrize("statement", CHANGES.values(), ids=CHANGES.keys())
def test_what_is_written_is_never_changed_or_removed(target: Target, statement: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        target.connection.execute(statement)
    # Refused by a guard of ours or for lack of a right; not because the attack is misspelled.
    assert isinstance(
        caught.value, (errors.IntegrityError, errors.InsufficientPrivilege, errors.InvalidParameterValue)
    ), caught.value


APP_ONLY = {
    "disable the guards": "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
    "drop a guard": "DROP TRIGGER append_only ON ledger_entries",
    "replace a guard": "CREATE OR REPLACE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql "
    "AS 'BEGIN RETURN NULL; END'",
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
    with pytest.raises(errors.InsufficientPrivilege):
        target.connection.execute(statement)


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


@pytest.mark.parametrize("prepared", ["app"], indirect=True)
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
