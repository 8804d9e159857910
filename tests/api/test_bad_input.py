"""Bad usage events over HTTP: one answer names every bad row with every reason, and nothing is posted."""

import json
from collections import defaultdict

from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.api.conftest import Api
from tests.api.test_api import problem
from tests.usage.bad_events import BAD_EVENTS, NOT_IN_CSV, event

CASES = [*BAD_EVENTS, *NOT_IN_CSV]


def test_every_bad_event_of_a_batch_is_named_with_every_reason(api: Api, session: Session) -> None:
    api.make_customer()
    batch = [event(number, changes) for number, (_, changes, _) in enumerate(CASES)]
    body = problem(api.post("/usage", {"events": [*batch, event(-1, {})]}), 422, "usage_refused")
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for error in body["errors"]:
        found[error["row"]].append((error["field"], error["code"]))
        assert len(error["message"]) < 400
    for number, (name, _, problems) in enumerate(CASES):
        assert sorted(found.pop(number, [])) == sorted(problems), name
    assert found == {}, "a good row was refused"
    assert session.scalar(text("SELECT count(*) FROM ledger_entries")) == 0
    assert session.scalar(text("SELECT count(*) FROM ledger_periods")) == 0


def test_each_bad_event_alone_is_refused_the_same_way(api: Api) -> None:
    api.make_customer()
    for name, changes, problems in CASES:
        body = problem(api.post("/usage", {"events": [event(0, changes)]}), 422, "usage_refused")
        found = [(error["row"], error["field"], error["code"]) for error in body["errors"]]
        assert sorted(found) == sorted((0, field, code) for field, code in problems), name


def test_a_bare_word_for_no_number_is_no_json(api: Api, session: Session) -> None:
    api.make_customer()
    for word in ("NaN", "Infinity", "-Infinity", "1e9999999999999999999", "0x10", "1_000", "+1", ".5"):
        raw = json.dumps({"events": [event(0, {"quantity": "HERE"})]}).replace('"HERE"', word)
        problem(api.post("/usage", raw=raw), 400, "malformed_json")
    assert session.scalar(text("SELECT count(*) FROM ledger_entries")) == 0
