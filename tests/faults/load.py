"""Clients that post without a pause while something befalls the database, and count what they were told."""

import threading
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from invoicing.customers import create_customer
from ledger.checks import run_checks
from ledger.posting import post
from tests.faults import invariants
from tests.faults.flows import usage
from tests.faults.place import Place

WRITERS = 3
PAUSE_S = 0.02


def open_customers(place: Place) -> None:
    """A customer for each writer."""
    for number in range(WRITERS):
        with Session(place.billing.engine) as session, session.begin():
            create_customer(
                session,
                external_id=f"writer-{number}",
                name=f"Writer {number}",
                currency="USD",
                time_zone="UTC",
                anchor_day=1,
                actor="test",
                now=datetime(2025, 1, 1, tzinfo=UTC),
            )


class Load:
    """Threads that post entry after entry, each until it is acknowledged.

    `expected` are words of errors after which an entry is tried again, besides those of a lost connection.
    """

    def __init__(self, place: Place, *, expected: tuple[str, ...] = ()) -> None:
        self._place = place
        self._expected = ("connection", *expected)
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self.acknowledged = 0
        self.refused = 0
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self._write, args=(f"writer-{n}",)) for n in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def _write(self, name: str) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with Session(self._place.billing.engine) as session, session.begin():
                    post(session, [usage(name, f"item-{number}", "0.01")], now=datetime.now(UTC))
            except DBAPIError as error:
                if not error.connection_invalidated and not any(word in str(error.orig) for word in self._expected):
                    self.errors.append(error)
                    return
                with self._progress:
                    self.refused += 1
                    self._progress.notify_all()
                self._stop.wait(PAUSE_S)
                continue
            number += 1
            with self._progress:
                self.acknowledged += 1
                self._progress.notify_all()

    def wait_for(self, more: int) -> None:
        """Until so many more were acknowledged."""
        with self._progress:
            goal = self.acknowledged + more
            assert self._progress.wait_for(lambda: self.acknowledged >= goal, timeout=120), self.errors

    def wait_for_refusals(self, more: int) -> None:
        """Until so many more were refused."""
        with self._progress:
            goal = self.refused + more
            assert self._progress.wait_for(lambda: self.refused >= goal, timeout=120), self.errors

    def end(self) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join()

    def judge(self) -> None:
        """Everything that was acknowledged is there once, and every rule holds."""
        assert not self.errors
        with Session(self._place.billing.engine) as session:
            kept = session.scalar(text("SELECT count(*) FROM ledger_entries"))
            broken = [result for result in run_checks(session, invariants.CHECKS) if not result.holds]
        # What was committed and not acknowledged was sent again, and counts once: each item has one entry.
        assert kept is not None
        assert self.acknowledged <= kept <= self.acknowledged + WRITERS
        assert not broken
