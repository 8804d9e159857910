"""What a program begins with a final invoice: once, named when refused, and never approved by itself."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from invoicing.cycles import close_due
from invoicing.finalization import finalize
from invoicing.movements.requests import approve_movement
from invoicing.movements.tables import CreditNote
from invoicing.payments import record_payment
from invoicing.settings import Settings
from stripe_gateway.tables import StripeOperation
from tests.api.conftest import Api
from tests.api.test_api import problem
from tests.api.test_openapi import fits


@dataclass
class Final:
    """A final invoice of 150 USD, of which 30 were paid."""

    api: Api
    engine: Engine
    customer_id: str
    invoice_id: str

    @property
    def path(self) -> str:
        return f"/customers/{self.customer_id}/invoices/{self.invoice_id}"

    def begin(self, kind: str, *, id: UUID | str | None = None, **fields: Any) -> TestResponse:  # noqa: A002 - the API's word
        body = {"id": str(id or uuid4()), "kind": kind, "reason": "Outage", **fields}
        return self.api.post(f"{self.path}/movements", body)

    def shown(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.get(self.path).get_json()
        return answer

    def notes(self) -> int:
        with Session(self.engine) as session:
            return session.scalar(select(func.count()).select_from(CreditNote)) or 0


@pytest.fixture
def final(app: Flask, api: Api, engine: Engine) -> Final:
    customer_id = api.make_customer()
    now = datetime.now(UTC)
    last_month = now.replace(day=1) - timedelta(days=3)
    api.post(
        "/usage",
        {"events": [{"id": "1", "customer": "acme", "item": "volume", "quantity": 1000, "at": last_month.isoformat()}]},
    )
    close_due(engine, as_of=now, settings=Settings(grace=timedelta(0)))
    (invoice,) = api.get(f"/customers/{customer_id}/invoices").get_json()["invoices"]
    with Session(engine) as session, session.begin():
        finalize(
            session,
            customer_id=UUID(customer_id),
            invoice_id=UUID(invoice["id"]),
            provider=app.extensions["billing"].providers,
            actor="test",
            now=now,
        )
        record_payment(
            session,
            customer_id=UUID(customer_id),
            invoice_id=UUID(invoice["id"]),
            provider="stripe",
            external_id="inpay_1",
            amount=Decimal(30),
            received_at=now,
            actor="test",
            now=now,
        )
    return Final(api, engine, customer_id, invoice["id"])


def test_a_credit_note_is_begun_once_and_shown_with_its_parts(final: Final) -> None:
    before = final.shown()
    assert (before["amount_due"], before["amount_paid"], before["amount_open"]) == ("150", "30", "120")
    movement_id = uuid4()
    fields: dict[str, Any] = {"id": movement_id, "amount": "5.50", "options": {"paid_part": "refund"}}
    made = final.begin("credit_note", **fields)
    assert made.status_code == 201, made.text
    fits("Movement", made.get_json())
    assert (made.get_json()["state"], made.get_json()["amount"]) == ("working", "5.5")
    assert made.get_json()["actor"] == "api:platform"
    assert [order["state"] for order in made.get_json()["orders"]] == ["due"]
    assert made.headers["Location"].endswith(f"{final.path}/movements")
    again = final.begin("credit_note", **fields)
    assert (again.status_code, again.get_json()) == (200, made.get_json())
    assert final.notes() == 1
    after = final.shown()
    fits("InvoiceWithLines", after)
    (note,) = after["credit_notes"]
    assert (note["number"], note["unpaid_part"], note["cash_part"]) == (f"{after['number']}-C1", "5.5", "0")
    assert (after["amount_credited"], after["amount_open"], after["provider"]) == ("5.5", "114.5", "stripe")
    listed = final.api.get(f"{final.path}/movements").get_json()
    fits("Movements", listed)
    assert [movement["id"] for movement in listed["movements"]] == [str(movement_id)]


def test_what_cash_paid_goes_back_as_a_refund(final: Final) -> None:
    with_limit = final.begin("credit_note", amount=100, options={"paid_part": "refund"})
    assert with_limit.status_code == 201
    assert final.begin("credit_note", amount="30.25", options={"paid_part": "refund"}).status_code == 201
    after = final.shown()
    fits("InvoiceWithLines", after)
    (refund,) = after["refunds"]
    assert (refund["amount"], refund["state"], refund["payment"]) == ("10.25", "requested", "inpay_1")
    assert (after["state"], after["amount_open"]) == ("paid", "0")
    with Session(final.engine) as session:
        kinds = session.scalars(select(StripeOperation.kind).order_by(StripeOperation.kind)).all()
    assert kinds == ["credit_note", "credit_note", "refund"]


def test_the_id_with_other_content_is_a_conflict(final: Final) -> None:
    movement_id = uuid4()
    assert final.begin("credit_note", id=movement_id, amount=5).status_code == 201
    problem(final.begin("credit_note", id=movement_id, amount=6), 409, "movement_conflict")
    problem(final.begin("write_off", id=movement_id), 409, "movement_conflict")
    assert final.notes() == 1


def test_above_the_limit_nothing_happens_before_a_person_approves(final: Final, app: Flask) -> None:
    made = final.begin("credit_note", amount="100.01").get_json()
    assert (made["state"], made["needs_approval"], made["orders"]) == ("awaiting_approval", True, [])
    assert final.notes() == 0
    approval = f"{final.path}/movements/{made['id']}/approval"
    problem(final.api.post(approval, {}), 404, "not_found")
    with Session(final.engine) as session, session.begin():
        approve_movement(
            session,
            customer_id=UUID(final.customer_id),
            movement_id=UUID(made["id"]),
            actor="approver@demo.test",
            provider=app.extensions["billing"].providers,
            now=datetime.now(UTC),
        )
    (movement,) = final.api.get(f"{final.path}/movements").get_json()["movements"]
    fits("Movement", movement)
    assert (movement["state"], movement["approved_by"]) == ("working", "approver@demo.test")


@pytest.mark.parametrize(
    ("kind", "fields", "status", "code"),
    [
        ("credit_note", {"amount": "150.01"}, 422, "amount_too_large"),
        ("credit_note", {}, 422, "bad_amount"),
        ("credit_note", {"amount": "0.001"}, 422, "bad_amount"),
        ("credit_note", {"amount": 121}, 422, "bad_options"),
        ("credit_note", {"amount": 1, "options": {"paid_part": "burn"}}, 422, "bad_options"),
        ("refund_unapplied", {}, 409, "movement_not_possible"),
        ("void", {"options": {"then": "rebill"}}, 409, "movement_not_possible"),
        ("void", {}, 422, "bad_options"),
        ("outside_payment", {"options": {"received_at": "yesterday", "reference": "x"}}, 422, "bad_options"),
        ("accept_dispute", {"options": {"dispute": "dp_none"}}, 422, "bad_options"),
        ("burn", {}, 422, "bad_options"),
        ("write_off", {"reason": "  "}, 422, "reason_missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(
    final: Final, kind: str, fields: dict[str, Any], status: int, code: str
) -> None:
    problem(final.begin(kind, **fields), status, code)
    assert final.api.get(f"{final.path}/movements").get_json() == {"movements": []}


def test_wrong_fields_are_all_named(final: Final) -> None:
    body = {"id": "mine", "kind": 7, "amount": "much", "options": [], "colour": "red"}
    found = problem(final.api.post(f"{final.path}/movements", body), 422, "fields_refused")
    assert {(error["field"], error["code"]) for error in found["errors"]} == {
        ("id", "not_a_uuid"),
        ("kind", "not_text"),
        ("amount", "not_a_number"),
        ("options", "not_an_object"),
        ("reason", "missing"),
        ("colour", "unknown_field"),
    }


def test_another_customers_invoice_is_not_found(final: Final) -> None:
    other = final.api.make_customer("other")
    path = f"/customers/{other}/invoices/{final.invoice_id}/movements"
    problem(final.api.get(path), 404, "unknown_invoice")
    problem(final.api.post(path, {"id": str(uuid4()), "kind": "write_off", "reason": "x"}), 404, "unknown_invoice")


def test_while_an_ending_is_under_way_nothing_else_begins(final: Final) -> None:
    assert final.begin("write_off").get_json()["state"] == "awaiting_approval"
    problem(final.begin("credit_note", amount=1), 409, "movement_under_way")
