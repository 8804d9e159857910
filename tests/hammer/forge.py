"""Makes the hammer's processes: `python -m tests.hammer.forge` imports everything once, then forks them on demand.

Sixteen interpreters that import the same libraries would take longer to start than the short hammer strikes. It reads
one order a line and answers each with one line; when its input ends, so do its children.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.hammer.worker import Orders, work

ROOT = Path(__file__).parent.parent.parent


class Forge:
    """The forge as the test sees it. Use it as a context: at the end no child is left."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hammer.forge"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> "Forge":
        return self

    def __exit__(self, *_: object) -> None:
        # After a failure it may be waiting for a child that hangs; it ends all of them when it is told to end.
        self._process.terminate()
        self._process.communicate(timeout=60)

    def ready(self) -> None:
        """Wait until everything is imported."""
        self._ask("ready", None)

    def start(self, orders: dict[str, Any]) -> None:
        """Start the process of this slot."""
        self._ask("start", orders)

    def kill(self, slot: int) -> bool:
        """Kill the process of this slot, at whatever it is doing; False if it had ended by itself."""
        return bool(self._ask("kill", slot))

    def wait(self) -> dict[str, int]:
        """Wait for all; how each slot's last process ended."""
        codes: dict[str, int] = self._ask("wait", None)
        return codes

    def _ask(self, verb: str, argument: object) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the forge has no pipes")
        self._process.stdin.write(json.dumps([verb, argument]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the forge ended with {self._process.wait()}; its words are on standard error")
        return json.loads(answer)


def _serve() -> None:
    children: dict[int, int] = {}
    codes: dict[int, int] = {}

    def end_all(number: int, frame: FrameType | None) -> None:
        for pid in children.values():
            os.kill(pid, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end_all)
    for text in sys.stdin:
        verb, argument = json.loads(text)
        answer: object = None
        if verb == "start":
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os._exit(work(Orders(**argument)))
            children[argument["slot"]] = pid
        elif verb == "kill":
            # A child that ended stays a zombie until we wait for it, so the number still means that child.
            os.kill(children[argument], signal.SIGKILL)
            _, status = os.waitpid(children.pop(argument), 0)
            answer = os.waitstatus_to_exitcode(status) == -signal.SIGKILL
            codes[argument] = os.waitstatus_to_exitcode(status)
        elif verb == "wait":
            for slot in list(children):
                codes[slot] = os.waitstatus_to_exitcode(os.waitpid(children[slot], 0)[1])
                del children[slot]
            answer = codes
        print(json.dumps(answer), flush=True)
    for pid in children.values():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    _serve()
