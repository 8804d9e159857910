"""Events whose content follows from their number: short to name in a test, and never twice the same."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

FIRST_DAY = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = 150


@dataclass(frozen=True)
class Event:
    """One event of the source: its content follows from its number, the same whoever sends it."""

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
