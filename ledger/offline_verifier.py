"""Checks an export of the journal against a witness file, with nothing but Python itself.

    python offline_verifier.py journal.csv witness.json --root 2026-11-21:5fab...

`journal.csv` comes from `billing ledger export --format csv`, `witness.json` from `billing ledger root --witness`. Each
row's hash is computed anew and compared with the witness, and the witness with the root that was printed when it was
made. Names the first entry of each customer that was changed, removed, inserted or moved. Exit status 0 if everything
that the witness covers is as it was, 1 if not, 2 if a file cannot be read.

This file imports nothing of ours and needs Python 3.9: copy it to wherever the witness is kept. What is hashed, byte by
byte, is written in docs/tamper-evidence.md.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from itertools import groupby
from typing import Any, NamedTuple, TextIO
from uuid import UUID

FORM = 1
RECORD = 48  # bytes for each entry in a seal: its id (16), its hash (32)
START = bytes(32)  # what the first seal and the first root are chained to
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - the file runs on Python 3.9 too

FIELDS = (
    "customer_id", "seq", "id", "transaction_id", "effective_at", "recorded_at", "debit_account", "credit_account",
    "amount", "currency", "item", "quantity", "kind", "period_start", "usage_period_start", "document_id", "price_id",
    "reverses_id", "actor", "reason", "labels", "digest",
)  # fmt: skip
TIMES = ("effective_at", "recorded_at", "period_start", "usage_period_start")

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?\+00:00")
_ROOT = re.compile(r"(?:(\d{4}-\d\d-\d\d):)?([0-9a-f]{64})")


class Unusable(Exception):
    """A file is not what it should be, so nothing can be said about the journal."""


class Leaf(NamedTuple):
    """One entry, as far as seals know it."""

    seq: int
    id: bytes
    hash: bytes


@dataclass(frozen=True)
class Finding:
    """What is wrong. `kind` is changed, removed, inserted or swapped for an entry; else books, seal, root, witness."""

    kind: str
    customer_id: str | None
    seq: int | None
    entry_id: str | None
    detail: str

    def __str__(self) -> str:
        named = [
            f"{name} {value}"
            for name, value in (("customer", self.customer_id), ("seq", self.seq), ("entry", self.entry_id))
            if value is not None
        ]
        return f"{self.kind.upper():<8}  " + "".join(f"{part}  " for part in named) + self.detail


# --- What is hashed ---------------------------------------------------------------------------------------------------


def entry_hash(row: dict[str, str]) -> bytes:
    """The hash of one entry, from its row of the export."""
    fields: list[Any] = [_field(name, row[name]) for name in FIELDS]
    return hashlib.sha256(json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()


def _field(name: str, cell: str) -> object:
    if cell == "":
        return None
    if name in TIMES:
        return seconds(cell)
    if name == "labels":
        return _labels(cell)
    # The export puts an apostrophe before a text that is empty, begins like a formula, or begins with an apostrophe.
    return cell[1:] if cell.startswith("'") else cell


def seconds(cell: str) -> str:
    """A time of the export as seconds since 1970 with six decimals; anything else as something that is no time."""
    if not _INSTANT.fullmatch(cell):
        return f"not a time: {cell}"
    try:
        since = datetime.fromisoformat(cell) - EPOCH
    except ValueError:
        return f"not a time: {cell}"
    micros = since // timedelta(microseconds=1)
    sign = "-" if micros < 0 else ""
    return f"{sign}{abs(micros) // 1_000_000}.{abs(micros) % 1_000_000:06d}"


def _labels(cell: str) -> object:
    def ordered(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # A name that stands there twice would let a reader see one value and the hash another.
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a label stands there twice")
        return dict(sorted(pairs, key=lambda pair: (len(pair[0].encode()), pair[0].encode())))

    try:
        return json.loads(cell, object_pairs_hook=ordered)
    except (ValueError, RecursionError):
        return f"not labels: {cell}"


def seal_head(
    previous_head: bytes, customer: bytes, first_seq: int, last_seq: int, sealed_at_us: int, entries: bytes
) -> bytes:
    """The head of one seal; `sealed_at_us` are microseconds since 1970."""
    parts = (b"fly-billing seal 1", previous_head, customer, _int8(first_seq), _int8(last_seq), _int8(sealed_at_us))
    return hashlib.sha256(b"".join(parts) + entries).digest()


def root_hash(
    day: str, previous_root: bytes, made_at_us: int, books: int, entries: int, heads: Iterable[bytes]
) -> bytes:
    """The root of one day; `heads` are `head_record`s in the order of their customers."""
    parts = (b"fly-billing root 1", day.encode(), previous_root, _int8(made_at_us), _int8(books), _int8(entries))
    hashed = hashlib.sha256(b"".join(parts))
    for record in heads:
        hashed.update(record)
    return hashed.digest()


def head_record(customer: bytes, last_seq: int, head: bytes) -> bytes:
    """One book's part of a root."""
    return customer + _int8(last_seq) + head


def _int8(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def leaves(first_seq: int, entries: bytes) -> Iterator[Leaf]:
    """The entries of one seal."""
    for number, start in enumerate(range(0, len(entries), RECORD)):
        yield Leaf(first_seq + number, entries[start : start + 16], entries[start + 16 : start + RECORD])


# --- What is wrong ----------------------------------------------------------------------------------------------------


@dataclass
class Difference:
    """The first place where sealed and actual entries part: `sealed` alone, `actual` alone, or both."""

    sealed: Leaf | None
    actual: Leaf | None
    stands_at: set[int] = field(default_factory=set)
    """Where the sealed entry stands in the journal, by its id; whoever finds the difference fills it in."""
    sealed_at: int | None = None
    """Where the actual entry was sealed, by its id; the same."""


def first_difference(sealed: Iterable[Leaf], actual: Iterable[Leaf]) -> Difference | None:
    """Compare two runs of entries, both in order of seq; of entries with the same seq only one can be right."""
    rest = iter(actual)
    have = next(rest, None)
    for want in sealed:
        if have is None or have.seq > want.seq:
            return Difference(want, None)
        if have.seq < want.seq:
            return Difference(None, have)
        if have != want:
            return Difference(want, have)
        have = next(rest, None)
    return None if have is None else Difference(None, have)


def explain(customer: bytes, found: Difference) -> Finding:
    """Name what happened, by where the two entries stand now and stood when they were sealed."""
    sealed, actual, stands_at, sealed_at = found.sealed, found.actual, found.stands_at, found.sealed_at

    def finding(kind: str, leaf: Leaf, detail: str) -> Finding:
        return Finding(kind, str(UUID(bytes=customer)), leaf.seq, str(UUID(bytes=leaf.id)), detail)

    if sealed is None:
        assert actual is not None  # noqa: S101 - a difference has at least one side
        if sealed_at is None:
            return finding("inserted", actual, "no such entry was sealed")
        detail = "it stands there twice, or out of its order"
        return finding("swapped", actual, detail if sealed_at == actual.seq else f"it was sealed as seq {sealed_at}")
    if actual is None:
        if not stands_at:
            return finding("removed", sealed, "it was sealed and is gone")
        return finding("swapped", sealed, f"it stands as seq {min(stands_at)} now, or out of its order")
    if actual.id == sealed.id:
        return finding("changed", sealed, "its content is not what was sealed")
    if sealed.seq in stands_at and sealed_at is None:
        return finding("inserted", actual, "no such entry was sealed, and its place was taken")
    if not stands_at and sealed_at is None:
        return finding("changed", sealed, f"entry {UUID(bytes=actual.id)}, which was never sealed, stands in its place")
    if not stands_at:
        return finding("removed", sealed, "it was sealed and is gone, and later entries were moved up")
    if sealed_at is None:
        return finding("inserted", actual, f"it was never sealed; what was sealed here is seq {min(stands_at)} now")
    return finding(
        "swapped",
        sealed,
        f"it stands as seq {min(stands_at)} now; here stands entry {UUID(bytes=actual.id)}, sealed as seq {sealed_at}",
    )


# --- The witness ------------------------------------------------------------------------------------------------------


class WitnessSeal(NamedTuple):
    """One line of a witness file behind its first."""

    customer: bytes
    first_seq: int
    last_seq: int
    sealed_at_us: int
    entries: bytes


@dataclass
class WitnessedBook:
    """Where one book's seals begin in the file, and what they add up to."""

    offset: int
    last_seq: int
    head: bytes


class Witness:
    """A witness file, read line by line: memory grows with the number of books, not of entries."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.books: dict[bytes, WitnessedBook] = {}
        try:
            self._read()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise Unusable(f"{path} is no witness file: {type(error).__name__}: {error}") from error

    def _read(self) -> None:
        with open(self.path, "rb") as file:
            head = json.loads(file.readline())
            if head["witness"] != "fly-billing" or head["form"] != FORM:
                raise ValueError(f"form {head['form']!r} is not {FORM}")
            self.day: str = date.fromisoformat(head["day"]).isoformat()
            self.root = bytes.fromhex(head["root"])
            self.entries = int(head["entries"])
            self._previous_root = bytes.fromhex(head["previous_root"])
            self._made_at_us = int(head["made_at_us"])
            self._books = int(head["books"])
            _int8(max(self.entries, self._books, abs(self._made_at_us)))  # or the root could not be computed
            offset = file.tell()
            while line := file.readline():
                self._add(offset, _witness_seal(line))
                offset = file.tell()

    def _add(self, offset: int, seal: WitnessSeal) -> None:
        book = self.books.setdefault(seal.customer, WitnessedBook(offset, 0, START))
        if seal.first_seq != book.last_seq + 1 or len(seal.entries) != RECORD * (seal.last_seq - book.last_seq):
            raise ValueError(f"the seals of {UUID(bytes=seal.customer)} have a gap before seq {seal.first_seq}")
        book.head = seal_head(book.head, *seal)
        book.last_seq = seal.last_seq

    def computed_root(self) -> bytes:
        """The root that everything in the file adds up to; `root` is the one that it claims."""
        heads = (head_record(key, book.last_seq, book.head) for key, book in sorted(self.books.items()))
        return root_hash(self.day, self._previous_root, self._made_at_us, self._books, self.entries, heads)

    def problem(self) -> str | None:
        """What is wrong with the file itself, None if it holds together."""
        counted = (len(self.books), sum(book.last_seq for book in self.books.values()))
        if counted != (self._books, self.entries):
            return f"it has {counted[1]:,} entries of {counted[0]:,} books, not {self.entries:,} of {self._books:,}"
        if self.computed_root() != self.root:
            return f"its hashes do not add up to the root of {self.day} that it names: it was damaged or forged"
        return None

    def seals_of(self, customer: bytes) -> Iterator[WitnessSeal]:
        """One book's seals, in order."""
        with open(self.path, "rb") as file:
            file.seek(self.books[customer].offset)
            while line := file.readline():
                seal = _witness_seal(line)
                if seal.customer != customer:
                    return
                yield seal

    def leaves_of(self, customer: bytes) -> Iterator[Leaf]:
        """One book's entries as they were sealed, in order."""
        for seal in self.seals_of(customer):
            yield from leaves(seal.first_seq, seal.entries)


def _witness_seal(line: bytes) -> WitnessSeal:
    seal = json.loads(line)
    return WitnessSeal(
        UUID(seal["customer_id"]).bytes,
        seal["first_seq"],
        seal["last_seq"],
        seal["sealed_at_us"],
        base64.b64decode(seal["entries"], validate=True),
    )


def parse_root(text: str) -> tuple[str | None, bytes]:
    """A printed root, `2026-11-21:5fab...` or its hash alone, as its day and its bytes."""
    match = _ROOT.fullmatch(text.strip().lower())
    if match is None:
        raise Unusable(f"{text!r} is no root. Write it as it was printed, like 2026-11-21:5fab... with 64 digits.")
    return match[1], bytes.fromhex(match[2])


# --- The export -------------------------------------------------------------------------------------------------------


def read_export(path: str) -> Iterator[tuple[bytes, Leaf]]:
    """Each row of the export as its customer and what a seal would say of it."""
    csv.field_size_limit(2**31 - 1)
    try:
        # The mark that spreadsheets put at the beginning of a file is none of its content.
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Unusable(f"{path} cannot be read: {error}") from error


def _rows(path: str, file: TextIO) -> Iterator[tuple[bytes, Leaf]]:
    reader = csv.reader(file, strict=True)
    names = next(reader, [])
    missing = [name for name in FIELDS if names.count(name) != 1]
    if missing:
        raise Unusable(f"{path} is no export of the journal: it lacks {', '.join(missing)}.")
    for cells in reader:
        row = dict(zip(names, cells))  # noqa: B905 - Python 3.9 has no strict; the next line looks
        if len(cells) != len(names):
            raise Unusable(f"{path}, line {reader.line_num}: {len(cells)} cells, not {len(names)}.")
        try:
            leaf = Leaf(int(row["seq"]), UUID(row["id"]).bytes, entry_hash(row))
            yield UUID(row["customer_id"]).bytes, leaf
        except ValueError as error:
            raise Unusable(f"{path}, line {reader.line_num}: {error}") from error


@dataclass
class Report:
    findings: list[Finding]
    checked: int
    """Entries that the witness covers and that were found as they were sealed, or were named."""
    later: int
    """Entries that came after the witness was made: nothing is said about them."""


def verify(journal: str, witness: Witness) -> Report:
    """Compare the whole export with the whole witness; one finding for each customer, the first."""
    found: dict[bytes, Difference] = {}
    finished: set[bytes] = set()
    counts = {"checked": 0, "later": 0}

    def covered(rows: Iterable[tuple[bytes, Leaf]], last_seq: int) -> Iterator[Leaf]:
        for _, leaf in rows:
            if leaf.seq > last_seq:
                counts["later"] += 1
            else:
                counts["checked"] += 1
                yield leaf

    for customer, rows in _groups(read_export(journal)):
        book = witness.books.get(customer)
        if book is None:
            counts["later"] += sum(1 for _ in rows)
            continue
        actual = covered(rows, book.last_seq)
        if customer in finished:
            # The export has each customer's rows in one place, so these were put here by somebody.
            extra = next(actual, None)
            if extra is not None:
                found.setdefault(customer, Difference(None, extra))
        else:
            difference = first_difference(witness.leaves_of(customer), actual)
            if difference is not None:
                found[customer] = difference
        finished.add(customer)
        for _ in actual:  # the rest of the group, so that it is counted
            pass
    for customer in witness.books.keys() - finished:
        found[customer] = Difference(next(witness.leaves_of(customer)), None)
    _look_up(found, journal, witness)
    findings = [explain(customer, difference) for customer, difference in sorted(found.items())]
    return Report(findings, counts["checked"], counts["later"])


def _groups(rows: Iterator[tuple[bytes, Leaf]]) -> Iterator[tuple[bytes, Iterator[tuple[bytes, Leaf]]]]:
    yield from groupby(rows, key=lambda row: row[0])


def _look_up(found: dict[bytes, Difference], journal: str, witness: Witness) -> None:
    """Where the entries in question stand now, and where they were sealed. Reads the export once more."""
    if not found:
        return
    wanted = {(customer, d.sealed.id): d for customer, d in found.items() if d.sealed is not None}
    for customer, leaf in read_export(journal):
        if (customer, leaf.id) in wanted:
            wanted[customer, leaf.id].stands_at.add(leaf.seq)
    for customer, difference in found.items():
        if difference.actual is not None:
            difference.sealed_at = sealed_seq(witness.leaves_of(customer), difference.actual.id)


def sealed_seq(sealed: Iterable[Leaf], entry_id: bytes) -> int | None:
    """Where the entry was sealed, None if it never was."""
    return next((leaf.seq for leaf in sealed if leaf.id == entry_id), None)


def against_root(witness: Witness, printed: str) -> Finding | None:
    """Compare the witness with a root that was printed when it was made."""
    day, root = parse_root(printed)
    if day is not None and day != witness.day:
        raise Unusable(f"The root is of {day}, the witness of {witness.day}. Take those of one day.")
    if root == witness.root:
        return None
    detail = f"the root of {witness.day} is not the one that was printed: this is no witness of that day's journal"
    return Finding("witness", None, None, None, detail)


def main(arguments: list[str], out: Callable[[str], object] = print) -> int:
    """Run the check; answers the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("journal", help="the export: billing ledger export --format csv")
    parser.add_argument("witness", help="the witness file: billing ledger root --witness FILE")
    parser.add_argument("--root", help="the root as it was printed, with or without its day")
    options = parser.parse_args(arguments)
    try:
        witness = Witness(options.witness)
        findings = []
        problem = witness.problem()
        if problem is not None:
            findings.append(Finding("witness", None, None, None, problem))
        if options.root is not None and (mismatch := against_root(witness, options.root)) is not None:
            findings.append(mismatch)
        report = verify(options.journal, witness)
    except Unusable as error:
        print(error, file=sys.stderr)
        return 2
    findings += report.findings
    for finding in findings:
        out(str(finding))
    if options.root is None:
        out("The witness was not compared with a printed root: give --root to know that nobody exchanged the file.")
    verdict = "differs from" if findings else "is as"
    out(
        f"The export {verdict} sealed up to the root of {witness.day}: {report.checked:,} of {witness.entries:,} "
        f"entries compared, {report.later:,} later ones not covered."
    )
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
