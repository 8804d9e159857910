"""The line to Stripe: which subject a request was about, and how long requests take of late."""

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import stripe

WEIGHT = 0.1  # of the newest request in the averages


class Line(stripe.RequestsClient):
    """The SDK's HTTP client, which remembers for each thread what its last request was about."""

    def __init__(self, *, timeout: tuple[float, float]) -> None:
        super().__init__(timeout=timeout)
        self._last = threading.local()

    @property
    def subject(self) -> str:
        """What this thread's last request was about."""
        return str(getattr(self._last, "subject", "nothing"))

    def request(  # type: ignore[override]  # the SDK's own client narrows it in the same way
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        self._last.subject = subject_of(url, headers or {}, post_data)
        return super().request(method, url, headers, post_data)


def subject_of(url: str, headers: Mapping[str, str], post_data: Any) -> str:
    """The invoice or customer that a request is about: by our key, by the customer it names, else by its address.

    Several requests for one thing have one subject, so that the trouble of one customer does not look like many.
    """
    key = next((value for name, value in headers.items() if name.lower() == "idempotency-key"), "")
    if key.count(":") >= 2:
        return ":".join(key.split(":")[:2])
    parts = urlsplit(url)
    for form in (parts.query, post_data if isinstance(post_data, str) else ""):
        named = parse_qs(form).get("customer")
        if named:
            return named[0]
    return parts.path


class Traffic:
    """How long this process's calls take of late, and wait for their turn: moving averages, in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.took_s = 0.0
        self.waited_s = 0.0

    def count(self, *, waited_s: float, took_s: float) -> None:
        """A call is over."""
        with self._lock:
            weight = max(WEIGHT, 1 / (self.calls + 1))  # the first ones are averaged evenly
            self.calls += 1
            self.took_s += weight * (took_s - self.took_s)
            self.waited_s += weight * (waited_s - self.waited_s)
