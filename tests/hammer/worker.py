"""One process of the hammer: does this and that to the books until its time is up, or somebody kills it.

Before each step it writes down what it is about to do, afterwards what it was told. A step without an answer is one
whose outcome nobody knows: the end of the run finds out, by sending it again.
"""

import random
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session

from app.database import create_engine
from invoicing import adjustments
from invoicing.cycles import close_due
from invoicing.drafts import lines_of, list_drafts
from invoicing.errors import InvoicingError
from invoicing.finalization import finalize
from invoicing.finalizing import finalize_due
from invoicing.settings import Settings
from invoicing.tables import Adjustment, Invoice
from ledger.accounts import is_debit_normal
from ledger.balances import balances
from ledger.errors import LedgerError
from ledger.periods import due_customers
from ledger.posting import post
from ledger.tables import Books, Entry
from tests.fakes.provider import RememberingProvider
from tests.hammer.events import FIRST_DAY, SPAN, Source, entry_of, line, sent_of, written
from tests.hammer.model import Sent

# A draft stays open long enough to be corrected by several people. None is held: that is tested elsewhere.
SETTINGS = Settings(draft_window=timedelta(days=8), anomaly_floor=Decimal(10) ** 12)
READ_BACK = 100  # events that are read from the books at once, to be sent again or taken back
CUT = frozenset({None, "57P01"})
"""How the server's last word, or its silence, says that the connection is gone."""

Told = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process is told when it starts. Times are on the machine's monotonic clock, which all processes share."""

    slot: int
    generation: int
    seed: int
    url: str
    log: str
    customers: tuple[str, ...]
    events: int
    began: float
    seconds: float
    holds_books: bool
    """Whether it may keep books locked for seconds. Were it allowed to all, nobody would get anything done."""
    longest_hold_s: float


class Broken(Exception):
    """The process saw something that must never be seen."""


class Worker:
    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.name = f"{orders.slot}.{orders.generation}"
        self.random = random.Random(f"{orders.seed} {self.name}")
        self.customers = [UUID(customer) for customer in orders.customers]
        self.source = Source(orders.events)
        self.engine = create_engine(orders.url, pool_size=2)
        self.provider = RememberingProvider()
        self.log = Path(orders.log).open("a", buffering=1)  # noqa: SIM115 - as long as the process lives
        self.steps = 0
        self.recent: deque[list[Sent]] = deque(maxlen=30)
        self.known: deque[Sent] = deque(maxlen=2 * READ_BACK)

    def run(self) -> None:
        acts = {
            self.post_new: 30, self.send_again: 8, self.send_part_again: 8, self.take_back: 6, self.contradict: 6,
            self.talk_nonsense: 4, self.give_up: 4,
            self.post_on_an_old_snapshot: 4, self.post_behind_a_close: 6, self.correct: 14,
            self.finalize_one: 2, self.finalize_due: 1, self.close: 4, self.look: 6,
            self.hold_books: 3 if self.orders.holds_books else 0,
        }  # fmt: skip
        while time.monotonic() < self.orders.began + self.orders.seconds:
            self.random.choices(list(acts), weights=list(acts.values()))[0]()

    def now(self, at: float) -> datetime:
        """What the hammer's calendar shows."""
        return FIRST_DAY + SPAN * ((at - self.orders.began) / self.orders.seconds)

    # Doing one step, and writing down what came of it

    def perform(self, kind: str, act: Callable[[str, datetime], Told], **said: Any) -> Told:
        self.steps += 1
        step = f"{self.name}.{self.steps}"
        at = time.monotonic()
        now = self.now(at)
        self.log.write(line(step=step, kind=kind, at=at, now=now, **said))
        try:
            told = {"outcome": "done", **act(step, now)}
        except (LedgerError, InvoicingError) as refusal:
            told = {"outcome": "refused", "code": refusal.code}
        except DBAPIError as error:
            told = {"outcome": outcome_of(error, old_snapshot=kind == "snapshot")}
        self.log.write(line(step=step, until=time.monotonic(), **told))
        return told

    def perform_post(
        self,
        batch: list[Sent],
        *,
        kind: str = "post",
        pause_s: float = 0,
        gives_up: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Told:
        def act(step: str, now: datetime) -> Told:
            with Session(self.engine) as session:
                if kind == "snapshot":
                    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                    session.scalar(select(func.sum(Books.last_seq)))
                    time.sleep(pause_s)
                    meanwhile()
                done = post(session, [entry_of(sent, actor=step) for sent in batch], now=now)
                if kind != "snapshot":
                    time.sleep(pause_s)
                if gives_up:
                    session.rollback()
                    return {"outcome": "given_up"}
                session.commit()
            return {"posted": done.posted, "replayed": done.replayed}

        told = self.perform(kind, act, batch=[written(sent) for sent in batch])
        if told["outcome"] == "done":
            self.known.extend(sent for sent in batch if sent.reverses is None)
        if told["outcome"] != "refused":
            self.recent.append(batch)
        return told

    def read(self, reading: Callable[[Session], T]) -> T | None:
        """What a look at the books shows; None if the connection was cut meanwhile."""
        try:
            with Session(self.engine, expire_on_commit=False) as session:
                return reading(session)
        except DBAPIError as error:
            outcome_of(error, old_snapshot=False)
            return None

    # What it sends

    def fresh(self) -> list[Sent]:
        """Events around the present, or from anywhere; some were sent before, by this process or another one."""
        passed = (time.monotonic() - self.orders.began) / self.orders.seconds
        chosen = self.random.sample(self.customers, self.random.choice((1, 1, 1, 2, 3, 5)))
        batch = []
        for _ in range(self.random.choice((1, 1, 2, 5, 20, 60))):
            place = self.random.random() if self.random.random() < 0.15 else self.random.gauss(passed, 0.03)
            number = int(min(max(place, 0), 0.999) * self.orders.events)
            batch.append(self.source.sent(self.random.choice(chosen), number))
        return batch

    def some_known(self, most: int) -> list[Sent]:
        if not self.known:
            return []
        return self.random.sample(list(self.known), min(len(self.known), self.random.randint(1, most)))

    def post_new(self) -> None:
        self.perform_post(self.fresh())

    def send_again(self) -> None:
        if self.recent:
            self.perform_post(self.random.choice(self.recent))

    def send_part_again(self) -> None:
        if self.recent:
            batch = self.random.choice(self.recent)
            some = self.random.sample(batch, self.random.randint(1, len(batch)))
            self.perform_post(some + self.fresh())

    def take_back(self) -> None:
        """Two processes may take back the same event at once: the same reversal, or a rival one."""
        rival = self.random.choice((0, 0, 0, 1))
        batch = [self.source.reversal(sent, rival=rival) for sent in self.some_known(3)]
        if batch:
            self.perform_post([*batch, *self.fresh()] if self.random.random() < 0.3 else batch)

    def contradict(self) -> None:
        wrong = [self.source.contradiction(sent) for sent in self.some_known(1)]
        if wrong:
            batch = [*self.fresh(), *wrong]
            self.random.shuffle(batch)
            self.perform_post(batch)

    def talk_nonsense(self) -> None:
        wrong = self.source.nonsense(self.random.choice(self.customers), self.random.randrange(1000))
        self.perform_post([*self.fresh(), wrong])

    def give_up(self) -> None:
        self.perform_post(self.fresh(), pause_s=self.random.random() / 100, gives_up=True)

    def hold_books(self) -> None:
        pause_s = self.random.uniform(0.5, self.orders.longest_hold_s)
        self.perform_post(self.fresh(), pause_s=pause_s, gives_up=self.random.random() < 0.3)

    def post_on_an_old_snapshot(self) -> None:
        """Under REPEATABLE READ, after others went on: it must fail, or see nothing that is no longer so."""
        self.perform_post(self.fresh(), kind="snapshot", pause_s=self.random.choice((0, 0.01, 0.1)))

    def post_behind_a_close(self) -> None:
        """On a snapshot that still shows a period open, into just that period, once it is closed."""
        ended_by = self.now(time.monotonic()) - SETTINGS.grace
        due = self.read(
            lambda session: due_customers(session, ended_by=ended_by, after=None, limit=len(self.customers))
        )
        if due:
            place = (ended_by - FIRST_DAY) / SPAN
            numbers = [int(max(0, place - self.random.uniform(0, 0.1)) * self.orders.events) for _ in range(5)]
            batch = [self.source.sent(due[0], number) for number in numbers]
            self.perform_post(batch, kind="snapshot", meanwhile=self.close)

    # What it does to invoices

    def close(self) -> None:
        def act(step: str, now: datetime) -> Told:
            summary = close_due(self.engine, as_of=now, settings=SETTINGS)
            if summary.parked or summary.busy:
                raise Broken(f"the close set customers aside: {summary}")
            return {"closed": summary.closed, "drafts": summary.drafts}

        self.perform("close", act)

    def correct(self) -> None:
        """Adjust a draft, as it was seen a moment ago: others may have been there since."""
        draft = self.read(lambda session: [row.invoice for row in list_drafts(session)])
        if not draft:
            return
        invoice = self.random.choice(draft)
        how = self.random.choice(("charge", "charge", "credit", "credit", "waive", "undo", "approve"))
        if how in ("undo", "approve"):
            self._decide(invoice, how)
        elif how == "charge":
            cents = self.random.choice((self.random.randint(1, 9_000), 15_000))
            self._adjust(invoice, how, line=None, amount=Decimal(cents) / 100)
        else:
            self._take_off(invoice, how)

    def _take_off(self, invoice: Invoice, how: str) -> None:
        key = {"customer_id": invoice.customer_id, "invoice_id": invoice.id}
        lines = self.read(lambda session: lines_of(session, **key))
        lines = [line for line in lines or [] if line.adjustment_id is None]
        if not lines:
            return
        chosen = self.random.choice(lines)
        most = max(1, int(min(abs(chosen.amount), Decimal(10**6)) * 100))
        amount = None if how == "waive" else Decimal(self.random.randint(1, most)) / 100
        named = [chosen.contra_account, chosen.item, chosen.usage_period_start]
        self._adjust(invoice, how, line=named, amount=amount, line_id=chosen.id)

    def _adjust(
        self, invoice: Invoice, how: str, *, line: list[Any] | None, amount: Decimal | None, line_id: UUID | None = None
    ) -> None:
        def act(step: str, now: datetime) -> Told:
            with Session(self.engine) as session:
                common: Any = {
                    "customer_id": invoice.customer_id, "invoice_id": invoice.id, "actor": step, "now": now,
                    "expected_version": invoice.version, "reason": "the hammer", "settings": SETTINGS,
                }  # fmt: skip
                if line_id is None:
                    adjustments.add_charge(session, amount=amount or Decimal(0), description="By hand", **common)
                elif amount is None:
                    adjustments.waive_line(session, line_id=line_id, **common)
                else:
                    adjustments.credit_line(session, line_id=line_id, amount=amount, **common)
                session.commit()
            return {}

        said = {"customer": invoice.customer_id, "invoice": invoice.id, "line": line, "amount": amount}
        self.perform("adjust", act, how=how, **said)

    def _decide(self, invoice: Invoice, how: str) -> None:
        query = select(Adjustment.id).where(
            Adjustment.customer_id == invoice.customer_id, Adjustment.invoice_id == invoice.id
        )
        if how == "approve":
            query = query.where(Adjustment.needs_approval, Adjustment.approved_at.is_(None))
        found = self.read(lambda session: list(session.scalars(query)))
        if not found:
            return
        chosen = self.random.choice(sorted(found))

        def act(step: str, now: datetime) -> Told:
            with Session(self.engine) as session:
                common: Any = {
                    "customer_id": invoice.customer_id, "invoice_id": invoice.id, "actor": step, "now": now,
                    "expected_version": invoice.version, "adjustment_id": chosen,
                }  # fmt: skip
                if how == "undo":
                    adjustments.undo(session, reason="the hammer", **common)
                else:
                    adjustments.approve(session, **common)
                session.commit()
            return {}

        said = {"customer": invoice.customer_id, "invoice": invoice.id, "adjustment": chosen}
        self.perform(how, act, **said)

    def finalize_one(self) -> None:
        found = self.read(lambda session: [row.invoice for row in list_drafts(session)])
        if not found:
            return
        invoice = self.random.choice(found)

        def act(step: str, now: datetime) -> Told:
            with Session(self.engine) as session:
                state = finalize(
                    session,
                    customer_id=invoice.customer_id,
                    invoice_id=invoice.id,
                    provider=self.provider,
                    actor=step,
                    now=now,
                    expected_version=self.random.choice((None, invoice.version)),
                ).state
                session.commit()
            return {"state": state}

        self.perform("finalize", act, customer=invoice.customer_id, invoice=invoice.id)

    def finalize_due(self) -> None:
        def act(step: str, now: datetime) -> Told:
            summary = finalize_due(self.engine, provider=self.provider, as_of=now)
            if summary.parked:
                raise Broken(f"finalizing set invoices aside: {summary}")
            return {"finalized": summary.final + summary.carried_forward + summary.empty}

        self.perform("finalize_due", act)

    # What it looks at

    def look(self) -> None:
        """No reader ever sees a gap, or books that do not balance; and what it sees it may send again."""
        customer = self.random.choice(self.customers)
        self.read(lambda session: self._look(session, customer))

    def _look(self, session: Session, customer: UUID) -> None:
        last, entries, highest = session.execute(
            select(Books.last_seq, func.count(Entry.seq), func.coalesce(func.max(Entry.seq), 0))
            .outerjoin(Entry, Entry.customer_id == Books.customer_id)
            .where(Books.customer_id == customer)
            .group_by(Books.last_seq)
        ).one()
        if not last == entries == highest:
            raise Broken(f"books of {customer}: last_seq {last}, but {entries} entries up to seq {highest}")
        held = balances(session, customer_id=customer)
        if sum(amount if is_debit_normal(account) else -amount for account, amount in held.items()):
            raise Broken(f"books of {customer} do not balance: {held}")
        rows = session.scalars(
            select(Entry)
            .where(Entry.customer_id == customer, Entry.kind == "usage", Entry.reverses_id.is_(None))
            .where(Entry.seq > self.random.randint(0, last))
            .order_by(Entry.seq)
            .limit(READ_BACK)
        )
        self.known.extend(sent_of(entry) for entry in rows)


def outcome_of(error: DBAPIError, *, old_snapshot: bool) -> str:
    """What a database error means for the step; anything that no one should ever see is raised again."""
    state = getattr(error.orig, "sqlstate", None)
    if old_snapshot and state == "40001":
        return "too_old"
    if isinstance(error, OperationalError) and state in CUT:
        return "cut"
    raise error


def work(orders: Orders) -> int:
    """Run one process to its end; what must never happen is the last thing in its log."""
    worker = Worker(orders)
    try:
        worker.run()
    except Exception as error:  # noqa: BLE001 - the parent reads it in the log and fails with it
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        message = f"{type(error).__name__} {state or ''}: {str(error).splitlines()[0]}"
        worker.log.write(line(broken=message, traceback=traceback.format_exc()))
        return 1
    return 0
