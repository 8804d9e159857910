"""Verification of roots: whether the seals still add up to them, and they to what was printed or kept elsewhere."""

from bisect import insort
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import islice
from pathlib import Path
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Uuid, bindparam, text
from sqlalchemy.orm import Session

from ledger.errors import LedgerError
from ledger.offline_verifier import (
    START,
    Finding,
    Unusable,
    Witness,
    first_difference,
    head_record,
    parse_root,
    root_hash,
)
from ledger.roots import DayRoot, all_roots, heads_by_day
from ledger.sealed_entries import entries_of, id_at, look_up

WITNESS_START = b'{"witness":'
COMPARED = 1_000
"""Books whose heads are compared with a witness in one query."""


class UnusableEvidence(LedgerError):
    """This is neither a root as it was printed, nor a file of them, nor a witness file."""

    code = "unusable_evidence"


@dataclass(frozen=True, slots=True)
class PrintedRoot:
    """A root as somebody kept it; the day may have been lost."""

    day: date | None
    root: bytes

    def __str__(self) -> str:
        return f"{self.day}:{self.root.hex()}" if self.day else self.root.hex()


Evidence = PrintedRoot | Witness


@dataclass(slots=True)
class RootsVerified:
    roots: list[DayRoot] = field(default_factory=list)
    broken_from: date | None = None
    """The first day whose root does not follow from its heads and from the root before it."""
    by_customer: list[tuple[UUID, Finding]] = field(default_factory=list)
    loose: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class Witnessed:
    matched: list[str] = field(default_factory=list)
    by_customer: dict[UUID, Finding] = field(default_factory=dict)
    loose: list[Finding] = field(default_factory=list)


def read_evidence(given: str) -> list[Evidence]:
    """What an operator kept: a printed root, or a file with one on each line, or a witness file.

    Raises:
        UnusableEvidence: it is none of these.
    """
    path = Path(given)
    try:
        if not path.is_file():
            return [_printed(given)]
        with path.open("rb") as file:
            is_witness = file.read(len(WITNESS_START)) == WITNESS_START
        if is_witness:
            return [Witness(given)]
        # Each line begins with the root; what `billing ledger root` says behind it is for people.
        lines = path.read_text(encoding="utf-8").splitlines()
        return [_printed(line.split()[0]) for line in lines if line.strip()]
    except (Unusable, OSError, ValueError) as error:
        raise UnusableEvidence(str(error)) from error


def _printed(given: str) -> PrintedRoot:
    day, root = parse_root(given)
    return PrintedRoot(date.fromisoformat(day) if day else None, root)


_HEADS = text("""
    SELECT DISTINCT ON (h.customer_id) h.customer_id, h.day, h.last_seq, s.last_seq IS NULL AS is_gone,
           coalesce((SELECT max(g.last_seq) FROM public.ledger_root_heads g
                       JOIN public.ledger_seals m ON m.customer_id = g.customer_id AND m.last_seq = g.last_seq
                                                 AND m.head = g.head
                      WHERE g.customer_id = h.customer_id AND g.day < h.day), 0) AS proven_seq,
           coalesce((SELECT max(last_seq) FROM public.ledger_seals WHERE customer_id = h.customer_id), 0) AS sealed_seq
      FROM public.ledger_root_heads h
      LEFT JOIN public.ledger_seals s ON s.customer_id = h.customer_id AND s.last_seq = h.last_seq
     WHERE s.head IS DISTINCT FROM h.head ORDER BY h.customer_id, h.day
""")


def verify_roots(session: Session) -> RootsVerified:
    """Compute every root anew from its heads, and find the heads that no seal has."""
    result = RootsVerified(all_roots(session))
    for problem in _chain_problems(session, result):
        result.loose.append(Finding("root", None, None, None, problem))
    for row in session.execute(_HEADS):
        seq, detail = row.proven_seq + 1, f"seals over seq {row.proven_seq + 1} to {row.last_seq} were rewritten"
        if row.is_gone:
            seq, detail = row.sealed_seq + 1, f"the seals over seq {row.sealed_seq + 1} to {row.last_seq} are gone"
        seq = min(seq, row.last_seq)
        entry = id_at(session, row.customer_id, seq)
        kind = "removed" if entry is None else "seal"
        named = str(entry) if entry is not None and row.is_gone else None
        detail = f"{detail}, which the root of {row.day} covers"
        result.by_customer.append((row.customer_id, Finding(kind, str(row.customer_id), seq, named, detail)))
    return result


def _chain_problems(session: Session, result: RootsVerified) -> Iterator[str]:
    heads = heads_by_day(session)
    head = next(heads, None)
    records: dict[bytes, bytes] = {}
    customers: list[bytes] = []
    before = START
    for root in result.roots:
        while head is not None and head[0] <= root.day:
            day, customer, last_seq, hashed = head
            if day < root.day and result.broken_from is None:
                result.broken_from = day
                yield f"the root of {day} is gone, but its heads are there"
            if customer.bytes not in records:
                insort(customers, customer.bytes)
            records[customer.bytes] = head_record(customer.bytes, last_seq, hashed)
            head = next(heads, None)
        computed = root_hash(
            root.day.isoformat(), before, root.made_at_us, root.books, root.entries, (records[c] for c in customers)
        )
        if result.broken_from is None and (computed, root.previous_root) != (root.root, before):
            result.broken_from = root.day
            yield f"the root of {root.day} does not follow from its heads and from the root before it"
        before = root.root
    if head is not None and result.broken_from is None:
        result.broken_from = head[0]
        yield f"the root of {head[0]} is gone, but its heads are there"


def verify_evidence(
    session: Session, evidence: Sequence[Evidence], *, roots: RootsVerified, doubtful: Collection[UUID]
) -> Witnessed:
    """Compare with what was kept outside this database. `doubtful` are customers with a finding already."""
    result = Witnessed()
    for kept in evidence:
        if isinstance(kept, PrintedRoot):
            problem = _root_problem(kept, roots)
            if problem is not None:
                result.loose.append(Finding("root", None, None, None, problem))
            else:
                result.matched.append(str(kept))
            continue
        problem = kept.problem()
        if problem is not None:
            result.loose.append(Finding("witness", None, None, None, f"{kept.path}: {problem}"))
            continue
        printed = PrintedRoot(date.fromisoformat(kept.day), kept.root)
        problem = _root_problem(printed, roots)
        if problem is not None:
            result.loose.append(Finding("root", None, None, None, problem))
        found = dict(_witness_findings(session, kept, doubtful))
        for customer, finding in found.items():
            result.by_customer.setdefault(customer, finding)
        if problem is None and not found:
            result.matched.append(f"{kept.path} ({printed})")
    return result


def _root_problem(kept: PrintedRoot, roots: RootsVerified) -> str | None:
    rewritten = "what was sealed up to then was rewritten, together with its seals and roots"
    if kept.day is None:
        same = next((root for root in roots.roots if root.root == kept.root), None)
        if same is None:
            return (
                f"no root here is {kept}: it is of another database, or {rewritten}. "
                "Give the day with it, or a witness file, to learn more"
            )
    else:
        same = next((root for root in roots.roots if root.day == kept.day), None)
        if same is None:
            return (
                f"the root of {kept.day} is gone, though it was printed: {rewritten}, "
                "or the database was restored to an earlier day"
            )
        if same.root != kept.root:
            return (
                f"the root of {kept.day} was printed as {kept.root.hex()} and is {same.root.hex()} now: {rewritten}. "
                "A witness file of that day or an earlier one names the entry"
            )
    if roots.broken_from is not None and roots.broken_from <= same.day:
        return f"the root of {same.day} stands as it was printed, but does not follow from what is sealed"
    return None


_SEAL_HEADS = text("""
    SELECT s.customer_id, s.head
      FROM unnest(:customers, :last_seqs) AS kept (customer_id, last_seq)
      JOIN public.ledger_seals s ON s.customer_id = kept.customer_id AND s.last_seq = kept.last_seq
""").bindparams(bindparam("customers", type_=ARRAY(Uuid)), bindparam("last_seqs", type_=ARRAY(BigInteger)))


def _witness_findings(session: Session, witness: Witness, doubtful: Collection[UUID]) -> Iterator[tuple[UUID, Finding]]:
    """Each customer's first entry that is not as the witness has it."""
    keys = iter(sorted(witness.books))
    while some := list(islice(keys, COMPARED)):
        named = {
            "customers": [UUID(bytes=key) for key in some],
            "last_seqs": [witness.books[key].last_seq for key in some],
        }
        heads = {row.customer_id: row.head for row in session.execute(_SEAL_HEADS, named)}
        for key in some:
            customer, book = UUID(bytes=key), witness.books[key]
            # The same head, and entries that match their seals: then they match the witness as well.
            if heads.get(customer) == book.head and customer not in doubtful:
                continue
            actual = entries_of(session, customer, last_seq=book.last_seq)
            found = first_difference(witness.leaves_of(key), actual)
            if found is not None:
                finding = look_up(session, customer, found, partial(witness.leaves_of, key))
                yield customer, finding
            elif heads.get(customer) != book.head:
                detail = f"the seals up to seq {book.last_seq} are not the witnessed ones; the entries are"
                yield customer, Finding("seal", str(customer), 1, None, detail)
