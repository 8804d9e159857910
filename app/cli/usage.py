"""`billing usage`: usage from files."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO

import click
from sqlalchemy.exc import OperationalError

from app.cli import REFUSED, Group, example
from app.config import load_config
from app.database import create_engine
from invoicing.usage import focus
from invoicing.usage.files import FileUnusable, read_csv, read_jsonl, read_lines
from invoicing.usage.importing import CHUNK_SIZE, ImportSummary, import_usage
from invoicing.usage.intake import DEFAULT_SOURCE, MAX_RECORDS, MAX_SOURCE, RowProblem, is_printable

SOME_REFUSED = 1
"""The exit status when some rows were refused and all others are posted."""

REJECTS_HEADER = ("line", "field", "code", "message")
READERS: dict[str, Callable[[Iterable[str]], Iterator[Any]]] = {
    "focus": focus.read_focus,
    "csv": read_csv,
    "jsonl": read_jsonl,
}


@click.group(cls=Group)
def usage() -> None:
    """Import usage from files."""


@example("billing usage import usage.csv --format csv\nzcat usage.jsonl.gz | billing usage import - --format jsonl")
@usage.command("import")
@click.argument("file")
@click.option("--format", "file_format", required=True, type=click.Choice(list(READERS)), help="How FILE is written.")
@click.option("--rejects", type=click.Path(path_type=Path), help="Where bad rows are listed. Default: FILE.rejects.csv")
@click.option("--source", help=f"Whose event ids these are (csv, jsonl). Default: {DEFAULT_SOURCE}, as of the API.")
@click.option(
    "--chunk", type=click.IntRange(1, MAX_RECORDS), default=CHUNK_SIZE, show_default=True, help="Rows per transaction."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as a JSON object.")
@click.pass_context
def import_(
    ctx: click.Context,
    file: str,
    file_format: str,
    rejects: Path | None,
    source: str | None,
    chunk: int,
    as_json: bool,
) -> None:
    """Post the usage in FILE; - reads standard input. Running it again adds nothing.

    Good rows are posted in chunks; bad ones are listed, with line, reason and cure, in a rejects file. The file may be
    compressed with gzip. csv has the columns id, customer, item, quantity, at (ISO 8601 with a zone) and, if you like,
    amount, currency, label.NAME or labels; jsonl has one object per line with the same keys. focus is a cloud bill in
    the FinOps FOCUS format, whose sub-accounts become customers.

    Exit status: 0 all rows posted, 1 some refused, 2 the file cannot be used.
    """
    if file_format == "focus" and source is not None:
        raise click.UsageError("FOCUS files name their own source: leave --source out.")
    if source is not None and (not is_printable(source) or len(source) > MAX_SOURCE):
        raise click.UsageError(f"A source is named by 1 to {MAX_SOURCE} printable characters.")
    listed = RejectsFile(rejects or Path("usage.rejects.csv" if file == "-" else f"{file}.rejects.csv"), unlike=file)
    with _opened(file) as stream, listed:
        engine = create_engine(load_config().database_url)
        progress = Progress(sys.stderr)
        try:
            summary = import_usage(
                engine,
                READERS[file_format](read_lines(stream)),
                source=focus.SOURCE if file_format == "focus" else source or DEFAULT_SOURCE,
                actor="billing usage import",
                now=datetime.now(UTC),
                reject=listed.write,
                progress=progress.show,
                chunk_size=chunk,
            )
        except OperationalError as error:
            lines = str(error.orig).splitlines() or ["no answer"]
            click.echo(f"error [database_unavailable]: {lines[0]} Run the import again; it goes on.", err=True)
            ctx.exit(REFUSED)
        finally:
            progress.end()
            engine.dispose()
    click.echo(json.dumps(_as_json(summary, listed)) if as_json else _line(summary, listed))
    ctx.exit(SOME_REFUSED if summary.refused else 0)


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise FileUnusable(f"{file}: {error.strerror}. Check the name.") from error


def _as_json(summary: ImportSummary, rejects: "RejectsFile") -> dict[str, object]:
    return {**asdict(summary), "rejects": str(rejects.path) if summary.refused else None}


def _line(summary: ImportSummary, rejects: "RejectsFile") -> str:
    parts = [f"{summary.rows} rows", f"{summary.posted} posted", f"{summary.replayed} known already"]
    if summary.customers:
        parts.append(f"{summary.customers} customers created")
    parts.append(f"{summary.refused} refused" + (f" (listed in {rejects.path})" if summary.refused else ""))
    return ", ".join(parts)


class RejectsFile:
    """Where bad rows are listed. It is made at the first bad row; one of an earlier run is removed at the start.

    Raises:
        FileUnusable: the path holds something else, or cannot be written.
    """

    def __init__(self, path: Path, *, unlike: str) -> None:
        self.path = path
        self._file: TextIO | None = None
        try:
            if path.exists():
                if unlike != "-" and path.samefile(unlike):
                    raise FileUnusable("The rejects file cannot be the file itself. Choose another --rejects.")
                self._remove_old()
        except OSError as error:
            raise FileUnusable(f"{path}: {error.strerror}. Choose another place with --rejects.") from error

    def _remove_old(self) -> None:
        with self.path.open(encoding="utf-8", errors="replace") as old:
            first = old.readline().strip()
        if first and first != ",".join(REJECTS_HEADER):
            raise FileUnusable(f"{self.path} exists and is no rejects file. Choose another place with --rejects.")
        self.path.unlink()

    def write(self, problems: list[RowProblem]) -> None:
        """List these problems, each on a line of its own."""
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
                csv.writer(self._file, lineterminator="\n").writerow(REJECTS_HEADER)
            writer = csv.writer(self._file, lineterminator="\n")
            for problem in problems:
                writer.writerow((problem.row, problem.field, problem.code, problem.message))
        except OSError as error:
            raise FileUnusable(
                f"Bad rows cannot be listed in {self.path}: {error.strerror}. Choose another place with --rejects."
            ) from error

    def __enter__(self) -> "RejectsFile":
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()


class Progress:
    """One line on a terminal that counts; nothing anywhere else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._on_terminal = stream.isatty()

    def show(self, summary: ImportSummary) -> None:
        """Show how far the import is."""
        if self._on_terminal:
            self._stream.write(f"\r{summary.rows:,} rows read, {summary.refused:,} refused")
            self._stream.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._on_terminal:
            self._stream.write("\n")
