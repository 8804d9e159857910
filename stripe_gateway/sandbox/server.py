"""The process: an HTTP server on the loopback interface, the clock's thread and the couriers."""

from __future__ import annotations

import ipaddress
import logging
import signal
import socket
import struct
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

from .api import Api
from .control import Control
from .errors import Json, server_error
from .idempotency import Keys
from .messages import Answer, Request, json_answer
from .pages import Pages
from .recorder import Recorder
from .scheduling import Scheduler
from .store import Store
from .webhook_endpoints import configure
from .webhooks import Courier
from .world import World

MAX_BODY_BYTES = 4_000_000
IDLE_S = 120.0  # an idle kept-alive connection is closed after this long
_LOG = logging.getLogger("stripe_gateway.sandbox")


class NotLoopback(ValueError):
    """The sandbox listens on a loopback address only. Use 127.0.0.1 or ::1."""

    code = "not_loopback"


class Site:
    """Everything behind the HTTP server, put together."""

    def __init__(
        self, store: Store, *, public_url: str, api_key: str, webhook_workers: int, exchanges: Path | None
    ) -> None:
        self._stopping = False
        self.world = World(store, public_url=public_url)
        keys = Keys(self.world)
        recorder = Recorder(exchanges) if exchanges else None
        self.api = Api(self.world, keys, api_key=api_key, recorder=recorder)
        self.courier = Courier(self.world, workers=webhook_workers, recorder=recorder)
        self.scheduler = Scheduler(self.world, keys)
        self.control = Control(self.world, self.api, self.courier)
        self.pages = Pages(self.world, self.api, self.control)
        self.world.on_schedule = self.scheduler.wake
        store.on_commit(self.courier.ring)

    def start(self) -> None:
        self.courier.start()
        self.scheduler.start()

    def stop(self) -> None:
        self._stopping = True
        self.scheduler.stop()
        self.courier.stop()
        self.world.store.close()

    def answer(self, request: Request) -> Answer:
        """Serve any request; a fault of our own is a 500 in Stripe's shape and a traceback on standard error."""
        try:
            if request.path.startswith("/v1/"):
                return self.api.answer(request)
            if request.method == "POST" and request.headers.get("sec-fetch-site") == "cross-site":
                return json_answer(403, {"error": {"message": "Another web site may not press buttons here."}})
            if request.path.startswith("/_sim/"):
                return self.control.answer(request)
            return self.pages.answer(request)
        except Exception:  # noqa: BLE001 - the last resort of a server: log it and keep serving
            if self._stopping:
                # The store is closed: hang up, as a process that is gone does, rather than pretend a result.
                return Answer(0, b"", cut="reset")
            _LOG.exception("%s %s failed", request.method, request.path)
            return json_answer(500, server_error().body)


class Handler(BaseHTTPRequestHandler):
    """Reads one request to its end, so that a connection can be kept, and sends one answer in one piece."""

    protocol_version = "HTTP/1.1"
    server_version = "nginx"
    timeout = IDLE_S
    site: Site  # set by `handler_for`
    _headers_buffer: list[bytes]  # http.server's own; taken here so that head and body leave in one piece

    def setup(self) -> None:
        super().setup()
        # Answers are small and a client waits for each: do not wait for more to send.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _serve(self) -> None:
        body = self._body()
        if body is None:
            return
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.site.answer(Request(self.command, unquote(parts.path), parts.query, headers, body)))

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = do_PATCH = _serve  # noqa: N815 - names set by http.server

    def _body(self) -> bytes | None:
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if self.headers.get("Transfer-Encoding") or not 0 <= length <= MAX_BODY_BYTES:
            self.close_connection = True
            self._send(json_answer(413, {"error": {"message": "Invalid length.", "type": "invalid_request_error"}}))
            return None
        body = self.rfile.read(length)
        if len(body) < length:
            # The client died in the middle of its request: what never arrived whole is never executed.
            self.close_connection = True
            return None
        return body

    def _send(self, answer: Answer) -> None:
        if answer.cut == "reset":
            self._reset()
            return
        if answer.cut == "fin":
            # An orderly end where an answer should be: http.server closes, the client reads the end of the stream.
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        head = b"".join([*self._headers_buffer, b"\r\n"])
        self._headers_buffer = []
        body = b"" if self.command == "HEAD" else answer.body
        if answer.cut == "truncate":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(head + body)

    def _reset(self) -> None:
        """Close with RST, as a broken network does, instead of an orderly end."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # `shutdown` would send a FIN first; only closing the last file of the socket resets it.
        self.rfile.close()
        self.connection.close()

    def finish(self) -> None:
        if self.connection.fileno() != -1:
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the signature of http.server
        """The request log is in the store; standard error is for faults of our own."""


class Server(ThreadingHTTPServer):
    """One thread per connection, and connections from the loopback interface only."""

    daemon_threads = True
    request_queue_size = 128

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return ipaddress.ip_address(client_address[0]).is_loopback

    def shutdown_request(self, request: Any) -> None:
        # A connection that was reset on purpose is closed already.
        if request.fileno() != -1:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""
        _LOG.debug("connection from %s ended early", client_address, exc_info=True)


class Server6(Server):
    """The same on ::1."""

    address_family = socket.AF_INET6


def handler_for(site: Site) -> type[Handler]:
    """The request handler of one site: http.server makes an object of it per connection."""
    return type("SiteHandler", (Handler,), {"site": site})


def _listen(host: str, port: int, site_handler: type[Handler]) -> Server:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise NotLoopback(f"{host}: {NotLoopback.__doc__}") from error
    if not address.is_loopback:
        raise NotLoopback(f"{host}: {NotLoopback.__doc__}")
    kind = Server6 if address.version == 6 else Server
    return kind((str(address), port), site_handler)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int,
    database: Path | None,
    api_key: str,
    webhook_url: str | None,
    webhook_secret: str,
    webhook_events: Sequence[str] = ("*",),
    webhook_workers: int = 4,
    settings: Json | None = None,
    port_file: Path | None = None,
    exchanges: Path | None = None,
) -> None:
    """Run the sandbox until SIGTERM or SIGINT; prints one line with its address once it serves.

    `port` 0 picks a free one; `port_file` receives the port as text. `database` None keeps everything in memory. State,
    deliveries and due jobs in the database go on after a restart, also after a kill. `settings` override kept ones.
    The folder `exchanges` receives what was said over the wire; see `recorder`.

    Raises:
        NotLoopback: `host` is not an address of the loopback interface.
        OSError: the port is taken, or the database cannot be opened.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    server = _listen(host, port, Handler)
    bound = server.server_address[1]
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{bound}"
    store = Store(database)
    site = Site(store, public_url=url, api_key=api_key, webhook_workers=webhook_workers, exchanges=exchanges)
    # The port is known only now, and the site needs it for its addresses; nobody is served before `serve_forever`.
    server.RequestHandlerClass = handler_for(site)
    site.world.change_settings(settings or {})
    configure(site.world, url=webhook_url, secret=webhook_secret, events=webhook_events)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        # `shutdown` waits for the serving loop, which runs in this very thread: ask from another one.
        threading.Thread(target=server.shutdown, daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    site.start()
    if port_file is not None:
        port_file.write_text(str(bound))
    print(f"Stripe sandbox on {url}", flush=True)
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()
        site.stop()
