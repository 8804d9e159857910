"""Engines, sessions and migrations: the only place that knows how we connect to Postgres."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.orm import Session
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

APP_ROLE = "billing_app"
"""The role that every process takes on after connecting; migrations alone run as the owner."""

PANEL_ROLE = "billing_panel"
"""The role of the customer panel: it reads, and sees the rows of one customer at a time."""

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def normalise_url(url: str) -> str:
    """`postgres://` and `postgresql://` with the driver that we ship named."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def create_engine(url: str, *, pool_size: int = 5, role: str = APP_ROLE) -> Engine:
    """An engine whose sessions act as `role`, in UTC, and never wait for a lock for ever.

    The role is put on, and whoever runs SQL of their own may take it off again: what they can become then is decided
    by the login in `url`.
    """
    options = f"-c role={role} -c timezone=UTC -c lock_timeout=30s -c idle_in_transaction_session_timeout=120s"
    engine = sqlalchemy.create_engine(
        normalise_url(url), pool_size=pool_size, max_overflow=10, connect_args={"options": options}
    )
    sqlalchemy.event.listen(engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(dbapi_connection: DBAPIConnection, _record: object, _proxy: object) -> None:
    """Let the pool replace a connection that the server closed while it lay idle.

    The server has nothing to say to an idle connection but goodbye, so a look at the socket tells; SQLAlchemy's
    pre-ping asks in three round trips, which is as much as posting an entry takes.
    """
    idle = select.poll()
    idle.register(dbapi_connection.fileno(), select.POLLIN)
    if idle.poll(0):
        raise DisconnectionError("the server closed this connection")


@contextmanager
def session_scope(engine: Engine) -> Iterator[Session]:
    """One session, one transaction: commits on success, rolls back on any exception."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


def alembic_config() -> "AlembicConfig":
    """Where the migrations are, for Alembic's own commands."""
    from alembic.config import Config as AlembicConfig

    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _waited_for_lock(error: BaseException) -> bool:
    return isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) == "55P03"


@retry(
    retry=retry_if_exception(_waited_for_lock),
    stop=stop_after_attempt(30),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    reraise=True,
)
def upgrade(url: str) -> None:
    """Bring the schema to the newest revision, as the owner. Safe to run twice and by two processes at once."""
    # Only this function needs Alembic; every other command starts the faster without it.
    from alembic import command

    engine = sqlalchemy.create_engine(normalise_url(url), poolclass=sqlalchemy.NullPool)
    config = alembic_config()
    with engine.connect() as connection:
        # Two upgraders at once would both run the first migration. The lock only makes the second one wait: the
        # revision table is what decides.
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(hashtextextended('billing migrations', 0))"))
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()
