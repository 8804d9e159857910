"""Statements of odd shapes and sessions with odd settings: the guards see them as they see a plain INSERT."""

from datetime import timedelta
from decimal import Decimal

import pytest
from psycopg import errors, sql

from ledger.checks import CHECKS
from tests.integration.ledger.guards.attacks import JUNE, Target, about_document, late, reversing


def values(row: dict[str, object]) -> str:
    """The row as words for a statement that is written out."""
    return ", ".join(
        (value if isinstance(value, sql.Composable) else sql.Literal(value)).as_string(None) for value in row.values()
    )


def inserting(*rows: dict[str, object]) -> str:
    """The statement that inserts these rows at once."""
    listed = ", ".join(f"({values(row)})" for row in rows)
    return f"INSERT INTO ledger_entries ({', '.join(rows[0])}) VALUES {listed}"  # noqa: S608 - this is the attack


def entry(target: Target, **changes: object) -> str:
    return inserting(target.row(**({"labels": "{}"} | changes)))


def test_one_entry_more_changes_what_every_attack_compares(target: Target) -> None:
    before = target.written()
    target.insert(target.row())
    assert target.written() != before


def test_an_entry_without_legs_is_refused(target: Target) -> None:
    for debit, credit in ((None, None), ("", ""), ("assets:unbilled", None), (None, "income:usage")):
        target.refuses(entry(target, debit_account=debit, credit_account=credit))


@pytest.mark.parametrize("seq", [-1, 0, 1, 3, 5, 2**63 - 1])
def test_every_number_but_the_next_is_refused(target: Target, seq: int) -> None:
    target.refuses(entry(target, seq=seq))


@pytest.mark.parametrize("digest", [b"\x01" * 32, b"\x02" * 32], ids=["the same", "other"])
def test_an_event_is_posted_once_whatever_it_says(target: Target, digest: bytes) -> None:
    again = entry(target, id=target.first_id, digest=digest)
    target.refuses(again, errors.UniqueViolation)
    target.refuses(f"{again} ON CONFLICT (customer_id, id) DO UPDATE SET amount = 7")


def test_what_a_conflict_left_out_leaves_no_gap(target: Target) -> None:
    """`DO NOTHING` skips the row that is known; the next number is then the skipped one's, and no other."""
    known = target.row(labels="{}", id=target.first_id)
    fresh = target.row(labels="{}", seq=known["seq"] + 1)
    target.refuses(
        f"{inserting(known, fresh)} ON CONFLICT DO NOTHING",
        errors.IntegrityConstraintViolation,
        match="a gap in seq",
    )


def test_merge_that_inserts_is_judged_too(target: Target) -> None:
    row = target.row(labels="{}", seq=9)
    insertion = f"INSERT ({', '.join(row)}) VALUES ({values(row)})"  # noqa: S608 - this is the attack
    target.refuses(
        "MERGE INTO ledger_entries t USING (SELECT 1) s ON false WHEN NOT MATCHED THEN " + insertion,
        errors.IntegrityConstraintViolation,
        match="a gap in seq",
    )


def test_a_part_of_a_query_that_inserts_is_judged_too(target: Target) -> None:
    target.refuses(
        f"WITH x AS ({entry(target, seq=9)} RETURNING seq) SELECT count(*) FROM x",  # noqa: S608 - this is the attack
        errors.IntegrityConstraintViolation,
        match="a gap in seq",
    )


def test_posting_and_correcting_the_total_in_one_statement_is_refused(target: Target) -> None:
    correction = "UPDATE ledger_totals SET amount = 0"
    target.refuses("WITH x AS (" + entry(target) + " RETURNING customer_id) " + correction)


CLOSE = (
    "UPDATE ledger_periods SET state = 'closed', closed_at = now(), closed_seq = {seq} "
    "WHERE customer_id = '{id}' AND start_at = '{start}'"
)


@pytest.mark.parametrize("ahead", [-1, 0, 1])
def test_nothing_comes_into_a_period_that_the_same_statement_closes(target: Target, ahead: int) -> None:
    """Parts of one query run in an order that nobody promises: the entry may not slip in behind the closing."""
    last = target.row()["seq"] - 1
    close = CLOSE.format(seq=last + ahead, id=target.customer_id, start=JUNE.isoformat())
    target.refuses(f"WITH x AS ({entry(target)} RETURNING 1) {close}")
    target.refuses(f"WITH x AS ({close} RETURNING 1) {entry(target)}")


def test_nothing_comes_into_a_period_after_the_same_transaction_closed_it(target: Target) -> None:
    last = target.row()["seq"] - 1
    target.connection.execute(CLOSE.format(seq=last, id=target.customer_id, start=JUNE.isoformat()).encode())
    target.refuses(entry(target), errors.CheckViolation, match="is not the one")
    target.refuses(entry(target, reverses_id=None, kind="adjustment"), errors.CheckViolation)


def test_a_refused_entry_takes_its_whole_batch_along(target: Target) -> None:
    good = target.row(labels="{}", recorded_at=sql.SQL("now()"))
    for bad in (
        target.row(labels="{}", recorded_at=sql.SQL("now()"), seq=good["seq"] + 1, credit_account="income:gifts"),
        target.row(labels="{}", recorded_at=sql.SQL("now()"), seq=good["seq"] + 1, amount=Decimal(-1)),
        about_document(
            target,
            labels="{}",
            recorded_at=sql.SQL("now()"),
            seq=good["seq"] + 1,
            document_id=target.foreign_document_id,
        ),
    ):
        target.refuses(inserting(good, bad))


def test_a_reversal_is_of_the_same_customer_even_in_a_batch_of_both(target: Target) -> None:
    own = reversing(target, labels="{}", recorded_at=sql.SQL("now()"))
    foreign = reversing(
        target,
        labels="{}",
        recorded_at=sql.SQL("now()"),
        customer_id=target.other_id,
        effective_at=JUNE,
        usage_period_start=JUNE,
    )
    target.refuses(
        inserting(own, foreign),
        errors.CheckViolation,
        match="does not mirror",
    )


SETTINGS = (
    "SET LOCAL timezone = 'Pacific/Kiritimati'",
    "SET LOCAL datestyle = 'SQL, DMY'",
    "SET LOCAL intervalstyle = 'sql_standard'",
    "SET LOCAL search_path = pg_temp, public",
    "SET LOCAL transform_null_equals = on",
    "SET LOCAL enable_indexscan = off",
    "SET LOCAL enable_seqscan = off",
    "SET LOCAL jit = off",
    "SET LOCAL work_mem = '64kB'",
    "SET LOCAL bytea_output = 'escape'",
    "SET LOCAL plan_cache_mode = 'force_generic_plan'",
    "SET LOCAL check_function_bodies = off",
    "SET LOCAL default_transaction_isolation = 'serializable'",
)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_sessions_settings_change_neither_guards_nor_sums(target: Target, setting: str) -> None:
    target.connection.execute(setting.encode())
    target.insert(target.row(effective_at=JUNE + timedelta(hours=23), labels={"app": "web"}))
    target.insert(late(target))
    target.refuses(entry(target, seq=1))
    target.refuses(entry(target, amount=Decimal(-1)))
    target.refuses("UPDATE public.ledger_totals SET amount = 1")
    target.connection.execute("SET LOCAL search_path = public")
    for name, query in CHECKS.items():
        assert target.connection.execute(query.encode()).fetchall() == [], name


def test_skipping_the_guards_is_for_superusers(target: Target) -> None:
    for setting in ("session_replication_role = replica", "session_replication_role = local"):
        target.refuses(f"SET {setting}", errors.InsufficientPrivilege)
    target.refuses("SELECT set_config('session_replication_role', 'replica', true)", errors.InsufficientPrivilege)
    target.refuses("ALTER ROLE CURRENT_USER SET session_replication_role = replica", errors.InsufficientPrivilege)


def test_guards_cannot_be_put_off_to_the_end_of_the_transaction(target: Target) -> None:
    target.connection.execute("SET CONSTRAINTS ALL DEFERRED")
    target.refuses(entry(target, seq=9))
    target.refuses(entry(target, credit_account="income:gifts"))
