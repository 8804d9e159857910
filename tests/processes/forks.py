"""Processes that start at once: forked from a server that has imported the product already, and holds nothing else.

One server for everything, since the first process that it forks decides what it has imported.

Whoever starts a process also asks whether the others have ended, and how one ended can be read only once: a second
thread that reads it at the same time is told 255. Where several threads have processes they start, wait and close here.
"""

import multiprocessing
import threading
from multiprocessing import connection
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["tests.processes.sandbox", "tests.processes.warm", "tests.faults.driver", "tests.gateway.test_kill_during_sync"]
)

_ASKING = threading.Lock()


def start(process: Any) -> None:
    """Start it, by one thread at a time."""
    with _ASKING:
        process.start()


def wait_for(process: Any, limit_s: float | None = None) -> int | None:
    """How it ended; None if it still runs after so many seconds."""
    connection.wait([process.sentinel], limit_s)
    with _ASKING:
        code: int | None = process.exitcode
        return code


def close(process: Any) -> None:
    """Let go of a process that has ended."""
    with _ASKING:
        process.close()
