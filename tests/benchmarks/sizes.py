"""How much each way does in a round."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """What `make bench` measures; smaller where only whether it works is asked."""

    batches: int = 4
    """Of 1,000 entries, each committed."""
    readings: int = 50
    """Of one customer's totals."""
    clients: tuple[int, ...] = (1, 4, 16)
    singles: int = 640
    """Entries posted one by one, over all clients."""
    requests: int = 4
    """To the API, of 1,000 events."""
    platform_customers: int = 300
    file_rows: int = 4_000
    billed: int = 4_000
    """Customers whose period is closed."""
    many: int = 20_000
    """Entries of the customer who is closed alone, the second time; a million in `make soak`."""


FULL = Sizes()
