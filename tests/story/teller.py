"""Who tells a story: every choice is drawn from one random.Random(seed), by our own names and indices alone.

What customers and banks do, what staff do, what fails and who dies: `acts.py` draws the acts, this file the day: who
works when, which call meets which fault, where a process dies, what the post loses.
"""

import hashlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from invoicing.customers import customer_id_for
from stripe_gateway.errors import BadSignature, CallFailed
from tests.story.acts import Acts
from tests.story.judge import Judge
from tests.story.model import House, Paper
from tests.story.stage import Errand, Killed, Stage
from tests.story.witness import HOUSE, Witness

BEGINS = datetime(2025, 5, 24, tzinfo=UTC)
TICK = timedelta(hours=12)
"""No pause that the product makes is about as long as this: who is late by a few real seconds decides nothing."""

CARDS = ("pm_card_visa", "pm_card_visa", "pm_card_visa", "pm_card_chargeCustomerFail", None)
STRIKES = (
    "429", "lock_timeout", "409", "401", "403", "500_before", "500_after", "reset_before", "reset_after", "fin_before",
    "fin_after", "truncate", "delay_before", "delay_after",
)  # fmt: skip
OUTAGES = ("reset_before", "fin_before", "500_before", "429")
ROUNDS = 6


@dataclass(frozen=True)
class Plan:
    """How long a story is."""

    seed: int
    customers: int = 6
    days: int = 70


@dataclass
class Letter:
    """A delivery on its way: when it arrives, in ticks."""

    arrives: int
    event: str
    body: bytes
    forged: bool = False


class Teller:
    """One story, from its seed to its end."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.stage, self.plan = stage, plan
        self.chance = random.Random(plan.seed)
        random.seed(plan.seed)  # the product's own dice, for the pauses between attempts
        self.names = [f"c{number:03d}" for number in range(plan.customers)]
        self.papers = {name: Paper() for name in self.names}
        self.house = House()
        self._owners = {str(customer_id_for(name)): (name, "") for name in self.names}
        self.witness = Witness(self.papers, self.house, self._owner)
        self.trace: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.unheard: dict[str, str] = {}
        """Events that the product did not take in, each with whom it is about."""
        self.letters: list[Letter] = []
        self.tick = 0
        self.outage_until = 0
        # The weather of this story: how often something breaks.
        self.p_fault = self.chance.choice([0.1, 0.3, 0.6])
        self.p_death = self.chance.choice([0.02, 0.08, 0.2])
        self.p_lost = self.chance.choice([0.0, 0.05, 0.3])
        self.p_late = self.chance.choice([0.05, 0.2, 0.5])
        self.acts = Acts(self)
        self.judge = Judge(self)

    @property
    def now(self) -> datetime:
        return self.stage.now

    @property
    def is_away(self) -> bool:
        """Whether Stripe is."""
        return self.tick < self.outage_until

    def _owner(self, ledger_id: str) -> tuple[str, str]:
        if ledger_id not in self._owners:
            [row] = self.stage.rows(
                "SELECT customer_id, generation, period_start FROM invoices WHERE id = :i", i=UUID(ledger_id)
            )
            name = self._owners[str(row.customer_id)][0]
            period = row.period_start.year * 12 + row.period_start.month - 1
            self._owners[ledger_id] = (name, f"{period}.{row.generation}")
        return self._owners[ledger_id]

    def note(self, whom: str, what: str, *, kind: str | None = None) -> None:
        """Write a line of the story; `kind` is counted."""
        self.trace.append(f"{self.tick // 2:03}{'ap'[self.tick % 2]} {whom} {what}")
        if kind is not None:
            self.kinds[kind] += 1

    @property
    def digest(self) -> str:
        """A name for everything that was decided and came of it."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]

    # the story

    def tell(self) -> None:
        self._begin()
        for tick in range(self.plan.days * 2):
            self._go(tick)
            if self.chance.random() < 0.012 and not self.is_away:
                self._outage()
            self.acts.of_the_world()
            self.acts.at_the_desk()
            if tick % 2:
                self._cron()
            self._work(rounds=ROUNDS)
            if tick % 2:
                self.judge.day()
        self._end()

    def _begin(self) -> None:
        self.stage.go_to(BEGINS - TICK)
        self.stage.sandbox.set(payout_fee_minor=200, refund_pending=self.chance.random() < 0.4)
        for name in self.names:
            card = self.chance.choice(CARDS)
            self.stage.customer(name, card=card)
            self.note(name, f"begins with {card}")

    def _go(self, tick: int) -> None:
        self.tick = tick
        if self.outage_until == tick:
            self.stage.sandbox.clear_faults()
            self.note("stripe", "is back")
        self.stage.go_to(BEGINS + tick * TICK)

    def _outage(self) -> None:
        kind = self.chance.choice(OUTAGES)
        self.outage_until = self.tick + self.chance.choice([1, 2, 3, 7, 9])
        self.stage.sandbox.fault("*", kind, count=None, stored=False)
        self.note("stripe", f"is away ({kind}) until {self.outage_until}", kind="outage")

    def _cron(self) -> None:
        """What cron does every day. A run that dies is begun again."""
        for name, job in (("close", self.stage.close), ("finalize", self.stage.finalize)):
            while self._dies(name, job):
                pass
        self.acts.after_cron()
        if self.is_away:
            return
        drawn = self.chance.random()
        if drawn < 0.08:
            self._collect()
            if not self._dies("catch-up", self._catch_up):
                self.kinds["catch-up"] += 1
        elif drawn < 0.14:
            self._reconcile()
        elif drawn < 0.25:
            self.note("staff", f"run {self.stage.staff_look()} again")

    def _catch_up(self) -> None:
        self.note("cron", f"finds {self.stage.catch_up()} events in the list")

    def _reconcile(self) -> None:
        """Compare everything; afterwards the product has heard of all that happened before."""
        self._collect()
        if self._dies("reconcile", self._compare):
            return
        self.kinds["reconcile"] += 1

    def _compare(self) -> None:
        asked = list(self.unheard)
        report = self.stage.reconcile()
        found = sorted(f"{one.kind}:{one.outcome}" for one in report.differences)
        self.note("cron", f"reconciles: {dict(Counter(found))}")
        for event in asked:
            self.unheard.pop(event, None)

    def _dies(self, what: str, job: Any) -> bool:
        """Do it, unless the process dies over it."""
        boundary = self.chance.randrange(12) if self.chance.random() < self.p_death else None
        try:
            with self.stage.mortality.at(boundary, after=self.chance.random() < 0.5):
                job()
        except Killed:
            self.note("process", f"dies at boundary {boundary} of {what}", kind="death")
            self.stage.somebody_died = True
            self.stage.go_to(self.now)
            self.stage.start()
            return True
        return False

    # work

    def _work(self, *, rounds: int) -> None:
        """Post and workers by turns, until nothing is new or the half-day is over."""
        if self.chance.random() < 0.05:
            self.stage.redis_is_lost()
            self.note("redis", "is lost", kind="redis lost")
        for _ in range(rounds):
            self._collect()
            self._deliver()
            due = self.stage.due()
            self.chance.shuffle(due)
            # A bell that was not heard: what is due stays due.
            done = [self._errand(errand) for errand in due if self.chance.random() > 0.05]
            if not any(done):
                break
        self._collect()
        self.acts.after_work()

    def _errand(self, errand: Errand) -> bool:
        """One job of a worker, with what may befall it; whether anything came of it."""
        strikes = not self.is_away and self.chance.random() < self.p_fault
        if strikes:
            kind = self.chance.choice(STRIKES)
            skip = self.chance.randrange(2 if errand.kind == "event" else 4)
            self.stage.sandbox.fault("*", kind, skip=skip, delay_s=0.01, reason="endpoint-rate")
        outcome = "dead"

        def run() -> None:
            nonlocal outcome
            outcome = self.stage.run(errand)

        self._dies(errand.kind, run)
        if strikes:
            hits = sum(fault["hits"] for fault in self.stage.sandbox.get("faults")["faults"])
            self.stage.sandbox.clear_faults()
            if hits:
                self.note(errand.kind, f"meets {kind} after {skip}", kind=f"fault {kind}")
        self.note(errand.kind, outcome)
        if errand.kind == "event" and outcome in ("done", "ignored"):
            self.unheard.pop(errand.ids[0], None)
            self.unheard.pop(errand.ids[0].removeprefix("evt_again_"), None)
        return outcome in ("done", "ignored", "dead")

    # the post

    def _collect(self) -> None:
        """Let the witness read what Stripe said, and draw what becomes of each letter."""
        for event, body in self.stage.news():
            about = self.witness.take(event)
            if about is not None:
                self.note(about[0], f"at Stripe: {about[1]}")
                self.unheard[event["id"]] = about[0]
            arrives = self.tick
            if self.chance.random() < self.p_late:
                arrives += self.chance.choice([1, 2, 2, 5, 30])
            if self.chance.random() < self.p_lost:
                self.kinds["webhook lost"] += 1
                continue
            self.letters.append(Letter(arrives, event["id"], body))
            if arrives > self.tick:
                self.kinds["webhook late"] += 1
            if self.chance.random() < 0.08:
                self.letters.append(Letter(arrives + self.chance.choice([0, 0, 3, 40]), event["id"], body))
                self.kinds["webhook twice"] += 1
            if self.chance.random() < 0.03:
                again = {**event, "id": f"evt_again_{event['id']}"}
                self.letters.append(Letter(arrives, again["id"], json.dumps(again).encode()))
                self.kinds["webhook under a second id"] += 1
            if self.chance.random() < 0.02:
                self.letters.append(Letter(arrives, event["id"], body, forged=True))

    def _deliver(self) -> None:
        """The letters that arrive now, in any order."""
        arrived = [letter for letter in self.letters if letter.arrives <= self.tick]
        self.letters = [letter for letter in self.letters if letter.arrives > self.tick]
        self.chance.shuffle(arrived)
        for letter in arrived:
            if letter.forged:
                self._forge(letter)
                continue

            def take(body: bytes = letter.body) -> None:
                self.stage.deliver(body)

            while self._dies("receive", take):
                pass  # no answer: Stripe sends it again
        if len(arrived) > 2:
            self.kinds["webhooks shuffled"] += 1

    def _forge(self, letter: Letter) -> None:
        try:
            self.stage.deliver(letter.body, secret="whsec_another")
        except BadSignature:
            self.kinds["webhook forged"] += 1
        else:
            raise AssertionError("a forged webhook was taken")

    # the end

    def _end(self) -> None:
        """Nothing happens any more, nothing fails; what was set aside is looked at. Then everything must agree."""
        self.stage.sandbox.clear_faults()
        self.p_fault = self.p_death = self.p_lost = self.p_late = 0.0
        first = self.plan.days * 2
        self.outage_until = 0
        for tick in range(first, first + 10):
            self._go(tick)
            self.acts.ends()
            self.stage.staff_look()
            self._end_of_cron()
            for letter in self.letters:
                letter.arrives = min(letter.arrives, tick)
            self._work(rounds=4 * ROUNDS)
            if tick - first == 4:
                self._collect()
                self._catch_up()
            if tick - first == 7:
                self._try_compare()
        self._collect()
        self.judge.end(self.stage.reconcile())
        self.note(HOUSE, "ends")

    def _end_of_cron(self) -> None:
        self.stage.close()
        self.stage.finalize()
        self.acts.after_cron()

    def _try_compare(self) -> None:
        try:
            self._compare()
        except CallFailed as failure:
            raise AssertionError(f"Stripe is there, and yet: {failure}") from failure
