"""`billing ledger seal`, `root` and `verify`: make rewriting the journal visible, and look whether somebody did."""

import dataclasses
import json
from datetime import UTC, date, datetime
from pathlib import Path

import click

from app.cli import example
from app.cli.output import end_progress, show_progress, written
from app.cli.snapshots import snapshot
from app.config import load_config
from app.database import create_engine
from ledger.root_verification import read_evidence
from ledger.roots import find_root
from ledger.seals import seal_due
from ledger.verification import Verified, verify
from ledger.witness import witness_lines

ENTRY_KINDS = ("changed", "removed", "inserted", "swapped")
SHOWN = 100
"""Findings about entries that are printed, and as many of other kinds."""


@example("billing ledger seal\nbilling ledger seal --json")
@click.command("seal")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def seal_command(as_json: bool) -> None:
    """Seal what was posted, and make the root of the last finished day (UTC) if there is none.

    From then on a change of a sealed entry shows, whoever makes it. Safe to run twice, in two processes, while others
    post, and after a kill. Exit status 1 if the journal of some customer has a hole and cannot be sealed.
    """
    engine = create_engine(load_config().database_url)
    try:
        summary = seal_due(
            engine, now=datetime.now(UTC), progress=lambda so_far: show_progress(f"{so_far.entries:,} entries sealed")
        )
    finally:
        engine.dispose()
    end_progress()
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(summary)))
    else:
        made = f", root {summary.root} made" if summary.root else ""
        click.echo(
            f"Sealed: {summary.entries:,} entries of {summary.books:,} books in {summary.ranges:,} ranges{made}; "
            f"{summary.unsealed:,} not sealed yet"
        )
        for problem in summary.problems:
            click.echo(f"  {problem}", err=True)
    if summary.problems:
        raise click.exceptions.Exit(1)


@example(
    "billing ledger root >> /mnt/elsewhere/roots.txt\n"
    "billing ledger root --day 2026-11-21 --witness /mnt/elsewhere/2026-11-21.witness"
)
@click.command("root")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), help="The root of this day, as YYYY-MM-DD; else the newest.")
@click.option(
    "--witness",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write every entry's id and hash up to this root into this file; 64 bytes for each.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def root_command(day: datetime | None, witness: Path | None, as_json: bool) -> None:
    """Print a day's root: one line that stands for everything sealed up to then.

    Keep it where whoever administers this database cannot write: paper, a mail to the auditor, another company's
    storage. `billing ledger verify --against` compares with it later. With the witness file even the entry is named.
    """
    wanted: date | None = day.date() if day is not None else None
    with snapshot() as session:
        root = find_root(session, day=wanted)
        if witness is not None:
            with written(witness) as file:
                for count, line in enumerate(witness_lines(session, day=root.day), start=1):
                    file.write(line)
                    if count % 100 == 0:
                        show_progress(f"{count:,} seals written")
            end_progress()
    if as_json:
        facts = {"day": root.day.isoformat(), "root": root.printed, "previous_root": root.previous_root.hex()}
        counts = {"entries": root.entries, "books": root.books, "made_at": root.made_at.isoformat()}
        click.echo(json.dumps({**facts, **counts, "witness": str(witness) if witness is not None else None}))
        return
    made_at = root.made_at.isoformat(timespec="seconds")
    click.echo(f"{root.printed}  {root.entries:,} entries of {root.books:,} books, made {made_at}")
    if witness is not None:
        click.echo(f"Wrote {witness}", err=True)


@example(
    "billing ledger verify\n"
    "billing ledger verify --against /mnt/elsewhere/roots.txt\n"
    "billing ledger verify --against 2026-11-21:5fab... --against /mnt/elsewhere/2026-11-21.witness --json"
)
@click.command("verify")
@click.option(
    "--against",
    multiple=True,
    metavar="ROOT_OR_FILE",
    help="A root as it was printed, a file of such lines, or a witness file. May be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def verify_command(against: tuple[str, ...], as_json: bool) -> None:
    """Compute every seal and root anew, and name the first entry of each customer that is not as it was sealed.

    Without --against it notices everybody who could not rewrite the seals as well; with it, everybody. Reads
    everything and writes nothing. Exit status 0 if all is as it was sealed, 1 if something is not.
    """
    evidence = [kept for given in against for kept in read_evidence(given)]
    with snapshot() as session:
        report = verify(
            session, evidence=evidence, progress=lambda so_far: show_progress(f"{so_far.entries:,} entries compared")
        )
    end_progress()
    if as_json:
        rows = {**dataclasses.asdict(report), "holds": not report.findings}
        click.echo(json.dumps(rows, default=lambda value: value.isoformat()))
    else:
        _print(report)
    if report.findings:
        raise click.exceptions.Exit(1)


def _print(report: Verified) -> None:
    # After seals were made anew every customer has a finding; those about entries are the ones to read first.
    about_entries = [finding for finding in report.findings if finding.kind in ENTRY_KINDS]
    for group in (about_entries, [finding for finding in report.findings if finding.kind not in ENTRY_KINDS]):
        for finding in group[:SHOWN]:
            click.echo(str(finding))
        if len(group) > SHOWN:
            click.echo(f"and {len(group) - SHOWN:,} more; --json lists all")
    for matched in report.matched:
        click.echo(f"Matches what was kept: {matched}")
    since = report.oldest_unsealed_at
    waiting = f", the oldest recorded {since.isoformat(timespec='seconds')}" if since is not None else ""
    click.echo(f"Not sealed yet, and so not proven: {report.unsealed:,} entries{waiting}.")
    compared = f"{report.entries:,} entries of {report.books:,} books, {report.seals:,} seals, {report.roots:,} roots"
    if report.findings:
        number = "1 finding" if len(report.findings) == 1 else f"{len(report.findings):,} findings"
        click.echo(f"TAMPERED: {number} among {compared}. See docs/operations.md, Seals.")
    else:
        click.echo(f"As it was sealed: {compared}.")
