"""Two sessions, one step at a time, against the hammer's model.

One thread moves both sessions, so it knows who holds which books. Whoever meets the other's lock must give up waiting,
whoever read before the other committed must fail, and everybody else must get exactly what the model says.
"""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from invoicing import adjustments
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.errors import InvoicingError
from invoicing.finalization import finalize
from invoicing.tables import Adjustment, Invoice, Line
from ledger.errors import LedgerError
from ledger.posting import post
from ledger.tables import Books as BooksRow
from tests.fakes.provider import RememberingProvider
from tests.hammer import model
from tests.hammer.events import CALENDARS, FIRST_DAY, SPAN, Source, entry_of
from tests.hammer.evidence import read_customer
from tests.hammer.model import Books, Refused, Sent
from tests.hammer.verdict import MINIMUM, compare
from tests.hammer.worker import SETTINGS

EVENTS = 60
SOURCE = Source(EVENTS)
WAITED, TOO_OLD = "55P03", "40001"
T = TypeVar("T")

sessions = st.sampled_from(["left", "right"])
customers = st.integers(0, 1)
places = st.integers(0, 1_000_000)
"""Which of the things that there are when the step is taken, counted round and round."""
cents = st.integers(1, 5_000).map(lambda number: Decimal(number) / 100)
batches = st.lists(st.tuples(customers, st.integers(-5, 3)), min_size=1, max_size=6)
others = st.sampled_from(
    ["nothing"] * 5 + ["reversal"] * 3 + ["rival", "reversal of a reversal", "contradiction", "nonsense"]
)
"""What else may be in a batch."""


@dataclass
class Transaction:
    """An open transaction of one session."""

    session: Session
    snapshot: dict[UUID, int] | None
    """How far each customer's books were when it read them; None if it reads afresh in each statement."""
    before: dict[UUID, Books] = field(default_factory=dict)
    """The books that it holds locked, as they were when it took the lock."""


class Machine(RuleBasedStateMachine):
    """Two customers, two sessions; `books` is what the model has, what is not committed yet included."""

    engine: Engine
    numbers = count()

    @initialize(calendars=st.permutations(CALENDARS))
    def open_books(self, calendars: list[tuple[str, int]]) -> None:
        self.now = FIRST_DAY
        self.books: dict[UUID, Books] = {}
        self.open: dict[str, Transaction] = {}
        run = next(self.numbers)
        names = sorted((f"machine-{run}-{number}" for number in range(2)), key=customer_id_for)
        for name, (time_zone, anchor_day) in zip(names, calendars, strict=False):
            with Session(self.engine) as session, session.begin():
                create_customer(
                    session,
                    external_id=name,
                    name=name,
                    currency="USD",
                    time_zone=time_zone,
                    anchor_day=anchor_day,
                    actor="test",
                    now=FIRST_DAY,
                )
            self.books[customer_id_for(name)] = Books(time_zone=time_zone, anchor_day=anchor_day)
        self.customers = list(self.books)
        self.post("left", [(customer, by) for customer in range(2) for by in range(4)], "nothing", 0, 0)

    def teardown(self) -> None:
        for who in list(getattr(self, "open", {})):
            self.roll_back(who)
        # The next customers share the database: no close of theirs may find anything of these.
        close_due(self.engine, as_of=FIRST_DAY + timedelta(days=2000), settings=SETTINGS)

    # Sessions

    @precondition(lambda self: len(self.open) < 2)
    @rule(who=sessions, reads_once=st.booleans())
    def begin(self, who: str, reads_once: bool) -> None:
        if who in self.open:
            return
        session, snapshot = Session(self.engine), None
        if reads_once:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            session.scalar(select(func.sum(BooksRow.last_seq)))
            snapshot = {customer: self.committed(customer).writes for customer in self.customers}
        self.open[who] = Transaction(session, snapshot)

    @precondition(lambda self: self.open)
    @rule(who=sessions, commits=st.sampled_from([True, True, False]))
    def end(self, who: str, commits: bool) -> None:
        if who not in self.open:
            return
        if not commits:
            self.roll_back(who)
            return
        transaction = self.open.pop(who)
        transaction.session.commit()
        transaction.session.close()

    def roll_back(self, who: str) -> None:
        transaction = self.open.pop(who)
        transaction.session.close()
        self.books.update(transaction.before)

    def committed(self, customer: UUID) -> Books:
        """The books as everybody else sees them."""
        for transaction in self.open.values():
            if customer in transaction.before:
                return transaction.before[customer]
        return self.books[customer]

    def trouble(self, who: str, wanted: set[UUID]) -> str | None:
        """What the database says to this session when it locks these books, in their order."""
        own = self.open.get(who)
        for customer in sorted(wanted):
            if own and customer in own.before:
                continue
            if own and own.snapshot and own.snapshot[customer] != self.committed(customer).writes:
                return TOO_OLD
            if any(customer in other.before for other in self.open.values()):
                return WAITED
        return None

    def attempt(
        self, who: str, wanted: set[UUID], act: Callable[[Session], T], *, refusal: str | None = None
    ) -> T | None:
        """Let the session do it, and see that it gets what it must: `refusal`, trouble, or what `act` returns."""
        own = self.open.get(who)
        trouble = self.trouble(who, wanted)
        if own and not trouble:
            for customer in wanted - own.before.keys():
                own.before[customer] = copy.deepcopy(self.books[customer])
        session = own.session if own else Session(self.engine)
        got: str | None = None
        done = None
        try:
            done = act(session)
            if not own:
                session.commit()
        except DBAPIError as error:
            got = getattr(error.orig, "sqlstate", None)
            if own:
                self.roll_back(who)
        except (LedgerError, InvoicingError) as error:
            got = error.code
        finally:
            if not own:
                session.close()
        assert got == (trouble or refusal)
        return done

    # Steps

    @rule(who=sessions, chosen=batches, other=others, place=places, days=st.integers(0, 10))
    def post(self, who: str, chosen: list[tuple[int, int]], other: str, place: int, days: int) -> None:
        """Send events from around the present, some of them again, and perhaps one that takes back, contradicts, or
        makes no sense."""
        self.now += timedelta(days=days)
        present = int((self.now - FIRST_DAY) / SPAN * EVENTS)
        batch = [SOURCE.sent(self.customers[customer], max(0, present + by)) for customer, by in chosen]
        if other != "nothing":
            batch.insert(place % (len(batch) + 1), self.other(other, place))
        parts = {customer: [sent for sent in batch if sent.customer == customer] for customer in self.customers}
        wanted = {sent.customer for sent in batch}
        codes = {self.books[customer].refusal(part) for customer, part in parts.items()}
        refusal = next((code for code in ("entry_conflict", "entries_refused") if code in codes), None)
        if not all(sent.is_sound for sent in batch):
            wanted, refusal = set(), "entries_refused"  # before anything is locked
        done = self.attempt(
            who,
            wanted,
            lambda session: post(session, [entry_of(sent, actor="machine") for sent in batch], now=self.now),
            refusal=refusal,
        )
        if done is not None:
            fresh = sum(len(self.books[customer].post(parts[customer], now=self.now)) for customer in wanted)
            assert (done.posted, done.replayed) == (fresh, len(batch) - fresh)

    def other(self, kind: str, place: int) -> Sent:
        """About an event that is in the books, if there is one."""
        known = [
            sent for customer in self.customers for sent in self.books[customer].sent.values() if not sent.reverses
        ]
        sent = known[place % len(known)] if known else SOURCE.sent(self.customers[0], place % EVENTS)
        if kind == "contradiction":
            return SOURCE.contradiction(sent)
        if kind == "nonsense":
            return SOURCE.nonsense(sent.customer, place % EVENTS)
        if kind == "reversal of a reversal":
            return SOURCE.reversal(SOURCE.reversal(sent))
        return SOURCE.reversal(sent, rival=int(kind == "rival"))

    @precondition(lambda self: any(books.opened - books.closed for books in self.books.values()))
    @rule(days=st.integers(0, 40), dry_run=st.sampled_from([False, False, False, True]))
    def close(self, days: int, dry_run: bool) -> None:
        self.now += timedelta(days=days)
        ended_by = self.now - SETTINGS.grace
        due = {customer: self.committed(customer).due(ended_by) for customer in self.customers}
        held = {customer for transaction in self.open.values() for customer in transaction.before}
        free = [
            (customer, start) for customer in self.customers if customer not in held for start in sorted(due[customer])
        ]
        summary = close_due(self.engine, as_of=self.now, settings=SETTINGS, dry_run=dry_run)
        drafts = sum(bool(self.books[customer].charges[start]) for customer, start in free)
        busy = sum(bool(due[customer]) for customer in held)
        assert (summary.closed, summary.drafts, summary.busy, summary.parked) == (len(free), drafts, busy, 0)
        if not dry_run:
            for customer, start in free:
                self.books[customer].close(start)

    @rule(who=sessions, chosen=batches, days=st.integers(20, 60))
    def post_behind_a_close(self, who: str, chosen: list[tuple[int, int]], days: int) -> None:
        """On a snapshot from before the close, by a session that has not looked since."""
        if not self.open:
            self.begin(who, reads_once=True)
            self.close(days, dry_run=False)
            self.post(who, chosen, "nothing", 0, 0)

    # Drafts are worked on by sessions that read afresh: what a finalization changed is not in the books' own row.

    @precondition(lambda self: self.drafts())
    @rule(who=sessions, place=places, amount=cents)
    def add_charge(self, who: str, place: int, amount: Decimal) -> None:
        customer, start = self.draft(place)
        self.adjust(
            who, customer, start, line=None, amount=amount,
            act=lambda session, common: adjustments.add_charge(
                session, amount=amount, description="By hand", settings=SETTINGS, **common
            ),
        )  # fmt: skip

    @precondition(lambda self: self.drafts())
    @rule(who=sessions, place=places, amount=st.none() | cents)
    def take_off(self, who: str, place: int, amount: Decimal | None) -> None:
        """Credit a line, or waive what is left of it."""
        customer, start = self.draft(place)
        lines = sorted(self.books[customer].drafts[start].lines(), key=str)
        line = lines[place % len(lines)]

        def act(session: Session, common: dict[str, Any]) -> Adjustment:
            line_id = session.scalars(
                select(Line.id).where(
                    Line.customer_id == customer, Line.invoice_id == common["invoice_id"], Line.adjustment_id.is_(None),
                    Line.contra_account == line[0], Line.item == line[1], Line.usage_period_start == line[2],
                )
            ).one()  # fmt: skip
            if amount is None:
                return adjustments.waive_line(session, line_id=line_id, settings=SETTINGS, **common)
            return adjustments.credit_line(session, line_id=line_id, amount=amount, settings=SETTINGS, **common)

        self.adjust(who, customer, start, line=line, amount=amount, act=act)

    def adjust(
        self,
        who: str,
        customer: UUID,
        start: datetime,
        *,
        line: model.LineKey | None,
        amount: Decimal | None,
        act: Callable[[Session, dict[str, Any]], Adjustment],
    ) -> None:
        asked: Any = {"line": line, "amount": None if amount is None else Fraction(amount)}
        made = self.attempt(
            self.reader_of_fresh(who),
            {customer},
            lambda session: act(session, self.common(session, customer, start)).id,
            refusal=refusal_of(lambda books: books.adjust(start, uuid4(), **asked), self.books[customer]),
        )
        if made is not None:
            self.books[customer].adjust(start, made, **asked)

    @precondition(lambda self: self.drafts())
    @rule(who=sessions, place=places, which=places)
    def undo(self, who: str, place: int, which: int) -> None:
        customer, start = self.draft(place)
        made = list(self.books[customer].drafts[start].adjustments)
        if not made:
            return
        chosen = made[which % len(made)]
        done = self.attempt(
            self.reader_of_fresh(who),
            {customer},
            lambda session: (
                adjustments.undo(session, adjustment_id=chosen, **self.common(session, customer, start)).amount
            ),
            refusal=refusal_of(lambda books: books.undo(start, chosen), self.books[customer]),
        )
        if done is not None:
            self.books[customer].undo(start, chosen)

    @precondition(lambda self: self.drafts())
    @rule(who=sessions, place=places)
    def finalize(self, who: str, place: int) -> None:
        customer, start = self.draft(place)

        def act(session: Session) -> str:
            common = self.common(session, customer, start)
            del common["reason"]
            return finalize(session, provider=RememberingProvider(), **common).state

        refusal = refusal_of(lambda books: books.finalize(start, minimum=MINIMUM, now=self.now), self.books[customer])
        state = self.attempt(self.reader_of_fresh(who), {customer}, act, refusal=refusal)
        if state is not None:
            self.books[customer].finalize(start, minimum=MINIMUM, now=self.now)
            assert state == self.books[customer].drafts[start].state

    def drafts(self) -> list[tuple[UUID, datetime]]:
        """Every invoice that there is; what was settled must refuse to be worked on."""
        return [(customer, start) for customer in self.customers for start in sorted(self.books[customer].drafts)]

    def draft(self, place: int) -> tuple[UUID, datetime]:
        return self.drafts()[place % len(self.drafts())]

    def reader_of_fresh(self, who: str) -> str:
        own = self.open.get(who)
        return "a third" if own and own.snapshot else who

    def common(self, session: Session, customer: UUID, start: datetime) -> dict[str, Any]:
        found = select(Invoice.id, Invoice.version).where(
            Invoice.customer_id == customer, Invoice.period_start == start
        )
        invoice_id, version = session.execute(found).one()
        return {
            "customer_id": customer, "invoice_id": invoice_id, "expected_version": version, "actor": "machine",
            "reason": "the machine", "now": self.now,
        }  # fmt: skip

    # After every step

    @invariant()
    def model_and_books_agree(self) -> None:
        with Session(self.engine) as session:
            for customer in getattr(self, "customers", []):
                found, expected = read_customer(session, customer), self.committed(customer)
                rows = Counter(entry.row for entry in found.entries)
                assert rows == Counter(expected.rows)
                assert [entry.seq for entry in found.entries] == list(range(1, len(expected.rows) + 1))
                assert expected.sent.keys() <= {entry.id for entry in found.entries}
                compare(customer, found, expected)


def refusal_of(act: Callable[[Books], object], books: Books) -> str | None:
    """The code by which the model would refuse; the books stay as they are."""
    try:
        act(copy.deepcopy(books))
    except Refused as refusal:
        return str(refusal)
    return None
