"""Idempotency keys: the first result of a POST is the result of every repetition, for 24 hours.

Source: https://docs.stripe.com/api/idempotent_requests and https://docs.stripe.com/error-low-level.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from .errors import ApiError, Json, in_use
from .world import World

KEPT_S = 24 * 3600  # of the sandbox's clock; afterwards the same key is a new request
MAX_KEY_LENGTH = 255


@dataclass(frozen=True)
class Result:
    """A stored answer: its status and its exact body."""

    status: int
    body: bytes
    request_id: str


class Keys:
    """The keys of one account. Every method needs the store's lock."""

    def __init__(self, world: World) -> None:
        self._world = world
        # In memory on purpose: a killed process executes nothing any more, so nothing is in flight after a restart.
        self._in_flight: set[str] = set()

    def begin(self, key: str, *, endpoint: str, digest: str) -> Result | None:
        """The stored result to replay; or None, and the key is in flight until `end`.

        Raises:
            ApiError: 400 when the key was used for another request, 409 while its first request still runs.
        """
        if len(key) > MAX_KEY_LENGTH:
            raise ApiError(
                400,
                f"Idempotency keys can be at most {MAX_KEY_LENGTH} characters long.",
                kind="idempotency_error",
                stored=False,
            )
        if key in self._in_flight:
            raise in_use()
        found = self._world.store.rows(
            "SELECT endpoint, digest, status, body, request_id FROM idempotency WHERE key = ? AND created > ?",
            key,
            self._world.clock.now() - KEPT_S,
        )
        if not found:
            self._in_flight.add(key)
            return None
        first_endpoint, first_digest, status, body, request_id = found[0]
        if first_endpoint != endpoint:
            raise _mismatch(
                f"Keys for idempotent requests can only be used for the same endpoint they were first used "
                f"for ('{first_endpoint}' vs '{endpoint}'). Try using a key other than '{key}' if you meant "
                "to execute a different request."
            )
        if first_digest != digest:
            raise _mismatch(
                f"Keys for idempotent requests can only be used with the same parameters they were first "
                f"used with. Try using a key other than '{key}' if you meant to execute a different request."
            )
        return Result(status, bytes(body), request_id)

    def keep(self, key: str, *, endpoint: str, digest: str, result: Result) -> None:
        """Store the first result, in the transaction of the work itself."""
        self._world.store.execute(
            "INSERT OR REPLACE INTO idempotency (key, endpoint, digest, status, body, request_id, created)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            key, endpoint, digest, result.status, result.body, result.request_id, self._world.clock.now(),
        )  # fmt: skip

    def end(self, key: str) -> None:
        """The request with this key has come to its end, whatever that was."""
        self._in_flight.discard(key)

    def prune(self) -> int:
        """Forget results older than 24 hours; returns how many."""
        return self._world.store.execute("DELETE FROM idempotency WHERE created <= ?", self._world.clock.now() - KEPT_S)


def _mismatch(message: str) -> ApiError:
    return ApiError(400, message, kind="idempotency_error", stored=False)


def digest_of(params: Json) -> str:
    """A fingerprint of raw parameters; the order in which they were sent does not matter."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()
