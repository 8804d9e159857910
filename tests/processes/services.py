"""One throw-away Postgres and one Valkey for a whole test session, however many workers it has.

The first worker that needs them starts a keeper: a process that starts both servers as its own children, writes down
how to reach them, and then waits for the lock that the session's first process holds. The kernel drops that lock when
that process ends, even by `kill -9`; the keeper then stops the servers and removes their folder. So no worker has to
be the last one, and nothing is left behind.
"""

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from app.embedded import home as homes
from app.embedded import state as states
from app.embedded.postgres import DATABASE, OWNER, SUPERUSER, Postgres
from app.embedded.valkey import DATABASES, Valkey

SESSION_VARIABLE = "BILLING_TEST_SESSION"
START_LIMIT_S = 120
MEMORY_FOLDER = "/dev/shm"
ROOM_WANTED = 12 * 2**30  # bytes; Postgres keeps up to 4 GiB of its log, and the longest tests' databases take less


@dataclass(frozen=True, slots=True)
class TestServers:
    """How to reach the session's servers."""

    __test__ = False  # a name that begins with Test is no test

    admin_url: str
    """May create and drop databases; in the throw-away cluster a superuser."""
    owner_url: str
    """Owns the test databases and runs migrations; the database in it is replaced."""
    redis_url: str


@contextmanager
def held_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on the file while the block runs."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


class TestSession:
    """The session's folder and lock, held by its first process: pytest itself, or the controller of xdist's workers."""

    __test__ = False

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="billing-test-", dir=roomy_memory()))
        self.folder.chmod(0o711)  # so that the servers' account can pass, when we are root
        self._lock = (self.folder / "session.lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.environ[SESSION_VARIABLE] = str(self.folder)

    def close(self) -> None:
        """Drop what we made on an outside server, let the keeper stop ours, and wait until it has."""
        os.environ.pop(SESSION_VARIABLE, None)
        if "TEST_DATABASE_URL" in os.environ:
            drop_databases(os.environ["TEST_DATABASE_URL"], template_name(self.folder))
        self._lock.close()
        with held_lock(self.folder / "keeper.lock"):
            shutil.rmtree(self.folder, ignore_errors=True)


def roomy_memory() -> str | None:
    """A folder in memory, if it and the machine have far more room than the tests write; else None, for the usual one.

    Copying a database for each test then takes half the time. TMPDIR, where it is set, is what somebody wants instead.
    """
    try:
        free = shutil.disk_usage(MEMORY_FOLDER).free
        available = next(
            int(line.split()[1]) * 1024
            for line in Path("/proc/meminfo").read_text().splitlines()
            if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration, ValueError):
        return None
    has_room = min(free, available) >= ROOM_WANTED and os.access(MEMORY_FOLDER, os.W_OK)
    return MEMORY_FOLDER if has_room and "TMPDIR" not in os.environ else None


def template_name(folder: Path) -> str:
    """The template's name; the folder's random one keeps two sessions on one outside server apart."""
    return folder.name.replace("-", "_").lower()


def drop_databases(admin_url: str, prefix: str) -> None:
    """Drop every database whose name begins with `prefix`."""
    url = make_url(admin_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
        for (name,) in found.fetchall():
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def session_servers() -> TestServers:
    """The session's servers, started if nobody has. TEST_DATABASE_URL and TEST_REDIS_URL replace them."""
    database_url, redis_url = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
    if database_url and redis_url:
        return TestServers(database_url, database_url, redis_url)
    folder = Path(os.environ[SESSION_VARIABLE])
    written = folder / "servers.json"
    with held_lock(folder / "start.lock"):
        if not written.exists():
            _start_keeper(folder, written)
    servers = TestServers(**json.loads(written.read_text()))
    return TestServers(
        database_url or servers.admin_url, database_url or servers.owner_url, redis_url or servers.redis_url
    )


def _start_keeper(folder: Path, written: Path) -> None:
    with (folder / "keeper.log").open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.services", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parent.parent.parent,
            start_new_session=True,  # a Ctrl-C ends the tests first; they may still need the servers to clean up
        )
    deadline = time.monotonic() + START_LIMIT_S
    while not written.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the test servers did not start:\n{(folder / 'keeper.log').read_text()}")
        time.sleep(0.02)
    keeper.returncode = 0  # it outlives us on purpose; without this Python would warn of a child left behind


@contextmanager
def throw_away_servers(folder: Path) -> Iterator[TestServers]:
    """A Postgres without fsync and a Valkey without files, ours alone, gone at the end."""
    home = homes.open_home(folder)
    passwords = [secrets.token_urlsafe(16) for _ in range(3)]
    postgres_port = states.choose_port()
    postgres = Postgres(
        home, postgres_port, superuser_password=passwords[0], owner_password=passwords[1], durable=False
    )
    valkey = Valkey(home, states.choose_port((postgres_port,)), password=passwords[2], durable=False)
    server = URL.create("postgresql+psycopg", host="127.0.0.1", port=postgres_port, database="postgres")
    try:
        postgres.start(attached=True)
        valkey.start(attached=True)
        yield TestServers(
            server.set(username=SUPERUSER, password=passwords[0]).render_as_string(hide_password=False),
            server.set(username=OWNER, password=passwords[1], database=DATABASE).render_as_string(hide_password=False),
            f"redis://:{passwords[2]}@127.0.0.1:{valkey.port}",
        )
    finally:
        valkey.stop()
        postgres.stop()
        if home.data != home.var:
            shutil.rmtree(home.data, ignore_errors=True)
        shutil.rmtree(home.var, ignore_errors=True)


def keep(folder: Path) -> None:
    """Run the servers until the session's first process is gone."""
    with held_lock(folder / "keeper.lock"), throw_away_servers(folder / "servers") as servers:
        draft = folder / "servers.json.new"
        draft.write_text(json.dumps(asdict(servers)))
        draft.chmod(0o600)
        draft.rename(folder / "servers.json")
        with held_lock(folder / "session.lock"):
            pass


class Databases:
    """Makes test databases as copies of one migrated template."""

    def __init__(self, servers: TestServers, template: str) -> None:
        self._owner_url = make_url(servers.owner_url)
        self._template = template
        admin = make_url(servers.admin_url).set(drivername="postgresql")
        self._connection = psycopg.connect(admin.render_as_string(hide_password=False), autocommit=True)

    def url(self, name: str) -> str:
        return self._owner_url.set(database=name).render_as_string(hide_password=False)

    def prepare_template(self) -> None:
        """Make and migrate the template unless it is there. The caller holds a lock over all workers."""
        from app.database import upgrade  # here: tests of the services alone must not need the rooms' tables

        found = self._connection.execute(
            "SELECT datallowconn FROM pg_database WHERE datname = %s", [self._template]
        ).fetchone()
        if found is not None and not found[0]:
            return
        self.drop(self._template)
        self._run("CREATE DATABASE {} OWNER {}", self._template, self._owner_url.username or "")
        upgrade(self.url(self._template))
        # Nobody can connect from here on: one open connection would block every copy.
        self._run("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", self._template)

    def clone(self) -> str:
        """A new copy of the template; returns its name."""
        name = f"{self._template}_{secrets.token_hex(6)}"
        # Copying files takes a third of the time of copying through the log, for a database of this size.
        self._run(
            "CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy",
            name,
            self._owner_url.username or "",
            self._template,
        )
        return name

    def backup(self, name: str) -> str:
        """A copy of a database as it is now, like a restored backup; returns its name. Ends its connections."""
        copy = f"{self._template}_{secrets.token_hex(6)}"
        self._connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        statement = "CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy"
        self._run(statement, copy, self._owner_url.username or "", name)
        return copy

    def drop(self, name: str) -> None:
        """Drop a database, and whoever is still connected to it."""
        self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def close(self) -> None:
        self._connection.close()

    def _run(self, statement: str, *names: str) -> None:
        query = sql.SQL(statement).format(*map(sql.Identifier, names))
        self._connection.execute(query)


def redis_database(servers: TestServers, worker: str) -> str:
    """The Redis database of one xdist worker ("gw3", or "master" without xdist); number 0 is left alone."""
    number = 1 + (int(worker.removeprefix("gw")) + 1 if worker.startswith("gw") else 0)
    if number >= DATABASES:
        raise RuntimeError(f"more than {DATABASES - 2} workers")
    return f"{servers.redis_url.rstrip('/')}/{number}"


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
