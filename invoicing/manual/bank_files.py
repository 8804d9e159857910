"""Bank statements as files: CSV with a header line. Every bank writes its own; names of columns can be given."""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from invoicing.errors import InvoicingError
from ledger.errors import LedgerError
from ledger.money import minor_units

COLUMNS = ("id", "booked_on", "amount", "currency", "payer", "reference")
NEEDED = ("booked_on", "amount", "reference")
MAX_LINES = 100_000
MAX_AMOUNT = Decimal(10) ** 15


class StatementUnusable(InvoicingError):
    """The file cannot be read as a bank statement. Nothing was written."""

    code = "bank_statement_unusable"


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One line: `id` is the bank's own, or made of what the line says. `amount` is in major units, negative if it went
    out."""

    id: str
    booked_on: date
    amount: Decimal
    currency: str
    payer: str
    reference: str


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be read: its number in the file, the field, and what to do."""

    line: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How a bank writes its statements. `columns` names the file's column for each of ours where they differ."""

    columns: Mapping[str, str]
    currency: str | None = None
    """Of every line, where the file has no such column."""
    decimal_comma: bool = False
    date_format: str = "%Y-%m-%d"
    delimiter: str = ","


def read_statement(lines: Iterable[str], *, layout: Layout) -> Iterator[StatementLine | BadLine]:
    """The statement's lines, in the file's order; the bad ones among them named.

    A line without an id of the bank's is known by what it says and by how many like it stood above it, so that two
    equal payments of a day are two, and the same file again is the same lines.

    Raises:
        StatementUnusable: no header, a column is missing, or more than 100,000 lines.
    """
    reader = csv.DictReader(lines, delimiter=layout.delimiter)
    names = {ours: layout.columns.get(ours, ours) for ours in COLUMNS}
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
    except csv.Error as error:
        raise StatementUnusable(f"The first line cannot be read as CSV: {error}.") from error
    reader.fieldnames = header
    missing = [names[ours] for ours in NEEDED if names[ours] not in header]
    if not layout.currency and names["currency"] not in header:
        missing.append(names["currency"])
    if missing:
        raise StatementUnusable(
            f"The first line has no column {', '.join(missing)}; it has {', '.join(header) or 'nothing'}. "
            "Name the columns with --column, the currency with --currency."
        )
    seen: Counter[str] = Counter()
    try:
        for count, row in enumerate(reader):
            if count >= MAX_LINES:
                raise StatementUnusable(f"The file has more than {MAX_LINES:,} lines. Split it.")
            cells = {ours: (row.get(name) or "").strip() for ours, name in names.items()}
            yield _read(cells, line=reader.line_num, layout=layout, seen=seen)
    except csv.Error as error:
        raise StatementUnusable(f"Line {reader.line_num} cannot be read as CSV: {error}.") from error


def _read(cells: dict[str, str], *, line: int, layout: Layout, seen: Counter[str]) -> StatementLine | BadLine:
    currency = (cells["currency"] or layout.currency or "").upper()
    try:
        decimals = minor_units(currency)
    except LedgerError as refusal:
        return BadLine(line, "currency", str(refusal))
    try:
        booked_on = datetime.strptime(cells["booked_on"], layout.date_format).date()  # noqa: DTZ007 - a bank's day
    except ValueError:
        return BadLine(line, "booked_on", f"{cells['booked_on']!r} is no day written as {layout.date_format}.")
    amount = _amount(cells["amount"], decimal_comma=layout.decimal_comma)
    if amount is None or amount == 0 or abs(amount) >= MAX_AMOUNT or amount != round(amount, decimals):
        return BadLine(line, "amount", f"{cells['amount']!r} is no amount of {currency} other than 0.")
    payer, reference = (" ".join(cells[name].split()) for name in ("payer", "reference"))
    for name, value, longest in (("payer", payer, 500), ("reference", reference, 2000), ("id", cells["id"], 255)):
        if len(value) > longest or not value.isprintable():
            return BadLine(line, name, f"Give at most {longest} printable characters.")
    said = "\x1f".join((booked_on.isoformat(), str(amount.normalize()), currency, payer, reference))
    identity = cells["id"]
    if not identity:
        seen[said] += 1
        identity = hashlib.sha256(f"{said}\x1f{seen[said]}".encode()).hexdigest()[:32]
    return StatementLine(identity, booked_on, amount, currency, payer, reference)


def _amount(text: str, *, decimal_comma: bool) -> Decimal | None:
    """The amount, exact; None if it is none. Thousands may be grouped by the other mark, an apostrophe or a space."""
    group, point = (".", ",") if decimal_comma else (",", ".")
    plain = text.replace("\u2212", "-")  # the typographer's minus
    for mark in (" ", "\u00a0", "\u202f", "'", "\u2019"):
        plain = plain.replace(mark, "")
    # 1,50 in a file with decimal points is a mistake, not 150: groups have three digits.
    if not re.fullmatch(rf"[+-]?(\d+|\d{{1,3}}(\{group}\d{{3}})+)(\{point}\d+)?", plain, re.ASCII):
        return None
    return Decimal(plain.replace(group, "").replace(point, "."))
