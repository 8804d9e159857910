"""The main job: usage over HTTP, usage from a file."""

import csv
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.accounts.tokens import create_token
from app.config import Config
from app.factory import create_app
from invoicing.customers import create_customer
from invoicing.prices.files import seed_prices
from invoicing.usage.files import read_csv, read_lines
from invoicing.usage.importing import import_usage
from tests.benchmarks.rounds import Way
from tests.benchmarks.sizes import FULL, Sizes

EVENTS = 1_000  # a request: the most that the API takes
USED_AT = datetime(2025, 6, 10, tzinfo=UTC)

IMPORT, API = "usage import, CSV", "POST /api/v1/usage, 1,000 events each"


def config(database_url: str, redis_url: str, folder: Path) -> Config:
    return Config(
        database_url=database_url,
        redis_url=redis_url,
        stripe_api_key="sk_test_sandbox_bench",
        stripe_api_base="http://127.0.0.1:1",
        stripe_webhook_secrets=("whsec_bench",),
        secret_key="x" * 40,
        grace=timedelta(hours=6),
        draft_window=timedelta(hours=24),
        approval_limit=Decimal(100),
        first_invoice_limit=None,
        public_url="http://127.0.0.1:8000",
        web_port=8000,
        web_port_is_configured=False,
        var=folder,
    )


class Platform:
    """The platform as a source of usage: its customers, its machines, its ids."""

    def __init__(self, engine: Engine, app: Flask, sizes: Sizes) -> None:
        self.engine, self.client, self.sizes = engine, app.test_client(), sizes
        self.names = [f"bench-{number}" for number in range(sizes.platform_customers)]
        now = datetime(2025, 1, 1, tzinfo=UTC)
        with Session(engine) as session, session.begin():
            token = create_token(session, name="benchmark", now=now)
            seed_prices(session, actor="benchmark", now=now)
            for name in self.names:
                create_customer(session, external_id=name, name=name, currency="USD", actor="benchmark", now=now)
        self.headers = {"Authorization": f"Bearer {token}"}
        self.item = "machine:shared-cpu-1x:256mb"
        self.sent = 0
        self.due: list[int] = []

    def event(self) -> dict[str, str]:
        self.sent += 1
        number = self.sent
        return {
            "id": f"event-{number}",
            "customer": self.names[number * 7919 % len(self.names)],
            "item": self.item,
            "quantity": str(number % 3600 + 1),
            "at": (USED_AT + timedelta(hours=number % 480)).isoformat(),
        }

    def call(self, turn: int) -> int:
        for _ in range(self.sizes.requests):
            events = [self.event() | {"labels": {"app": f"app-{n % 3}", "region": "ams"}} for n in range(EVENTS)]
            answer = self.client.post("/api/v1/usage", json={"events": events}, headers=self.headers)
            assert answer.status_code == 200, answer.text
        return self.sizes.requests * EVENTS

    def load(self, turn: int) -> int:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, [*self.event(), "label.app", "label.region"])
        writer.writeheader()
        for n in range(self.sizes.file_rows):
            writer.writerow(self.event() | {"label.app": f"app-{n % 3}", "label.region": "ams"})
        summary = import_usage(
            self.engine,
            read_csv(read_lines(io.BytesIO(buffer.getvalue().encode()))),
            source="file",
            actor="benchmark",
            now=datetime.now(UTC),
            reject=lambda _: None,
            progress=lambda _: None,
        )
        assert summary.posted == self.sizes.file_rows, summary
        return self.sizes.file_rows


def ways(engine: Engine, database_url: str, redis_url: str, folder: Path, *, sizes: Sizes = FULL) -> list[Way]:
    platform = Platform(engine, create_app(config(database_url, redis_url, folder)), sizes)
    return [
        Way(API, "entries", platform.call),
        Way(IMPORT, "rows", platform.load),
    ]
