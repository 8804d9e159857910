"""Limits in real time: requests a second, requests in flight, and writes that meet on one object.

Source: https://docs.stripe.com/rate-limits. Stripe publishes the rates, but neither how many requests may be in flight
nor how long a write waits for its object, so those are settings.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .errors import lock_timeout, rate_limited
from .settings import Settings


class Bucket:
    """Holds up to one second's worth of requests and refills steadily."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._tokens = max(rate, 1.0)
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token if there is one."""
        self._tokens = min(max(self._rate, 1.0), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Limits:
    """The limiters of one account."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._rates: tuple[float, float] | None = None
        self._in_flight: Counter[str] = Counter()

    @contextmanager
    def admitted(self, endpoint: str, settings: Settings) -> Iterator[None]:
        """Let one request pass; it is in flight until the block ends.

        Raises:
            ApiError: 429, naming the limiter; the request must not be executed.
        """
        if not settings.limits_enabled:
            yield
            return
        with self._lock:
            self._take_tokens(endpoint, settings)
            if 0 < settings.concurrency_global <= self._in_flight.total():
                raise rate_limited("global-concurrency")
            if 0 < settings.concurrency_per_endpoint <= self._in_flight[endpoint]:
                raise rate_limited("endpoint-concurrency")
            self._in_flight[endpoint] += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight[endpoint] -= 1

    def in_flight(self) -> dict[str, int]:
        """How many requests of each endpoint are being served, of those that a limiter admitted."""
        with self._lock:
            return dict(+self._in_flight)

    def _take_tokens(self, endpoint: str, settings: Settings) -> None:
        now = time.monotonic()
        rates = (settings.rate_per_endpoint, settings.rate_global)
        if rates != self._rates:
            self._buckets, self._rates = {}, rates
        total = self._buckets.setdefault("", Bucket(settings.rate_global, now))
        own = self._buckets.setdefault(endpoint, Bucket(settings.rate_per_endpoint, now))
        if not total.take(now):
            raise rate_limited("global-rate")
        if not own.take(now):
            raise rate_limited("endpoint-rate")


class ObjectLocks:
    """One write at a time on each object; a second one waits a little and is then refused."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: set[str] = set()

    @contextmanager
    def held(self, object_ids: Sequence[str], *, wait_s: float) -> Iterator[None]:
        """Hold the objects, all or none, while the block runs; `wait_s` is real time.

        Raises:
            ApiError: 429 `lock_timeout`; another write still holds one of them.
        """
        wanted = set(object_ids)
        with self._changed:
            if not self._changed.wait_for(lambda: not wanted & self._held, timeout=wait_s):
                raise lock_timeout()
            self._held |= wanted
        try:
            yield
        finally:
            with self._changed:
                self._held -= wanted
                self._changed.notify_all()

    def all(self) -> list[str]:
        """The objects that are being written."""
        with self._changed:
            return sorted(self._held)
