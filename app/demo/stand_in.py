"""The demo's hand at the sandbox: what a bank, a stranger and time do there, told over plain HTTP."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from app.config import Config

PATIENCE_S = 5.0
"""How long one answer may take. The sandbox answers in milliseconds."""


class SandboxSilent(Exception):
    """The sandbox did not answer in time, or refused. The demo goes on without what was asked."""

    code = "sandbox_silent"


class StandIn:
    """The sandbox of this configuration; `seed_if_empty` has made sure that it is one."""

    def __init__(self, config: Config) -> None:
        self._base = config.stripe_api_base or ""
        self._key = config.stripe_api_key

    def steer(self, path: str, **body: Any) -> dict[str, Any]:
        """POST to the control plane, such as `disputes/dp_1`.

        Raises:
            SandboxSilent: no answer in time, or a refusal.
        """
        return self._ask(f"/_sim/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})

    def newest(self, kind: str) -> list[dict[str, Any]]:
        """The hundred newest objects of a kind, such as `payouts`.

        Raises:
            SandboxSilent: no answer in time, or a refusal.
        """
        found: list[dict[str, Any]] = self._ask(f"/v1/{kind}?limit=100", None, self._signed())["data"]
        return found

    def write(self, path: str, *, key: str, **fields: Any) -> dict[str, Any]:
        """POST as somebody with the account's key would; `key` makes a repetition answer the first time's result.

        Raises:
            SandboxSilent: no answer in time, or a refusal.
        """
        form = {"Content-Type": "application/x-www-form-urlencoded", "Idempotency-Key": key}
        return self._ask(f"/v1/{path}", urlencode(fields).encode(), self._signed() | form)

    def _signed(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    def _ask(self, path: str, body: bytes | None, headers: dict[str, str]) -> dict[str, Any]:
        # Plain HTTP to the one host that it was told; no answer can send it to a file or to somebody else.
        connection = HTTPConnection(urlsplit(self._base).netloc, timeout=PATIENCE_S)
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise SandboxSilent(f"{path}: {answer.status} {text[:500].decode(errors='replace')}")
            found: dict[str, Any] = json.loads(text)
            return found
        except (HTTPException, OSError, ValueError) as error:
            raise SandboxSilent(f"{path}: {error}") from error
        finally:
            connection.close()
