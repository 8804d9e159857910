"""Two who do something at once: the second is seen to wait for the first, or to be done without having waited."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

T = TypeVar("T")

_WAITS = text("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = :pid AND NOT granted)")


def second(engine: Engine, first: Callable[[Session], object], then: Callable[[Session], T]) -> T | Exception:
    """What becomes of `then`, which begins while `first` has done everything but commit; a refusal is an answer too.

    `first` commits once `then` waits for it, or once `then` is over because it waits for nobody. No clock decides: a
    slow machine only takes longer.
    """

    pids: list[int] = []

    def run() -> T:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            session.execute(text("SET LOCAL lock_timeout = 0"))
            pids.append(session.scalars(text("SELECT pg_backend_pid()")).one())
            return then(session)

    with ThreadPoolExecutor(1) as pool, Session(engine) as holder, Session(engine) as watcher:
        first(holder)
        holder.flush()
        outcome = pool.submit(run)
        while not outcome.done() and not (pids and watcher.scalar(_WAITS, {"pid": pids[0]})):
            time.sleep(0.01)
        holder.commit()
        refusal = outcome.exception()
        if isinstance(refusal, Exception):
            return refusal
        return outcome.result()
