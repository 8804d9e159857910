"""The process itself: what it remembers, where it listens, how it ends, and its pages."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import REPOSITORY, SandboxProcess
from tests.sandbox.conftest import connect
from tests.sandbox.receiver import Receiver

Make = Callable[..., Any]


def test_a_killed_sandbox_remembers_everything_it_answered(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make
) -> None:
    someone = customer()
    kept = client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"})
    invoice = final(someone.id, 900, number="KEPT-1")
    sandbox.advance(3600)
    sandbox.kill9()
    sandbox.restart()
    assert client.v1.customers.create({"name": "A"}, {"idempotency_key": "k1"}).id == kept.id
    assert client.v1.invoices.retrieve(invoice.id).number == "KEPT-1"
    assert sandbox.get("clock")["now"] == pytest.approx(time.time() + 3600, abs=60)
    assert sandbox.counts()["invoices.create"] == 1


def test_after_a_kill_due_charges_and_owed_deliveries_go_on(process: SandboxProcess, receiver: Receiver) -> None:
    process.start(webhook_url=receiver.url, collection_delay_s=2.0)
    receiver.status = 503
    client = connect(process)
    made = client.v1.customers.create(
        {"payment_method": "pm_card_visa", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    )
    invoice = client.v1.invoices.create({"customer": made.id, "currency": "usd"})
    client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 900}]})
    client.v1.invoices.finalize_invoice(invoice.id, {"auto_advance": True})
    process.kill9()
    receiver.status = 200
    process.restart()
    receiver.wait_for("charge.updated", 20)
    process.wait_for_webhooks()
    assert {"customer.created", "invoice.created", "invoice.finalized", "invoice.paid"} <= set(receiver.types())


def test_killed_in_the_middle_of_writes_it_has_all_or_nothing_of_each(process: SandboxProcess) -> None:
    """Every write that was answered is there; one that was not is there whole, or not at all."""
    process.start()
    client = connect(process)
    made = client.v1.customers.create()
    answered = []
    for number in range(40):
        if number % 10 == 9:
            process.fault("invoices.create", "reset_after")
        try:
            answered.append(client.v1.invoices.create({"customer": made.id, "currency": "usd"}).id)
        except stripe.APIConnectionError:
            process.kill9()
            process.restart()
    listed = [invoice.id for invoice in client.v1.invoices.list({"limit": 100}).data]
    assert set(answered) <= set(listed)
    assert len(listed) == 40
    assert process.state()["events"]["by_type"]["invoice.created"] == 40


def test_it_listens_on_the_loopback_interface_only(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stripe_gateway.sandbox", "--port=0", "--api-key=sk_test_a", "--host=0.0.0.0"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=30, check=False)
    assert refused.returncode == 2
    assert "127.0.0.1 or ::1" in refused.stderr


def test_a_taken_port_is_said_so(sandbox: SandboxProcess) -> None:
    port = sandbox.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "stripe_gateway.sandbox", f"--port={port}", "--api-key=sk_test_a"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=30, check=False)
    assert refused.returncode == 2
    assert "cannot start" in refused.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finds_a_port_prints_one_line_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "stripe_gateway.sandbox", "--port=0", "--api-key=sk_test_a"]
    with subprocess.Popen(
        [*command, f"--port-file={tmp_path / 'port'}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(r"Stripe sandbox on (http://127\.0\.0\.1:(\d+))\n", line)
        assert address is not None, line
        assert (tmp_path / "port").read_text() == address[2]
        assert requests.get(f"{address[1]}/_sim/health", timeout=5).json()["ok"] is True
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_a_malformed_request_does_not_end_the_connection_of_others(sandbox: SandboxProcess) -> None:
    port = int(sandbox.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.sendall(b"POST /v1/customers HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n")
        assert b"413" in line.recv(4096)
    assert sandbox.get("health")["ok"] is True


def test_the_customer_pays_on_the_hosted_page(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make, final: Make, receiver: Receiver
) -> None:
    invoice = final(customer(None).id, 1234, collection_method="send_invoice", days_until_due=30)
    page = requests.get(invoice.hosted_invoice_url, timeout=5)
    assert "12.34 USD" in page.text
    assert "Pay with a declining card" in page.text
    failed = requests.post(f"{invoice.hosted_invoice_url}/fail", timeout=5)
    assert "the last payment failed" in failed.text
    paid = requests.post(f"{invoice.hosted_invoice_url}/pay", timeout=5)
    assert "Paid on" in paid.text
    sandbox.wait_for_webhooks()
    assert client.v1.invoices.retrieve(invoice.id).status == "paid"
    kinds = receiver.types()
    assert (kinds.count("invoice.payment_failed"), kinds.count("invoice_payment.paid")) == (1, 1)


def test_the_control_plane_presses_the_same_buttons(sandbox: SandboxProcess, customer: Make, final: Make) -> None:
    invoice = final(customer(None).id, 1234, collection_method="send_invoice", days_until_due=30)
    assert sandbox.post(f"invoices/{invoice.id}/fail")["status"] == "open"
    assert sandbox.post(f"invoices/{invoice.id}/pay")["status"] == "paid"


def test_the_portal_changes_the_default_card(
    sandbox: SandboxProcess, client: stripe.StripeClient, customer: Make
) -> None:
    someone = customer(None)
    session = client.v1.billing_portal.sessions.create(
        {"customer": someone.id, "return_url": "http://127.0.0.1:1/back"}
    )
    page = requests.get(session.url, timeout=5)
    assert 'href="http://127.0.0.1:1/back"' in page.text
    requests.post(f"{session.url}/card", data={"card": "declining"}, timeout=5)
    after = requests.post(f"{session.url}/card", data={"card": "working"}, timeout=5)
    assert "Visa ending in 4242" in after.text
    assert "Visa ending in 0341" in after.text
    whole: Any = client.v1.customers.retrieve(someone.id, {"expand": ["invoice_settings.default_payment_method"]})
    assert whole.invoice_settings.default_payment_method.card.last4 == "4242"
    sandbox.advance(2 * 3600)
    assert requests.get(session.url, timeout=5).status_code == 404


def test_the_state_pages_show_what_is_there(
    sandbox: SandboxProcess, customer: Make, final: Make, client: stripe.StripeClient
) -> None:
    name = "<b>Bold & Co</b>"
    invoice = final(customer(name=name).id, 1234, number="SHOWN-1")
    sandbox.wait_for_webhooks()
    event = client.v1.events.list().data[0].id
    for path, text in [
        ("/", "SHOWN-1"),
        ("/customers", "&lt;b&gt;Bold &amp; Co&lt;/b&gt;"),
        ("/invoices", "12.34 USD"),
        ("/payments", "succeeded"),
        ("/events", "invoice_payment.paid"),
        ("/requests", "invoices.add_lines"),
        ("/faults", "lock_timeout"),
        (f"/objects/{invoice.id}", "invoice.finalized"),
        (f"/events/{event}", "delivered"),
    ]:
        page = requests.get(sandbox.url + path, timeout=5)
        assert page.status_code == 200, path
        assert text in page.text, path
        assert name not in page.text, path
    assert requests.get(f"{sandbox.url}/nowhere", timeout=5).status_code == 404


def test_the_pages_forms_work_without_script(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    before = sandbox.get("clock")["now"]
    requests.post(f"{sandbox.url}/clock", data={"hours": "24"}, timeout=5)
    assert sandbox.get("clock")["now"] == pytest.approx(before + 86400, abs=30)
    form = {"endpoint": "customers.create", "kind": "429", "reason": "global-rate", "count": "1", "delay_s": "0"}
    assert "global-rate" in requests.post(f"{sandbox.url}/faults", data=form, timeout=5).text
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.create()
    crossing = requests.post(f"{sandbox.url}/faults/clear", headers={"Sec-Fetch-Site": "cross-site"}, timeout=5)
    assert crossing.status_code == 403


def test_the_clock_stands_still_when_told(sandbox: SandboxProcess, client: stripe.StripeClient) -> None:
    sandbox.post("clock", set="2026-03-01T00:00:00+00:00", freeze=True)
    moment = client.v1.customers.create().created
    time.sleep(1.1)
    assert client.v1.customers.create().created == moment == 1772323200
    answer = requests.post(f"{sandbox.url}/_sim/clock", json={"set": "2026-03-01T00:00:00"}, timeout=5)
    assert answer.status_code == 400
    assert "zone" in answer.json()["error"]["message"]


def test_the_hosted_page_follows_the_sandbox_to_another_port(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path).start()
    try:
        client = connect(process)
        invoice = client.v1.invoices.create({"customer": client.v1.customers.create().id, "currency": "usd"})
        client.v1.invoices.add_lines(invoice.id, {"lines": [{"amount": 900}]})
        before = client.v1.invoices.finalize_invoice(invoice.id).hosted_invoice_url
        process.stop()
        process = SandboxProcess(tmp_path).start()
        after = connect(process).v1.invoices.retrieve(invoice.id).hosted_invoice_url
        assert before is not None
        assert after is not None
        assert before != after
        assert requests.get(after, timeout=5).status_code == 200
    finally:
        process.kill9()
