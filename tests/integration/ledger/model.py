"""What the books must say in the end, from nothing but the events that were acknowledged. Knows nothing of our code."""

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = 150


@dataclass(frozen=True)
class Event:
    """One event of the source: its content follows from its number, so that every worker sends the same."""

    customer_id: UUID
    number: int

    @property
    def name(self) -> str:
        return f"{self.customer_id}/{self.number}"

    @property
    def signed(self) -> Decimal:
        """Positive, negative and free ones, of 1 to 13 decimals."""
        size = Decimal(self.number * 7919 % 100_003).scaleb(-(self.number % 13) - 1)
        return (Decimal(0), size, size, -size)[self.number % 4]

    @property
    def effective_at(self) -> datetime:
        return FIRST_DAY + timedelta(minutes=self.number * 104_729 % (DAYS * 24 * 60))


class Model:
    """The acknowledged events and reversals of each customer, and what each period held when it was closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.posted: dict[UUID, set[Event]] = defaultdict(set)
        self.reversed: dict[UUID, set[Event]] = defaultdict(set)
        self.closed: dict[tuple[UUID, datetime], Decimal] = {}

    def acknowledge(self, events: list[Event], reversals: list[Event]) -> None:
        with self._lock:
            for event in events:
                self.posted[event.customer_id].add(event)
            for event in reversals:
                self.reversed[event.customer_id].add(event)

    def close(self, sums: dict[tuple[UUID, datetime], Decimal]) -> None:
        with self._lock:
            twice = sums.keys() & self.closed.keys()
            assert not twice, f"closed twice: {twice}"
            self.closed.update(sums)

    def known(self, customer_id: UUID) -> list[Event]:
        with self._lock:
            return list(self.posted[customer_id])

    def entries(self, customer_id: UUID) -> int:
        return len(self.posted[customer_id]) + len(self.reversed[customer_id])

    def unbilled(self, customer_id: UUID) -> Decimal:
        return sum((event.signed for event in self.posted[customer_id] - self.reversed[customer_id]), Decimal(0))

    def moved(self, customer_id: UUID) -> Decimal:
        """Everything that ever moved, whichever way."""
        events = [*self.posted[customer_id], *self.reversed[customer_id]]
        return sum((abs(event.signed) for event in events), Decimal(0))
