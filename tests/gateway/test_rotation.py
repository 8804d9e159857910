"""The webhook's secret is rolled under a stream of deliveries: none is refused, and the old one ends on time."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import requests
from sqlalchemy import Engine

from app.composition import Billing, build
from app.config import Config
from app.factory import create_app
from tests.gateway.conftest import Town, make_town
from tests.gateway.test_background import environment
from tests.gateway.test_webhooks import event, signed
from tests.processes.sandbox import WEBHOOK_SECRET, SandboxProcess, _free_port
from tests.serving import served

NEW_SECRET = "whsec_new_one"
EACH = 12  # deliveries in each phase


@dataclass
class Door:
    """The site behind an address that stays, as a proxy keeps it while one process after the other is restarted."""

    env: dict[str, str]
    port: int
    served: Any = None
    built: list[Billing] = field(default_factory=list)

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Any:
        return self.served(environ, start)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/webhooks/stripe"

    def restart_with(self, secrets: str) -> None:
        """Serve with this STRIPE_WEBHOOK_SECRET from the next request on; requests under way end as they began."""
        config = Config.from_env({**self.env, "STRIPE_WEBHOOK_SECRET": secrets})
        billing = build(config)
        self.built.append(billing)
        self.served = create_app(config, billing=billing)

    def status_of(self, secret: str, event_id: str) -> int:
        body = event("invoice.paid", {"id": "in_1"}, id=event_id)
        answer = requests.post(
            self.url, data=body, headers={"Stripe-Signature": signed(body, secret=secret)}, timeout=20
        )
        return answer.status_code


@dataclass
class Site:
    town: Town
    door: Door

    def stream(self, name: str, count: int) -> threading.Thread:
        """Something happens at Stripe, again and again, and each time it tells us."""

        def happen() -> None:
            for number in range(count):
                self.town.gateway.client.create_customer({"name": name}, key=f"{name}-{number}")

        thread = threading.Thread(target=happen)
        thread.start()
        return thread


@pytest.fixture
def site(engine: Engine, database_url: str, redis_url: str, sandbox: SandboxProcess, tmp_path: Path) -> Iterator[Site]:
    port = _free_port()
    sandbox.start(webhook_url=f"http://127.0.0.1:{port}/webhooks/stripe")
    town = make_town(engine, sandbox)
    door = Door(environment(town, database_url, redis_url, tmp_path), port)
    door.restart_with(WEBHOOK_SECRET)
    with served(door, port):
        yield Site(town, door)
    for billing in door.built:
        billing.dispose()


def rotate(site: Site, *, each: int) -> None:
    """The steps of the runbook, each in the middle of a stream; then what a stolen old secret is worth."""
    sandbox, door = site.town.sandbox, site.door
    steps: list[Callable[[], object]] = [
        lambda: sandbox.post("secrets/roll", secret=NEW_SECRET, keep_old_s=86_400),
        lambda: door.restart_with(f"{NEW_SECRET}, {WEBHOOK_SECRET}"),
        lambda: None,
    ]
    for number, step in enumerate(steps):
        thread = site.stream(f"phase-{number}", each)
        step()
        thread.join()
    sandbox.wait_for_webhooks(timeout_s=120)
    assert door.status_of(WEBHOOK_SECRET, "evt_old_within") == 200, "the old one still counts within the window"
    door.restart_with(NEW_SECRET)
    site.stream("after", each).join()
    sandbox.wait_for_webhooks(timeout_s=120)

    deliveries = sandbox.get("webhooks", limit=100_000)["deliveries"]
    assert len(deliveries) == 4 * each
    # A refused delivery would have been tried again.
    assert {(one["state"], one["attempts"], one["last_status"]) for one in deliveries} == {("delivered", 1, 200)}
    assert door.status_of(WEBHOOK_SECRET, "evt_old_after") == 400
    assert door.status_of(NEW_SECRET, "evt_new") == 200
    stored = {one.id for one in site.town.events()}
    assert stored >= {one["event_id"] for one in deliveries} | {"evt_old_within", "evt_new"}
    assert "evt_old_after" not in stored


def test_no_delivery_is_refused_while_the_secret_is_rolled_and_the_old_one_ends(site: Site) -> None:
    rotate(site, each=EACH)


@pytest.mark.soak
def test_a_thousand_deliveries_pass_while_the_secret_is_rolled(site: Site) -> None:
    rotate(site, each=300)


def test_a_process_that_knows_only_the_old_secret_goes_on_within_the_window_and_not_after(site: Site) -> None:
    """Whoever forgets to restart one of several processes loses nothing for a day: Stripe signs with both secrets."""
    sandbox = site.town.sandbox
    sandbox.post("secrets/roll", secret=NEW_SECRET, keep_old_s=86_400)
    site.stream("within", 3).join()
    sandbox.wait_for_webhooks()
    assert {one["attempts"] for one in sandbox.get("webhooks")["deliveries"]} == {1}
    sandbox.post("secrets/roll", secret="whsec_newest", keep_old_s=0)
    assert site.door.status_of("whsec_newest", "evt_newest") == 400
