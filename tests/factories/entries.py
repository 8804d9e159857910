"""Entries as a usage source would send them: one machine, one hour, one region."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import factory

from ledger.entries import NewEntry, digest, entry_id, transaction_id


class EntryFactory(factory.Factory[NewEntry]):
    """A charge of one machine-hour on 10 June 2025. `event` names the source's event: the same name, the same ids."""

    class Meta:
        model = NewEntry

    class Params:
        event = factory.Sequence(lambda n: f"event-{n}")

    customer_id = factory.LazyFunction(uuid4)
    transaction_id = factory.LazyAttribute(lambda o: transaction_id("factory", f"{o.customer_id} {o.event}"))
    id = factory.LazyAttribute(lambda o: entry_id(o.transaction_id, "usage"))
    debit_account = "assets:unbilled"
    credit_account = "income:usage"
    amount = Decimal("0.00288")
    quantity: Decimal | None = Decimal(3600)
    effective_at = datetime(2025, 6, 10, 12, tzinfo=UTC)
    kind = "usage"
    actor = "factory"
    item: str | None = "machine:shared-cpu-1x"
    labels = factory.LazyFunction(lambda: {"app": "web", "region": "ams"})
    digest = factory.LazyAttribute(
        lambda o: digest({"item": o.item, "quantity": o.quantity, "effective_at": o.effective_at, "labels": o.labels})
    )


class DocumentEntryFactory(EntryFactory):
    """An entry about a document: an adjustment upwards. Takes `document_id`."""

    credit_account = "income:adjustments"
    amount = Decimal("5.00")
    quantity = None
    item = None
    kind = "adjustment"
    labels = factory.LazyFunction(dict)


def reversal_of(entry: NewEntry, **changes: object) -> NewEntry:
    """The entry that takes `entry` back."""
    transaction = transaction_id("factory", f"reversal of {entry.id}")
    details: dict[str, object] = {
        "customer_id": entry.customer_id,
        "transaction_id": transaction,
        "id": entry_id(transaction, "reversal"),
        "debit_account": entry.credit_account,
        "credit_account": entry.debit_account,
        "amount": entry.amount,
        "quantity": entry.quantity,
        "effective_at": entry.effective_at,
        "kind": entry.kind,
        "item": entry.item,
        "labels": entry.labels,
        "document_id": entry.document_id,
        "reverses_id": entry.id,
        "reason": "it was a mistake",
        "digest": digest({"reverses": entry.id}),
        **changes,
    }
    return EntryFactory.build(**details)
