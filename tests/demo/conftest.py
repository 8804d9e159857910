"""The demo's surroundings: an empty database, and a sandbox of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config import Config
from tests.processes.sandbox import WEBHOOK_SECRET, SandboxProcess

KEY = "sk_test_sandbox_demo"


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    process = SandboxProcess(tmp_path, api_key=KEY).start(limits=True)
    yield process
    process.stop()


@pytest.fixture
def config(database_url: str, redis_url: str, sandbox: SandboxProcess, tmp_path: Path) -> Config:
    return Config.from_env({
        "BILLING_VAR": str(tmp_path / "var"),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": KEY,
        "STRIPE_API_BASE": sandbox.url,
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "SECRET_KEY": "a secret for tests only, long enough for it",
    })  # fmt: skip
