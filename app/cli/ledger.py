"""`billing ledger`: check the books, and export them."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.cli import Group, example
from app.cli.explain import explain_command
from app.cli.output import end_progress, show_progress, written
from app.cli.seals import root_command, seal_command, verify_command
from app.cli.snapshots import snapshot
from invoicing.checks import CHECKS as INVOICING_CHECKS
from invoicing.tables import Customer, Invoice
from ledger.checks import CHECKS as LEDGER_CHECKS
from ledger.checks import CheckResult, run_checks
from ledger.export import FORMATS, export_journal
from ledger.money import plain
from ledger.tables import Books, Entry
from stripe_gateway.checks import CHECKS as GATEWAY_CHECKS

SHOWN_EVERY = 1_000
"""Pieces of an export between two updates of the progress line."""


@click.group(cls=Group)
def ledger() -> None:
    """Check the books and export them."""


ledger.add_command(explain_command)
for command in (seal_command, root_command, verify_command):
    ledger.add_command(command)


@example("billing ledger check\nbilling ledger check --json")
@ledger.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def check(as_json: bool) -> None:
    """Recompute everything that the books and invoices must agree on, and name what does not.

    Reads every entry and writes nothing. Exit status 0 if every rule holds, 1 if one is broken.
    """
    with snapshot() as session:
        counts = {
            "books": session.scalar(select(func.count()).select_from(Books)) or 0,
            "entries": session.scalar(select(func.count()).select_from(Entry)) or 0,
            "invoices": session.scalar(select(func.count()).select_from(Invoice)) or 0,
        }
        if not as_json:
            sizes = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
            click.echo(f"Checking every rule of the books and invoices ({sizes}):")
        results = []
        for room, checks in (("ledger", LEDGER_CHECKS), ("invoicing", INVOICING_CHECKS), ("stripe", GATEWAY_CHECKS)):
            for result in _results(session, checks):
                results.append((room, result))
                if not as_json:
                    _print_result(result)
    broken = [result for _, result in results if not result.holds]
    if as_json:
        rows = [_as_json(room, result) for room, result in results]
        click.echo(json.dumps({"holds": not broken, **counts, "checks": rows}))
    elif broken:
        verb = "is" if len(broken) == 1 else "are"
        click.echo(
            f"{len(broken)} of {len(results)} rules {verb} broken: somebody or something wrote past the guards. "
            "Stop the cron commands and see docs/operations.md before anything is billed."
        )
    else:
        click.echo(f"All {len(results)} rules hold.")
    if broken:
        raise click.exceptions.Exit(1)


def _results(session: Session, checks: Mapping[str, str]) -> Iterator[CheckResult]:
    for name, query in checks.items():
        show_progress(f"  ...     {name}")
        (result,) = run_checks(session, {name: query})
        end_progress()
        yield result


def _print_result(result: CheckResult) -> None:
    if result.holds:
        click.echo(f"  ok      {result.name}")
        return
    click.echo(f"  BROKEN  {result.name}: {result.count:,} {'offender' if result.count == 1 else 'offenders'}")
    for offender in result.offenders:
        click.echo("            " + ", ".join(f"{name} {_shown(value)}" for name, value in offender.items()))
    if result.count > len(result.offenders):
        click.echo(f"            and {result.count - len(result.offenders):,} more")


def _as_json(room: str, result: CheckResult) -> dict[str, Any]:
    offenders = [{name: _plainly(value) for name, value in offender.items()} for offender in result.offenders]
    return {
        "room": room,
        "name": result.name,
        "holds": result.holds,
        "count": result.count,
        "offenders": offenders,
    }


def _shown(value: object) -> str:
    plainly = _plainly(value)
    return "-" if plainly is None else str(plainly)


def _plainly(value: object) -> object:
    if isinstance(value, Decimal):
        return plain(value) if value.is_finite() else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, (int, str, bool)) else str(value)


@example("billing ledger export --format hledger --output all.journal\nbilling ledger export --format csv | head")
@ledger.command("export")
@click.option("--format", "output_format", type=click.Choice(list(FORMATS)), required=True, help="For which tool.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, which appears when it is complete; standard output otherwise.",
)
def export(output_format: str, output: Path | None) -> None:
    """Write the whole journal, every customer's and the house's books, for an accountant's own tool.

    Amounts have all their digits. Each account ends in C and the customer's id. Memory stays small however long the
    journal is. Exit status 0 if the export is complete.
    """
    names = select(Customer.customer_id, Customer.external_id, Customer.name).subquery("names")
    with snapshot() as session, written(output) as file:
        for count, piece in enumerate(export_journal(session, output_format=output_format, names=names), start=1):
            file.write(piece)
            if count % SHOWN_EVERY == 0 and output is not None:
                show_progress(f"{count:,} accounts and entries written")
        end_progress()
    if output is not None:
        click.echo(f"Wrote {output}")
