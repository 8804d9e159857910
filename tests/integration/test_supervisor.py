"""The process behind `make run`: starts, restarts and stops real processes, and leaves none behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app import embedded
from app.embedded import process_table
from app.embedded import state as states
from app.embedded.errors import Supervised

PROJECT = Path(__file__).resolve().parent.parent.parent
IDLE = "import time; print('ready'); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); time.sleep(600)"
WITH_CHILD = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print('child', child.pid); time.sleep(600)"
)
SERVER = (
    "from http.server import BaseHTTPRequestHandler, HTTPServer\n"
    "class Handler(BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(200); self.end_headers()\n"
    "HTTPServer(('127.0.0.1', {port}), Handler).serve_forever()"
)
NOWHERE = "http://127.0.0.1:9/healthz"


class Run:
    """A supervisor as a process, and what it has said so far."""

    def __init__(self, folder: Path, health_url: str, *programs: str) -> None:
        self.var = folder / "var"
        self._log = folder / "output"
        self._marker = str(folder)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.processes.supervised", str(self.var), health_url, *programs],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=PROJECT,
                env=os.environ | {"SUPERVISED_BY": self._marker},
            )

    def output(self) -> str:
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], object], *, limit_s: float = 60) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, self.output()
            assert self.process.poll() is None, self.output()
            time.sleep(0.05)

    def wait_for_text(self, text: str) -> None:
        self.wait_for(lambda: text in self.output())

    def pid_of(self, service: str) -> int | None:
        found = {status.name: status.pid for status in embedded.status(self.var) if status.is_ready}
        return found.get(service)

    def survivors(self) -> list[tuple[str, ...]]:
        """Whatever still runs and was started by this supervisor, told by an inherited variable or the data's path."""
        found = []
        for process in process_table.read():
            try:
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            except OSError:
                environment = b""
            if self._marker.encode() in environment or str(self.var) in " ".join(process.argv):
                found.append(process.argv)
        return found

    def finish(self, signal_number: signal.Signals) -> float:
        """Send the signal; returns the seconds until the end."""
        began = time.monotonic()
        self.process.send_signal(signal_number)
        self.process.wait(timeout=40)
        return time.monotonic() - began


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Start supervisors, each in a folder of its own, all gone at the end."""
    runs: list[tuple[Run, Path]] = []

    def start_one(*programs: str, health_url: str = NOWHERE) -> Run:
        folder = Path(tempfile.mkdtemp(prefix="billing-supervised-"))
        folder.chmod(0o711)
        runs.append((Run(folder, health_url, *programs), folder))
        return runs[-1][0]

    yield start_one
    for run, folder in runs:
        run.process.kill()
        run.process.wait()
        embedded.erase(run.var)
        shutil.rmtree(folder)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_in_order_within_seconds_and_leaves_nothing(
    start: Callable[..., Run], signal_number: signal.Signals
) -> None:
    run = start(f"web={WITH_CHILD}", f"worker={IDLE}", f"cron={IDLE}")
    run.wait_for_text("cron     | ready")
    run.wait_for_text("web      | child")

    assert run.finish(signal_number) < 8

    assert run.process.returncode == 0
    stopped = re.findall(r"^(\w+) *\| stopped$", run.output(), re.MULTILINE)
    assert stopped == ["web", "worker", "cron", "valkey", "postgres"]
    assert run.survivors() == []


def test_it_says_where_everything_is_once_the_site_answers(start: Callable[..., Run]) -> None:
    port = states.choose_port()
    run = start(f"web={SERVER.format(port=port)}", health_url=f"http://127.0.0.1:{port}/healthz")
    run.wait_for_text("billing  | all is up")


def test_a_program_that_dies_is_started_again_and_its_children_go_with_it(start: Callable[..., Run]) -> None:
    run = start(f"worker={WITH_CHILD}")
    run.wait_for_text("worker   | child")
    child = int(re.findall(r"child (\d+)", run.output())[0])
    worker = next(process.parent_pid for process in process_table.read() if process.pid == child)

    os.kill(worker, signal.SIGKILL)

    run.wait_for(lambda: len(re.findall(r"child \d+", run.output())) == 2)
    assert "worker   | ended with status -9; starts again in 0.5 s" in run.output()
    assert not process_table.is_alive(child)


def test_a_program_that_cannot_run_is_tried_ever_more_rarely(start: Callable[..., Run]) -> None:
    run = start("web=raise SystemExit(7)", f"worker={IDLE}")
    run.wait_for_text("starts again in 2.0 s")
    delays = re.findall(r"web      \| ended with status 7; starts again in (\S+) s", run.output())
    assert delays == ["0.5", "1.0", "2.0"]


@pytest.mark.parametrize("service", ["postgres", "valkey"])
def test_a_server_that_is_killed_comes_back_on_its_port(start: Callable[..., Run], service: str) -> None:
    run = start(f"worker={IDLE}")
    run.wait_for_text("worker   | ready")
    before = run.pid_of(service)
    assert before is not None

    os.kill(before, signal.SIGKILL)

    run.wait_for(lambda: run.pid_of(service) not in (None, before))
    assert run.finish(signal.SIGINT) < 8
    assert run.survivors() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_kill_9_of_the_supervisor_ends_its_children_too(start: Callable[..., Run]) -> None:
    run = start(f"web={IDLE}", f"worker={IDLE}")
    run.wait_for_text("worker   | ready")
    run.finish(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while run.survivors():
        assert time.monotonic() < deadline, run.survivors()
        time.sleep(0.05)


def test_a_second_ctrl_c_waits_for_nobody(start: Callable[..., Run]) -> None:
    run = start(f"web={STUBBORN}", f"worker={STUBBORN}")
    run.wait_for(lambda: run.output().count("| ready") == 2)
    run.process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert run.process.poll() is None
    assert run.finish(signal.SIGINT) < 4
    assert "web      | killed" in run.output()
    assert run.survivors() == []


def test_servers_that_ran_before_are_adopted_and_stopped_with_the_rest(start: Callable[..., Run]) -> None:
    run = start(f"worker={IDLE}")
    run.wait_for_text("worker   | ready")
    run.finish(signal.SIGINT)
    embedded.ensure_up(run.var, names=("postgres", "valkey"))
    daemon = run.pid_of("postgres")

    again = Run(run.var.parent, NOWHERE, f"worker={IDLE}")
    again.wait_for_text("worker   | ready")
    assert run.pid_of("postgres") == daemon
    again.finish(signal.SIGINT)
    assert again.survivors() == []


def test_only_the_supervisor_stops_services_while_it_runs(start: Callable[..., Run]) -> None:
    """It would start them again at once, and whoever stopped them would wonder."""
    run = start(f"worker={IDLE}")
    run.wait_for_text("worker   | ready")
    with pytest.raises(Supervised, match="Ctrl-C"):
        embedded.down(run.var)
    assert run.pid_of("postgres") is not None


def test_an_interrupt_in_the_middle_of_the_first_start_leaves_nothing(start: Callable[..., Run]) -> None:
    for after_s in (0.3, 0.6, 0.9):
        run = start(f"worker={IDLE}")
        time.sleep(after_s)
        assert run.finish(signal.SIGTERM) < 8
        assert run.survivors() == []
