"""Everything in one terminal: starts the services and our own processes, restarts what dies, stops all in order.

One thread does it all. Linux ties each child's life to the thread that started it, and signals reach the main one.
"""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import FrameType
from typing import TextIO
from urllib.parse import urlsplit

from app.embedded import launcher, process_table
from app.embedded import state as states
from app.embedded.errors import EmbeddedError
from app.embedded.home import Home
from app.embedded.sandbox import Sandbox
from app.embedded.service import Service, die_with_parent

TICK_S = 0.2
SERVICE_CHECK_S = 2.0
STOP_LIMIT_S = 8.0
"""How long a process of ours may take to end its work before it is killed; every step of it survives that."""
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
STEADY_AFTER_S = 60.0
"""A process that ran this long starts again with the shortest back-off."""
SECOND_CTRL_C_AFTER_S = 0.5
"""`make` passes on the signal that the terminal has already sent us; that echo is no second Ctrl-C."""


class Interrupted(BaseException):
    """Somebody asked us to stop. Not an `Exception`: no handler of errors may swallow it."""


@dataclass(frozen=True, slots=True)
class Program:
    """One of our own processes."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


class Child:
    """A program, its process and what is known of its health."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.backoff_s = FIRST_BACKOFF_S
        self.started_at = 0.0
        self.start_again_at = 0.0
        self.output = -1
        self.unfinished_line = b""

    def start(self) -> int:
        """Start the process and return the file descriptor that its output comes from.

        It gets a session of its own: a Ctrl-C must reach us alone, or the order of the end is lost.
        """
        self.started_at = time.monotonic()
        self.output, writing_end = os.pipe()
        os.set_blocking(self.output, False)
        try:
            self.process = subprocess.Popen(
                list(self.program.command),
                stdin=subprocess.DEVNULL,
                stdout=writing_end,
                stderr=subprocess.STDOUT,
                env=dict(self.program.environment),
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        finally:
            os.close(writing_end)
        return self.output

    def kill_group(self) -> None:
        """Kill whatever the process left behind: the workers of a killed web server still hold its port."""
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def delay_restart(self, now: float) -> float:
        """Note when to start again after an end; returns the seconds until then."""
        if now - self.started_at > STEADY_AFTER_S:
            self.backoff_s = FIRST_BACKOFF_S
        delay = self.backoff_s
        self.start_again_at = now + delay
        self.backoff_s = min(self.backoff_s * 2, LONGEST_BACKOFF_S)
        return delay


class Supervisor:
    """Runs services and programs until it is told to stop."""

    def __init__(self, home: Home, service_names: Sequence[str], ports: Mapping[str, int], *, out: TextIO) -> None:
        self._home = home
        self._service_names = [name for name in launcher.SERVICES if name in service_names]
        self._ports = ports
        self._out = out
        self._services: dict[str, Service] = {}
        self._retry_services_at = 0.0
        self._children: list[Child] = []
        self._selector = selectors.DefaultSelector()
        self._asked_at: float | None = None
        self._is_forced = False

    def say(self, name: str, text: str) -> None:
        """One line, with the name of whom it is about."""
        with suppress(BrokenPipeError):  # the reader of our output may be gone; stopping in order matters more
            print(f"{name:<9}| {text}", file=self._out, flush=True)

    # --- Running

    def run(
        self,
        *,
        prepare: Callable[[], Sequence[Program]],
        health_url: str,
        announce: Callable[[], Sequence[str]],
    ) -> None:
        """Start the services, call `prepare`, start the programs that it returns, and watch until SIGINT or SIGTERM.

        `announce` is printed once `health_url` answers. Returns after everything has ended.

        Raises:
            EmbeddedError: a service did not start, or did not stop. Whatever `prepare` raises.
        """
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signal_number, self._on_signal)
        try:
            self._start_services()
            self._children = [Child(program) for program in prepare()]
            for child in self._children:
                self._start_child(child)
            self._watch(health_url, announce)
        except Interrupted:
            self.say("billing", "stopping; Ctrl-C once more to force it")
        finally:
            self._shut_down()

    def _on_signal(self, signal_number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            raise Interrupted
        is_second = signal_number == signal.SIGINT and now - self._asked_at > SECOND_CTRL_C_AFTER_S
        if is_second and not self._is_forced:
            self._is_forced = True
            raise Interrupted

    def _start_services(self) -> None:
        with states.locked(self._home.var):
            for name in self._service_names:
                service = launcher.start_one(name, self._home, self._ports, attached=True)
                if isinstance(service, Sandbox) and service.delivers_to() != service.webhook_url:
                    # It was started when the site had another port.
                    service.stop()
                    service = launcher.start_one(name, self._home, self._ports, attached=True)
                if name in self._services:
                    self.say(name, f"started again at 127.0.0.1:{service.port}")
                self._services[name] = service

    def _start_child(self, child: Child) -> None:
        self._selector.register(child.start(), selectors.EVENT_READ, child)

    def _watch(self, health_url: str, announce: Callable[[], Sequence[str]]) -> None:
        announced = False
        next_check = 0.0
        while True:
            self._pass_output_on(TICK_S)
            now = time.monotonic()
            for child in self._children:
                self._look_after(child, now)
            if now >= next_check:
                next_check = now + SERVICE_CHECK_S
                self._look_after_services(now)
            if not announced and answers(health_url):
                announced = True
                for line in announce():
                    self.say("billing", line)

    def _look_after(self, child: Child, now: float) -> None:
        if child.process is None:
            if now >= child.start_again_at:
                self._start_child(child)
        elif child.process.poll() is not None:
            status = child.process.returncode
            child.kill_group()
            self._forget_output(child)
            child.process = None
            delay = child.delay_restart(now)
            self.say(child.program.name, f"ended with status {status}; starts again in {delay:.1f} s")

    def _look_after_services(self, now: float) -> None:
        dead = [name for name, service in self._services.items() if not service.still_runs()]
        if not dead or now < self._retry_services_at:
            return
        self.say("billing", f"{', '.join(dead)} ended; starting again")
        try:
            self._start_services()
        except EmbeddedError as error:
            self.say("billing", f"error [{error.code}]: {error}")
            self._retry_services_at = time.monotonic() + LONGEST_BACKOFF_S / 3

    # --- Output

    def _pass_output_on(self, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            child: Child = key.data
            try:
                chunk = os.read(key.fd, 65536)
            except BlockingIOError:
                continue
            if not chunk:
                self._selector.unregister(key.fileobj)
                continue
            *lines, child.unfinished_line = (child.unfinished_line + chunk).split(b"\n")
            for line in lines:
                self.say(child.program.name, line.decode(errors="replace").rstrip())

    def _forget_output(self, child: Child) -> None:
        """Pass on what an ended process has still written, and close its pipe."""
        self._pass_output_on(0)
        if child.unfinished_line:
            self.say(child.program.name, child.unfinished_line.decode(errors="replace"))
            child.unfinished_line = b""
        with suppress(KeyError):  # its end was read, and it is unregistered
            self._selector.unregister(child.output)
        os.close(child.output)

    # --- Stopping

    def _shut_down(self) -> None:
        # From here on the first signal, whoever sent it, has done its work; a Ctrl-C forces.
        self._asked_at = self._asked_at or time.monotonic()
        try:
            self._stop_all(force=False)
        except (Interrupted, EmbeddedError):
            self._is_forced = True
            self.say("billing", "forcing the end")
            self._stop_all(force=True)
        finally:
            self._kill_strays()
            self._selector.close()

    def _stop_all(self, *, force: bool) -> None:
        for child in self._children:
            self._stop_child(child, force=force)
        if not self._service_names:
            return
        state = launcher.open_state(self._home, self._ports)
        for name in reversed(self._service_names):
            # Found by name, not in our own list: a start may have been interrupted half-way.
            if launcher.build(name, self._home, state).stop(force=force):
                self.say(name, "stopped")

    def _stop_child(self, child: Child, *, force: bool) -> None:
        process = child.process
        if process is None:
            return
        if not force and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_LIMIT_S
            while process.poll() is None and time.monotonic() < deadline:
                self._pass_output_on(TICK_S / 4)
        in_time = process.poll() is not None
        child.kill_group()
        process.wait()
        self._forget_output(child)
        child.process = None
        self.say(child.program.name, "stopped" if in_time else "killed")

    def _kill_strays(self) -> None:
        """An interrupted start may have left a child that we know nothing of."""
        own_pid = os.getpid()
        for process in process_table.read():
            if process.parent_pid == own_pid:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    """Whether the address, one of our own without TLS, answers 200 within a second."""
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=1)
    try:
        connection.request("GET", address.path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def own_command(name: str) -> list[str]:
    """The words that start `billing NAME` with this very Python."""
    return [sys.executable, "-m", "app.cli", name]


def child_environment(var: Path, service_names: Sequence[str], base: Mapping[str, str]) -> dict[str, str]:
    """The environment of our processes: they are told where the services are, and start none themselves.

    The caller has started the services or holds their lock.
    """
    state = states.read(var)
    environment = dict(base) | {"BILLING_AUTOSTART": "0", "BILLING_VAR": str(var), "PYTHONUNBUFFERED": "1"}
    if state is None:
        return environment
    urls = launcher.urls(state)
    environment["BILLING_WEB_PORT"] = str(urls.web_port)
    own = urls.as_environment()
    if "postgres" in service_names:
        environment |= {name: own[name] for name in ("DATABASE_URL", "DATABASE_PANEL_URL")}
        environment.pop("DATABASE_OWNER_URL", None)  # only migrations need it, and they read it where we keep it
        environment.setdefault("SECRET_KEY", own["SECRET_KEY"])
    if "valkey" in service_names:
        environment["REDIS_URL"] = own["REDIS_URL"]
    if "sandbox" in service_names:
        environment |= {name: own[name] for name in ("STRIPE_API_KEY", "STRIPE_API_BASE", "STRIPE_WEBHOOK_SECRET")}
    return environment
