"""The witness file: every entry's id and hash up to one root, to be kept where nobody can rewrite it.

One JSON object per line: first the root, then each seal, in the order of customers and seq. What it proves does not
hang on the file: its hashes add up to the root, and the root is what gets printed. Read by `ledger.offline_verifier`.
"""

import base64
import json
from collections.abc import Iterator
from datetime import date
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger import offline_verifier
from ledger.errors import LedgerError
from ledger.roots import find_root, microseconds

FETCHED = 20
"""Seals fetched at a time, up to 48 kB each."""


class SealsBroken(LedgerError):
    """The seals do not add up to the root. Run `billing ledger verify`: it says what was changed."""

    code = "seals_broken"


_SEALS = text("""
    SELECT s.customer_id, s.first_seq, s.last_seq, s.sealed_at, s.entries
      FROM ledger_books b
     CROSS JOIN LATERAL (SELECT h.last_seq FROM ledger_root_heads h
                          WHERE h.customer_id = b.customer_id AND h.day <= :day ORDER BY h.day DESC LIMIT 1) h
      JOIN ledger_seals s ON s.customer_id = b.customer_id AND s.last_seq <= h.last_seq
     ORDER BY s.customer_id, s.first_seq
""")


def witness_lines(session: Session, *, day: date | None = None) -> Iterator[str]:
    """The witness file of that day's root, or of the newest one's, line by line. Run it in one snapshot.

    Raises:
        RootNotFound: there is no root yet, or none of that day.
        SealsBroken: at the end, if what was read does not add up to the root: do not keep what was written.
    """
    root = find_root(session, day=day)
    yield _line(
        {
            "witness": "fly-billing",
            "form": offline_verifier.FORM,
            "day": root.day.isoformat(),
            "root": root.root.hex(),
            "previous_root": root.previous_root.hex(),
            "made_at_us": root.made_at_us,
            "books": root.books,
            "entries": root.entries,
        }
    )
    heads: dict[UUID, tuple[int, bytes]] = {}
    for seal in session.execute(_SEALS, {"day": root.day}, execution_options={"yield_per": FETCHED}):
        _, before = heads.get(seal.customer_id, (0, offline_verifier.START))
        sealed_at_us = microseconds(seal.sealed_at)
        head = offline_verifier.seal_head(
            before, seal.customer_id.bytes, seal.first_seq, seal.last_seq, sealed_at_us, seal.entries
        )
        heads[seal.customer_id] = (seal.last_seq, head)
        yield _line(
            {
                "customer_id": str(seal.customer_id),
                "first_seq": seal.first_seq,
                "last_seq": seal.last_seq,
                "sealed_at_us": sealed_at_us,
                "entries": base64.b64encode(seal.entries).decode(),
            }
        )
    records = (offline_verifier.head_record(key.bytes, *heads[key]) for key in sorted(heads))
    computed = offline_verifier.root_hash(
        root.day.isoformat(), root.previous_root, root.made_at_us, root.books, root.entries, records
    )
    if computed != root.root:
        raise SealsBroken


def _line(content: dict[str, object]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"
