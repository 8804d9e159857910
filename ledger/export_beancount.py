"""The journal in Beancount's syntax. Source: https://beancount.github.io/docs/beancount_language_syntax.html"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from sqlalchemy import Row

from ledger.export_names import account_name
from ledger.money import EXACT, plain

OPENED = "2000-01-01"
"""The day on which accounts are opened in exports: no entry takes effect earlier, and it never changes."""

COARSE_DECIMALS = 10
"""Beancount calculates with 28 digits, an amount may have 15 + 30: beyond that it is written in two parts, cut here."""
EXACT_DIGITS = 28


def head(currencies: list[str]) -> str:
    lines = ['option "title" "The journal"', *(f'option "operating_currency" "{code}"' for code in currencies)]
    return "\n".join([*lines, "", *(f"{OPENED} commodity {code}" for code in currencies), "\n"])


def account(row: Row[Any]) -> str:
    lines = [f"{OPENED} open {account_name(row.account, row.customer_id)} {row.currency}"]
    for key, value in (("customer", row.external_id), ("name", row.customer_name)):
        if value is not None:
            lines.append(f"  {key}: {quoted(value)}")
    return "\n".join([*lines, ""])


def entry(row: Row[Any]) -> str:
    """One entry as one transaction; entries that were posted together share a link."""
    day = row.effective_at.astimezone(UTC).date().isoformat()
    lines = [f"{day} * {quoted(row.item or row.kind)} ^{row.transaction_id}"]
    lines += [f"  {key}: {value}" for key, value in _metadata(row)]
    debit, credit = account_name(row.debit_account, row.customer_id), account_name(row.credit_account, row.customer_id)
    for part in _parts(row.amount):
        lines += [f"  {debit}  {part} {row.currency}", f"  {credit}  -{part} {row.currency}"]
    return "\n" + "\n".join([*lines, ""])


def _metadata(row: Row[Any]) -> Iterator[tuple[str, str]]:
    yield "entry", quoted(str(row.id))
    yield "transaction", quoted(str(row.transaction_id))
    yield "seq", str(row.seq)
    yield "kind", quoted(row.kind)
    yield "effective-at", quoted(_instant(row.effective_at))
    yield "recorded-at", quoted(_instant(row.recorded_at))
    for key, instant in (("period", row.period_start), ("usage-period", row.usage_period_start)):
        if instant is not None:
            yield key, quoted(_instant(instant))
    if row.quantity is not None:
        yield "quantity", plain(row.quantity)
    for key, value in (
        ("item", row.item),
        ("document", row.document_id),
        ("price", row.price_id),
        ("reverses", row.reverses_id),
        ("actor", row.actor),
        ("reason", row.reason),
    ):
        if value is not None:
            yield key, quoted(str(value))
    if row.labels:
        yield "labels", quoted(json.dumps(row.labels, ensure_ascii=False, sort_keys=True))


def _parts(amount: Decimal) -> Iterator[str]:
    """The amount in parts that Beancount negates and adds up exactly; nearly always one."""
    if len(EXACT.normalize(amount).as_tuple().digits) <= EXACT_DIGITS:
        yield plain(amount)
        return
    coarse = amount.quantize(Decimal(1).scaleb(-COARSE_DECIMALS), rounding=ROUND_FLOOR, context=EXACT)
    yield plain(coarse)
    yield plain(EXACT.subtract(amount, coarse))


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def quoted(value: str) -> str:
    """The text as a Beancount string: on one line, and what cannot be printed spelled as in JSON."""
    if not value.isprintable():
        value = "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
