"""A run over many customers: each in a transaction of its own, and nobody waits for another one's trouble."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ledger.books import was_busy

T = TypeVar("T")


class Trouble(Protocol):
    """Where a run counts who was busy, and names what went wrong."""

    busy: int
    problems: list[str]


def by_itself(engine: Engine, work: Callable[[Session], T], *, about: str, trouble: Trouble) -> T | None:
    """Do `work` in a transaction of its own, committed here; None if it did not happen.

    Whoever held the books too long is busy: the next run looks again. Anything else that goes wrong is named with
    `about`, in one line.

    Raises:
        OperationalError: the database is not there, for nobody.
    """
    try:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            result = work(session)
    except OperationalError as error:
        if not was_busy(error):
            raise
        trouble.busy += 1
    except Exception as error:  # noqa: BLE001 - whatever it is, it is one customer's: the run goes on, and names it
        trouble.problems.append(f"{about}: {in_a_line(error)}")
    else:
        return result
    return None


def in_a_line(error: Exception) -> str:
    """The first line of what it says; of an error that says nothing, what it is."""
    return next(iter(str(error).splitlines()), type(error).__name__)
