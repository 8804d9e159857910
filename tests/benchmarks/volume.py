"""Posting into a journal of millions of entries, and for a customer who has a million of them in one period."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.database import create_engine, upgrade
from ledger.balances import unbilled
from ledger.entries import NewEntry
from ledger.posting import post
from tests.benchmarks.ledger import BATCH, POST, open_customers
from tests.benchmarks.rounds import Way, show
from tests.benchmarks.sizes import FULL, Sizes
from tests.benchmarks.workload import ITEMS, MONTH, REGIONS, entries, take

AT_ONCE = 20_000  # rows of one INSERT while filling; each is judged by the guards like any other
SMALL = 100  # entries of the customer beside the big one
DATABASE = "filled"

INTO_FILLED = "ledger.post, into the filled journal"
TO_BIG, TO_SMALL = "ledger.post, to the big customer", "ledger.post, to a small customer"
BIG_TOTAL, SMALL_TOTAL = "what is unbilled, of the big customer", "what is unbilled, of a small customer"

FILL = """
    WITH given AS (
        SELECT %(customers)s::uuid[] AS customers, cardinality(%(customers)s::uuid[]) AS wide,
               %(month)s::timestamptz AS month, %(items)s::text[] AS items, %(regions)s::text[] AS regions
    )
    INSERT INTO ledger_entries (
           customer_id, id, transaction_id, seq, debit_account, credit_account, amount, effective_at, recorded_at,
           period_start, usage_period_start, item, quantity, labels, kind, actor, digest)
    SELECT customers[n %% wide + 1], md5(n || 'entry' || customers[1])::uuid, md5(n || customers[1]::text)::uuid,
           n / wide + 1, 'assets:unbilled', 'income:usage', (n %% 3600 + 1) * 0.0000008,
           month + n * 31 %% 720 * interval '1 hour', now(), month, month, items[n / 4 %% 4 + 1], n %% 3600 + 1,
           jsonb_build_object('app', 'app-' || n %% 3, 'region', regions[n %% 4 + 1],
                              'machine', 'e2865' || lpad((n %% 97)::text, 5, '0')),
           'usage', 'benchmark', sha256(n::text::bytea)
      FROM given CROSS JOIN generate_series(%(first)s::bigint, %(last)s::bigint) n
"""


@dataclass(frozen=True)
class Filled:
    """A database with a long journal: its engine, its usual customers, one with very many entries and one with few."""

    engine: Engine
    customers: list[UUID]
    big: UUID
    small: UUID
    count: int


@contextmanager
def filled(url: str, *, count: int, of_one: int, database: str = DATABASE) -> Iterator[Filled]:
    """A migrated database beside that of `url`, with `count` entries over its customers and `of_one` of one more."""
    plain = make_url(url).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    beside = make_url(url).set(database=database)
    upgrade(beside.render_as_string(hide_password=False))
    engine = create_engine(beside.render_as_string(hide_password=False))
    customers = open_customers(engine)
    (big, small) = open_customers(engine, 2)
    with Session(engine) as session, session.begin():
        post(session, [next(entries([customer])) for customer in (*customers, big, small)], now=MONTH)
    with psycopg.connect(
        plain.set(database=database).render_as_string(hide_password=False), autocommit=True
    ) as connection:
        _fill(connection, customers, count=count)
        _fill(connection, [big], count=of_one)
        _fill(connection, [small], count=SMALL)
        connection.execute("VACUUM ANALYZE")
    try:
        yield Filled(engine, customers, big, small, count + of_one)
    finally:
        engine.dispose()


def _fill(connection: psycopg.Connection, customers: list[UUID], *, count: int) -> None:
    # The first entry of each customer is there: posting opened the period with it.
    first, began = len(customers), time.monotonic()
    while first < count:
        last = min(first + AT_ONCE, count)
        # Whole rounds over the customers, so that each one's seq goes on without a gap.
        last -= last % len(customers)
        if last == first:
            return
        connection.execute(
            FILL,
            {
                "customers": sorted(customers),
                "month": MONTH,
                "items": list(ITEMS),
                "regions": list(REGIONS),
                "first": first,
                "last": last - 1,
            },
        )
        first = last
        show(f"filling: {first:,} of {count:,} entries, {first / (time.monotonic() - began):,.0f} a second")


def ways(there: Filled, *, sizes: Sizes = FULL) -> list[Way]:
    """Each compared with the same into the journal that holds next to nothing, or to the customer with few entries."""
    source = entries(there.customers, name=f"filled-{uuid4()}")
    to_big, to_small = entries([there.big], name=f"big-{uuid4()}"), entries([there.small], name=f"small-{uuid4()}")
    batches: dict[str, list[list[NewEntry]]] = {}

    def prepare(turn: int) -> int:
        for name, yielded in ((INTO_FILLED, source), (TO_BIG, to_big), (TO_SMALL, to_small)):
            batches[name] = [take(yielded, BATCH) for _ in range(sizes.batches)]
        return 1

    def posting(name: str) -> Way:
        def run(turn: int) -> int:
            for batch in batches[name]:
                with Session(there.engine) as session, session.begin():
                    post(session, batch, now=MONTH)
            return BATCH * sizes.batches

        return Way(name, "entries", run, beside={INTO_FILLED: POST, TO_BIG: TO_SMALL}.get(name))

    def reading(name: str, customer_id: UUID) -> Way:
        def run(turn: int) -> int:
            for _ in range(sizes.readings):
                with Session(there.engine) as session:
                    assert _unbilled(session, customer_id, MONTH) > 0
            return sizes.readings

        return Way(name, "readings", run, beside=SMALL_TOTAL if name == BIG_TOTAL else None)

    return [
        Way("preparing the filled", "", prepare),
        posting(INTO_FILLED),
        posting(TO_SMALL),
        posting(TO_BIG),
        reading(SMALL_TOTAL, there.small),
        reading(BIG_TOTAL, there.big),
    ]


def _unbilled(session: Session, customer_id: UUID, month: datetime) -> Decimal:
    return unbilled(session, customer_id=customer_id, period_start=month)
