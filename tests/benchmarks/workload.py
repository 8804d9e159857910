"""The same usage for every way: machines of a few hundred customers, by the hour."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID

from ledger.entries import NewEntry, digest, entry_id, transaction_id

MONTH = datetime(2025, 6, 1, tzinfo=UTC)
HOURS = 30 * 24
APPS = 3  # per customer
ITEMS = ("shared-cpu-1x:256", "shared-cpu-1x:1024", "volume", "ipv4")
REGIONS = ("ams", "fra", "iad", "syd")


def entries(customers: list[UUID], *, name: str = "benchmark") -> Iterator[NewEntry]:
    """New charges without end, spread over customers, items, apps, regions and hours of a month; `name` is whose they
    are, so that two sources never send the same event."""
    for number in count():
        customer_id = customers[number * 7919 % len(customers)]
        transaction = transaction_id(name, f"{customers[0]}-{number}")
        quantity = Decimal(number % 3600 + 1)
        effective_at = MONTH + timedelta(hours=number * 31 % HOURS)
        labels = {"app": f"app-{number % APPS}", "region": REGIONS[number % 4], "machine": f"e2865{number % 97:05}"}
        item = ITEMS[number // 4 % 4]
        yield NewEntry(
            customer_id=customer_id,
            id=entry_id(transaction, "usage"),
            transaction_id=transaction,
            debit_account="assets:unbilled",
            credit_account="income:usage",
            amount=quantity * Decimal("0.0000008"),
            effective_at=effective_at,
            kind="usage",
            actor="benchmark",
            item=item,
            quantity=quantity,
            labels=labels,
            digest=digest({"item": item, "quantity": quantity, "effective_at": effective_at, "labels": labels}),
        )


def take(source: Iterator[NewEntry], size: int) -> list[NewEntry]:
    return [next(source) for _ in range(size)]
