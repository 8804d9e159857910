"""The Stripe sandbox as a real process, for tests: started, killed, restarted and steered."""

import os
import socket
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import requests

from stripe_gateway.sandbox.__main__ import main
from tests.processes.forks import FORKS

API_KEY = "sk_test_sandbox"
WEBHOOK_SECRET = "whsec_sandbox"
START_S = 20.0
STOP_S = 20.0
REPOSITORY = Path(__file__).resolve().parents[2]


def _serve(words: list[str], env: dict[str, str], log: str) -> None:
    """The forked process: the sandbox, as if it had been started by its own command."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(REPOSITORY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.exit(main(words))


class SandboxProcess:
    """One sandbox on a port of its own. Its database outlives `kill9` and `restart`; `stop` ends it cleanly.

    Rate limits are off unless a test switches them on, and charges follow finalization at once.
    """

    def __init__(self, folder: Path, *, api_key: str = API_KEY) -> None:
        self.api_key = api_key
        self.folder = folder
        self.database = folder / "sandbox.sqlite"
        self._log = folder / "sandbox.log"
        self._process: BaseProcess | None = None
        self._port = 0
        self._arguments: list[str] = []
        # One connection is kept, and the environment is not read for proxies: steering costs less than what it steers.
        self._line = requests.Session()
        self._line.trust_env = False

    @property
    def url(self) -> str:
        """Its address, such as http://127.0.0.1:4711; the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    def start(
        self,
        *,
        webhook_url: str | None = None,
        secret: str = WEBHOOK_SECRET,
        limits: bool = False,
        collection_delay_s: float = 0.0,
        settlement_delay_s: float = 0.0,
        extra: tuple[str, ...] = (),
    ) -> "SandboxProcess":
        """Start it and wait until it serves. `extra` are further command-line words."""
        # A port of our own choice, not 0: a restart must come back under the same address.
        self._port = self._port or _free_port()
        self._arguments = [
            f"--collection-delay={collection_delay_s}",
            f"--settlement-delay={settlement_delay_s}",
            *([] if limits else ["--no-limits"]),
            *([f"--webhook-url={webhook_url}", f"--webhook-secret={secret}"] if webhook_url else []),
            *extra,
        ]
        self._launch()
        return self

    def _launch(self) -> None:
        words = [f"--port={self._port}", f"--database={self.database}", f"--api-key={self.api_key}", *self._arguments]
        env = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
        self._process = FORKS.Process(target=_serve, args=(words, env, str(self._log)), daemon=True)
        self._process.start()
        end = time.monotonic() + START_S
        while True:
            if not self._process.is_alive() or time.monotonic() > end:
                raise RuntimeError(f"the sandbox did not start:\n{self._log.read_text()}")
            try:
                self._line.get(f"{self.url}/_sim/health", timeout=1).raise_for_status()
                return
            except requests.RequestException:
                time.sleep(0.03)

    def kill9(self) -> None:
        """End it without any warning."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def stop(self) -> int | None:
        """End it cleanly; returns its exit code, None when it was not running."""
        if self._process is None:
            return None
        self._process.terminate()
        self._process.join(STOP_S)
        code = self._process.exitcode
        if code is None:
            raise RuntimeError(f"the sandbox did not stop:\n{self._log.read_text()}")
        self._process = None
        return code

    def restart(self) -> "SandboxProcess":
        """Start it again with the same words, database and address; it may have been killed or still be running."""
        self.stop()
        self._launch()
        return self

    # The control plane

    def get(self, control: str, **query: Any) -> Any:
        """GET /_sim/{control}."""
        return _read(self._line.get(f"{self.url}/_sim/{control}", params=query, timeout=30))

    def post(self, control: str, **body: Any) -> Any:
        """POST /_sim/{control} with a JSON body."""
        return _read(self._line.post(f"{self.url}/_sim/{control}", json=body, timeout=90))

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """The request log, oldest first; `endpoint` may be a pattern such as "invoices.*"."""
        query = {"endpoint": endpoint} if endpoint else {}
        lines: list[dict[str, Any]] = self.get("requests", limit=1_000_000, **query)["requests"]
        return lines

    def counts(self) -> dict[str, int]:
        """How many requests each endpoint was sent since the log was last cleared."""
        counts: dict[str, int] = self.get("requests", limit=0)["counts"]
        return counts

    def clear_requests(self) -> None:
        _read(self._line.delete(f"{self.url}/_sim/requests", timeout=30))

    def advance(self, seconds: float = 0.0) -> int:
        """Move the clock forward; returns how many due jobs were done. 0 does what is due now."""
        return int(self.post("clock", advance_s=seconds)["jobs_done"])

    def set_clock(self, moment: float | str) -> None:
        """Set the clock to unix seconds or an ISO 8601 time with a zone."""
        self.post("clock", set=moment)

    def fault(self, endpoint: str, kind: str, **fields: Any) -> dict[str, Any]:
        """Switch a fault on, by default for one request only."""
        fault: dict[str, Any] = self.post("faults", **{"endpoint": endpoint, "kind": kind, "count": 1, **fields})
        return fault

    def clear_faults(self) -> None:
        _read(self._line.delete(f"{self.url}/_sim/faults", timeout=30))

    def webhook_mode(self, **mode: Any) -> None:
        self.post("webhooks/mode", **mode)

    def resend(self, events: list[str] | None = None, **options: Any) -> list[str]:
        """Send events (default: all) again; returns the event ids under which they go out."""
        sent: list[str] = self.post("webhooks/resend", **({"events": events} if events else {}), **options)["events"]
        return sent

    def wait_for_webhooks(self, timeout_s: float = 20.0) -> None:
        """Do what is due and wait until every owed delivery was answered 2xx.

        Raises:
            TimeoutError: some delivery is still owed.
        """
        self.advance(0)
        pending = self.post("webhooks/wait", timeout_s=timeout_s)["pending"]
        if pending:
            raise TimeoutError(f"{pending} webhook deliveries are still owed after {timeout_s} s")

    def set(self, **settings: Any) -> None:
        """Change settings, such as limits_enabled or collection_delay_s."""
        self.post("settings", **settings)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.get("state")
        return state


def _read(answer: requests.Response) -> Any:
    if not answer.ok:
        raise RuntimeError(f"{answer.request.method} {answer.url}: {answer.status_code} {answer.text}")
    return answer.json()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
