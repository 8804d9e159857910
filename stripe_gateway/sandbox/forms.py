"""Decoding of Stripe's bracketed forms: ``lines[0][period][start]=1`` becomes nested tables and lists."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from .errors import Json, invalid

# Deep enough for every documented parameter; a guard against a form made to exhaust the stack.
MAX_DEPTH = 12
MAX_FIELDS = 20_000


def decode_form(text: str) -> Json:
    """The nested parameters of a query string or form body; all leaves are strings.

    Raises:
        ApiError: 400, for brackets that do not pair or a key used both as a value and as a table.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise invalid(f"The form could not be read: {error}") from error
    root: Json = {}
    for key, value in pairs:
        _assign(root, _split(key), value, key)
    return {key: _listed(value) for key, value in root.items()}


def _split(key: str) -> list[str]:
    head, bracket, rest = key.partition("[")
    if not bracket:
        return [head]
    if not rest.endswith("]") or not head:
        raise invalid(f"Invalid parameter name: {key}", param=key)
    parts = [head, *rest[:-1].split("][")]
    if len(parts) > MAX_DEPTH or any("[" in part or "]" in part for part in parts):
        raise invalid(f"Invalid parameter name: {key}", param=key)
    return parts


def _assign(root: Json, parts: list[str], value: str, key: str) -> None:
    node = root
    for part in parts[:-1]:
        # "a[]=1&a[]=2" appends: an empty index is the next free one.
        child = node.setdefault(part or str(len(node)), {})
        if not isinstance(child, dict):
            raise invalid(f"Invalid parameter: {key} is both a value and a table", param=key)
        node = child
    last = parts[-1] or str(len(node))
    if isinstance(node.get(last), dict):
        raise invalid(f"Invalid parameter: {key} is both a value and a table", param=key)
    node[last] = value


def _listed(node: Any) -> Any:
    """Turn tables whose keys are all whole numbers into lists, in the order of the numbers."""
    if not isinstance(node, dict):
        return node
    if node and all(key.isdigit() for key in node):
        return [_listed(node[key]) for key in sorted(node, key=int)]
    return {key: _listed(value) for key, value in node.items()}
