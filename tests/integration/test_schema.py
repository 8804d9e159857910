"""The schema: code maps what the database has, and migrations can be undone while nothing is lost."""

import sqlalchemy
from alembic import command
from sqlalchemy import text

from app.cli.db import drift_of, foreign_functions
from app.database import alembic_config, normalise_url


def test_code_and_database_agree(database_url: str) -> None:
    engine = sqlalchemy.create_engine(normalise_url(database_url))
    with engine.connect() as connection:
        assert drift_of(connection) == []
        assert foreign_functions(connection) == []
    engine.dispose()


def test_a_guard_that_was_replaced_is_named(database_url: str) -> None:
    engine = sqlalchemy.create_engine(normalise_url(database_url))
    with engine.connect() as connection:
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN RETURN NULL; END'"
            )
        )
        assert foreign_functions(connection) == ["function ledger_refuse_change(): its body stands in no migration"]
    engine.dispose()


def test_every_migration_can_be_undone_and_done_again_while_there_is_no_money(database_url: str) -> None:
    engine = sqlalchemy.create_engine(normalise_url(database_url))
    config = alembic_config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
        left = connection.scalars(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')")
        ).all()
        assert left == ["alembic_version"]
        assert connection.scalar(text("SELECT count(*) FROM pg_proc WHERE prosrc LIKE '%refused%'")) == 0
        command.upgrade(config, "head")
        connection.commit()
        assert drift_of(connection) == []
    engine.dispose()


def test_money_and_counters_are_never_stored_in_types_that_overflow_or_round(database_url: str) -> None:
    """No floats anywhere; no 32-bit number where a journal or an id could outgrow it."""
    engine = sqlalchemy.create_engine(normalise_url(database_url))
    with engine.connect() as connection:
        columns = connection.execute(
            text("""
            SELECT table_name || '.' || column_name, data_type FROM information_schema.columns
             WHERE table_schema = 'public' AND data_type IN
                   ('real', 'double precision', 'money', 'integer', 'timestamp without time zone')""")
        ).all()
    engine.dispose()
    small = {name for name, kind in columns if kind == "integer"}
    assert [name for name, kind in columns if kind != "integer"] == []
    # Counted per customer, per invoice or per try: none of these can reach two thousand million.
    bounded = {
        "customers.draft_window_s",
        "customers.last_invoice_number",
        "invoices.number_seq",
        "invoices.version",
        "adjustments.version",
        "credit_notes.seq",
        "movements.draft_window_s",
        "tasks.seen",
        "invoice_lines.position",
        "payment_failures.attempt",
        "parked_work.attempts",
        "manual_letters.attempts",
        "staff_users.session_epoch",
    }
    assert {name for name in small if not name.startswith("stripe_")} <= bounded
