"""A posting and a closing at the same moment: no charge comes into a period after it closed."""

import threading

import psycopg
import pytest
from psycopg import errors, sql

from ledger.periods import close_due
from tests.integration.ledger.books import Ledger
from tests.integration.ledger.conftest import Connect
from tests.integration.ledger.guards.attacks import JULY, JUNE, Target, prepare


@pytest.fixture
def target(ledger: Ledger, connect: Connect) -> Target:
    return prepare(ledger, connect("app"))


def test_a_posting_waits_for_a_closing_and_then_finds_the_period_closed(
    target: Target, connect: Connect, ledger: Ledger
) -> None:
    closer = connect("app")
    with closer.transaction():
        closer.execute(
            "UPDATE ledger_periods SET state = 'closed', closed_at = now(), closed_seq = ("
            "SELECT last_seq FROM ledger_books b WHERE b.customer_id = ledger_periods.customer_id) "
            "WHERE customer_id = %s AND start_at = %s",
            [target.customer_id, JUNE],
        )
        failed: list[Exception] = []

        def post_meanwhile() -> None:
            try:
                target.insert(target.row(recorded_at=sql.SQL("clock_timestamp()")))
            except psycopg.Error as error:
                failed.append(error)

        posting = threading.Thread(target=post_meanwhile)
        posting.start()
        posting.join(timeout=0.5)
        assert posting.is_alive(), "the posting did not wait for the closing"
    posting.join(timeout=10)
    assert isinstance(failed[0], (errors.CheckViolation, errors.IntegrityConstraintViolation))


def test_a_posting_with_a_snapshot_from_before_the_closing_fails(target: Target, ledger: Ledger) -> None:
    """Under REPEATABLE READ the guard would still see the period open; the closing's write to the books stops it."""
    connection = target.connection
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    row = target.row()  # takes the snapshot
    with ledger.transaction() as session:
        close_due(session, customer_ids=[target.customer_id], ended_by=JULY, now=JULY)
    with pytest.raises(errors.SerializationFailure):
        target.insert(row)
    connection.execute("ROLLBACK")


def test_a_closing_waits_for_a_posting_in_flight_and_ends_with_it(
    target: Target, connect: Connect, ledger: Ledger
) -> None:
    def close() -> None:
        with ledger.transaction() as session:
            close_due(session, customer_ids=[target.customer_id], ended_by=JULY, now=JULY)

    with target.connection.transaction():
        target.insert(target.row())
        closing = threading.Thread(target=close)
        closing.start()
        closing.join(timeout=0.5)
        assert closing.is_alive(), "the closing did not wait for the posting"
    closing.join(timeout=10)
    closed = connect("app").execute(
        "SELECT closed_seq FROM ledger_periods WHERE customer_id = %s AND start_at = %s", [target.customer_id, JUNE]
    )
    assert closed.fetchone() == (4,)


def test_a_closing_that_took_no_lock_is_refused_if_a_posting_came_first(target: Target, connect: Connect) -> None:
    """It read the last entry before the posting in flight was committed: its draft would miss that one."""
    closer = connect("app")
    failed: list[psycopg.Error] = []

    def close() -> None:
        try:
            closer.execute(
                "UPDATE ledger_periods SET state = 'closed', closed_at = now(), closed_seq = ("
                "SELECT last_seq FROM ledger_books b WHERE b.customer_id = ledger_periods.customer_id) "
                "WHERE customer_id = %s AND start_at = %s",
                [target.customer_id, JUNE],
            )
        except psycopg.Error as error:
            failed.append(error)

    with target.connection.transaction():
        target.insert(target.row())
        closing = threading.Thread(target=close)
        closing.start()
        closing.join(timeout=0.5)
        assert closing.is_alive(), "the closing did not wait for the posting"
    closing.join(timeout=10)
    assert [type(error) for error in failed] == [errors.IntegrityConstraintViolation]
