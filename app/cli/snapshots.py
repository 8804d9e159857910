"""One moment of the database, for commands that read much."""

import contextlib
from collections.abc import Iterator

from sqlalchemy.orm import Session

from app.config import load_config
from app.database import create_engine


@contextlib.contextmanager
def snapshot() -> Iterator[Session]:
    """A session that sees one moment, however long it takes, and cannot write."""
    engine = create_engine(load_config().database_url)
    frozen = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    try:
        with Session(frozen) as session:
            yield session
    finally:
        engine.dispose()
