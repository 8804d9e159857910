"""Where a process meets the world: each COMMIT, each call to Stripe, each word to Redis. It may die at any of them.

The instruments are put on the libraries that speak (psycopg, requests, redis), so the product knows nothing of them. A
process that is told to die at a boundary does so by SIGKILL, either before it speaks, or after the other side has done
what it was told and before a word of its answer is read. One that is told to sleep there stops, and may be woken.
"""

import json
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import psycopg
import redis.connection
import requests.adapters
import sqlalchemy
from sqlalchemy import Engine

When = Literal["before", "after"]
WHENS: tuple[When, ...] = get_args(When)
ANSWER_LIMIT_S = 30.0

_WRITES = re.compile(r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?!(?:SET|SKIP)\b)([a-z_]+)", re.IGNORECASE)
_FOREIGN_ID = re.compile(r"/(?=[A-Za-z_]*\d)[A-Za-z0-9_]{8,}")


@dataclass(frozen=True, slots=True)
class Boundary:
    """One place of a flow. `what` is stable: the tables that are committed, the call's path, the command."""

    index: int
    kind: Literal["commit", "http", "redis"]
    what: str

    def __str__(self) -> str:
        return f"{self.index:03} {self.kind} {self.what}"


@dataclass(frozen=True, slots=True)
class Death:
    """Where a process is to die; or, with SIGSTOP, to fall asleep as if the machine had.

    The place is the boundary's `nth` crossing of its kind and name, counted from 0: two webhooks of one second come in
    either order, and then the same boundary has another index. `index` is the one it had when nothing happened.
    """

    index: int
    kind: str
    what: str
    nth: int
    when: When
    by: signal.Signals = signal.SIGKILL


def deaths_at(boundaries: Sequence[Boundary], *, by: signal.Signals = signal.SIGKILL) -> list[Death]:
    """Before and after each of these boundaries, which one process crossed in this order."""
    found = []
    crossed: Counter[tuple[str, str]] = Counter()
    for boundary in boundaries:
        nth = crossed[boundary.kind, boundary.what]
        crossed[boundary.kind, boundary.what] += 1
        found += [Death(boundary.index, boundary.kind, boundary.what, nth, when, by) for when in WHENS]
    return found


class Instruments:
    """Counts the boundaries of this process, writes each down before it is crossed, and kills at the one named."""

    def __init__(self, log: Path, *, death: Death | None) -> None:
        self._log = log.open("a", buffering=1)
        self._death = death
        self._lock = threading.Lock()
        self._count = 0
        self._crossed: Counter[tuple[str, str]] = Counter()
        self._written: dict[int, set[str]] = {}

    def install(self) -> None:
        """Put the instruments on; from now on every crossing counts. There is no way back: the process is ours."""
        sqlalchemy.event.listen(Engine, "before_cursor_execute", self._note_statement)
        self._around(psycopg.Connection, "commit", self._commit)
        self._around(requests.adapters.HTTPAdapter, "send", self._http)
        self._around(redis.connection.AbstractConnection, "send_packed_command", self._redis)

    @staticmethod
    def _around(owner: type, name: str, instrument: Callable[..., Any]) -> None:
        original = getattr(owner, name)

        def instrumented(subject: Any, *args: Any, **options: Any) -> Any:
            return instrument(original, subject, *args, **options)

        setattr(owner, name, instrumented)

    def _cross(self, kind: Any, what: str) -> Callable[[], None]:
        """Write the boundary down, die before it if that is the order; returns what to call on the other side."""
        with self._lock:
            boundary = Boundary(self._count, kind, what)
            self._count += 1
            nth = self._crossed[kind, what]
            self._crossed[kind, what] += 1
            self._log.write(json.dumps(asdict(boundary)) + "\n")
        death = self._death
        if death is not None and (death.kind, death.what, death.nth) != (kind, what, nth):
            death = None
        if death is not None and death.when == "before":
            os.kill(os.getpid(), death.by)

        def crossed() -> None:
            if death is not None and death.when == "after":
                os.kill(os.getpid(), death.by)

        return crossed

    def _note_statement(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        tables = set(_WRITES.findall(statement))
        if tables:
            self._written.setdefault(id(connection.connection.dbapi_connection), set()).update(tables)

    def _commit(self, original: Any, connection: Any) -> None:
        tables = self._written.pop(id(connection), set())
        crossed = self._cross("commit", ", ".join(sorted(tables)) or "(nothing written)")
        original(connection)
        crossed()

    def _http(self, original: Any, adapter: Any, request: Any, **options: Any) -> Any:
        path = _FOREIGN_ID.sub("/{id}", urlsplit(request.url).path)
        crossed = self._cross("http", f"{request.method} {path}")
        answer = original(adapter, request, **options)
        crossed()
        return answer

    def _redis(self, original: Any, connection: Any, command: Any, *args: Any, **options: Any) -> None:
        crossed = self._cross("redis", _command_of(command))
        original(connection, command, *args, **options)
        if connection.can_read(timeout=ANSWER_LIMIT_S if self._death is not None else 0):
            crossed()


def be_impatient(seconds: float) -> None:
    """Let every HTTP call of this process give up after so long."""
    original = requests.adapters.HTTPAdapter.send

    def send(adapter: Any, request: Any, **options: Any) -> Any:
        return original(adapter, request, **{**options, "timeout": seconds})

    setattr(requests.adapters.HTTPAdapter, "send", send)  # noqa: B010 - the library's, not ours


def _command_of(command: Any) -> str:
    """The first word of a packed command, such as EVALSHA."""
    packed = command if isinstance(command, bytes | str) else b"".join(command)
    text = packed.decode(errors="replace") if isinstance(packed, bytes) else packed
    words = [word for word in text.split("\r\n") if word and word[0] not in "*$"]
    return words[0].upper() if words else "?"


def read_boundaries(log: Path) -> list[Boundary]:
    """What a process wrote down; its last line may be cut off by its death."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [Boundary(**json.loads(line)) for line in lines if line.endswith("}")]
