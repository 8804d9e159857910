"""A webhook receiver that keeps what it was sent and answers as a test tells it to."""

import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Delivery:
    """One webhook as it arrived."""

    body: bytes
    signature: str
    answered: int

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever sends is killed by tests on purpose: a connection that breaks is no news."""


class Receiver:
    """Listens on a free loopback port. `answers` are the next statuses to give; when they run out it is `status`."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.answers: list[int] = []
        self.status = 200
        self._lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:
                    # Whoever sent it was killed in the middle: nothing was delivered.
                    self.close_connection = True
                    return
                status = receiver._take(body, self.headers["Stripe-Signature"])
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature of http.server
                """Quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhooks/stripe"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def _take(self, body: bytes, signature: str) -> int:
        with self._lock:
            status = self.answers.pop(0) if self.answers else self.status
            self.deliveries.append(Delivery(body, signature, status))
        return status

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def accepted(self) -> list[dict[str, Any]]:
        """The events that were answered 2xx, in the order of their arrival."""
        return [delivery.event for delivery in list(self.deliveries) if 200 <= delivery.answered < 300]

    def types(self) -> list[str]:
        return [event["type"] for event in self.accepted()]

    def wait_for(self, kind: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The first accepted event of a type, waiting for it if need be."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            for event in self.accepted():
                if event["type"] == kind:
                    return event
            time.sleep(0.02)
        raise TimeoutError(f"no {kind} within {timeout_s} s; came: {self.types()}")
