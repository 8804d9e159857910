"""Entries as seals see them: read from the journal and hashed anew, or read from the seals.

The hashes are computed by a query that stands here, never by a function that lives in the database, where whoever
rewrites the journal could rewrite it as well.
"""

from collections.abc import Callable, Iterator
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.offline_verifier import Difference, Finding, Leaf, explain, leaves, sealed_seq

LOWEST = -(2**63)
"""Below every seq that a bigint can hold, possible or not."""

# One entry as seals hold it. Everything is spelled by types of Postgres itself, whatever the session's settings are.
RECORD = """uuid_send(e.id) || sha256(convert_to(json_build_array(
    e.customer_id, e.seq::text, e.id, e.transaction_id, extract(epoch FROM e.effective_at)::text,
    extract(epoch FROM e.recorded_at)::text, e.debit_account, e.credit_account, trim_scale(e.amount)::text, b.currency,
    e.item, trim_scale(e.quantity)::text, e.kind, extract(epoch FROM e.period_start)::text,
    extract(epoch FROM e.usage_period_start)::text, e.document_id, e.price_id, e.reverses_id, e.actor, e.reason,
    e.labels, encode(e.digest, 'hex'))::text, 'UTF8'))"""

_ENTRIES = text(f"""
    SELECT e.seq, {RECORD} AS record
      FROM public.ledger_entries e LEFT JOIN public.ledger_books b ON b.customer_id = e.customer_id
     WHERE e.customer_id = :customer_id AND e.seq > :after_seq AND e.seq <= :last_seq ORDER BY e.seq, e.id
""")  # noqa: S608 - constants only

_SEALED = text("""
    SELECT first_seq, entries FROM public.ledger_seals WHERE customer_id = :customer_id ORDER BY first_seq
""")
_ID = text("SELECT id FROM public.ledger_entries WHERE customer_id = :customer_id AND seq = :seq ORDER BY id LIMIT 1")
_STANDS_AT = text("SELECT seq FROM public.ledger_entries WHERE customer_id = :customer_id AND id = :entry_id")


def look_up(
    session: Session, customer: UUID, found: Difference, sealed: Callable[[], Iterator[Leaf]] | None = None
) -> Finding:
    """Find where both entries of a difference stand and were sealed, and say what happened."""
    if found.sealed is not None:
        entry = {"customer_id": customer, "entry_id": UUID(bytes=found.sealed.id)}
        found.stands_at = set(session.scalars(_STANDS_AT, entry))
    if found.actual is not None:
        run = sealed() if sealed is not None else sealed_of(session, customer)
        found.sealed_at = sealed_seq(run, found.actual.id)
    return explain(customer.bytes, found)


def entries_of(session: Session, customer: UUID, *, after_seq: int = LOWEST, last_seq: int) -> Iterator[Leaf]:
    """A customer's entries as the journal has them now, hashed: those after `after_seq`, up to `last_seq`; streamed."""
    at = {"customer_id": customer, "after_seq": after_seq, "last_seq": last_seq}
    for row in session.execute(_ENTRIES, at, execution_options={"yield_per": 1_000}):
        yield Leaf(row.seq, row.record[:16], row.record[16:])


def sealed_of(session: Session, customer: UUID) -> Iterator[Leaf]:
    """A customer's entries as their seals have them; streamed."""
    for seal in session.execute(_SEALED, {"customer_id": customer}, execution_options={"yield_per": 20}):
        yield from leaves(seal.first_seq, seal.entries)


def id_at(session: Session, customer: UUID, seq: int) -> UUID | None:
    """Which entry has this seq now."""
    found: UUID | None = session.scalar(_ID, {"customer_id": customer, "seq": seq})
    return found
