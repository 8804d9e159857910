"""Sealing: everything that is committed gets sealed, once, in order, whoever else is at work and whoever is killed."""

import multiprocessing
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from app.health import unsealed_figures
from app.scheduler import JOBS
from app.timetable import DEFAULTS, read_timetable
from ledger.roots import RootNotFound, all_roots, find_root, make_root
from ledger.seal_tables import Root, RootHead, Seal
from ledger.seals import seal_due, unsealed
from ledger.verification import verify
from tests.factories.entries import EntryFactory
from tests.integration.ledger.books import Ledger
from tests.integration.ledger.conftest import Connect
from tests.integration.ledger.sealing import seal_slowly
from tests.integration.ledger.tampering import superuser_engine
from tests.processes.services import TestServers

NOW = datetime.now(UTC)
YESTERDAY = NOW.date() - timedelta(days=1)


def post_some(ledger: Ledger, customer_id: UUID, count: int) -> None:
    for start in range(0, count, 2_000):
        ledger.post(*EntryFactory.build_batch(min(2_000, count - start), customer_id=customer_id))


def assert_sealed(engine: Engine, *, entries: int) -> None:
    """All of it, once, without a gap, and as the journal has it."""
    with Session(engine) as session:
        report = verify(session)
        assert (report.findings, report.entries, report.unsealed) == ([], entries, 0)


def test_everything_committed_is_sealed_in_ranges_without_a_gap(ledger: Ledger, acme: UUID) -> None:
    post_some(ledger, acme, 2_300)
    other = ledger.open(currency="JPY")
    post_some(ledger, other, 3)
    summary = seal_due(ledger.engine, now=NOW)
    assert (summary.entries, summary.ranges, summary.books) == (2_303, 4, 2)
    with Session(ledger.engine) as session:
        ranges = session.execute(
            select(Seal.first_seq, Seal.last_seq).where(Seal.customer_id == acme).order_by(Seal.first_seq)
        ).all()
    assert ranges == [(1, 1_000), (1_001, 2_000), (2_001, 2_300)]
    assert_sealed(ledger.engine, entries=2_303)


def test_sealing_again_seals_only_what_came_since(ledger: Ledger, acme: UUID) -> None:
    post_some(ledger, acme, 7)
    assert seal_due(ledger.engine, now=NOW).entries == 7
    assert seal_due(ledger.engine, now=NOW).entries == 0
    post_some(ledger, acme, 2)
    assert seal_due(ledger.engine, now=NOW).entries == 2
    assert_sealed(ledger.engine, entries=9)


def test_many_ranges_of_one_customer_take_several_transactions(ledger: Ledger, acme: UUID) -> None:
    others = [ledger.open() for _ in range(5)]
    for customer in others:
        post_some(ledger, customer, 1)
    post_some(ledger, acme, 5_500)
    progress: list[int] = []
    summary = seal_due(ledger.engine, now=NOW, at_once=2, progress=lambda so_far: progress.append(so_far.entries))
    assert (summary.entries, summary.ranges, summary.books) == (5_505, 11, 6)
    assert len(progress) > 3
    assert_sealed(ledger.engine, entries=5_505)


def test_what_waits_for_a_seal_is_counted(ledger: Ledger, acme: UUID, engine: Engine) -> None:
    with Session(engine) as session:
        assert unsealed(session).entries == 0
        assert unsealed(session).oldest_recorded_at is None
    post_some(ledger, acme, 3)
    with Session(engine) as session:
        waiting = unsealed(session)
        oldest = session.scalar(text("SELECT min(recorded_at) FROM ledger_entries"))
    assert (waiting.entries, waiting.books, waiting.oldest_recorded_at) == (3, 1, oldest)


def test_two_who_seal_while_others_post_seal_everything_once(ledger: Ledger, acme: UUID) -> None:
    customers = [acme, *(ledger.open() for _ in range(3))]
    for customer in customers:
        post_some(ledger, customer, 1_200)
    ends_at = time.monotonic() + 2
    failures: list[BaseException] = []
    posted = [4 * 1_200]

    def run(act: Callable[[], None]) -> None:
        try:
            while time.monotonic() < ends_at:
                act()
        except BaseException as error:  # noqa: BLE001 - the test shows what a thread died of
            failures.append(error)

    def post_one() -> None:
        for customer in customers:
            post_some(ledger, customer, 1)
            posted[0] += 1

    acts: list[Callable[[], None]] = [post_one, *(lambda: void(seal_due(ledger.engine, now=NOW)) for _ in range(2))]
    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    seal_due(ledger.engine, now=NOW)
    assert_sealed(ledger.engine, entries=posted[0])


def void(_: object) -> None:
    """For what is done for its effect."""


def test_kill_9_in_the_middle_of_sealing_leaves_whole_seals_only(
    ledger: Ledger, acme: UUID, engine: Engine, database_url: str
) -> None:
    customers = [acme, *(ledger.open() for _ in range(59))]
    for customer in customers:
        post_some(ledger, customer, 2)
    process = multiprocessing.get_context("spawn").Process(target=seal_slowly, args=(database_url,))
    process.start()
    deadline = time.monotonic() + 60
    while sealed_ranges(engine) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.join(10)
    assert 5 <= sealed_ranges(engine) < 60, "the kill came after the work was done"
    with Session(engine) as session:
        assert verify(session).findings == []
    seal_due(engine, now=NOW)
    assert sealed_ranges(engine) == 60
    assert_sealed(engine, entries=120)


def sealed_ranges(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(Seal)) or 0


def test_sealing_does_not_wait_for_a_posting_under_way(ledger: Ledger, acme: UUID) -> None:
    """A posting that is not committed holds the books' lock; what was committed before it is sealed all the same."""
    post_some(ledger, acme, 4)
    with ledger.transaction() as session:
        session.execute(text("SELECT * FROM ledger_books FOR NO KEY UPDATE"))
        started = time.monotonic()
        assert seal_due(ledger.engine, now=NOW).entries == 4
        assert time.monotonic() - started < 10


def test_a_journal_with_a_hole_is_named_and_keeps_nobody_waiting(
    ledger: Ledger, servers: TestServers, database_url: str
) -> None:
    customers = sorted(ledger.open() for _ in range(4))
    for customer in customers:
        post_some(ledger, customer, 2_500 if customer == customers[1] else 3)
    superuser = superuser_engine(servers, database_url)
    hole = text("DELETE FROM ledger_entries WHERE customer_id = :c AND seq = 1500")
    with superuser.begin() as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT * FROM ledger_entries WHERE seq = 1500"))
        connection.execute(hole, {"c": customers[1]})
    summary = seal_due(ledger.engine, now=NOW, at_once=2)
    assert summary.entries == 1_000 + 9, "up to the hole, and everybody else"
    assert summary.unsealed == 1_500
    (problem,) = summary.problems
    assert f"seal of books {customers[1]} refused: of entries 1001 to 2000 the journal has 999" in problem
    with Session(ledger.engine) as session:
        (finding,) = verify(session).findings
    assert (finding.kind, finding.customer_id, finding.seq) == ("removed", str(customers[1]), 1_500)
    with superuser.begin() as connection:
        connection.execute(text("INSERT INTO ledger_entries SELECT * FROM kept; DROP TABLE kept"))
    superuser.dispose()


def test_the_root_of_yesterday_is_made_once(ledger: Ledger, acme: UUID, engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(RootNotFound):
        find_root(session)
    assert seal_due(engine, now=NOW).root == "", "there is nothing to prove yet"
    post_some(ledger, acme, 5)
    summary = seal_due(engine, now=NOW)
    post_some(ledger, acme, 5)
    assert seal_due(engine, now=NOW).root == ""
    with Session(engine) as session:
        root = find_root(session, day=YESTERDAY)
        with pytest.raises(RootNotFound, match="2001-01-01"):
            find_root(session, day=date(2001, 1, 1))
    assert summary.root == root.printed == f"{YESTERDAY}:{root.root.hex()}"
    assert (root.books, root.entries) == (1, 5)


def test_each_root_covers_all_books_and_is_chained_to_the_one_before(ledger: Ledger, acme: UUID) -> None:
    engine = ledger.engine
    other = ledger.open()
    post_some(ledger, acme, 5)
    for days in (3, 2, 1):
        post_some(ledger, other, days)
        seal_due(engine, now=NOW - timedelta(days=days - 1))
    with Session(engine) as session:
        roots = all_roots(session)
        heads = session.execute(select(RootHead.day, RootHead.customer_id)).all()
    assert [root.day for root in roots] == [YESTERDAY - timedelta(days=days) for days in (2, 1, 0)]
    assert [(root.books, root.entries) for root in roots] == [(2, 8), (2, 10), (2, 11)]
    assert [later.previous_root for _, later in pairwise(roots)] == [root.root for root in roots[:-1]]
    assert roots[0].previous_root == bytes(32)
    assert [day for day, customer in heads if customer == acme] == [roots[0].day], "its head never changed again"
    assert_sealed(engine, entries=11)


def test_whose_clock_is_ahead_makes_the_root_of_the_last_day_that_is_over_for_postgres_too(
    ledger: Ledger, acme: UUID, engine: Engine
) -> None:
    post_some(ledger, acme, 1)
    for days in (1, 2):
        summary = seal_due(engine, now=datetime.now(UTC) + timedelta(days=days))
        assert summary.problems == []
    with Session(engine) as session:
        assert session.scalars(select(Root.day)).all() == [datetime.now(UTC).date() - timedelta(days=1)]
    assert_sealed(engine, entries=1)


def test_two_who_make_the_same_root_make_one(ledger: Ledger, acme: UUID, engine: Engine) -> None:
    post_some(ledger, acme, 1)
    with Session(engine) as session, session.begin():
        session.execute(
            text("INSERT INTO ledger_seals (customer_id, last_seq) SELECT customer_id, 1 FROM ledger_books")
        )
    made: list[object] = []
    together = threading.Barrier(4)

    def make() -> None:
        together.wait()
        made.append(make_root(engine, now=NOW))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 4
    assert len([root for root in made if root is not None]) == 1
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Root)) == 1
    assert_sealed(engine, entries=1)


ATTACKS = {
    "change a seal": "UPDATE ledger_seals SET head = sha256(head)",
    "delete a seal": "DELETE FROM ledger_seals",
    "truncate seals": "TRUNCATE ledger_seals",
    "change a root": "UPDATE ledger_roots SET root = sha256(root)",
    "delete a root": "DELETE FROM ledger_roots",
    "truncate roots": "TRUNCATE ledger_roots",
    "change a head": "UPDATE ledger_root_heads SET last_seq = 1",
    "delete a head": "DELETE FROM ledger_root_heads",
    "forge a head": "INSERT INTO ledger_root_heads SELECT customer_id, '2001-01-01', last_seq, head FROM ledger_seals",
    "seal what is not there": "INSERT INTO ledger_seals (customer_id, last_seq) "
    "SELECT customer_id, 9 FROM ledger_books",
    "seal too much at once": "INSERT INTO ledger_seals (customer_id, last_seq) "
    "SELECT customer_id, 1005 FROM ledger_books",
    "seal the books of nobody": "INSERT INTO ledger_seals (customer_id, last_seq) VALUES (gen_random_uuid(), 1)",
    "a root of today": "INSERT INTO ledger_roots (day) VALUES ((now() AT TIME ZONE 'UTC')::date)",
    "a root of the past": "INSERT INTO ledger_roots (day) VALUES ('2001-01-01')",
    "hang the root on another table": "CREATE TEMP TABLE fake (LIKE ledger_roots); CREATE TRIGGER t BEFORE INSERT ON "
    "fake FOR EACH ROW EXECUTE FUNCTION ledger_make_root(); INSERT INTO fake (day) VALUES ('2001-01-01')",
    "a second root": "INSERT INTO ledger_roots (day) SELECT day FROM ledger_roots",
}


@pytest.mark.parametrize("who", ["app", "owner"])
def test_neither_the_application_nor_the_owner_can_change_or_forge_a_seal(
    ledger: Ledger, acme: UUID, connect: Connect, who: str
) -> None:
    post_some(ledger, acme, 3)
    seal_due(ledger.engine, now=NOW)
    connection = connect(who)
    for name, statement in ATTACKS.items():
        with pytest.raises(psycopg.Error) as caught:
            connection.execute(statement)
        assert isinstance(caught.value, (errors.IntegrityError, errors.InsufficientPrivilege)), (name, caught.value)
    assert_sealed(ledger.engine, entries=3)


def test_whoever_writes_a_seal_of_their_own_gets_the_true_one(ledger: Ledger, acme: UUID, connect: Connect) -> None:
    """The owner may name every column; Postgres computes them all the same."""
    post_some(ledger, acme, 3)
    forged = "INSERT INTO ledger_seals VALUES (%s, 2, 3, 7, '\\x00', '\\x00', 'infinity', '\\x00')"
    with pytest.raises(errors.InsufficientPrivilege):
        connect("app").execute(forged, [acme])
    connect("owner").execute(forged, [acme])
    connect("owner").execute("INSERT INTO ledger_roots VALUES ('2020-01-01', 1, '\\x00', '\\x00', 7, 7, 'infinity')")
    assert_sealed(ledger.engine, entries=3)


def test_sealing_says_the_same_whatever_the_session_is_set_to(ledger: Ledger, acme: UUID, connect: Connect) -> None:
    ledger.post(
        EntryFactory.build(customer_id=acme, amount=Decimal("1.50"), quantity=Decimal("2.000")),
        EntryFactory.build(customer_id=acme, amount=Decimal("1E-30"), reason="", item=None),
    )
    connection = connect("owner")
    for setting in (
        "TimeZone = 'Pacific/Apia'",
        "DateStyle = 'German'",
        "IntervalStyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "extra_float_digits = -15",
        "client_encoding = 'LATIN1'",
        "standard_conforming_strings = off",
    ):
        connection.execute(f"SET {setting}")
    connection.execute(
        "INSERT INTO ledger_seals (customer_id, last_seq) SELECT customer_id, last_seq FROM ledger_books"
    )
    assert_sealed(ledger.engine, entries=2)


def test_cron_seals_every_minute() -> None:
    assert DEFAULTS.keys() == JOBS.keys()
    assert read_timetable({})["seal"].every == timedelta(minutes=1)


def test_the_figures_show_what_waits_for_a_seal(ledger: Ledger, acme: UUID) -> None:
    def figure(name: str) -> float:
        with ledger.transaction() as session:
            return unsealed_figures(session)[f"billing_ledger_unsealed_{name}"][1]

    assert (figure("entries"), figure("age_seconds")) == (0, 0)
    post_some(ledger, acme, 3)
    assert figure("entries") == 3
    assert 0 < figure("age_seconds") < 300
    seal_due(ledger.engine, now=NOW)
    assert (figure("entries"), figure("age_seconds")) == (0, 0)
