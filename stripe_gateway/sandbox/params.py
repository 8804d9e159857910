"""Declared parameters: what an endpoint accepts, how strict, and the refusals Stripe gives for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from .errors import Json, invalid


class Param:
    """One parameter's kind. `read` turns the form's text into a value or raises a 400 that names the parameter."""

    required: bool = False

    def read(self, raw: Any, name: str) -> Any:
        raise NotImplementedError


def _text(raw: Any, name: str) -> str:
    if not isinstance(raw, str):
        raise invalid(f"Invalid string: {name}", param=name)
    return raw


def _cannot_unset(name: str) -> Exception:
    return invalid(
        f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; however "
        f"'{name}' cannot be unset. You should remove '{name}' from your request or supply a non-empty value.",
        code="parameter_invalid_empty",
        param=name,
    )


@dataclass(frozen=True)
class Text(Param):
    """A string of at most `longest` characters; empty means "unset" (None) where `unset` allows it."""

    longest: int = 5000
    required: bool = False
    unset: bool = False

    def read(self, raw: Any, name: str) -> str | None:
        text = _text(raw, name)
        if text == "":
            if self.unset:
                return None
            raise _cannot_unset(name)
        if len(text) > self.longest:
            raise invalid(
                f"Invalid string: {text[:10]}...{text[-5:]}; must be at most {self.longest} characters",
                code="parameter_invalid_string_too_long" if self.longest < 5000 else None,
                param=name,
            )
        return text


@dataclass(frozen=True)
class Whole(Param):
    """An integer between `least` and `most`, both included."""

    least: int | None = None
    most: int | None = None
    required: bool = False
    unset: bool = False

    def read(self, raw: Any, name: str) -> int | None:
        text = _text(raw, name)
        if text == "":
            if self.unset:
                return None
            raise _cannot_unset(name)
        try:
            value = int(text)
        except ValueError as error:
            raise invalid(f"Invalid integer: {text}", code="parameter_invalid_integer", param=name) from error
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            raise invalid(f"Invalid integer: {text} is out of range", code="parameter_invalid_integer", param=name)
        return value


@dataclass(frozen=True)
class Number(Param):
    """A decimal with at most `places` digits after the point, kept exact."""

    places: int = 12
    required: bool = False

    def read(self, raw: Any, name: str) -> Decimal:
        text = _text(raw, name)
        try:
            value = Decimal(text)
        except InvalidOperation as error:
            raise invalid(f"Invalid decimal: {text}", param=name) from error
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int) or -exponent > self.places:
            raise invalid(f"Invalid decimal: {text}; at most {self.places} decimal places", param=name)
        return value


@dataclass(frozen=True)
class Flag(Param):
    """true or false."""

    required: bool = False

    def read(self, raw: Any, name: str) -> bool:
        text = _text(raw, name)
        if text not in ("true", "false"):
            raise invalid(f"Invalid boolean: {text}", param=name)
        return text == "true"


@dataclass(frozen=True)
class Choice(Param):
    """One of a closed list of words."""

    words: tuple[str, ...]
    required: bool = False

    def read(self, raw: Any, name: str) -> str:
        text = _text(raw, name)
        if text not in self.words:
            listed = ", ".join(self.words[:-1]) + (" or " if len(self.words) > 1 else "") + self.words[-1]
            raise invalid(f"Invalid {name}: must be one of {listed}", param=name)
        return text


@dataclass(frozen=True)
class Table(Param):
    """Nested parameters; empty means "unset" (None) where `unset` allows it."""

    fields: Mapping[str, Param]
    required: bool = False
    unset: bool = False

    def read(self, raw: Any, name: str) -> Json | None:
        if raw == "" and self.unset:
            return None
        if not isinstance(raw, dict):
            raise invalid(f"Invalid object: {name}", param=name)
        return read_params(self.fields, raw, inside=name)


@dataclass(frozen=True)
class Many(Param):
    """A list of `item`, at most `most` long; empty means "unset" (None) where `unset` allows it."""

    item: Param
    most: int | None = None
    required: bool = False
    unset: bool = False

    def read(self, raw: Any, name: str) -> list[Any] | None:
        if raw == "" and self.unset:
            return None
        if not isinstance(raw, list):
            raise invalid(f"Invalid array: {name}", param=name)
        if self.most is not None and len(raw) > self.most:
            raise invalid(f"Invalid array: {name} can have at most {self.most} items", param=name)
        return [self.item.read(value, f"{name}[{index}]") for index, value in enumerate(raw)]


@dataclass(frozen=True)
class Labels(Param):
    """Metadata: up to 50 keys of 40 characters with values of 500; an empty value removes the key."""

    required: bool = False

    def read(self, raw: Any, name: str) -> dict[str, str] | None:
        if raw == "":
            return None  # "unset": every key goes
        if isinstance(raw, list):
            # {"0": "a"} is a legal table of metadata that the form decoder takes for a list.
            raw = {str(index): value for index, value in enumerate(raw)}
        if not isinstance(raw, dict):
            raise invalid(f"Invalid object: {name}", param=name)
        for key, value in raw.items():
            _text(value, f"{name}[{key}]")
            if len(key) > 40:
                raise invalid(f"Metadata keys can be at most 40 characters: {key}", param=name)
            if len(value) > 500:
                raise invalid(f"Metadata values can be at most 500 characters: {name}[{key}]", param=name)
        if len(raw) > 50:
            raise invalid("Metadata can have at most 50 keys", param=name)
        return dict(raw)


@dataclass(frozen=True)
class Span(Param):
    """A point in time, or a table of gt, gte, lt, lte."""

    required: bool = False

    def read(self, raw: Any, name: str) -> dict[str, int]:
        if isinstance(raw, str):
            instant = int(Whole().read(raw, name) or 0)
            return {"gte": instant, "lte": instant}
        bounds = Table({"gt": Whole(), "gte": Whole(), "lt": Whole(), "lte": Whole()}).read(raw, name)
        return bounds or {}


def read_params(fields: Mapping[str, Param], raw: Mapping[str, Any], *, inside: str = "") -> Json:
    """The values of `raw`, typed by `fields`; parameters that were not sent are absent.

    Raises:
        ApiError: 400, naming the first parameter that is unknown, missing or malformed.
    """

    def full(name: str) -> str:
        return f"{inside}[{name}]" if inside else name

    unknown = [full(name) for name in raw if name not in fields]
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        raise invalid(
            f"Received unknown parameter{plural}: {', '.join(unknown)}", code="parameter_unknown", param=unknown[0]
        )
    for name, param in fields.items():
        if param.required and name not in raw:
            raise invalid(f"Missing required param: {full(name)}.", code="parameter_missing", param=full(name))
    return {name: fields[name].read(value, full(name)) for name, value in raw.items()}


def merged_metadata(current: Mapping[str, str], change: Mapping[str, str] | None) -> dict[str, str]:
    """Stripe's rule: sent keys overwrite, empty values remove, None empties the whole table."""
    if change is None:
        return {}
    return {key: value for key, value in {**current, **change}.items() if value != ""}
