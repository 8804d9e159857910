"""What a letter says: a plain text that a person can read, copy an amount from, and pay."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from textwrap import wrap

from invoicing.provider import CollectionOrder
from invoicing.receivables import DAYS_UNTIL_DUE
from ledger.money import invoice_exponent, plain

MAX_LINES = 200  # of a letter; the rest is summed up, and the customer's own page lists all
MAX_DESCRIPTION = 60  # characters of a line's description


@dataclass(frozen=True, slots=True)
class BankDetails:
    """Where customers transfer money to: the lines of text that a letter shows, such as holder, IBAN and bank."""

    lines: tuple[str, ...]


def subject_of(order: CollectionOrder) -> str:
    """The letter's subject, at most 200 characters."""
    return f"Invoice {order.number}: {_amount(order.amount_due, order.currency)} {order.currency}"


def body_of(order: CollectionOrder, *, bank: BankDetails, now: datetime) -> str:
    """The letter's text. Amounts are rounded as on the invoice; the due date is in UTC."""
    due_on = (now + timedelta(days=DAYS_UNTIL_DUE)).date()
    amount = f"{_amount(order.amount_due, order.currency)} {order.currency}"
    rows = [(line.description, line.amount) for line in order.lines if line.amount != 0]
    if len(rows) > MAX_LINES:
        rest = rows[MAX_LINES - 1 :]
        rows = [*rows[: MAX_LINES - 1], (f"{len(rest)} further lines", sum((part for _, part in rest), Decimal(0)))]
    width = max((len(_amount(part, order.currency)) for _, part in rows), default=0)
    lines = [
        f"{_cut(description):<{MAX_DESCRIPTION}}  {_amount(part, order.currency):>{width}}"
        for description, part in rows
    ]
    return "\n".join([
        f"{order.customer_name},",
        "",
        f"this is invoice {order.number} for {order.title or _period(order)}.",
        "",
        *lines,
        *_sums(order),
        *(line for note in order.legal_notes for line in ("", *wrap(note, MAX_DESCRIPTION))),
        "",
        f"Amount due:  {amount}",
        f"Due on:      {due_on.isoformat()}",
        f"Reference:   {order.number}",
        "",
        "Please transfer the amount to:",
        *(f"  {line}" for line in bank.lines),
        "",
        "Give the reference, so that your payment finds this invoice. Your billing page explains every line.",
        "",
    ])  # fmt: skip


def _sums(order: CollectionOrder) -> list[str]:
    """What was used without tax, each tax, and both together, before credits; nothing where nothing is taxed."""
    taxes: dict[tuple[bool, str], Decimal] = {}
    for tax in (tax for line in order.lines for tax in line.taxes if tax.treatment == "rate"):
        name = f"{tax.name} {plain(tax.percent)} % ({tax.jurisdiction})"
        taxes[tax.inclusive, name] = taxes.get((tax.inclusive, name), Decimal(0)) + tax.amount
    if not taxes:
        return []
    lines = sum((line.amount for line in order.lines if not line.is_credit), Decimal(0))
    inside = sum((amount for (inclusive, _), amount in taxes.items() if inclusive), Decimal(0))
    rows = [("Without tax", lines - inside)]
    rows += [(f"{name}{', in the prices' if inclusive else ''}", part) for (inclusive, name), part in taxes.items()]
    rows.append(("With tax", sum((part for _, part in rows), Decimal(0))))
    width = max(len(_amount(part, order.currency)) for _, part in rows)
    return ["", *(f"{_cut(name):<{MAX_DESCRIPTION}}  {_amount(part, order.currency):>{width}}" for name, part in rows)]


def _amount(amount: Decimal, currency: str) -> str:
    return f"{amount:,.{invoice_exponent(currency)}f}"


def _period(order: CollectionOrder) -> str:
    return f"{order.period_start:%Y-%m-%d} to {order.period_end:%Y-%m-%d}"


def _cut(text: str) -> str:
    # A description is the customer's own text: a line break in it must not begin another line of the letter.
    words = " ".join(text.split())
    return words if len(words) <= MAX_DESCRIPTION else words[: MAX_DESCRIPTION - 1] + "…"
