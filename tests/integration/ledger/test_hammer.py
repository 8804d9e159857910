"""Many at once: posting, sending again, taking back, closing and giving up on the same few customers."""

import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.database import create_engine
from ledger.balances import balance, unbilled
from ledger.periods import close_due
from ledger.posting import EntryConflict, post
from ledger.tables import Entry
from tests.factories.entries import reversal_of
from tests.integration.ledger.books import Ledger, entry_of
from tests.integration.ledger.model import DAYS, FIRST_DAY, Event, Model

CUSTOMERS = 5
WORKERS = 8


class Worker:
    """One poster or closer with its own random numbers; fails the test by what it raises."""

    def __init__(
        self, engine: Engine, model: Model, customers: list[UUID], *, seed: int, seconds: float, events: int
    ) -> None:
        self.engine, self.model, self.customers = engine, model, customers
        self.seconds, self.events = seconds, events
        self.random = random.Random(seed)
        self.is_closer = seed % 3 == 0
        self.began = time.monotonic()
        self.done: dict[str, int] = {}

    def now(self) -> datetime:
        """The hammer's clock: five months pass in its seconds."""
        return FIRST_DAY + timedelta(days=DAYS * (time.monotonic() - self.began) / self.seconds)

    def run(self) -> None:
        acts: list[Callable[[], None]] = [
            self.post,
            self.post,
            self.post,
            self.take_back,
            self.contradict,
            self.give_up,
        ]
        if self.is_closer:
            acts.append(self.close)
        while time.monotonic() - self.began < self.seconds:
            act = self.random.choice(acts)
            act()
            self.done[act.__name__] = self.done.get(act.__name__, 0) + 1

    def some_events(self) -> list[Event]:
        customers = self.random.sample(self.customers, self.random.randint(1, CUSTOMERS))
        return [
            Event(self.random.choice(customers), self.random.randrange(self.events))
            for _ in range(self.random.choice((1, 1, 5, 40)))
        ]

    def post(self) -> None:
        events = self.some_events()
        with Session(self.engine) as session, session.begin():
            post(session, [entry_of(event) for event in events], now=self.now())
        self.model.acknowledge(events, [])

    def take_back(self) -> None:
        """Reverse events that were acknowledged; another worker may do the same right now."""
        known = self.model.known(self.random.choice(self.customers))
        events = self.random.sample(known, min(len(known), 3))
        with Session(self.engine) as session, session.begin():
            post(session, [reversal_of(entry_of(event)) for event in events], now=self.now())
        self.model.acknowledge([], events)

    def contradict(self) -> None:
        """Send a known event with other content among new ones: none of them may arrive."""
        known = self.model.known(self.random.choice(self.customers))
        if not known:
            return
        wrong = entry_of(self.random.choice(known), quantity=Decimal("0.5"))
        batch = [*(entry_of(event) for event in self.some_events()), wrong]
        with pytest.raises(EntryConflict), Session(self.engine) as session, session.begin():
            post(session, batch, now=self.now())

    def give_up(self) -> None:
        """Post, keep everybody waiting for a moment, and roll back."""
        with Session(self.engine) as session:
            post(session, [entry_of(event) for event in self.some_events()], now=self.now())
            time.sleep(self.random.random() / 100)
            session.rollback()

    def close(self) -> None:
        """Close what is over, and read what the drafts would bill, in one transaction."""
        customers = self.random.sample(self.customers, self.random.randint(1, CUSTOMERS))
        now = self.now()
        with Session(self.engine) as session, session.begin():
            closed = close_due(session, customer_ids=customers, ended_by=now, now=now)
            sums = {
                (period.customer_id, period.start): unbilled(
                    session, customer_id=period.customer_id, period_start=period.start
                )
                for period in closed
            }
        self.model.close(sums)


@pytest.mark.parametrize(
    ("seconds", "events"),
    # Events per customer: few enough that workers send the same ones all the time.
    [(5.0, 400), pytest.param(300.0, 20_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_model_and_books_agree_after_a_hammering(
    database_url: str, ledger: Ledger, seconds: float, events: int
) -> None:
    """No gap, no double, no loss, no deadlock, and nothing in a period after it was closed."""
    customers = [ledger.open(anchor_day=day) for day in (1, 7, 15, 28, 31)]
    engine = create_engine(database_url, pool_size=WORKERS)
    model = Model()
    workers = [Worker(engine, model, customers, seed=seed, seconds=seconds, events=events) for seed in range(WORKERS)]
    failures: list[BaseException] = []

    def run(worker: Worker) -> None:
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001 - handed to the test, which fails with it
            failures.append(error)

    threads = [threading.Thread(target=run, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=seconds + 60)
    assert not any(thread.is_alive() for thread in threads), "a worker hangs"
    assert failures == []

    with Session(engine) as session:
        for customer_id in customers:
            entries, moved, last = session.execute(
                select(func.count(), func.sum(Entry.amount), func.max(Entry.seq)).where(
                    Entry.customer_id == customer_id
                )
            ).one()
            assert (entries, moved, last) == (
                model.entries(customer_id),
                model.moved(customer_id),
                model.entries(customer_id),
            )
            assert balance(session, customer_id=customer_id, account="assets:unbilled") == model.unbilled(customer_id)
        for (customer_id, start), amount in model.closed.items():
            assert unbilled(session, customer_id=customer_id, period_start=start) == amount
    engine.dispose()

    did = {
        name: sum(worker.done.get(name, 0) for worker in workers)
        for name in ("post", "take_back", "contradict", "give_up", "close")
    }
    assert min(did.values()) > 0, f"the hammer did not hit: {did}"
    assert len(model.closed) >= CUSTOMERS
