"""Two customers with some of everything that the panel shows, and a raw connection in the panel's role."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.panel.links import begin_session, claim_link, create_link
from invoicing.adjustments import add_charge
from invoicing.credit.grants import grant_credit
from invoicing.credit.refills import set_refill
from invoicing.delayed_payments import note_debit
from invoicing.early_bills import bill_now
from invoicing.movements.disputes import record_dispute
from invoicing.movements.requests import request_movement
from invoicing.payments import record_payment, record_payment_failure
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.prices.agreements import agree_price_list, give_discount
from invoicing.prices.changes import load_content
from invoicing.prices.endings import end_discount, end_own_price, own_prices_of
from invoicing.prices.files import fly_document, parse_document, read_prices
from invoicing.settings import Settings
from invoicing.subscriptions import subscribe
from ledger.accounts import CREDITS_GOODWILL
from tests.integration.ledger.books import plain_url
from tests.invoicing.taxed import load, profile, rates_file
from tests.panel.conftest import Site, at


@dataclass
class Panel:
    """Two customers with some of everything, and a raw connection in the panel's role."""

    connection: psycopg.Connection
    owner: psycopg.Connection
    engine: Engine
    acme: UUID
    other: UUID
    key: str
    others_key: str

    def present(self, key: str) -> None:
        self.connection.execute("SELECT set_config('billing.panel_session', %s, false)", [key])

    def seen(self, table: str, *, connection: psycopg.Connection | None = None) -> set[UUID]:
        query = sql.SQL("SELECT DISTINCT customer_id FROM {}").format(sql.Identifier(table))
        return {row[0] for row in (connection or self.connection).execute(query)}

    def tables(self) -> list[str]:
        """Every table and view of the schema that the panel's role may read, in any column."""
        return [
            row[0]
            for row in self.owner.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN "
                "('r', 'v', 'm', 'p', 'f') AND has_any_column_privilege('billing_panel', oid, 'SELECT') ORDER BY 1"
            )
        ]

    def columns(self, table: str) -> list[str]:
        query = (
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped "
            "AND has_column_privilege('billing_panel', attrelid, attnum, 'SELECT') ORDER BY attnum"
        )
        return [row[0] for row in self.owner.execute(query, [table])]


def some_of_everything(site: Site, name: str) -> UUID:
    """A paid, taxed, credited, refunded, disputed and failed invoice, an adjusted draft, and usage of this period."""
    customer_id = site.customer(name)
    load(site.engine, rates_file(("AT", "VAT", "10")))
    profile(site.engine, name, "AT", now=at("2026-01-02"))
    for month, day in (("2026-09", "2026-10-01"), ("2026-10", "2026-11-01")):
        site.use(name, f"{month}-05", "40", app=f"{name}-app")
        site.close(day)
    site.use(name, "2026-11-05", "7", app=f"{name}-app")
    with Session(site.engine) as session, session.begin():
        grant_credit(
            session,
            customer_id=customer_id,
            grant_id=uuid4(),
            account=CREDITS_GOODWILL,
            amount=Decimal(2),
            reason="agreed",
            actor="test",
            now=at("2026-10-01"),
        )
    paid = site.finalize(name, "2026-09", on="2026-10-02")
    with Session(site.engine) as session, session.begin():
        record_payment(
            session,
            customer_id=customer_id,
            invoice_id=paid,
            provider="stripe",
            external_id=f"pi_{name}",
            amount=Decimal(42),
            received_at=site.now,
            actor="test",
            now=site.now,
        )
        record_payment_failure(
            session,
            customer_id=customer_id,
            invoice_id=paid,
            provider="stripe",
            external_id=f"ch_{name}",
            attempt=1,
            code="card_declined",
            message="declined",
            failed_at=site.now,
            next_attempt_at=None,
        )
        note_debit(
            session,
            customer_id=customer_id,
            invoice_id=paid,
            provider="stripe",
            external_id=f"pi_{name}",
            amount=Decimal(42),
            method="sepa_debit",
            state="paid",
            began_at=site.now,
            actor="test",
            now=site.now,
        )
        add_charge(
            session,
            customer_id=customer_id,
            invoice_id=site.invoice_id(name, "2026-10"),
            expected_version=1,
            amount=Decimal(5),
            description="setup",
            reason="agreed",
            actor="test",
            settings=Settings(),
            now=site.now,
        )
        request_movement(
            session,
            customer_id=customer_id,
            invoice_id=paid,
            movement_id=uuid4(),
            kind="credit_note",
            amount=Decimal(3),
            options={"paid_part": "refund"},
            reason="agreed",
            actor="test",
            provider=site.provider,
            settings=Settings(),
            now=site.now,
        )
        record_dispute(
            session,
            customer_id=customer_id,
            provider="stripe",
            external_id=f"dp_{name}",
            invoice_id=paid,
            payment_external_id=f"pi_{name}",
            amount=Decimal(4),
            currency="USD",
            reason="fraudulent",
            status="needs_response",
            evidence_due_at=None,
            opened_at=site.now,
            actor="test",
            now=site.now,
        )
        agreed_prices(session, customer_id, name, now=site.now)
        plan_and_early_bill(session, customer_id, site)
    return customer_id


def plan_and_early_bill(session: Session, customer_id: UUID, site: Site) -> None:
    """A plan, a rule that buys credit, and a period that was billed before its end."""
    who: dict[str, Any] = {"actor": "test", "now": site.now}
    publish_plans(session, plans_from_file(fly_document()), **who)
    subscribe(session, customer_id=customer_id, plan="launch", reason="agreed", **who)
    set_refill(
        session, customer_id=customer_id, threshold=Decimal(5), amount=Decimal(20), provider=site.provider, **who
    )
    bill_now(session, customer_id=customer_id, cause="early", reason="agreed", settings=Settings(), **who)


def agreed_prices(session: Session, customer_id: UUID, name: str, *, now: datetime) -> None:
    """A price of the customer's own with tiers, a list that is agreed with nobody else, a discount; two of them end."""
    document = f"""
        currency = "USD"
        valid_from = 2020-01-01T00:00:00Z
        [[lists]]
        code = "{name}-list"
        [[items]]
        code = "secret:{name}"
        [[items.prices]]
        unit_amount = 1
        [[items.prices]]
        customer = "{name}"
        model = "volume"
        tiers = [{{ first = 0, unit_amount = 0.5 }}]
        [[items.prices]]
        price_list = "{name}-list"
        unit_amount = 0.75
    """
    content = read_prices(parse_document(document.encode()))
    load_content(session, content=content, title="prices", publish=True, actor="test", now=now)
    agreed: dict[str, Any] = {"reason": "agreed", "actor": "test", "now": now, "valid_from": now + timedelta(days=1)}
    agree_price_list(session, customer_id=customer_id, price_list=f"{name}-list", **agreed)
    discount = give_discount(session, customer_id=customer_id, percent=Decimal(5), valid_until=None, **agreed)
    (own,) = own_prices_of(session, customer_id=customer_id)
    ended: dict[str, Any] = {"ends_at": now + timedelta(days=90), "reason": "agreed", "actor": "test", "now": now}
    end_discount(session, customer_id=customer_id, discount_id=discount.id, **ended)
    end_own_price(session, customer_id=customer_id, price_id=own.id, **ended)


def session_key(site: Site, customer_id: UUID) -> str:
    with Session(site.engine) as session, session.begin():
        token = create_link(session, customer_id=customer_id, return_url=None, now=site.now)
        return begin_session(session, claim_link(session, token=token, now=site.now))


@contextlib.contextmanager
def open_panel(site: Site, database_url: str) -> Iterator[Panel]:
    """A panel over acme and another customer, both with some of everything and a session."""
    acme, other = some_of_everything(site, "acme"), some_of_everything(site, "other")
    keys = session_key(site, acme), session_key(site, other)
    url = plain_url(database_url)
    with (
        psycopg.connect(url, autocommit=True, options="-c role=billing_panel") as connection,
        psycopg.connect(url, autocommit=True) as owner,
    ):
        yield Panel(connection, owner, site.app.extensions["billing"].panel_engine, acme, other, *keys)
