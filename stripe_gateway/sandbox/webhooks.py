"""Webhook delivery: signed, in parallel, repeated with back-off until the receiver answers 2xx."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .errors import Json
from .events import shown, unpack
from .recorder import Recorder
from .webhook_endpoints import secrets_of
from .world import World

GIVE_UP_S = 3 * 86400  # of the sandbox's clock, from the event's creation
FIRST_RETRY_S = 0.5  # real seconds, doubled after each failure
LONGEST_RETRY_S = 30.0
TIMEOUT_S = 10.0
_NAP_S = 0.5


@dataclass(frozen=True)
class Delivery:
    """One event that one endpoint is owed."""

    seq: int
    event_id: str
    endpoint_id: str
    attempts: int
    options: Json


def signature(body: bytes, secrets: list[str], *, at: int) -> str:
    """The `Stripe-Signature` header: HMAC-SHA256 over ``{t}.{body}``, one v1 per secret."""
    signed = f"{at}.".encode() + body
    marks = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={mark}" for mark in marks)])


class Courier:
    """The threads that deliver. What is owed is a row in the store, so a restart goes on where a kill stopped."""

    def __init__(self, world: World, *, workers: int, recorder: Recorder | None = None) -> None:
        self._world = world
        self._recorder = recorder
        self._claimed: set[int] = set()
        self._wake = threading.Condition(world.store.lock)
        self._stopping = False
        self._paused = bool((world.store.fact("webhook_mode") or {}).get("paused"))
        self._threads = [
            threading.Thread(target=self._work, name=f"courier-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        with self._wake:
            self._paused = bool((self._world.store.fact("webhook_mode") or {}).get("paused"))
            self._wake.notify_all()

    def ring(self) -> None:
        """Something was committed: one idle thread should look."""
        with self._wake:
            self._wake.notify()

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=TIMEOUT_S)

    def wait_until_idle(self, timeout_s: float) -> int:
        """Wait until nothing is owed, at most `timeout_s` real seconds; returns how many deliveries are still owed."""
        end = time.monotonic() + timeout_s
        while True:
            owed = self._world.store.rows("SELECT count(*) FROM deliveries WHERE state = 'pending'")[0][0]
            if owed == 0 or time.monotonic() >= end:
                return int(owed)
            time.sleep(0.005)

    def _work(self) -> None:
        line = _Line()
        while True:
            with self._wake:
                delivery = self._claim()
                if delivery is None:
                    if self._stopping:
                        return
                    self._wake.wait(self._nap())
                    continue
                prepared = self._prepare(delivery)
            if prepared is not None and self._recorder is not None:
                self._recorder.event(prepared[1])
            status, error = (None, "the endpoint is gone") if prepared is None else line.send(*prepared)
            with self._wake:
                self._claimed.discard(delivery.seq)
                self._settle(delivery, status, error)

    def _claim(self) -> Delivery | None:
        if self._paused or self._stopping:
            return None
        found = self._world.store.rows(
            "SELECT seq, event_id, endpoint_id, attempts, options FROM deliveries"
            " WHERE state = 'pending' AND next_at <= ? ORDER BY next_at, seq LIMIT ?",
            time.time(),
            len(self._claimed) + 1,
        )
        for seq, event_id, endpoint_id, attempts, options in found:
            if seq not in self._claimed:
                self._claimed.add(seq)
                return Delivery(seq, event_id, endpoint_id, attempts, json.loads(options))
        return None

    def _nap(self) -> float:
        found = self._world.store.rows(
            "SELECT next_at FROM deliveries WHERE state = 'pending' AND next_at > ? ORDER BY next_at LIMIT 1",
            time.time(),
        )
        return min(_NAP_S, max(0.001, found[0][0] - time.time())) if found else _NAP_S

    def _prepare(self, delivery: Delivery) -> tuple[SplitResult, bytes, str] | None:
        row = self._world.store.row(delivery.endpoint_id, kind="webhook_endpoint")
        found = self._world.store.rows("SELECT body FROM events WHERE id = ?", delivery.event_id)
        if row is None or not found:
            return None
        event = shown(self._world, unpack(found[0][0]))
        if delivery.options.get("forged"):
            # An id of its own: a receiver that were to take it would not even call it a repetition.
            event["id"] = f"{event['id'][:-6]}{delivery.seq:06}"
        body = json.dumps(event, separators=(",", ":")).encode()
        # Real time: the receiver compares it with its own clock, whatever the sandbox's clock says.
        at = int(time.time() - float(delivery.options.get("stale_s", 0)))
        secrets = ["whsec_forged"] if delivery.options.get("forged") else secrets_of(self._world, row.data["id"])
        return urlsplit(row.data["url"]), body, signature(body, secrets, at=at)

    def _settle(self, delivery: Delivery, status: int | None, error: str | None) -> None:
        good = status is not None and 200 <= status < 300
        attempts = delivery.attempts + 1
        state = "delivered" if good else "pending"
        if not good and (delivery.options.get("once") or self._too_old(delivery.event_id)):
            state = "failed"
        pause = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(attempts - 1, 10))
        with self._world.store.transaction():
            self._world.store.execute(
                "UPDATE deliveries SET state = ?, attempts = ?, next_at = ?, last_status = ?, last_error = ?,"
                " delivered_at = ? WHERE seq = ?",
                state, attempts, time.time() + pause, status, error,
                self._world.clock.stamp() if good else None, delivery.seq,
            )  # fmt: skip

    def _too_old(self, event_id: str) -> bool:
        found = self._world.store.rows("SELECT created FROM events WHERE id = ?", event_id)
        return not found or bool(self._world.clock.now() - found[0][0] > GIVE_UP_S)


class _Line:
    """One thread's open connection, kept for the next delivery to the same host."""

    def __init__(self) -> None:
        self._host: tuple[str, int] | None = None
        self._connection: http.client.HTTPConnection | None = None

    def send(self, url: SplitResult, body: bytes, mark: str) -> tuple[int | None, str | None]:
        """POST once; returns the status, or None and what went wrong."""
        host = (url.hostname or "", url.port or 80)
        kept = self._host == host and self._connection is not None
        outcome = self._post(host, url, body, mark)
        if outcome[0] is None and kept:
            # A receiver may close an idle connection at any time: that is no failed delivery.
            outcome = self._post(host, url, body, mark)
        return outcome

    def _post(self, host: tuple[str, int], url: SplitResult, body: bytes, mark: str) -> tuple[int | None, str | None]:
        headers: dict[str, Any] = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": mark,
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            if self._connection is None or self._host != host:
                self._close()
                self._host = host
                self._connection = http.client.HTTPConnection(*host, timeout=TIMEOUT_S)
            path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
            self._connection.request("POST", path, body, headers)
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._close()
            return None, f"{type(error).__name__}: {error}"
        if answer.will_close:
            self._close()
        return answer.status, None if 200 <= answer.status < 300 else f"HTTP {answer.status}"

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
