"""Booking: the entries of one transaction, put together leg by leg, then posted all or none."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import MAX_BATCH, post
from ledger.tables import Entry


class Booking:
    """One transaction in one customer's books, named by its source and the source's id: posted twice, it is there once.

    `kind`, `at` (when it happened), `actor` and `reason` are those of every leg. Amounts are in major units.
    """

    def __init__(
        self,
        customer_id: UUID,
        *,
        source: str,
        event_id: str,
        kind: str,
        at: datetime,
        actor: str,
        reason: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.transaction_id = transaction_id(source, event_id)
        self.customer_id = customer_id
        self.labels = dict(labels or {})
        self.reason = reason
        self._kind = kind
        self._at = at
        self._actor = actor
        self._entries: list[NewEntry] = []

    def move(
        self,
        leg: str,
        amount: Decimal,
        *,
        debit: str,
        credit: str,
        document_id: UUID | None,
        kind: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Add a leg. An amount of 0 adds none; a negative one is the same leg the other way round.

        `kind` and `reason` replace the transaction's own for this leg.
        """
        if amount == 0:
            return
        if amount < 0:
            debit, credit, amount = credit, debit, -amount
        self._entries.append(
            NewEntry(
                customer_id=self.customer_id,
                id=entry_id(self.transaction_id, leg),
                transaction_id=self.transaction_id,
                debit_account=debit,
                credit_account=credit,
                amount=amount,
                effective_at=self._at,
                kind=kind or self._kind,
                actor=self._actor,
                reason=reason or self.reason,
                labels=dict(self.labels),
                digest=digest(
                    {
                        "transaction": self.transaction_id,
                        "leg": leg,
                        "amount": amount,
                        "debit": debit,
                        "document": document_id,
                    }
                ),
                document_id=document_id,
            )
        )

    def take_back(self, original: Entry, *, kind: str | None = None) -> None:
        """Add the reversal of an entry: its mirror, which names it."""
        self._entries.append(
            NewEntry(
                customer_id=self.customer_id,
                id=entry_id(self.transaction_id, f"reversal:{original.id}"),
                transaction_id=self.transaction_id,
                debit_account=original.credit_account,
                credit_account=original.debit_account,
                amount=original.amount,
                effective_at=self._at,
                kind=kind or self._kind,
                actor=self._actor,
                reason=self.reason,
                labels={**original.labels, **self.labels},
                digest=digest({"reverses": original.id}),
                document_id=original.document_id,
                item=original.item,
                price_id=original.price_id,
                quantity=original.quantity,
                reverses_id=original.id,
            )
        )

    def post(self, session: Session, *, now: datetime) -> int:
        """Post what was added; says how many entries were new. The caller commits."""
        added = 0
        for first in range(0, len(self._entries), MAX_BATCH):
            added += post(session, self._entries[first : first + MAX_BATCH], now=now).posted
        return added
