"""`billing report`: what the books say, summed up, on the terminal or as CSV."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
from sqlalchemy import FromClause, select
from sqlalchemy.orm import Session

from app.cli import Group, example
from app.cli.customers import possible_ids
from app.cli.instants import Instant, Month
from app.cli.output import end_progress, require_past, show_progress, written
from app.cli.snapshots import snapshot
from app.cli.tables import Cells, Column, TableLine, cells_of, csv_lines, plus, table_lines, total_line, totalled
from invoicing.customers import CustomerNotFound
from invoicing.movements.exchange_totals import ExchangeTotal, exchange_totals
from invoicing.receivables import due_dates
from invoicing.tables import Customer
from ledger.money import minor_units
from ledger.reports.ageing import AGES, OpenReceivable, ageing
from ledger.reports.deferred_credits import DeferredCredit, deferred_credits
from ledger.reports.moves import Scope
from ledger.reports.revenue import RevenueRow, revenue
from ledger.reports.trial_balance import TrialBalanceRow, trial_balance
from ledger.tables import Books
from ledger.time_machine import Statement, StatementRow, statement

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
R = TypeVar("R")
SHOWN_EVERY = 1_000
"""Lines of a report between two updates of the progress line."""


@click.group(cls=Group)
def report() -> None:
    """Sum the books up: now, or as they were at any past moment."""


def _options(*options: Callable[[CommandT], CommandT]) -> Callable[[CommandT], CommandT]:
    def attach(command: CommandT) -> CommandT:
        for option in reversed(options):
            command = option(command)
        return command

    return attach


_known_at = click.option(
    "--known-at",
    type=Instant(),
    help="Count what had been recorded by then, ISO 8601 with a zone. Default: everything.",
)
_scope = _options(
    click.option("--customer", help="Only this one's books: the platform's id or ours. Default: the whole company."),
    click.option("--currency", help="Only books in this currency, such as USD."),
    click.option(
        "--as-of", type=Instant(), help="Count what took effect before then, ISO 8601 with a zone. Default: everything."
    ),
    _known_at,
)
_output = _options(
    click.option("--format", "output_format", type=click.Choice(["table", "csv"]), default="table", show_default=True),
    click.option(
        "--output",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Write to this file, which appears when it is complete; standard output otherwise.",
    ),
)


@example("billing report trial-balance\nbilling report trial-balance --as-of 2025-07-01T00:00:00Z --format csv")
@report.command("trial-balance")
@_scope
@_output
def trial_balance_command(output_format: str, output: Path | None, **asked: Any) -> None:
    """Print what was debited to and credited to each account; in each currency both sides are equal."""
    with snapshot() as session:
        scope = _scope_of(session, **asked)
        columns: Sequence[Column[TrialBalanceRow]] = (
            Column("currency", lambda row: row.currency),
            Column("account", lambda row: row.account, least=31),
            Column("debits", lambda row: row.debits, is_number=True),
            Column("credits", lambda row: row.credits, is_number=True),
            Column("balance", lambda row: row.balance, is_number=True),
        )
        rows = trial_balance(session, scope=scope)
        lines = totalled(cells_of(columns, rows), by=(0,), sums=(2, 3))
        title = f"Trial balance{_of(**asked)}"
        _write(columns, columns, rows, lines, title=title, output_format=output_format, output=output)


@example(
    "billing report statement --customer acme-7 --account assets:receivable\n"
    "billing report statement --customer acme-7 --account assets:unbilled --since 2025-06-01T00:00Z "
    "--until 2025-07-01T00:00Z --known-at 2025-06-15T12:00Z"
)
@report.command("statement")
@click.option("--customer", required=True, help="Whose books: the platform's id or ours.")
@click.option("--account", required=True, help="Which account, such as assets:receivable.")
@click.option(
    "--since", type=Instant(), help="Show what took effect at this time or later; what was before is opening."
)
@click.option("--until", "--as-of", type=Instant(), help="Show what took effect before this time.")
@_known_at
@_output
def statement_command(
    customer: str,
    account: str,
    since: datetime | None,
    until: datetime | None,
    known_at: datetime | None,
    output_format: str,
    output: Path | None,
) -> None:
    """Print one account of one customer entry by entry, with the balance after each, in order of effect."""
    with snapshot() as session:
        if known_at is not None:
            require_past(known_at, option="--known-at")
        made = statement(
            session,
            customer_id=_books_of(session, customer),
            account=account,
            since=since,
            until=until,
            known_at=known_at,
        )
        rest = _statement_values()
        shown: Sequence[Column[StatementRow]] = (
            Column("seq", lambda row: Decimal(row.seq), is_number=True),
            Column("effective", lambda row: row.effective_at, least=16),
            Column("what", lambda row: row.item or row.kind, least=12),
            Column("contra account", lambda row: row.contra_account, least=14),
            *rest,
        )
        kept: Sequence[Column[StatementRow]] = (
            Column("customer_id", lambda _: made.customer_id),
            Column("account", lambda _: account),
            Column("seq", lambda row: Decimal(row.seq)),
            Column("entry_id", lambda row: row.entry_id),
            Column("effective_at", lambda row: row.effective_at),
            Column("recorded_at", lambda row: row.recorded_at),
            Column("contra_account", lambda row: row.contra_account),
            Column("kind", lambda row: row.kind),
            Column("item", lambda row: row.item),
            Column("document_id", lambda row: row.document_id),
            Column("currency", lambda _: made.currency),
            *rest,
        )
        title = f"{account} in {made.currency}{_of(customer=customer, since=since, as_of=until, known_at=known_at)}"
        lines = _with_opening_and_closing(made, cells_of(shown, made.rows))
        _write(shown, kept, made.rows, lines, title=title, output_format=output_format, output=output)


def _statement_values() -> Sequence[Column[StatementRow]]:
    return (
        Column("debit", lambda row: row.debit, is_number=True),
        Column("credit", lambda row: row.credit, is_number=True),
        Column("balance", lambda row: row.balance, is_number=True),
    )


def _with_opening_and_closing(made: Statement, rows: Iterable[Cells]) -> Iterator[TableLine]:
    """The rows between both balances. A side of an entry that is 0 is left blank, so that each side can be read."""
    yield TableLine((None, None, "opening", None, None, None, made.opening))
    for *details, debit, credit, balance in rows:
        yield TableLine((*details, debit or None, credit or None, balance))
    yield TableLine((None, None, "closing", None, made.debits, made.credits, made.closing), is_total=True)


@example("billing report revenue\nbilling report revenue --from 2025-01 --to 2025-06 --currency EUR --format csv")
@report.command("revenue")
@click.option("--from", "first_month", type=Month(), help="The first month to show, such as 2025-01.")
@click.option("--to", "last_month", type=Month(), help="The last month to show.")
@_scope
@_output
def revenue_command(
    first_month: date | None, last_month: date | None, output_format: str, output: Path | None, **asked: Any
) -> None:
    """Print what each item earned in each month of its use; corrections, credit given away and rounding beside it.

    Months are the customer's own, in the time zone of its books, as on the invoice.
    """
    with snapshot() as session:
        scope = _scope_of(session, **asked)
        columns: Sequence[Column[RevenueRow]] = (
            Column("currency", lambda row: row.currency),
            Column("month", lambda row: f"{row.month:%Y-%m}"),
            Column("account", lambda row: row.account, least=16),
            Column("item", lambda row: row.item, least=16),
            Column("quantity", lambda row: row.quantity, is_number=True),
            Column("amount", lambda row: row.amount, is_number=True),
        )
        rows = revenue(session, scope=scope, first_month=first_month, last_month=last_month)
        lines = totalled(cells_of(columns, rows), by=(0, 1), sums=(5,))
        title = f"Revenue by item and month{_of(**asked)}"
        _write(columns, columns, rows, lines, title=title, output_format=output_format, output=output)


@example("billing report deferred-credits\nbilling report deferred-credits --as-of 2025-07-01T00:00:00Z")
@report.command("deferred-credits")
@_scope
@_output
def deferred_credits_command(output_format: str, output: Path | None, **asked: Any) -> None:
    """Print what each customer still holds: credits, fees not yet earned, money not yet applied."""
    with snapshot() as session:
        scope = _scope_of(session, **asked)
        shown: Sequence[Column[DeferredCredit]] = (
            Column("currency", lambda row: row.currency),
            Column("customer", lambda row: row.external_id or row.customer_id, least=12),
            Column("name", lambda row: row.name, least=12),
            Column("account", lambda row: row.account, least=31),
            Column("amount", lambda row: row.amount, is_number=True),
        )
        kept: Sequence[Column[DeferredCredit]] = (
            Column("currency", lambda row: row.currency),
            Column("customer_id", lambda row: row.customer_id),
            Column("external_id", lambda row: row.external_id),
            *shown[2:],
        )
        rows = deferred_credits(session, scope=scope, names=_names())
        lines = totalled(cells_of(shown, rows), by=(0,), sums=(4,))
        title = f"Deferred credits{_of(**asked)}"
        _write(shown, kept, rows, lines, title=title, output_format=output_format, output=output)


@example("billing report ageing\nbilling report ageing --as-of 2025-07-01T00:00:00Z --format csv --output ageing.csv")
@report.command("ageing")
@_scope
@_output
def ageing_command(output_format: str, output: Path | None, **asked: Any) -> None:
    """Print what customers owe, invoice by invoice, by how many days it has been due; the oldest first.

    An invoice that is charged automatically is due when it becomes final, one that is sent 30 days later.
    """
    now = datetime.now(UTC)
    with snapshot() as session:
        scope = _scope_of(session, **asked)
        shown: Sequence[Column[OpenReceivable]] = (
            Column("currency", lambda row: row.currency),
            Column("due", lambda row: row.due, least=10),
            Column("days", lambda row: Decimal(row.days_overdue), is_number=True),
            Column("age", lambda row: row.age),
            Column("customer", lambda row: row.external_id or row.customer_id, least=12),
            Column("name", lambda row: row.name, least=12),
            Column("document", lambda row: row.number or row.document_id or "opening", least=20),
            Column("open", lambda row: row.amount, is_number=True),
        )
        kept: Sequence[Column[OpenReceivable]] = (
            Column("currency", lambda row: row.currency),
            Column("customer_id", lambda row: row.customer_id),
            Column("external_id", lambda row: row.external_id),
            Column("name", lambda row: row.name),
            Column("document_id", lambda row: row.document_id),
            Column("number", lambda row: row.number),
            Column("since", lambda row: row.since),
            Column("due", lambda row: row.due),
            Column("days_overdue", lambda row: Decimal(row.days_overdue)),
            Column("age", lambda row: row.age),
            Column("open", lambda row: row.amount),
        )
        rows = ageing(session, scope=scope, as_of=scope.effective_before or now, due=due_dates(), names=_names())
        lines = _with_ages(cells_of(shown, rows))
        title = f"Receivables ageing{_of(**asked)}"
        _write(shown, kept, rows, lines, title=title, output_format=output_format, output=output)


def _with_ages(rows: Iterable[Cells]) -> Iterator[TableLine]:
    """The rows, and after each currency how much of it is of which age."""
    for currency, group in groupby(rows, key=lambda row: row[0]):
        by_age = dict.fromkeys(AGES, Decimal(0))
        for row in group:
            yield TableLine(row)
            age = str(row[3])
            by_age[age] = plus(by_age[age], row[-1])
        for age, amount in by_age.items():
            yield total_line(8, {0: currency, 3: age, 7: amount})
        yield total_line(8, {0: currency, 3: "all", 7: sum(by_age.values(), Decimal(0))})


@example("billing report exchange\nbilling report exchange --as-of 2025-07-01T00:00:00Z --currency EUR --format csv")
@report.command("exchange")
@_scope
@_output
def exchange_command(output_format: str, output: Path | None, **asked: Any) -> None:
    """Print what was exchanged where the account settles in another currency than customers pay in.

    The difference is what was gained (below 0: lost) because money went back, or came back, at another rate than that
    of its payment; it is in the currency that the account settles in, as are the columns before it.
    """
    with snapshot() as session:
        scope = _scope_of(session, **asked)
        values: Sequence[Column[ExchangeTotal]] = (
            Column("way", lambda row: row.way, least=9),
            Column("movements", lambda row: Decimal(row.movements), is_number=True),
            Column("amount", lambda row: row.amount, is_number=True),
            Column("became", lambda row: row.settled, is_number=True),
            Column("kept", lambda row: row.kept, is_number=True),
            Column("difference", lambda row: row.difference, is_number=True),
        )
        shown: Sequence[Column[ExchangeTotal]] = (
            Column("currencies", lambda row: f"{row.currency} to {row.settled_currency}"),
            *values,
        )
        kept: Sequence[Column[ExchangeTotal]] = (
            Column("currency", lambda row: row.currency),
            Column("settled_currency", lambda row: row.settled_currency),
            *values,
        )
        rows = exchange_totals(
            session,
            customer_id=scope.customer_id,
            currency=scope.currency,
            before=scope.effective_before,
            known_at=scope.known_at,
        )
        lines = totalled(cells_of(shown, rows), by=(0,), sums=(2, 3, 4, 5, 6))
        title = f"Exchanged between currencies{_of(**asked)}"
        _write(shown, kept, rows, lines, title=title, output_format=output_format, output=output)


def _names() -> FromClause:
    return select(Customer.customer_id, Customer.external_id, Customer.name).subquery("names")


def _scope_of(
    session: Session, *, customer: str | None, currency: str | None, as_of: datetime | None, known_at: datetime | None
) -> Scope:
    if known_at is not None:
        require_past(known_at, option="--known-at")
    if currency is not None:
        minor_units(currency)
    customer_id = None if customer is None else _books_of(session, customer)
    return Scope(customer_id=customer_id, currency=currency, effective_before=as_of, known_at=known_at)


def _books_of(session: Session, customer: str) -> UUID:
    candidates = possible_ids(customer)
    known = set(session.scalars(select(Books.customer_id).where(Books.customer_id.in_(candidates))))
    found = next((candidate for candidate in candidates if candidate in known), None)
    if found is None:
        raise CustomerNotFound(f"There is no customer {customer!r}. Search with: billing customers list")
    return found


def _of(
    *,
    customer: str | None,
    as_of: datetime | None,
    known_at: datetime | None,
    since: datetime | None = None,
    currency: str | None = None,
) -> str:
    """Whose books and which times, for the title: ", all books in EUR, before 2025-07-01 00:00 UTC"."""
    parts = [
        ", all books" if customer is None else f", {customer}",
        f" in {currency}" if currency else "",
        f", since {since:%Y-%m-%d %H:%M} UTC" if since else "",
        f", before {as_of:%Y-%m-%d %H:%M} UTC" if as_of else "",
        f", as known at {known_at:%Y-%m-%d %H:%M} UTC" if known_at else "",
        "" if since or as_of or known_at else ", now",
    ]
    return "".join(parts)


def _write(
    shown: Sequence[Column[R]],
    kept: Sequence[Column[R]],
    rows: Iterable[R],
    lines: Iterable[TableLine],
    *,
    title: str,
    output_format: str,
    output: Path | None,
) -> None:
    """Write one of the two, as the rows come: a table of `lines` in columns `shown`, or `rows` as CSV of `kept`."""
    with written(output) as file:
        if output_format == "table":
            file.write(f"{title}\n\n")
        pieces = csv_lines(kept, rows) if output_format == "csv" else table_lines(shown, lines)
        for count, piece in enumerate(pieces, start=1):
            file.write(piece)
            if count % SHOWN_EVERY == 0 and output is not None:
                show_progress(f"{count:,} lines written")
        end_progress()
    if output is not None:
        click.echo(f"Wrote {output}")
