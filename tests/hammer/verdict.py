"""Judging a run: the model goes through what the processes were told, in the order of the books, and must end up there.

The books say in which order things happened: `seq` orders entries, a closing stands behind the last entry it counted.
The judge does not take their word for it: what one process was told before another one began must stand before it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import groupby
from typing import Any
from uuid import UUID

from tests.hammer.evidence import Closing, Customer, Found, Step
from tests.hammer.model import Books, Refused, Row, Sent

MINIMUM = Fraction(1, 2)
"""What the provider collects at least, in the currency of every customer of the hammer."""

POSTS = frozenset({"post", "snapshot"})
ABOUT_DRAFTS = frozenset({
    "draft_changed", "not_a_draft", "unknown_line", "line_not_adjustable", "credit_too_large", "adjustment_undone",
    "approval_not_needed", "approval_pending",
})  # fmt: skip
"""What whoever corrects or finalizes a draft may be told when somebody else was faster."""


class Different(AssertionError):
    """The first difference between what was told and what stands in the books."""


@dataclass(slots=True)
class Judge:
    steps: Mapping[str, Step]
    calendars: Mapping[UUID, tuple[str, int]]
    found: Mapping[UUID, Customer]
    books: dict[UUID, Books] = field(default_factory=dict)
    by_now: dict[datetime, Step] = field(default_factory=dict)
    posted: Counter[str] = field(default_factory=Counter)
    """Entries in the books by the step that posted them."""

    def judge(self) -> Counter[str]:
        """Find the first difference; without one, say where all the charges are."""
        self.by_now = {step.now: step for step in self.steps.values()}
        places: Counter[str] = Counter()
        for customer_id, customer in self.found.items():
            time_zone, anchor_day = self.calendars[customer_id]
            books = self.books[customer_id] = Books(time_zone=time_zone, anchor_day=anchor_day)
            _Replay(self, customer_id, customer, books).run()
            compare(customer_id, customer, books)
            places += _whereabouts(books)
        for step in self.steps.values():
            self._check_told(step)
        return places

    def _check_told(self, step: Step) -> None:
        """What the process was told is what came of it: all or nothing, once."""
        own = self.posted[step.name]
        if not step.may_have_happened and own:
            raise Different(f"step {step.name} ({step.kind}) was {step.outcome}, yet {own} entries of it are there")
        if step.kind in POSTS:
            self._check_post(step, own)
        elif step.outcome == "refused" and step.told["code"] not in ABOUT_DRAFTS:
            raise Different(f"step {step.name} ({step.kind}) was refused for no good reason: {step.told['code']}")
        elif step.outcome == "done" and step.kind in ("adjust", "undo") and own != 1:
            raise Different(f"step {step.name} ({step.kind}) was done, yet {own} entries of it are there")

    def _check_post(self, step: Step, own: int) -> None:
        batch = step.batch()
        by_customer: dict[UUID, list[Sent]] = defaultdict(list)
        for sent in batch:
            by_customer[sent.customer].append(sent)
        there = sum(self.books[sent.customer].sent.get(sent.id) == sent for sent in batch)
        if step.outcome == "done":
            told = step.told["posted"], step.told["replayed"]
            if (own, len(batch) - own) != told or there != len(batch):
                raise Different(
                    f"step {step.name} sent {len(batch)} entries and was told {told[0]} posted, {told[1]} replayed; "
                    f"{own} are there as its own, {there} at all"
                )
        elif step.outcome == "unknown" and own and there != len(batch):
            raise Different(f"step {step.name} was cut off: {own} of its {len(batch)} entries are there, not all")
        elif step.outcome == "refused":
            reasons = {self.books[customer_id].refusal(sent) for customer_id, sent in by_customer.items()}
            if step.told["code"] not in reasons:
                raise Different(f"step {step.name} was refused as {step.told['code']}; the model knows only {reasons}")


@dataclass(slots=True)
class _Replay:
    """One customer's history, told to the model in the order in which the books say it happened."""

    judge: Judge
    customer_id: UUID
    customer: Customer
    books: Books
    latest: float = 0.0
    """When the latest step so far began."""
    latest_name: str = ""

    def run(self) -> None:
        seen: set[str] = set()
        for position, entry in enumerate(self.customer.entries, start=1):
            if entry.seq != position:
                raise Different(f"books of {self.customer_id}: seq {entry.seq} where {position} is expected")
        for happened in self._history():
            if isinstance(happened, Closing):
                self._close(happened)
                continue
            key = self._key(happened[0])
            if key in seen:
                raise Different(f"{self._at(happened)}: entries of {key} stand in two places")
            seen.add(key)
            self._take(happened)
        for invoice in self.customer.invoices:
            if invoice.state == "empty":  # leaves nothing in the journal
                self._expect([], self.books.finalize(invoice.period_start, minimum=MINIMUM, now=_instant(invoice)), "")

    def _history(self) -> Iterator[list[Found] | Closing]:
        closings = list(self.customer.closings)
        for _, group in groupby(self.customer.entries, key=self._key):
            entries = list(group)
            while closings and closings[0].seq < entries[-1].seq:
                if closings[0].seq >= entries[0].seq:
                    raise Different(f"{self._at(entries)}: {closings[0]} cuts through one posting")
                yield closings.pop(0)
            yield entries
        yield from closings

    def _key(self, entry: Found) -> str:
        return entry.actor if entry.actor in self.judge.steps else f"transaction {entry.transaction}"

    def _at(self, entries: list[Found]) -> str:
        first = entries[0]
        return f"books of {self.customer_id}, seq {first.seq} to {entries[-1].seq}, posted by {first.actor}"

    def _close(self, closing: Closing) -> None:
        step = self.judge.by_now.get(closing.at)
        if step is None or step.kind != "close" or not step.may_have_happened:
            raise Different(f"books of {self.customer_id}: {closing} was closed by nobody who says so")
        self._in_order(step)
        if closing.start not in self.books.due(step.now):
            raise Different(f"books of {self.customer_id}: {closing} was not due, says the model")
        self.books.close(closing.start)

    def _take(self, entries: list[Found]) -> None:
        """Let the model do what this group of entries says was done, and compare what it writes."""
        where = self._at(entries)
        step = self.judge.steps.get(entries[0].actor)
        if step is None:
            step = self.judge.by_now.get(_instant(self._invoice(entries)))
            if step is None or step.kind != "finalize_due":
                raise Different(f"{where}: nobody says that he did this")
        else:
            self.judge.posted[step.name] += len(entries)
        if not step.may_have_happened:
            raise Different(f"{where}: that step was {step.outcome} {step.told}")
        self._in_order(step)
        try:
            self._do(step, entries, where)
        except Refused as refusal:
            raise Different(f"{where}: the model refuses it as {refusal}") from refusal

    def _do(self, step: Step, entries: list[Found], where: str) -> None:
        if step.kind in POSTS:
            batch = [sent for sent in step.batch() if sent.customer == self.customer_id]
            rows = self.books.post(batch, now=step.now)
            found = {entry.id: entry.row for entry in entries}
            if found.keys() != rows.keys():
                raise Different(f"{where}: the model posts {len(rows)} entries of it, the books have {len(found)}")
            for entry in entries:
                if rows[entry.id] != entry.row:
                    raise Different(f"{where}: the model writes {rows[entry.id]}, the books have {entry.row}")
        elif step.kind == "adjust":
            adjustment = [a.id for a in self.customer.adjustments.values() if a.actor == step.name]
            if len(adjustment) != 1:
                raise Different(f"{where}: {len(adjustment)} adjustments for it")
            start = self._invoice(entries).period_start
            row = self.books.adjust(start, adjustment[0], line=step.line(), amount=step.amount())
            self._expect(entries, [row], where)
        elif step.kind == "undo":
            row = self.books.undo(self._invoice(entries).period_start, UUID(step.said["adjustment"]))
            self._expect(entries, [row], where)
        elif step.kind in ("finalize", "finalize_due"):
            start = self._invoice(entries).period_start
            self._expect(entries, self.books.finalize(start, minimum=MINIMUM, now=step.now), where)
        else:
            raise Different(f"{where}: a step of kind {step.kind} posts nothing")

    def _invoice(self, entries: list[Found]) -> Any:
        documents = {entry.document for entry in entries if entry.document is not None}
        for invoice in self.customer.invoices:
            if documents == {invoice.id}:
                return invoice
        raise Different(f"{self._at(entries)}: not about one invoice, but about {documents}")

    def _expect(self, entries: list[Found], rows: list[Row], where: str) -> None:
        found, expected = Counter(entry.row for entry in entries), Counter(rows)
        if found != expected:
            raise Different(f"{where}: only the model writes {list(expected - found)}, only the books have "
                            f"{list(found - expected)}")  # fmt: skip

    def _in_order(self, step: Step) -> None:
        if step.until < self.latest:
            raise Different(
                f"books of {self.customer_id}: {step.name} was told that it is done before {self.latest_name} began, "
                "yet stands behind it"
            )
        if step.at > self.latest:
            self.latest, self.latest_name = step.at, step.name


def _instant(invoice: Any) -> datetime:
    instant: datetime | None = invoice.finalized_at
    if instant is None:
        raise Different(f"invoice {invoice.id} of {invoice.customer_id} was settled, but is {invoice.state}")
    return instant


def compare(customer_id: UUID, customer: Customer, books: Books) -> None:
    """The end of it: periods, invoices with every line, balances."""

    def same(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise Different(
                f"books of {customer_id}, {what}: the books have {found!s:.500}, the model {expected!s:.500}"
            )

    same("number of entries", customer.last_seq, len(books.rows))
    expected = {start: (books.end(start), "closed" if start in books.closed else "open") for start in books.opened}
    same("periods", customer.periods, expected)
    moved = {account: amount for account, amount in books.balances().items() if amount}
    same("balances", {account: amount for account, amount in customer.balances.items() if amount}, moved)
    same("invoices", Counter(invoice.period_start for invoice in customer.invoices), Counter(books.drafts.keys()))
    for invoice in customer.invoices:
        draft = books.drafts[invoice.period_start]
        what = f"invoice for the period from {invoice.period_start}"
        same(f"{what}, state", invoice.state, draft.state)
        same(f"{what}, lines", customer.lines.get(invoice.id, {}), draft.lines())
        standing = {key: adjustment.row.unbilled for key, adjustment in draft.adjustments.items() if adjustment.stands}
        same(f"{what}, adjustments", customer.adjustment_lines.get(invoice.id, {}), standing)
        if draft.state != "draft":
            same(f"{what}, exact total", Fraction(invoice.exact_total or 0), draft.exact())
        if draft.state == "final":
            same(f"{what}, total", Fraction(invoice.total or 0), draft.total)


def _whereabouts(books: Books) -> Counter[str]:
    """How many charges lie in open periods, and how many on invoices of each state."""
    places = Counter({"unbilled": sum(len(books.charges[start]) for start in books.opened - books.closed)})
    for draft in books.drafts.values():
        places[draft.state] += len(draft.charges)
    if places.total() != sum(row.period is not None for row in books.rows):
        raise Different("a charge is in two places, or in none")
    return places
