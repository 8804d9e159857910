"""Fields of marshmallow schemas whose errors carry a stable code beside their sentence."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from marshmallow import Schema, ValidationError, fields

MAX_NUMBER_TEXT = 100
"""Characters of a number written as text: more than any amount or quantity has that we keep."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(?:nan|s?nan\d*|inf|infinity)", re.IGNORECASE)


class Coded(str):
    """An error's sentence with its stable code."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, sentence: str) -> "Coded":
        coded = super().__new__(cls, sentence)
        coded.code = code
        return coded

    def format(self, *args: object, **kwargs: object) -> "Coded":
        """As `str.format`, which marshmallow calls; the code is kept."""
        return Coded(self.code, super().format(*args, **kwargs))


def wrong(code: str, sentence: str) -> ValidationError:
    """The error that a field raises."""
    return ValidationError(Coded(code, sentence))


MISSING: dict[str, str | list[Any] | dict[Any, Any]] = {
    "required": Coded("missing", "This field is missing."),
    "null": Coded("missing", "This field must not be null; leave it out if it is optional."),
}


class Text(fields.Field[str]):
    """Printable text of `shortest` to `longest` characters."""

    default_error_messages = MISSING

    def __init__(self, *, longest: int, shortest: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest
        self.shortest = shortest

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> str:
        if not isinstance(value, str):
            raise wrong("not_text", f"{shown(value)} is no text.")
        # Lone surrogates and NUL are not printable either, so that whatever passes can be stored.
        if not self.shortest <= len(value) <= self.longest or not value.isprintable():
            raise wrong("bad_text", f"Give {self.shortest} to {self.longest} printable characters.")
        return value


class WholeNumber(fields.Field[int]):
    """An integer; no text, no fraction, no truth value."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong("not_a_whole_number", f"{shown(value)} is no whole number.")
        return value


class ExactNumber(fields.Field[Decimal]):
    """A decimal number, as a JSON number or as text; it keeps every digit."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> Decimal:
        if isinstance(value, Decimal):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return Decimal(value)
        if not isinstance(value, str):
            raise wrong("not_a_number", f"{shown(value)} is no number.")
        return parse_number(value)


class Instant(fields.Field[datetime]):
    """A time in ISO 8601 with a zone, as aware UTC."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> datetime:
        if not isinstance(value, str):
            raise wrong("not_a_time", f"{shown(value)} is no time: write text like 2025-07-01T00:00:00Z.")
        return parse_instant(value)


class Labels(fields.Field[dict[str, str]]):
    """An object of names and texts."""

    default_error_messages = MISSING

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise wrong("labels_not_an_object", f"{shown(value)} is no object of names and texts.")
        # What a name or a text may hold is the ledger's rule; posting checks it.
        return dict(value)


_STRICT: dict[str, str] = {
    "unknown": Coded("unknown_field", "This field is not known here. Check its spelling, or leave it out."),
    "type": Coded("not_an_object", "An object with named fields is needed here."),
}


class StrictSchema(Schema):
    """A schema that refuses fields which it does not know: a misspelt optional field must not be lost."""

    error_messages = _STRICT


def parse_number(text: str) -> Decimal:
    """The number that `text` writes in plain or scientific notation, exact.

    Raises:
        marshmallow.ValidationError: it is no finite decimal number.
    """
    if _NOT_FINITE.fullmatch(text):
        raise wrong("not_finite", f"{text} is no finite number.")
    if len(text) > MAX_NUMBER_TEXT:
        raise wrong("too_many_digits", f"{text[:20]}… has more than {MAX_NUMBER_TEXT} characters.")
    if not _NUMBER.fullmatch(text):
        raise wrong("not_a_number", f"{shown(text)} is no number: write it like 1234.56.")
    return Decimal(text)


def parse_instant(text: str, *, naive_is_utc: bool = False) -> datetime:
    """The instant that `text` names, in UTC.

    Raises:
        marshmallow.ValidationError: it is no ISO 8601 time, or has no zone and `naive_is_utc` is false.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None and naive_is_utc:
            instant = instant.replace(tzinfo=UTC)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong(
            "not_a_time", f"{shown(text)} is no time: write ISO 8601 with a zone, like 2025-07-01T00:00:00Z."
        ) from None
    raise wrong("no_time_zone", f"{text} has no zone: write {instant.isoformat()}Z if it is UTC.")


def shown(value: object) -> str:
    """A value as an error may quote it: short, on one line."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def coded_errors(messages: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Coded]]:
    """Every error of a `ValidationError.messages`, with the path of keys and places that leads to it."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from coded_errors(inner, path if key == "_schema" else (*path, key))
    elif isinstance(messages, list):
        for inner in messages:
            yield from coded_errors(inner, path)
    elif isinstance(messages, Coded):
        yield path, messages
    else:
        yield path, Coded("invalid", str(messages))
