"""Who asks, and by which scheme, only the proxy says that ends TLS; limits on sign-in tries go by it."""

from dataclasses import replace

import pytest
from flask import Flask, request, request_started
from werkzeug.test import Client

from app.config import Config
from app.factory import behind_proxy

FORWARDED = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9", "X-Forwarded-Proto": "https"}
"""The last address is what the one proxy saw; what stands before it anybody can send."""


@pytest.mark.parametrize(
    ("public_url", "seen"),
    [
        ("https://billing.example.test", ("203.0.113.9", "https")),
        ("http://127.0.0.1:8000", ("127.0.0.1", "http")),
    ],
    ids=["behind a proxy", "without one"],
)
def test_only_the_one_proxy_is_believed(app: Flask, config: Config, public_url: str, seen: tuple[str, str]) -> None:
    asked: list[tuple[str | None, str]] = []

    def look(_sender: Flask, **_: object) -> None:
        asked.append((request.remote_addr, request.scheme))

    served = Client(behind_proxy(app, replace(config, public_url=public_url)))
    with request_started.connected_to(look, app):
        assert served.get("/healthz", headers=FORWARDED, environ_base={"REMOTE_ADDR": "127.0.0.1"}).status_code == 200
    assert asked == [seen]
