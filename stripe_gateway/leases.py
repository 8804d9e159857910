"""Leases with fencing: how one process at a time works on a row, even if another one sleeps through its own end.

A claim raises the row's `fence` and sets `lease_until` by the database's clock. Every later write names the fence that
its claim gave it; once somebody else has claimed the row, that write touches nothing. A row that is let go has no
`lease_until`, so one whose lease ran out was left in the middle of something: `unsure_at` then remembers when.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import TextClause, text, update
from sqlalchemy.orm import Session

from stripe_gateway.errors import LeaseLost
from stripe_gateway.tables import StripeCustomer, StripeEvent, StripeOperation, StripeSync

LEASE_S = 30  # longer than any one call to Stripe with its time-outs; what a killed process held is free after it

Leased = TypeVar("Leased", StripeSync, StripeOperation, StripeCustomer, StripeEvent)

KEYS: dict[type[Any], tuple[str, ...]] = {
    StripeSync: ("customer_id", "invoice_id"),
    StripeOperation: ("customer_id", "id"),
}
"""The columns that name an errand's row."""

# What a claim does to a row. A lease that ran out means that a process died at work: something may have been sent.
_CLAIMED = """
       SET fence = s.fence + 1, attempts = s.attempts + 1,
           unsure_at = CASE WHEN s.lease_until IS NULL THEN s.unsure_at
                            ELSE greatest(s.unsure_at, least(s.lease_until, :now)) END,
           lease_until = clock_timestamp() + make_interval(secs => :lease_s)
"""
_FREE = "(s.lease_until IS NULL OR s.lease_until < clock_timestamp())"
_DUE = f"s.state IN ('due', 'waiting', 'unknown') AND s.next_attempt_at <= :now AND {_FREE}"


# The inner SELECT skips rows that others are claiming at this moment; the state and the lease are looked at under the
# row's lock, so two claims can never both succeed.
def _claim_next(table: str, subject: str) -> TextClause:
    return text(f"""
        WITH due AS MATERIALIZED (
            SELECT s.customer_id, s.{subject} FROM {table} s
             WHERE {_DUE}
          ORDER BY s.next_attempt_at, s.customer_id, s.{subject}
             LIMIT 1 FOR UPDATE SKIP LOCKED)
        UPDATE {table} s {_CLAIMED}
          FROM due
         WHERE s.customer_id = due.customer_id AND s.{subject} = due.{subject}
     RETURNING s.*
    """)  # noqa: S608 - names of ours


def _claim_one(table: str, subject: str) -> TextClause:
    return text(f"""
        UPDATE {table} s {_CLAIMED}
         WHERE s.customer_id = :customer_id AND s.{subject} = :{subject} AND {_DUE}
     RETURNING s.*
    """)


CLAIM_SYNC = _claim_next("stripe_syncs", "invoice_id")
CLAIM_ONE_SYNC = _claim_one("stripe_syncs", "invoice_id")
CLAIM_OPERATION = _claim_next("stripe_operations", "id")
CLAIM_ONE_OPERATION = _claim_one("stripe_operations", "id")

# Also what is parked or not due yet: whoever takes an invoice back does not wait for its next attempt.
CLAIM_SYNC_TO_CANCEL = text(f"""
    UPDATE stripe_syncs s {_CLAIMED}
     WHERE s.customer_id = :customer_id AND s.invoice_id = :invoice_id AND s.state NOT IN ('done', 'canceled')
       AND {_FREE}
 RETURNING s.*
""")

CLAIM_CUSTOMER = text(f"""
    UPDATE stripe_customers s {_CLAIMED}
     WHERE s.customer_id = :customer_id AND {_DUE}
 RETURNING s.*
""")

CLAIM_EVENT = text("""
    WITH due AS MATERIALIZED (
        SELECT id FROM stripe_events
         WHERE state = 'pending' AND next_attempt_at <= :now
           AND (lease_until IS NULL OR lease_until < clock_timestamp())
           AND (CAST(:id AS text) IS NULL OR id = :id)
      ORDER BY next_attempt_at, received_at, id
         LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE stripe_events s
       SET fence = s.fence + 1, attempts = s.attempts + 1,
           lease_until = clock_timestamp() + make_interval(secs => :lease_s)
      FROM due
     WHERE s.id = due.id
 RETURNING s.*
""")


def write(session: Session, row: Leased, *, keys: Sequence[str], keep_lease: bool, values: dict[str, Any]) -> Leased:
    """Change a claimed row, if its claim still holds; `keep_lease` renews the lease, otherwise it is let go.

    The caller commits. Returns the row as it is now.

    Raises:
        LeaseLost: somebody else claimed or finished it; nothing was written.
    """
    table = type(row)
    lease = text(f"clock_timestamp() + interval '{LEASE_S} seconds'") if keep_lease else None
    statement = (
        update(table)
        .where(*(getattr(table, key) == getattr(row, key) for key in keys), table.fence == row.fence)
        .values(lease_until=lease, **values)
        .returning(table)
        .execution_options(populate_existing=True)
    )
    written = session.scalars(statement).one_or_none()
    if written is None:
        raise LeaseLost("Another process took this work over while we waited; it goes on from what is stored.")
    return written


def back_off_s(attempts: int, *, dice: float, first_s: float = 0.5, longest_s: float = 600.0) -> float:
    """How long to wait after that many attempts in a row, in seconds; `dice` in [0, 1) spreads the herd."""
    return min(longest_s, first_s * 2.0 ** min(max(attempts, 1) - 1, 30)) * (0.5 + dice / 2)
