"""`billing ledger explain`: who, what, when and why, then the entries, then the sum."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import click

from app.api.explained import explained
from app.cli import example
from app.cli.snapshots import snapshot
from invoicing.explaining.answers import (
    BalanceExplained,
    Calculation,
    EntryExplained,
    InvoiceExplained,
    LineExplained,
    Owner,
    explain,
)
from invoicing.tables import Invoice
from ledger.explain import Explanation, Part, signed_amount
from ledger.money import plain
from ledger.tables import Entry

SHOWN_PARTS = 8
"""Items, days and accounts shown of an amount; the last row sums up the others."""

Rows = list[tuple[str, str]]


@example(
    "billing ledger explain 2VK8Q4ZD-0001\n"
    "billing ledger explain acme:assets:unbilled --limit 50\n"
    "billing ledger explain 9bb3f79d-89bb-59d7-9f54-e46b63ae5612 --customer acme --json"
)
@click.command("explain")
@click.argument("what")
@click.option("--customer", help="Look only into this customer's books: the platform's id, or ours.")
@click.option(
    "--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Show at most so many entries."
)
@click.option("--after", type=click.IntRange(min=0), default=0, help="Go on after the entry with this seq.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def explain_command(what: str, customer: str | None, limit: int, after: int, as_json: bool) -> None:
    """Explain an amount by the entries behind it, or an entry by its cause.

    WHAT is the id of an entry, transaction, invoice, line, correction or grant; an invoice's number; a payment's id at
    its provider; or CUSTOMER:ACCOUNT for a balance. Every entry behind an amount is added up and compared with the
    running totals. An id alone is looked for in everybody's books: --customer is faster. Writes nothing.
    """
    with snapshot() as session:
        found = explain(session, what=what, customer=customer, limit=limit, after_seq=after)
        if as_json:
            click.echo(json.dumps(explained(found), ensure_ascii=False))
            return
        for line in _told(found):
            click.echo(line)


def _told(found: EntryExplained | LineExplained | InvoiceExplained | BalanceExplained) -> Iterator[str]:
    if isinstance(found, EntryExplained):
        yield from _entry(found)
    elif isinstance(found, LineExplained):
        yield from _line(found)
    elif isinstance(found, InvoiceExplained):
        yield from _invoice(found)
    else:
        yield f"Balance of {found.account}, {_who(found.owner)}"
        yield ""
        yield from _explanation(found.explanation)


def _entry(found: EntryExplained) -> Iterator[str]:
    story, currency = found.story, found.owner.currency
    entry = story.entry
    yield f"Entry {entry.id}"
    about: Rows = [
        ("who", _who(found.owner)),
        ("what", f"{plain(entry.amount)} {currency} from {entry.credit_account} to {entry.debit_account}"),
        ("happened", _instant(entry.effective_at)),
        ("recorded", f"{_instant(entry.recorded_at)}, as number {entry.seq} of the books, by {entry.actor}"),
        ("why", found.cause),
    ]
    about += [("reason", entry.reason)] if entry.reason else []
    about += _calculation(found.calculation, entry.amount, currency)
    if entry.item is not None:
        quantity = "" if entry.quantity is None else f", quantity {plain(entry.quantity)}"
        about.append(("item", f"{entry.item}{quantity}"))
    if entry.labels:
        about.append(("labels", ", ".join(f"{key}={value}" for key, value in sorted(entry.labels.items()))))
    if story.period is not None:
        span = f"{_instant(story.period.start_at)} to {_instant(story.period.end_at)}, {story.period.state}"
        about.append(("period", f"{span}. {found.placement}"))
    if found.adjustment is not None:
        adjustment = found.adjustment
        about.append(("correction", f"{adjustment.id} by {adjustment.actor}: {adjustment.reason}"))
        if adjustment.approved_by:
            about.append(("approved", f"by {adjustment.approved_by} at {_instant(adjustment.approved_at)}"))
        if adjustment.undone_by:
            about.append(("undone", f"by {adjustment.undone_by}: {adjustment.undo_reason}"))
    if story.document is not None:
        about.append(("document", f"{story.document.kind} {story.document.id}"))
    if found.invoice is not None:
        about.append(("invoice", _invoice_name(found.invoice)))
    if found.line is not None:
        about.append(("line", f"{found.line.description} ({found.line.id})"))
    if story.reverses is not None:
        about.append(("takes back", f"number {story.reverses.seq}, {story.reverses.id}"))
    if story.reversed_by is not None:
        about.append(("taken back", f"by number {story.reversed_by.seq}, {story.reversed_by.id}"))
    sealed = story.sealed
    about.append(
        ("sealed", "not yet")
        if sealed is None
        else ("sealed", f"{_instant(sealed.sealed_at)}, with numbers {sealed.first_seq} to {sealed.last_seq}")
    )
    about += [("transaction", str(entry.transaction_id)), ("digest", bytes(entry.digest).hex())]
    yield from told_facts(about)
    yield ""
    if not story.legs:
        yield "It is the only entry of its transaction."
        return
    yield f"Its transaction has {story.leg_count:,} more {'entry' if story.leg_count == 1 else 'entries'}:"
    yield from _entries(story.legs, None)


def _line(found: LineExplained) -> Iterator[str]:
    line, currency = found.line, found.owner.currency
    yield f"Line {line.position} of {_invoice_name(found.invoice)}: {line.description}"
    about: Rows = [("who", _who(found.owner)), ("amount", f"{plain(line.amount)} {currency}, exact")]
    if line.rounded is not None:
        about.append(("on invoice", f"{plain(line.rounded)} {currency}: its share of the rounded total"))
    about += _calculation(found.calculation, line.amount, currency)
    for tax in found.taxes:
        about.append(("tax", tax.legal_note or _taxed(tax.title, tax.amount, currency, tax.inclusive)))
    yield from told_facts(about)
    yield ""
    if found.explanation is not None:
        yield from _explanation(found.explanation)
    if found.correction is not None:
        yield from _entry(found.correction)


def _invoice(found: InvoiceExplained) -> Iterator[str]:
    invoice, currency = found.view.invoice, found.owner.currency
    yield f"{_invoice_name(invoice)[:1].upper()}{_invoice_name(invoice)[1:]}"
    about: Rows = [
        ("who", _who(found.owner)),
        ("period", f"{_instant(invoice.period_start)} to {_instant(invoice.period_end)}"),
        ("exact", f"{plain(found.view.exact_total)} {currency}: its lines, and the entries behind them"),
    ]
    if invoice.total is not None and invoice.amount_due is not None:
        about += [
            ("rounded", f"{plain(invoice.total - invoice.tax)} {currency}"),
            *(("tax", _taxed(tax.title, tax.amount, currency, tax.inclusive)) for tax in found.view.taxes),
            *(("note", tax.legal_note) for tax in found.view.taxes if tax.legal_note is not None),
            *([("total", f"{plain(invoice.total)} {currency}")] if invoice.tax else []),
            ("credits", f"{plain(invoice.credits_applied or Decimal(0))} {currency}"),
            ("due", f"{plain(invoice.amount_due)} {currency}, of it paid {plain(invoice.amount_paid)}"),
        ]
    for row in found.view.history:
        about.append((row.action, f"{_instant(row.at)} by {row.actor}{f': {row.reason}' if row.reason else ''}"))
    yield from told_facts(about)
    yield ""
    yield from told_table(
        ("line", "exact", "rounded", "id"),
        [
            (line.description, plain(line.amount), "" if line.rounded is None else plain(line.rounded), str(line.id))
            for line in found.view.lines
        ],
        right=(1, 2),
    )
    for part in found.parts:
        yield ""
        yield f"{part.title}:"
        yield from _explanation(part.explanation)


def _taxed(title: str, amount: Decimal, currency: str, inclusive: bool) -> str:
    return f"{title}: {plain(amount)} {currency} {'inside the price' if inclusive else 'on top'}"


def _explanation(found: Explanation) -> Iterator[str]:
    account, currency = found.selection.account, found.currency
    for title, parts in (("other account", found.by_contra), ("item", found.by_item), ("day", found.by_day)):
        if len(parts) > 1:
            yield from told_table((title, "amount", "quantity", "entries"), _parts(parts), right=(1, 2, 3))
            yield ""
    yield from _entries(found.entries, account)
    if found.next_after is not None:
        yield f"  ... more entries: --after {found.next_after}"
    entries = "entry adds" if found.count == 1 else "entries add"
    yield f"{found.count:,} {entries} up to {plain(found.total)} {currency} on {account}, as the running totals say."


def _parts(parts: Sequence[Part]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("-" if part.key is None else str(part.key), plain(part.amount), plain(part.quantity), f"{part.entries:,}")
        for part in parts[:SHOWN_PARTS]
    ]
    rest = parts[SHOWN_PARTS:]
    if rest:
        amounts = (sum((getattr(part, name) for part in rest), Decimal(0)) for name in ("amount", "quantity"))
        rows.append((f"{len(rest):,} more", *map(plain, amounts), f"{sum(part.entries for part in rest):,}"))
    return rows


def _entries(entries: Sequence[Entry], account: str | None) -> Iterator[str]:
    """The entries as a table; with an account, amounts as they moved it."""
    rows = [
        (
            str(entry.seq),
            _instant(entry.effective_at),
            entry.kind,
            entry.item or "-",
            "-" if entry.quantity is None else plain(entry.quantity),
            entry.debit_account,
            entry.credit_account,
            plain(entry.amount if account is None else signed_amount(entry, account)),
            str(entry.id),
        )
        for entry in entries
    ]
    head = ("no.", "happened", "kind", "item", "quantity", "debit", "credit", "amount", "entry")
    if rows:
        yield from told_table(head, rows, right=(0, 4, 7))


def told_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> Iterator[str]:
    """The rows under their head; the columns in `right` stand at the right, as numbers do."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield ("  " + "  ".join(cells)).rstrip()


def told_facts(facts: Rows) -> Iterator[str]:
    """Each fact in a line, the names in a column; at least one."""
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        # A reason may have line breaks; what follows stays under its beginning. No text of others steers the terminal.
        safe = "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)
        yield f"  {name.ljust(width)}  " + safe.replace("\n", "\n" + " " * (width + 4))


def _calculation(found: Calculation | None, amount: Decimal, currency: str) -> Rows:
    if found is None:
        return []
    until = "" if found.valid_until is None else f" until {_instant(found.valid_until)}"
    unit = f" per {found.unit}" if found.unit else ""
    product = plain(found.product)
    agrees = "" if found.product == amount else f"; the amount is {plain(amount)}"
    return [
        ("price", f"{plain(found.unit_amount)} {currency}{unit}, valid from {_instant(found.valid_from)}{until}"),
        ("", f"set by {found.published_by}, {found.price_id}"),
        ("arithmetic", f"{plain(found.quantity)} x {plain(found.unit_amount)} = {product} {currency}{agrees}"),
    ]


def _who(owner: Owner) -> str:
    if owner.name is None:
        return f"the house's books {owner.customer_id}, in {owner.currency}"
    return f"{owner.name} ({owner.external_id}), customer {owner.customer_id}, in {owner.currency}"


def _invoice_name(invoice: Invoice) -> str:
    return f"invoice {invoice.number or invoice.id}, {invoice.state.replace('_', ' ')}"


def _instant(at: datetime | None) -> str:
    return "-" if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")
