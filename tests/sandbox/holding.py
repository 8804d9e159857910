"""Requests that are held in the middle of their execution until a test lets them go, however slow the machine is."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.processes.sandbox import SandboxProcess

PATIENCE_S = 60.0


@contextmanager
def held(sandbox: SandboxProcess, endpoint: str, call: Callable[[], Any]) -> Iterator[list[Any]]:
    """`call` is being executed while the block runs; the list has its result, or its error, afterwards."""
    fault = sandbox.fault(endpoint, "delay_before", delay_s=PATIENCE_S)
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(_outcome(call)))
    thread.start()
    try:
        wait_until(lambda: any(one["id"] == fault["id"] and one["hits"] for one in sandbox.get("faults")["faults"]))
        yield results
    finally:
        sandbox.clear_faults()
        thread.join()


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error


def wait_until(condition: Callable[[], Any]) -> None:
    """Ask until the answer is yes."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
