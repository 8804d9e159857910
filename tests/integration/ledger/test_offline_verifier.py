"""The offline verifier: one file, without our packages, finds in an export what was rewritten."""

import csv
import io
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from ledger import offline_verifier
from ledger.export import export_journal
from ledger.roots import find_root
from ledger.seals import seal_due
from ledger.witness import witness_lines
from tests.factories.entries import EntryFactory
from tests.integration.ledger.books import Ledger
from tests.integration.ledger.tampering import various

Rows = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Kept:
    """An export, and the witness and the printed root that were kept elsewhere."""

    folder: Path
    root: str

    @property
    def journal(self) -> Path:
        return self.folder / "journal.csv"

    @property
    def witness(self) -> Path:
        return self.folder / "kept.witness"

    def rows(self) -> Rows:
        return list(csv.DictReader(io.StringIO(self.journal.read_text("utf-8"), newline="")))

    def rewrite(self, rows: Rows) -> None:
        with self.journal.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def verify(self, *words: str) -> tuple[int, list[str]]:
        """Exit status and lines, in this process."""
        lines: list[str] = []
        status = offline_verifier.main([str(self.journal), str(self.witness), *words], out=lines.append)
        return status, lines


def export_to(engine: Engine, file: Path) -> None:
    with Session(engine) as session:
        file.write_text("".join(export_journal(session, output_format="csv")), encoding="utf-8", newline="")


def keep(engine: Engine, folder: Path) -> Kept:
    seal_due(engine, now=datetime.now(UTC))
    export_to(engine, folder / "journal.csv")
    with Session(engine) as session:
        (folder / "kept.witness").write_text("".join(witness_lines(session)))
        return Kept(folder, find_root(session).printed)


@pytest.fixture
def kept(ledger: Ledger, tmp_path: Path) -> Kept:
    """Three customers with forty entries each."""
    for number in range(3):
        customer = ledger.open()
        ledger.post(*various(customer, 40, random.Random(number)))
    return keep(ledger.engine, tmp_path)


def test_it_runs_alone_in_an_empty_folder(kept: Kept, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without our packages, without any installed one, and without Python's own site directories."""
    alone = tmp_path_factory.mktemp("alone")
    shutil.copy(offline_verifier.__file__, alone)
    for source in (kept.journal, kept.witness):
        shutil.copy(source, alone)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", "offline_verifier.py", *words]
        return subprocess.run(command, cwd=alone, env={}, capture_output=True, text=True, check=False, timeout=60)

    done = run("journal.csv", "kept.witness", "--root", kept.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is as sealed up to the root of" in done.stdout
    assert "120 of 120 entries compared, 0 later ones" in done.stdout
    text = (alone / "journal.csv").read_text()
    (alone / "journal.csv").write_text(text.replace(",USD,", ",EUR,", 1))
    done = run("journal.csv", "kept.witness")
    assert done.returncode == 1
    assert done.stdout.startswith("CHANGED   customer ")
    assert run("journal.csv", "nothing").returncode == 2
    assert run("kept.witness", "kept.witness").returncode == 2


def change(rows: Rows, at: int) -> str:
    rows[at]["amount"] += "1"
    return "changed"


def relabel(rows: Rows, at: int) -> str:
    rows[at]["labels"] = rows[at]["labels"].replace("app-", "App-")
    return "changed"


def remove(rows: Rows, at: int) -> str:
    del rows[at]
    return "removed"


def remove_and_renumber(rows: Rows, at: int) -> str:
    customer = rows.pop(at)["customer_id"]
    for row in rows[at:]:
        if row["customer_id"] == customer:
            row["seq"] = str(int(row["seq"]) - 1)
    return "removed"


def insert(rows: Rows, at: int) -> str:
    for row in rows[at:]:
        if row["customer_id"] == rows[at]["customer_id"]:
            row["seq"] = str(int(row["seq"]) + 1)
    rows.insert(at, {**rows[at], "id": str(UUID(int=7)), "seq": str(int(rows[at]["seq"]) - 1)})
    return "inserted"


def swap(rows: Rows, at: int) -> str:
    rows[at]["seq"], rows[at + 1]["seq"] = rows[at + 1]["seq"], rows[at]["seq"]
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return "swapped"


def disorder(rows: Rows, at: int) -> str:
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return "swapped"


TAMPERINGS: list[Callable[[Rows, int], str]] = [
    change, relabel, remove, remove_and_renumber, insert, swap, disorder,
]  # fmt: skip


@pytest.mark.parametrize("at", [0, 55, 118])
@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_it_names_the_entry_that_is_not_as_it_was_sealed(
    kept: Kept, tamper: Callable[[Rows, int], str], at: int
) -> None:
    rows = kept.rows()
    before = dict(rows[at])
    kind = tamper(rows, at)
    entry = str(UUID(int=7)) if kind == "inserted" else before["id"]
    kept.rewrite(rows)
    status, lines = kept.verify("--root", kept.root)
    assert status == 1
    assert lines[0].startswith(
        f"{kind.upper():<8}  customer {before['customer_id']}  seq {before['seq']}  entry {entry}  "
    )
    assert len(lines) == 2, "one customer, one finding"


def test_customers_that_are_missing_altogether_are_named(kept: Kept) -> None:
    rows = kept.rows()
    gone = rows[40]["customer_id"]
    kept.rewrite([row for row in rows if row["customer_id"] != gone])
    status, lines = kept.verify()
    assert status == 1
    assert lines[0].startswith(f"REMOVED   customer {gone}  seq 1  entry {rows[40]['id']}")


def test_what_was_posted_later_is_counted_and_not_blamed(kept: Kept, ledger: Ledger) -> None:
    with ledger.transaction() as session:
        first = UUID(kept.rows()[0]["customer_id"])
        assert session is not None
    ledger.post(*various(first, 3, random.Random(9)))
    ledger.post(*various(ledger.open(), 4, random.Random(9)))
    export_to(ledger.engine, kept.journal)
    status, lines = kept.verify("--root", kept.root)
    assert (status, len(lines)) == (0, 1)
    assert "120 of 120 entries compared, 7 later ones not covered" in lines[0]


def test_a_witness_of_another_root_or_day_does_not_pass(kept: Kept) -> None:
    day = kept.root.partition(":")[0]
    status, lines = kept.verify("--root", f"{day}:{'5' * 64}")
    assert status == 1
    assert "is not the one that was printed" in lines[0]
    assert kept.verify("--root", "5" * 64)[0] == 1
    assert kept.verify("--root", "2001-01-01:" + "5" * 64)[0] == 2
    assert kept.verify("--root", "none")[0] == 2


def test_a_forged_witness_does_not_pass(kept: Kept) -> None:
    """Whoever rewrites the export and the witness together cannot make them add up to the printed root."""
    head, first, *rest = kept.witness.read_text().splitlines(keepends=True)
    at = first.index('"entries":"') + 60
    kept.witness.write_text("".join([head, first[:at] + ("x" if first[at] != "x" else "y") + first[at + 1 :], *rest]))
    status, lines = kept.verify("--root", kept.root)
    assert status == 1
    assert "damaged or forged" in lines[0]


# What a spreadsheet or an export could confuse: apostrophes, formulas, nothing and an empty text, other alphabets.
texts = st.one_of(
    st.none(),
    st.sampled_from(
        ["", "'", "''", "=x", "'=x", "\t", "\r\n", '"', "\u2028", "\x0b\x7f", "e\u0301", "\\u0041", "\ufeff"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12),
)
numbers = st.one_of(
    st.decimals(min_value=0, max_value=10**6, places=9),
    st.sampled_from([Decimal("1.50"), Decimal("1E+2"), Decimal("1E-30"), Decimal("999999999999999." + "9" * 30)]),
)
names = st.text(st.characters(min_codepoint=0x20, exclude_categories=["C", "Z"]), min_size=1, max_size=3)


def test_whatever_is_posted_has_one_hash_in_postgres_and_in_an_export(ledger: Ledger, tmp_path: Path) -> None:
    """Texts, labels, amounts and times by Hypothesis: what Postgres sealed is what the verifier reads in the CSV."""
    numbered = iter(range(1_000_000))

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        texts,
        texts,
        numbers,
        st.dictionaries(
            names, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=9)
        ),
        st.integers(0, 10**12),
    )
    def one(actor: str | None, reason: str | None, amount: Decimal, labels: dict[str, str], micros: int) -> None:
        customer = ledger.open(currency="KWD", time_zone="Pacific/Apia", anchor_day=31)
        item = "".join(character for character in reason or "" if character.isprintable())[:200] or None
        ledger.post(
            EntryFactory.build(
                event=f"event {next(numbered)}",
                customer_id=customer,
                actor=actor or "somebody",
                reason=reason,
                item=item,
                amount=amount,
                labels=labels,
                effective_at=datetime.fromtimestamp(1_700_000_000 + micros // 10**6, UTC).replace(
                    microsecond=micros % 10**6
                ),
            )
        )

    one()
    kept = keep(ledger.engine, tmp_path)
    status, lines = kept.verify("--root", kept.root)
    assert (status, len(lines)) == (0, 1), lines
