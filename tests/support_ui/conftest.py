"""The whole application over real books, and people at desks who use it through its pages alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.accounts.tables import StaffUser
from app.config import Config
from app.factory import create_app
from invoicing.customers import create_customer, customer_id_for
from invoicing.cycles import close_due
from invoicing.drafts import InvoiceView, get_invoice, list_invoices
from invoicing.prices.catalogue import ItemDetails, publish_price
from invoicing.settings import Settings
from invoicing.usage.intake import UsageRecord, post_usage
from ledger.tables import Entry
from support_ui.access import ROLES

PASSWORD = "correct horse battery"
INLINE = frozenset({"span", "strong", "a", "s", "time", "code"})
VOID = frozenset({"meta", "link", "input", "br", "hr", "img"})


def at(text: str) -> datetime:
    """An instant in UTC: "2025-06-03" is its midnight."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class PageForm:
    """One form of a page: where it goes, and what it would send as it stands."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """A page as a browser reads it. Parsing fails on what is not well-formed, inline scripts and inline styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.ids: list[str] = []
        self.forms: list[PageForm] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._textarea: str | None = None
        self._select: str | None = None
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"
        assert len(self.ids) == len(set(self.ids)), "an id twice"
        for form in self.forms:
            assert form.method != "post" or form.fields.get("csrf_token"), f"{form.action} has no CSRF token"

    @property
    def text(self) -> str:
        """What a reader sees, with single spaces."""
        return " ".join("".join(self.words).split())

    def form(self, action: str, **hidden: str) -> PageForm:
        """The form that goes to `action` and whose fields say so."""
        found = [
            form
            for form in self.forms
            if urlsplit(form.action).path == action and hidden.items() <= form.fields.items()
        ]
        assert len(found) == 1, f"{len(found)} forms to {action} with {hidden}"
        return found[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert len(given) == len(attrs), f"<{tag}> has an attribute twice"
        assert "style" not in given, f"<{tag}> has an inline style"
        assert not any(name.startswith("on") for name in given), f"<{tag}> has an inline script"
        assert tag != "script" or given.get("src"), "an inline script"
        if given.get("id"):
            self.ids.append(given["id"])
        if given.get("href"):
            self.links.append(given["href"])
        if tag == "form":
            self.forms.append(PageForm(given.get("method", "get"), given["action"]))
        elif tag == "input" and given.get("type") in ("radio", "checkbox") and "checked" not in given:
            pass  # sent by no browser
        elif tag == "input" and "name" in given and self.forms:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "textarea":
            self._textarea = given["name"]
            self.forms[-1].fields[self._textarea] = ""
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select and ("selected" in given or self._select not in self.forms[-1].fields):
            self.forms[-1].fields[self._select] = given.get("value", "")
        if tag not in INLINE or "under" in given.get("class", ""):
            self.words.append(" ")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()
        if tag not in INLINE:
            self.words.append(" ")
        if tag in ("textarea", "select"):
            self._textarea = self._select = None

    def handle_data(self, data: str) -> None:
        if self._textarea is not None:
            # The line break right after <textarea> is not part of its text.
            self.forms[-1].fields[self._textarea] += data.removeprefix("\n")
        elif "script" not in self.open:
            self.words.append(data)


@dataclass
class Desk:
    """Somebody with a browser. Every answer that is a page is checked."""

    client: FlaskClient

    def get(self, path: str, *, fragment: bool = False) -> TestResponse:
        return checked(self.client.get(path, headers={"HX-Request": "true"} if fragment else None))

    def page(self, path: str) -> Page:
        answer = self.get(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
        return Page(answer.text)

    def send(self, form: PageForm, fragment: bool = False, /, **typed: str) -> TestResponse:
        """Send a form that stands on a page, with some fields typed over."""
        headers = {"HX-Request": "true"} if fragment else None
        return checked(self.client.post(form.action, data={**form.fields, **typed}, headers=headers))

    def submit(self, on: str, action: str, hidden: dict[str, str] | None = None, **typed: str) -> TestResponse:
        """Load a page, fill in one of its forms and send it."""
        return self.send(self.page(on).form(action, **(hidden or {})), False, **typed)

    def follow(self, answer: TestResponse) -> Page:
        """Where an answer leads, as a browser goes on after a form."""
        assert answer.status_code == 303, Page(answer.text).text
        return self.page(answer.headers["Location"])


def checked(answer: TestResponse) -> TestResponse:
    """What holds for every answer: never cached, and well-formed if it is a page."""
    assert answer.headers["Cache-Control"] == "no-store"
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
    if answer.mimetype == "text/html" and answer.status_code not in (301, 302, 303) and answer.text:
        Page(answer.text)
    return answer


@dataclass
class Site:
    """The application, its books, and one desk for each role."""

    app: Flask
    engine: Engine
    settings: Settings

    def desk(self, email: str = "agent@demo.test", password: str = PASSWORD) -> Desk:
        """A new browser in which this user is signed in."""
        desk = self.stranger()
        answer = desk.submit("/support/sign-in", "/support/sign-in", email=email, password=password)
        assert answer.status_code == 303, Page(answer.text).text
        return desk

    def stranger(self) -> Desk:
        """A new browser."""
        return Desk(self.app.test_client())

    def customer(
        self, name: str, *, since: str = "2025-01-01", currency: str = "USD", email: str | None = None
    ) -> UUID:
        with Session(self.engine) as session, session.begin():
            create_customer(
                session,
                external_id=f"org-{name}",
                name=name,
                currency=currency,
                email=email,
                actor="test",
                now=at(since),
            )
        return customer_id_for(f"org-{name}")

    def use(self, name: str, day: str, quantity: str, *, app: str = "web", unit_amount: str = "0.0000022") -> None:
        """Post seconds of a machine."""
        with Session(self.engine) as session, session.begin():
            publish_price(
                session,
                item=ItemDetails("machine", "Machine", "second"),
                currency="USD",
                unit_amount=Decimal(unit_amount),
                valid_from=at("2020-01-01"),
                actor="test",
                now=at(day),
            )
            record = UsageRecord(
                row=1,
                event_id=f"{day} {app} {quantity}",
                customer=f"org-{name}",
                item="machine",
                quantity=Decimal(quantity),
                effective_at=at(day),
                labels={"app": app, "region": "ams"},
            )
            post_usage(session, [record], source="test", actor="test", now=at(day))

    def close(self, day: str) -> None:
        close_due(self.engine, as_of=at(day) + timedelta(hours=12), settings=self.settings)

    def draft(self, name: str = "Northwind", *, quantity: str = "10000000") -> "Draft":
        """A customer with one draft for June 2025 of one line: 22 USD, unless the quantity says otherwise."""
        customer_id = self.customer(name)
        self.use(name, "2025-06-10", quantity)
        self.close("2025-07-01")
        with Session(self.engine) as session:
            [invoice] = list_invoices(session, customer_id=customer_id)
        return Draft(self, customer_id, invoice.id)


@dataclass
class Draft:
    site: Site
    customer_id: UUID
    invoice_id: UUID

    @property
    def url(self) -> str:
        return f"/support/customers/{self.customer_id}/invoices/{self.invoice_id}"

    @property
    def view(self) -> InvoiceView:
        """What the books say."""
        with Session(self.site.engine, expire_on_commit=False) as session:
            return get_invoice(session, customer_id=self.customer_id, invoice_id=self.invoice_id)

    @property
    def entry_id(self) -> UUID:
        """The first entry of the customer's journal."""
        with Session(self.site.engine) as session:
            return session.scalars(
                select(Entry.id).where(Entry.customer_id == self.customer_id).order_by(Entry.seq).limit(1)
            ).one()

    @property
    def line_url(self) -> str:
        return f"{self.url}/lines/{self.view.lines[0].id}"


@pytest.fixture
def config(database_url: str, redis_url: str, tmp_path: Path) -> Config:
    """Settings as a deployment without TLS has them; Stripe's address leads nowhere."""
    return Config(
        database_url=database_url,
        redis_url=redis_url,
        stripe_api_key="sk_test_sandbox_support",
        stripe_api_base="http://127.0.0.1:1",
        stripe_webhook_secrets=("whsec_support",),
        secret_key="x" * 40,
        grace=timedelta(hours=6),
        draft_window=timedelta(hours=24),
        approval_limit=Decimal(100),
        first_invoice_limit=None,
        public_url="http://billing.example.test",
        web_port=0,
        web_port_is_configured=False,
        var=tmp_path,
    )


@pytest.fixture(scope="session")
def password_hash() -> str:
    """One hash for all users of all tests: hashing is slow on purpose."""
    return PasswordHasher().hash(PASSWORD)


@pytest.fixture
def site(config: Config, engine: Engine, password_hash: str) -> Iterator[Site]:
    """The site with one user of each role: viewer@demo.test and so on, all with PASSWORD."""
    app = create_app(config)
    with Session(engine) as session, session.begin():
        for role in ROLES:
            session.add(
                StaffUser(
                    id=uuid4(),
                    email=f"{role}@demo.test",
                    name=f"The {role}",
                    role=role,
                    password_hash=password_hash,
                    active=True,
                    session_epoch=1,
                    created_at=at("2025-01-01"),
                )
            )
    yield Site(app, engine, Settings())
    app.extensions["billing"].dispose()
