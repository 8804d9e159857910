"""The site with real books behind it, a clock that the test sets, and a provider that only remembers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import cast
from uuid import UUID

import pytest
from flask import Flask, g
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.composition import Billing
from app.config import Config
from app.database import PANEL_ROLE, create_engine
from app.factory import create_app
from app.mail import FolderMailer
from app.panel.links import create_link
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.finalization import finalize
from invoicing.prices.catalogue import ItemDetails, ensure_items
from invoicing.providers import Providers
from invoicing.settings import Settings
from invoicing.tables import Invoice
from ledger.entries import NewEntry, digest, entry_id, transaction_id
from ledger.posting import post
from stripe_gateway.gateway import StripeGateway
from tests.fakes.provider import RememberingProvider

VOID_TAGS = {"meta", "link", "input", "br", "hr", "img"}


def at(text: str) -> datetime:
    """An instant in UTC: "2026-11-03" is its midnight."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class PageCheck(HTMLParser):
    """What every page must be: well-formed, a token in each form that posts, no inline script or style, one heading."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings = 0
        self.ids: list[str] = []
        self.missing_tokens = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert "style" not in given, f"<{tag}> has an inline style"
        assert not any(name.startswith("on") for name in given), f"<{tag}> has an inline script"
        assert tag != "script" or given.get("src"), "an inline script"
        if given.get("id"):
            self.ids.append(given["id"] or "")
        self.headings += tag == "h1"
        self.missing_tokens += tag == "form" and given.get("method") == "post"
        self.missing_tokens -= given.get("name") == "csrf_token"
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID_TAGS:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def verdict(self, *, is_whole: bool) -> None:
        assert self.open == []
        assert self.missing_tokens == 0, "a form without its token"
        assert len(self.ids) == len(set(self.ids)), "an id twice"
        assert self.headings == 1 or not is_whole, "one h1 per page"


@dataclass
class PanelProvider(RememberingProvider):
    """Also knows addresses at the provider, or fails to answer."""

    pages: dict[UUID, str] = field(default_factory=dict)
    is_down: bool = False

    def hosted_invoice_url(self, *, customer_id: UUID, invoice_id: UUID) -> str | None:
        if self.is_down:
            raise ConnectionError("no answer")
        return self.pages.get(invoice_id)

    def portal_url(self, *, customer_id: UUID, return_url: str) -> str:
        if self.is_down:
            raise ConnectionError("no answer")
        return f"https://provider.test/portal/{customer_id}?back={return_url}"


@dataclass
class Site:
    """The books, the clock, and a browser."""

    engine: Engine
    now: datetime
    provider: PanelProvider
    app: Flask
    client: FlaskClient

    def customer(
        self, name: str, *, time_zone: str = "UTC", since: str = "2026-01-01", method: str = "automatic"
    ) -> UUID:
        with Session(self.engine) as session, session.begin():
            create_customer(
                session,
                external_id=name,
                name=name,
                currency="USD",
                time_zone=time_zone,
                collection_method=method,
                actor="test",
                now=at(since),
            )
        return customer_id_for(name)

    def use(
        self,
        name: str,
        when: str,
        amount: str,
        *,
        item: str = "machine",
        app: str | None = None,
        region: str | None = None,
        quantity: str = "1",
        unit: str = "",
    ) -> None:
        """Post one rated entry of usage."""
        value = Decimal(amount)
        transaction = transaction_id("test", f"{name} {when} {item} {app} {region} {amount}")
        sides = ("assets:unbilled", "income:usage") if value >= 0 else ("income:usage", "assets:unbilled")
        labels = {key: label for key, label in (("app", app), ("region", region)) if label}
        entry = NewEntry(
            customer_id=customer_id_for(name),
            id=entry_id(transaction, "usage"),
            transaction_id=transaction,
            debit_account=sides[0],
            credit_account=sides[1],
            amount=abs(value),
            quantity=Decimal(quantity),
            effective_at=at(when),
            kind="usage",
            actor="test",
            digest=digest({"amount": value}),
            item=item,
            labels=labels,
        )
        with Session(self.engine) as session, session.begin():
            ensure_items(session, [ItemDetails(item, item.capitalize(), unit)], now=at(when))
            post(session, [entry], now=at(when))

    def close(self, day: str) -> None:
        close_due(self.engine, as_of=at(day) + timedelta(hours=12), settings=Settings())

    def invoice_id(self, name: str, month: str) -> UUID:
        with Session(self.engine) as session:
            return session.scalars(
                select(Invoice.id).where(
                    Invoice.customer_id == customer_id_for(name), Invoice.period_start == at(f"{month}-01")
                )
            ).one()

    def finalize(self, name: str, month: str, *, on: str) -> UUID:
        invoice_id = self.invoice_id(name, month)
        with Session(self.engine) as session, session.begin():
            finalize(
                session,
                customer_id=customer_id_for(name),
                invoice_id=invoice_id,
                provider=self.provider,
                actor="test",
                now=at(on),
            )
        return invoice_id

    def token(self, name: str, *, return_url: str | None = None) -> str:
        with Session(self.engine) as session, session.begin():
            return create_link(session, customer_id=customer_id_for(name), return_url=return_url, now=self.now)

    def open(self, name: str, *, return_url: str | None = None) -> FlaskClient:
        """A browser of its own in which this customer's panel is open."""
        self.client = self.app.test_client()
        answer = self.submit(f"/billing/open/{self.token(name, return_url=return_url)}")
        assert answer.status_code == 303
        return self.client

    def submit(self, path: str, *, form_on: str | None = None) -> TestResponse:
        """Post the form to `path` as a browser does, with the token from the page that it stands on."""
        page = self.client.get(form_on or path).get_data(as_text=True)
        found = re.search(r'name="csrf_token" value="([^"]+)"', page)
        assert found, "no form on that page"
        return self.client.post(path, data={"csrf_token": found.group(1)})

    def get(self, path: str, *, status: int = 200) -> str:
        """A page, checked."""
        answer = self.client.get(path)
        text = answer.get_data(as_text=True)
        assert answer.status_code == status, f"{path}: {answer.status_code}\n{text}"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        if answer.mimetype == "text/html" and text:
            check = PageCheck()
            check.feed(text)
            check.verdict(is_whole="<html" in text)
        return text

    def text(self, path: str, *, status: int = 200) -> str:
        """A page's words, as they read."""
        words = re.sub(r"<[^>]+>", " ", re.sub(r"<title>.*?</title>", " ", self.get(path, status=status)))
        return re.sub(r"\s+", " ", words).strip()


@pytest.fixture
def site(engine: Engine, database_url: str, redis_url: str) -> Iterator[Site]:
    """The whole site as it is served, but for the provider and the clock."""
    config = Config.from_env({
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "STRIPE_API_KEY": "sk_test_sandbox_panel",
        "STRIPE_API_BASE": "http://127.0.0.1:9",
        "STRIPE_WEBHOOK_SECRET": "whsec_panel",
        "SECRET_KEY": "a secret for tests only, long enough for it",
        "BILLING_PUBLIC_URL": "http://billing.test",
    })  # fmt: skip
    provider = PanelProvider()
    panel_engine = create_engine(database_url, role=PANEL_ROLE)
    mailer = FolderMailer(config.var / "mail", sender=config.mail_from)
    billing = Billing(
        config,
        engine,
        cast(StripeGateway, provider),
        Settings(),
        panel_engine,
        cast(Providers, provider),
        mailer,
    )
    flask = create_app(config, billing=billing)
    flask.testing = True
    site = Site(engine, at("2026-11-16T00:00"), provider, flask, flask.test_client())

    @flask.before_request
    def set_the_clock() -> None:
        g.now = site.now

    yield site
    panel_engine.dispose()
