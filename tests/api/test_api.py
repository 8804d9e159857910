"""The HTTP API over the real database: what it does, and how it refuses."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from werkzeug.test import TestResponse

from app.accounts.tokens import revoke_token
from app.api.problems import CONTENT_TYPE
from ledger.checks import run_checks
from ledger.tables import Books
from tests.api.conftest import Api
from tests.usage.conftest import NOW

YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).isoformat()
CUSTOMER = {"external_id": "acme", "name": "Acme", "currency": "USD"}


def event(**changed: Any) -> dict[str, Any]:
    return {"id": "1", "customer": "acme", "item": "volume", "quantity": "10", "at": YESTERDAY} | changed


def problem(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The problem document, after checking what every one of them has."""
    assert (answer.status_code, answer.content_type) == (status, CONTENT_TYPE), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    body: dict[str, Any] = answer.get_json(force=True)
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:fly-billing:problem:{code}")
    assert body["title"]
    assert body["detail"]
    return body


def named(body: dict[str, Any]) -> list[tuple[Any, str, str]]:
    return [(error.get("row"), error["field"], error["code"]) for error in body["errors"]]


def test_a_customer_is_created_once(api: Api) -> None:
    details = CUSTOMER | {"time_zone": "Europe/Berlin", "anchor_day": 31, "email": "billing@acme.test"}
    made = api.post("/customers", details)
    assert made.status_code == 201
    again = api.post("/customers", details)
    assert (again.status_code, again.get_json()) == (200, made.get_json())
    problem(api.post("/customers", details | {"currency": "EUR"}), 409, "customer_conflict")
    customer_id = made.get_json()["id"]
    assert made.headers["Location"].endswith(f"/api/v1/customers/{customer_id}")
    assert api.get(f"/customers/{customer_id}").get_json() == made.get_json()
    assert api.get("/customers", external_id="acme").get_json() == {"customers": [made.get_json()]}
    assert api.get("/customers", external_id="other").get_json() == {"customers": []}


def test_a_customer_with_wrong_details_is_refused_by_field(api: Api) -> None:
    wrong = CUSTOMER | {"name": "", "currency": "XXX", "time_zone": "Mars/Olympus", "anchor_day": 32}
    found = named(problem(api.post("/customers", wrong), 422, "customer_refused"))
    assert {code for _, _, code in found} == {"bad_name", "unknown_currency", "unknown_time_zone", "bad_anchor_day"}
    odd = {"external_id": 7, "colour": "red", "currency": "USD", "anchor_day": True}
    assert sorted(named(problem(api.post("/customers", odd), 422, "fields_refused")), key=str) == [
        (None, "anchor_day", "not_a_whole_number"),
        (None, "colour", "unknown_field"),
        (None, "external_id", "not_text"),
        (None, "name", "missing"),
    ]
    assert named(problem(api.post("/customers", [1]), 422, "fields_refused")) == [(None, "body", "not_an_object")]


def test_a_batch_is_posted_once_and_shown_in_the_balance(api: Api) -> None:
    customer_id = api.make_customer()
    batch = {"events": [event(), event(id="2", quantity=0.1, labels={"app": "shop"}), event(id="3", amount="-0.25")]}
    assert api.post("/usage", batch).get_json() == {"posted": 3, "replayed": 0}
    answer = api.post("/usage", batch)
    assert (answer.get_json(), answer.headers["Cache-Control"]) == ({"posted": 0, "replayed": 3}, "no-store")
    balance = api.get(f"/customers/{customer_id}/balance").get_json()
    assert balance["balances"] == {"assets:unbilled": "1.265", "income:usage": "1.265"}
    assert balance["currency"] == "USD"
    assert balance["as_of"].endswith("Z")


def test_a_balance_of_the_past_is_what_it_was(api: Api, session: Session) -> None:
    customer_id = api.make_customer()
    api.post("/usage", {"events": [event()]})
    path = f"/customers/{customer_id}/balances"
    then = api.get(path).get_json()
    known_at = session.scalars(select(Books.last_recorded_at)).one()
    assert known_at is not None
    api.post("/usage", {"events": [event(id="2", amount="0.75")]})
    assert api.get(path).get_json()["balances"] != then["balances"]
    past = api.get(path, known_at=known_at.isoformat()).get_json()
    assert past == {**then, "known_at": known_at.isoformat().replace("+00:00", "Z")}
    assert api.get(path, effective_before="2001-01-01T00:00:00Z").get_json()["balances"] == {}
    assert named(problem(api.get(path, known_at="yesterday", at="x"), 422, "fields_refused")) == [
        (None, "known_at", "not_a_time"),
        (None, "at", "unknown_field"),
    ]


def test_a_number_without_quotation_marks_keeps_every_digit(api: Api, session: Session) -> None:
    api.make_customer()
    raw = f"""{{"events": [{{"id": "1", "customer": "acme", "item": "x", "quantity": 0.100000000000000001,
               "amount": 0.123456789012345678901234567891, "at": "{YESTERDAY}"}}]}}"""
    assert api.post("/usage", raw=raw).status_code == 200
    (kept,) = session.execute(text("SELECT quantity, amount FROM ledger_entries")).all()
    assert tuple(kept) == (Decimal("0.100000000000000001"), Decimal("0.123456789012345678901234567891"))


def test_one_bad_row_refuses_the_batch_and_every_bad_row_is_named(api: Api, session: Session) -> None:
    api.make_customer()
    api.post("/usage", {"events": [event(id="old")]})
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    batch = [
        event(),
        event(id="old", quantity=11),
        event(id="2", customer="nobody"),
        event(id="3", item="gpu"),
        event(id="4", at="2026-11-01T00:00:00"),
        event(id="5", at=tomorrow),
        event(id="6", quantity="NaN", colour="red"),
        "text",
        event(id="7", quantity=True, labels=[]),
        event(id="8", amount="1e-31"),
        {key: value for key, value in event(id="9").items() if key != "item"},
        event(id="10", quantity=None),
    ]
    body = problem(api.post("/usage", {"events": batch}), 422, "usage_refused")
    assert sorted(named(body), key=str) == sorted(
        [
            (1, "id", "entry_conflict"),
            (2, "customer", "unknown_customer"),
            (3, "item", "no_price"),
            (4, "at", "no_time_zone"),
            (5, "at", "in_the_future"),
            (6, "quantity", "not_finite"),
            (6, "colour", "unknown_field"),
            (7, "event", "not_an_object"),
            (8, "quantity", "not_a_number"),
            (8, "labels", "labels_not_an_object"),
            (9, "amount", "too_many_decimals"),
            (10, "item", "missing"),
            (11, "quantity", "missing"),
        ],
        key=str,
    )
    assert session.scalar(text("SELECT count(*) FROM ledger_entries")) == 1
    body = problem(api.post("/usage", {"events": [event(id="old", quantity=11)]}), 409, "entry_conflict")
    assert named(body) == [(0, "id", "entry_conflict")]


def test_two_sources_may_use_the_same_event_ids(api: Api) -> None:
    api.make_customer()
    for source in ("machines", "volumes"):
        answer = api.post("/usage", {"source": source, "events": [event()]})
        assert answer.get_json() == {"posted": 1, "replayed": 0}


@pytest.mark.parametrize(
    "raw",
    ['{"events": [', "", "[1e999999999999999999999]", '{"events": NaN}', '{"a": 1, "a": 2}', "[" * 90_000, b"\xff\xfe"],
)
def test_a_body_that_is_no_json_is_malformed(api: Api, raw: bytes | str) -> None:
    problem(api.post("/usage", raw=raw), 400, "malformed_json")


def test_a_batch_has_its_limits(api: Api) -> None:
    api.make_customer()
    full = [event(id=str(number)) for number in range(1000)]
    assert api.post("/usage", {"events": full}).get_json() == {"posted": 1000, "replayed": 0}
    problem(api.post("/usage", {"events": [*full, event(id="1000")]}), 413, "batch_too_large")
    problem(api.post("/usage", raw=b" " * (2 * 1024 * 1024) + b"{}"), 413, "body_too_large")
    problem(api.post("/usage", {"events": []}), 422, "fields_refused")
    problem(api.post("/usage", {"events": {}}), 422, "fields_refused")


def test_only_plain_json_is_read(api: Api) -> None:
    answer = api.client.post("/api/v1/usage", data={"events": "1"}, headers=api.headers)
    problem(answer, 415, "unsupported_media_type")
    headers = {**api.headers, "Content-Encoding": "gzip"}
    packed = api.client.post("/api/v1/usage", data=b"x", content_type="application/json", headers=headers)
    problem(packed, 415, "unsupported_media_type")


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic cGxhdGZvcm06eA==", "Bearer é"])
def test_without_a_valid_token_nothing_is_said(app: Flask, api: Api, sent: str | None) -> None:
    headers = {} if sent is None else {"Authorization": sent}
    for path in ("/customers?external_id=acme", "/customers/00000000-0000-0000-0000-000000000000"):
        answer = app.test_client().get(f"/api/v1{path}", headers=headers)
        problem(answer, 401, "wrong_token")
        assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="billing"')


def test_a_revoked_token_opens_nothing_any_more(api: Api, session: Session) -> None:
    assert api.get("/customers", external_id="acme").status_code == 200
    assert revoke_token(session, name="platform", now=NOW)
    session.commit()
    problem(api.get("/customers", external_id="acme"), 401, "wrong_token")


def test_what_is_not_there_is_a_problem_too(api: Api) -> None:
    nobody = "/customers/00000000-0000-0000-0000-000000000000"
    for path in (nobody, f"{nobody}/balance", f"{nobody}/balances", f"{nobody}/invoices"):
        problem(api.get(path), 404, "unknown_customer")
    problem(api.post(f"{nobody}/panel_sessions", {}), 404, "unknown_customer")
    customer_id = api.make_customer()
    problem(api.get(f"/customers/{customer_id}/invoices/{customer_id}"), 404, "unknown_invoice")
    problem(api.get("/customers/acme"), 404, "not_found")
    problem(api.get("/nothing"), 404, "not_found")
    answer = api.get("/usage")
    problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]
    problem(api.get("/customers"), 422, "fields_refused")


def test_a_customer_without_invoices_has_an_empty_list(api: Api) -> None:
    customer_id = api.make_customer()
    assert api.get(f"/customers/{customer_id}/invoices").get_json() == {"invoices": []}
    for limit in ("0", "1001", "x", "²"):
        problem(api.get(f"/customers/{customer_id}/invoices", limit=limit), 422, "fields_refused")


def test_a_panel_session_is_a_link_that_expires(api: Api, session: Session) -> None:
    customer_id = api.make_customer()
    answer = api.post(f"/customers/{customer_id}/panel_sessions", {"return_url": "https://platform.example.test/"})
    assert answer.status_code == 201
    assert answer.get_json()["url"].startswith("https://billing.example.test/billing/open/")
    assert datetime.fromisoformat(answer.get_json()["expires_at"]) > datetime.now(UTC)
    bare = api.client.post(f"/api/v1/customers/{customer_id}/panel_sessions", headers=api.headers)
    assert bare.status_code == 201
    bad = api.post(f"/customers/{customer_id}/panel_sessions", {"return_url": "javascript:alert(1)"})
    problem(bad, 422, "bad_return_url")
    assert session.scalar(text("SELECT count(*) FROM panel_links")) == 2


def test_a_fault_of_ours_is_not_told(app: Flask, api: Api, session: Session, database_url: str) -> None:
    """A table that is gone stands for any fault that nobody foresaw."""
    api.make_customer()
    _as_owner(database_url, "ALTER TABLE customers RENAME TO elsewhere")
    body = problem(api.get("/customers", external_id="acme"), 500, "internal_error")
    assert "elsewhere" not in str(body)
    assert "customers" not in str(body)


def _as_owner(database_url: str, statement: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_the_books_hold_after_all_of_it(api: Api, session: Session) -> None:
    api.make_customer()
    api.make_customer("europe", currency="EUR")
    events = [event(id=str(number), quantity=str(number - 5)) for number in range(10)]
    events += [event(id=f"r{number}", customer="europe", amount=str(number), item="x") for number in range(5)]
    assert api.post("/usage", {"events": events}).get_json()["posted"] == 15
    assert all(result.holds for result in run_checks(session))
