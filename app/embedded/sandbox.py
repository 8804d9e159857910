"""The Stripe sandbox as a service: the process that stands in for Stripe when no real key is given."""

import socket
import sys
from pathlib import Path
from typing import ClassVar

from app.embedded.home import Account, Home
from app.embedded.service import Service

MODULE = "stripe_gateway.sandbox"


class Sandbox(Service):
    """One sandbox. Its key and secret are worth nothing outside it."""

    name: ClassVar[str] = "sandbox"
    port_name: ClassVar[str] = "sandbox_port"

    def __init__(self, home: Home, port: int, *, api_key: str, webhook_url: str, webhook_secret: str) -> None:
        super().__init__(home, port)
        self.api_key = api_key
        self.webhook_url = webhook_url
        self.webhook_secret = webhook_secret
        self.database = home.var / "sandbox.sqlite"

    def command(self) -> list[str]:
        words = [sys.executable, "-m", MODULE, "--port", str(self.port), "--database", str(self.database)]
        words += ["--webhook-url", self.webhook_url, "--webhook-secret", self.webhook_secret]
        return [*words, "--api-key", self.api_key, "--port-file", str(self.home.var / "sandbox.port")]

    def matches(self, argv: tuple[str, ...]) -> bool:
        return MODULE in argv and str(self.database) in argv

    def delivers_to(self) -> str | None:
        """Where the running sandbox sends its webhooks, None if none runs."""
        running = self.find()
        if running is None or "--webhook-url" not in running.argv:
            return None
        return running.argv[running.argv.index("--webhook-url") + 1]

    def account(self) -> Account | None:
        return None  # it runs our own Python, which the servers' account may not be able to read

    def folder(self) -> Path:
        return self.home.var

    def prepare(self) -> None:
        """It makes its database by itself."""

    def complete(self) -> None:
        """Nothing is left to do."""

    def is_ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True
