"""How many webhooks a second the real web server takes, and how long Stripe waits for its answer.

`python -m tests.benchmarks.webhooks` runs it alone, against servers of its own.
"""

import argparse
import hashlib
import hmac
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from app.database import upgrade
from app.embedded import state as states

SENDERS = 8  # connections at once, as many as the web server has threads
SECONDS = 10.0
START_S = 30.0
DATABASE = "billing_webhooks"
SECRET = "whsec_benchmark"
LINES = 20  # of the invoice in each event: about 8 KB, as an invoice of Stripe's has


@dataclass(frozen=True)
class Accepted:
    """What came of a run; times in milliseconds, from the first byte sent to the last one read."""

    events: int
    seconds: float
    p50_ms: float
    p99_ms: float
    body_bytes: int

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def body_of(number: int) -> bytes:
    """An event about an invoice of ordinary size; each has an id of its own."""
    line = {"id": "il_1", "object": "line_item", "amount": 1234, "description": "machine-seconds " * 20, "metadata": {}}
    invoice = {"id": f"in_{number}", "object": "invoice", "status": "paid", "lines": {"data": [line] * LINES}}
    event = {
        "id": f"evt_{os.getpid()}_{number}",
        "object": "event",
        "type": "invoice.updated",
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": invoice},
    }
    return json.dumps(event).encode()


def signature(body: bytes) -> str:
    stamp = int(time.time())
    return f"t={stamp},v1={hmac.new(SECRET.encode(), f'{stamp}.'.encode() + body, hashlib.sha256).hexdigest()}"


def run(url: str, redis_url: str, folder: Path, *, seconds: float = SECONDS) -> Accepted:
    """Deliver from `SENDERS` connections for so long to `billing web`, in a database beside that of `url`."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    database_url = make_url(url).set(database=DATABASE).render_as_string(hide_password=False)
    upgrade(database_url)
    port = states.choose_port()
    environment = {
        "DATABASE_URL": make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False),
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": "sk_test_sandbox_benchmark",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": SECRET,
        "SECRET_KEY": "a secret of the benchmark, long enough",
        "BILLING_WEB_PORT": str(port),
        "BILLING_VAR": str(folder / "web"),
        "BILLING_AUTOSTART": "0",
    }
    with (folder / "web.log").open("wb") as log:
        web = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "web"], env=os.environ | environment, stdout=log, stderr=log
        )
    try:
        _wait(port)
        _deliver(port, seconds=min(1.0, seconds))  # warms up: connections, statements, code
        taken, waits = _deliver(port, seconds=seconds)
    finally:
        web.terminate()
        web.wait(timeout=20)
    cuts = statistics.quantiles(waits, n=100)
    return Accepted(len(waits), taken, cuts[49] * 1000, cuts[98] * 1000, len(body_of(0)))


def _wait(port: int) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        if time.monotonic() > end:
            raise RuntimeError("the web server did not start")
        time.sleep(0.1)


_numbers = iter(range(1, sys.maxsize))
_drawing = threading.Lock()


def _deliver(port: int, *, seconds: float) -> tuple[float, list[float]]:
    """Deliver until the time is over; how long it took, and how long each answer did. Any other answer ends the run."""
    waits: list[float] = []
    failures: list[str] = []
    began = time.perf_counter()

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while time.perf_counter() - began < seconds and not failures:
            with _drawing:
                number = next(_numbers)
            body = body_of(number)
            headers = {"Stripe-Signature": signature(body), "Content-Type": "application/json"}
            sent = time.perf_counter()
            connection.request("POST", "/webhooks/stripe", body, headers)
            answer = connection.getresponse()
            answer.read()
            waits.append(time.perf_counter() - sent)
            if answer.status != 200:
                failures.append(f"{answer.status} for event {number}")
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    return time.perf_counter() - began, waits


def section(found: Accepted) -> str:
    """The report's part about webhooks."""
    return f"""
## Webhooks

Signed events of {found.body_bytes / 1000:.0f} KB from {SENDERS} connections to `billing web` (2 processes, 4 threads
each), each verified, stored, committed and answered; senders, web server and Postgres share the machine:

| figure | reached |
|---|---|
| webhooks accepted a second | {found.rate:,.0f} |
| answer within, half of them | {found.p50_ms:.0f} ms |
| answer within, 99 of 100 | {found.p99_ms:.0f} ms |
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.webhooks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to deliver (default 10)")
    options = parser.parse_args()
    from tests.benchmarks.__main__ import servers  # which imports this module

    folder = Path(tempfile.mkdtemp(prefix="billing-bench-"))
    folder.chmod(0o711)
    try:
        with servers(folder) as (database_url, redis_url):
            print(section(run(database_url, redis_url, folder, seconds=options.seconds)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
