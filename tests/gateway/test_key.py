"""The key at Stripe: what the code calls, what the page says it needs, and what `billing stripe check` finds."""

import ast
import json
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stripe_gateway.client import Client, ClientSettings
from stripe_gateway.errors import StripeClosed
from stripe_gateway.handlers import HANDLERS
from stripe_gateway.key_check import PERMISSIONS, PROBES, check, endpoint_problems, key_kind, needed
from stripe_gateway.webhooks import PINNED_VERSION
from tests.gateway.conftest import UNPACED, Town, client_for

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "stripe-key.md"
SENDERS = {"_send": "{}", "_pages": "{}", "page": "{}.list", "read": "{}.retrieve"}
"""The client's methods whose first argument names what is called, or the kind that is."""


def called() -> set[str]:
    """Every operation that the gateway's code names in a call, found in its syntax."""
    found = set(PROBES.values())
    files = [file for file in (REPOSITORY / "stripe_gateway").rglob("*.py") if "sandbox" not in file.parts]
    for file in sorted(files):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDERS:
                name = node.args[0] if node.args else None
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    found.add(SENDERS[node.func.attr].format(name.value))
    return found


def rows_on_page() -> dict[str, tuple[str, set[str]]]:
    """Resource -> permission and calls, from the page's table."""
    rows = [line.strip("|").split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    return {
        resource.strip(): (permission.strip(), set(re.findall(r"`([a-z_.]+)`", calls)))
        for resource, permission, _, calls in rows
        if resource.strip() != "resource"
    }


def test_every_call_has_its_permission_and_every_permission_its_call() -> None:
    assert called() == set(PERMISSIONS)


def test_reading_needs_read_and_everything_else_write() -> None:
    reading = {operation for operation in PERMISSIONS if operation.rpartition(".")[2] in ("list", "retrieve")}
    assert {operation for operation, (_, permission) in PERMISSIONS.items() if permission == "read"} == reading


def test_the_page_lists_exactly_what_the_code_needs() -> None:
    calls: dict[str, set[str]] = defaultdict(set)
    for operation, (resource, _) in PERMISSIONS.items():
        calls[resource].add(operation)
    assert rows_on_page() == {resource: (permission, calls[resource]) for resource, permission in needed().items()}


def test_the_sandboxs_key_may_read_everything(hooked: Town) -> None:
    report = check(hooked.gateway.client)
    assert (report.mode, report.missing, report.problems) == ("test", [], [])
    assert set(report.allowed) == set(PROBES) - set(report.untold)
    assert {"Customers", "Invoices", "Events", "Webhook endpoints"} <= set(report.allowed)


def test_a_check_changes_nothing_at_stripe(hooked: Town) -> None:
    before = hooked.sandbox.get("state")["objects"]
    hooked.sandbox.clear_requests()
    check(hooked.gateway.client)
    assert {line["method"] for line in hooked.sandbox.requests()} == {"GET"}
    assert hooked.sandbox.get("state")["objects"] == before


def test_a_key_that_stripe_does_not_know_ends_the_check(town: Town) -> None:
    with pytest.raises(StripeClosed):
        check(client_for(town, api_key=f"{town.sandbox.api_key}_other"))


@pytest.fixture
def guarded() -> Iterator[str]:
    """A Stripe that lets the key read everything but disputes; its account is acct_here."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = 200, {"object": "list", "data": [], "has_more": False, "url": self.path}
            if self.path.startswith("/v1/disputes"):
                text = "The key lacks permissions. Having the 'rak_dispute_read' permission would allow this request."
                status, body = 403, {"error": {"type": "invalid_request_error", "message": text}}
            elif self.path.startswith("/v1/account"):
                body = {"id": "acct_here", "object": "account"}
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of http.server
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_missing_permission_and_a_wrong_account_are_named(guarded: str) -> None:
    settings = ClientSettings(api_key="rk_live_x", api_base=guarded, rates=UNPACED, account_id="acct_other")
    report = check(Client(settings))
    assert (report.mode, report.account) == ("live", "acct_here")
    assert report.missing == ["Disputes (rak_dispute_read)"]
    assert set(report.allowed) == set(PROBES) - {"Disputes"}
    assert any("acct_other" in problem for problem in report.problems)
    assert any("No webhook endpoint is enabled" in problem for problem in report.problems)


def test_an_endpoint_with_another_version_or_too_few_events_is_named() -> None:
    good = {"url": "https://a", "status": "enabled", "api_version": PINNED_VERSION, "enabled_events": ["*"]}
    assert endpoint_problems([good]) == []
    assert endpoint_problems([{**good, "enabled_events": sorted(HANDLERS)}]) == []
    [problem] = endpoint_problems([{**good, "enabled_events": sorted(set(HANDLERS) - {"invoice_payment.paid"})}])
    assert problem == "https://a does not get invoice_payment.paid."
    [problem] = endpoint_problems([{**good, "api_version": "2020-08-27"}])
    assert "2020-08-27" in problem
    assert "No webhook endpoint" in endpoint_problems([{**good, "status": "disabled"}])[0]


def test_the_words_for_a_key_say_nothing_of_it() -> None:
    assert key_kind("rk_live_abc") == "restricted, live mode"
    assert key_kind("sk_test_abc") == "secret (a restricted one would do), test mode"
