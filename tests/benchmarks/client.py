"""One of several clients, a process of its own: `python -m tests.benchmarks.client URL NAME CUSTOMERS`.

It reads `prepare N`, `insert` and `post` from standard input, does that, and answers with one line, so that all clients
can be started on one word.
"""

import random
import sys
from uuid import UUID, uuid4

import psycopg
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from app.database import create_engine
from ledger.posting import post
from tests.benchmarks.bare import Bare
from tests.benchmarks.workload import MONTH, entries, take


def main(url: str, name: str, customers: str) -> None:
    engine = create_engine(url)
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as owner:
        # Each client has its own way through the customers; in step they would only wait for one another's books.
        known = customers.split(",")
        random.Random(name).shuffle(known)
        source = entries([UUID(customer) for customer in known], name=name)
        bare = Bare(owner, entries([uuid4() for _ in range(20)], name=name))
        rows, events = [], []
        for command in sys.stdin:
            word, _, number = command.strip().partition(" ")
            if word == "prepare":
                rows = [bare.rows(1) for _ in range(int(number))]
                events = [take(source, 1) for _ in range(int(number))]
            elif word == "insert":
                bare.insert(rows)
            else:
                with Session(engine) as session:
                    for batch in events:
                        with session.begin():
                            post(session, batch, now=MONTH)
            print("done", flush=True)
    engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])
