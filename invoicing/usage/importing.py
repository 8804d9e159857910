"""Importing usage: good rows are posted in chunks, bad ones named, and doing it again adds nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from invoicing.customers import CustomerConflict, CustomerRefused, create_customer, customer_id_for, customers_by_id
from invoicing.prices.catalogue import ensure_items
from invoicing.usage.focus import COLUMN_OF, FocusRow
from invoicing.usage.intake import MAX_RECORDS, RowProblem, UsagePosted, UsageRecord, UsageRefused, post_usage

CHUNK_SIZE = 1_000
"""Rows per transaction: few enough that the books are not locked for long."""


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """How far an import is: rows read, of them new in the journal, there already, refused; customers it created."""

    rows: int = 0
    posted: int = 0
    replayed: int = 0
    refused: int = 0
    customers: int = 0


def import_usage(
    engine: Engine,
    rows: Iterable[UsageRecord | FocusRow | list[RowProblem]],
    *,
    source: str,
    actor: str,
    now: datetime,
    reject: Callable[[list[RowProblem]], None],
    progress: Callable[[ImportSummary], None],
    chunk_size: int = CHUNK_SIZE,
) -> ImportSummary:
    """Post every row that can be posted, each chunk in a transaction of its own.

    `reject` is told the problems of every bad row, `progress` how far it is after every chunk. Stopping it anywhere
    loses nothing: run it again over the same rows. The customers of FOCUS rows are created as they first appear.
    """
    if not 0 < chunk_size <= MAX_RECORDS:
        raise ValueError(f"chunk_size is 1 to {MAX_RECORDS}, not {chunk_size}")
    importer = _Importer(engine, source=source, actor=actor, now=now, reject=reject)
    chunk: list[UsageRecord | FocusRow] = []
    for row in rows:
        if isinstance(row, list):
            importer.refuse(row)
        else:
            chunk.append(row)
        if len(chunk) >= chunk_size:
            importer.post(chunk)
            progress(importer.summary)
            chunk = []
    if chunk:
        importer.post(chunk)
    progress(importer.summary)
    return importer.summary


class _Importer:
    def __init__(
        self, engine: Engine, *, source: str, actor: str, now: datetime, reject: Callable[[list[RowProblem]], None]
    ) -> None:
        self.summary = ImportSummary()
        self._engine = engine
        self._source = source
        self._actor = actor
        self._now = now
        self._reject = reject
        self._known_customers: set[str] = set()

    def refuse(self, problems: list[RowProblem]) -> None:
        """Count and report the bad rows that these problems are about."""
        count = len({problem.row for problem in problems})
        self.summary = replace(self.summary, rows=self.summary.rows + count, refused=self.summary.refused + count)
        self._reject(problems)

    def post(self, chunk: Sequence[UsageRecord | FocusRow]) -> None:
        """Post the chunk's good rows, and refuse the others."""
        left = self._with_customers(chunk)
        while left:
            try:
                done = self._post_all(left)
            except UsageRefused as refusal:
                bad = {problem.row for problem in refusal.problems}
                columns = {_record(row).row: COLUMN_OF for row in left if isinstance(row, FocusRow)}
                self.refuse([_in_column(problem, columns.get(problem.row, {})) for problem in refusal.problems])
                left = [row for row in left if _record(row).row not in bad]
                continue
            summary = self.summary
            self.summary = replace(
                summary,
                rows=summary.rows + len(left),
                posted=summary.posted + done.posted,
                replayed=summary.replayed + done.replayed,
            )
            return

    # A lost connection or a deadlock; even if the commit itself was lost, posting again only replays.
    @retry(
        retry=retry_if_exception_type(OperationalError),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        reraise=True,
    )
    def _post_all(self, rows: Sequence[UsageRecord | FocusRow]) -> UsagePosted:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            ensure_items(session, [row.item for row in rows if isinstance(row, FocusRow)], now=self._now)
            return post_usage(
                session, [_record(row) for row in rows], source=self._source, actor=self._actor, now=self._now
            )

    def _with_customers(self, chunk: Sequence[UsageRecord | FocusRow]) -> list[UsageRecord | FocusRow]:
        """The chunk without the rows whose customer could not be created."""
        first_rows: dict[str, FocusRow] = {}
        for row in chunk:
            if isinstance(row, FocusRow) and row.record.customer not in self._known_customers:
                first_rows.setdefault(row.record.customer, row)
        if not first_rows:
            return list(chunk)
        refused = self._create_customers(list(first_rows.values()))
        self._known_customers |= first_rows.keys() - refused.keys()
        left: list[UsageRecord | FocusRow] = []
        for row in chunk:
            problems = refused.get(_record(row).customer)
            if problems:
                found = [RowProblem(_record(row).row, *problem) for problem in problems]
                self.refuse([_in_column(problem, COLUMN_OF) for problem in found])
            else:
                left.append(row)
        return left

    def _create_customers(self, rows: Sequence[FocusRow]) -> dict[str, list[tuple[str, str, str]]]:
        """Create those customers that are new; what keeps one from being created is returned by external id."""
        refused: dict[str, list[tuple[str, str, str]]] = {}
        # In the order in which books are locked everywhere, so that two imports at once cannot deadlock.
        by_id = sorted(((customer_id_for(row.record.customer), row) for row in rows), key=lambda pair: pair[0])
        created = 0
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            known = customers_by_id(session, customer_ids=[customer_id for customer_id, _ in by_id])
            for customer_id, row in by_id:
                if customer_id in known:
                    continue
                try:
                    _, is_new = create_customer(
                        session,
                        external_id=row.record.customer,
                        name=row.customer_name,
                        currency=row.record.currency or "",
                        actor=self._actor,
                        now=self._now,
                    )
                    created += is_new
                except CustomerRefused as refusal:
                    refused[row.record.customer] = refusal.problems
                except CustomerConflict:
                    continue  # somebody else created it just now, which is all that we wanted
        self.summary = replace(self.summary, customers=self.summary.customers + created)
        return refused


def _record(row: UsageRecord | FocusRow) -> UsageRecord:
    return row.record if isinstance(row, FocusRow) else row


def _in_column(problem: RowProblem, columns: Mapping[str, str]) -> RowProblem:
    """The problem with its field named as the file names it."""
    return replace(problem, field=columns.get(problem.field, problem.field))
