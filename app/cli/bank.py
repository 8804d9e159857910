"""`billing bank`: our bank's statements, and the letters whose payments arrive there."""

import csv
import json
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click
from sqlalchemy.orm import Session

from app.cli import Group, example
from app.cli.output import end_progress, show_progress
from app.composition import build
from app.config import load_config
from app.database import create_engine
from app.doorbell import ring
from invoicing.manual.bank_files import COLUMNS, BadLine, Layout, StatementUnusable, read_statement
from invoicing.manual.bank_lines import BankImport, bank_lines, import_lines
from invoicing.usage.files import FileUnusable, read_lines
from ledger.money import minor_units

ACTOR = "billing bank import"
SHOWN = 200
NAMED = 5  # refused lines that are named at once; all of them stand in the file


@click.group(cls=Group)
def bank() -> None:
    """Take in bank statements, and show what waits for a person."""


def _column(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        ours, equals, theirs = value.partition("=")
        if ours not in COLUMNS or not equals or not theirs.strip():
            raise click.BadParameter(f"{value!r}: write NAME=COLUMN, with NAME one of {', '.join(COLUMNS)}.")
        found[ours] = theirs.strip()
    return found


@example(
    "billing bank import statement.csv --account main\n"
    "billing bank import umsaetze.csv --account main --delimiter ';' --decimal-comma --date-format %d.%m.%Y "
    "--currency EUR --column booked_on=Buchungstag --column amount=Betrag --column reference=Verwendungszweck"
)
@bank.command("import")
@click.argument("file")
@click.option("--account", required=True, help="Which of our bank accounts, by a name of yours: ids are unique in it.")
@click.option("--column", "columns", multiple=True, callback=_column, help="NAME=COLUMN, where the bank calls it so.")
@click.option("--currency", help="Of every line, where the file has no column for it.")
@click.option("--delimiter", default=",", show_default=True, help="What stands between two cells.")
@click.option("--decimal-comma", is_flag=True, help="Amounts are written 1.234,56.")
@click.option("--date-format", default="%Y-%m-%d", show_default=True, help="How days are written.")
@click.option(
    "--rejects", type=click.Path(path_type=Path), help="Where bad lines are listed. Default: FILE.rejects.csv"
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a JSON object.")
@click.pass_context
def import_(
    ctx: click.Context,
    file: str,
    account: str,
    columns: dict[str, str],
    currency: str | None,
    delimiter: str,
    decimal_comma: bool,
    date_format: str,
    rejects: Path | None,
    as_json: bool,
) -> None:
    """Take in the statement in FILE; - reads standard input. Running it again adds nothing.

    A line whose reference names one open invoice pays it; all others wait for a person, on the support page Bank. The
    first line names the columns: booked_on, amount, reference, and if you like id, currency and payer.

    Exit status: 0 all lines read, 1 some refused (they are listed), 2 the file cannot be used.
    """
    account = account.strip()
    if not 0 < len(account) <= 100 or not account.isprintable():
        raise click.BadParameter("Give 1 to 100 printable characters.", param_hint="--account")
    if len(delimiter) != 1:
        raise click.BadParameter("Give one character.", param_hint="--delimiter")
    layout = Layout(columns, currency, decimal_comma, date_format, delimiter)
    bad: list[BadLine] = []
    billing = build(load_config())
    with _opened(file) as stream:
        summary = import_lines(
            billing.engine,
            read_statement(read_lines(stream), layout=layout),
            account=account,
            provider=billing.providers,
            settings=billing.settings,
            actor=ACTOR,
            now=datetime.now(UTC),
            reject=bad.append,
            progress=lambda so_far: show_progress(f"{so_far.lines} lines"),
        )
    end_progress()
    if summary.settled:
        # What Stripe collects and a line paid is to be told there: the worker does it now, or cron within a minute.
        for work in billing.provider.due_work(now=datetime.now(UTC), limit=SHOWN):
            if work.kind == "operation":
                ring(billing.config, work.kind, *work.ids)
    billing.dispose()
    path = rejects or Path("bank.rejects.csv" if file == "-" else f"{file}.rejects.csv")
    if bad:
        _write_rejects(path, bad)
    click.echo(json.dumps({**asdict(summary), "rejects": str(path) if bad else None}) if as_json else _line(summary))
    if bad:
        for line in bad[:NAMED]:
            click.echo(f"  line {line.line}, {line.field}: {line.message}", err=True)
        click.echo(f"Refused lines are listed in {path}.", err=True)
        ctx.exit(1)


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise FileUnusable(f"{file}: {error.strerror}. Check the name.") from error


def _write_rejects(path: Path, bad: list[BadLine]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("line", "field", "message"))
            writer.writerows((line.line, line.field, line.message) for line in bad)
    except OSError as error:
        raise StatementUnusable(
            f"{path} cannot be written: {error.strerror}. The good lines were taken in; name another --rejects."
        ) from error


def _line(summary: BankImport) -> str:
    return "Imported: " + ", ".join(f"{count} {name}" for name, count in asdict(summary).items())


@example("billing bank list --json")
@bank.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead.")
def list_(as_json: bool) -> None:
    """Show the lines that wait for a person, the oldest first. Exit status 1 if there are any."""
    engine = create_engine(load_config().database_url)
    with Session(engine) as session:
        found = [
            {
                "id": str(line.id),
                "account": line.account,
                "booked_on": line.booked_on.isoformat(),
                "amount": f"{line.amount:.{minor_units(line.currency)}f}",
                "currency": line.currency,
                "payer": line.payer,
                "reference": line.reference,
                "note": line.note,
            }
            for line in bank_lines(session, state="open", limit=SHOWN)
        ]
    engine.dispose()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        for line in found:
            who = line["payer"] or "no payer"
            click.echo(f"{line['booked_on']}  {line['amount']:>14} {line['currency']}  {who}: {line['note']}")
            click.echo(f"            {line['reference']}")
        if not found:
            click.echo("none", err=True)
    if found:
        raise click.exceptions.Exit(1)
