"""Verification: everything that was sealed is computed anew from the journal, and what differs is named.

docs/tamper-evidence.md says what this proves, and against whom.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.offline_verifier import START, Finding, first_difference
from ledger.root_verification import Evidence, verify_evidence, verify_roots
from ledger.sealed_entries import RECORD, entries_of, id_at, look_up, sealed_of
from ledger.seals import unsealed

FETCHED = 50
"""Seals compared between two fetches: about half a second of work."""


@dataclass(slots=True)
class Verified:
    """What a verification saw. `findings` has the first of each customer, then those that are about no customer."""

    books: int = 0
    seals: int = 0
    entries: int = 0
    roots: int = 0
    matched: list[str] = field(default_factory=list)
    """The printed roots and witnesses that were given, and that still hold."""
    unsealed: int = 0
    oldest_unsealed_at: datetime | None = None
    findings: list[Finding] = field(default_factory=list)


# Each seal reaches back to the end of the one before it, the first to the beginning of all numbers: so an entry that
# was slipped in anywhere falls into the range of some seal, even where its seq should be impossible.
_SEALS = text(f"""
    SELECT s.customer_id, s.first_seq, s.last_seq, s.after_seq, s.previous_head, s.head,
           a.entries = s.entries AS entries_match,
           sha256(convert_to('fly-billing seal 1', 'UTF8') || s.previous_head || uuid_send(s.customer_id)
                  || int8send(s.first_seq) || int8send(s.last_seq)
                  || int8send(CASE WHEN isfinite(s.sealed_at)
                              THEN (extract(epoch FROM s.sealed_at) * 1000000)::bigint END)
                  || s.entries) = s.head AS head_matches
      FROM (SELECT x.*, lag(x.last_seq, 1, '-9223372036854775808'::bigint)
                        OVER (PARTITION BY x.customer_id ORDER BY x.first_seq) AS after_seq
              FROM public.ledger_seals x) s
      LEFT JOIN public.ledger_books b ON b.customer_id = s.customer_id
     CROSS JOIN LATERAL (SELECT coalesce(string_agg({RECORD}, ''::bytea ORDER BY e.seq, e.id), '') AS entries
                           FROM public.ledger_entries e
                          WHERE e.customer_id = s.customer_id AND e.seq > s.after_seq AND e.seq <= s.last_seq) a
     ORDER BY s.customer_id, s.first_seq
""")  # noqa: S608 - constants only

# What is not sealed yet can only be held against the books' own count, the order of its times, and the running totals.
_TAILS = text("""
    SELECT b.customer_id, b.last_seq, coalesce(s.last_seq, 0) AS sealed_seq, t.*, u.unnumbered, c.counted
      FROM public.ledger_books b
      LEFT JOIN LATERAL (SELECT last_seq FROM public.ledger_seals
                          WHERE customer_id = b.customer_id ORDER BY first_seq DESC LIMIT 1) s ON true
     CROSS JOIN LATERAL (
           SELECT count(*) FILTER (WHERE e.seq > coalesce(s.last_seq, 0)) AS entries,
                  min(e.expected) FILTER (WHERE e.seq > e.expected) AS vacant_seq,
                  min(e.seq) FILTER (WHERE e.seq < e.expected OR e.seq > b.last_seq) AS extra_seq,
                  min(e.seq) FILTER (WHERE e.recorded_at < e.recorded_before) AS back_dated_seq
             FROM (SELECT x.seq, x.recorded_at, lag(x.recorded_at) OVER (ORDER BY x.seq, x.id) AS recorded_before,
                          coalesce(s.last_seq, 1) + row_number() OVER (ORDER BY x.seq, x.id) - 1 AS expected
                     FROM public.ledger_entries x
                    WHERE x.customer_id = b.customer_id
                      AND x.seq >= coalesce(s.last_seq, '-9223372036854775808'::bigint)) e) t
     CROSS JOIN LATERAL (SELECT CASE WHEN t.entries > 0 OR b.last_seq > coalesce(s.last_seq, 0)
                                THEN (SELECT coalesce(sum(entries), 0)::bigint FROM public.ledger_totals
                                       WHERE customer_id = b.customer_id) END AS counted) c
     CROSS JOIN LATERAL (SELECT count(*) AS unnumbered FROM public.ledger_entries
                          WHERE customer_id = b.customer_id AND seq IS NULL) u
     WHERE t.entries > 0 OR u.unnumbered > 0 OR b.last_seq <> coalesce(s.last_seq, 0)
     ORDER BY b.customer_id
""")

# Looks for the next customer instead of reading every entry: as many looks into an index as there are customers.
_WITHOUT_BOOKS = text("""
    WITH RECURSIVE customers AS (
        (SELECT customer_id FROM public.ledger_entries ORDER BY customer_id LIMIT 1)
        UNION ALL
        SELECT (SELECT e.customer_id FROM public.ledger_entries e
                 WHERE e.customer_id > c.customer_id ORDER BY e.customer_id LIMIT 1)
          FROM customers c WHERE c.customer_id IS NOT NULL)
    SELECT customer_id FROM (
        SELECT customer_id FROM customers UNION SELECT customer_id FROM public.ledger_seals
        UNION SELECT customer_id FROM public.ledger_root_heads) known
     WHERE customer_id IS NOT NULL AND NOT EXISTS (SELECT FROM public.ledger_books b
                                                    WHERE b.customer_id = known.customer_id)
""")


def verify(
    session: Session, *, evidence: Sequence[Evidence] = (), progress: Callable[[Verified], None] | None = None
) -> Verified:
    """Compare the journal with its seals, the seals with the roots, and all with what was printed or kept elsewhere.

    Reads everything that was sealed, holds one range in memory, and writes nothing. Give it a session of its own in a
    REPEATABLE READ transaction, or what is posted meanwhile may look like tampering; it sets that transaction's search
    path.
    """
    # With the catalogue first no function or operator of ours can stand in for one of Postgres's. A sequential scan
    # for each seal, which a table without statistics may suggest, would never end.
    session.execute(text("SET LOCAL search_path = pg_catalog, public, pg_temp"))
    session.execute(text("SET LOCAL enable_seqscan = off"))
    session.execute(text("SET LOCAL jit = off"))
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    report = Verified()
    first: dict[UUID, Finding] = {}
    for customer, finding in _seal_findings(session, report, progress):
        first.setdefault(customer, finding)
    roots = verify_roots(session)
    for customer, finding in roots.by_customer:
        first.setdefault(customer, finding)
    for customer, finding in _tail_findings(session):
        first.setdefault(customer, finding)
    witnessed = verify_evidence(session, evidence, roots=roots, doubtful=first.keys())
    # A witness was kept elsewhere: where it names an entry, it knows better than what stands in this database.
    first.update(witnessed.by_customer)
    report.roots, report.matched = len(roots.roots), witnessed.matched
    for customer in session.scalars(_WITHOUT_BOOKS):
        first.setdefault(customer, Finding("books", str(customer), None, None, "its books are gone or never were"))
    report.findings = [first[customer] for customer in sorted(first)] + roots.loose + witnessed.loose
    waiting = unsealed(session)
    report.unsealed, report.oldest_unsealed_at = waiting.entries, waiting.oldest_recorded_at
    return report


def _seal_findings(
    session: Session, report: Verified, progress: Callable[[Verified], None] | None
) -> Iterator[tuple[UUID, Finding]]:
    """The first thing that is wrong in each customer's sealed entries."""
    customer: UUID | None = None
    head, next_seq, broken = START, 1, False
    for seal in session.execute(_SEALS, execution_options={"yield_per": FETCHED}):
        if seal.customer_id != customer:
            customer, head, next_seq, broken = seal.customer_id, START, 1, False
            report.books += 1
        report.seals += 1
        report.entries += seal.last_seq - seal.first_seq + 1
        if progress is not None and report.seals % FETCHED == 0:
            progress(report)
        if broken:
            continue
        whole = seal.head_matches and seal.previous_head == head and seal.first_seq == next_seq
        head, due_seq, next_seq = seal.head, next_seq, seal.last_seq + 1
        if whole and seal.entries_match:
            continue
        broken = True
        yield seal.customer_id, _name(session, seal, due_seq=due_seq)


def _name(session: Session, seal: Any, *, due_seq: int) -> Finding:
    """Say what is wrong in this range: which entry, or, if the entries are as they were, what about the seal."""
    customer: UUID = seal.customer_id
    if seal.first_seq > due_seq:
        detail = f"the seals over seq {due_seq} to {seal.first_seq - 1} are gone"
        return Finding("seal", str(customer), due_seq, None, detail)
    actual = entries_of(session, customer, after_seq=seal.after_seq, last_seq=seal.last_seq)
    sealed = (leaf for leaf in sealed_of(session, customer) if seal.after_seq < leaf.seq <= seal.last_seq)
    found = first_difference(sealed, actual)
    if found is not None:
        return look_up(session, customer, found)
    detail = "a seal before this one was changed" if seal.head_matches else "this seal was changed"
    return Finding("seal", str(customer), seal.first_seq, None, f"{detail}; the entries are as it says")


def _tail_findings(session: Session) -> Iterator[tuple[UUID, Finding]]:
    """What is wrong with the entries that no seal covers, as far as that can be known."""
    for tail in session.execute(_TAILS):
        found = _tail_finding(tail)
        if found is not None:
            kind, seq, detail = found
            entry = id_at(session, tail.customer_id, seq) if seq is not None else None
            named = str(entry) if entry is not None else None
            yield tail.customer_id, Finding(kind, str(tail.customer_id), seq, named, detail)


def _tail_finding(tail: Any) -> tuple[str, int | None, str] | None:
    if tail.last_seq < tail.sealed_seq:
        return "books", tail.sealed_seq, f"the books count up to {tail.last_seq} only, but this seq was sealed"
    if tail.unnumbered:
        return "inserted", None, f"{tail.unnumbered:,} entries without a seq"
    if tail.extra_seq is not None:
        return "inserted", tail.extra_seq, f"not sealed yet, and the books count up to {tail.last_seq} only"
    if tail.vacant_seq is not None:
        return "removed", tail.vacant_seq, "not sealed yet, and missing between others"
    due = tail.last_seq - tail.sealed_seq
    if tail.entries < due:
        return "removed", tail.sealed_seq + tail.entries + 1, f"not sealed yet; the books count up to {tail.last_seq}"
    if tail.back_dated_seq is not None:
        return "inserted", tail.back_dated_seq, "not sealed yet, and recorded before the entry in front of it"
    if tail.counted != tail.last_seq:
        only = tail.sealed_seq + 1 if due == 1 else None
        kind = "inserted" if tail.counted < tail.last_seq else "removed"
        detail = f"among entries not sealed yet: there are {tail.last_seq:,}, the running totals count {tail.counted:,}"
        return kind, only, detail
    return None
