"""What every test may ask for: a migrated database of its own, and an empty Redis."""

import gc
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.database import create_engine
from tests.processes import services
from tests.processes.dialect import share_dialect
from tests.processes.services import Databases, TestServers, TestSession
from tests.sandbox import watch

_session_key = pytest.StashKey[TestSession]()
_watch_key = pytest.StashKey[watch.Watch]()
EXCHANGES = "exchanges"
"""The folder in the session's own where sandboxes write what was said over the wire, one folder a worker."""
RUN_VARIABLES = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "DATABASE_PANEL_URL",
    "REDIS_URL",
    "STRIPE_API_KEY",
    "STRIPE_API_BASE",
    "STRIPE_WEBHOOK_SECRET",
    "SECRET_KEY",
)


LONGEST_FIRST = (
    "tests/story/",
    "tests/support_ui/test_browser.py",
    "tests/gateway/test_kill_during_",
    "tests/panel/test_browser.py",
    "tests/demo/",
    "tests/faults/",
    "tests/hammer/",
    "tests/gateway/test_background.py",
    "tests/gateway/test_ambiguous_answers.py",
    "tests/e2e/",
)
"""Begun first, so that at the end of a run no worker is left with one of them while the others have nothing to do."""

LONG_RUN_S = 4 * 3600


def pytest_configure(config: pytest.Config) -> None:
    """Open the session in pytest's first process; xdist's workers find it in their environment."""
    # No test may reach what the shell happens to point at: it could be somebody's real database.
    for name in RUN_VARIABLES:
        os.environ.pop(name, None)
    if services.SESSION_VARIABLE not in os.environ:
        config.stash[_session_key] = TestSession()
    share_dialect()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "first")
    config.stash[_watch_key] = watch.Watch.begin(Path(os.environ[services.SESSION_VARIABLE]) / EXCHANGES / worker)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first; the rest stays as it is. A run at full size has hours, if it does not say otherwise."""

    def place(item: pytest.Item) -> int:
        fitting = (at for at, start in enumerate(LONGEST_FIRST) if item.nodeid.startswith(start))
        return next(fitting, len(LONGEST_FIRST))

    items.sort(key=place)
    for item in items:
        if item.get_closest_marker("soak") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_RUN_S))


def pytest_collection_finish() -> None:
    """What was imported by now stays until the end: the collector of garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """When a test has put everything away, what its sandboxes said is held against Stripe's own schema."""
    yield
    item.config.stash[_watch_key].look()


def pytest_sessionfinish(session: pytest.Session) -> None:
    session.config.stash[_watch_key].end()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was held against Stripe's schema, or that it is not here."""
    line = watch.summary(Path(os.environ[services.SESSION_VARIABLE]) / EXCHANGES)
    if line is not None:
        terminalreporter.write_line(line, yellow=line == watch.ABSENT)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the session started. Runs on Ctrl-C too."""
    session = config.stash.get(_session_key, None)
    if session is not None:
        session.close()


@pytest.fixture(scope="session")
def servers() -> TestServers:
    """The session's Postgres and Valkey."""
    return services.session_servers()


@pytest.fixture(scope="session")
def databases(servers: TestServers) -> Iterator[Databases]:
    """Copies of the migrated template, which the first worker makes."""
    folder = Path(os.environ[services.SESSION_VARIABLE])
    databases = Databases(servers, services.template_name(folder))
    with services.held_lock(folder / "template.lock"):
        databases.prepare_template()
    yield databases
    databases.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A fresh database at the newest migration, reached as its owner; dropped after the test."""
    name = databases.clone()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine on the test's database, as the application's role: what the role may not do fails here as well."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session on the test's database. The test commits; what it does not commit is rolled back."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def redis_url(servers: TestServers) -> Iterator[str]:
    """An empty Redis database, this worker's own."""
    url = services.redis_database(servers, os.environ.get("PYTEST_XDIST_WORKER", "master"))
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    """What a `billing` command needs to be told to work on the test's database; Redis and Stripe are not there."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "STRIPE_API_KEY": "sk_test_sandbox_none",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "STRIPE_WEBHOOK_SECRET": "whsec_none",
        "SECRET_KEY": "x" * 40,
        "BILLING_VAR": str(tmp_path / "var"),
    }
