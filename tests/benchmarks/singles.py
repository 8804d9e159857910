"""Entries one by one, each committed, from one client and from several at once."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from tests.benchmarks.rounds import Way
from tests.benchmarks.sizes import FULL, Sizes


def insert_name(clients: int) -> str:
    return f"INSERT one by one, {clients_named(clients)}"


def post_name(clients: int) -> str:
    return f"ledger.post one by one, {clients_named(clients)}"


def clients_named(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


class Clients:
    """Client processes that wait for the same word."""

    def __init__(self, url: str, customers: list[UUID], *, count: int) -> None:
        known = ",".join(map(str, customers))
        command = [sys.executable, "-m", "tests.benchmarks.client", url]
        self._processes = [
            subprocess.Popen([*command, f"client-{n}", known], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for n in range(count)
        ]

    def tell(self, count: int, command: str) -> None:
        """Have the first `count` clients do it at once, and wait for the last of them."""
        for process in self._processes[:count]:
            assert process.stdin is not None
            process.stdin.write(f"{command}\n")
            process.stdin.flush()
        for process in self._processes[:count]:
            assert process.stdout is not None
            answer = process.stdout.readline()
            assert answer == "done\n", f"a client failed at {command}: {answer!r}"

    def close(self) -> None:
        for process in self._processes:
            process.communicate()


@contextmanager
def clients(url: str, customers: list[UUID], *, sizes: Sizes = FULL) -> Iterator[Clients]:
    started = Clients(url, customers, count=max(sizes.clients))
    try:
        yield started
    finally:
        started.close()


def ways(started: Clients, *, sizes: Sizes = FULL) -> list[Way]:
    found: list[Way] = []
    for count in sizes.clients:

        def told(command: str, units: int, count: int = count) -> Callable[[int], int]:
            def run(turn: int) -> int:
                started.tell(count, command)
                return units

            return run

        found += [
            Way(f"preparing {count}", "", told(f"prepare {sizes.singles // count}", 1)),
            Way(insert_name(count), "rows", told("insert", sizes.singles)),
            Way(post_name(count), "entries", told("post", sizes.singles), beside=insert_name(count)),
        ]
    return found
