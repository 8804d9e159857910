"""Books to post into, and the three kinds of people who may hold a connection: application, owner, superuser."""

from collections.abc import Callable, Iterator
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from ledger.checks import run_checks
from tests.integration.ledger.books import SET_APP_ROLE, Ledger, plain_url
from tests.processes.services import TestServers

Connect = Callable[[str], psycopg.Connection]


@pytest.fixture(autouse=True)
def every_check_holds_afterwards(engine: Engine) -> Iterator[None]:
    """Whatever a test did, the books it leaves behind are right. Tests that tamper replace this fixture."""
    yield
    with Session(engine) as session:
        assert [(result.name, result.offenders) for result in run_checks(session) if not result.holds] == []


@pytest.fixture
def connect(database_url: str, servers: TestServers) -> Iterator[Connect]:
    """Raw connections in autocommit: as "app", "owner" or "superuser"."""
    opened: list[psycopg.Connection] = []

    def open_as(who: str) -> psycopg.Connection:
        url = database_url
        if who == "superuser":
            url = make_url(servers.admin_url).set(database=make_url(url).database).render_as_string(hide_password=False)
        connection = psycopg.connect(plain_url(url), autocommit=True, options="-c timezone=UTC -c lock_timeout=10s")
        opened.append(connection)
        if who == "app":
            connection.execute(SET_APP_ROLE)
        return connection

    yield open_as
    for connection in opened:
        connection.close()


@pytest.fixture
def ledger(engine: Engine) -> Ledger:
    return Ledger(engine)


@pytest.fixture
def acme(ledger: Ledger) -> UUID:
    """A customer in USD, billed by the calendar month in UTC."""
    return ledger.open()
