"""Ports and passwords of the embedded services: chosen once, kept in `var/services.json`, for their owner only."""

import fcntl
import hmac
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from app.embedded.errors import LauncherBusy, PortTaken, StateDamaged, Supervised

STATE_FILE = "services.json"
LOCK_FILE = "services.lock"
RUN_LOCK_FILE = "run.lock"
LOCK_WAIT_S = 300
"""Longer than a start with crash recovery takes; whoever holds the lock longer is stuck."""

FIRST_PORT, LAST_PORT = 20000, 29999
"""Below the range from which systems take the ports of outgoing connections (32768 on Linux, 49152 on macOS), so that
nothing sits on a service's port by accident while the service restarts."""

DEFAULT_WEB_PORT = 8000
SANDBOX_KEY_PREFIX = "sk_test_sandbox_"
"""A key that our sandbox accepts and that Stripe never issued."""

SERVICE_LOGIN, PANEL_LOGIN = "billing_service", "billing_visitor"
LOGINS = {SERVICE_LOGIN: "billing_app", PANEL_LOGIN: "billing_panel"}
"""The embedded database's logins for processes and for the customer panel, and the one role that each may act as."""

PORT_VARIABLES = {
    "postgres_port": "BILLING_PG_PORT",
    "redis_port": "BILLING_REDIS_PORT",
    "sandbox_port": "BILLING_SANDBOX_PORT",
    "web_port": "BILLING_WEB_PORT",
}


@dataclass(frozen=True, slots=True)
class State:
    """What must stay the same from one start to the next."""

    postgres_port: int
    redis_port: int
    sandbox_port: int
    web_port: int
    superuser_password: str
    owner_password: str
    redis_password: str
    stripe_api_key: str
    webhook_secret: str
    secret_key: str

    @property
    def database_url(self) -> str:
        """What processes log in with: they can become the application's role and no other."""
        return self._database_url(SERVICE_LOGIN, self.login_password(SERVICE_LOGIN))

    @property
    def database_owner_url(self) -> str:
        """What migrations log in with."""
        return self._database_url("billing_owner", self.owner_password)

    @property
    def database_panel_url(self) -> str:
        """What the customer panel logs in with."""
        return self._database_url(PANEL_LOGIN, self.login_password(PANEL_LOGIN))

    def login_password(self, login: str) -> str:
        """Derived from a kept secret, in the one direction in which nobody can go back."""
        return hmac.new(self.superuser_password.encode(), login.encode(), "sha256").hexdigest()

    def _database_url(self, login: str, password: str) -> str:
        return f"postgresql://{login}:{password}@127.0.0.1:{self.postgres_port}/billing"

    @property
    def redis_url(self) -> str:
        return f"redis://:{self.redis_password}@127.0.0.1:{self.redis_port}/0"

    @property
    def stripe_api_base(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}"

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port(taken: tuple[int, ...] = ()) -> int:
    """A free loopback port that is none of `taken`."""
    while True:
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        if port not in taken and is_free(port):
            return port


def create(ports: Mapping[str, int]) -> State:
    """A first state; `ports` holds those that are configured, by field name."""
    chosen = dict(ports)
    for name in PORT_VARIABLES:
        if name == "web_port" and is_free(DEFAULT_WEB_PORT):
            chosen.setdefault(name, DEFAULT_WEB_PORT)
        elif name not in chosen:
            chosen[name] = choose_port(tuple(chosen.values()))
    return State(
        **chosen,
        superuser_password=secrets.token_urlsafe(24),
        owner_password=secrets.token_urlsafe(24),
        redis_password=secrets.token_urlsafe(24),
        stripe_api_key=SANDBOX_KEY_PREFIX + secrets.token_hex(16),
        webhook_secret="whsec_" + secrets.token_hex(24),
        secret_key=secrets.token_urlsafe(48),
    )


def read(var: Path) -> State | None:
    """The kept state, or None before the first start.

    Raises:
        StateDamaged: the file is there and cannot be understood.
    """
    path = var / STATE_FILE
    try:
        kept = json.loads(path.read_text())
        return State(**{field.name: field.type(kept[field.name]) for field in fields(State) if callable(field.type)})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StateDamaged(f"{path} cannot be understood. Restore it, or start over with `make clean`.") from error


def write(var: Path, state: State) -> None:
    """Keep the state: whole or not at all, and never readable by others."""
    path, draft = var / STATE_FILE, var / (STATE_FILE + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(state), file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _set_port(state: State, name: str, port: int) -> State:
    return State(**(asdict(state) | {name: port}))


def with_port(state: State, name: str, ports: Mapping[str, int]) -> State:
    """The state with a usable port for a service that is about to start.

    Raises:
        PortTaken: the port is configured and another program has it.
    """
    wanted = ports.get(name, getattr(state, name))
    if is_free(wanted):
        return _set_port(state, name, wanted)
    if name in ports:
        raise PortTaken(f"Port {wanted} is in use. Free it, or set {PORT_VARIABLES[name]} to another port.")
    return _set_port(state, name, choose_port(tuple(getattr(state, other) for other in PORT_VARIABLES)))


@contextmanager
def supervised(var: Path) -> Iterator[None]:
    """Hold the folder for one supervisor. Only it may stop services then, since it starts again what stops.

    Raises:
        Supervised: another process is the supervisor.
    """
    with os.fdopen(os.open(var / RUN_LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Supervised(f"`billing run` is at work in {var}. Stop it with Ctrl-C in its terminal.") from None
        yield


@contextmanager
def locked(var: Path) -> Iterator[None]:
    """Let one launcher at a time start or stop services of this folder.

    The kernel drops the lock when its holder dies, so a killed launcher blocks nobody.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    with os.fdopen(os.open(var / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600), "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LauncherBusy(f"Another launcher holds {file.name}. End it, then try again.") from None
                time.sleep(0.05)
        yield
