"""Stripe's own OpenAPI file as a judge of what goes over the wire, so that the sandbox cannot agree with our mistakes.

The file is Stripe's spec3.json (https://github.com/stripe/openapi). Set STRIPE_OPENAPI_SPEC to its path.
"""

import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from referencing import Registry
from referencing.jsonschema import DRAFT202012

REPOSITORY = Path(__file__).resolve().parents[2]
_SPEC = "urn:stripe"
_NUMBER = re.compile(r"(-?)\d+(\.\d+)?")


def spec_path() -> Path | None:
    """Where the file lies, or None."""
    candidates = [
        Path(os.environ["STRIPE_OPENAPI_SPEC"]) if "STRIPE_OPENAPI_SPEC" in os.environ else None,
        REPOSITORY.parent / "shared" / "stripe-openapi" / "spec3.json",
    ]
    return next((path for path in candidates if path is not None and path.is_file()), None)


class Contract:
    """Validates requests, answers and webhook bodies. Fields newer than the file may be there; none may miss.

    Each shape of a value is judged once: its fields, their types, and of a text the word itself if it is one of any
    enumeration's, else on which side of each limit of length it lies. That is all that the schema can tell apart, and
    a run of ten thousand invoices so costs some hundred validations.
    """

    def __init__(self, path: Path) -> None:
        spec = json.loads(path.read_text())
        self._paths: dict[str, Any] = spec["paths"]
        document = {"components": {"schemas": _nullable(spec["components"]["schemas"])}}
        self._registry = Registry().with_resource(_SPEC, DRAFT202012.create_resource(document))
        lengths = {limit for name in ("maxLength", "minLength") for limit in _values_of(spec, name)}
        self._lengths = sorted(limit for limit in lengths if isinstance(limit, int))
        self._words = frozenset(word for words in _values_of(spec, "enum") if isinstance(words, list) for word in words)
        # Fixed addresses come before those with an id: "/v1/invoices/search" is no invoice.
        self._patterns = [
            (re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))), path)
            for path in sorted(self._paths, key=lambda path: (path.count("{"), path))
        ]
        self._validators: dict[str, tuple[Any, Draft202012Validator]] = {}
        self._passed: set[tuple[str, Any]] = set()
        kinds = spec["paths"]["/v1/webhook_endpoints"]["post"]["requestBody"]["content"]
        schema = kinds["application/x-www-form-urlencoded"]["schema"]["properties"]["enabled_events"]
        self._events = frozenset(schema["items"]["enum"])

    @property
    def shapes(self) -> int:
        """How many different shapes were judged."""
        return len(self._passed)

    def check_exchange(self, exchange: dict[str, Any]) -> None:
        """Judge one request, if it was accepted, and its answer, whatever that is.

        Raises:
            AssertionError: naming the request, the field, and what the schema says.
        """
        what = f"{exchange['method']} {exchange['path']} -> {exchange['status']}"
        if exchange["status"] == 0:
            return
        good = 200 <= exchange["status"] < 300
        name, operation = self._operation(exchange["method"], exchange["path"])
        if operation is None:
            assert not good, f"{what}: Stripe has no such address"
            return
        if good:
            self._check_request(name, operation, exchange, what)
        response = operation["responses"]["200" if good else "default"]
        schema = response["content"]["application/json"]["schema"]
        self._judge(f"{name} {'answer' if good else 'refusal'}", schema, json.loads(exchange["answer"]), what)

    def check_event(self, event: dict[str, Any]) -> None:
        """Judge a webhook's body: the event itself and the object in it.

        Raises:
            AssertionError: naming the event, the field, and what the schema says.
        """
        kind = event["type"]
        assert kind in self._events, f"Stripe has no event {kind}"
        self._judge("event", {"$ref": "#/components/schemas/event"}, event, f"event {kind}")
        obj = event["data"]["object"]
        noun = obj["object"]
        self._judge(noun, {"$ref": f"#/components/schemas/{noun}"}, obj, f"event {kind} {obj.get('id')}")

    def _operation(self, method: str, path: str) -> tuple[str, dict[str, Any] | None]:
        for pattern, name in self._patterns:
            if pattern.fullmatch(path) and method.lower() in self._paths[name]:
                operation: dict[str, Any] = self._paths[name][method.lower()]
                return f"{method} {name}", operation
        return "", None

    def _check_request(self, name: str, operation: dict[str, Any], exchange: dict[str, Any], what: str) -> None:
        query = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
        sent = _decode(exchange["query"])
        unknown = set(sent) - set(query)
        assert not unknown, f"{what}: query parameters unknown to Stripe: {unknown}"
        for parameter, value in sent.items():
            schema = query[parameter]["schema"]
            self._judge(f"{name} ?{parameter}", schema, value, f"{what} ?{parameter}", form=True)
        content = operation.get("requestBody", {}).get("content", {})
        schema = content.get("application/x-www-form-urlencoded", {}).get("schema", {"type": "object"})
        self._judge(f"{name} form", schema, _decode(exchange["form"]), f"{what} (form)", form=True)

    def _judge(self, name: str, schema: dict[str, Any], value: Any, what: str, *, form: bool = False) -> None:
        mark = (name, self._shape(value))
        if mark in self._passed:
            return
        if name not in self._validators:
            plain = _absolute(_nullable(schema))
            strict = _closed(plain) if form else plain
            self._validators[name] = strict, Draft202012Validator(strict, registry=self._registry)
        strict, validator = self._validators[name]
        error = best_match(validator.iter_errors(_coerced(strict, value) if form else value))
        assert error is None, f"{what}: {_explained(error)}"
        self._passed.add(mark)

    def _shape(self, value: Any) -> Any:
        """What a schema can tell apart of a value. A text keeps whether it reads as a number: forms know texts only."""
        if isinstance(value, dict):
            return tuple((key, self._shape(value[key])) for key in sorted(value))
        if isinstance(value, list):
            return ("list", min(len(value), 20), frozenset(self._shape(item) for item in value))
        if isinstance(value, str):
            if value in self._words:
                return value
            if value.startswith("/v1/"):
                return ("address", *value.split("/")[2:3])
            number = _NUMBER.fullmatch(value)
            return ("text", bisect_left(self._lengths, len(value)), number and (number[1], bool(number[2])))
        if value is None or isinstance(value, bool):
            return (value,)
        return (type(value).__name__, (value > 0) - (value < 0))


def _values_of(node: Any, name: str) -> Iterator[Any]:
    """Everything under this name, anywhere."""
    if isinstance(node, list):
        for item in node:
            yield from _values_of(item, name)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from _values_of(value, name)


def _absolute(node: Any) -> Any:
    """References into the file, written so that they hold outside of it."""
    if isinstance(node, list):
        return [_absolute(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: f"{_SPEC}{value}" if key == "$ref" else _absolute(value) for key, value in node.items()}


def _explained(error: ValidationError) -> str:
    return f"at {'.'.join(map(str, error.absolute_path)) or '(top)'}: {error.message[:400]}"


def _nullable(node: Any) -> Any:
    """OpenAPI's `nullable` as JSON Schema; extensions (`x-...`) dropped."""
    if isinstance(node, list):
        return [_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {k: _nullable(v) for k, v in node.items() if not k.startswith("x-") and k != "nullable"}
    return {"anyOf": [kept, {"type": "null"}]} if node.get("nullable") is True else kept


def _closed(node: Any) -> Any:
    """Refuse unknown nested parameters too, as Stripe does."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if "properties" in closed and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def _decode(text: str) -> dict[str, Any]:
    """The test's own reading of a bracketed form: deliberately not the sandbox's."""
    root: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        names = re.findall(r"[^\[\]]+|(?<=\[)(?=\])", key)
        node = root
        for name in names[:-1]:
            node = node.setdefault(name, {})
        node[names[-1] or str(len(node))] = value
    return {key: _lists(value) for key, value in root.items()}


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.isdigit() for key in node):
        return [_lists(node[key]) for key in sorted(node, key=int)]
    return {key: _lists(value) for key, value in node.items()}


def _coerced(schema: dict[str, Any], value: Any) -> Any:
    """Form text as the type that the schema asks for; what cannot be converted stays, to be judged."""
    if "anyOf" in schema:
        for option in schema["anyOf"]:
            tried = _coerced(option, value)
            if tried is not value or Draft202012Validator(option).is_valid(tried):
                return tried
        return value
    kind = schema.get("type")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        fallback = extra if isinstance(extra, dict) else {}
        return {key: _coerced(properties.get(key, fallback), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_coerced(schema.get("items", {}), item) for item in value]
    if kind == "integer" and re.fullmatch(r"-?\d+", value):
        return int(value)
    if kind == "number" and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value)
    if kind == "boolean" and value in ("true", "false"):
        return value == "true"
    return value
