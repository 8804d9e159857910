"""What the hammer's sources send: the content of an event follows from its number, so that everybody sends the same."""

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.tables import Entry
from tests.hammer.model import Sent

FIRST_DAY = datetime(2025, 1, 10, tzinfo=UTC)
SPAN = timedelta(days=300)
"""What the hammer's clock runs through while it strikes: ten months, with every change of the hour in them."""

# Midnights that daylight saving skips or repeats, offsets of half an hour, and anchors that short months do not have.
CALENDARS = (
    ("UTC", 1), ("Europe/Berlin", 31), ("Asia/Beirut", 30), ("America/Havana", 9), ("Asia/Kolkata", 15),
    ("America/New_York", 29), ("Pacific/Auckland", 6), ("Africa/Cairo", 25), ("Asia/Tokyo", 28),
    ("Pacific/Chatham", 12),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """Events of any customer, spread evenly over the months that the hammer strikes."""

    events: int
    """Of each customer."""

    def sent(self, customer: UUID, number: int) -> Sent:
        """Positive, negative and free charges of 1 to 30 decimals, some days early or late."""
        mixed = number * 7919 % 100_003
        size = Decimal(mixed + 1).scaleb(-(30 if number % 50 == 0 else mixed % 13 + 1))
        credit = number % 6 == 5
        return Sent(
            customer=customer,
            id=self._id(customer, f"event {number}"),
            debit="income:usage" if credit else "assets:unbilled",
            credit="assets:unbilled" if credit else "income:usage",
            amount=Decimal(0) if number % 6 == 0 else size,
            at=FIRST_DAY + SPAN * (number / self.events) + timedelta(seconds=mixed * 17 % 1_900_000 - 900_000),
            item=f"item-{number % 3}",
            quantity=Decimal(mixed),
            app=f"app-{number % 2}",
            region="ams" if number % 5 else None,
        )

    def reversal(self, original: Sent, *, rival: int = 0) -> Sent:
        """The entry that takes `original` back. Rivals have other ids: only the first one of them may arrive."""
        return replace(
            original,
            id=self._id(original.customer, f"reversal {rival} of {original.id}"),
            debit=original.credit,
            credit=original.debit,
            reverses=original.id,
        )

    def contradiction(self, original: Sent) -> Sent:
        """The same event with other content."""
        return replace(original, quantity=(original.quantity or Decimal(0)) + Decimal("0.5"))

    def nonsense(self, customer: UUID, number: int) -> Sent:
        """An event that no books can take."""
        sound = replace(self.sent(customer, number), id=self._id(customer, f"nonsense {number}"))
        return (
            replace(sound, amount=Decimal("NaN")),
            replace(sound, amount=Decimal("Infinity")),
            replace(sound, amount=Decimal("-0.01")),
            replace(sound, amount=Decimal("1E-31")),
            replace(sound, amount=Decimal("1E15")),
            replace(sound, amount=Decimal(0), quantity=None),
            replace(sound, debit="assets:gold"),
            replace(sound, debit=sound.credit),
        )[number % 8]

    @staticmethod
    def _id(customer: UUID, name: str) -> UUID:
        return entry_id(transaction_id("hammer", f"{customer} {name}"), "usage")


def entry_of(sent: Sent, *, actor: str) -> NewEntry:
    """The entry to post. `actor` is the step that sends it: the books then tell which step they took it from."""
    return NewEntry(
        customer_id=sent.customer,
        id=sent.id,
        transaction_id=uuid5(sent.id, "transaction"),
        debit_account=sent.debit,
        credit_account=sent.credit,
        amount=sent.amount,
        effective_at=sent.at,
        kind="usage",
        actor=actor,
        digest=digest({column.name: getattr(sent, column.name) for column in fields(sent)}),
        item=sent.item,
        quantity=sent.quantity,
        labels={name: value for name, value in (("app", sent.app), ("region", sent.region)) if value is not None},
        reverses_id=sent.reverses,
    )


def sent_of(entry: Entry) -> Sent:
    """The event that an entry of the journal was, as its source sent it."""
    return Sent(
        customer=entry.customer_id,
        id=entry.id,
        debit=entry.debit_account,
        credit=entry.credit_account,
        amount=entry.amount,
        at=entry.effective_at,
        item=entry.item,
        quantity=entry.quantity,
        app=entry.labels.get("app"),
        region=entry.labels.get("region"),
        reverses=entry.reverses_id,
    )


def written(sent: Sent) -> list[Any]:
    """One event as a log keeps it."""
    return [None if value is None else str(value) for value in (getattr(sent, c.name) for c in fields(sent))]


def read(row: list[Any]) -> Sent:
    """One event as a log kept it."""
    customer, id_, debit, credit, amount, at, item, quantity, app, region, reverses = row
    return Sent(
        customer=UUID(customer),
        id=UUID(id_),
        debit=debit,
        credit=credit,
        amount=Decimal(amount),
        at=datetime.fromisoformat(at),
        item=item,
        quantity=None if quantity is None else Decimal(quantity),
        app=app,
        region=region,
        reverses=None if reverses is None else UUID(reverses),
    )


def line(**said: Any) -> str:
    """One line of a log."""
    return json.dumps(said, default=str, separators=(",", ":")) + "\n"
