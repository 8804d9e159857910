"""The offline verifier's own parts: how cells are read, and how a difference gets its name."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from ledger.offline_verifier import (
    FIELDS,
    Difference,
    Finding,
    Leaf,
    Unusable,
    Witness,
    entry_hash,
    explain,
    first_difference,
    parse_root,
    read_export,
    seconds,
)
from ledger.offline_verifier import _field as field

CUSTOMER = bytes(15) + b"\x07"


def leaf(seq: int, name: str, content: str = "") -> Leaf:
    return Leaf(seq, name.encode() * 16, (content or name).encode() * 32)


def run(text: str) -> list[Leaf]:
    """`a b c`: three entries, numbered from 1; a content of its own stands behind a colon."""
    return [leaf(seq, *word.split(":")) for seq, word in enumerate(text.split(), start=1)]


@pytest.mark.parametrize(
    ("sealed", "actual", "kind", "seq", "entry"),
    [
        ("a b c", "a b c", None, 0, ""),
        ("a b c", "a b:x c", "changed", 2, "b"),
        ("a b c", "a c", "removed", 2, "b"),
        ("a b c", "a b", "removed", 3, "c"),
        ("a b c", "", "removed", 1, "a"),
        ("a b c", "a x b c", "inserted", 2, "x"),
        ("a b c", "x a b c", "inserted", 1, "x"),
        ("a b c", "a b c x", "inserted", 4, "x"),
        ("a b c d", "a c b d", "swapped", 2, "b"),
        ("a b c d", "d b c a", "swapped", 1, "a"),
        ("a b c", "a x c", "changed", 2, "b"),
    ],
)
def test_a_difference_gets_its_name(sealed: str, actual: str, kind: str | None, seq: int, entry: str) -> None:
    before, now = run(sealed), run(actual)
    found = first_difference(before, now)
    if kind is None:
        assert found is None
        return
    assert found is not None
    found.stands_at = {one.seq for one in now if found.sealed is not None and one.id == found.sealed.id}
    found.sealed_at = next((one.seq for one in before if found.actual is not None and one.id == found.actual.id), None)
    finding = explain(CUSTOMER, found)
    assert (finding.kind, finding.seq, finding.customer_id) == (kind, seq, "00000000-0000-0000-0000-000000000007")
    assert finding.entry_id is not None
    assert finding.entry_id.replace("-", "") == (entry.encode() * 16).hex()


def test_two_entries_in_one_place_are_one_too_many() -> None:
    found = first_difference(run("a b"), [leaf(1, "a"), leaf(1, "0"), leaf(2, "b")])
    assert found == Difference(None, leaf(1, "0"))
    found = first_difference(run("a b"), [leaf(1, "0"), leaf(1, "a"), leaf(2, "b")])
    assert found is not None
    found.stands_at = {1}
    assert explain(CUSTOMER, found).kind == "inserted"


def test_an_entry_that_stands_there_twice_is_said_to() -> None:
    found = first_difference(run("a b"), [leaf(1, "a"), leaf(1, "a"), leaf(2, "b")])
    assert found is not None
    found.sealed_at = 1
    assert "twice" in str(explain(CUSTOMER, found))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2025-06-10T12:00:00+00:00", "1749556800.000000"),
        ("2025-06-10T12:00:00.000001+00:00", "1749556800.000001"),
        ("1969-12-31T23:59:59.500000+00:00", "-0.500000"),
        ("2025-06-10T12:00:00", "not a time: 2025-06-10T12:00:00"),
        ("2025-02-30T12:00:00+00:00", "not a time: 2025-02-30T12:00:00+00:00"),
        ("1749556800.000000", "not a time: 1749556800.000000"),
    ],
)
def test_times_are_seconds_with_six_decimals(cell: str, expected: str) -> None:
    assert seconds(cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"), [("", None), ("'", ""), ("''", "'"), ("'=x", "=x"), ("''=x", "'=x"), ("x", "x")]
)
def test_the_exports_apostrophe_is_taken_away(cell: str, expected: str | None) -> None:
    assert field("reason", cell) == expected


def test_a_label_that_stands_there_twice_is_none() -> None:
    assert field("labels", '{"b": "1", "a": "2", "aa": "3"}') == {"a": "2", "b": "1", "aa": "3"}
    assert list(field("labels", '{"aa": "3", "b": "1"}')) == ["b", "aa"]  # type: ignore[call-overload]
    assert field("labels", '{"a": "1", "a": "2"}') == 'not labels: {"a": "1", "a": "2"}'
    assert field("labels", "[" * 100_000) == "not labels: " + "[" * 100_000


@pytest.mark.parametrize(
    "text",
    ["", "seq,id\r\n1,2\r\n", "\ufeff", '"', "no,export\r\n", "\x00"],
    ids=["empty", "columns missing", "a mark alone", "an open quote", "other columns", "a NUL"],
)
def test_what_is_no_export_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "journal.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(Unusable, match=r"journal\.csv"):
        list(read_export(str(file)))


def test_roots_are_read_with_and_without_their_day() -> None:
    assert parse_root("2026-11-21:" + "AB" * 32) == ("2026-11-21", b"\xab" * 32)
    assert parse_root("ab" * 32 + "\n") == (None, b"\xab" * 32)
    with pytest.raises(Unusable, match="is no root"):
        parse_root("ab" * 31)


def test_a_finding_is_one_line() -> None:
    assert str(Finding("root", None, None, None, "gone")) == "ROOT      gone"


def test_the_documented_entry_has_the_documented_hash() -> None:
    """Another program can be written from the document alone."""
    document = (Path(__file__).parents[3] / "docs" / "tamper-evidence.md").read_text(encoding="utf-8")
    example = re.search(r"```json\n(.*)\n```\n\nhas the hash `(\w+)`", document)
    assert example is not None
    fields = json.loads(example[1])
    row = {name: "" if value is None else value for name, value in zip(FIELDS, fields, strict=True)}
    row["labels"] = json.dumps(row["labels"])
    for name, instant in (
        ("effective_at", "2025-06-10T12:00:00+00:00"),
        ("recorded_at", "2025-06-10T13:00:00.250000+00:00"),
        ("period_start", "2025-06-01T00:00:00+00:00"),
        ("usage_period_start", "2025-06-01T00:00:00+00:00"),
    ):
        assert seconds(instant) == row[name]
        row[name] = instant
    assert entry_hash(row).hex() == example[2] == hashlib.sha256(example[1].encode()).hexdigest()
    table = re.findall(r"^\| (`[^|]*`) \|", document, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(table)) == list(FIELDS)


HEAD = {
    "witness": "fly-billing", "form": 1, "day": "2026-11-21", "root": "5" * 64, "previous_root": "0" * 64,
    "made_at_us": 1, "books": 1, "entries": 1,
}  # fmt: skip
SEAL = {
    "customer_id": "00000000-0000-0000-0000-000000000007", "first_seq": 1, "last_seq": 1, "sealed_at_us": 1,
    "entries": "A" * 64,
}  # fmt: skip


def witness(folder: Path, *lines: object) -> Witness:
    file = folder / "kept.witness"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Witness(str(file))


def test_a_witness_that_does_not_add_up_says_so(tmp_path: Path) -> None:
    problem = witness(tmp_path, HEAD, SEAL).problem()
    assert problem is not None
    assert "do not add up to the root of 2026-11-21" in problem
    problem = witness(tmp_path, HEAD).problem()
    assert problem == "it has 0 entries of 0 books, not 1 of 1"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [[]],
        [7],
        [{"witness": "somebody else"}],
        [{**HEAD, "form": 2}],
        [{**HEAD, "day": "yesterday"}],
        [{**HEAD, "root": 7}],
        [{**HEAD, "entries": 2**70}],
        [{**HEAD, "books": []}],
        [HEAD, []],
        [HEAD, {**SEAL, "customer_id": 7}],
        [HEAD, {**SEAL, "first_seq": 2, "last_seq": 2}],
        [HEAD, {**SEAL, "first_seq": 1.0}],
        [HEAD, {**SEAL, "sealed_at_us": 2**70}],
        [HEAD, {**SEAL, "entries": "?"}],
        [HEAD, {**SEAL, "entries": ""}],
    ],
)
def test_what_is_no_witness_is_refused_by_name(tmp_path: Path, lines: list[object]) -> None:
    with pytest.raises(Unusable, match="is no witness file"):
        witness(tmp_path, *lines)
