"""The details of a history's steps, in words: amounts with their currency, and no ids that say nothing to a reader."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation

from markupsafe import Markup

from support_ui import figures

AMOUNTS = {
    "total": "total",
    "due": "due",
    "amount": "amount",
    "applied": "applied to this invoice",
    "unpaid": "not owed any more",
    "cash": "of what was paid",
    "credits": "back to the credits that had paid it",
    "fee": "fee",
}
"""Details that are amounts, in the order in which they are told, and what each is called."""
PARTS = frozenset({"unpaid", "cash", "credits", "fee"})
"""Parts of the amount: one of 0 says nothing."""
OWN_IDS = frozenset({"adjustment_id", "entry_id", "movement", "refund", "order", "kind"})
"""Ids of rows of ours, and the kind of a movement, which the step names already."""
VALUES = {
    "refund": "goes back the way it came",
    "keep": "is kept as prepaid credit",
    "rebill": "billed again",
    "give_up": "for good",
}
LABELS = {"paid_part": "what was paid", "disposition": "what was paid"}
_CODE = re.compile(r"[a-z]+(_[a-z]+)+")
_WORDS = ("reason", "status", "code")


def facts_of(details: Mapping[str, object], currency: str) -> list[tuple[str, Markup | str]]:
    """What the step says besides what was done: a label and a value each, amounts first."""
    return [*_amounts(details, currency), *_others(details)]


def spoken(text: str) -> str:
    """A provider's code, such as expired_or_canceled_card, as words; any other text as it is."""
    return text.replace("_", " ") if _CODE.fullmatch(text) else text


def _amounts(details: Mapping[str, object], currency: str) -> Iterator[tuple[str, Markup | str]]:
    for key, label in AMOUNTS.items():
        value = details.get(key)
        if value is None or (key == "applied" and value == details.get("amount")):
            continue
        if key in PARTS and _is_nothing(value):
            continue
        yield label, figures.noted(value, currency)


def _is_nothing(value: object) -> bool:
    try:
        return Decimal(str(value)) == 0
    except InvalidOperation:
        return False


def _others(details: Mapping[str, object]) -> Iterator[tuple[str, Markup | str]]:
    for key, value in details.items():
        if key in AMOUNTS or key in OWN_IDS or value in (None, ""):
            continue
        yield LABELS.get(key, key.replace("_", " ")), _value(key, str(value))


def _value(key: str, text: str) -> Markup | str:
    if key in ("received_at", "to_period"):
        try:
            return figures.instant(datetime.fromisoformat(text))
        except ValueError:
            return text
    if key in ("paid_part", "disposition", "then"):
        return VALUES.get(text, text)
    return spoken(text) if key in _WORDS else text
