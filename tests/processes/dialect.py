"""One SQLAlchemy dialect, and one cache of compiled statements, for all engines of a test process.

A process in production has one engine, and compiles a statement once. A test has engines of its own, since it has a
database of its own; compiling everything anew for each of them took a third of an ordinary test's computing.
"""

from typing import Any

from sqlalchemy import Engine, util
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

_CACHE: util.LRUCache[Any, Any] = util.LRUCache(4000)


class SharedDialect(PGDialect_psycopg):
    """The dialect for psycopg, of which there is one for each set of options."""

    supports_statement_cache = True
    _made: "dict[frozenset[Any], SharedDialect]" = {}  # noqa: RUF012 - shared is what it is for
    _is_built = False

    def __new__(cls, **options: Any) -> "SharedDialect":
        return cls._made.setdefault(frozenset(options.items()), super().__new__(cls))

    def __init__(self, **options: Any) -> None:
        if not self._is_built:
            super().__init__(**options)  # type: ignore[no-untyped-call]  # SQLAlchemy's own
            self._is_built = True

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Called by SQLAlchemy with every engine that it makes."""
        engine.update_execution_options(compiled_cache=_CACHE)


def share_dialect() -> None:
    """From here on, all engines of this process share it."""
    registry.register("postgresql.psycopg", __name__, SharedDialect.__name__)
