"""Reading usage from files, row by row: CSV with a header, and JSON lines. Nothing is held in memory but one row."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from invoicing.errors import InvoicingError
from invoicing.exact_json import MalformedJson, load_json
from invoicing.usage.intake import RowProblem, UsageRecord
from invoicing.usage.schema import read_event

MAX_LINE = 1_000_000
"""Characters of one line; more is no text at all."""

MAX_CELL = 100_000
"""Characters of one CSV cell; more is a quotation mark that was never closed, and swallows rows until it is noticed."""

CSV_COLUMNS = ("id", "customer", "item", "quantity", "at", "amount", "currency", "labels")
REQUIRED_COLUMNS = ("id", "customer", "item", "at")
LABEL_PREFIX = "label."
_GZIP = b"\x1f\x8b"


class FileUnusable(InvoicingError):
    """This file cannot be read as usage at all: check its format, its encoding (UTF-8) and its header."""

    code = "file_unusable"


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row: the number of the line that it starts on, and its cells by column."""

    line: int
    cells: dict[str, str]


Read = UsageRecord | list[RowProblem]
"""What a reader yields for each row: its record, or everything that keeps it from being one."""


def read_lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of a stream in UTF-8, with or without a byte order mark, compressed with gzip or not.

    Bytes that are not UTF-8 become lone surrogates, so that they spoil their own row and not the file. Of a line
    beyond MAX_LINE only the beginning is kept; whoever looks at its length refuses it.

    Raises:
        FileUnusable: reading broke off.
    """
    # BufferedReader asks its stream for nothing but bytes, so any binary stream will do.
    buffered = io.BufferedReader(cast("io.RawIOBase", stream))
    try:
        plain = gzip.GzipFile(fileobj=buffered) if buffered.peek(2)[:2] == _GZIP else buffered
        text = io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape", newline="")
        while line := text.readline(MAX_LINE + 1):
            rest = line
            while len(rest) > MAX_LINE and not rest.endswith("\n"):
                rest = text.readline(MAX_LINE + 1)
            yield line
    except (OSError, EOFError, zlib.error) as error:
        raise FileUnusable(f"Reading broke off: {error}.") from error


def read_csv(lines: Iterable[str]) -> Iterator[Read]:
    """Records of a CSV file with the columns of CSV_COLUMNS and any number of `label.NAME`, in any order.

    Raises:
        FileUnusable: there is no header, or it lacks a column, or names one twice or one that is not known.
    """
    table = CsvTable(lines)
    unknown = [name for name in table.header if name not in CSV_COLUMNS and not name.startswith(LABEL_PREFIX)]
    if unknown:
        raise FileUnusable(
            f"Column {unknown[0]!r} is not known. Known are {', '.join(CSV_COLUMNS)} and {LABEL_PREFIX}NAME."
        )
    table.require(REQUIRED_COLUMNS)
    if not {"quantity", "amount"} & set(table.header):
        raise FileUnusable("The header has neither a column quantity nor a column amount.")
    for row in table:
        if isinstance(row, CsvRow):
            event = _event(row)
            yield read_event(row.line, event) if isinstance(event, dict) else [event]
        else:
            yield [row]


def _event(row: CsvRow) -> dict[str, object] | RowProblem:
    """The event that a row's cells describe: an empty cell is a field that was left out."""
    event: dict[str, object] = {
        name: cell for name, cell in row.cells.items() if cell and name in CSV_COLUMNS and name != "labels"
    }
    labels: dict[str, object] = {}
    if row.cells.get("labels"):
        try:
            loaded = load_json(row.cells["labels"])
        except MalformedJson as error:
            return RowProblem(row.line, "labels", error.code, f"The labels are no JSON: {error}")
        if not isinstance(loaded, dict):
            message = "The labels are no JSON object of names and texts."
            return RowProblem(row.line, "labels", "labels_not_an_object", message)
        labels = loaded
    for name, cell in row.cells.items():
        if name.startswith(LABEL_PREFIX) and cell:
            labels[name.removeprefix(LABEL_PREFIX)] = cell
    if labels:
        event["labels"] = labels
    return event


def read_jsonl(lines: Iterable[str]) -> Iterator[Read]:
    """Records of a file with one JSON object per line, with the keys that the HTTP API has. Blank lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        problem = line_problem(number, line)
        if problem:
            yield [problem]
            continue
        try:
            event = load_json(line)
        except MalformedJson as error:
            yield [RowProblem(number, "event", error.code, str(error))]
            continue
        yield read_event(number, event)


def line_problem(number: int, text: str) -> RowProblem | None:
    """What keeps a line from being looked at; None if nothing does."""
    if len(text) > MAX_LINE:
        return RowProblem(number, "row", "row_too_long", f"The row is longer than {MAX_LINE} characters.")
    if not _is_utf8(text):
        return RowProblem(number, "row", "not_utf8", "The row holds bytes that are not UTF-8.")
    return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class CsvTable:
    """A CSV file with a header. Iterating yields a CsvRow, or the RowProblem that stands in its place.

    Raises:
        FileUnusable: on opening, if there is no header or it names a column twice.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        # A row beyond this limit is refused and reading goes on after it; the limit is the whole process's.
        csv.field_size_limit(MAX_CELL)
        self._reader = csv.reader(lines, strict=True)
        try:
            header = next(self._reader, None)
        except csv.Error as error:
            raise FileUnusable(f"The first row cannot be read as CSV: {error}.") from error
        if not header:
            raise FileUnusable("The file is empty: a header with the names of the columns is needed.")
        self.header = [name.strip() for name in header]
        if not all(_is_utf8(name) and name.isprintable() for name in self.header):
            raise FileUnusable("The file is not UTF-8 text. Save it as CSV in UTF-8.")
        twice = sorted({name for name in self.header if name and self.header.count(name) > 1})
        if twice:
            raise FileUnusable(f"The header names the column {twice[0]!r} twice.")

    def require(self, columns: Sequence[str]) -> None:
        """Refuse the file if it lacks one of these columns.

        Raises:
            FileUnusable: names those that are missing.
        """
        missing = [name for name in columns if name not in self.header]
        if missing:
            raise FileUnusable(f"The header lacks {', '.join(missing)}. It has {', '.join(self.header)[:500]}.")

    def __iter__(self) -> Iterator[CsvRow | RowProblem]:
        while True:
            line = self._reader.line_num + 1
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                message = f"No CSV in lines {line} to {self._reader.line_num}: {error}. Check the quotation marks."
                yield RowProblem(line, "row", "malformed_csv", message)
                continue
            if not cells:
                continue
            if len(cells) != len(self.header):
                message = f"{len(cells)} cells where the header has {len(self.header)}."
                yield RowProblem(line, "row", "wrong_number_of_cells", message)
            elif not all(_is_utf8(cell) for cell in cells):
                yield RowProblem(line, "row", "not_utf8", "The row holds bytes that are not UTF-8.")
            else:
                yield CsvRow(line, dict(zip(self.header, cells, strict=True)))
