"""The embedded Redis: a Valkey (or redis-server) that keeps what it was told."""

import os
import socket
from pathlib import Path
from typing import ClassVar

from app.embedded import binaries
from app.embedded.home import Home, give
from app.embedded.service import Service

DATABASES = 64
"""One for production use; tests take one for each of their workers."""


class Valkey(Service):
    """One server. `durable=False` keeps nothing on disk."""

    name: ClassVar[str] = "valkey"
    port_name: ClassVar[str] = "redis_port"

    def __init__(self, home: Home, port: int, *, password: str, durable: bool = True) -> None:
        super().__init__(home, port)
        self.password = password
        self.durable = durable
        self.settings_file = home.data / "valkey" / "valkey.conf"
        self._program: Path | None = None

    @property
    def program(self) -> Path:
        """The server program; looked up once, when first needed."""
        if self._program is None:
            self._program = binaries.redis_program(self.home)
        return self._program

    def command(self) -> list[str]:
        return [str(self.program), str(self.settings_file)]

    def matches(self, argv: tuple[str, ...]) -> bool:
        return argv[1:] == (str(self.settings_file),) and Path(argv[0]).name.endswith("-server")

    def folder(self) -> Path:
        return self.settings_file.parent

    def prepare(self) -> None:
        """Write the settings anew. The password stands in a file, not among the words that everybody can read."""
        folder = self.settings_file.parent
        folder.mkdir(mode=0o700, exist_ok=True)
        give(folder, self.account())
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "dir": f'"{folder}"',
            "databases": str(DATABASES),
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "save": '""',
            # A queue must refuse a job that it cannot keep, rather than forget another one.
            "maxmemory-policy": "noeviction",
            # It keeps the words it was started with, by which we know it.
            "set-proc-title": "no",
            "daemonize": "no",
            "logfile": '""',
        }
        draft = self.settings_file.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.writelines(f"{name} {value}\n" for name, value in settings.items())
        give(draft, self.account())
        draft.replace(self.settings_file)

    def complete(self) -> None:
        """Nothing is left to do."""

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    chunk = connection.recv(256)
                    if not chunk:
                        return False
                    answer += chunk
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"  # while it loads its file it answers -LOADING
