"""The request log: every API request with what it asked and how it ended, for people and for tests that count calls."""

from __future__ import annotations

import json
from typing import Any

from .errors import Json
from .world import World

# A 250-line body is some 36 KB; beyond this size only a summary is kept.
MAX_PARAMS_BYTES = 16_000
_COLUMNS = (
    "seq", "id", "at", "method", "path", "endpoint", "params", "idempotency_key", "status", "replayed", "fault",
    "error_code",
)  # fmt: skip


def log_request(
    world: World,
    *,
    request_id: str,
    method: str,
    path: str,
    endpoint: str | None,
    params: Json,
    key: str | None,
    status: int,
    replayed: bool,
    fault: str | None,
    error_code: str | None,
) -> None:
    """Write one line, inside the caller's transaction. `status` 0 means that no answer was sent."""
    text = json.dumps(params, separators=(",", ":"))
    if len(text) > MAX_PARAMS_BYTES:
        text = json.dumps({"_summary": {name: _summary(value) for name, value in params.items()}})
    world.store.execute(
        "INSERT INTO requests (id, at, method, path, endpoint, params, idempotency_key, status, replayed, fault,"
        " error_code) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        request_id, world.clock.now(), method, path, endpoint, text, key, status, int(replayed), fault, error_code,
    )  # fmt: skip


def _summary(value: Any) -> Any:
    return f"{len(value)} items" if isinstance(value, list) else value


def read_log(
    world: World,
    *,
    limit: int,
    after: int,
    endpoint: str | None,
    newest_first: bool,
    before: int | None = None,
) -> list[Json]:
    """Log lines between the sequence numbers `after` and `before`, both exclusive; `endpoint` is a shell pattern."""
    order = "DESC" if newest_first else "ASC"
    found = world.store.rows(
        f"SELECT {', '.join(_COLUMNS)} FROM requests"  # noqa: S608 - the columns are this module's own
        " WHERE seq > ? AND (? IS NULL OR seq < ?) AND (? IS NULL OR endpoint GLOB ?)"
        f" ORDER BY seq {order} LIMIT ?",
        after,
        before,
        before,
        endpoint,
        endpoint,
        limit,
    )
    lines = [dict(zip(_COLUMNS, row, strict=True)) for row in found]
    for line in lines:
        line["params"] = json.loads(line["params"])
        line["replayed"] = bool(line["replayed"])
    return lines


def count_log(world: World) -> dict[str, int]:
    """How many requests each endpoint was sent, whatever came of them."""
    found = world.store.rows("SELECT coalesce(endpoint, '(unknown)'), count(*) FROM requests GROUP BY 1 ORDER BY 1")
    return {str(name): int(number) for name, number in found}


def clear_log(world: World) -> int:
    with world.store.transaction():
        return world.store.execute("DELETE FROM requests")
