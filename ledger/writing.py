"""Writing: a batch of acceptable entries into the journal, in one round trip."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from ledger.entries import NewEntry


@dataclass(frozen=True, slots=True)
class Written:
    """What the database did with a batch. Where anything was `unusual`, nothing was written."""

    posted: int
    replayed: int
    unusual: int


def write(session: Session, entries: Sequence[NewEntry], *, any_holder: bool = False) -> Written:
    """Lock the books, drop what is in the journal already, find each charge's period, number and insert the rest.

    The entries have been found acceptable, and no two have one id. What the database cannot settle by itself is
    counted as unusual and left to the caller: no such books, books of the house (unless `any_holder`), other content
    under a known id, a batch of which only a part is new, a charge for which no period is open. The caller commits.
    """
    # Each entry's number among those of its own books: their last `seq` is known only under the lock.
    numbers: dict[UUID, int] = {}
    rows = []
    for entry in entries:
        numbers[entry.customer_id] = n = numbers.get(entry.customer_id, 0) + 1
        rows.append(_row(n, entry))
    customers = "{" + ",".join(map(str, numbers)) + "}"
    # The batch goes as one JSON text: half the work of twenty arrays, for us and for Postgres alike. Numbers, times and
    # bytes stand in it as text and are read by their own types, so no digit is lost on the way.
    sent = json.dumps(rows, ensure_ascii=False)
    # Sent as it stands: SQLAlchemy's reading of the statement and its result would cost as much as the posting itself.
    row = (
        session.connection()
        .exec_driver_sql("SELECT posted, replayed, unusual FROM ledger_post(%s, %s, %s)", (customers, sent, any_holder))
        .one()
    )
    return Written(*row)


def _row(n: int, entry: NewEntry) -> dict[str, object]:
    row: dict[str, object] = {
        "n": n,
        "customer_id": str(entry.customer_id),
        "id": str(entry.id),
        "transaction_id": str(entry.transaction_id),
        "debit_account": entry.debit_account,
        "credit_account": entry.credit_account,
        "amount": str(entry.amount),
        "effective_at": entry.effective_at.isoformat(),
        "kind": entry.kind,
        "actor": entry.actor,
        "digest": "\\x" + entry.digest.hex(),
    }
    if entry.labels:
        row["labels"] = entry.labels if type(entry.labels) is dict else dict(entry.labels)
    if entry.item is not None:
        row["item"] = entry.item
    if entry.quantity is not None:
        row["quantity"] = str(entry.quantity)
    if entry.price_id is not None:
        row["price_id"] = str(entry.price_id)
    if entry.reason is not None:
        row["reason"] = entry.reason
    if entry.document_id is not None:
        row["document_id"] = str(entry.document_id)
    if entry.reverses_id is not None:
        row["reverses_id"] = str(entry.reverses_id)
    if entry.period_start is not None and entry.usage_period_start is not None:
        row["period_start"] = entry.period_start.isoformat()
        row["usage_period_start"] = entry.usage_period_start.isoformat()
    return row
