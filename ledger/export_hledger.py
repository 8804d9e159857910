"""The journal in hledger's syntax. Source: https://hledger.org/1.25/hledger.html#journal-format"""

import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any
from urllib.parse import quote

from sqlalchemy import Row

from ledger.export_names import account_name
from ledger.money import plain

SAFE = " -_./+@()'\"!?#&*=:{}<>$^~`\\"
"""Signs that mean nothing to hledger inside a description or the value of a tag."""


def head(currencies: list[str]) -> str:
    # Without a format: one would round what hledger shows.
    return "\n".join(["; The journal", "decimal-mark .", "", *(f"commodity {code}" for code in currencies), "\n"])


def account(row: Row[Any]) -> str:
    lines = [f"account {account_name(row.account, row.customer_id)}"]
    for key, value in (("customer", row.external_id), ("name", row.customer_name)):
        if value is not None:
            lines.append(f"  ; {key}:{escaped(value)}")
    return "\n".join([*lines, ""])


def entry(row: Row[Any]) -> str:
    """One entry as one transaction; the tag `transaction` says which were posted together."""
    day = row.effective_at.astimezone(UTC).date().isoformat()
    # The mark and the code stand before the description, so that nothing in it can be taken for one of them.
    lines = [f"{day} * ({row.seq}) {escaped(row.item or row.kind)}"]
    lines += [f"    ; {key}:{value}" for key, value in _tags(row)]
    amount = plain(row.amount)
    lines += [
        f"    {account_name(row.debit_account, row.customer_id)}  {amount} {row.currency}",
        f"    {account_name(row.credit_account, row.customer_id)}  -{amount} {row.currency}",
    ]
    return "\n" + "\n".join([*lines, ""])


def _tags(row: Row[Any]) -> Iterator[tuple[str, str]]:
    yield "entry", str(row.id)
    yield "transaction", str(row.transaction_id)
    yield "kind", escaped(row.kind)
    yield "effective", escaped(row.effective_at.astimezone(UTC).isoformat())
    yield "recorded", escaped(row.recorded_at.astimezone(UTC).isoformat())
    for key, instant in (("period", row.period_start), ("usage-period", row.usage_period_start)):
        if instant is not None:
            yield key, escaped(instant.astimezone(UTC).isoformat())
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
            yield key, escaped(str(value))
    if row.labels:
        yield "labels", escaped(json.dumps(row.labels, ensure_ascii=False, sort_keys=True))


def escaped(value: str) -> str:
    """The text on one line, without what hledger would read as its own: `;`, `,`, `|`, brackets, line ends.

    Such characters are percent-encoded, as in URLs; letters and signs of all languages stand as they are.
    """
    return "".join(
        character
        if character.isalnum() or character in SAFE or (not character.isascii() and _is_plain(character))
        else quote(character, safe="")
        for character in value
    )


def _is_plain(character: str) -> bool:
    return character.isprintable() and not character.isspace()
