"""Automatic refill in the panel: a customer switches it on, changes it and switches it off, and nobody else does."""

import re
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from invoicing.credit.refills import refill_one
from invoicing.movements.requests import movement_done, request_movement
from invoicing.settings import Settings
from invoicing.tables import Invoice, RefillRule
from tests.panel.conftest import Site, at

PATH = "/billing/credit/refill"
WRITE_OFF = UUID(int=9)


def send(site: Site, **fields: str) -> TestResponse:
    """The refill form as a browser sends it."""
    page = site.get("/billing/credit")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page[page.index('id="refill"') :])
    assert token
    return site.client.post(PATH, data={"csrf_token": token.group(1), **fields})


def rules(site: Site) -> list[tuple[object, ...]]:
    with Session(site.engine) as session:
        rows = session.scalars(select(RefillRule).order_by(RefillRule.id)).all()
    return [(str(row.threshold), str(row.amount), row.actor) for row in rows]


def test_a_customer_switches_refills_on_changes_and_ends_them(site: Site) -> None:
    customer_id = site.customer("acme")
    site.open("acme")
    assert "Automatic refill Off" in site.text("/billing/credit")
    answer = send(site, below="10", refill_amount="1,250.50")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/billing/credit#refill")
    assert "On $1,250.50 are bought whenever less than $10.00" in site.text("/billing/credit")
    with Session(site.engine) as session, session.begin():
        assert refill_one(session, customer_id=customer_id, provider=site.provider, now=site.now) == "refilled"
    send(site, below="0", refill_amount="50")
    send(site, below="0", refill_amount="50")
    assert "$50.00 are bought whenever less than $0.00" in site.text("/billing/credit")
    assert send(site, off="1", below="", refill_amount="").status_code == 303
    assert "Automatic refill Off" in site.text("/billing/credit")
    assert rules(site) == [
        ("10", "1250.50", "customer"),
        ("0", "50", "customer"),
        ("0", "50", "customer"),
        ("None", "None", "customer"),
    ]


@pytest.mark.parametrize(
    ("below", "amount", "said"),
    [
        ("10", "12,50", "as a plain number"),
        ("10", "1e3", "as a plain number"),
        ("-1", "50", "as a plain number"),
        ("", "50", "as a plain number"),
        ("10", "0.001", "at most 2 decimals in USD"),
        ("10", "0.10", "Refill at least 0.5"),
    ],
)
def test_what_is_no_amount_is_refused_with_what_was_typed_still_there(
    site: Site, below: str, amount: str, said: str
) -> None:
    site.customer("acme")
    site.open("acme")
    answer = send(site, below=below, refill_amount=amount)
    assert answer.status_code == 422
    assert said in answer.text
    assert f'value="{amount}"' in answer.text
    assert rules(site) == []


def test_a_purchase_that_is_refused_keeps_what_was_typed_and_buys_nothing(site: Site) -> None:
    site.customer("acme")
    site.open("acme")
    page = site.get("/billing/credit")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page[page.index("Top up") :])
    assert token
    fields = {"csrf_token": token.group(1), "top_up_id": str(UUID(int=7))}
    for typed in ("12,50", "NaN", "-5", "٥"):
        answer = site.client.post("/billing/credit", data={**fields, "amount": typed})
        assert (answer.status_code, f'value="{typed}"' in answer.text) == (422, True)
    assert site.client.post("/billing/credit", data={**fields, "amount": "5"}).status_code == 303
    other = site.client.post("/billing/credit", data={**fields, "amount": "6"})
    assert other.status_code == 422
    assert "bought another amount before" in other.text
    with Session(site.engine) as session:
        assert [invoice.total for invoice in session.scalars(select(Invoice))] == [5]


def test_a_refill_that_was_not_paid_is_told_and_saving_resumes_it(site: Site) -> None:
    customer_id = site.customer("acme")
    site.open("acme")
    send(site, below="10", refill_amount="50")
    with Session(site.engine) as session, session.begin():
        refill_one(session, customer_id=customer_id, provider=site.provider, now=site.now)
        invoice_id = session.scalars(select(Invoice.id)).one()
        request_movement(
            session, customer_id=customer_id, invoice_id=invoice_id, movement_id=WRITE_OFF, kind="write_off",
            amount=None, options={}, reason="Nobody paid", actor="ada", provider=site.provider, settings=Settings(),
            now=site.now,
        )  # fmt: skip
        movement_done(
            session, customer_id=customer_id, movement_id=WRITE_OFF, external_id=None, at=site.now, actor="provider",
            now=site.now,
        )  # fmt: skip
    assert "Automatic refill Paused The last refill was not paid" in site.text("/billing/credit")
    site.now += timedelta(minutes=1)
    send(site, below="10", refill_amount="50")
    assert "Automatic refill On $50.00" in site.text("/billing/credit")


def test_without_its_token_or_a_session_nothing_is_set(site: Site) -> None:
    site.customer("acme")
    site.customer("other")
    site.open("acme")
    data = {"below": "10", "refill_amount": "50"}
    assert site.client.post(PATH, data=data).status_code == 400
    stranger = site.app.test_client()
    assert stranger.post(PATH, data=data).status_code in (400, 401)
    assert rules(site) == []
    send(site, **data)
    site.open("other")
    assert "Automatic refill Off" in site.text("/billing/credit")


def test_a_session_that_is_over_sets_nothing(site: Site) -> None:
    site.customer("acme")
    site.open("acme")
    page = site.get("/billing/credit")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token
    site.now = at("2026-11-16T02:00")
    answer = site.client.post(PATH, data={"csrf_token": token.group(1), "below": "10", "refill_amount": "50"})
    assert answer.status_code == 401
    assert rules(site) == []
