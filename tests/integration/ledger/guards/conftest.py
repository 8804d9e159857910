"""One database per module and role: each attack is rolled back, and the books are checked after the last one."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy.orm import Session

from app.database import create_engine
from ledger.checks import run_checks
from tests.integration.ledger.books import SET_APP_ROLE, Ledger, plain_url
from tests.integration.ledger.guards.attacks import Target, prepare, undone
from tests.processes.services import Databases


@pytest.fixture(autouse=True)
def every_check_holds_afterwards() -> None:
    """These attacks share a database, which is checked when all of them are done."""


@pytest.fixture(scope="module", params=["app", "owner"])
def prepared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Target]:
    """The books under attack, reached as the application's role or as the owner."""
    name = databases.clone()
    engine = create_engine(databases.url(name))
    with psycopg.connect(plain_url(databases.url(name)), autocommit=True) as connection:
        if request.param == "app":
            connection.execute(SET_APP_ROLE)
        yield prepare(Ledger(engine), connection)
    with Session(engine) as session:
        assert [result for result in run_checks(session) if not result.holds] == []
    engine.dispose()
    databases.drop(name)


@pytest.fixture
def target(prepared: Target) -> Iterator[Target]:
    with undone(prepared.connection):
        yield prepared
