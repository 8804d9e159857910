"""The embedded Postgres: laying out a cluster, starting it, and the database and roles in it."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql

from app.embedded import binaries, process_table
from app.embedded.errors import StartFailed, StateDamaged, VersionMismatch
from app.embedded.home import Home, give
from app.embedded.service import Service, die_with_parent

SUPERUSER = "postgres"
OWNER = "billing_owner"
DATABASE = "billing"
BUILTIN_LOCALE_SINCE = 17
DRAFT_PREFIX = "postgres.new-"


def buffer_size(memory: int) -> str:
    """An eighth of the machine's memory (in bytes), from 128 MB to 1 GB: room for the indexes of a long journal."""
    return f"{min(max(memory // 8 // 2**20, 128), 1024)}MB"


SETTINGS = {
    "listen_addresses": "127.0.0.1",  # not a name: without a hosts file `localhost` leads nowhere
    "unix_socket_directories": "",  # their paths may be 107 bytes long at most; a deep project folder is longer
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": buffer_size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
    # After each checkpoint the first change of a page writes the whole page to the log, and entry ids lie anywhere in
    # their index: with the default of 1 GB a long journal spends much of its time on that.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
THROW_AWAY_SETTINGS = SETTINGS | {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    # Copying a template database walks through all buffers, so few of them make a test start sooner.
    "shared_buffers": "32MB",
    "shared_preload_libraries": "",
}


class Postgres(Service):
    """One cluster. `durable=False` is for tests: it may lose everything in a crash, and is fast.

    `logins` maps the name of a login to its password and to the one role that it may act as.
    """

    name: ClassVar[str] = "postgres"
    port_name: ClassVar[str] = "postgres_port"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # fast shutdown: open transactions are rolled back
    force_signal: ClassVar[signal.Signals] = signal.SIGQUIT  # it recovers at the next start, as after a power cut
    start_limit_s: ClassVar[float] = 240  # crash recovery replays at most a few gigabytes of log
    stop_limit_s: ClassVar[float] = 60
    passing_obstacles: ClassVar[tuple[str, ...]] = ("lock file", "shared memory block")

    def __init__(
        self,
        home: Home,
        port: int,
        *,
        superuser_password: str,
        owner_password: str,
        logins: Mapping[str, tuple[str, str]] | None = None,
        durable: bool = True,
    ) -> None:
        super().__init__(home, port)
        self.superuser_password = superuser_password
        self.owner_password = owner_password
        self.logins = dict(logins or {})
        self.durable = durable
        self.data = home.data / "postgres"
        self._programs: Path | None = None

    @property
    def programs(self) -> Path:
        """The folder of the server programs; looked up once, when first needed."""
        if self._programs is None:
            self._programs = binaries.postgres_folder(self.home)
        return self._programs

    def command(self) -> list[str]:
        settings = SETTINGS if self.durable else THROW_AWAY_SETTINGS
        words = [str(self.programs / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return words

    def matches(self, argv: tuple[str, ...]) -> bool:
        # A server process renames itself to "postgres: ..."; only the postmaster keeps the words it was started with.
        return Path(argv[0]).name == "postgres" and argv[1:3] == ("-D", str(self.data))

    def folder(self) -> Path:
        return self.data

    def connect(self, login: str, *, database: str) -> psycopg.Connection:
        """A connection that commits each statement by itself."""
        passwords = {SUPERUSER: self.superuser_password, OWNER: self.owner_password}
        passwords |= {name: password for name, (password, _) in self.logins.items()}
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=login,
            password=passwords[login],
            dbname=database,
            connect_timeout=5,
            autocommit=True,
        )

    def is_ready(self) -> bool:
        try:
            self.connect(SUPERUSER, database="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def is_healthy(self) -> bool:
        # The last login's way into the billing database also says that `complete` has run to its end.
        if self.find() is None:
            return False
        try:
            self.connect([OWNER, *self.logins][-1], database=DATABASE).close()
        except psycopg.OperationalError:
            return False
        return True

    def prepare(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._check_version()
        self._clear_remains()

    def _initialise(self) -> None:
        """Lay out the cluster beside its place and move it there when it is whole: a killed `initdb` leaves no half."""
        if self.data.exists():
            raise StateDamaged(f"{self.data} is there but is no database. Move it away, then try again.")
        self._remove_drafts()
        folder = Path(tempfile.mkdtemp(prefix=DRAFT_PREFIX, dir=self.home.data))
        draft, password_file = folder / "cluster", folder / "password"
        draft.mkdir(mode=0o700)
        with os.fdopen(os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.superuser_password + "\n")
        for path in (folder, draft, password_file):
            give(path, self.home.account)
        self._run_initdb(draft, password_file)
        draft.rename(self.data)
        self._remove_drafts()

    def _run_initdb(self, draft: Path, password_file: Path) -> None:
        words = [str(self.programs / "initdb"), "-D", str(draft), "-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8"]
        words += ["--pwfile", str(password_file), "--locale=C.UTF-8"]
        if binaries.postgres_major(self.programs) >= BUILTIN_LOCALE_SINCE:
            # The same sort order on every system: the C library's is not.
            words += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        words += ["--data-checksums"] if self.durable else ["--no-sync"]
        account = self.account()
        initdb = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=draft,
            start_new_session=True,
            umask=0o077,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        try:
            output, _ = initdb.communicate()
        except BaseException:
            os.killpg(initdb.pid, signal.SIGKILL)  # a Ctrl-C: it has children, which would write on
            initdb.communicate()
            raise
        if initdb.returncode:
            raise StartFailed(f"initdb ended with status {initdb.returncode}:\n{output}".strip())

    def _remove_drafts(self) -> None:
        """Remove what a killed launcher left. Its `initdb` may still be at work; ours has a folder of its own."""
        for folder in self.home.data.glob(f"{DRAFT_PREFIX}*"):
            for pid in process_table.working_in(folder / "cluster"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)

    def _check_version(self) -> None:
        kept = (self.data / "PG_VERSION").read_text().strip()
        major = binaries.postgres_major(self.programs)
        if kept != str(major):
            raise VersionMismatch(
                f"{self.data} was written by Postgres {kept}; {self.programs} is {major}. Set PG_BINDIR to a "
                f"Postgres {kept}, dump and restore, or start over with `make clean`."
            )

    def _clear_remains(self) -> None:
        """After a `kill -9` or a reboot: remove what would keep the next postmaster from starting.

        `postmaster.pid` names a number that a zombie or a stranger may have by now, and Postgres then refuses. We know
        that no postmaster of this cluster runs. Orphaned server processes of the killed one hold its shared memory,
        which Postgres checks by itself; they are told to leave.
        """
        for pid in process_table.working_in(self.data):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def complete(self) -> None:
        """Make the owner's role and database, and the logins. The owner is no superuser; it may make roles, as
        migrations do."""
        with self.connect(SUPERUSER, database="postgres") as connection:
            _make_role(connection, OWNER, sql.SQL("LOGIN CREATEROLE CREATEDB"), self.owner_password)
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).rowcount:
                database = sql.SQL("CREATE DATABASE {} OWNER {}")
                connection.execute(database.format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))
        if self.durable:
            with self.connect(SUPERUSER, database=DATABASE) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        with self.connect(SUPERUSER, database=DATABASE) as connection:
            for login, (password, role) in self.logins.items():
                # Migrations make this role where nobody has; here the login that is limited to it comes first.
                _make_role(connection, role, sql.SQL("NOLOGIN"))
                grant = sql.SQL("GRANT {} TO {} WITH ADMIN OPTION")
                connection.execute(grant.format(sql.Identifier(role), sql.Identifier(OWNER)))
                _make_role(connection, login, sql.SQL("LOGIN IN ROLE {}").format(sql.Identifier(role)), password)


def _make_role(connection: psycopg.Connection, name: str, options: sql.Composable, password: str | None = None) -> None:
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).rowcount:
        return
    words = sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), options)
    if password is not None:
        words += sql.SQL(" PASSWORD {}").format(sql.Literal(password))
    connection.execute(words)
