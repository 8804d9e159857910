"""Hosts whose clocks are ten minutes off: whoever posts, charges, closes and finalizes, the invoices are the same."""

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from app.database import create_engine
from invoicing.customers import customer_id_for
from invoicing.drafts import lines_of
from invoicing.plans.catalogue import plans_from_file, publish_plans
from invoicing.settings import Settings
from invoicing.subscriptions import subscribe
from invoicing.tables import Invoice
from invoicing.usage.intake import UsageRecord, post_usage
from tests.fakes.provider import RememberingProvider
from tests.invoicing.conftest import Company, at
from tests.processes.services import Databases

RIGHT, APART = (0,), (-10, 10)
"""Minutes by which the clocks of the hosts differ from the world's; each does every so-manieth thing."""

FEE = {"currency": "USD", "interval": "month", "included_usage": 5}
PLANS = {
    "plans": [
        {"code": "ahead", "name": "Ahead", "fee": 29, "timing": "advance", **FEE},
        {"code": "behind", "name": "Behind", "fee": 31, "timing": "arrears", **FEE},
    ]
}
WHO = {"acme": ("ahead", "UTC", 1), "bert": ("behind", "Asia/Kolkata", 1), "cora": ("ahead", "America/St_Johns", 31)}
"""Plan, time zone and anchor day."""
BEGINS, HALF_HOURS = at("2025-06-29T22:00"), 130
"""Past the end of everybody's June, the hours of grace and the day of review: each edge is met to the minute."""


def moments() -> Iterator[tuple[int, datetime]]:
    """When cron comes by."""
    return enumerate(BEGINS + timedelta(minutes=30) * step for step in range(HALF_HOURS))


def live(engine: Engine, clocks: Sequence[int]) -> Company:
    """Three days of three customers. Usage that is late is so by more than the clocks are apart."""
    company = Company(engine, RememberingProvider(), Settings())
    hosts = itertools.cycle(timedelta(minutes=minutes) for minutes in clocks)
    with Session(engine) as session, session.begin():
        publish_plans(session, plans_from_file(PLANS), actor="test", now=at("2025-01-01"))
    for name, (plan, time_zone, anchor_day) in WHO.items():
        company.customer(name, time_zone=time_zone, anchor_day=anchor_day)
        with Session(engine) as session, session.begin():
            subscribe(
                session, customer_id=customer_id_for(name), plan=plan, reason="Wanted", actor="test",
                now=at("2025-06-01") + timedelta(hours=1),
            )  # fmt: skip
    for number, moment in moments():
        for name in WHO if number % 4 == 0 else ():
            record = UsageRecord(
                row=1, event_id=f"{name} {number}", customer=name, item="machine", quantity=Decimal(1),
                # In time, or two days late; never in the hours in which one host has closed and the other has not.
                effective_at=moment - (timedelta(days=2) if number % 16 == 0 else timedelta(minutes=11)),
                amount=Decimal(number) + Decimal("0.0123456"),
            )  # fmt: skip
            with Session(engine) as session, session.begin():
                post_usage(session, [record], source="test", actor="test", now=moment + next(hosts))
        company.close_at(moment + next(hosts))
        company.finalize_at(moment + next(hosts))
    return company


def documents(engine: Engine) -> list[dict[str, Any]]:
    """Every invoice with its lines: all that a customer is sent."""
    with Session(engine) as session:
        return [
            {
                **{name: getattr(invoice, name) for name in SENT},
                "lines": [
                    (line.position, line.description, line.item, line.quantity, line.amount, line.usage_period_start)
                    for line in lines_of(session, customer_id=invoice.customer_id, invoice_id=invoice.id)
                ],
            }
            for invoice in session.scalars(select(Invoice).order_by(Invoice.customer_id, Invoice.period_start))
        ]


SENT = ("customer_id", "number", "kind", "period_start", "period_end", "generation", "state", "currency", "total")


def test_hosts_whose_clocks_are_twenty_minutes_apart_make_the_same_invoices(databases: Databases) -> None:
    told = []
    for clocks in (RIGHT, APART):
        name = databases.clone()
        engine = create_engine(databases.url(name))
        company = live(engine, clocks)
        company.check()
        told.append(documents(engine))
        with engine.connect() as connection:
            parked = connection.scalar(text("SELECT count(*) FROM parked_work"))
        engine.dispose()
        databases.drop(name)
        assert parked == 0
    right, apart = told
    assert [invoice["state"] for invoice in right].count("final") >= len(WHO), "somebody was billed"
    assert apart == right
