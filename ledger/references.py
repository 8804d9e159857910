"""What entries refer to: documents, entries that they reverse, periods that they name. Looked up in the books."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.entries import EntryProblem, NewEntry

_DOCUMENTS = text("""
    SELECT d.customer_id, d.id FROM ledger_documents d
      JOIN unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS sent (customer_id, id) USING (customer_id, id)
""")

_PERIODS = text("""
    SELECT p.customer_id, p.start_at, p.state FROM ledger_periods p
      JOIN unnest(CAST(:customers AS uuid[]), CAST(:starts AS timestamptz[])) AS sent (customer_id, start_at)
     USING (customer_id, start_at)
""")

_ORIGINALS = text("""
    SELECT o.customer_id, o.id, o.debit_account, o.credit_account, o.amount, o.document_id, o.item, o.quantity,
           o.reverses_id, (SELECT r.id FROM ledger_entries r
                            WHERE r.customer_id = o.customer_id AND r.reverses_id = o.id) AS reversed_by
      FROM ledger_entries o
      JOIN unnest(CAST(:customers AS uuid[]), CAST(:ids AS uuid[])) AS sent (customer_id, id) USING (customer_id, id)
""")


def reference_problems(session: Session, entries: Sequence[tuple[int, NewEntry]]) -> list[EntryProblem]:
    """Everything that these entries, each with its index in the batch, refer to wrongly.

    The caller holds the locks of the books. Most batches refer to nothing and cost no query.
    """
    problems = [*_document_problems(session, entries), *_period_problems(session, entries)]
    problems += _reversal_problems(session, entries)
    return sorted(problems, key=lambda problem: problem.index)


def _document_problems(session: Session, entries: Sequence[tuple[int, NewEntry]]) -> list[EntryProblem]:
    wanted = {(entry.customer_id, entry.document_id) for _, entry in entries if entry.document_id is not None}
    if not wanted:
        return []
    found = session.execute(
        _DOCUMENTS, {"customers": [customer for customer, _ in wanted], "ids": [document for _, document in wanted]}
    )
    known = {(row.customer_id, row.id) for row in found}
    return [
        EntryProblem(
            index,
            "document_id",
            "unknown_document",
            f"These books have no document {entry.document_id}. Open it first.",
        )
        for index, entry in entries
        if entry.document_id is not None and (entry.customer_id, entry.document_id) not in known
    ]


def _period_problems(session: Session, entries: Sequence[tuple[int, NewEntry]]) -> list[EntryProblem]:
    wanted: set[tuple[UUID, datetime]] = set()
    for _, entry in entries:
        for start in (entry.period_start, entry.usage_period_start):
            if start is not None:
                wanted.add((entry.customer_id, start))
    if not wanted:
        return []
    rows = session.execute(
        _PERIODS, {"customers": [customer for customer, _ in wanted], "starts": [start for _, start in wanted]}
    )
    states = {(row.customer_id, row.start_at): row.state for row in rows}
    problems: list[EntryProblem] = []
    for index, entry in entries:
        if entry.period_start is None or entry.usage_period_start is None:
            continue
        for name, start in (("period_start", entry.period_start), ("usage_period_start", entry.usage_period_start)):
            if (entry.customer_id, start) not in states:
                problems.append(
                    EntryProblem(index, name, "unknown_period", f"These books have no period from {start.isoformat()}.")
                )
        if states.get((entry.customer_id, entry.period_start)) == "closed":
            problems.append(
                EntryProblem(
                    index,
                    "period_start",
                    "period_closed",
                    f"The period from {entry.period_start.isoformat()} is closed and takes no more charges.",
                )
            )
    return problems


def _reversal_problems(session: Session, entries: Sequence[tuple[int, NewEntry]]) -> list[EntryProblem]:
    wanted = {(entry.customer_id, entry.reverses_id) for _, entry in entries if entry.reverses_id is not None}
    if not wanted:
        return []
    rows = session.execute(
        _ORIGINALS, {"customers": [customer for customer, _ in wanted], "ids": [original for _, original in wanted]}
    )
    originals: dict[tuple[UUID, UUID | None], Any] = {(row.customer_id, row.id): row for row in rows}
    reversed_by = {key: row.reversed_by for key, row in originals.items() if row.reversed_by is not None}
    problems: list[EntryProblem] = []
    for index, entry in entries:
        key = (entry.customer_id, entry.reverses_id)
        if entry.reverses_id is not None:
            wrong = _reversal_problem(entry, originals.get(key), reversed_by.get(key))
            if wrong is not None:
                problems.append(EntryProblem(index, "reverses_id", *wrong))
            reversed_by.setdefault(key, entry.id)
        # An entry may be reversed later in its own batch.
        originals.setdefault((entry.customer_id, entry.id), entry)
    return problems


def _reversal_problem(entry: NewEntry, original: Any, reversed_by: UUID | None) -> tuple[str, str] | None:
    """What is wrong with reversing `original`: a row of the journal, or an earlier entry of the batch."""
    if original is None:
        return "unknown_entry", f"These books have no earlier entry {entry.reverses_id}."
    if original.reverses_id is not None:
        return "reversal_of_reversal", f"{entry.reverses_id} is a reversal itself: post the original again instead."
    if reversed_by is not None:
        return "reversed_before", f"{entry.reverses_id} was reversed before, by {reversed_by}."
    mirror = (
        original.credit_account,
        original.debit_account,
        original.amount,
        original.document_id,
        original.item,
        original.quantity,
    )
    if mirror != (
        entry.debit_account,
        entry.credit_account,
        entry.amount,
        entry.document_id,
        entry.item,
        entry.quantity,
    ):
        return (
            "not_a_mirror",
            f"A reversal swaps the accounts of {entry.reverses_id} and keeps its amount, document, item and quantity.",
        )
    return None
