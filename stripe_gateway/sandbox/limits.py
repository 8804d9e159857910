"""Rate limits: one bucket per named operation and one over everything, in real time.

Source: https://docs.stripe.com/rate-limits.
"""

from __future__ import annotations

import threading
import time

from .errors import rate_limited
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
    """The rate limiters of one account."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, Bucket] = {}
        self._rates: tuple[float, float] | None = None

    def admit(self, endpoint: str, settings: Settings) -> None:
        """Let one request pass.

        Raises:
            ApiError: 429, naming the limiter; the request must not be executed.
        """
        if not settings.limits_enabled:
            return
        now = time.monotonic()
        with self._lock:
            rates = (settings.rate_per_endpoint, settings.rate_global)
            if rates != self._rates:
                self._buckets, self._rates = {}, rates
            total = self._buckets.setdefault("", Bucket(settings.rate_global, now))
            own = self._buckets.setdefault(endpoint, Bucket(settings.rate_per_endpoint, now))
            if not total.take(now):
                raise rate_limited("global-rate")
            if not own.take(now):
                raise rate_limited("endpoint-rate")
