"""The whole system as its users meet it: commands and the web server as processes, and the sandbox as Stripe."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes.sandbox import WEBHOOK_SECRET, SandboxProcess, _free_port

REPOSITORY = Path(__file__).resolve().parents[2]
BILLING = Path(sys.executable).parent / "billing"
START_S = 30.0
API_KEY = "sk_test_sandbox_end_to_end"


@dataclass
class House:
    """One running installation on a database of its own; `run` calls commands, `start` keeps a process going."""

    folder: Path
    environment: dict[str, str]
    sandbox: SandboxProcess
    web_port: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def run(self, *words: str, expect: int = 0) -> str:
        """Run `billing WORDS` to its end; its standard output. Fails with all that it said on another exit status."""
        done = subprocess.run(
            [str(BILLING), *words], env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == expect, f"billing {' '.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run_json(self, *words: str, expect: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", expect=expect))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(BILLING), *words], env=self.environment, cwd=self.folder, stdout=log, stderr=log
            )
        self.running.append(process)
        return process

    def start_web(self) -> None:
        self.start("web")
        wait_for(lambda: requests.get(f"{self.url}/healthz", timeout=1).ok, what="the web server", within_s=START_S)

    def stop(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(condition: Any, *, what: str, within_s: float = 30.0) -> None:
    """Ask until the answer is yes; a refused connection is a no."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if condition():
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {within_s} s")


@pytest.fixture
def house(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[House]:
    port = _free_port()
    sandbox = SandboxProcess(tmp_path, api_key=API_KEY).start(webhook_url=f"http://127.0.0.1:{port}/webhooks/stripe")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("BILLING_", "STRIPE_"))},
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": API_KEY,
        "STRIPE_API_BASE": sandbox.url,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "SECRET_KEY": "a secret for tests that is long enough",
        "BILLING_WEB_PORT": str(port),
        "BILLING_VAR": str(tmp_path / "var"),
    }
    house = House(tmp_path, environment, sandbox, port)
    yield house
    house.stop()
    sandbox.kill9()
