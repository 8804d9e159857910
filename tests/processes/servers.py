"""Servers of a test's own, to be stopped hard and started again without anybody else noticing."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.engine import URL

from app.embedded import home as homes
from app.embedded import state as states
from app.embedded.home import Home
from app.embedded.postgres import DATABASE, OWNER, Postgres
from app.embedded.valkey import Valkey


@contextmanager
def own_valkey(folder: Path) -> Iterator[tuple[Valkey, str]]:
    """A Valkey without files, and its address."""
    password = secrets.token_urlsafe(16)
    home = homes.open_home(folder)
    valkey = Valkey(home, states.choose_port(()), password=password, durable=False)
    valkey.start(attached=True)
    try:
        yield valkey, f"redis://:{password}@127.0.0.1:{valkey.port}/0"
    finally:
        valkey.stop(force=True)
        _clear(home)


@contextmanager
def own_postgres(folder: Path) -> Iterator[tuple[Postgres, str]]:
    """A cluster that keeps what it acknowledged, with an empty database, and its owner's address."""
    passwords = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    home = homes.open_home(folder)
    postgres = Postgres(
        home,
        states.choose_port(()),
        superuser_password=passwords[0],
        owner_password=passwords[1],
    )
    url = URL.create("postgresql+psycopg", OWNER, passwords[1], "127.0.0.1", postgres.port, DATABASE)
    try:
        postgres.start(attached=True)
        yield postgres, url.render_as_string(hide_password=False)
    finally:
        postgres.stop(force=True)
        _clear(home)


def _clear(home: Home) -> None:
    """What lies outside of the test's folder would stay behind."""
    if home.data != home.var:
        shutil.rmtree(home.data, ignore_errors=True)
