"""JSON in which every number keeps every digit, and in which nothing is ambiguous."""

import json
from decimal import Decimal
from typing import Any

from invoicing.errors import InvoicingError


class MalformedJson(InvoicingError):
    """This is no JSON that we can read. Check the syntax at the place named."""

    code = "malformed_json"


def load_json(data: bytes | str) -> Any:
    """Read one JSON text, in UTF-8. Numbers with a fraction or an exponent become Decimals, others ints.

    Stricter than the standard library, because money hangs on it: 0.1 stays 0.1; NaN and Infinity are no JSON; of two
    equal keys no one could say which was meant.

    Raises:
        MalformedJson: says where.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, parse_float=_number, parse_constant=_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise MalformedJson(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    except UnicodeDecodeError as error:
        raise MalformedJson(f"Byte {error.start} is not UTF-8.") from None
    except RecursionError:
        raise MalformedJson("Nested too deeply.") from None
    except ValueError as error:
        raise MalformedJson(str(error)) from None


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"{text[:40]} is out of every range.") from None


def _constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"The key {twice[:80]!r} stands twice in one object.")
    return found
