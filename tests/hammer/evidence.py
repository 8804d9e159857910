"""What the judge reads: what every process wrote down, and what stands in the books."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.tables import Adjustment, Invoice, Line
from ledger.accounts import is_debit_normal
from ledger.balances import balances
from ledger.tables import Books, Entry, PeriodRow
from tests.hammer.events import read
from tests.hammer.model import LineKey, Row, Sent


@dataclass(slots=True)
class Step:
    """One step of one process. `outcome` is "unknown" if nobody was told: it was killed, or its connection was cut."""

    name: str
    kind: str
    at: float
    now: datetime
    said: dict[str, Any]
    until: float = float("inf")
    outcome: str = "unknown"
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def may_have_happened(self) -> bool:
        return self.outcome in ("done", "unknown")

    def batch(self) -> list[Sent]:
        return [read(row) for row in self.said.get("batch", [])]

    def line(self) -> LineKey | None:
        named = self.said["line"]
        return None if named is None else (named[0], named[1], datetime.fromisoformat(named[2]))

    def amount(self) -> Fraction | None:
        return None if self.said["amount"] is None else Fraction(self.said["amount"])


@dataclass(slots=True)
class Logs:
    steps: dict[str, Step] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    cuts_seen: int = 0


def read_logs(folder: Path) -> Logs:
    """Every step that a process in this folder wrote down. The last line of one that was killed may be half a line."""
    logs = Logs()
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_text().splitlines(keepends=True):
            if text.endswith("\n"):
                _take(logs, json.loads(text))
    return logs


def _take(logs: Logs, said: dict[str, Any]) -> None:
    if "broken" in said:
        logs.broken.append(f"{said['broken']}\n{said['traceback'][:8000]}")
    elif "kind" in said:
        name, kind, at, now = said.pop("step"), said.pop("kind"), said.pop("at"), said.pop("now")
        logs.steps[name] = Step(name, kind, at, datetime.fromisoformat(now), said)
    else:
        step = logs.steps[said.pop("step")]
        outcome, until = said.pop("outcome"), said.pop("until")
        if outcome == "cut":
            logs.cuts_seen += 1  # the answer may have been lost on the way: nobody knows
        else:
            step.outcome, step.until, step.told = outcome, until, said


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of the journal, and who posted it."""

    seq: int
    id: UUID
    actor: str
    transaction: UUID
    document: UUID | None
    row: Row


@dataclass(frozen=True, slots=True)
class Closing:
    seq: int
    """The last entry of the books when the period closed."""
    start: datetime
    at: datetime


@dataclass(slots=True)
class Customer:
    """Everything that stands in the database about one customer."""

    last_seq: int
    entries: list[Found]
    periods: dict[datetime, tuple[datetime, str]]
    closings: list[Closing]
    invoices: list[Invoice]
    lines: dict[UUID, dict[LineKey, tuple[Fraction, Fraction]]]
    adjustment_lines: dict[UUID, dict[UUID, Fraction]]
    adjustments: dict[UUID, Adjustment]
    balances: dict[str, Fraction]
    """Debits minus credits."""


def read_customer(session: Session, customer_id: UUID) -> Customer:
    invoices = list(session.scalars(select(Invoice).where(Invoice.customer_id == customer_id)))
    starts = {invoice.id: invoice.period_start for invoice in invoices}
    periods = list(session.scalars(select(PeriodRow).where(PeriodRow.customer_id == customer_id)))
    lines: dict[UUID, dict[LineKey, tuple[Fraction, Fraction]]] = defaultdict(dict)
    by_adjustment: dict[UUID, dict[UUID, Fraction]] = defaultdict(dict)
    for line in session.scalars(select(Line).where(Line.customer_id == customer_id)):
        if line.adjustment_id is not None:
            by_adjustment[line.invoice_id][line.adjustment_id] = Fraction(line.amount)
        else:
            key = line.contra_account, line.item, line.usage_period_start
            lines[line.invoice_id][key] = Fraction(line.amount), Fraction(line.quantity or 0)
    return Customer(
        last_seq=session.get_one(Books, customer_id).last_seq,
        entries=_entries(session, customer_id, starts),
        periods={period.start_at: (period.end_at, period.state) for period in periods},
        closings=sorted(
            (Closing(period.closed_seq, period.start_at, period.closed_at) for period in periods
             if period.closed_seq is not None and period.closed_at is not None),
            key=lambda closing: (closing.seq, closing.start),
        ),
        invoices=invoices,
        lines=lines,
        adjustment_lines=by_adjustment,
        adjustments={a.id: a for a in session.scalars(select(Adjustment).where(Adjustment.customer_id == customer_id))},
        balances={
            account: Fraction(amount if is_debit_normal(account) else -amount)
            for account, amount in balances(session, customer_id=customer_id).items()
        },
    )  # fmt: skip


def _entries(session: Session, customer_id: UUID, starts: dict[UUID, datetime]) -> list[Found]:
    e = Entry
    query = (
        select(
            e.seq, e.id, e.actor, e.transaction_id, e.document_id, e.debit_account, e.credit_account, e.amount, e.kind,
            e.period_start, e.usage_period_start, e.item, e.quantity, e.labels,
        )
        .where(e.customer_id == customer_id)
        .order_by(e.seq)
    )  # fmt: skip
    return [
        Found(seq, id_, actor, transaction, document, Row(
            debit, credit, Fraction(amount), kind, period, used, None if document is None else starts[document], item,
            _fraction(quantity), labels.get("app"), labels.get("region"),
        ))
        for seq, id_, actor, transaction, document, debit, credit, amount, kind, period, used, item, quantity, labels
        in session.execute(query)
    ]  # fmt: skip


def _fraction(value: Decimal | None) -> Fraction | None:
    return None if value is None else Fraction(value)
