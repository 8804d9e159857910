"""What the books must say, in plain Python: one customer at a time, no database, nothing imported from our packages.

It repeats none of our code either: months are found by bisection, sums are fractions, and who bills a charge is
decided from sets. Where it and the ledger are at odds, one of them is wrong.
"""

from bisect import bisect_right
from collections import ChainMap, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from uuid import UUID
from zoneinfo import ZoneInfo

UNBILLED, CARRIED, ADJUSTMENTS = "assets:unbilled", "assets:carried", "income:adjustments"
USABLE = {UNBILLED, "income:usage", "income:plans", "assets:receivable", "equity:opening"}
"""The accounts that a source of ours posts to; whatever else it names is made up."""


class Refused(Exception):
    """The books must refuse this; the argument is the code by which they say so."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One entry as its source sends it. The same id means the same content, for ever."""

    customer: UUID
    id: UUID
    debit: str
    credit: str
    amount: Decimal
    at: datetime
    item: str | None = None
    quantity: Decimal | None = None
    app: str | None = None
    region: str | None = None
    reverses: UUID | None = None

    @property
    def is_sound(self) -> bool:
        """Whether it could be posted into empty books."""
        if {self.debit, self.credit} - USABLE or self.debit == self.credit or not self.amount.is_finite():
            return False
        if not 0 <= self.amount < 10**15 or (self.amount == 0 and self.quantity is None):
            return False
        return (Fraction(self.amount) * 10**30).denominator == 1

    def mirrors(self, original: "Sent | None") -> bool:
        """Whether it may take `original` back: the same the other way round, and none of the two is one already."""
        if original is None or original.reverses is not None:
            return False
        back = replace(self, debit=self.credit, credit=self.debit)
        return all(getattr(back, n) == getattr(original, n) for n in ("debit", "credit", "amount", "item", "quantity"))


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it must stand in the books. `document` is the start of the period whose invoice it is about."""

    debit: str
    credit: str
    amount: Fraction
    kind: str
    period: datetime | None = None
    used: datetime | None = None
    document: datetime | None = None
    item: str | None = None
    quantity: Fraction | None = None
    app: str | None = None
    region: str | None = None

    @property
    def unbilled(self) -> Fraction:
        """What it adds to assets:unbilled."""
        return self.amount * ((self.debit == UNBILLED) - (self.credit == UNBILLED))

    def mirrored(self) -> "Row":
        return replace(self, debit=self.credit, credit=self.debit)


LineKey = tuple[str, str | None, datetime | None]
"""A line of an invoice: contra account, item, start of the period of use."""


@dataclass(slots=True)
class Adjustment:
    line: LineKey | None
    row: Row
    stands: bool = True


@dataclass(slots=True)
class Draft:
    """An invoice: the charges that lay in its period when it closed, and what people did to it since."""

    charges: list[Row]
    adjustments: dict[UUID, Adjustment] = field(default_factory=dict)
    state: str = "draft"
    total: Fraction | None = None

    def lines(self) -> dict[LineKey, tuple[Fraction, Fraction]]:
        """Amount and quantity of each line that comes from usage."""
        amounts: dict[LineKey, Fraction] = defaultdict(Fraction)
        quantities: dict[LineKey, Fraction] = defaultdict(Fraction)
        for row in self.charges:
            key = row.credit if row.debit == UNBILLED else row.debit, row.item, row.used
            amounts[key] += row.unbilled
            quantities[key] += (row.quantity or 0) * (1 if row.debit == UNBILLED else -1)
        return {key: (amounts[key], quantities[key]) for key in amounts}

    def standing(self) -> list[Adjustment]:
        return [made for made in self.adjustments.values() if made.stands]

    def exact(self) -> Fraction:
        return sum((row.unbilled for row in [*self.charges, *(other.row for other in self.standing())]), Fraction(0))


@cache
def cuts(time_zone: str, anchor_day: int) -> list[datetime]:
    """Where periods begin: the first moments of the anchor days of 2023 to 2034, by the customer's own calendar."""
    zone, found = ZoneInfo(time_zone), []
    for index in range(2023 * 12, 2035 * 12):
        month_after = date((index + 1) // 12, (index + 1) % 12 + 1, 1)
        day = date(index // 12, index % 12 + 1, min(anchor_day, (month_after - timedelta(days=1)).day))
        low = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) - 26 * 3600
        high = low + 52 * 3600
        while low < high:  # the earliest second that this day's calendar page shows
            middle = (low + high) // 2
            if datetime.fromtimestamp(middle, zone).date() >= day:
                high = middle
            else:
                low = middle + 1
        found.append(datetime.fromtimestamp(low, UTC))
    return found


class Books:
    """One customer's books. Every method either does all of what it says and returns the new rows, or refuses."""

    def __init__(self, *, time_zone: str, anchor_day: int) -> None:
        self._cuts = cuts(time_zone, anchor_day)
        self.sent: dict[UUID, Sent] = {}
        self.taken_back: dict[UUID, UUID] = {}
        self.rows: list[Row] = []
        self.charges: dict[datetime, list[Row]] = defaultdict(list)
        """By the period that bills them."""
        self.opened: set[datetime] = set()
        self.closed: set[datetime] = set()
        self.drafts: dict[datetime, Draft] = {}
        self.writes = 0  # grows with everything that writes to the books: postings and closings

    def start(self, instant: datetime) -> datetime:
        return self._cuts[bisect_right(self._cuts, instant) - 1]

    def end(self, start: datetime) -> datetime:
        return self._cuts[bisect_right(self._cuts, start)]

    def due(self, ended_by: datetime) -> set[datetime]:
        return {start for start in self.opened - self.closed if self.end(start) <= ended_by}

    def billed_by(self, used: datetime, now: datetime) -> datetime:
        """The period that bills what was used in `used`: itself, or the earliest open one after it, or a new one."""
        if used not in self.closed:
            return used
        later = [start for start in self.opened - self.closed if start > used]
        if later:
            return min(later)
        fresh = self.start(max(now, self.end(used)))
        while fresh in self.closed:
            fresh = self.end(fresh)
        return fresh

    def refusal(self, batch: Sequence[Sent]) -> str | None:
        """Why this batch may not be posted now; None if it may."""
        first_sent, known, taken_back = ChainMap({}, self.sent), ChainMap({}, self.sent), ChainMap({}, self.taken_back)
        if not all(sent.is_sound for sent in batch):
            return "entries_refused"
        if any(first_sent.setdefault(sent.id, sent) != sent for sent in batch):
            return "entry_conflict"
        for sent in batch:
            if sent.reverses is not None:
                first = taken_back.setdefault(sent.reverses, sent.id)
                if first != sent.id or not sent.mirrors(known.get(sent.reverses)):
                    return "entries_refused"
            known[sent.id] = sent
        return None

    def post(self, batch: Sequence[Sent], *, now: datetime) -> dict[UUID, Row]:
        """Post what is new of the batch."""
        if code := self.refusal(batch):
            raise Refused(code)
        fresh = {sent.id: sent for sent in batch if sent.id not in self.sent}
        uses = {sent.id: self.start(sent.at) for sent in fresh.values() if UNBILLED in (sent.debit, sent.credit)}
        self.opened |= set(uses.values())
        rows = {}
        for sent in fresh.values():
            used = uses.get(sent.id)
            period = self.billed_by(used, now) if used else None
            self.opened |= {period} if period else set()
            quantity = None if sent.quantity is None else Fraction(sent.quantity)
            moved = sent.debit, sent.credit, Fraction(sent.amount)
            rows[sent.id] = Row(*moved, "usage", period, used, None, sent.item, quantity, sent.app, sent.region)
            self.sent[sent.id] = sent
            if sent.reverses is not None:
                self.taken_back[sent.reverses] = sent.id
        self._write(rows.values())
        return rows

    def _write(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.append(row)
            if row.period is not None:
                self.charges[row.period].append(row)
            self.writes += 1

    def close(self, start: datetime) -> None:
        """Close a period; if anything was charged in it, that becomes a draft."""
        if start not in self.opened or start in self.closed:
            raise Refused("not_open")
        self.closed.add(start)
        self.writes += 1
        if self.charges[start]:
            self.drafts[start] = Draft(self.charges[start])

    def adjust(self, start: datetime, adjustment: UUID, *, line: LineKey | None, amount: Fraction | None) -> Row:
        """Add a charge (no line), credit a line, or (no amount) waive what is left of it."""
        draft = self._draft(start)
        if line is not None:
            left = draft.lines()[line][0] + sum(other.row.unbilled for other in draft.standing() if other.line == line)
            if left <= 0:
                raise Refused("line_not_adjustable")
            if amount is not None and amount > left:
                raise Refused("credit_too_large")
            amount = -(left if amount is None else amount)
        if not amount:
            raise Refused("bad_amount")
        row = Row(UNBILLED, ADJUSTMENTS, abs(amount), "adjustment", document=start, item=line[1] if line else None)
        row = row if amount > 0 else row.mirrored()
        draft.adjustments[adjustment] = Adjustment(line, row)
        self._write([row])
        return row

    def undo(self, start: datetime, adjustment: UUID) -> Row:
        made = self._draft(start).adjustments[adjustment]
        if not made.stands:
            raise Refused("adjustment_undone")
        made.stands = False
        self._write([made.row.mirrored()])
        return made.row.mirrored()

    def finalize(self, start: datetime, *, minimum: Fraction, now: datetime) -> list[Row]:
        """Round and invoice the draft, or carry it forward if it is below the minimum. Nobody here has credits."""
        draft = self._draft(start)
        exact = draft.exact()
        cents = Fraction(round(exact * 100), 100)  # Python rounds halves to even, as invoices do
        if exact == 0:
            draft.state, rows = "empty", []
        elif cents < minimum:
            draft.state, rows = "carried_forward", self._carried(start, draft, now)
        else:
            draft.state, draft.total = "final", cents
            rows = [Row("assets:receivable", UNBILLED, cents, "finalization", document=start)]
            if cents != exact:
                up = Row(UNBILLED, "income:rounding", abs(cents - exact), "rounding", document=start)
                rows.append(up if cents > exact else up.mirrored())
        self._write(rows)
        return rows

    def _carried(self, start: datetime, draft: Draft, now: datetime) -> list[Row]:
        target = self.billed_by(start, now)
        self.opened.add(target)
        sums: dict[tuple[str | None, datetime | None, str | None, str | None], Fraction] = defaultdict(Fraction)
        for row in draft.charges:
            sums[row.item, row.used, row.app, row.region] += row.unbilled
        for made in draft.standing():
            sums[made.row.item, start, None, None] += made.row.unbilled
        rows: list[Row] = []
        for (item, used, app, region), amount in sums.items():
            if amount:
                into = Row(UNBILLED, CARRIED, abs(amount), "carry", target, used, None, item, None, app, region)
                into = into if amount > 0 else into.mirrored()
                rows += [into, replace(into.mirrored(), period=None, used=None, document=start)]
        return rows

    def _draft(self, start: datetime) -> Draft:
        if start not in self.drafts or self.drafts[start].state != "draft":
            raise Refused("not_a_draft")
        return self.drafts[start]

    def balances(self) -> dict[str, Fraction]:
        """Debits minus credits of every account that ever moved."""
        found: dict[str, Fraction] = defaultdict(Fraction)
        for row in self.rows:
            found[row.debit] += row.amount
            found[row.credit] -= row.amount
        return dict(found)
