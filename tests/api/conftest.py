"""What the API's tests share: the whole application over a database of its own, and a client with a token."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.accounts.tokens import create_token
from app.config import Config
from app.factory import create_app
from invoicing.prices.files import seed_prices
from tests.usage.conftest import NOW


@pytest.fixture
def config(database_url: str, redis_url: str, tmp_path: Path) -> Config:
    """Settings as a deployment has them; Stripe's address leads nowhere."""
    return Config(
        database_url=database_url,
        redis_url=redis_url,
        stripe_api_key="sk_test_sandbox_api",
        stripe_api_base="http://127.0.0.1:1",
        stripe_webhook_secrets=("whsec_api",),
        secret_key="x" * 40,
        grace=timedelta(hours=6),
        draft_window=timedelta(hours=24),
        approval_limit=Decimal(100),
        first_invoice_limit=None,
        public_url="https://billing.example.test",
        web_port=0,
        web_port_is_configured=False,
        var=tmp_path,
    )


@pytest.fixture
def app(config: Config) -> Iterator[Flask]:
    """The application."""
    app = create_app(config)
    yield app
    app.extensions["billing"].dispose()


class Api:
    """A program with a token."""

    def __init__(self, app: Flask, token: str) -> None:
        self.client = app.test_client()
        self.headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **query: str) -> TestResponse:
        return self.client.get(f"/api/v1{path}", query_string=query, headers=self.headers)

    def post(self, path: str, body: Any = None, *, raw: bytes | str | None = None) -> TestResponse:
        """Send `body` as JSON, or `raw` as it stands under that name."""
        data = json.dumps(body) if raw is None else raw
        return self.client.post(f"/api/v1{path}", data=data, content_type="application/json", headers=self.headers)

    def make_customer(self, external_id: str = "acme", **details: Any) -> str:
        """A customer's id, in USD unless the details say otherwise."""
        answer = self.post("/customers", {"external_id": external_id, "name": "Acme", "currency": "USD", **details})
        assert answer.status_code == 201, answer.text
        return str(answer.get_json()["id"])


@pytest.fixture
def api(app: Flask, engine: Engine) -> Api:
    """A program with a valid token, and the price list published."""
    with Session(engine) as session, session.begin():
        token = create_token(session, name="platform", now=NOW)
        seed_prices(session, actor="test", now=NOW)
    return Api(app, token)
