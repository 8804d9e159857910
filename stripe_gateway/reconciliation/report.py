"""What a run found, as commands, cron and tests read it."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

COUNTED = (
    "invoices", "payments", "credit_notes", "refunds", "disputes", "transactions", "payouts", "customers", "pending",
)  # fmt: skip
"""What is counted: objects of ours that were compared. `pending` ones are still on their way; they come next time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing on which the two sides disagree. `kind` is stable; `external_id` is the object it is about.

    `outcome`: repaired, with an entry that names the reconciliation; task, a person must look; explained, a person
    has looked, said why it is so, and nothing changed since.
    """

    kind: str
    text: str
    customer_id: UUID | None = None
    invoice_id: UUID | None = None
    external_id: str | None = None
    outcome: str = "task"

    @property
    def repaired(self) -> bool:
        return self.outcome == "repaired"


@dataclass(slots=True)
class ReconcileReport:
    """What was compared, and what was found."""

    window_from: datetime | None = None
    """From when on Stripe's lists were read; None if nothing was ever sent there."""
    started_at: datetime | None = None
    stage: str = ""
    """What is being compared; empty once the run is over."""
    resumed: bool = False
    """Whether this run went on where another process had stopped."""
    counts: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)

    @property
    def invoices(self) -> int:
        return self.counts.get("invoices", 0)

    @property
    def payments(self) -> int:
        return self.counts.get("payments", 0)

    @property
    def pending(self) -> int:
        return self.counts.get("pending", 0)

    def of(self, outcome: str) -> list[Difference]:
        """The differences that ended this way: repaired, task or explained."""
        return [difference for difference in self.differences if difference.outcome == outcome]

    @property
    def repaired(self) -> list[Difference]:
        return self.of("repaired")

    @property
    def unexplained(self) -> list[Difference]:
        """What a person must look at."""
        return self.of("task")
