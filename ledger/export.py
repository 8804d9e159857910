"""The journal for an accountant's own tool: a stream of text in Beancount's, hledger's or spreadsheets' own form."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, Row, Select, null, select, text, union
from sqlalchemy.orm import Session

from ledger import export_beancount, export_csv, export_hledger
from ledger.errors import LedgerError
from ledger.tables import TOTALS, Books, Entry

FETCHED = 2_000
"""Rows fetched at a time: what an export holds in memory, however long the journal is."""


class UnknownFormat(LedgerError):
    """The journal is exported as beancount, hledger or csv."""

    code = "unknown_export_format"


@dataclass(frozen=True, slots=True)
class Format:
    """How one tool writes a journal: what stands before all, then the accounts in use, then each entry."""

    head: Callable[[list[str]], str]
    """Takes the currencies."""
    account: Callable[[Row[Any]], str]
    entry: Callable[[Row[Any]], str]


FORMATS = {
    "beancount": Format(export_beancount.head, export_beancount.account, export_beancount.entry),
    "hledger": Format(export_hledger.head, export_hledger.account, export_hledger.entry),
    "csv": Format(export_csv.head, export_csv.account, export_csv.entry),
}


def export_journal(session: Session, *, output_format: str, names: FromClause | None = None) -> Iterator[str]:
    """The whole journal as pieces of text, one per account in use and one per entry, in the order of the books.

    `names` may add what the ledger does not know: a subquery with `customer_id`, `external_id` and `name`. It reads
    through a server-side cursor; one entry is one transaction of the tool, so nothing has to be held back. Run it in a
    REPEATABLE READ transaction, or entries that are posted meanwhile may lack their account's opening.

    Raises:
        UnknownFormat: `output_format` is none of FORMATS.
    """
    if output_format not in FORMATS:
        raise UnknownFormat(f"{output_format!r} is no format. The journal is exported as {', '.join(FORMATS)}.")
    return _pieces(session, FORMATS[output_format], names)


def _pieces(session: Session, written: Format, names: FromClause | None) -> Iterator[str]:
    # Whoever reads the export may pause for longer than an idle transaction is allowed to live.
    session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    yield written.head(list(session.scalars(select(Books.currency).distinct().order_by(Books.currency))))
    for row in _stream(session, _accounts(names)):
        yield written.account(row)
    for row in _stream(session, _entries(names)):
        yield written.entry(row)


def _stream(session: Session, query: Select[Any]) -> Iterator[Row[Any]]:
    yield from session.execute(query, execution_options={"yield_per": FETCHED})


def _accounts(names: FromClause | None) -> Select[Any]:
    used = union(
        select(TOTALS.c.customer_id, TOTALS.c.debit_account.label("account")),
        select(TOTALS.c.customer_id, TOTALS.c.credit_account),
    ).subquery()
    query = select(used.c.customer_id, used.c.account, Books.currency).join(
        Books, Books.customer_id == used.c.customer_id
    )
    return _named(query, names).order_by(used.c.customer_id, used.c.account)


def _entries(names: FromClause | None) -> Select[Any]:
    # Columns, not mapped rows: the session would keep every row that it ever mapped.
    query = select(*Entry.__table__.columns, Books.currency).join(Books, Books.customer_id == Entry.customer_id)
    return _named(query, names).order_by(Entry.customer_id, Entry.seq)


def _named(query: Select[Any], names: FromClause | None) -> Select[Any]:
    if names is None:
        return query.add_columns(null().label("external_id"), null().label("customer_name"))
    return query.add_columns(names.c.external_id, names.c.name.label("customer_name")).outerjoin(
        names, names.c.customer_id == Books.customer_id
    )
