"""No sequence of postings, replays, contradictions, reversals and closings leaves the books wrong."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from ledger.balances import balance, unbilled
from ledger.checks import run_checks
from ledger.entries import EntriesRefused
from ledger.periods import close_due
from ledger.posting import EntryConflict, Posted
from ledger.tables import Entry, PeriodRow
from tests.factories.entries import reversal_of
from tests.integration.ledger.books import Ledger, entry_of
from tests.integration.ledger.model import DAYS, FIRST_DAY, Event

numbers = st.integers(0, 60)


@pytest.fixture
def machine(engine: Engine) -> Iterator[type[RuleBasedStateMachine]]:
    ledger = Ledger(engine)

    class Books(RuleBasedStateMachine):
        """One customer; the model is three sets and what each period held when it closed."""

        customer_id: UUID

        @initialize(anchor_day=st.integers(1, 31), time_zone=st.sampled_from(["UTC", "Asia/Beirut", "America/Havana"]))
        def open(self, anchor_day: int, time_zone: str) -> None:
            self.customer_id = ledger.open(anchor_day=anchor_day, time_zone=time_zone)
            self.now: datetime = FIRST_DAY
            self.posted: set[Event] = set()
            self.taken_back: set[Event] = set()
            self.closed: dict[datetime, Decimal] = {}

        @rule(chosen=st.lists(numbers, min_size=1, max_size=6))
        def post(self, chosen: list[int]) -> None:
            events = [Event(self.customer_id, number) for number in chosen]
            new = set(events) - self.posted
            done = ledger.post(*map(entry_of, events), now=self.now)
            assert done == Posted(posted=len(new), replayed=len(events) - len(new))
            self.posted |= new

        @precondition(lambda self: self.posted)
        @rule(number=numbers, data=st.data())
        def contradict(self, number: int, data: st.DataObject) -> None:
            known = data.draw(st.sampled_from(sorted(self.posted, key=lambda event: event.number)))
            other = entry_of(known, quantity=Decimal("0.5"))
            with pytest.raises(EntryConflict):
                ledger.post(entry_of(Event(self.customer_id, number)), other, now=self.now)

        @rule(number=numbers)
        def take_back(self, number: int) -> None:
            event = Event(self.customer_id, number)
            reversal = reversal_of(entry_of(event))
            if event not in self.posted:
                with pytest.raises(EntriesRefused):
                    ledger.post(reversal, now=self.now)
                return
            done = ledger.post(reversal, now=self.now)
            assert done.posted == (event not in self.taken_back)
            self.taken_back.add(event)

        @rule(days=st.integers(0, DAYS // 3))
        def wait(self, days: int) -> None:
            self.now += timedelta(days=days)

        @rule(early=st.booleans())
        def close(self, early: bool) -> None:
            """`early` closes what is not over yet as well, as "bill now" does."""
            ended_by = self.now + timedelta(days=20 if early else 0)
            with Session(engine) as session, session.begin():
                for period in close_due(session, customer_ids=[self.customer_id], ended_by=ended_by, now=self.now):
                    assert period.start not in self.closed
                    self.closed[period.start] = unbilled(
                        session, customer_id=self.customer_id, period_start=period.start
                    )

        @invariant()
        def books_and_model_agree(self) -> None:
            if not hasattr(self, "closed"):
                return
            with Session(engine) as session:
                rows = session.scalar(
                    select(func.count()).select_from(Entry).where(Entry.customer_id == self.customer_id)
                )
                assert rows == len(self.posted) + len(self.taken_back)
                expected = sum((event.signed for event in self.posted - self.taken_back), Decimal(0))
                assert balance(session, customer_id=self.customer_id, account="assets:unbilled") == expected
                for start, amount in self.closed.items():
                    assert unbilled(session, customer_id=self.customer_id, period_start=start) == amount
                found = session.execute(
                    select(PeriodRow.start_at, PeriodRow.end_at)
                    .where(PeriodRow.customer_id == self.customer_id)
                    .order_by(PeriodRow.start_at)
                ).all()
                assert all(earlier.end_at <= later.start_at for earlier, later in pairwise(found))

    yield Books
    with Session(engine) as session:
        assert [(result.name, result.offenders) for result in run_checks(session) if not result.holds] == []


@pytest.mark.parametrize("examples", [12, pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_no_sequence_of_steps_leaves_the_books_wrong(machine: type[RuleBasedStateMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
