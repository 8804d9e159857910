"""Plain requests and answers, between the HTTP server and everything behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request, read to its end. Header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """One answer; `cut` says how the connection is to be mistreated instead of sending it whole."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    cut: str | None = None  # "reset", "fin": nothing is sent; "truncate": the body breaks off in the middle


def json_answer(status: int, body: Any, **headers: str) -> Answer:
    return Answer(status, json.dumps(body, separators=(",", ":")).encode(), headers)
