"""Keeps our calls just below Stripe's limits, over all processes that share one Redis.

Stripe limits each named operation and the account as a whole, and answers 429 beyond that. Each of these limits is a
schedule: a call takes the next free instant of its operation's and of the account's, and sleeps until it. How fast a
schedule goes is found out: a 429 makes it slower by a tenth at once, then it creeps up again, quickly to just below
where the 429 came and slowly from there on. A call of the lane "bulk" takes no instant further ahead than `HORIZON_S`,
so that one of the lane "person" never has more than that before it.

The law is written twice, in Python for one process and in Lua for all of them; a test holds the two together. Without
Redis each process goes by its own schedules, and what is too much together comes back as 429s, which slow it down.

Source: https://docs.stripe.com/rate-limits
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import redis
import structlog

_LOG = structlog.get_logger(__name__)

Lane = Literal["person", "bulk"]
Scope = Literal["operation", "total"]

START = 0.95  # of the limit: where a schedule begins that knows nothing
CEILING = 1.03  # of the limit: Stripe's clock and ours differ, and its limit may be a little higher; never beyond
FLOOR = 0.05
CUT = 0.9  # what a 429 leaves of the rate
CUT_PAUSE_S = 0.5  # calls under way bring 429s for the same excess: they count once
REST_S = 0.1  # no call of the schedule starts so long after a cut
CLIMB = 0.02  # of the limit, a second, while nothing is known to be near
CREEP = 0.001  # of where the last 429 came, a second, within 2 % of it
NEAR = 0.02
HORIZON_S = 0.1
SHORTEST_S = 0.001  # to wait before asking again

REDIS_PAUSE_S = 5.0  # after Redis failed, how long we do without before we ask it again
REDIS_TIMEOUT_S = 0.5
SCHEDULE_KEPT_S = 3600  # what a 429 taught is worth that long
SLOT_S = 10
SLOTS_KEPT_S = 900


@dataclass(frozen=True, slots=True)
class Rates:
    """The account's limits as Stripe states them, in calls a second: over everything, and for each named operation."""

    total: float = 100.0
    per_operation: float = 25.0
    burst_s: float = 0.1
    """How much unused time may be caught up, in seconds' worth of calls."""

    def of(self, scope: Scope) -> float:
        return self.total if scope == "total" else self.per_operation


@dataclass(frozen=True, slots=True)
class OperationPace:
    """One operation of late: calls and 429s over the seconds that were looked at, and what its schedule allows now."""

    operation: str
    calls: int
    people: int
    refused: int
    calls_per_s: float
    allowed_per_s: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast all processes call Stripe: `allowed_per_s` is the account's schedule, `limit_per_s` what Stripe states.

    `calls_per_s` is over the last ten to twenty seconds, counts over `seconds`.
    """

    calls_per_s: float
    allowed_per_s: float
    limit_per_s: float
    limit_per_operation: float
    refused: int
    seconds: int
    operations: list[OperationPace] = field(default_factory=list)


class Pacer(Protocol):
    """Whoever tells a call when it may go."""

    def wait(self, operation: str, *, lane: Lane = "bulk") -> float:
        """Return when the call may be made; answers how many seconds that took."""
        ...

    def refused(self, operation: str, *, scope: Scope | None) -> None:
        """Stripe answered 429, for this operation or for the account's total; None: not for being too fast."""
        ...

    def pace(self) -> Pace | None:
        """How fast everybody calls Stripe of late; None if this is not kept."""
        ...


@dataclass(slots=True)
class Schedule:
    """One limit's schedule; times in seconds of any one clock. The Lua below does the same."""

    limit: float
    free: float = 0.0
    rate: float = 0.0
    edge: float = 0.0
    at: float = 0.0
    cut_at: float = -CUT_PAUSE_S

    def climb(self, now: float) -> None:
        """Let the rate rise for the time that went by."""
        if self.rate == 0.0:
            self.rate, self.edge, self.at = self.limit * START, self.limit, now
        seconds, top = max(0.0, now - self.at), self.limit * CEILING
        self.at = max(now, self.at)
        climb, creep = CLIMB * self.limit, CREEP * self.edge
        zones = ((self.edge * (1 - NEAR), climb), (self.edge * (1 + NEAR), creep), (top, climb))
        for bound, speed in zones:
            reach = min(bound, top)
            if self.rate < reach:
                needed = (reach - self.rate) / speed
                if seconds <= needed:
                    self.rate += seconds * speed
                    return
                self.rate, seconds = reach, seconds - needed

    def cut(self, now: float) -> None:
        """Slow down: Stripe said 429 at this rate."""
        self.climb(now)
        if now - self.cut_at >= CUT_PAUSE_S:
            self.edge, self.cut_at = self.rate, now
            self.rate = max(self.limit * FLOOR, self.rate * CUT)
            self.free = max(self.free, now) + REST_S


def reserve(schedules: tuple[Schedule, ...], *, now: float, lane: Lane, burst_s: float) -> float:
    """Take the next free instant of all of them: seconds to wait for it. Negative: nothing was taken, as a person may
    come; ask again after so many seconds."""
    for schedule in schedules:
        schedule.climb(now)
    free = [max(schedule.free, now - burst_s) for schedule in schedules]
    wait = max(0.0, *(instant - now for instant in free))
    if lane == "bulk" and wait > HORIZON_S:
        return min(HORIZON_S - wait, -SHORTEST_S)
    # Each schedule moves on by itself: a call that waits for its operation must not hold up the others.
    for schedule, instant in zip(schedules, free, strict=True):
        schedule.free = instant + 1 / schedule.rate
    return wait


class _Turns:
    """Who of a process's bulk calls asks for an instant next: one at a time for each operation."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}

    def of(self, operation: str) -> AbstractContextManager[object]:
        with self._lock:
            return self._turns.setdefault(operation, threading.Lock())

    def take(self, ask: Callable[[], float], operation: str, lane: Lane, *, sleep: Callable[[float], None]) -> float:
        """Ask until an instant is taken, and sleep until it; answers the seconds that all took."""
        begun = time.monotonic()
        if lane == "person":
            answer = ask()
        else:
            with self.of(operation):
                while (answer := ask()) < 0:
                    sleep(-answer)
        if answer > 0:
            sleep(answer)
        return time.monotonic() - begun


class LocalPacer:
    """Schedules kept in this process, shared by its threads."""

    def __init__(self, rates: Rates, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._rates = rates
        self._sleep = sleep
        self._turns = _Turns()
        self._lock = threading.Lock()
        self._schedules: dict[str, Schedule] = {}

    def wait(self, operation: str, *, lane: Lane = "bulk") -> float:
        return self._turns.take(
            lambda: self.reserve(operation, time.monotonic(), lane=lane), operation, lane, sleep=self._sleep
        )

    def refused(self, operation: str, *, scope: Scope | None) -> None:
        if scope is not None:
            self.cut(operation, time.monotonic(), scope=scope)

    def pace(self) -> Pace | None:
        return None  # one process knows nothing of the others

    def reserve(self, operation: str, now: float, *, lane: Lane = "bulk") -> float:
        """As `reserve` of this module, for an operation at `now` (monotonic seconds)."""
        with self._lock:
            both = (self._of("total", operation), self._of("operation", operation))
            return reserve(both, now=now, lane=lane, burst_s=self._rates.burst_s)

    def cut(self, operation: str, now: float, *, scope: Scope) -> None:
        """Slow down the operation or everything, at `now` (monotonic seconds)."""
        with self._lock:
            self._of(scope, operation).cut(now)

    def rate(self, operation: str, *, scope: Scope = "operation") -> float:
        """How many calls a second the schedule allows, as of when it was last asked."""
        with self._lock:
            return self._of(scope, operation).rate

    def _of(self, scope: Scope, operation: str) -> Schedule:
        name = "" if scope == "total" else operation
        return self._schedules.setdefault(name, Schedule(self._rates.of(scope)))


# KEYS: the total's schedule, the operation's. ARGV: "go" or "cut", seconds now ("" for Redis's own clock), limit of the
# total, of the operation, burst, horizon (a person's is without end), which to cut (1, 2; 0 none), prefix of the
# counts, operation, lane. Answers as `reserve` does, in text, since Redis would cut a number down to an integer.
_LAW = f"""
local act, limits, burst = ARGV[1], {{tonumber(ARGV[3]), tonumber(ARGV[4])}}, tonumber(ARGV[5])
local horizon, which, now = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[2])
if not now then local t = redis.call('TIME'); now = tonumber(t[1]) + tonumber(t[2]) / 1000000 end

local function load(i)
  local v = redis.call('HMGET', KEYS[i], 'free', 'rate', 'edge', 'at', 'cut_at')
  local limit = limits[i]
  local s = {{key = KEYS[i], limit = limit, free = tonumber(v[1]) or 0, rate = tonumber(v[2]) or limit * {START},
    edge = tonumber(v[3]) or limit, at = tonumber(v[4]) or now, cut_at = tonumber(v[5]) or -{CUT_PAUSE_S}}}
  local seconds, top = math.max(0, now - s.at), limit * {CEILING}
  s.at = math.max(now, s.at)
  local climb, creep = limit * {CLIMB}, s.edge * {CREEP}
  for _, zone in ipairs({{{{s.edge * (1 - {NEAR}), climb}}, {{s.edge * (1 + {NEAR}), creep}}, {{top, climb}}}}) do
    local reach = math.min(zone[1], top)
    if s.rate < reach then
      local needed = (reach - s.rate) / zone[2]
      if seconds <= needed then s.rate = s.rate + seconds * zone[2]; break end
      s.rate, seconds = reach, seconds - needed
    end
  end
  return s
end
local function save(s)
  local function f(x) return string.format('%.6f', x) end
  local rates = {{'rate', f(s.rate), 'edge', f(s.edge)}}
  redis.call('HSET', s.key, 'free', f(s.free), 'at', f(s.at), 'cut_at', f(s.cut_at), unpack(rates))
  redis.call('EXPIRE', s.key, {SCHEDULE_KEPT_S})
end
local function count(field)
  local slot = ARGV[8] .. string.format('%d', math.floor(now / {SLOT_S}))
  redis.call('HINCRBY', slot, field, 1)
  redis.call('EXPIRE', slot, {SLOTS_KEPT_S})
end

if act == 'cut' then
  count('refused:' .. ARGV[9])
  if which == 0 then return '0' end
  local s = load(which)
  if now - s.cut_at >= {CUT_PAUSE_S} then
    s.edge, s.cut_at = s.rate, now
    s.rate = math.max(s.limit * {FLOOR}, s.rate * {CUT})
    s.free = math.max(s.free, now) + {REST_S}
  end
  save(s)
  return '0'
end

local both, wait = {{load(1), load(2)}}, 0
for _, s in ipairs(both) do
  s.start = math.max(s.free, now - burst)
  wait = math.max(wait, s.start - now)
end
if wait > horizon then return string.format('%.6f', math.min(horizon - wait, -{SHORTEST_S})) end
for _, s in ipairs(both) do s.free = s.start + 1 / s.rate; save(s) end
count('calls:' .. ARGV[9])
if ARGV[10] == 'person' then count('people:' .. ARGV[9]) end
return string.format('%.6f', wait)
"""

FOR_EVER_S = 1e9


class SharedPacer:
    """Schedules kept in Redis; in this process alone while Redis is away."""

    def __init__(self, redis_url: str, rates: Rates, *, account: str) -> None:
        """`account` keeps the schedules of two Stripe accounts in one Redis apart."""
        self._rates = rates
        self._local = LocalPacer(rates)
        self._turns = _Turns()
        self._prefix = f"billing:pace:{account}:"
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )
        self._law = self._redis.register_script(_LAW)
        self._away_until = 0.0

    def wait(self, operation: str, *, lane: Lane = "bulk") -> float:
        def ask() -> float:
            answer = self.ask("go", operation, lane=lane)
            return self._local.reserve(operation, time.monotonic(), lane=lane) if answer is None else answer

        return self._turns.take(ask, operation, lane, sleep=time.sleep)

    def refused(self, operation: str, *, scope: Scope | None) -> None:
        self._local.refused(operation, scope=scope)
        self.ask("cut", operation, scope=scope)

    def ask(
        self,
        act: Literal["go", "cut"],
        operation: str,
        *,
        lane: Lane = "bulk",
        scope: Scope | None = None,
        now: float | None = None,
    ) -> float | None:
        """What the shared law says, None if Redis is away. `now` in seconds takes the place of Redis's clock."""
        if time.monotonic() < self._away_until:
            return None
        which = {"total": 1, "operation": 2}.get(scope or "", 0)
        horizon = HORIZON_S if lane == "bulk" else FOR_EVER_S
        clock = "" if now is None else f"{now:.6f}"
        limits = (self._rates.total, self._rates.per_operation, self._rates.burst_s)
        try:
            answer = self._law(
                keys=[f"{self._prefix}total", f"{self._prefix}operation:{operation}"],
                args=[act, clock, *limits, horizon, which, f"{self._prefix}slot:", operation, lane],
            )
        except redis.RedisError as error:
            self._away_until = time.monotonic() + REDIS_PAUSE_S
            _LOG.warning("pacing without Redis", error=str(error))
            return None
        return float(answer)

    def pace(self, *, seconds: int = 300) -> Pace | None:
        """How fast all processes call Stripe; None while Redis is away."""
        try:
            return self._read_pace(seconds)
        except redis.RedisError as error:
            _LOG.warning("the pace is unknown without Redis", error=str(error))
            return None

    def _read_pace(self, seconds: int) -> Pace:
        clock = self._redis.time()
        now = clock[0] + clock[1] / 1_000_000
        last = int(now // SLOT_S)
        slots = list(range(last - seconds // SLOT_S + 1, last + 1))
        pipe = self._redis.pipeline(transaction=False)
        for slot in slots:
            pipe.hgetall(f"{self._prefix}slot:{slot}")
        counted: dict[str, dict[str, int]] = {}
        recent: dict[str, int] = {}
        for slot, fields in zip(slots, pipe.execute(), strict=True):
            for name, number in fields.items():
                kind, _, operation = name.decode().partition(":")
                counts = counted.setdefault(operation, {})
                counts[kind] = counts.get(kind, 0) + int(number)
                if kind == "calls" and slot >= last - 1:
                    recent[operation] = recent.get(operation, 0) + int(number)
        span = SLOT_S + now % SLOT_S
        for operation in sorted(counted):
            pipe.hget(f"{self._prefix}operation:{operation}", "rate")
        pipe.hget(f"{self._prefix}total", "rate")
        *rates, total = pipe.execute()
        operations = [
            OperationPace(
                operation=operation,
                calls=counted[operation].get("calls", 0),
                people=counted[operation].get("people", 0),
                refused=counted[operation].get("refused", 0),
                calls_per_s=recent.get(operation, 0) / span,
                allowed_per_s=float(rate or self._rates.per_operation * START),
            )
            for operation, rate in zip(sorted(counted), rates, strict=True)
        ]
        return Pace(
            calls_per_s=sum(recent.values()) / span,
            allowed_per_s=float(total or self._rates.total * START),
            limit_per_s=self._rates.total,
            limit_per_operation=self._rates.per_operation,
            refused=sum(operation.refused for operation in operations),
            seconds=seconds,
            operations=operations,
        )
