"""The processes of the sweeps: one that does a flow and may die on its way, one that finishes what it left, a sandbox.

Everything here runs in a process that was forked for it, with the product's own code, a real Postgres, a real Redis
and a real sandbox. `act` is what a command, a worker or a web process does; `settle` is what happens after a death:
whoever asked asks again, time passes, leases run out, Stripe delivers again, cron comes by until nothing is left.
"""

import json
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.composition import Billing
from stripe_gateway.errors import GatewayError
from stripe_gateway.sandbox.__main__ import main as sandbox_main
from tests.faults import invariants
from tests.faults.boundaries import Death, Instruments, be_impatient
from tests.faults.flows import FLOWS, Run, deliver, work_off
from tests.faults.place import Place, quieten

LIMIT_S = 240.0
"""A process that takes longer hangs."""
TRACE, VERDICT = "trace.jsonl", "verdict.json"
PAUSES = (0, 1, 30, 600, 4_000, 4_000, 30_000, 90_000, 4_000)
"""Seconds that pass between two rounds after a death: a retry, a lease, an hour's doubt, the life of a key."""
LONG_S = 600
"""A pause in which everything arrives that was under way."""


def serve_sandbox(folder: str, words: list[str]) -> None:
    """Be a sandbox until killed."""
    quieten(folder, "sandbox")
    sandbox_main(words)


def wait_for_port(said: Path, *, is_alive: Callable[[], bool], limit_s: float = 30.0) -> int:
    """The port that a sandbox wrote down once it could be spoken to."""
    end = time.monotonic() + limit_s
    while not (said.exists() and said.read_text()):
        if not is_alive() or time.monotonic() > end:
            logs = "".join(path.read_text() for path in said.parent.glob("sandbox.log"))
            raise RuntimeError(f"the sandbox did not start:\n{logs}")
        time.sleep(0.005)
    return int(said.read_text())


def act(place: Place, flow: str, death: Death | None) -> None:
    """Do the flow once, writing down every boundary; die at the one that is named."""
    quieten(place.folder, "act")
    run = Run(place, datetime.now(UTC))
    instruments = Instruments(Path(place.folder) / TRACE, death=death)
    instruments.install()
    FLOWS[flow].act(run)


def act_hindered(place: Place, flow: str, patience_s: float | None) -> None:
    """Do the flow once while something befalls it; what it could not do is left for `settle`, as for the next cron."""
    quieten(place.folder, "act")
    if patience_s is not None:
        be_impatient(patience_s)
    try:
        FLOWS[flow].act(Run(place, datetime.now(UTC)))
    except GatewayError:
        traceback.print_exc()


def prepare(place: Place, flow: str) -> None:
    """Do the flow once, unobserved."""
    quieten(place.folder, "prepare")
    FLOWS[flow].act(Run(place, datetime.now(UTC)))


def settle(place: Place, flow: str, seed: int, arrived_at: float) -> None:
    """Ask for the flow again, let everything come to its end, and judge: the verdict is a file of the place.

    `arrived_at`, in seconds since 1970, is when what is still under way to Stripe has arrived there.
    """
    quieten(place.folder, "settle")
    billing = place.billing
    started = datetime.now(UTC)
    before = invariants.journal_rows(billing.engine)
    expire_leases(billing)
    FLOWS[flow].act(Run(place, started))
    now = bring_to_rest(place, billing, seed=seed, now=started, arrived_at=arrived_at)
    verdict = judge(place, before=before, now=now)
    Path(place.folder, VERDICT).write_text(json.dumps(verdict, indent=1))


def look_again(place: Place) -> None:
    """Judge anew, after somebody woke who should have had no say any more."""
    quieten(place.folder, "settle")
    verdict = judge(place, before=invariants.journal_rows(place.billing.engine), now=datetime.now(UTC))
    Path(place.folder, VERDICT).write_text(json.dumps(verdict, indent=1))


def end_idle_transactions(place: Place) -> None:
    """Two minutes pass: Postgres ends the transaction of whoever fell asleep in it (see `app.database`)."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND state LIKE 'idle in trans%%'"
    url = make_url(place.database_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(query, [url.database])


def judge(place: Place, *, before: set[str], now: datetime) -> dict[str, Any]:
    """What is wrong, and the books, in the form in which they are compared."""
    verdict = {
        "violations": invariants.violations(place, place.billing, before=before, now=now),
        "books": invariants.books(place, place.billing),
    }
    compared: dict[str, Any] = json.loads(json.dumps(verdict, default=str))
    return compared


def bring_to_rest(place: Place, billing: Billing, *, seed: int, now: datetime, arrived_at: float = 0.0) -> datetime:
    """Let time pass and everybody work until nothing is due; returns what time it is then."""
    stripe = place.stripe()
    for pause_s in PAUSES:
        if pause_s >= LONG_S:
            time.sleep(max(0.0, arrived_at - time.time()))
        now += timedelta(seconds=pause_s)
        stripe.control("clock", advance_s=pause_s)
        expire_leases(billing)
        run = Run(place, now)
        # Everything is delivered once more; later only what is new.
        delivered = deliver(run, seed=seed, only_new=pause_s != PAUSES[0])
        work_off(run)
        stripe.control("clock", advance_s=0)  # what is due at Stripe is done now
        if not unfinished(billing) and len(stripe.events()) == delivered:
            break
    return now


LEASED = text("SELECT table_name FROM information_schema.columns WHERE column_name = 'lease_until' ORDER BY 1")
UNFINISHED_STATES = ("due", "waiting", "unknown", "pending")


def expire_leases(billing: Billing) -> None:
    """Half a minute passes: what a dead process held is free."""
    with Session(billing.engine) as session, session.begin():
        for table in session.scalars(LEASED).all():
            session.execute(
                text(
                    f"UPDATE {table} SET lease_until = clock_timestamp() - interval '1 second'"  # noqa: S608 - our table
                    " WHERE lease_until IS NOT NULL"
                )
            )


def unfinished(billing: Billing) -> list[str]:
    """What is still due, as `table: state`."""
    found = []
    with Session(billing.engine) as session:
        for table in session.scalars(LEASED).all():
            rows = session.execute(text(f"SELECT state, count(*) FROM {table} GROUP BY 1"))  # noqa: S608 - our table
            found += [f"{table}: {count} {state}" for state, count in rows if state in UNFINISHED_STATES]
    return found
