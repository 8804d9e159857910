"""Tables: rows aligned for a terminal, or as CSV for a spreadsheet; both are written as the rows come."""

import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, groupby, islice
from typing import Generic, TypeVar

from ledger.export_csv import line
from ledger.money import EXACT, plain

R = TypeVar("R")
WIDTH = 100
"""Columns of a terminal that a table fits into, unless its exact amounts alone are wider."""
SAMPLE = 500
"""Rows that are looked at, and so held in memory, to find how wide the columns have to be."""
SPARE = 3
"""Room for the amounts that come after the sample: a total is larger than its parts."""
GAP = "  "
CUT = "…"

Cells = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Column(Generic[R]):
    """One column: its title, and what stands in it. A number is never cut, a text not below `least` characters."""

    title: str
    value: Callable[[R], object]
    is_number: bool = False
    least: int = 8


@dataclass(frozen=True, slots=True)
class TableLine:
    """The cells of one line; a total is set off from what it adds up."""

    cells: Cells
    is_total: bool = False


def csv_lines(columns: Sequence[Column[R]], rows: Iterable[R]) -> Iterator[str]:
    """The rows as CSV with a head, without totals: what a spreadsheet adds up must not be in it twice."""
    yield line(column.title for column in columns)
    for row in rows:
        yield line(column.value(row) for column in columns)


def cells_of(columns: Sequence[Column[R]], rows: Iterable[R]) -> Iterator[Cells]:
    """Each row's cells."""
    for row in rows:
        yield tuple(column.value(row) for column in columns)


def totalled(rows: Iterable[Cells], *, by: Sequence[int], sums: Sequence[int]) -> Iterator[TableLine]:
    """The rows, with a total of the columns `sums` after each run of equal cells in the columns `by`.

    The rows come in the order of `by`, which goes from the widest group to the narrowest; a narrow group's total comes
    before its wide group's. Nothing is added up across the first of them: that one is the currency.
    """

    def descend(rows: Iterable[Cells], depth: int) -> Generator[TableLine, None, tuple[Cells, list[Decimal]]]:
        """The lines of these rows; returns the last row, which has the cells of the group, and the sums."""
        added: list[Decimal] = [Decimal(0)] * len(sums)
        row: Cells = ()
        if depth == len(by):
            for row in rows:
                yield TableLine(row)
                added = [plus(total, row[column]) for total, column in zip(added, sums, strict=True)]
            return row, added
        for _, group in groupby(rows, key=lambda row: row[by[depth]]):
            row, found = yield from descend(group, depth + 1)
            grouped = {column: row[column] for column in by[: depth + 1]}
            yield total_line(len(row), {**grouped, **dict(zip(sums, found, strict=True))})
            added = [plus(total, part) for total, part in zip(added, found, strict=True)]
        return row, added

    yield from descend(rows, 0)


def total_line(width: int, cells: dict[int, object], *, name: str = "total") -> TableLine:
    """A total's line of `width` cells; `name` stands in the first one that `cells` leave free."""
    free = next((column for column in range(width) if column not in cells), None)
    named = cells if free is None else {**cells, free: name}
    return TableLine(tuple(named.get(column) for column in range(width)), is_total=True)


def table_lines(columns: Sequence[Column[R]], lines: Iterable[TableLine]) -> Iterator[str]:
    """The lines aligned: numbers at their decimal point, with thousands separators and all their digits.

    The first SAMPLE lines say how wide each column has to be, all others only pass through. A text that is too long
    ends in "…"; signs that a terminal would obey are shown as "?". An empty line follows each total.
    """
    rest = iter(lines)
    sample = list(islice(rest, SAMPLE))
    spare = SPARE if len(sample) == SAMPLE else 0
    shapes = [_shape(column, [row.cells[i] for row in sample], spare) for i, column in enumerate(columns)]
    _fit(shapes)
    yield _joined(shape.title for shape in shapes)
    yield _joined("-" * shape.width for shape in shapes)
    before = False
    for row in chain(sample, rest):
        if before and not row.is_total:
            yield "\n"
        before = row.is_total
        yield _joined(shape.cell(value) for shape, value in zip(shapes, row.cells, strict=True))


@dataclass(slots=True)
class _Shape:
    """How wide a column is; of numbers, how much of that stands behind the last digit before the point."""

    name: str
    is_number: bool
    width: int
    least: int
    behind: int = 0

    @property
    def title(self) -> str:
        return self.name.rjust(self.width) if self.is_number else padded(self.name, self.width)

    def cell(self, value: object) -> str:
        if isinstance(value, Decimal):
            whole, fraction = _parts(value)
            return whole.rjust(self.width - self.behind) + fraction.ljust(self.behind)
        return _shown(value).rjust(self.width) if self.is_number else padded(_shown(value), self.width)


def _shape(column: Column[R], values: Sequence[object], spare: int) -> _Shape:
    if not column.is_number:
        width = max(display_width(text) for text in (column.title, *map(_shown, values)))
        return _Shape(column.title, False, width, min(width, column.least))
    parts = [_parts(value) for value in values if isinstance(value, Decimal)]
    behind = max((len(fraction) for _, fraction in parts), default=0)
    before = max((len(whole) for whole, _ in parts), default=0) + spare
    width = max(len(column.title), before + behind)
    return _Shape(column.title, True, width, width, behind)


def _fit(shapes: Sequence[_Shape]) -> None:
    """Take from the widest texts until the table fits, or nothing more can be cut."""
    excess = sum(shape.width for shape in shapes) + len(GAP) * (len(shapes) - 1) - WIDTH
    for _ in range(excess):
        widest = max(shapes, key=lambda shape: (shape.width > shape.least, shape.width))
        if widest.width > widest.least:
            widest.width -= 1


def plus(total: Decimal, value: object) -> Decimal:
    """The exact sum; a cell that is no amount adds nothing."""
    return EXACT.add(total, value) if isinstance(value, Decimal) else total


def _joined(cells: Iterable[str]) -> str:
    return GAP.join(cells).rstrip() + "\n"


def _parts(amount: Decimal) -> tuple[str, str]:
    """What stands before the decimal point, with thousands separators, and what follows from the point on."""
    whole, point, fraction = plain(amount).partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}", point + fraction


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def padded(text: str, width: int) -> str:
    """The text in exactly so many columns of a terminal: filled with blanks, or cut, which "…" shows."""
    missing = width - display_width(text)
    if missing >= 0:
        return text + " " * missing
    kept = ""
    room = width - len(CUT)
    for sign in text:
        if display_width(sign) > room:
            break
        room -= display_width(sign)
        kept += sign
    return kept + CUT + " " * room


def display_width(text: str) -> int:
    """How many columns a terminal needs for it: East Asian signs take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
