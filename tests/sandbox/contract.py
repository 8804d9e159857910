"""Stripe's own OpenAPI file as a judge of what goes over the wire, so that the sandbox cannot agree with our mistakes.

The file is Stripe's spec3.json (https://github.com/stripe/openapi). Set STRIPE_OPENAPI_SPEC to its path.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

REPOSITORY = Path(__file__).resolve().parents[2]


def spec_path() -> Path | None:
    """Where the file lies, or None."""
    candidates = [
        Path(os.environ["STRIPE_OPENAPI_SPEC"]) if "STRIPE_OPENAPI_SPEC" in os.environ else None,
        REPOSITORY.parent / "shared" / "stripe-openapi" / "spec3.json",
    ]
    return next((path for path in candidates if path is not None and path.is_file()), None)


class Contract:
    """Validates requests, answers and webhook bodies. Fields newer than the file may be there; none may miss."""

    def __init__(self, path: Path) -> None:
        spec = json.loads(path.read_text())
        self._paths: dict[str, Any] = spec["paths"]
        self._components = {"schemas": _nullable(spec["components"]["schemas"])}
        self._patterns = [
            (re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path))), path) for path in sorted(self._paths)
        ]

    def check_exchange(self, exchange: dict[str, Any]) -> None:
        """Judge one request that was accepted, and its answer.

        Raises:
            AssertionError: naming the request, the field, and what the schema says.
        """
        what = f"{exchange['method']} {exchange['path']} -> {exchange['status']}"
        operation = self._operation(exchange["method"], exchange["path"])
        if exchange["status"] == 0 or operation is None:
            return
        good = 200 <= exchange["status"] < 300
        if good:
            self._check_request(operation, exchange, what)
        response = operation["responses"]["200" if good else "default"]
        schema = _nullable(response["content"]["application/json"]["schema"])
        self._judge(schema, json.loads(exchange["answer"]), what)

    def check_event(self, event: dict[str, Any]) -> None:
        """Judge a webhook's body: the event itself and the object in it."""
        self._judge({"$ref": "#/components/schemas/event"}, event, event["type"])
        obj = event["data"]["object"]
        self._judge({"$ref": f"#/components/schemas/{obj['object']}"}, obj, f"{event['type']} {obj['id']}")

    def knows_event(self, kind: str) -> bool:
        """Whether webhook endpoints may ask for this type of event."""
        body = self._paths["/v1/webhook_endpoints"]["post"]["requestBody"]["content"]
        schema = body["application/x-www-form-urlencoded"]["schema"]["properties"]["enabled_events"]
        return kind in schema["items"]["enum"]

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        # "/v1/invoices/upcoming"-like fixed addresses come before those with an id in the sorted list's full match.
        for pattern, name in self._patterns:
            if pattern.fullmatch(path) and method.lower() in self._paths[name]:
                operation: dict[str, Any] = self._paths[name][method.lower()]
                return operation
        return None

    def _check_request(self, operation: dict[str, Any], exchange: dict[str, Any], what: str) -> None:
        query = {p["name"]: p for p in operation.get("parameters", []) if p["in"] == "query"}
        sent = _decode(exchange["query"])
        unknown = set(sent) - set(query)
        assert not unknown, f"{what}: query parameters unknown to Stripe: {unknown}"
        for name, value in sent.items():
            schema = self._strict(query[name]["schema"])
            self._judge(schema, _coerced(schema, value), f"{what} ?{name}")
        content = operation.get("requestBody", {}).get("content", {})
        schema = self._strict(content.get("application/x-www-form-urlencoded", {}).get("schema", {"type": "object"}))
        self._judge(schema, _coerced(schema, _decode(exchange["form"])), f"{what} (form)")

    @lru_cache(maxsize=512)  # noqa: B019 - one object per test session
    def _strict_text(self, text: str) -> dict[str, Any]:
        strict: dict[str, Any] = _closed(_nullable(json.loads(text)))
        return strict

    def _strict(self, schema: dict[str, Any]) -> dict[str, Any]:
        return self._strict_text(json.dumps(schema, sort_keys=True))

    def _judge(self, schema: dict[str, Any], value: Any, what: str) -> None:
        validator = Draft202012Validator({**schema, "components": self._components})
        error = best_match(validator.iter_errors(value))
        assert error is None, f"{what}: {_explained(error)}"


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
