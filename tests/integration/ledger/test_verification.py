"""Verification: whoever rewrites the journal, with whatever rights, is found out, and the entry is named."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.cli import main
from app.database import create_engine
from ledger.offline_verifier import Witness
from ledger.posting import post
from ledger.root_verification import PrintedRoot, UnusableEvidence, read_evidence
from ledger.roots import find_root
from ledger.seals import seal_due
from ledger.verification import Verified, verify
from ledger.witness import SealsBroken, witness_lines
from tests.factories.entries import EntryFactory
from tests.integration.ledger.books import Ledger
from tests.integration.ledger.tampering import (
    OTHER_VALUES,
    TAMPERINGS,
    Expected,
    Tamperer,
    fill,
    superuser_engine,
    undone,
)
from tests.processes.services import Databases, TestServers

SLICE = 2_600
"""Entries of ten customers: few, but with seals of several batches each."""


class Sealed:
    """Books with their seals and roots, the superuser who rewrites them, and what was kept elsewhere before that."""

    def __init__(self, engine: Engine, superuser: Engine, folder: Path, *, entries: int) -> None:
        self.engine, self.superuser = engine, superuser
        self.ledger = Ledger(engine)
        self.customers = fill(self.ledger, entries, seed=7)
        self.entries = entries
        now = datetime.now(UTC)
        seal_due(engine, now=now - timedelta(days=1))
        for customer in self.customers[:3]:
            self.ledger.post(*EntryFactory.build_batch(5, customer_id=customer))
            self.entries += 5
        seal_due(engine, now=now)
        with Session(engine) as session:
            self.root = find_root(session)
            self.witness = folder / "kept.witness"
            self.witness.write_text("".join(witness_lines(session)))

    def verify(self, session: Session, *evidence: str) -> Verified:
        return verify(session, evidence=[kept for given in evidence for kept in read_evidence(given)])


@pytest.fixture(autouse=True)
def every_check_holds_afterwards() -> None:
    """Here the books are broken on purpose; each test takes its tampering back or has a database of its own."""


def sealed_books(databases: Databases, servers: TestServers, folder: Path, *, entries: int) -> Iterator[Sealed]:
    name = databases.clone()
    engine = create_engine(databases.url(name))
    superuser = superuser_engine(servers, databases.url(name))
    yield Sealed(engine, superuser, folder, entries=entries)
    engine.dispose()
    superuser.dispose()
    databases.drop(name)


@pytest.fixture(scope="module")
def sealed(databases: Databases, servers: TestServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    yield from sealed_books(databases, servers, tmp_path_factory.mktemp("witness"), entries=SLICE)


@pytest.fixture
def superuser(sealed: Sealed) -> Iterator[Session]:
    """The superuser's session; what it does is taken back."""
    with undone(sealed.superuser) as session:
        yield session


def assert_named(report: Verified, expected: Expected) -> None:
    named = [finding for finding in report.findings if finding.customer_id == str(expected.customer_id)]
    assert [(finding.kind, finding.seq, finding.entry_id) for finding in named] == [
        (expected.kind, expected.seq, str(expected.entry_id))
    ]


def test_books_that_nobody_touched_are_as_they_were_sealed(sealed: Sealed) -> None:
    with Session(sealed.engine) as session:
        report = sealed.verify(session, sealed.root.printed, str(sealed.witness))
    assert report.findings == []
    assert (report.entries, report.books, report.roots, report.unsealed) == (sealed.entries, 10, 2, 0)
    assert report.matched == [sealed.root.printed, f"{sealed.witness} ({sealed.root.printed})"]


@pytest.mark.parametrize("column", OTHER_VALUES)
def test_a_change_of_any_column_is_named(sealed: Sealed, superuser: Session, column: str) -> None:
    expected = Tamperer(superuser, sealed.customers, random.Random(column)).change(column)
    assert_named(sealed.verify(superuser), expected)


def test_every_column_of_an_entry_is_sealed(sealed: Sealed, superuser: Session) -> None:
    """A column that a later migration adds has to get into the hash, or a rewriting of it would not show."""
    columns = superuser.scalars(
        text("SELECT column_name FROM information_schema.columns WHERE table_name = 'ledger_entries'")
    )
    assert set(columns) == OTHER_VALUES.keys() | {"customer_id", "seq"}


@pytest.mark.parametrize("way", TAMPERINGS)
def test_every_way_of_rewriting_is_named(sealed: Sealed, superuser: Session, way: str) -> None:
    expected = TAMPERINGS[way](Tamperer(superuser, sealed.customers, random.Random(way)))
    report = sealed.verify(superuser)
    assert_named(report, expected)
    assert len(report.findings) == (2 if way == "give away" else 1)


def random_tries(sealed: Sealed, tries: int) -> None:
    for number in range(tries):
        dice = random.Random(number)
        way = dice.choice(sorted(TAMPERINGS))
        with undone(sealed.superuser) as session:
            expected = TAMPERINGS[way](Tamperer(session, sealed.customers, dice))
            try:
                assert_named(sealed.verify(session), expected)
            except AssertionError as error:
                error.add_note(f"try {number}: {way}")
                raise


def test_twenty_of_twenty_random_tries_are_named(sealed: Sealed) -> None:
    random_tries(sealed, 20)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_of_a_hundred_random_tries_among_100_000_entries_are_named(
    databases: Databases, servers: TestServers, tmp_path: Path
) -> None:
    for sealed in sealed_books(databases, servers, tmp_path, entries=100_000):
        random_tries(sealed, 100)


def test_a_change_of_the_currency_shows_in_every_entry(sealed: Sealed, superuser: Session) -> None:
    customer = sealed.customers[4]
    superuser.execute(text("UPDATE ledger_books SET currency = 'JPY' WHERE customer_id = :c"), {"c": customer})
    (finding,) = sealed.verify(superuser).findings
    assert (finding.kind, finding.customer_id, finding.seq) == ("changed", str(customer), 1)


def test_entries_of_nobody_are_named(sealed: Sealed, superuser: Session) -> None:
    superuser.execute(text("CREATE TEMP TABLE copied AS SELECT * FROM ledger_entries LIMIT 3"))
    stranger = UUID(int=1)
    superuser.execute(text("UPDATE copied SET customer_id = :c"), {"c": stranger})
    superuser.execute(text("INSERT INTO ledger_entries SELECT * FROM copied"))
    (finding,) = sealed.verify(superuser).findings
    assert (finding.kind, finding.customer_id) == ("books", str(stranger))


# What a superuser may do to seals and roots: the statements, and what the finding is about.
AGAINST_SEALS = {
    "delete the last seals": (["DELETE FROM ledger_seals WHERE customer_id = :c AND first_seq > 1"], "seal", 261),
    "delete the first seal": (["DELETE FROM ledger_seals WHERE customer_id = :c AND first_seq = 1"], "seal", 1),
    "delete all seals": (["DELETE FROM ledger_seals WHERE customer_id = :c"], "seal", 1),
    "change a seal's time": (
        ["UPDATE ledger_seals SET sealed_at = sealed_at - interval '1 day' WHERE customer_id = :c AND first_seq = 1"],
        "seal",
        1,
    ),
    "seal at no time": (["UPDATE ledger_seals SET sealed_at = 'infinity' WHERE customer_id = :c"], "seal", 1),
    "change a head": (
        ["UPDATE ledger_seals SET head = sha256(head) WHERE customer_id = :c AND first_seq > 1"],
        "seal",
        261,
    ),
    "cut off the tail": (
        [
            "DELETE FROM ledger_entries WHERE customer_id = :c AND seq > 260",
            "DELETE FROM ledger_seals WHERE customer_id = :c AND last_seq > 260",
            "UPDATE ledger_books SET last_seq = 260 WHERE customer_id = :c",
        ],
        "removed",
        261,
    ),
    "cut off the entries alone": (
        [
            "DELETE FROM ledger_entries WHERE customer_id = :c AND seq > 263",
            "UPDATE ledger_books SET last_seq = 263 WHERE customer_id = :c",
        ],
        "removed",
        264,
    ),
    "set the count back": (["UPDATE ledger_books SET last_seq = 100 WHERE customer_id = :c"], "books", 265),
    "erase a customer": (
        [
            "DELETE FROM ledger_entries WHERE customer_id = :c",
            "DELETE FROM ledger_seals WHERE customer_id = :c",
            "DELETE FROM ledger_books WHERE customer_id = :c",
        ],
        "removed",
        1,
    ),
}


@pytest.mark.parametrize(("statements", "kind", "seq"), AGAINST_SEALS.values(), ids=AGAINST_SEALS.keys())
def test_seals_that_were_tampered_with_are_named(
    sealed: Sealed, superuser: Session, statements: list[str], kind: str, seq: int
) -> None:
    for statement in statements:
        superuser.execute(text(statement), {"c": sealed.customers[0]})
    (finding,) = sealed.verify(superuser).findings
    assert (finding.kind, finding.customer_id, finding.seq) == (kind, str(sealed.customers[0]), seq)


AGAINST_ROOTS = {
    "delete the first root": "DELETE FROM ledger_roots WHERE day = (SELECT min(day) FROM ledger_roots)",
    "delete the last root": "DELETE FROM ledger_roots WHERE day = (SELECT max(day) FROM ledger_roots)",
    "delete all roots": "DELETE FROM ledger_roots",
    "change a root": "UPDATE ledger_roots SET root = sha256(root) WHERE day = (SELECT max(day) FROM ledger_roots)",
    "change a count": "UPDATE ledger_roots SET entries = entries + 1",
    "change a time": "UPDATE ledger_roots SET made_at = made_at - interval '1 day'",
    "delete heads": "DELETE FROM ledger_root_heads WHERE customer_id = (SELECT customer_id FROM ledger_books LIMIT 1)",
}


@pytest.mark.parametrize("statement", AGAINST_ROOTS.values(), ids=AGAINST_ROOTS.keys())
def test_roots_that_were_tampered_with_are_noticed(sealed: Sealed, superuser: Session, statement: str) -> None:
    superuser.execute(text(statement))
    findings = sealed.verify(superuser).findings
    assert [finding.kind for finding in findings] == ["root"]


def rewrite_everything(sealed: Sealed, session: Session, *, last_day_only: bool = False) -> Expected:
    """What the best-equipped attacker does: change an entry, then make all seals and roots anew as if nothing was."""
    expected = Tamperer(session, sealed.customers, random.Random(3)).change("amount")
    days = session.scalars(text("SELECT day FROM ledger_roots ORDER BY day")).all()
    session.execute(text("DELETE FROM ledger_roots; DELETE FROM ledger_root_heads; DELETE FROM ledger_seals"))
    session.execute(text("SET LOCAL session_replication_role = origin"))
    session.execute(
        text("INSERT INTO ledger_seals (customer_id, last_seq) SELECT customer_id, last_seq FROM ledger_books")
    )
    for day in days[1:] if last_day_only else days:
        session.execute(text("INSERT INTO ledger_roots (day) VALUES (:day)"), {"day": day})
    return expected


def test_after_a_consistent_rewriting_only_what_was_kept_elsewhere_tells(sealed: Sealed, superuser: Session) -> None:
    rewrite_everything(sealed, superuser)
    assert sealed.verify(superuser).findings == [], "or this test rewrites too little"
    (finding,) = sealed.verify(superuser, sealed.root.printed).findings
    assert finding.kind == "root"
    assert f"the root of {sealed.root.day} was printed as {sealed.root.root.hex()}" in finding.detail
    assert "rewritten" in finding.detail


def test_a_printed_root_without_its_day_tells_too(sealed: Sealed, superuser: Session) -> None:
    rewrite_everything(sealed, superuser)
    (finding,) = sealed.verify(superuser, sealed.root.root.hex()).findings
    assert "no root here is" in finding.detail


def test_a_file_of_printed_roots_tells_the_first_day_that_no_longer_matches(
    sealed: Sealed, superuser: Session, tmp_path: Path
) -> None:
    kept = tmp_path / "roots.txt"
    days = superuser.execute(text("SELECT day, encode(root, 'hex') FROM ledger_roots ORDER BY day")).all()
    kept.write_text("".join(f"{day}:{root}  7 entries of 1 books\n\n" for day, root in days))
    assert len(sealed.verify(superuser, str(kept)).matched) == 2
    rewrite_everything(sealed, superuser, last_day_only=True)
    first, second = sealed.verify(superuser, str(kept)).findings
    assert f"the root of {days[0].day} is gone" in first.detail
    assert f"the root of {days[1].day} was printed as" in second.detail


def test_with_a_witness_file_even_a_consistent_rewriting_names_the_entry(sealed: Sealed, superuser: Session) -> None:
    expected = rewrite_everything(sealed, superuser)
    report = sealed.verify(superuser, str(sealed.witness))
    assert_named(report, expected)
    others = [finding for finding in report.findings if finding.customer_id != str(expected.customer_id)]
    assert {finding.kind for finding in others} == {"seal", "root"}, "their seals are new, their entries are not"


def test_a_witness_that_was_forged_is_not_believed(sealed: Sealed, superuser: Session, tmp_path: Path) -> None:
    forged = tmp_path / "forged.witness"
    lines = sealed.witness.read_text().splitlines(keepends=True)
    forged.write_text("".join([*lines[:3], lines[3].replace('"entries":"', '"entries":"AAAA', 1), *lines[4:]]))
    with pytest.raises(UnusableEvidence, match="gap"):
        read_evidence(str(forged))
    at = lines[3].index('"entries":"') + 40
    swapped = lines[3][:at] + ("A" if lines[3][at] != "A" else "B") + lines[3][at + 1 :]
    forged.write_text("".join([*lines[:3], swapped, *lines[4:]]))
    (finding,) = sealed.verify(superuser, str(forged)).findings
    assert finding.kind == "witness"
    assert "damaged or forged" in finding.detail
    forged.write_text("".join(lines[:-1]))
    (finding,) = sealed.verify(superuser, str(forged)).findings
    assert finding.kind == "witness"


def test_no_witness_is_written_from_seals_that_do_not_add_up(sealed: Sealed, superuser: Session) -> None:
    superuser.execute(text("DELETE FROM ledger_seals WHERE customer_id = :c"), {"c": sealed.customers[0]})
    with pytest.raises(SealsBroken):
        list(witness_lines(superuser))


def test_functions_of_the_attacker_do_not_stand_in_for_those_of_postgres(sealed: Sealed, superuser: Session) -> None:
    """With another search path, a hash that never changes would hide every rewriting."""
    superuser.execute(text("CREATE FUNCTION public.sha256(bytea) RETURNS bytea IMMUTABLE LANGUAGE sql AS 'SELECT $1'"))
    superuser.execute(text("SET LOCAL search_path = public, pg_catalog"))
    assert superuser.scalar(text("SELECT sha256('x')")) == b"x"
    assert sealed.verify(superuser).findings == []


def test_what_is_not_sealed_yet_is_counted(sealed: Sealed, superuser: Session) -> None:
    superuser.execute(text("SET LOCAL session_replication_role = origin"))
    moment = superuser.scalar(text("SELECT now()"))
    post(superuser, EntryFactory.build_batch(3, customer_id=sealed.customers[0]), now=datetime.now(UTC))
    report = sealed.verify(superuser)
    assert report.findings == []
    assert report.unsealed == 3
    assert moment is not None
    assert report.oldest_unsealed_at is not None
    assert report.oldest_unsealed_at >= moment


@pytest.mark.parametrize("given", ["2026-11-21", "5fab", "2026-13-45:" + "0" * 64, "/no/such/file", ""])
def test_what_is_no_evidence_is_refused_by_name(given: str) -> None:
    with pytest.raises(UnusableEvidence):
        read_evidence(given)


def test_evidence_is_read_as_it_was_printed(sealed: Sealed) -> None:
    (printed,) = read_evidence(f" {sealed.root.printed.upper()} ")
    assert printed == PrintedRoot(sealed.root.day, sealed.root.root)
    (witness,) = read_evidence(str(sealed.witness))
    assert isinstance(witness, Witness)
    assert witness.root == sealed.root.root


def test_the_commands_seal_print_and_verify(
    ledger: Ledger,
    acme: UUID,
    environment: dict[str, str],
    servers: TestServers,
    database_url: str,
    tmp_path: Path,
) -> None:
    def billing(*words: str) -> Result:
        return CliRunner().invoke(main, ["ledger", *words], env=environment)

    nothing = billing("root")
    assert nothing.exit_code == 2
    assert "error [unknown_root]: There is no root yet." in nothing.output
    ledger.post(*EntryFactory.build_batch(12, customer_id=acme))
    assert "Not sealed yet, and so not proven: 12 entries, the oldest recorded 20" in billing("verify").output
    sealed = json.loads(billing("seal", "--json").output)
    assert (sealed["entries"], sealed["ranges"], sealed["books"], sealed["unsealed"]) == (12, 1, 1, 0)
    assert billing("seal").output == "Sealed: 0 entries of 0 books in 0 ranges; 0 not sealed yet\n"

    witness = tmp_path / "w.json"
    printed = billing("root", "--witness", str(witness))
    assert printed.output.split()[0] == sealed["root"]
    assert "12 entries of 1 books" in printed.output
    assert billing("root", "--day", "2001-01-01").exit_code == 2
    clean = billing("verify", "--against", sealed["root"], "--against", str(witness))
    assert clean.exit_code == 0, clean.output
    assert f"Matches what was kept: {sealed['root']}\n" in clean.output
    assert "As it was sealed: 12 entries of 1 books, 1 seals, 1 roots.\n" in clean.output
    assert billing("verify", "--against", "nonsense").exit_code == 2

    engine = superuser_engine(servers, database_url)
    with engine.begin() as connection:
        entry = connection.scalar(text("UPDATE ledger_entries SET amount = 99 WHERE seq = 5 RETURNING id"))
    engine.dispose()
    tampered = billing("verify")
    assert tampered.exit_code == 1
    assert f"CHANGED   customer {acme}  seq 5  entry {entry}  its content" in tampered.output
    assert "TAMPERED: 1 finding among 12 entries" in tampered.output
    report = json.loads(billing("verify", "--json", "--against", str(witness)).output)
    assert report["holds"] is False
    assert [(row["kind"], row["seq"], row["entry_id"]) for row in report["findings"]] == [("changed", 5, str(entry))]
