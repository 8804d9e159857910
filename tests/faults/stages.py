"""The states from which flows begin. Each is made once from the one before it, kept as a template, and copied."""

import queue
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.faults import driver
from tests.faults.flows import STAGES
from tests.faults.place import API_KEY, Place
from tests.processes import forks
from tests.processes.forks import FORKS
from tests.processes.sandbox import SandboxProcess
from tests.processes.services import Databases, TestServers


class ForkedSandbox(SandboxProcess):
    """A sandbox that is forked from a process which has imported it already: it serves within milliseconds.

    Started again it has another address: who is to speak with it is told anew.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, api_key=API_KEY)
        self._forked: Any = None

    def _launch(self) -> None:
        # It says itself which port it took: of several that are started at once no two may choose the same.
        said = self.folder / "port"
        said.unlink(missing_ok=True)
        words = ["--port=0", f"--port-file={said}", f"--database={self.database}", f"--api-key={self.api_key}"]
        process = FORKS.Process(
            target=driver.serve_sandbox, args=(str(self.folder), [*words, *self._arguments]), daemon=True
        )
        forks.start(process)
        self._forked = process
        self._port = driver.wait_for_port(said, is_alive=lambda: forks.wait_for(process, 0) is None)

    def kill9(self) -> None:
        if self._forked is not None:
            self._forked.kill()
            forks.wait_for(self._forked)
            forks.close(self._forked)
            self._forked = None

    def stop(self) -> int | None:
        """The sandbox keeps everything when it is killed: there is no gentler way to stop it here."""
        self.kill9()
        return None


class Stages:
    """The stages that were made so far in this session, as templates of databases and files of sandboxes."""

    def __init__(self, servers: TestServers, databases: Databases, redis_urls: Sequence[str], folder: Path) -> None:
        self._databases = databases
        self._folder = folder
        self._redis_urls: queue.Queue[str] = queue.Queue()
        for url in redis_urls:
            self._redis_urls.put(url)
        self._made: dict[str, str] = {}
        self._owner = make_url(servers.owner_url).username or ""
        admin = make_url(servers.admin_url).set(drivername="postgresql")
        self._admin = psycopg.connect(admin.render_as_string(hide_password=False), autocommit=True)

    def close(self) -> None:
        for name in self._made.values():
            self._databases.drop(name)
        self._admin.close()

    @contextmanager
    def place(self, stage: str, **options: Any) -> Iterator[tuple[Place, ForkedSandbox]]:
        """A place of one's own, as it was at the end of the stage; gone when the block ends."""
        template = self.template(stage)
        name, folder = self._copy(template, self._folder / stage)
        with self._running(name, folder, **options) as (place, sandbox):
            yield place, sandbox
        self._databases.drop(name)
        shutil.rmtree(folder)

    @contextmanager
    def _running(self, database: str, folder: Path, **options: Any) -> Iterator[tuple[Place, ForkedSandbox]]:
        """A place with its sandbox and an empty Redis that nobody else has."""
        redis_url = self._redis_urls.get()
        sandbox = ForkedSandbox(folder)
        try:
            with redis.Redis.from_url(redis_url) as client:
                client.flushdb()
            sandbox.start(**options)
            yield Place(self._databases.url(database), redis_url, sandbox.url, str(folder)), sandbox
        finally:
            sandbox.kill9()
            self._redis_urls.put(redis_url)

    def template(self, stage: str) -> str:
        """The name of the stage's database, made now if it never was. Not for threads that race for it."""
        if stage not in self._made:
            self._made[stage] = self._make(stage)
        return self._made[stage]

    def _make(self, stage: str) -> str:
        before, flows = STAGES[stage]
        if before is None:
            name, folder = self._databases.clone(), self._new_folder()
        else:
            name, folder = self._copy(self.template(before), self._folder / before)
        with self._running(name, folder) as (place, sandbox):
            for flow in flows:
                run(driver.prepare, place, flow, name=f"the stage {stage}")
                sandbox.advance(0)
        kept = self._folder / stage
        shutil.copytree(folder, kept)
        shutil.rmtree(folder)
        return name

    def _copy(self, template: str, files: Path) -> tuple[str, Path]:
        name = f"{template[:40]}_{secrets.token_hex(6)}"
        self._admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy").format(
                *map(sql.Identifier, (name, self._owner, template))
            )
        )
        folder = self._new_folder()
        for file in files.glob("sandbox.sqlite*"):
            shutil.copy(file, folder)
        return name, folder

    def _new_folder(self) -> Path:
        folder = self._folder / f"run-{secrets.token_hex(6)}"
        folder.mkdir(parents=True)
        return folder


class RunFailed(AssertionError):
    """A process ended otherwise than it should have."""


def run(work: Callable[..., None], place: Place, *args: Any, name: str, dies: bool = False) -> None:
    """Run a function of the driver in a process of its own, to its end; with `dies` it must be killed on its way."""
    process = begin(work, place, *args)
    code = end(process)
    if code != (-9 if dies else 0):
        logs = "".join(path.read_text()[-4000:] for path in sorted(Path(place.folder).glob("*.log")))
        raise RunFailed(f"{name} ended with {code}:\n{logs}")


def begin(work: Callable[..., None], place: Place, *args: Any) -> Any:
    """Start a function of the driver in a process of its own."""
    process = FORKS.Process(target=work, args=(place, *args), daemon=True)
    forks.start(process)
    return process


def end(process: Any) -> int | None:
    """Wait for the process's end; its exit code, None if it hung and was killed."""
    code = forks.wait_for(process, driver.LIMIT_S)
    if code is None:
        process.kill()
        forks.wait_for(process)
    forks.close(process)
    return code
