"""Whole bad days at one click, and the banner that says so."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from tests.processes.sandbox import SandboxProcess
from tests.sandbox.conftest import connect

Make = Callable[..., Any]
NAMES = (
    "down", "answers_lost", "slow", "limited", "unknown", "webhooks_lost", "webhooks_chaos", "webhooks_forged",
    "debit_fails", "debit_returned",
)  # fmt: skip
PAGES = ("/", "/invoices", "/customers", "/payments", "/events", "/requests", "/faults", "/nowhere")


def _page(sandbox: SandboxProcess, path: str) -> str:
    return requests.get(f"{sandbox.url}{path}", timeout=10).text


def test_each_day_is_offered_on_the_page_and_in_the_control_plane(sandbox: SandboxProcess) -> None:
    offered = sandbox.get("presets")["presets"]
    assert tuple(offered) == NAMES
    page = _page(sandbox, "/faults")
    for preset in offered.values():
        assert preset["title"] in page
        assert preset["text"] in page


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_day_is_shown_everywhere_until_it_is_cleared(
    sandbox: SandboxProcess, customer: Make, final: Make, name: str
) -> None:
    invoice = final(customer(None).id, 900, collection_method="send_invoice", days_until_due=30)
    hosted = invoice.hosted_invoice_url.removeprefix(sandbox.url)
    requests.post(f"{sandbox.url}/faults/preset", data={"name": name}, timeout=10)
    troubles = sandbox.get("presets")["troubles"]
    assert troubles
    for path in (*PAGES, hosted):
        assert "Faults are on." in _page(sandbox, path), path
    requests.post(f"{sandbox.url}/faults/clear_all", timeout=10)
    assert sandbox.get("presets")["troubles"] == []
    for path in (*PAGES, hosted):
        assert "Faults are on." not in _page(sandbox, path), path


def test_one_day_takes_the_place_of_another(sandbox: SandboxProcess) -> None:
    sandbox.post("presets", name="webhooks_chaos")
    assert sandbox.post("presets", name="down")["troubles"] == [
        "reset_before on *, struck never yet",
        "webhooks are held back",
    ]
    with pytest.raises(stripe.APIConnectionError):
        connect(sandbox).v1.customers.list()
    assert sandbox.get("presets")["troubles"][0] == "reset_before on *, struck once"
    with pytest.raises(RuntimeError, match=r"No such preset: 'apocalypse'\. Presets: down, "):
        sandbox.post("presets", name="apocalypse")
    assert requests.delete(f"{sandbox.url}/_sim/presets", timeout=10).json() == {"deleted": 1}
    assert connect(sandbox).v1.customers.list().data == []


def test_a_fault_that_has_struck_its_last_is_no_trouble(sandbox: SandboxProcess) -> None:
    sandbox.fault("customers.list", "429")
    with pytest.raises(stripe.RateLimitError):
        connect(sandbox).v1.customers.list()
    assert sandbox.get("presets")["troubles"] == []
    assert "over" in _page(sandbox, "/faults")


def test_the_webhook_form_bends_all_that_can_be_bent(sandbox: SandboxProcess) -> None:
    form = {"drop_percent": "25", "delay_s": "3", "duplicate": "1", "second_id": "2", "forged": "1", "stale": "4"}
    requests.post(f"{sandbox.url}/webhooks/mode", data={**form, "shuffle": "on"}, timeout=10)
    mode = sandbox.get("webhooks/mode")
    assert mode["drop_probability"] == 0.25
    assert {name: mode[name] for name in form if name != "drop_percent"} == {
        name: int(value) for name, value in form.items() if name != "drop_percent"
    }
    assert (mode["shuffle"], mode["paused"]) == (True, False)
