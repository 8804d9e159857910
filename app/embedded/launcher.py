"""Bringing the embedded services up and down, together and in order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from app.embedded import home as homes
from app.embedded import state as states
from app.embedded.errors import StateDamaged
from app.embedded.home import Home
from app.embedded.postgres import Postgres
from app.embedded.sandbox import Sandbox
from app.embedded.service import Service
from app.embedded.state import State
from app.embedded.valkey import Valkey

SERVICES: dict[str, type[Service]] = {"postgres": Postgres, "valkey": Valkey, "sandbox": Sandbox}
"""In the order in which they start; they stop the other way round."""


WRITTEN = (
    *("postgres", "postgres.new-*", "valkey", "log", homes.COPIES_NAME, homes.LINK_NAME),
    *("sandbox.sqlite", "sandbox.sqlite-wal", "sandbox.sqlite-shm", "sandbox.port"),
    *(states.STATE_FILE, states.LOCK_FILE, states.RUN_LOCK_FILE),
)
"""Everything that the services and this launcher write under `var`, as patterns."""


@dataclass(frozen=True, slots=True)
class ServiceUrls:
    """How to reach the embedded services, and the secrets that go with them."""

    database_url: str = field(repr=False)
    database_owner_url: str = field(repr=False)
    database_panel_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    stripe_api_key: str = field(repr=False)
    stripe_api_base: str
    stripe_webhook_secret: str = field(repr=False)
    secret_key: str = field(repr=False)
    web_port: int

    def as_environment(self) -> dict[str, str]:
        """The variables of the contract, for a shell or a child process."""
        return {
            "DATABASE_URL": self.database_url,
            "DATABASE_OWNER_URL": self.database_owner_url,
            "DATABASE_PANEL_URL": self.database_panel_url,
            "REDIS_URL": self.redis_url,
            "STRIPE_API_KEY": self.stripe_api_key,
            "STRIPE_API_BASE": self.stripe_api_base,
            "STRIPE_WEBHOOK_SECRET": self.stripe_webhook_secret,
            "SECRET_KEY": self.secret_key,
        }


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service at this moment."""

    name: str
    address: str
    pid: int | None
    is_ready: bool
    log: Path


def urls(state: State) -> ServiceUrls:
    """The addresses that a state stands for."""
    return ServiceUrls(
        database_url=state.database_url,
        database_owner_url=state.database_owner_url,
        database_panel_url=state.database_panel_url,
        redis_url=state.redis_url,
        stripe_api_key=state.stripe_api_key,
        stripe_api_base=state.stripe_api_base,
        stripe_webhook_secret=state.webhook_secret,
        secret_key=state.secret_key,
        web_port=state.web_port,
    )


def build(name: str, home: Home, state: State) -> Service:
    """The service of that name, as the state describes it."""
    if name == Postgres.name:
        return Postgres(
            home,
            state.postgres_port,
            superuser_password=state.superuser_password,
            owner_password=state.owner_password,
            logins={login: (state.login_password(login), role) for login, role in states.LOGINS.items()},
        )
    if name == Valkey.name:
        return Valkey(home, state.redis_port, password=state.redis_password)
    return Sandbox(
        home,
        state.sandbox_port,
        api_key=state.stripe_api_key,
        webhook_url=f"{state.web_url}/webhooks/stripe",
        webhook_secret=state.webhook_secret,
    )


def _in_order(names: Iterable[str]) -> list[str]:
    wanted = set(names)
    unknown = wanted - SERVICES.keys()
    if unknown:
        raise ValueError(f"no such service: {sorted(unknown)}")
    return [name for name in SERVICES if name in wanted]


def open_state(home: Home, ports: Mapping[str, int]) -> State:
    """The kept state, or a new one. The caller holds the lock.

    Raises:
        StateDamaged: there is data, but the file with its passwords is gone.
    """
    state = states.read(home.var)
    if state is None:
        if (home.data / "postgres").exists():
            raise StateDamaged(
                f"{home.var / states.STATE_FILE} is gone, and with it the passwords of {home.data / 'postgres'}. "
                "Restore it, or start over with `make clean`."
            )
        state = states.create(ports)
        states.write(home.var, state)
    return state


def start_one(name: str, home: Home, ports: Mapping[str, int], *, attached: bool = False) -> Service:
    """Start one service unless it runs and answers. The caller holds the lock.

    The port is chosen anew if another program took it meanwhile, and kept.

    Raises:
        PortTaken, StartFailed, BinariesMissing, VersionMismatch: see there.
    """
    state = open_state(home, ports)
    service = build(name, home, state)
    if service.find() is not None:
        if not service.is_healthy():
            service.wait_until_ready()
            service.complete()
        return service
    state = states.with_port(state, service.port_name, ports)
    states.write(home.var, state)
    service = build(name, home, state)
    service.start(attached=attached)
    return service


def ensure_up(
    var: Path, *, names: Iterable[str] = tuple(SERVICES), ports: Mapping[str, int] | None = None
) -> ServiceUrls:
    """Start those of the services that do not run, as daemons, and return when all answer.

    Harmless when all run, and when two processes call it at once. `ports` are the configured ones, by name of the field
    in the state; they count when a service starts, and a running one keeps the port it has.

    Raises:
        EmbeddedError: one of its kinds; the text names the cure.
    """
    wanted = _in_order(names)
    home = homes.open_home(var)
    state = states.read(home.var)
    if state is None or not all(build(name, home, state).is_healthy() for name in wanted):
        with states.locked(home.var):
            for name in wanted:
                start_one(name, home, ports or {})
            state = open_state(home, ports or {})
    return urls(state)


def down(var: Path, *, names: Iterable[str] = tuple(SERVICES)) -> list[str]:
    """Stop the services and wait for their end; returns the names of those that ran. Changes nothing that they keep.

    Raises:
        StopFailed: one of them did not end.
        Supervised: `billing run` is at work here, and would start them again.
    """
    home = homes.open_home(var)
    with states.supervised(home.var), states.locked(home.var):
        # Somebody may have removed the state, or all of `var`, under running servers; their words still tell them.
        state = states.read(home.var) or states.create({})
        return [name for name in reversed(_in_order(names)) if build(name, home, state).stop()]


def status(var: Path) -> list[ServiceStatus]:
    """Each service as it is now; an empty list before the first start. Starts and changes nothing."""
    state = states.read(var) if var.exists() else None
    if state is None:
        return []
    home = homes.open_home(var)
    found = []
    for name in SERVICES:
        service = build(name, home, state)
        running = service.find()
        ready = running is not None and service.is_healthy()
        address = f"127.0.0.1:{service.port}"
        found.append(ServiceStatus(name, address, running.pid if running else None, ready, service.log))
    return found


def erase(var: Path) -> None:
    """Stop the services and delete everything that they wrote. What else is under `var` stays.

    Raises:
        StopFailed, Supervised: see `down`.
    """
    down(var)
    homes.erase(homes.open_home(var), WRITTEN)
