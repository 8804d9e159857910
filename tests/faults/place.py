"""Where a flow runs: a database, a Redis, a sandbox. Places are cheap copies of a prepared one."""

import faulthandler
import hashlib
import hmac
import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app.composition import Billing, build
from app.config import Config
from app.embedded.state import SANDBOX_KEY_PREFIX

API_KEY = f"{SANDBOX_KEY_PREFIX}faults"
WEBHOOK_SECRET = "whsec_faults"
HANGS_AFTER_S = 200
"""Then a process writes down where it stands; soon after it is ended."""
ACCOUNT_WIDE = 100  # objects listed at once


@dataclass(frozen=True, slots=True)
class Place:
    """The addresses that a process is given. `folder` has the sandbox's file and everybody's logs."""

    database_url: str
    redis_url: str
    stripe_url: str
    folder: str

    @property
    def environment(self) -> dict[str, str]:
        """What a process of ours is told here."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "STRIPE_API_KEY": API_KEY,
            "STRIPE_API_BASE": self.stripe_url,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "SECRET_KEY": "a secret of the tests, long enough to be one",
            "BILLING_VAR": str(Path(self.folder) / "var"),
            "BILLING_AUTOSTART": "0",
        }

    @property
    def billing(self) -> Billing:
        """The product, joined as its own processes join it, once in this process."""
        return _joined(self)

    def stripe(self) -> "StripeSide":
        return StripeSide(self.stripe_url)


@cache
def _joined(place: Place) -> Billing:
    return build(Config.from_env(place.environment))


class StripeSide:
    """The sandbox as Stripe itself and the customers know it. Speaks without the libraries that the product uses."""

    def __init__(self, url: str) -> None:
        self._url = url

    def each(self, kind: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every object of a kind, such as "invoices", the newest first."""
        asked = {"limit": ACCOUNT_WIDE, **query}
        while True:
            page = self._call("GET", f"/v1/{kind}?{urlencode(asked)}")
            yield from page["data"]
            if not page["has_more"] or not page["data"]:
                return
            asked["starting_after"] = page["data"][-1]["id"]

    def do(self, path: str, **form: Any) -> dict[str, Any]:
        """POST to Stripe's API, as somebody else than us: a customer, or a person in the Dashboard."""
        return self._call("POST", f"/v1/{path}", urlencode(form).encode())

    def control(self, path: str, **body: Any) -> dict[str, Any]:
        """POST to the sandbox's control plane."""
        return self._call("POST", f"/_sim/{path}", json.dumps(body).encode())

    def look(self, path: str) -> dict[str, Any]:
        """GET from the sandbox's control plane."""
        return self._call("GET", f"/_sim/{path}")

    def events(self) -> list[dict[str, Any]]:
        """Every event so far, the oldest first, those of one second in an order that every run gives them."""
        found = list(self.each("events"))
        return sorted(
            found, key=lambda event: (event["created"], event["type"], event["data"]["object"].get("number") or "")
        )

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        request = urllib.request.Request(self._url + path, data=body, method=method)  # noqa: S310 - loopback
        request.add_header("Authorization", f"Bearer {API_KEY}")
        if path.startswith("/_sim/"):
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
            found: dict[str, Any] = json.load(answer)
        return found


def signed(event: dict[str, Any], *, now: datetime) -> tuple[bytes, str]:
    """An event's body and the signature that Stripe sends with it.

    Source: https://docs.stripe.com/webhooks#verify-manually
    """
    body = json.dumps(event).encode()
    stamp = int(now.timestamp())
    digest = hmac.new(WEBHOOK_SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return body, f"t={stamp},v1={digest}"


def quieten(folder: str, name: str) -> None:
    """Send this process's words to a file of its own, in the place's folder."""
    log = os.open(Path(folder) / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    faulthandler.dump_traceback_later(HANGS_AFTER_S)
