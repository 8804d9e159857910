"""Sealing: what is committed is bound into a chain of hashes per customer, so that a later change shows.

Postgres computes each seal from the journal itself (migration 0005); this module says which entries are due.
`ledger.verification` computes everything anew, and docs/tamper-evidence.md says what it proves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Engine, Row, Uuid, bindparam, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ledger.roots import make_root

RANGE = 1_000
"""Entries in one seal, at most; the table refuses more."""
RANGES_AT_ONCE = 100
"""Seals per transaction: a kill loses at most about a second of work, and nobody waits for long."""


@dataclass(slots=True)
class SealSummary:
    """What a run did. `root` is `DAY:HASH` if it made one, else empty; `unsealed` are entries that came meanwhile."""

    entries: int = 0
    ranges: int = 0
    books: int = 0
    root: str = ""
    unsealed: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What no seal covers yet: nothing would show if somebody rewrote it."""

    entries: int
    books: int
    oldest_recorded_at: datetime | None


# The newest seal of each book is one look into an index, however many seals there are.
_BEHIND = """
    SELECT b.customer_id, b.last_seq, coalesce(s.last_seq, 0) AS sealed_seq
      FROM ledger_books b
      LEFT JOIN LATERAL (SELECT last_seq FROM ledger_seals
                          WHERE customer_id = b.customer_id ORDER BY first_seq DESC LIMIT 1) s ON true
     WHERE b.last_seq > coalesce(s.last_seq, 0)
"""

_UNSEALED = f"""
    SELECT coalesce(sum(u.last_seq - u.sealed_seq), 0)::bigint AS entries, count(*) AS books,
           min(e.recorded_at) AS oldest_recorded_at
      FROM ({_BEHIND}) u
      LEFT JOIN ledger_entries e ON e.customer_id = u.customer_id AND e.seq = u.sealed_seq + 1
"""  # noqa: S608 - constants only

# Only a plan: the trigger counts on from what is sealed by then, so of two who plan the same the second does nothing.
_PLAN = text(f"""
    SELECT due.customer_id, least(range_end, due.last_seq) AS last_seq
      FROM ({_BEHIND} AND b.customer_id >= :since ORDER BY b.customer_id LIMIT :limit) due
     CROSS JOIN LATERAL generate_series(due.sealed_seq + {RANGE}, due.last_seq + {RANGE} - 1, {RANGE}) AS range_end
     ORDER BY 1, 2 LIMIT :limit
""")  # noqa: S608 - constants only

# In order of the customers: two who seal at once wait for each other in one direction only.
_SEAL = text("""
    INSERT INTO ledger_seals (customer_id, last_seq)
    SELECT customer_id, last_seq FROM unnest(:customers, :last_seqs) AS due (customer_id, last_seq) ORDER BY 1, 2
        ON CONFLICT (customer_id, first_seq) DO NOTHING
    RETURNING customer_id, first_seq, last_seq
""").bindparams(bindparam("customers", type_=ARRAY(Uuid)), bindparam("last_seqs", type_=ARRAY(BigInteger)))


def seal_due(
    engine: Engine,
    *,
    now: datetime,
    at_once: int = RANGES_AT_ONCE,
    progress: Callable[[SealSummary], None] | None = None,
) -> SealSummary:
    """Seal every committed entry, then make the root of the last finished UTC day if there is none. Commits by itself.

    Safe to run twice, in two processes, while others post, and after a kill: each transaction seals whole ranges of at
    most RANGE entries. Books whose journal has a hole are named in `problems` and do not keep the others waiting.
    """
    summary = SealSummary()
    sealed_books: set[UUID] = set()
    since = UUID(int=0)
    while True:
        with Session(engine) as session:
            plan = session.execute(_PLAN, {"since": since, "limit": at_once}).all()
        sealed, failed = _seal_planned(engine, plan, summary.problems)
        summary.entries += sum(row.last_seq - row.first_seq + 1 for row in sealed)
        summary.ranges += len(sealed)
        sealed_books |= {row.customer_id for row in sealed}
        summary.books = len(sealed_books)
        if progress is not None:
            progress(summary)
        if len(plan) < at_once:
            break
        # The last books may have more ranges than fitted; if they cannot be sealed, go on behind them.
        since = plan[-1].customer_id
        if since in failed:
            since = UUID(int=since.int + 1)
    root = make_root(engine, now=now)
    summary.root = root.printed if root is not None else ""
    with Session(engine) as session:
        summary.unsealed = unsealed(session).entries
    return summary


def _seal_planned(
    engine: Engine, plan: Sequence[Row[Any]], problems: list[str]
) -> tuple[Sequence[Row[Any]], set[UUID]]:
    """Seal these ranges in one transaction; if that is refused, range by range up to each book's first problem."""
    try:
        return _seal(engine, plan), set()
    except IntegrityError:
        pass
    sealed: list[Row[Any]] = []
    failed: set[UUID] = set()
    for due in plan:
        if due.customer_id not in failed:
            try:
                sealed += _seal(engine, [due])
            except IntegrityError as error:
                failed.add(due.customer_id)
                problems.append(str(error.orig).strip().splitlines()[0])
    return sealed, failed


def _seal(engine: Engine, due: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    if not due:
        return []
    named = {"customers": [row.customer_id for row in due], "last_seqs": [row.last_seq for row in due]}
    with Session(engine) as session, session.begin():
        return session.execute(_SEAL, named).all()


def unsealed(session: Session) -> Unsealed:
    """How much of the journal no seal covers yet, and since when the oldest of it waits. Reads one snapshot."""
    return Unsealed(*session.execute(text(_UNSEALED)).one())
