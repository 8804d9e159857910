"""Keeps our calls below Stripe's limits, over all processes that share one Redis.

Stripe limits each named operation and the account as a whole, and answers 429 beyond that. A call reserves the next
free instant of its operation's schedule and of the account's, and sleeps until it. Without Redis each process keeps the
schedules itself: then several processes together may be too fast, Stripe answers 429, and the outbox tries again.

Source: https://docs.stripe.com/rate-limits
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import redis
import structlog

_LOG = structlog.get_logger(__name__)

REDIS_PAUSE_S = 5.0  # after Redis failed, how long we do without before we ask it again
REDIS_TIMEOUT_S = 0.5
SCHEDULE_KEPT_MS = 120_000  # a schedule that nobody used for so long is free anyway


@dataclass(frozen=True, slots=True)
class Rates:
    """Calls a second: over everything, and for each named operation. Below Stripe's own limits on purpose."""

    total: float = 80.0
    per_operation: float = 20.0
    burst_s: float = 0.5
    """How much unused time may be caught up, in seconds' worth of calls."""


class Pacer(Protocol):
    """Whoever tells a call when it may go."""

    def wait(self, operation: str) -> None:
        """Return when the call may be made."""
        ...

    def slow_down(self, operation: str, seconds: float) -> None:
        """Let no call of this operation start for so long: Stripe said 429."""
        ...


# KEYS: schedules; ARGV[i]: milliseconds between two calls of KEYS[i]. The last three ARGV: burst in milliseconds,
# milliseconds to keep a schedule, 1 for a pause (then ARGV[1] is its length). Answers: milliseconds to wait.
_RESERVE = """
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
local burst, kept, pause = tonumber(ARGV[#ARGV - 2]), ARGV[#ARGV - 1], ARGV[#ARGV] == '1'
local start = now
for i, key in ipairs(KEYS) do
    local free = tonumber(redis.call('GET', key) or 0)
    if pause then free = math.max(free, now) else free = math.max(free, now - burst) end
    start = math.max(start, free)
    redis.call('SET', key, string.format('%.3f', free + tonumber(ARGV[i])), 'PX', kept)
end
return math.ceil(start - now)
"""


class LocalPacer:
    """Schedules kept in this process, shared by its threads."""

    def __init__(self, rates: Rates, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._rates = rates
        self._sleep = sleep
        self._lock = threading.Lock()
        self._free: dict[str, float] = {}

    def reserve(self, operation: str, now: float) -> float:
        """Take the next free instant at or after `now` (monotonic seconds); returns how long to wait for it."""
        steps = {"": 1 / self._rates.total, operation: 1 / self._rates.per_operation}
        earliest = now - self._rates.burst_s
        with self._lock:
            free = {name: max(self._free.get(name, 0.0), earliest) for name in steps}
            # Each schedule moves on by itself: a call that waits for its operation must not hold up the others.
            for name, step in steps.items():
                self._free[name] = free[name] + step
        return max(0.0, *(start - now for start in free.values()))

    def wait(self, operation: str) -> None:
        seconds = self.reserve(operation, time.monotonic())
        if seconds > 0:
            self._sleep(seconds)

    def slow_down(self, operation: str, seconds: float) -> None:
        with self._lock:
            now = time.monotonic()
            self._free[operation] = max(self._free.get(operation, 0.0), now) + seconds


class SharedPacer:
    """Schedules kept in Redis; in this process alone while Redis is away."""

    def __init__(self, redis_url: str, rates: Rates, *, account: str) -> None:
        """`account` keeps the schedules of two Stripe accounts in one Redis apart."""
        self._rates = rates
        self._local = LocalPacer(rates)
        self._prefix = f"billing:pace:{account}:"
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        self._reserve = self._redis.register_script(_RESERVE)
        self._away_until = 0.0

    def wait(self, operation: str) -> None:
        names = [self._prefix, self._prefix + operation]
        steps = [1000 / self._rates.total, 1000 / self._rates.per_operation]
        answer = self._ask(names, [*steps, self._rates.burst_s * 1000, SCHEDULE_KEPT_MS, 0])
        if answer is None:
            self._local.wait(operation)
        elif answer > 0:
            time.sleep(answer / 1000)

    def slow_down(self, operation: str, seconds: float) -> None:
        self._local.slow_down(operation, seconds)
        self._ask([self._prefix + operation], [seconds * 1000, 0, SCHEDULE_KEPT_MS, 1])

    def _ask(self, keys: list[str], args: list[Any]) -> int | None:
        if time.monotonic() < self._away_until:
            return None
        try:
            return int(self._reserve(keys=keys, args=args))
        except redis.RedisError as error:
            self._away_until = time.monotonic() + REDIS_PAUSE_S
            _LOG.warning("pacing without Redis", error=str(error))
            return None
