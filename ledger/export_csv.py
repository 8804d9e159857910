"""The journal as CSV for spreadsheets, with our own account codes. Source: https://www.rfc-editor.org/rfc/rfc4180"""

import csv
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from ledger.money import plain

COLUMNS = (
    "customer_id", "external_id", "seq", "id", "transaction_id", "effective_at", "recorded_at", "debit_account",
    "credit_account", "amount", "currency", "item", "quantity", "kind", "period_start", "usage_period_start",
    "document_id", "price_id", "reverses_id", "actor", "reason", "labels", "digest",
)  # fmt: skip

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that begins so as a formula. Source: https://owasp.org/www-community/attacks/CSV_Injection"""


def head(currencies: list[str]) -> str:  # noqa: ARG001 - the currency stands in each row
    return _line(COLUMNS)


def account(row: Row[Any]) -> str:  # noqa: ARG001 - rows need no declaration
    return ""


def entry(row: Row[Any]) -> str:
    return line(getattr(row, name) for name in COLUMNS)


def line(values: Iterable[object]) -> str:
    """One line of CSV: numbers with all their digits, times in UTC, texts that no spreadsheet runs as a formula."""
    return _line(tuple(_cell(value) for value in values))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    if isinstance(value, bytes):
        return value.hex()
    shown = str(value)
    # An empty text would look like none, and a text that begins with an apostrophe like one that got it here: both get
    # one as well. So whoever reads a cell takes one leading apostrophe away and has exactly what was there.
    return f"'{shown}" if not shown or shown.startswith((*FORMULA_STARTS, "'")) else shown


def _line(cells: tuple[str, ...]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)
    return buffer.getvalue()
