"""The API over a real socket: bodies in chunks, and many programs at once that send the same."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.checks import run_checks
from tests.api.conftest import Api
from tests.api.test_api import CUSTOMER, event
from tests.serving import served


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    """The loopback port of a threaded server."""
    with served(app) as port:
        yield port


def send(port: int, api: Api, path: str, body: object, *, chunked: bool = False) -> tuple[int, dict[str, object]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    pieces = [data[start : start + 65_536] for start in range(0, len(data), 65_536)]
    headers = {**api.headers, "Content-Type": "application/json; charset=utf-8"}
    connection.request("POST", f"/api/v1{path}", iter(pieces) if chunked else data, headers, encode_chunked=chunked)
    answer = connection.getresponse()
    read = json.loads(answer.read())
    connection.close()
    return answer.status, read


def test_programs_that_send_the_same_at_once_make_one_customer_and_one_entry_each(
    api: Api, port: int, session: Session
) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: send(port, api, "/customers", CUSTOMER), range(20)))
    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    batch = {"events": [event(id=str(number)) for number in range(20)]}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: send(port, api, "/usage", batch), range(30)))
    assert {status for status, _ in answers} == {200}
    assert sum(int(str(body["posted"])) for _, body in answers) == 20
    assert session.scalar(text("SELECT count(*) FROM ledger_entries")) == 20
    assert all(result.holds for result in run_checks(session))


def test_a_body_in_chunks_is_read_and_has_the_same_limit(api: Api, port: int) -> None:
    assert send(port, api, "/customers", CUSTOMER, chunked=True)[0] == 201
    assert send(port, api, "/usage", {"events": [event()]}, chunked=True)[0] == 200
    status, body = send(port, api, "/usage", b" " * (2 * 1024 * 1024 + 1), chunked=True)
    assert (status, body["code"]) == (413, "body_too_large")
