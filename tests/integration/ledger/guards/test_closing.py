"""Attempts to close a period otherwise than the ledger does, and to name what does not exist, by plain SQL."""

import psycopg
import pytest
from psycopg import errors

from tests.integration.ledger.guards.attacks import AUGUST, JULY, JUNE, Target

CLOSE = "UPDATE ledger_periods SET state = 'closed', closed_at = now(), closed_seq = {seq} WHERE {where}"
OF_ACME = "customer_id = %(acme)s AND state = 'open'"
LAST_SEQ = "(SELECT last_seq FROM ledger_books b WHERE b.customer_id = ledger_periods.customer_id)"

CLOSINGS = {
    "leave room for entries": CLOSE.format(seq=f"{LAST_SEQ} + 1", where=OF_ACME),
    "hide the last entry": CLOSE.format(seq=f"{LAST_SEQ} - 1", where=OF_ACME),
    "forge one of two": CLOSE.format(
        seq=f"{LAST_SEQ} - CASE WHEN start_at = '{JULY.isoformat()}' THEN 1 ELSE 0 END", where=OF_ACME
    ),
    "forge another customer's": CLOSE.format(
        seq=f"CASE WHEN customer_id = %(acme)s THEN {LAST_SEQ} ELSE 77 END", where="state = 'open'"
    ),
    "name no entry": CLOSE.format(seq="NULL", where=OF_ACME),
    "cut off its charges": CLOSE.format(seq=f"{LAST_SEQ}, end_at = start_at", where=OF_ACME),
    "stretch it": CLOSE.format(seq=f"{LAST_SEQ}, end_at = end_at + interval '1 second'", where=OF_ACME),
    "move its start": CLOSE.format(seq=f"{LAST_SEQ}, start_at = start_at - interval '1 second'", where=OF_ACME),
    "give it to somebody else": CLOSE.format(seq=f"{LAST_SEQ}, customer_id = %(other)s", where=OF_ACME),
    "close a closed one again": CLOSE.format(seq=LAST_SEQ, where="customer_id = %(acme)s"),
    "forge by upsert": "INSERT INTO ledger_periods SELECT customer_id, start_at, end_at, time_zone, 'open', opened_at "
    "FROM ledger_periods WHERE customer_id = %(acme)s AND state = 'open' ON CONFLICT (customer_id, start_at) "
    "DO UPDATE SET state = 'closed', closed_at = now(), closed_seq = 99",
    "forge by merge": "MERGE INTO ledger_periods p USING ledger_books b ON p.customer_id = b.customer_id "
    "WHEN MATCHED AND p.state = 'open' THEN UPDATE SET state = 'closed', closed_at = now(), closed_seq = 99",
}


def test_what_the_ledger_does_is_accepted(target: Target) -> None:
    """The attacks below differ from this in one thing each."""
    names = {"acme": target.customer_id}
    before = target.connection.execute(
        "SELECT closings FROM ledger_books WHERE customer_id = %(acme)s", names
    ).fetchone()
    assert target.connection.execute(CLOSE.format(seq=LAST_SEQ, where=OF_ACME), names).rowcount == 2
    after = target.connection.execute("SELECT closings FROM ledger_books WHERE customer_id = %(acme)s", names)
    assert before is not None
    assert after.fetchone() == (before[0] + 2,), "each closing is counted: a posting with an older snapshot fails"


@pytest.mark.parametrize("statement", CLOSINGS.values(), ids=CLOSINGS.keys())
def test_a_closing_names_the_last_entry_and_changes_nothing_else(target: Target, statement: str) -> None:
    with pytest.raises((errors.IntegrityError, errors.InsufficientPrivilege)):
        target.connection.execute(statement, {"acme": target.customer_id, "other": target.other_id})


def test_a_posting_between_the_reading_and_the_closing_is_noticed(target: Target) -> None:
    row = target.connection.execute(
        "SELECT last_seq FROM ledger_books WHERE customer_id = %s", [target.customer_id]
    ).fetchone()
    assert row is not None
    target.insert(target.row())
    with pytest.raises(errors.IntegrityConstraintViolation, match="is not the last entry"):
        target.connection.execute(CLOSE.format(seq=row[0], where=OF_ACME), {"acme": target.customer_id})


@pytest.mark.parametrize("prepared", ["owner"], indirect=True)
def test_even_the_owner_cannot_hang_the_closing_on_another_table(target: Target) -> None:
    target.connection.execute(
        "CREATE TEMP TABLE fake AS TABLE ledger_periods; CREATE TRIGGER t AFTER UPDATE ON fake REFERENCING NEW TABLE "
        "AS closed FOR EACH STATEMENT EXECUTE FUNCTION ledger_periods_changed()"
    )
    with pytest.raises(errors.InsufficientPrivilege, match="holds no periods"):
        target.connection.execute("UPDATE fake SET closed_seq = 1")


DOCUMENT = (
    "INSERT INTO ledger_documents (customer_id, id, kind, period_start, created_at) "
    "SELECT x.customer_id, gen_random_uuid(), 'invoice', x.start_at, now() "
    "FROM (VALUES {rows}) AS x (customer_id, start_at)"
)
GOOD = "(CAST(%(acme)s AS uuid), CAST(%(june)s AS timestamptz)), (%(acme)s, NULL)"
DOCUMENTS = {
    "of nobody": "(gen_random_uuid(), NULL)",
    "of nobody's period": "(gen_random_uuid(), %(june)s)",
    "of a period that is not": "(%(acme)s, CAST(%(august)s AS timestamptz) + interval '1 hour')",
    "of somebody else's period": "(%(other)s, %(july)s)",
}


@pytest.mark.parametrize("row", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_names_books_and_a_period_that_exist(target: Target, row: str) -> None:
    names = {
        "acme": target.customer_id, "other": target.other_id, "june": JUNE, "july": JULY, "august": AUGUST,
    }  # fmt: skip
    assert target.connection.execute(DOCUMENT.format(rows=GOOD), names).rowcount == 2
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        target.connection.execute(DOCUMENT.format(rows=f"{GOOD}, {row}"), names)
