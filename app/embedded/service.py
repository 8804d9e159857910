"""How any embedded service is started, recognised, waited for and stopped."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from app.embedded import process_table
from app.embedded.errors import StartFailed, StopFailed
from app.embedded.home import Account, Home
from app.embedded.process_table import Running

POLL_S = 0.03
PR_SET_PDEATHSIG = 1
LOG_TAIL_BYTES = 2000

_children: dict[int, "subprocess.Popen[bytes]"] = {}
"""Services started by this very process: somebody has to reap them, or a zombie stays behind."""


def die_with_parent(signal_number: int) -> Callable[[], None] | None:
    """A `preexec_fn`: the kernel sends the signal when our process ends, however it ends. Linux only, else None.

    The promise belongs to the thread that starts the child, so it must be the main one.
    """
    if sys.platform != "linux":
        return None
    # Loaded here, not in the child: between fork and exec another thread's lock may be held for ever.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)

    return ask_kernel


class Service(ABC):
    """One embedded service of one home."""

    name: ClassVar[str]
    port_name: ClassVar[str]
    """The field of the state that holds its port."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    force_signal: ClassVar[signal.Signals] = signal.SIGKILL
    start_limit_s: ClassVar[float] = 30
    stop_limit_s: ClassVar[float] = 20
    retry_limit_s: ClassVar[float] = 10
    passing_obstacles: ClassVar[tuple[str, ...]] = ()
    """Last words after which a second try can help, for `retry_limit_s` at most."""

    def __init__(self, home: Home, port: int) -> None:
        self.home = home
        self.port = port
        self.log = home.logs / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The words to start it with. Every user can read them, so they hold no password of a database."""

    @abstractmethod
    def matches(self, argv: tuple[str, ...]) -> bool:
        """Whether a process with these words is this service, of this home."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers, to our password."""

    @abstractmethod
    def prepare(self) -> None:
        """Lay out its files before a start. Repeatable."""

    @abstractmethod
    def complete(self) -> None:
        """Set up what can only be set up in the running service. Repeatable."""

    def account(self) -> Account | None:
        """The user to run as; None is the invoking user."""
        return self.home.account

    def folder(self) -> Path:
        """Its working folder."""
        return self.home.data

    def find(self) -> Running | None:
        """The running service, whoever started it."""
        return process_table.find(self.matches)

    def still_runs(self) -> bool:
        """Whether what `start` started has not ended; of one that somebody else started, whether it is found."""
        return self._process.poll() is None if self._process is not None else self.find() is not None

    def is_healthy(self) -> bool:
        """Whether it runs and answers."""
        return self.find() is not None and self.is_ready()

    def spawn(self, *, attached: bool) -> "subprocess.Popen[bytes]":
        """Start the process. An attached one ends with us; the other becomes a daemon."""
        account = self.account()
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            return subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder(),
                # A session of its own, so that a Ctrl-C on the terminal does not reach it: we stop things in order.
                start_new_session=True,
                umask=0o077,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                preexec_fn=die_with_parent(self.stop_signal) if attached else None,
            )

    def start(self, *, attached: bool = False) -> "subprocess.Popen[bytes]":
        """Start it and return when it is ready and complete. It must not be running; the caller holds the lock.

        Raises:
            StartFailed: it ended or stayed silent; the text quotes the end of its log.
        """
        self.prepare()
        began = time.monotonic()
        while True:
            log_start = self.log.stat().st_size if self.log.exists() else 0
            process = self.spawn(attached=attached)
            if self._becomes_ready(process):
                break
            tail = self._log_since(log_start)
            hopeless = not any(obstacle in tail for obstacle in self.passing_obstacles)
            if hopeless or time.monotonic() - began > self.retry_limit_s:
                raise StartFailed(f"{self.name} ended with status {process.returncode}. {self.log} says:\n{tail}")
            time.sleep(0.3)
        _children[process.pid] = self._process = process
        self.complete()
        return process

    def wait_until_ready(self) -> None:
        """Wait for a service that somebody else started.

        Raises:
            StartFailed: it ended or stayed silent.
        """
        deadline = time.monotonic() + self.start_limit_s
        while not self.is_ready():
            if time.monotonic() > deadline or self.find() is None:
                raise StartFailed(f"{self.name} runs but does not answer on port {self.port}. Its log is {self.log}.")
            time.sleep(POLL_S)

    def _becomes_ready(self, process: "subprocess.Popen[bytes]") -> bool:
        """True when it answers, False when it ended first."""
        deadline = time.monotonic() + self.start_limit_s
        while not self.is_ready():
            if process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise StartFailed(f"{self.name} was silent for {self.start_limit_s:.0f} s. Its log is {self.log}.")
            time.sleep(POLL_S)
        return process.poll() is None

    def _log_since(self, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(start, log.tell() - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    def stop(self, *, force: bool = False) -> bool:
        """Stop it and wait for its end; False if it was not running. `force` asks for no clean end.

        Raises:
            StopFailed: it still runs after `stop_limit_s`. It is not killed: only a person should decide that.
        """
        running = self.find()
        if running is None:
            return False
        os.kill(running.pid, self.force_signal if force else self.stop_signal)
        deadline = time.monotonic() + self.stop_limit_s
        while process_table.is_alive(running.pid):
            if time.monotonic() > deadline:
                raise StopFailed(f"{self.name} (process {running.pid}) did not stop. Its log is {self.log}.")
            time.sleep(POLL_S)
        child = _children.pop(running.pid, None)
        if child is not None:
            child.wait()
        return True
