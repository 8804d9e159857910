"""The numbers as CSV, exact, for the customer's own spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence

from app.panel.current import By, Part
from app.panel.invoice_pages import ShownLine
from invoicing.customers import CustomerView
from invoicing.statements import PeriodStatement
from invoicing.tables import Invoice
from invoicing.tax.engine import Tax
from invoicing.tax.tables import InvoiceTax
from ledger.money import plain

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def period_csv(statement: PeriodStatement, found: Sequence[Part], by: By) -> str:
    """This period's breakdown. Amounts in major units, exact; times in UTC."""
    header = ["period_start", "period_end", by, "note", "quantity", "unit", "unit_price", "amount", "currency"]
    rows = (
        [
            statement.start.isoformat(),
            statement.end.isoformat(),
            _text(part.name),
            _text(part.note),
            "" if part.quantity is None else plain(part.quantity),
            _text(part.unit),
            "" if part.unit_amount is None else plain(part.unit_amount),
            plain(part.amount),
            statement.currency,
        ]
        for part in found
    )
    return _written(header, rows)


def invoice_csv(
    customer: CustomerView, invoice: Invoice, lines: Sequence[ShownLine], taxes: Sequence[Tax | InvoiceTax]
) -> str:
    """An invoice's lines and the taxes on top of them: `amount` is rounded and adds up to the invoice's total.

    `exact_amount` is what was used.
    """
    header = [
        "invoice", "period_start", "period_end", "kind", "item", "description", "quantity", "unit", "unit_price",
        "exact_amount", "amount", "currency",
    ]  # fmt: skip
    rows = [
        [
            invoice.number or "",
            invoice.period_start.isoformat(),
            invoice.period_end.isoformat(),
            line.kind,
            _text(line.item or ""),
            _text(line.description),
            "" if line.quantity is None else plain(line.quantity),
            _text(line.unit),
            "" if line.unit_amount is None else plain(line.unit_amount),
            plain(line.amount),
            f"{line.shown:f}",
            customer.currency,
        ]
        for line in lines
    ]
    period = [invoice.number or "", invoice.period_start.isoformat(), invoice.period_end.isoformat()]
    rows += [
        [*period, "tax", "", _text(tax.title), "", "", "", "", f"{tax.amount:f}", customer.currency]
        for tax in taxes
        if not tax.inclusive
    ]
    return _written(header, rows)


def _written(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def _text(value: str) -> str:
    """Names come from outside, and a spreadsheet would run one that begins like a formula.

    Source: https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
