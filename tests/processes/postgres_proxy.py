"""A way to Postgres on which the answer to a COMMIT can get lost: a TCP proxy on the loopback interface.

The client's COMMIT reaches the server, the server carries it out and says so, and the connection is cut before a byte
of that comes back. Or the COMMIT itself is lost, and nothing was carried out. Nobody who sent it can tell which.
"""

import random
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Literal

from sqlalchemy.engine import make_url

COMMIT = b"COMMIT\x00"
CHUNK = 65_536
Loss = Literal["the answer", "the commit"]


class PostgresProxy:
    """Stands before one server. Use it as a context. `answers_lost` and `commits_lost` say what it did."""

    def __init__(self, database_url: str, *, seed: int) -> None:
        """Losses are drawn from the seed, in the order in which COMMITs come."""
        url = make_url(database_url)
        self._server = (url.host or "127.0.0.1", url.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.set(host="127.0.0.1", port=self._listener.getsockname()[1]).render_as_string(hide_password=False)
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._probability = 0.0
        self.commits = self.answers_lost = self.commits_lost = 0

    def __enter__(self) -> "PostgresProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        # A thread that waits in accept() is woken by shutdown() only.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def lose(self, probability: float) -> None:
        """From now on so many of the COMMITs are lost, two of three of them on the way back."""
        self._probability = probability

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._server) as server:
            silent = threading.Event()
            back = threading.Thread(target=self._back, args=(server, client, silent), daemon=True)
            back.start()
            with suppress(OSError):
                self._forth(client, server, silent)
            # Whatever the reason, both sides are hung up on; the server's last words are read to their end first.
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            back.join()

    def _forth(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        while sent := client.recv(CHUNK):
            loss = self._draw() if sent.endswith(COMMIT) else None
            if loss == "the commit":
                return
            if loss == "the answer":
                silent.set()
            server.sendall(sent)
            if loss is not None:
                return

    def _draw(self) -> Loss | None:
        with self._lock:
            self.commits += 1
            if self._dice.random() >= self._probability:
                return None
            if self._dice.random() < 2 / 3:
                self.answers_lost += 1
                return "the answer"
            self.commits_lost += 1
            return "the commit"

    @staticmethod
    def _back(server: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while said := server.recv(CHUNK):
                if not silent.is_set():
                    client.sendall(said)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
