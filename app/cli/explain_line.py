"""`billing explain`: a line of an invoice, or a row of the period so far, by its price, quantities, tax and credit."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click
from sqlalchemy.orm import Session

from app.api.explained_lines import charge_explained, line_explained
from app.cli import example
from app.cli.explain import told_facts, told_table
from app.cli.snapshots import snapshot
from invoicing.customers import get_customer
from invoicing.drafts import InvoiceNotFound, lines_of
from invoicing.explaining.answers import LineDisagrees
from invoicing.explaining.of_charge import ChargeExplanation, exact_sum, explain_charge
from invoicing.explaining.of_line import LineExplanation, charge_of_row, explain_line
from invoicing.explaining.subjects import UnknownSubject, find_books, find_subject
from invoicing.explaining.words import cash, facts_of_charge, facts_of_line, place_of, step_words
from invoicing.statements import current_period
from ledger.money import plain

SHARES = 8
"""Apps and regions shown of a line; the last row sums up the others."""


@example(
    "billing explain 2VK8Q4ZD-0001\n"
    "billing explain 2VK8Q4ZD-0001 3\n"
    "billing explain --customer acme --item egress --json"
)
@click.command("explain")
@click.argument("invoice", required=False)
@click.argument("line", type=click.IntRange(min=1), required=False)
@click.option("--customer", help="Explain the period so far of this customer: the platform's id, or ours.")
@click.option("--item", help="Of the period so far only the rows of this item.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each line instead.")
def explain_line_command(
    invoice: str | None, line: int | None, customer: str | None, item: str | None, as_json: bool
) -> None:
    """Explain each line of an invoice or draft, or the one at position LINE.

    INVOICE is a number or an id. Says which version of which price made the line, tier by tier, what of the same sum
    stands on other lines, from which entries it adds up, its taxes, and which credit paid. Instead of an invoice,
    --customer takes the period that runs now. Writes nothing. Refuses with status 2 if a line does not add up.
    """
    if (invoice is None) == (customer is None):
        raise click.UsageError("Give the number of an invoice, or --customer for the period so far.")
    if invoice is not None and item is not None:
        raise click.UsageError("--item narrows the period so far. Of an invoice, give the position of the line.")
    with snapshot() as session:
        if invoice is not None:
            found, time_zone = _lines(session, invoice, line)
            told = [
                json.dumps(line_explained(one, time_zone=time_zone), ensure_ascii=False)
                if as_json
                else "\n".join(_line_told(one, time_zone))
                for one in found
            ]
            wrong = sum(not one.adds_up for one in found)
        else:
            rows, time_zone = _rows(session, customer or "", item)
            told = [
                json.dumps({"kind": "row", **charge_explained(one, time_zone=time_zone)}, ensure_ascii=False)
                if as_json
                else "\n".join(_charge_told(one, time_zone))
                for one in rows
            ]
            wrong = sum(not one.adds_up for one in rows)
    click.echo(("\n" if as_json else "\n\n").join(told))
    if wrong:
        raise LineDisagrees(
            f"{wrong} of {len(told)} do not add up. Run `billing ledger check` before anything is billed."
        )


def _lines(session: Session, invoice: str, position: int | None) -> tuple[list[LineExplanation], str]:
    subject = find_subject(session, what=invoice)
    if subject.kind != "invoice" or subject.id is None:
        raise UnknownSubject(f"{invoice!r} is no invoice. For anything else there is: billing ledger explain {invoice}")
    lines = lines_of(session, customer_id=subject.customer_id, invoice_id=subject.id)
    wanted = [line for line in lines if position in (None, line.position)]
    if not wanted:
        there = f"Its lines are 1 to {lines[-1].position}." if lines else "It has none."
        raise InvoiceNotFound(f"Invoice {invoice} has no line {position or ''}".rstrip() + f". {there}")
    found = [
        explain_line(session, customer_id=subject.customer_id, invoice_id=subject.id, line_id=line.id)
        for line in wanted
    ]
    return found, get_customer(session, customer_id=subject.customer_id).time_zone


def _rows(session: Session, customer: str, item: str | None) -> tuple[list[ChargeExplanation], str]:
    statement = current_period(session, customer_id=find_books(session, customer), now=datetime.now(UTC))
    rows = [row for row in statement.items if item in (None, row.item)]
    if not rows:
        of_item = "" if item is None else f" of {item!r}"
        raise UnknownSubject(f"Nothing{of_item} is on the period so far of {customer!r}.")
    return [explain_charge(session, charge_of_row(statement, row)) for row in rows], statement.time_zone


def _line_told(found: LineExplanation, time_zone: str) -> Iterator[str]:
    line, invoice = found.line, found.invoice
    name = f"invoice {invoice.number}" if invoice.number else f"the draft {invoice.id}"
    yield f"Line {line.position} of {name}: {line.description}"
    facts = [("Amount", f"{plain(line.amount)} {invoice.currency}, exact")]
    if found.rounding is not None:
        facts.append(("On the invoice", f"{cash(found.rounding.share, invoice.currency)} {invoice.currency}"))
    if found.adjustment is not None:
        facts.append(("Correction", f"by {found.adjustment.actor}: {found.adjustment.reason}"))
    if found.charge is not None:
        facts += facts_of_charge(found.charge, time_zone=time_zone)
    yield from told_facts(facts + facts_of_line(found, time_zone=time_zone))
    if found.charge is not None:
        yield from _steps_told(found.charge, time_zone)


def _charge_told(found: ChargeExplanation, time_zone: str) -> Iterator[str]:
    yield f"{found.name} so far"
    facts = [("Amount", f"{plain(found.charge.amount)} {found.charge.currency}, exact")]
    yield from told_facts(facts + facts_of_charge(found, time_zone=time_zone))
    yield from _steps_told(found, time_zone)


def _steps_told(found: ChargeExplanation, time_zone: str) -> Iterator[str]:
    yield ""
    rows = [
        (step.words, step_words(step.quantity, step.unit_amount, step.flat_amount), plain(step.amount))
        for step in found.steps
    ]
    if found.elsewhere:
        rows.append(("together", "", plain(found.total)))
        rows += [(f"less {place_of(part, time_zone=time_zone)}", "", plain(-part.amount)) for part in found.elsewhere]
    rows.append(("this line", "", plain(found.charge.amount)))
    yield from told_table(("step", "arithmetic", "amount"), rows, right=(2,))
    if len(found.shares) > 1 or any(share.app or share.region for share in found.shares):
        yield ""
        yield from told_table(("app", "region", "quantity", "amount", "entries"), _shares(found), right=(2, 3, 4))
    if found.first is not None and found.last is not None:
        yield ""
        yield f"  Entries {found.first.seq} to {found.last.seq} of the books: billing ledger explain {found.first.id}"


def _shares(found: ChargeExplanation) -> Sequence[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (share.app or "-", share.region or "-", plain(share.quantity), plain(share.amount), f"{share.entries:,}")
        for share in found.shares[:SHARES]
    ]
    rest = found.shares[SHARES:]
    if rest:
        sums = [plain(exact_sum(getattr(share, name) for share in rest)) for name in ("quantity", "amount")]
        rows.append((f"{len(rest):,} more", "", *sums, f"{sum(share.entries for share in rest):,}"))
    return rows
